"""Speed and memory of the parts, as ratios measured in one run: ``bayes1bit bench speed``."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor

from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import DataStep, ExactStep, LangevinStep, Target
from bayes1bit.observation import Link, OneBit
from bayes1bit.operators import Dense, Gaussian, Hadamard

ROUNDS = 15
BLOCK = 0.02
"""Seconds that a block of calls lasts at least; its first calls fill the caches for the others."""
LONG_ROUNDS = 3
"""Blocks of a function that takes seconds."""
LARGE = ((3, 256, 256), 12_288)
REACH, GRID = 10.0, 1_001
"""Half the width, in standard deviations, and the points of the grid for an output's law."""


def compare(
    first: Callable[[], Any], second: Callable[[], Any], rounds: int = ROUNDS
) -> tuple[float, float]:
    """Median seconds per call of two functions, in blocks that take turns.

    Taking turns cancels the drift of the machine; blocks let each function find its own data in
    the caches, as it does where it is used.

    Args:
        first: A function without arguments.
        second: Another.
        rounds: Blocks of each.

    Returns:
        Median seconds of each.
    """
    functions = (first, second)
    calls = [_calls(function) for function in functions]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, count, record in zip(functions, calls, times, strict=True):
            record.append(_seconds(function, count))
    first_median, second_median = (sorted(record)[rounds // 2] for record in times)
    return first_median, second_median


def _calls(function: Callable[[], Any]) -> int:
    """Calls that make a block."""
    seconds = _seconds(function, 1)
    if seconds < BLOCK:
        seconds = min(_seconds(function, 1) for _ in range(2))
    return max(1, round(BLOCK / seconds))


def _seconds(function: Callable[[], Any], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - started) / calls


def operator_speed(n: int = 16_384, m: int = 2_048) -> list[dict[str, Any]]:
    """Hadamard operator against a dense product of the same size, forward and adjoint."""
    fast = Hadamard((n,), m, seed=0)
    dense = Dense(torch.randn(m, n))
    rows = []
    for batch in (1, 64):
        x, v = torch.randn(batch, n), torch.randn(batch, m)
        pairs = {
            "A x": (partial(dense, x), partial(fast, x)),
            "A^T v": (partial(dense.T, v), partial(fast.T, v)),
        }
        for name, (by_matrix, by_transform) in pairs.items():
            slow, quick = compare(by_matrix, by_transform)
            rows.append(
                {
                    "product": name,
                    "n": n,
                    "m": m,
                    "batch": batch,
                    "dense ms": 1e3 * slow,
                    "Hadamard ms": 1e3 * quick,
                    "ratio": slow / quick,
                }
            )
    return rows


def operator_memory() -> list[dict[str, Any]]:
    """Extra memory and seconds of one forward and one adjoint product at n = 196,608."""
    # a fresh process, because peak memory can only be read for the whole life of one
    code = "from bayes1bit.bench.speed import _measure_memory; _measure_memory()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    megabytes, seconds = map(float, done.stdout.split())
    shape, m = LARGE
    return [
        {
            "operator": "Hadamard",
            "n": torch.Size(shape).numel(),
            "m": m,
            "extra memory MB": megabytes,
            "make, A x, A^T v: ms": 1e3 * seconds,
        }
    ]


def _measure_memory() -> None:
    shape, m = LARGE
    # a small product first, so that the libraries' own memory is not counted
    small = Hadamard((64,), 8, seed=0)
    small.T(small(torch.randn(64)))
    x = torch.randn(shape)
    # Linux forgets the peak so far, which importing torch has set higher than what is in use
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_megabytes()
    started = time.perf_counter()
    operator = Hadamard(shape, m, seed=0)
    operator.T(operator(x))
    seconds = time.perf_counter() - started
    print(_peak_megabytes() - before, seconds)


def _peak_megabytes() -> float:
    """Peak resident memory of this process, as Linux reports it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) / 1024


def target_overhead(n: int = 4_096, m: int = 1_024, particles: int = 64) -> list[dict[str, Any]]:
    """Log-likelihood and gradient of a traced model against the same written by hand in torch."""
    operator = Gaussian((n,), m, seed=0)
    prior = GaussianMixturePrior(torch.randn(4, n), 1.0)
    scale = 0.5

    def model(y: Tensor | None = None) -> Tensor:
        x = pyro.sample("x", prior)
        observed: Tensor = pyro.sample("y", OneBit(operator(x), scale=scale).to_event(1), obs=y)
        return observed

    y = torch.randn(m).sign()
    target = Target.from_model(model, y)
    particles_x = torch.randn(particles, n)
    matrix = operator.matrix

    def by_hand() -> tuple[Tensor, Tensor]:
        x = particles_x.detach().requires_grad_()
        value = torch.special.log_ndtr(y * (x @ matrix.T) / scale).sum(1)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    def traced() -> tuple[Tensor, Tensor]:
        x = particles_x.detach().requires_grad_()
        value = target.log_likelihood(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    rows = []
    for name, function in {
        "the model, run under vmap": traced,
        "its one-bit normal form": lambda: target.value_and_gradient(particles_x),
    }.items():
        hand, ours = compare(by_hand, function)
        rows.append(
            {
                "evaluated as": name,
                "n": n,
                "m": m,
                "particles": particles,
                "by hand ms": 1e3 * hand,
                "ms": 1e3 * ours,
                "ratio": ours / hand,
            }
        )
    return rows


def data_step_speed(
    n: int = 16_384, m: int = 2_048, particles: int = 64, rho: float = 0.3
) -> list[dict[str, Any]]:
    """The exact data step against 100 Langevin steps: time, and whether the draws are right.

    Both draw from p(y given z) N(z; x, rho^2 I), with the same x and the same bits, whose noise
    has the scale 0.5. Langevin steps have the published size of 0.01, or that of the package's
    own rule. Errors and p-values are those of :func:`goodness_of_fit`.

    Args:
        n: Size of the signal.
        m: Number of bits.
        particles: Signals in one call.
        rho: Standard deviation of the coupling; 0.3 is the smallest of the published schedule.
    """
    operator = Hadamard((n,), m, seed=0)
    prior = GaussianMixturePrior(torch.zeros(1, n), 1.0)
    links: tuple[Link, ...] = ("probit", "logistic")
    rows = []
    for link in links:

        def model(y: Tensor | None = None, link: Link = link) -> Tensor:
            x = pyro.sample("x", prior)
            noisy = OneBit(operator(x), scale=0.5, link=link)
            observed: Tensor = pyro.sample("y", noisy.to_event(1), obs=y)
            return observed

        target = Target.from_model(model, model())
        x = prior.sample((particles,))
        exact = _prepared(ExactStep(), target, x, rho)
        for size in (0.01, None):
            langevin = _prepared(LangevinStep(100, step_size=size), target, x, rho)
            slow, quick = compare(langevin, exact, LONG_ROUNDS)
            distance, p_value = goodness_of_fit(target, x, langevin(), rho)
            exact_distance, exact_p_value = goodness_of_fit(target, x, exact(), rho)
            rows.append(
                {
                    "link": link,
                    "step size": "own" if size is None else str(size),
                    "n": n,
                    "m": m,
                    "particles": particles,
                    "Langevin ms": 1e3 * slow,
                    "exact ms": 1e3 * quick,
                    "ratio": slow / quick,
                    "Langevin error": distance,
                    "p-value": p_value,
                    "exact error": exact_distance,
                    "its p-value": exact_p_value,
                }
            )
    return rows


def _prepared(step: DataStep, target: Target, x: Tensor, rho: float) -> Callable[[], Tensor]:
    step.prepare(target)
    return partial(step, target, x, rho)


def goodness_of_fit(target: Target, x: Tensor, z: Tensor, rho: float) -> tuple[float, float]:
    r"""Whether draws of z are from p(y given z) N(z; x, rho^2 I), as far as the data see them.

    With a row-orthogonal operator, :math:`A A^T = c I`, the outputs :math:`t = A z` of a right
    draw are independent with the densities

    .. math:: \propto p(y_i \mid t_i)\, N(t_i; a_i x, c \rho^2),

    each of one dimension. Their distribution functions, by the trapezoidal rule on a grid over ten
    deviations at either side of :math:`a_i x`, make every output a uniform variable. A
    Kolmogorov-Smirnov test of all of them together follows.

    Args:
        target: A likelihood that is separable in the outputs of a row-orthogonal operator.
        x: Centres, shape (particles, *event).
        z: One draw for each, of the same shape, independent of each other.
        rho: Standard deviation of the coupling.

    Returns:
        The largest distance of the distribution function of all particles x m outputs from that
        of right ones, and the p-value of the test.

    Raises:
        InputError: If the likelihood has no such structure.
    """
    from scipy.stats import kstest

    structure = target.structure
    if structure is None or structure.row_gram is None:
        raise InputError(
            "outputs have independent laws only where the likelihood is separable in those of one "
            f"row-orthogonal operator, but this model has: {target.describe()}"
        )
    deviation = structure.row_gram**0.5 * rho
    axis = torch.linspace(-REACH, REACH, GRID, dtype=x.dtype, device=x.device)[:, None]
    values = []
    with torch.no_grad():
        for mean, t in zip(structure.apply(x), structure.apply(z), strict=True):
            log_density = structure.log_likelihood(mean + deviation * axis) - axis.square() / 2
            density = (log_density.double() - log_density.amax(0)).exp()
            cumulated = torch.cumulative_trapezoid(density, dim=0)
            cumulated = torch.nn.functional.pad(cumulated, (0, 0, 1, 0))
            place = ((t - mean).double() / deviation + REACH) / (2 * REACH) * (GRID - 1)
            place = place.clamp(0, GRID - 1)[None]
            left = place.long().clamp(max=GRID - 2)
            # the density is linear between two points
            part, low, high = place - left, density.gather(0, left), density.gather(0, left + 1)
            integral = cumulated.gather(0, left) + part * (low + part * (high - low) / 2)
            values.append(integral[0] / cumulated[-1])
    test = kstest(torch.cat(values).cpu().numpy(), "uniform")
    return float(test.statistic), float(test.pvalue)
