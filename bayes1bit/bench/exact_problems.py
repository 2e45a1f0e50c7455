"""Problems whose posterior is known, from two pixels to thousands of real pictures.

Every truth is a draw from the prior, so that the posterior is the right answer and not just an
answer. Truth, operator, thresholds, noise, reference and algorithm draw from streams of their own:
with one seed for all, the first random numbers of the prior's means would come back as the noise
of the measurement.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bayes1bit.bench.exact import ExactPosterior, Reference
from bayes1bit.bench.exact_general import GibbsReference
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.diffusion.training.readers import read_signals
from bayes1bit.errors import InputError
from bayes1bit.infer.target import Target
from bayes1bit.models import one_bit_cs
from bayes1bit.observation import Link, OneBit
from bayes1bit.operators import Gaussian, Hadamard, LinearOperator

SCALE = 0.25
"""Standard deviation of a picture prior's components, for pictures in [-1, 1]."""

OPERATORS: dict[str, type[LinearOperator]] = {"hadamard": Hadamard, "gaussian": Gaussian}
STREAMS = (
    "means",
    "truth",
    "operator",
    "threshold",
    "noise",
    "reference",
    "exact samples",
    "baseline",
    "algorithm",
)


@dataclass(frozen=True, eq=False)
class ExactProblem:
    """One data set, and how its posterior is known.

    Attributes:
        name: What is measured and how; problems of one name differ in their seed.
        seed: Seed of everything random about the problem.
        prior: The mixture.
        model: Pyro model, called as ``model(y)``.
        y: The bits, shape (m,).
        truth: The signal that was measured, shape event.
    """

    name: str
    seed: int
    prior: GaussianMixturePrior
    model: Callable[..., Any]
    y: Tensor
    truth: Tensor

    def reference(self) -> Reference:
        """Make the reference: exact for row-orthogonal operators, Monte Carlo for others.

        It is not kept: it can be large.
        """
        with random_stream(self.seed, "reference"):
            target = Target.from_model(self.model, self.y)
            if target.structure is not None and target.structure.row_gram is not None:
                return ExactPosterior.from_target(target)
            return GibbsReference.from_target(target)


def stream_seed(seed: int, purpose: str) -> int:
    """Seed of one of the streams of :data:`STREAMS`, unlike those of all others."""
    sequence = np.random.SeedSequence([seed, STREAMS.index(purpose)])
    return int(sequence.generate_state(1)[0])


@contextmanager
def random_stream(seed: int, purpose: str) -> Iterator[None]:
    """Torch's random numbers come from one of :data:`STREAMS` inside the block.

    Afterwards they go on as if nothing had been drawn.
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(stream_seed(seed, purpose))
        yield


def make_problem(
    label: str,
    prior: GaussianMixturePrior,
    *,
    ratio: float,
    noise: float,
    seed: int = 0,
    link: Link = "probit",
    operator: Literal["hadamard", "gaussian"] = "hadamard",
    dither: bool = False,
    flip: float = 0.0,
) -> ExactProblem:
    """Measure a draw of a mixture prior.

    Truth, thresholds and noise are drawn on the CPU: a seed is the same data set on every device.

    Args:
        label: How to call the prior in the problem's name.
        prior: The mixture.
        ratio: n/m, numbers in the signal for each bit.
        noise: Scale of the noise, in units of A x.
        seed: Seed of truth, operator, thresholds and noise.
        link: Law of the noise.
        operator: ``"hadamard"`` (row-orthogonal) or ``"gaussian"``.
        dither: Whether each bit has a random threshold, normal with the standard deviation that
            outputs have under the prior on average, or all are zero.
        flip: Probability in [0, 0.5) that a bit is recorded inverted.

    Raises:
        InputError: If the operator is unknown, or a setting is outside its domain.
    """
    if operator not in OPERATORS:
        raise InputError(f"operator must be one of {', '.join(OPERATORS)}, got {operator!r}")
    m = max(1, round(prior.event_shape.numel() / ratio))
    A = OPERATORS[operator](prior.event_shape, m, seed=stream_seed(seed, "operator"))
    A.to(prior.device)
    with random_stream(seed, "truth"):
        component = torch.multinomial(prior.weights.cpu(), 1)
        deviation = torch.randn(prior.event_shape, dtype=prior.dtype)
    truth = prior.means[int(component)] + prior.scale * deviation.to(prior.device)
    threshold: float | Tensor = 0.0
    if dither:
        squared = prior.weights @ prior.means.flatten(1).square().mean(1) + prior.scale**2
        spread = (A.row_norms_squared.to(truth) * squared).sqrt()
        with random_stream(seed, "threshold"):
            threshold = spread * torch.randn(m, dtype=prior.dtype).to(spread)
    with random_stream(seed, "noise"):
        bits = OneBit(A(truth).cpu(), noise, _on_cpu(threshold), link=link, flip=flip)
        y = bits.sample().to(prior.device)
    words = [label, f"n/m = {ratio:g}", f"{link} {noise:g}", operator]
    words += ["dithered"] * dither + [f"flips {flip:g}"] * (flip > 0)
    model = one_bit_cs(prior, A, noise, threshold=threshold, link=link, flip=flip)
    return ExactProblem(", ".join(words), seed, prior, model, y, truth)


def _on_cpu(value: float | Tensor) -> float | Tensor:
    return value.cpu() if isinstance(value, Tensor) else value


def plane_problem(
    seed: int = 0, *, device: torch.device | str = "cpu", **settings: Any
) -> ExactProblem:
    """Two pixels and three components, two bits unless ``settings`` say otherwise.

    Args:
        seed: Seed of the problem; the prior is always the same.
        device: Device of the prior, and so of the problem.
        **settings: Settings of :func:`make_problem`.
    """
    means = torch.tensor([[-1.0, -0.5], [1.0, 0.8], [0.9, -1.0]], device=device)
    prior = GaussianMixturePrior(means, 0.4, torch.tensor([0.2, 0.5, 0.3]))
    return make_problem("2 pixels", prior, **{"ratio": 1, "noise": 0.5, "seed": seed} | settings)


def small_problem(
    seed: int = 0, *, device: torch.device | str = "cpu", **settings: Any
) -> ExactProblem:
    """An 8x8 picture and five components, 32 bits unless ``settings`` say otherwise.

    Args:
        seed: Seed of the problem; the prior is always the same.
        device: Device of the prior, and so of the problem.
        **settings: Settings of :func:`make_problem`.
    """
    generator = torch.Generator().manual_seed(stream_seed(0, "means"))
    means = 0.25 * torch.randn(5, 1, 8, 8, generator=generator)
    weights = torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3])
    prior = GaussianMixturePrior(means.to(device), SCALE, weights)
    return make_problem("8x8", prior, **{"ratio": 2, "noise": 0.5, "seed": seed} | settings)


def picture_prior(means: Tensor) -> GaussianMixturePrior:
    """The mixture whose components are pictures, equally probable, each with spread 0.25.

    Args:
        means: Pictures in [-1, 1], shape (components, channels, height, width).
    """
    return GaussianMixturePrior(means, SCALE)


def picture_problem(prior: GaussianMixturePrior, seed: int = 0, **settings: Any) -> ExactProblem:
    """A picture of a mixture of pictures, n/m = 8 and noise 0.5 unless ``settings`` say otherwise.

    Args:
        prior: What :func:`picture_prior` made; problems of several seeds can share it.
        seed: Seed of the problem.
        **settings: Settings of :func:`make_problem`.
    """
    size = "x".join(map(str, prior.event_shape))
    label = f"{len(prior.means)} pictures {size}"
    return make_problem(label, prior, **{"ratio": 8, "noise": 0.5, "seed": seed} | settings)


def read_means(path: str | Path, count: int = 4000) -> Tensor:
    """Read real pictures as the means of a mixture.

    Args:
        path: An archive or folder of pictures as training takes it, or an ``.npz`` archive of
            encoded pictures one after the other, ``train``, that start at ``train_offsets``.
            Colour pictures larger than 32x32 are averaged down to 32x32, that is 3,072 numbers.
        count: Number of pictures, the first of the training split.

    Returns:
        Pictures in [-1, 1], shape (count, channels, height, width), float32.

    Raises:
        InputError: If the file cannot be read or holds fewer pictures.
    """
    path = Path(path)
    stored = read_signals(path, "train", count)
    if len(stored) < count:
        raise InputError(f"{path} holds {len(stored)} pictures, fewer than the {count} wanted")
    pictures = torch.from_numpy(stored).float() / 127.5 - 1
    pictures = pictures.unsqueeze(1) if pictures.ndim == 3 else pictures.movedim(-1, 1)
    if pictures.shape[1] == 3 and max(pictures.shape[2:]) > 32:
        pictures = F.adaptive_avg_pool2d(pictures, 32)
    return pictures.contiguous()
