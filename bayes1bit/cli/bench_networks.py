"""``bayes1bit bench binarizers``: binarized denoisers trained alike."""

from pathlib import Path
from typing import Annotated

import typer

from bayes1bit.cli import options, report
from bayes1bit.cli.bench_common import Data, Runs, read_words, show_tables

EXAMPLES = """\b
Examples:
  bayes1bit bench binarizers --data fashion_mnist.npz
  bayes1bit bench binarizers --data fashion_mnist.npz --steps 2000 --out runs/long.csv
  bayes1bit bench binarizers --data fashion_mnist.npz --methods full,bitunet,bidiffsr
"""


def binarizers(
    data: Data,
    prior: Annotated[
        str,
        typer.Option(metavar="NAME", help="A prior whose data and noise levels are used."),
    ] = "fashion32",
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Networks: full, bitunet; bnn, dorefa, xnor, irnet, reactnet, bbcu, bidiffsr; "
            "of the ablation baseline, identity, resampling.  [default: all]",
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Training steps of each, of 32 pictures.")
    ] = 400,
    out: Runs = Path("runs/binarizers.csv"),
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train small denoisers, binarized in every published way, alike, and compare their losses.

    The first table has mean squared errors on held-out pictures at several noise levels, with
    parameters and operations by the rule of the literature; the second says which neighbours in
    the published table and its ablation are in that order here. An interrupted run goes on where
    it stopped.
    """
    report.check_output(out)

    from bayes1bit.bench.binarizers import LOSS, NETWORKS, check_orders, run_binarizers
    from bayes1bit.diffusion.training.data import Signals
    from bayes1bit.zoo import open_prior

    names = tuple(NETWORKS) if methods is None else read_words("--methods", methods, [*NETWORKS])
    recipe = open_prior(prior).recipe
    signals = Signals.load(data, recipe.data)
    rows = run_binarizers(
        recipe,
        signals,
        names,
        out,
        steps=steps,
        seed=seed,
        setup=f"{data.name} {prior}",
        progress=not quiet,
    )
    losses = dict(zip(names, (row[LOSS] for row in rows), strict=True))
    orders = check_orders(losses)
    tables = {"held-out denoising error per pixel, and EDM loss": rows}
    if orders:
        tables["neighbours in the published orders, by EDM loss"] = orders
    if as_json or not quiet:
        show_tables(tables, as_json)
