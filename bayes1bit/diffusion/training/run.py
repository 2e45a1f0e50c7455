"""The whole of ``bayes1bit train``: from a recipe and signals to a prior's folder."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bayes1bit.diffusion.denoiser import KarrasDenoiser
from bayes1bit.diffusion.error_table import ErrorTable
from bayes1bit.diffusion.levels import geometric_levels
from bayes1bit.diffusion.training import held_out
from bayes1bit.diffusion.training.card import write_card
from bayes1bit.diffusion.training.data import Signals
from bayes1bit.diffusion.training.processes import Processes
from bayes1bit.diffusion.training.recipe import Recipe
from bayes1bit.diffusion.training.trainer import train
from bayes1bit.errors import InputError
from bayes1bit.files import complete_or_absent
from bayes1bit.networks import count, packable
from bayes1bit.networks.unet import parameter_count
from bayes1bit.zoo import as_stored, load_prior, save_prior

LEVELS = 32
GRID = (8, 8)
LINE_GRID = (8, 4)


def run(
    recipe_path: str | Path,
    data_path: str | Path,
    out: str | Path,
    *,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Path | None:
    """Train a prior, or go on with an interrupted training, and write its folder.

    The folder ends up with ``recipe.toml``, ``weights.safetensors``, ``MODEL_CARD.md``,
    ``samples.png``, ``error.csv`` and the training's own ``training.csv``, ``held_out.csv`` and
    ``checkpoint.safetensors`` (none of which a prior needs). Running again after the last step
    only writes the results again.

    Args:
        recipe_path: Recipe file, or a folder that holds one.
        data_path: Signals; see :func:`~bayes1bit.diffusion.training.data.read_split`.
        out: Folder to write to.
        device: Where to train.
        progress: Whether to show progress bars.

    Returns:
        The prior's folder, which :func:`bayes1bit.load_prior` reads; None in the processes that
        only help the first one to train.

    Raises:
        InputError: If recipe, signals or an earlier checkpoint cannot be used, or ``out`` cannot
            be written to.
    """
    recipe_path, out = Path(recipe_path), Path(out)
    if recipe_path.is_dir():
        recipe_path = recipe_path / "recipe.toml"
    recipe = Recipe.load(recipe_path)
    signals = Signals.load(data_path, recipe.data)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise InputError(f"cannot write to {out}: {failure.strerror}") from failure
    processes = Processes(device, recipe.training.batch_size)
    denoiser, seconds = train(
        recipe, signals, out, device=device, progress=progress, processes=processes
    )
    processes.end()
    if not processes.is_main:
        return None
    device = processes.device
    facts = _size(denoiser, recipe)
    # what is measured is what is shipped: packed, or rounded to half precision, run in float32
    denoiser.autocast = None
    denoiser = as_stored(denoiser)
    clean = signals.scale(signals.held_out).to(device)
    sigma = geometric_levels(recipe.noise.sigma_max, recipe.noise.sigma_min, LEVELS)
    error = ErrorTable.measure(denoiser, clean, sigma, seed=0, progress=progress)
    facts |= {
        "pictures": recipe.training.steps * recipe.training.batch_size,
        "seconds": round(seconds),
        "held_out": len(clean),
        "torch": torch.__version__,
    }
    save_prior(out, denoiser, error, facts)
    if recipe_path.resolve() != (out / "recipe.toml").resolve():
        with complete_or_absent(out / "recipe.toml") as temporary:
            temporary.write_bytes(recipe_path.read_bytes())
    _write_error(out / "error.csv", error)
    sampling = _write_samples(out, recipe, device)
    write_card(out, recipe, facts, error, sampling, held_out.read(out / held_out.FILE))
    return out


def _size(denoiser: KarrasDenoiser, recipe: Recipe) -> dict[str, Any]:
    """Number of parameters, and for a binary network what is bits and what is not."""
    facts: dict[str, Any] = {"parameters": parameter_count(denoiser)}
    if packable(denoiser):
        counts = count(denoiser.network, recipe.data.event_shape)
        facts |= asdict(counts)
    return facts


def _write_error(path: Path, error: ErrorTable) -> None:
    with complete_or_absent(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sigma", "mean_squared_error"])
        writer.writerows(zip(error.sigma.tolist(), error.error.tolist(), strict=True))


def _write_samples(out: Path, recipe: Recipe, device: str | torch.device) -> str:
    """Draw samples, and say how."""
    from bayes1bit.diagnostics.line_grid import plot_line_grid
    from bayes1bit.diagnostics.plots import plot_grid

    prior = load_prior(out, device=device)
    is_line = len(prior.event_shape) == 2
    rows, columns = LINE_GRID if is_line else GRID
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        samples = prior.sample((rows * columns,)).cpu()
    if is_line:
        figure = plot_line_grid(samples, columns=columns, unit=recipe.card.unit)
    else:
        figure = plot_grid(samples, columns=columns, data_range=prior.data_range)
    with complete_or_absent(out / "samples.png") as temporary:
        figure.savefig(temporary)
    return str(prior.sampling)
