"""``bayes1bit bench speed``, ``reverse`` and ``prior``: the parts that methods are made of."""

from typing import Annotated

import typer

from bayes1bit.cli import options
from bayes1bit.cli.bench_common import Data, show_tables
from bayes1bit.errors import InputError


def speed(
    networks: Annotated[
        bool,
        typer.Option("--networks", help="Time convolutions and whole denoisers in their place."),
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Pictures in one call of a denoiser.  [default: 64]"
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Time operators and traced models against plain torch, as ratios within this run.

    With --networks: packed binary convolutions against torch's own, and whole denoisers, in full
    precision and in bits, against the full-precision prior, with their size and memory; and that
    prior in bfloat16 and compiled.
    """
    if batch is not None and not networks:
        raise InputError("--batch is that of the denoisers; give it with --networks")

    import torch

    torch.manual_seed(0)
    if networks:
        from bayes1bit.bench import network_speed

        show_tables(
            {
                "packed binary convolutions against torch's float32 convolution": (
                    network_speed.convolution_speed()
                ),
                f"whole denoisers against the full-precision prior {network_speed.PRIOR}": (
                    network_speed.denoiser_speed(batch or network_speed.BATCH)
                ),
                f"{network_speed.PRIOR} in bfloat16 and compiled, against float32": (
                    network_speed.option_speed(batch=batch or network_speed.BATCH)
                ),
            },
            as_json,
        )
        return

    from bayes1bit.bench import speed as bench

    tables = {
        "Hadamard operator against the dense product of the same size": bench.operator_speed(),
        "memory of a large Hadamard operator": bench.operator_memory(),
        "log-likelihood and gradient of a traced model against hand-written torch": (
            bench.target_overhead()
        ),
        "exact data step against 100 Langevin steps": bench.data_step_speed(),
    }
    show_tables(tables, as_json)


def reverse(
    prior: options.Prior = "fashion32", seed: options.Seed = 0, as_json: options.Json = False
) -> None:
    """Compare reverse solvers on a mixture prior whose components are a prior's example pictures.

    In 10 and in 20 steps from pure noise, a solver should leave the spread of the components. The
    walks of lookahead-smc, in 8 and in 14 steps, should lead to each of them equally often.
    """
    import torch

    from bayes1bit.bench.reverse import reverse_table, shares_table
    from bayes1bit.pictures import example_signals, read_signal
    from bayes1bit.zoo import open_prior

    torch.manual_seed(seed)
    folder = open_prior(prior)
    data = folder.recipe.data
    means = torch.stack(
        [
            read_signal(path, data.event_shape, (data.low, data.high))
            for path in example_signals(folder.path)
        ]
    )
    tables = {
        "what is left of the spread of each component": reverse_table(means),
        "how unevenly walks end in components of equal weight": shares_table(means),
    }
    show_tables(tables, as_json)


def prior(
    data: Data,
    name: Annotated[str, typer.Argument(metavar="[NAME]")] = "fashion32",
    count: Annotated[
        int, typer.Option(metavar="N", min=20, help="Signals of each kind to compare.")
    ] = 2000,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    precision: options.Precision = "float32",
    as_json: options.Json = False,
) -> None:
    """Judge a prior: distance of its samples to held-out signals, and its denoising error there.

    Held-out signals are those of the split "test" in PATH. Sets of equally many signals, chosen at
    random, are compared; ratios are to the distance of held-out from training signals, which
    samples cannot be expected to beat.
    """
    import torch

    from bayes1bit.bench.prior import (
        SignalSets,
        choose_signals,
        denoising_error,
        feature_space,
        sample_quality,
    )
    from bayes1bit.diffusion.training import data as training_data
    from bayes1bit.zoo import load_prior, open_prior

    torch.manual_seed(seed)
    settings = open_prior(name).recipe.data
    loaded = load_prior(name, device=device, precision=precision)
    stored = choose_signals(
        training_data.Signals.load(data, settings).train,
        training_data.read_split(data, "test", settings),
        count,
        seed,
    )
    sets = SignalSets(*(training_data.scale(signals, settings) for signals in stored))
    space = feature_space(loaded, sets.train[0])
    show_tables(
        {
            f"squared Frechet distance in {space}": sample_quality(loaded, sets, space),
            "mean squared denoising error": denoising_error(loaded, sets.held_out[0]),
        },
        as_json,
    )
