"""``bayes1bit train``: train a prior from a recipe."""

from pathlib import Path
from typing import Annotated

import typer

from bayes1bit.cli import options, report

EXAMPLES = """\b
Examples:
  bayes1bit train priors/fashion32 --data pictures.npz --out runs/fashion32
  bayes1bit train recipe.toml --data /usr/share/datasets/fashion-mnist --out runs/mine
"""


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="Recipe (TOML), or a folder that holds one.")
    ],
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="Pictures: .npz, .npy, IDX file or its folder.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the new prior.")],
    device: options.Device = "cpu",
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="Show progress bars.")
    ] = True,
) -> None:
    """Train a diffusion prior from a recipe and pictures.

    An interrupted training goes on where its last checkpoint was. The folder can then be given
    to the --prior option of other commands.
    """
    report.check_device(device)

    from bayes1bit.diffusion.training.run import run

    print(f"Trained prior: {run(recipe, data, out, device=device, progress=progress)}")
