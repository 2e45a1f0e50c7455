r"""Training with the EDM objective (Karras et al., NeurIPS 2022).

One step draws signals :math:`x`, levels :math:`\log\sigma \sim N(P_{mean}, P_{std}^2)` and noise,
and descends

.. math::

    \frac{\sigma^2 + \sigma_d^2}{(\sigma \sigma_d)^2}
    \left\lVert D(x + \sigma\varepsilon, \sigma) - x \right\rVert^2

whose weight makes the network's own target have unit variance at every level. All randomness of
step k comes from generators seeded with (seed, k), so a run resumed from a checkpoint repeats
exactly what an uninterrupted run does. Measurements on the way
(:mod:`~bayes1bit.diffusion.training.held_out`) have generators of their own.

With a teacher the clean picture is replaced by :math:`(1 - w)\, x + w\, D_t(x_\sigma, \sigma)`.
The minimiser of the loss is the conditional mean of the target given :math:`x_\sigma`, and a
perfect teacher's answer has the same conditional mean as the picture, namely itself: the minimiser
does not move, but what scatters the picture around it is gone from the gradient. At high noise
that is nearly everything.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm import tqdm

from bayes1bit.diffusion.denoiser import Denoiser, KarrasDenoiser
from bayes1bit.diffusion.training.checkpoint import load_checkpoint, save_checkpoint
from bayes1bit.diffusion.training.data import Signals
from bayes1bit.diffusion.training.held_out import HeldOutLoss
from bayes1bit.diffusion.training.log import StepLog
from bayes1bit.diffusion.training.loss import edm_loss
from bayes1bit.diffusion.training.network import AUTOCAST, build_denoiser
from bayes1bit.diffusion.training.processes import Processes
from bayes1bit.diffusion.training.recipe import NoiseSettings, Recipe, TrainingSettings
from bayes1bit.errors import InputError
from bayes1bit.files import discard_incomplete
from bayes1bit.networks import anneal
from bayes1bit.networks.binary_base import use_real_weights
from bayes1bit.zoo import load_prior

CHECKPOINT = "checkpoint.safetensors"
LOG = "training.csv"
FIELDS = ["step", "seconds", "loss"]


def learning_rate_factor(step: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    warmup = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    return warmup * 0.5 * (1 + math.cos(math.pi * step / settings.steps))


def draw_batch(
    signals: Signals, noise: NoiseSettings, settings: TrainingSettings, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Signals, levels and noise of one step, a function of (seed, step) alone."""
    generator = torch.Generator().manual_seed(_step_seed(settings, step))
    index = torch.randint(len(signals.train), (settings.batch_size,), generator=generator)
    x = signals.scale(signals.train[index])
    z = torch.randn(settings.batch_size, generator=generator)
    sigma = (noise.log_mean + noise.log_std * z).exp()
    sigma = sigma.clamp(noise.sigma_min, noise.sigma_max)
    eps = torch.randn(x.shape, generator=generator)
    if signals.settings.flip:
        mirrored = torch.rand(len(x), generator=generator) < 0.5
        x[mirrored] = x[mirrored].flip(-1)
    return x, sigma, eps


def load_teacher(recipe: Recipe, device: str | torch.device) -> Denoiser | None:
    """The denoiser of the prior that a recipe names as its teacher, or None.

    Raises:
        InputError: If there is no such prior, or its signals have another shape or range.
    """
    if recipe.distillation is None:
        return None
    name, data = recipe.distillation.teacher, recipe.data
    prior = load_prior(name, device=device, precision=recipe.training.precision)
    theirs = tuple(prior.event_shape), prior.data_range
    ours = data.event_shape, (data.low, data.high)
    if theirs != ours:
        raise InputError(
            f'the teacher "{name}" knows signals of shape {theirs[0]} in {theirs[1]}, not of '
            f"shape {ours[0]} in {ours[1]}; name one that was trained on such"
        )
    return prior.denoiser


def train(
    recipe: Recipe,
    signals: Signals,
    out: str | Path,
    *,
    device: str | torch.device = "cpu",
    progress: bool = True,
    processes: Processes | None = None,
) -> tuple[KarrasDenoiser, float]:
    """Train, or go on training, the denoiser of a recipe.

    Args:
        recipe: What to train.
        signals: Training and held-out signals.
        out: Folder for ``checkpoint.safetensors``, ``training.csv`` and ``held_out.csv``. A
            checkpoint found there is resumed.
        device: Where to train.
        progress: Whether to show a progress bar.
        processes: Those that train together; by default those that ``accelerate launch`` started,
            most often this one alone.

    Returns:
        The denoiser with averaged weights, and the seconds spent in training, over all resumed
        parts.

    Raises:
        InputError: If the folder holds a checkpoint of another network, or the teacher cannot be
            used.
        FloatingPointError: If the loss is no longer finite.
    """
    settings, out = recipe.training, Path(out)
    processes = processes or Processes(device, settings.batch_size)
    device = processes.device
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        denoiser = build_denoiser(recipe, AUTOCAST[settings.precision]).to(device)
    teacher = load_teacher(recipe, device)
    share = recipe.distillation.weight if recipe.distillation else 0.0
    parameters = list(denoiser.parameters())
    optimizer = torch.optim.AdamW(
        parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    average = EMAModel(parameters, decay=settings.ema_decay, use_ema_warmup=True, power=0.75)
    step, seconds = 0, 0.0
    if (out / CHECKPOINT).exists():
        facts = load_checkpoint(out / CHECKPOINT, denoiser, average, optimizer)
        step, seconds = facts["step"], facts["seconds"]
    processes.wait()
    log, held_out = StepLog(out / LOG, FIELDS), HeldOutLoss(recipe, signals, out, device)
    if processes.is_main:
        discard_incomplete(out / CHECKPOINT)
        log.forget_after(step)
        held_out.forget_after(step)
    started = time.perf_counter() - seconds
    recent: list[Tensor] = []
    remaining = range(step, settings.steps)
    with (
        tqdm(
            remaining, "training", unit="step", disable=not (progress and processes.is_main)
        ) as bar,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        for step in bar:
            batch = draw_batch(signals, recipe.noise, settings, step)
            x, sigma, eps = map(processes.share, batch)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * learning_rate_factor(step, settings)
            anneal(denoiser, step / settings.steps)
            use_real_weights(denoiser, step < settings.binary_from * settings.steps)
            # dropout draws from the global generator
            torch.manual_seed(processes.seed(_step_seed(settings, step)))
            loss = edm_loss(denoiser, x, sigma, eps, teacher, share)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            loss = processes.average(loss, parameters)
            if settings.gradient_clip:
                nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
            optimizer.step()
            average.step(parameters)
            recent.append(loss)
            done = step + 1
            if done % settings.log_every == 0 or done == settings.steps:
                seconds = time.perf_counter() - started
                mean = torch.stack(recent).mean().item()
                recent.clear()
                _check_finite(mean, done)
                bar.set_postfix(loss=f"{mean:.4f}")
                if processes.is_main:
                    log.append([done, f"{seconds:.1f}", f"{mean:.5f}"])
            if processes.is_main and held_out.is_due(done, settings.steps):
                with _averaged(average, parameters):
                    held_out.measure(denoiser, done)
            if done % settings.checkpoint_every == 0 or done == settings.steps:
                _check_finite(loss.item(), done)
                if not processes.is_main:
                    continue
                facts = {"step": done, "seconds": time.perf_counter() - started}
                save_checkpoint(out / CHECKPOINT, denoiser, average, optimizer, facts)
    average.copy_to(parameters)
    anneal(denoiser, 1.0)
    use_real_weights(denoiser, False)
    return denoiser.eval().requires_grad_(False), seconds


def _step_seed(settings: TrainingSettings, step: int) -> int:
    # torch's CPU generator looks at 32 bits of its seed: the odd multiplier (the golden ratio of
    # 2**32) sets the steps of different seeds far apart within them
    return (settings.seed * 0x9E3779B1 + step) % 2**32


@contextmanager
def _averaged(average: EMAModel, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Put the averaged weights into the network for as long as the block lasts."""
    average.store(parameters)
    average.copy_to(parameters)
    try:
        yield
    finally:
        average.restore(parameters)


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss is not finite at step {step}: lower training.learning_rate"
        )
