"""``bayes1bit bench``: measurements of accuracy and speed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayes1bit.cli import options, report
from bayes1bit.cli.methods import METHODS, check_method

if TYPE_CHECKING:
    from torch import Tensor

    from bayes1bit.zoo import PriorFolder

app = typer.Typer(
    name="bench",
    help="Measure accuracy and speed.",
    rich_markup_mode=None,
)

Data = Annotated[
    Path,
    typer.Option(metavar="PATH", help="Pictures: an .npz file, or a folder of IDX files."),
]

RECOVERY_EXAMPLES = """\b
Examples:
  bayes1bit bench recovery --data fashion_mnist.npz
  bayes1bit bench recovery --data fashion_mnist.npz --methods diff-onebit --ratios 4 --pictures 10
"""


@app.callback(invoke_without_command=True)
def _bench(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(epilog=RECOVERY_EXAMPLES)
def recovery(
    data: Data,
    prior: options.Prior = "fashion32",
    methods: Annotated[
        str, typer.Option(metavar="A,B", help=f"Methods: {', '.join(METHODS)}.")
    ] = ",".join(METHODS),
    ratios: Annotated[str, typer.Option(metavar="R,R", help="Values of n/m.")] = "2,4,8,16",
    noise: options.Noise = None,
    link: Annotated[str, typer.Option(help="probit or logistic.")] = "probit",
    pictures: Annotated[int, typer.Option(min=1, help="Number of test pictures.")] = 50,
    num_samples: options.NumSamples = 8,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="CSV file of single runs; it is gone on with.")
    ] = Path("runs/recovery.csv"),
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    precision: options.Precision = "float32",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Recover test pictures by every method, from the same bits, and average the scores.

    Two baselines stand beside the methods: back-projection of the bits with the best factor, and
    the prior's mean. An interrupted run goes on where it stopped. Coverage counts the pixels that
    vary over the pictures.
    """
    import torch

    from bayes1bit.bench.recovery import Problem, run_recovery
    from bayes1bit.zoo import load_prior, open_prior

    names = [name.strip() for name in methods.split(",")]
    for name in names:
        check_method(name)
    folder = open_prior(prior)
    torch.manual_seed(seed)
    problem = Problem(
        load_prior(folder.path, device=device, precision=precision),
        read_split(data, "test", folder, pictures),
        ratios=_numbers("--ratios", ratios),
        noise=0.5 if noise is None else noise,
        link=link,  # type: ignore[arg-type]  # checked where it is used
        seed=seed,
        setup=f"{folder.name} {precision}, {num_samples} samples",
    )
    algorithms = {
        name: lambda model, name=name: METHODS[name](
            model, num_samples=num_samples, progress=False
        )
        for name in names
    }
    rows = run_recovery(problem, algorithms, out, progress=not quiet)
    _print_rows(rows, as_json)


@app.command()
def speed(as_json: options.Json = False) -> None:
    """Time operators and traced models against plain torch, as ratios within this run."""
    import torch

    from bayes1bit.bench import speed as bench

    torch.manual_seed(0)
    tables = {
        "Hadamard operator against the dense product of the same size": bench.operator_speed(),
        "memory of a large Hadamard operator": bench.operator_memory(),
        "log-likelihood and gradient of a traced model against hand-written torch": (
            bench.target_overhead()
        ),
    }
    _print_tables(tables, as_json)


@app.command()
def reverse(
    prior: options.Prior = "fashion32", seed: options.Seed = 0, as_json: options.Json = False
) -> None:
    """Compare reverse solvers on a mixture prior whose components are a prior's example pictures.

    In 10 and in 20 steps from pure noise, a solver should leave the spread of the components.
    """
    import torch

    from bayes1bit.bench.reverse import reverse_table
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
    _print_rows(reverse_table(means), as_json)


@app.command()
def prior(
    data: Data,
    name: Annotated[str, typer.Argument(metavar="[NAME]")] = "fashion32",
    count: Annotated[int, typer.Option(min=100, help="Pictures and samples to compare.")] = 2000,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    precision: options.Precision = "float32",
    as_json: options.Json = False,
) -> None:
    """Judge a prior: distance of its samples to test pictures, and its denoising error there."""
    import torch

    from bayes1bit.bench.prior import denoising_error, sample_quality
    from bayes1bit.zoo import load_prior, open_prior

    torch.manual_seed(seed)
    folder = open_prior(name)
    loaded = load_prior(folder.path, device=device, precision=precision)
    train = read_split(data, "train", folder, count)
    test = read_split(data, "test", folder, count)
    _print_tables(
        {
            "Frechet distance to the test set, in random convolutional features": sample_quality(
                loaded, train, test
            ),
            "mean squared denoising error": denoising_error(loaded, test),
        },
        as_json,
    )


def read_split(path: Path, split: str, folder: "PriorFolder", count: int) -> "Tensor":
    """Read the first pictures of a split as signals of a prior.

    Args:
        path: Picture archive or folder.
        split: "train" or "test".
        folder: The prior, whose recipe says how pictures become signals.
        count: Number of pictures.

    Returns:
        Signals, shape (count, *event), fewer if there are fewer.
    """
    from bayes1bit.diffusion.training.data import Pictures, read_pictures, to_event_shape

    settings = folder.recipe.data
    stored = to_event_shape(read_pictures(path, split)[:count], settings)
    return Pictures(stored, stored, settings).scale(stored)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{option} must be numbers with commas, got {text!r}") from error
    for number in numbers:
        report.check_positive(option, number)
    return numbers


def _print_rows(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    from bayes1bit.bench.table import format_table

    if as_json:
        report.print_json({"rows": list(rows)})
    else:
        print(format_table(rows))


def _print_tables(tables: dict[str, list[dict[str, Any]]], as_json: bool) -> None:
    from bayes1bit.bench.table import format_table

    if as_json:
        report.print_json(tables)
    else:
        print("\n\n".join(f"{title}\n\n{format_table(rows)}" for title, rows in tables.items()))
