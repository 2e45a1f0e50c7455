"""Speed and memory of the parts, as ratios measured in one run: ``bayes1bit bench speed``."""

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import torch
from torch import Tensor

from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.infer import Target
from bayes1bit.observation import OneBit
from bayes1bit.operators import Dense, Gaussian, Hadamard

REPEATS = 15
LARGE = ((3, 256, 256), 12_288)


def compare(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """Median seconds of two functions, timed in turn so that drift of the machine cancels.

    Args:
        first: A function without arguments.
        second: Another.

    Returns:
        Median seconds of each.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(REPEATS + 2):
        for function, record in zip((first, second), times, strict=True):
            started = time.perf_counter()
            function()
            # the first two rounds fill caches
            if repeat >= 2:
                record.append(time.perf_counter() - started)
    first_median, second_median = (sorted(record)[len(record) // 2] for record in times)
    return first_median, second_median


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
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    operator = Hadamard(shape, m, seed=0)
    operator.T(operator(x))
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) / 1024, seconds)


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
