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
from bayes1bit.infer import Target
from bayes1bit.observation import OneBit
from bayes1bit.operators import Dense, Gaussian, Hadamard

ROUNDS = 15
BLOCK = 0.02
"""Seconds that a block of calls lasts at least; its first calls fill the caches for the others."""
LARGE = ((3, 256, 256), 12_288)


def compare(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """Median seconds per call of two functions, in blocks that take turns.

    Taking turns cancels the drift of the machine; blocks let each function find its own data in
    the caches, as it does where it is used.

    Args:
        first: A function without arguments.
        second: Another.

    Returns:
        Median seconds of each.
    """
    functions = (first, second)
    calls = [max(1, round(BLOCK / min(_seconds(f, 1) for _ in range(3)))) for f in functions]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for function, count, record in zip(functions, calls, times, strict=True):
            record.append(_seconds(function, count))
    first_median, second_median = (sorted(record)[ROUNDS // 2] for record in times)
    return first_median, second_median


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
