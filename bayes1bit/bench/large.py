"""A prior of the size that the literature uses, from checkpoint to posterior: ``bench large``.

The network has random weights, so that nothing need be downloaded; what comes out means nothing,
but takes the time and the memory of the real one.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from bayes1bit.bench.speed import LARGE, _peak_megabytes
from bayes1bit.diffusion import from_guided_diffusion
from bayes1bit.diffusion.adapters.guided_diffusion import architecture
from bayes1bit.infer import DiffOneBit
from bayes1bit.measurement import Measurement
from bayes1bit.networks import ADMUNet
from bayes1bit.operators import Hadamard

MEASUREMENTS = LARGE[1]
LEVEL, NOISE = 0.5, 0.5


def run_large(
    flags: Mapping[str, Any], m: int = MEASUREMENTS, num_levels: int = 4, seed: int = 0
) -> list[dict[str, Any]]:
    """Load a random checkpoint of guided diffusion, denoise with it, and recover a picture.

    Args:
        flags: Training flags of the network, such as a preset's.
        m: Number of measurements by a Hadamard operator.
        num_levels: Levels of Diff-OneBit, each a denoiser call and a data step.
        seed: Seed of weights, picture, operator and noise.

    Returns:
        A row for each step, with the peak memory of the process until then.
    """
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "random.pt"
        _write_random(checkpoint, flags, seed)
        # a fresh process, whose peak memory is not that of writing the checkpoint
        arguments = f"{str(checkpoint)!r}, {dict(flags)!r}, {m}, {num_levels}, {seed}"
        code = f"from bayes1bit.bench.large import _measure; _measure({arguments})"
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
        )
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def _write_random(path: Path, flags: Mapping[str, Any], seed: int) -> None:
    torch.manual_seed(seed)
    torch.save(ADMUNet(**architecture(flags)).state_dict(), path)


def _measure(
    checkpoint: str, flags: Mapping[str, Any], m: int, num_levels: int, seed: int
) -> None:
    """Print the rows as JSON."""
    rows = [{"step": "packages are imported", "seconds": None, "peak MB": _peak_megabytes()}]

    def timed(step: str, run: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - started
        rows.append({"step": step, "seconds": seconds, "peak MB": _peak_megabytes()})
        return result

    torch.manual_seed(seed)
    settings: Any = dict(flags)
    prior = timed("load the checkpoint", lambda: from_guided_diffusion(checkpoint, **settings))
    low, high = prior.data_range
    picture: Tensor = low + (high - low) * torch.rand(prior.event_shape)
    noisy = picture + LEVEL * torch.randn_like(picture)
    with torch.no_grad():
        timed("denoise one picture", lambda: prior.denoise(noisy, LEVEL))
    operator = Hadamard(prior.event_shape, m, seed=seed)
    measurement = Measurement.simulate(picture, operator, scale=NOISE, data_range=prior.data_range)
    algorithm = DiffOneBit(
        measurement.model(prior), num_samples=1, num_levels=num_levels, progress=False
    )
    timed(f"Diff-OneBit, {num_levels} levels", lambda: algorithm.run(measurement.y))
    print(json.dumps(rows))
