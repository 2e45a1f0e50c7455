"""Speed and memory of networks and of their convolutions: ``bayes1bit bench speed --networks``.

Every time is measured beside that of what it is compared with, in blocks that take turns, so that
the ratios of one run can be trusted even where its milliseconds cannot.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes1bit.bench.speed import _peak_megabytes, compare
from bayes1bit.diffusion.denoiser import Denoiser, KarrasDenoiser
from bayes1bit.diffusion.training import Recipe
from bayes1bit.diffusion.training.network import AUTOCAST, build_denoiser
from bayes1bit.networks import BIDiffSR, PatchedUNet, SR3UNet, count, pack
from bayes1bit.networks.compiled import compiler_fault
from bayes1bit.networks.packed import PackedUnit, reference_unit
from bayes1bit.zoo import WEIGHTS, load_prior, open_prior

CHANNELS, SIDES, BATCHES = (64, 128, 256), (16, 32), (8, 64)
PAIRS = 5
ROUNDS = 7
"""Blocks of each; the largest float convolution takes a third of a second on one core."""
LAYOUTS = (torch.contiguous_format, torch.channels_last)

PRIOR, BINARY_PRIOR = "fashion32", "fashion32-bi"
SKELETON: dict[str, Any] = {"patch": 2, "width": 64, "multipliers": (1, 2, 2), "blocks": 2}
"""BI-DiffSR for these pictures: its full-precision twin is as large as the prior, 5.7 million
parameters to 5.95. Of the published four resolutions three are left, and patches of 2x2."""
BATCH = 64
LEVEL = 1.0
"""Noise level that is denoised; no time depends on it."""


def convolution_speed() -> list[dict[str, Any]]:
    """Packed binary units against torch's float32 ``conv2d`` of the same shape, on its threads.

    The packed time is that of the whole unit: shift, signs, packing, convolution, scale, RPReLU
    and the added identity, on an input with channels last, which is how one unit leaves it for
    the next. The float time is that of the convolution alone, in the faster of torch's two
    layouts.

    Returns:
        A row for each shape, with the ratio of median times and whether the unit's result equals
        the plain path in float32, bit for bit.
    """
    rows = []
    for channels, side, batch in product(CHANNELS, SIDES, BATCHES):
        x, weight = torch.randn(batch, channels, side, side), torch.randn(channels, channels, 3, 3)
        bins = torch.randint(PAIRS, (batch,))
        tables = {
            "scale": torch.rand(channels),
            **{name: torch.randn(PAIRS, channels) for name in ("shift", "before", "after")},
            "slope": torch.rand(PAIRS, channels),
        }
        unit = PackedUnit.from_tensors(weight, **tables)
        with torch.inference_mode():
            ours = x.to(memory_format=torch.channels_last)
            packed = partial(unit, ours, bins, ours)
            plain = reference_unit(x, unit.weights.signs(), **tables, bins=bins, identity=x)
            exact = torch.equal(packed().view(torch.int32), plain.view(torch.int32))
            times = []
            for layout in LAYOUTS:
                theirs = (x.to(memory_format=layout), weight.to(memory_format=layout))
                times.append(compare(partial(F.conv2d, *theirs, padding=1), packed, ROUNDS))
        slow, quick = min(times)
        rows.append(
            {
                "channels": channels,
                "map": f"{side}x{side}",
                "batch": batch,
                "threads": torch.get_num_threads(),
                "float32 ms": 1e3 * slow,
                "packed ms": 1e3 * quick,
                "ratio": slow / quick,
                "exact": exact,
            }
        )
    return rows


class Candidate(NamedTuple):
    """One network of the table.

    Attributes:
        weights: "trained" or "random"; no time depends on it.
        build: Makes its denoiser as it is trained, with weights in float32.
        load: Makes its denoiser as it is used.
    """

    weights: str
    build: Callable[[], KarrasDenoiser]
    load: Callable[[], Denoiser]


def candidates() -> dict[str, Candidate]:
    """The networks of the table by name, the full-precision prior first."""
    prior = open_prior(PRIOR)
    folder = prior.path.with_name(BINARY_PRIOR)
    full, bits = (partial(build_denoiser, r) for r in (prior.recipe, Recipe.load(folder)))
    trained = (folder / WEIGHTS).is_file()
    faithful = partial(_for_prior, BIDiffSR)
    without = partial(_for_prior, BIDiffSR, full_decoder=())
    twin = partial(_for_prior, SR3UNet)
    return {
        PRIOR: Candidate("trained", full, partial(_loaded, PRIOR)),
        f"{PRIOR}, bfloat16": Candidate("trained", full, partial(_loaded, PRIOR, "bfloat16")),
        f"{BINARY_PRIOR}, packed": Candidate(
            "trained" if trained else "random",
            bits,
            partial(_loaded, folder) if trained else partial(_packed, bits),
        ),
        f"{BINARY_PRIOR}, float simulation": Candidate("random", bits, bits),
        "BI-DiffSR, packed": Candidate("random", faithful, partial(_packed, faithful)),
        "BI-DiffSR, full_decoder=(), packed": Candidate(
            "random", without, partial(_packed, without)
        ),
        "SR3, its full-precision twin": Candidate("random", twin, twin),
    }


def _for_prior(kind: type[nn.Module], **settings: Any) -> KarrasDenoiser:
    """A denoiser of the prior's signals around a network of the skeleton."""
    recipe = open_prior(PRIOR).recipe
    network = kind(recipe.data.event_shape, **SKELETON, **settings)
    return KarrasDenoiser(network, recipe.noise.sigma_data)


def _loaded(name: str | Path, precision: str = "float32") -> Denoiser:
    return load_prior(name, precision=precision).denoiser


def _packed(build: Callable[[], KarrasDenoiser]) -> Denoiser:
    return pack(build())


def denoiser_speed(batch: int = BATCH) -> list[dict[str, Any]]:
    """Whole denoisers against the full-precision prior in float32: time, size and memory.

    The prior's own row tells how far the ratios of this run can be trusted: it should be 1. A
    network is used as its users get it, in the layout of memory that it chooses. Memory is what
    :func:`held_bytes` counts after the network has run. The memory that a process needs for
    loading it is measured in a fresh one (:func:`loading_peak`); networks of random weights exist
    in float32 before they are packed.

    Args:
        batch: Pictures in one call.

    Returns:
        A row for each network, with parameters in full precision and of one bit, and operations
        per picture by the rule of the literature (:mod:`bayes1bit.networks.counting`), in
        millions.
    """
    networks = candidates()
    shape = open_prior(PRIOR).recipe.data.event_shape
    x, sigma = torch.randn(batch, *shape), torch.tensor(LEVEL)
    prior = networks[PRIOR].load().eval()
    prior_bytes = held_bytes(prior)
    rows = []
    for name, candidate in networks.items():
        denoiser = candidate.load().eval()
        with torch.inference_mode():
            slow, quick = compare(partial(prior, x, sigma), partial(denoiser, x, sigma), ROUNDS)
        counts = count(candidate.build().network, shape)
        held = held_bytes(denoiser)
        rows.append(
            {
                "network": name,
                "weights": candidate.weights,
                "batch": batch,
                "threads": torch.get_num_threads(),
                f"{PRIOR} ms": 1e3 * slow,
                "ms": 1e3 * quick,
                "ratio": slow / quick,
                "full M": counts.full_parameters / 1e6,
                "binary M": counts.binary_parameters / 1e6,
                "OPs M": counts.operations / 1e6,
                "memory MB": held / 1e6,
                "share": held / prior_bytes,
                "MB to load": loading_peak(name),
            }
        )
    return rows


def option_speed(name: str | Path = PRIOR, batch: int = BATCH) -> list[dict[str, Any]]:
    """What the options ``precision`` and ``compile`` of ``load_prior`` gain.

    Each is timed in turns with the same prior in float32 without them, for calls that need no
    gradient. The row of that prior itself tells how far the ratios of this run can be trusted.

    Args:
        name: A prior that is not of bits, which would ignore both options.
        batch: Signals in one call.

    Returns:
        A row for each pair of options, with the seconds of the first call, which compiles, and the
        largest difference to float32, in units of the signal. Options that this machine has no
        compiler for are left out.
    """
    prior = load_prior(name)
    x, sigma = torch.randn(batch, *prior.event_shape), torch.tensor(LEVEL)
    rows = []
    for compiled, precision in product((False, True), AUTOCAST):
        if compiled and compiler_fault(x.device.type) is not None:
            continue
        other = load_prior(name, precision=precision, compile=compiled)
        with torch.inference_mode():
            started = time.perf_counter()
            answer = other.denoise(x, sigma)
            first = time.perf_counter() - started
            difference = (answer - prior.denoise(x, sigma)).abs().max()
            slow, quick = compare(
                partial(prior.denoise, x, sigma), partial(other.denoise, x, sigma), ROUNDS
            )
        rows.append(
            {
                "precision": precision,
                "compile": str(compiled),
                "batch": batch,
                "threads": torch.get_num_threads(),
                "float32 ms": 1e3 * slow,
                "ms": 1e3 * quick,
                "ratio": slow / quick,
                "first call s": first,
                "difference": float(difference),
            }
        )
    return rows


def held_bytes(network: nn.Module) -> int:
    """Memory of everything that the modules of a network hold, each piece once.

    These are parameters, buffers, and whatever modules have made of them: packed units hold their
    weights in float from the first call that needs a gradient. It is counted rather than
    measured, because the resident memory of a process is uncertain by as much as a whole packed
    network.

    Args:
        network: Any module on the CPU.

    Returns:
        Number of bytes.
    """
    pieces: dict[int, int] = {}
    for module in network.modules():
        held = [*vars(module).values(), *module._parameters.values(), *module._buffers.values()]
        for value in held:
            for part in value if isinstance(value, tuple) else (value,):
                tensor = torch.from_numpy(part) if isinstance(part, np.ndarray) else part
                if isinstance(tensor, Tensor):
                    storage = tensor.untyped_storage()
                    pieces[storage.data_ptr()] = storage.nbytes()
    return sum(pieces.values())


def loading_peak(name: str) -> float:
    """Megabytes that the peak memory of a fresh process grows by while it loads a network.

    Args:
        name: One of :func:`candidates`.
    """
    code = f"from bayes1bit.bench.network_speed import _measure_loading as f; f({name!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _measure_loading(name: str) -> None:
    candidate = candidates()[name]
    # small ones first, so that the libraries' own memory is not counted
    import safetensors.torch  # noqa: F401

    PatchedUNet((1, 2, 2), 1, (32,), 1, (False,))
    pack(BIDiffSR((1, 2, 2), width=16, multipliers=(1,), full_decoder=()))
    # Linux forgets the peak so far, which importing torch has set higher than what is in use
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_megabytes()
    candidate.load()
    print((_peak_megabytes() - before) * 2**20 / 1e6)
