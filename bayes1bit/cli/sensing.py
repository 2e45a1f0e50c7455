"""From a signal to a measurement: what ``demo``, ``measure`` and ``recover`` share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bayes1bit.cli.report import check_positive
from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from bayes1bit.measurement import Measurement

OPERATORS = {"hadamard": "Hadamard", "dct": "DCT", "gaussian": "Gaussian"}
"""Class names of sensing operators by the names that ``--operator`` takes."""

RATIO = 4.0
NOISE = 0.5

_STREAMS = ("measurement", "inference")


def seed_stream(seed: int, purpose: str) -> None:
    """Seed every generator for one purpose.

    One ``--seed`` must not give the same random numbers to the operator, to the noise of a
    measurement and to the start of inference: what is independent in the model would not be.

    Args:
        seed: The user's seed; operators take it as it is.
        purpose: "measurement" or "inference".
    """
    import numpy as np
    import pyro

    sequence = np.random.SeedSequence([seed, _STREAMS.index(purpose)])
    pyro.set_rng_seed(int(sequence.generate_state(1)[0]))


def count_measurements(
    event_shape: Sequence[int], ratio: float | None, measurements: int | None = None
) -> int:
    """Number of measurements that ``--ratio`` or ``--measurements`` asks for.

    Raises:
        InputError: If both are given, or the number is not at least 1.
    """
    import math

    n = math.prod(event_shape)
    if measurements is not None:
        if ratio is not None:
            raise InputError("give --ratio or --measurements, not both")
        if measurements < 1:
            raise InputError(f"--measurements must be at least 1, got {measurements}")
        return measurements
    ratio = RATIO if ratio is None else ratio
    check_positive("--ratio", ratio)
    m = round(n / ratio)
    if m < 1:
        raise InputError(
            f"--ratio {ratio:g} leaves no measurement of a signal with {n} values; "
            f"give at most {n}"
        )
    return m


def sense(
    x: "Tensor",
    data_range: tuple[float, float],
    m: int,
    *,
    seed: int,
    operator: str = "hadamard",
    noise: float | None = None,
    dither: float | None = None,
    threshold: float = 0.0,
    keep_truth: bool = False,
    **settings: Any,
) -> "Measurement":
    """Measure a signal.

    Args:
        x: The signal.
        data_range: Lowest and highest value of such signals.
        m: Number of measurements.
        seed: Seed of operator, thresholds and noise.
        operator: A name of :data:`OPERATORS`.
        noise: Scale of the noise; :data:`NOISE` by default.
        dither: Standard deviation of random thresholds about ``threshold``; None for none.
        threshold: Constant threshold.
        keep_truth: Whether the record keeps the signal.
        **settings: ``link`` and ``flip`` of :meth:`Measurement.simulate`.

    Raises:
        InputError: If a setting is outside its domain.
    """
    import torch

    from bayes1bit import operators
    from bayes1bit.measurement import Measurement

    if operator not in OPERATORS:
        raise InputError(f'unknown operator "{operator}"; operators are {", ".join(OPERATORS)}')
    noise = NOISE if noise is None else noise
    check_positive("--noise", noise)
    made = getattr(operators, OPERATORS[operator])(x.shape, m, seed=seed)
    seed_stream(seed, "measurement")
    thresholds: float | Tensor = threshold
    if dither is not None:
        check_positive("--dither", dither)
        thresholds = threshold + dither * torch.randn(m)
    return Measurement.simulate(
        x,
        made,
        scale=noise,
        threshold=thresholds,
        data_range=data_range,
        keep_truth=keep_truth,
        **settings,
    )
