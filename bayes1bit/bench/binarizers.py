r"""Binarized denoisers trained alike: what ``bayes1bit bench binarizers`` runs.

The published comparison of BI-DiffSR and its ablation, in small and for denoising: networks that
differ only in how they binarize see the same pictures, levels, noise and learning rates for the
same number of steps, without a teacher, and are judged by what they make of held-out pictures.

**The networks.** All but one fill the skeleton of SR3 at the same widths: 32 and 64 channels on
patches of 2x2, with one residual block to a resolution. Two resolutions stand for the published
four, so ``full_decoder=(0,)`` keeps half of the decoder in full precision, as published; and again
that is 96% of the operations. Every other binarizer is put in BI-DiffSR's place, in that network
with its CP-Down, CP-Up and CS-Fusion, which makes the operations equal (XNOR-Net adds its
activation scales). BitUNet has another shape; its width and depth are those whose operations come
nearest. Dropout is off, as a training as short as these has nothing to forget.

**The ablation** goes from the baseline (no identity around binary units, plain changes of
resolution, a fusion that concatenates) one step at a time to BI-DiffSR. With CS-Fusion, but one
pair of TaR and TaA, a unit of BI-DiffSR is one of ReActNet, so that step is the same network and
is trained once.

**The EDM loss** is the training objective on held-out pictures, at the quantiles of the levels
that training draws. 1 is what a network gets that answers nothing.

Each finished network is a line of a CSV file, so that an interrupted benchmark goes on where it
stopped.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from bayes1bit.bench.runs import FinishedRuns
from bayes1bit.diffusion import ErrorTable
from bayes1bit.diffusion.denoiser import KarrasDenoiser
from bayes1bit.diffusion.training.data import Signals
from bayes1bit.diffusion.training.loss import edm_loss
from bayes1bit.diffusion.training.network import build_denoiser
from bayes1bit.diffusion.training.network_settings import (
    BIDiffSRSettings,
    BitUNetSettings,
    NetworkSettings,
    SR3Settings,
)
from bayes1bit.diffusion.training.recipe import (
    CardSettings,
    NoiseSettings,
    Recipe,
    TrainingSettings,
)
from bayes1bit.diffusion.training.trainer import train
from bayes1bit.errors import InputError
from bayes1bit.networks import count

LEVELS = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
HELD_OUT = 512
"""Held-out pictures that networks are judged by."""
CHUNK = 128
BATCH, LEARNING_RATE, WARMUP = 32, 4e-3, 50
"""The rate is the best of 5e-4, 1e-3, 2e-3 and 4e-3 in 200 steps, for the full-precision network,
the baseline, BNN and BI-DiffSR alike."""

KEY = ("setup", "network")
ERRORS = tuple(f"sigma {level:g}" for level in LEVELS)
LOSS = "EDM loss"
DIVERGED = "diverged"
"""Column that says whether training or its result was not finite, and so without losses."""
VALUES = ("parameters", "OPs M", *ERRORS, LOSS, "seconds", DIVERGED)

SKELETON: dict[str, Any] = {"patch": 2, "width": 32, "multipliers": (1, 2), "blocks": 1}
BIDIFFSR = BIDiffSRSettings(**SKELETON, dropout=0.0, full_decoder=(0,))
BASELINE = replace(BIDIFFSR, identity=False, resampling="plain", fusion="concat", pairs=1)


class Network(NamedTuple):
    """A row of the table.

    Attributes:
        title: Its name in the tables.
        settings: What is trained.
    """

    title: str
    settings: NetworkSettings


NETWORKS = {
    "full": Network("full precision (SR3)", SR3Settings(**SKELETON, dropout=0.0)),
    "bitunet": Network("BitUNet", BitUNetSettings(widths=(128, 256), blocks=3, middle_blocks=3)),
    "bnn": Network("BNN", replace(BIDIFFSR, binarizer="bnn")),
    "dorefa": Network("DoReFa", replace(BIDIFFSR, binarizer="dorefa")),
    "xnor": Network("XNOR-Net", replace(BIDIFFSR, binarizer="xnor")),
    "irnet": Network("IR-Net", replace(BIDIFFSR, binarizer="irnet")),
    "reactnet": Network("ReActNet = + CS-Fusion", replace(BIDIFFSR, binarizer="reactnet")),
    "bbcu": Network("BBCU", replace(BIDIFFSR, binarizer="bbcu")),
    "bidiffsr": Network("BI-DiffSR = + TaR and TaA", BIDIFFSR),
    "baseline": Network("baseline", BASELINE),
    "identity": Network("+ identity", replace(BASELINE, identity=True)),
    "resampling": Network(
        "+ CP-Down and CP-Up", replace(BASELINE, identity=True, resampling="cp")
    ),
}
"""The networks by the words that ask for them."""
ORDERS = {
    "table": (
        ("bnn", "dorefa"),
        ("dorefa", "xnor"),
        ("dorefa", "irnet"),
        ("xnor", "reactnet"),
        ("irnet", "reactnet"),
        ("reactnet", "bbcu"),
        ("bbcu", "bidiffsr"),
    ),
    "ablation": (
        ("baseline", "identity"),
        ("identity", "resampling"),
        ("resampling", "reactnet"),
        ("reactnet", "bidiffsr"),
    ),
}
"""Neighbours in the published table and in its ablation, the worse one first."""


def run_binarizers(
    recipe: Recipe,
    signals: Signals,
    names: Sequence[str],
    path: Path,
    *,
    steps: int,
    seed: int = 0,
    setup: str = "",
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train networks alike, and measure their denoising losses on held-out pictures.

    Args:
        recipe: Of a prior whose data and noise levels are used; its network and training are not.
        signals: Training and held-out pictures.
        names: Which of :data:`NETWORKS`.
        path: CSV file of finished networks; what it already holds is not trained again.
        steps: Optimiser steps of each, of batches of 32 pictures.
        seed: Seed of initial weights, pictures, levels and noise.
        setup: What else tells runs apart (pictures, the prior).
        progress: Whether to show a progress bar.

    Returns:
        One row for each network: parameters and operations by the rule of the literature
        (:mod:`bayes1bit.networks.counting`), mean squared error per pixel at each of
        :data:`LEVELS` and the EDM loss, without losses where a network diverged.

    Raises:
        InputError: If ``path`` is not the CSV file of such a benchmark.
    """
    setup = f"{setup} {steps} steps seed {seed}".strip()
    training = TrainingSettings(
        signals=steps * BATCH,
        batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        warmup_steps=WARMUP,
        seed=seed,
    )
    done = FinishedRuns(path, KEY, VALUES, "binarizers")
    with tqdm(names, "binarizers", unit="network", disable=not progress) as bar:
        for name in bar:
            bar.set_postfix(network=name)
            if (setup, name) not in done:
                card = CardSettings(name, "", "", "")
                settings = NETWORKS[name].settings
                run = Recipe(recipe.data, settings, recipe.noise, training, card)
                done.add((setup, name), _run(run, signals))
    rows = [
        {"network": NETWORKS[name].title, **done[setup, name]} | _verdict(done[setup, name])
        for name in names
    ]
    if not any(row[DIVERGED] for row in rows):
        for row in rows:
            del row[DIVERGED]
    return rows


def check_orders(losses: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Which neighbours of the published orders are in that order here.

    Args:
        losses: Loss of each network by its name in :data:`NETWORKS`, None where it diverged,
            which is worse than any number. Neighbours that are not both there are left out.

    Returns:
        A row for each pair: the losses of the one that was published as the worse and of the
        other, their ratio, and whether the published order holds. Of two that diverged it does
        not.
    """
    rows = []
    for order, pairs in ORDERS.items():
        for worse, better in pairs:
            if worse not in losses or better not in losses:
                continue
            first, second = losses[worse], losses[better]
            holds = _number(first) > _number(second)
            rows.append(
                {
                    "published in": order,
                    "worse": NETWORKS[worse].title,
                    "better": NETWORKS[better].title,
                    "its loss": second,
                    "ratio": None if first is None or second is None else first / second,
                    "holds": "yes" if holds else "no",
                }
            )
    return rows


def held_out_loss(denoiser: KarrasDenoiser, clean: Tensor, noise: NoiseSettings) -> float:
    """EDM loss, at as many quantiles of the levels that training draws as there are pictures.

    Args:
        denoiser: The denoiser.
        clean: Held-out pictures, shape (count, *event).
        noise: How training draws levels.

    Returns:
        The loss, where 1 is that of a network that answers nothing.

    Raises:
        FloatingPointError: If it is not finite.
    """
    quantiles = (torch.arange(len(clean)) + 0.5) / len(clean)
    sigma = (noise.log_mean + noise.log_std * torch.special.ndtri(quantiles)).exp()
    sigma = sigma.clamp(noise.sigma_min, noise.sigma_max)
    eps = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    batches = zip(*(tensor.split(CHUNK) for tensor in (clean, sigma, eps)), strict=True)
    with torch.no_grad():
        total = sum(edm_loss(denoiser, *batch).item() * len(batch[0]) for batch in batches)
    if not math.isfinite(total):
        raise FloatingPointError("the held-out loss is not finite")
    return total / len(clean)


def _run(recipe: Recipe, signals: Signals) -> dict[str, float | None]:
    counts = count(build_denoiser(recipe).network, recipe.data.event_shape)
    values: dict[str, float | None] = {
        **dict.fromkeys(VALUES),
        "parameters": counts.parameters,
        "OPs M": counts.operations / 1e6,
        DIVERGED: 0.0,
    }
    clean = signals.scale(signals.held_out[:HELD_OUT])
    try:
        with TemporaryDirectory() as folder:
            denoiser, values["seconds"] = train(recipe, signals, folder, progress=False)
        denoiser.autocast = None
        loss = held_out_loss(denoiser, clean, recipe.noise)
        table = ErrorTable.measure(denoiser, clean, torch.tensor(LEVELS), batch_size=CHUNK)
    except (FloatingPointError, InputError):
        # the loss of training, or an error of what came out of it, is not finite
        return values | {DIVERGED: 1.0}
    return values | dict(zip(ERRORS, table.error.tolist(), strict=True)) | {LOSS: loss}


def _verdict(run: Mapping[str, Any]) -> dict[str, Any]:
    return {DIVERGED: "diverged" if run[DIVERGED] else ""}


def _number(loss: float | None) -> float:
    return math.inf if loss is None else loss
