"""``bayes1bit bench large``: a prior of the size that the literature uses, on this machine."""

from typing import Annotated

import typer

from bayes1bit.cli import options
from bayes1bit.cli.bench_common import show_tables
from bayes1bit.errors import InputError

EXAMPLES = """\b
Examples:
  bayes1bit bench large
  bayes1bit bench large --preset imagenet256 --levels 2
"""


def large(
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="ffhq256, of 94 million parameters, or imagenet256, of 553."
        ),
    ] = "ffhq256",
    levels: Annotated[
        int, typer.Option(metavar="N", min=2, help="Noise levels of Diff-OneBit.")
    ] = 4,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Time a network for 256x256 colour pictures and a recovery with it, with peak memory.

    A checkpoint of random weights is written, loaded as a published one would be, and asked to
    denoise one picture; then Diff-OneBit runs for a few levels on 12,288 Hadamard measurements of
    196,608 values. What it recovers means nothing. The peak is that of the process until then.
    """
    import torch

    from bayes1bit.diffusion import ADM_PRESETS

    if preset not in ADM_PRESETS:
        raise InputError(f'--preset can be {", ".join(ADM_PRESETS)}; got "{preset}"')

    from bayes1bit.bench.large import MEASUREMENTS, run_large

    flags = ADM_PRESETS[preset]
    n = 3 * flags["image_size"] ** 2
    threads = torch.get_num_threads()
    title = f"{preset}, n = {n:,}, m = {MEASUREMENTS:,}, {threads} thread{'s' * (threads > 1)}"
    show_tables({title: run_large(flags, num_levels=levels, seed=seed)}, as_json)
