"""What particle methods share: averages of weights, steps to the next level, noise and order."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

_BISECTIONS = 18
_SMALLEST = 1e-9
_AXES = 32
"""Principal axes of a cloud in which its order is found."""
_ALIKE = 16
"""Particles that need no order among themselves."""


def log_mean_exp(log_weights: Tensor) -> float:
    """Log of the average weight, summed in double precision."""
    return float(log_weights.double().logsumexp(0)) - math.log(len(log_weights))


def efficiency(log_weights: Tensor) -> float:
    """Effective share of particles with these log weights, between 1 / N and 1."""
    weights = log_weights.double().softmax(0)
    return 1.0 / (float(weights.square().sum()) * len(weights))


def log_step_ratio(shift: Tensor, noise: Tensor) -> Tensor:
    """Log density of a normal step over that of the same step with its mean moved.

    Args:
        shift: How far the mean was moved, in standard deviations, shape (particles, *event).
        noise: The standard normal noise that was drawn about the moved mean, likewise.

    Returns:
        Log p - log q at the point that was drawn, shape (particles,).
    """
    shift, noise = shift.flatten(1), noise.flatten(1)
    return -(0.5 * shift.square() + shift * noise).sum(1)


def antithetic_noise(like: Tensor) -> Tensor:
    """Standard normal noise, opposite for each two neighbours.

    Every particle's noise has the law of independent noise, so that estimates stay unbiased. After
    resampling neighbours are copies of one particle or of near ones, and what the noise does to
    the one it undoes for the other: the share of particles that turn to a mode varies less.

    Args:
        like: A tensor of the noise's shape (particles, *event), dtype and device.
    """
    noise = torch.randn_like(like)
    pairs = len(noise) // 2 * 2
    torch.neg(noise[:pairs:2], out=noise[1:pairs:2])
    return noise


@torch.no_grad()
def similarity_order(x: Tensor) -> Tensor:
    """An order of a cloud in which neighbours are alike.

    The cloud is halved across its longest principal axis, and each half again. Resampled in this
    order, a mode and any part of it keeps its share to within a particle or so, where in the order
    of chance shares vary nearly as those of independent draws from the cloud (Gerber, Chopin and
    Whiteley, Annals of Statistics 2019, with the order of a Hilbert curve).

    Args:
        x: Signals, shape (particles, *event).

    Returns:
        Indices, shape (particles,).
    """
    cloud = x.flatten(1)
    cloud = cloud - cloud.mean(0)
    axes = min(_AXES, *cloud.shape)
    if axes < cloud.shape[1]:
        cloud = cloud @ torch.svd_lowrank(cloud, q=axes)[2]
    # the halves are many small problems, which a GPU would be slow at
    cloud = cloud.double().cpu()
    parts = [torch.arange(len(cloud))]
    while len(parts[-1]) > _ALIKE:
        parts = [half for part in parts for half in _halve(cloud, part)]
    return torch.cat(parts).to(x.device)


def _halve(cloud: Tensor, part: Tensor) -> tuple[Tensor, ...]:
    """Two halves of the particles with these indices, apart along their longest axis."""
    inside = cloud[part] - cloud[part].mean(0)
    axis = torch.linalg.eigh(inside.T @ inside).eigenvectors[:, -1]
    return part[(inside @ axis).argsort()].tensor_split(2)


def next_level(
    log_weights: Callable[[float], Tensor], u: float, unit: float, fraction: float
) -> float:
    """Choose the next point of an annealing path by the effective share of particles.

    The point is found by bisection in the log of the data's weight, ``1 / (1 + u / unit)``.

    Args:
        log_weights: Log weights that going to a new point would give, shape (particles,).
        u: The present point, above 0; it may be infinite.
        unit: The u at which the data have half of their weight.
        fraction: Effective share of particles to keep.

    Returns:
        The new point: 0 if the end of the path keeps that share.
    """
    if efficiency(log_weights(0.0)) >= fraction:
        return 0.0
    low = math.log(max(1 / (1 + u / unit), _SMALLEST))
    high = 0.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if efficiency(log_weights(unit * math.expm1(-middle))) >= fraction:
            low = middle
        else:
            high = middle
    return unit * math.expm1(-low)
