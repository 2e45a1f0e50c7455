"""``bayes1bit train``: train a prior from a recipe."""

from pathlib import Path
from typing import Annotated

import typer

from bayes1bit.cli import options, report

EXAMPLES = """\b
Examples:
  bayes1bit train priors/fashion32 --data pictures.npz --out runs/fashion32
  bayes1bit train recipe.toml --data /usr/share/datasets/fashion-mnist --out runs/mine
  bayes1bit train recipe.toml --data photographs/ --out runs/photographs
  accelerate launch --num_processes 4 -m bayes1bit train recipe.toml --data d.npz --out o
      --device cuda
"""


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="Recipe (TOML), or a folder that holds one.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="Signals: .npz, .npy, IDX file or its folder, folder of PNG, JPEG and WebP "
            "pictures, or folder of WAV files.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the new prior.")],
    device: options.Device = "cpu",
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="Show progress bars.")
    ] = True,
) -> None:
    """Train a diffusion prior from a recipe and signals: pictures, or lines.

    A training that was interrupted, or killed, goes on where its last checkpoint was. On the way
    held_out.csv follows the loss on signals that are kept out of training, and a warning says when
    the network begins to memorise. The folder can then be given to the --prior option of other
    commands.
    """
    report.check_device(device)

    from bayes1bit.diffusion.training.run import run

    folder = run(recipe, data, out, device=device, progress=progress)
    if folder is not None:
        print(f"Trained prior: {folder}")
