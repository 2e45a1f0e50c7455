"""Speed of networks' parts, as ratios measured in one run: ``bayes1bit bench speed``."""

from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F

from bayes1bit.bench.speed import compare
from bayes1bit.networks.packed import PackedUnit, reference_unit

CHANNELS, SIDES, BATCHES = (64, 128, 256), (16, 32), (8, 64)
PAIRS = 5
ROUNDS = 7
"""Blocks of each; the largest float convolution takes a third of a second on one core."""
LAYOUTS = (torch.contiguous_format, torch.channels_last)


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
