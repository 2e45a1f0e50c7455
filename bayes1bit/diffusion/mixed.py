r"""A prior of two denoisers: a cheap one at high noise, an exact one below.

At high noise all that a denoiser can know of a signal is coarse, and a cheap network, such as a
binarized one, says it as well as an expensive one. :class:`MixedPrior` asks it there, and the
exact network at the levels below a switch, where the two part.

Where that is, the two denoising errors tell. If the exact denoiser D is the posterior mean, the
error of another, :math:`\tilde D`, exceeds its own, :math:`r^2`, by the squared distance between
them. That distance is also what tells two reverse diffusions apart: by Girsanov's theorem their
laws, from pure noise down to a level s, differ by

.. math::

    \mathrm{KL} = \frac12 \int_{\sigma > s}
        E \lVert D - \tilde D \rVert^2 \, d(\sigma^{-2})
    \;\le\; \frac{\delta}{2} \int_{\sigma > s} n\, r^2(\sigma)\, d(\sigma^{-2})
    = \delta\, I(x; x_s)

if the error of the cheap one exceeds that of the exact one by at most the share :math:`\delta` at
all those levels. The last step is the identity of mutual information and squared error (Guo,
Shamai and Verdu, IEEE Trans. Information Theory 2005, theorem 1). So a relative tolerance is the
right one: of the nats that the walk settles above the switch, the cheap denoiser gets at most the
share :math:`\delta` wrong.
"""

import torch
from torch import Tensor

from bayes1bit.diffusion.denoiser import Denoiser
from bayes1bit.diffusion.levels import geometric_levels
from bayes1bit.diffusion.prior import DiffusionPrior
from bayes1bit.errors import InputError

TOLERANCE = 0.05
"""Default of the relative excess of the cheap prior's error; see :func:`switch_level`."""
_GRID = 513


class MixedDenoiser(Denoiser):
    """One denoiser at levels from ``switch`` up, another below.

    Args:
        cheap: Denoiser at high noise.
        exact: Denoiser at low noise.
        switch: Smallest level of the cheap one.
    """

    def __init__(self, cheap: Denoiser, exact: Denoiser, switch: float) -> None:
        super().__init__()
        self.cheap, self.exact, self.switch = cheap, exact, switch

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See :meth:`Denoiser.forward`; each signal passes through one of the two denoisers."""
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        high = level >= self.switch
        answer: Tensor
        if high.all():
            answer = self.cheap(x, level)
        elif not high.any():
            answer = self.exact(x, level)
        else:
            answer = torch.empty_like(x)
            answer[high] = self.cheap(x[high], level[high])
            answer[~high] = self.exact(x[~high], level[~high])
        return answer


class MixedPrior(DiffusionPrior):
    """Two diffusion priors of the same signals: the cheap one at high noise, the exact one below.

    Largest level: the cheap prior's. Smallest level, solver, number of steps, sampling and probes:
    the exact prior's. The denoisers are shared with the two priors, not copied, and are called
    through them: :func:`~bayes1bit.diffusion.count_evaluations` of the mixed prior counts all
    calls, of ``prior.cheap`` and ``prior.exact`` those that went to each.

    Args:
        cheap: Prior whose denoiser answers at levels from ``switch`` up.
        exact: Prior whose denoiser answers below.
        switch: Noise level in units of the signal; by default :func:`switch_level` chooses it
            from the two priors' denoising errors.
        tolerance: Relative excess of the cheap prior's error that the choice allows.

    Attributes:
        cheap: The cheap prior.
        exact: The exact prior.
        switch: The level at and above which the cheap one answers.

    Raises:
        InputError: If the priors differ in event shape, data range, device or type, if only one
            of them knows its denoising error, if ``switch`` is not a level of both, or if there
            is none to choose.
    """

    def __init__(
        self,
        cheap: DiffusionPrior,
        exact: DiffusionPrior,
        switch: float | None = None,
        *,
        tolerance: float = TOLERANCE,
        validate_args: bool | None = None,
    ) -> None:
        check_alike(cheap, exact)
        for known, unknown in ((cheap, exact), (exact, cheap)):
            if known.has_error and not unknown.has_error:
                names = ("exact", "cheap") if unknown is exact else ("cheap", "exact")
                raise InputError(
                    f"the {names[0]} prior has no table of denoising errors but the {names[1]} "
                    "one has: measure one on the same held-out signals with ErrorTable.measure, "
                    "and pass it as DiffusionPrior(..., error=table)"
                )
        low = max(cheap.sigma_min, exact.sigma_min)
        high = min(cheap.sigma_max, exact.sigma_max)
        if switch is None:
            switch = switch_level(cheap, exact, tolerance)
        elif not low <= switch <= high:
            raise InputError(
                f"switch must be a noise level that both priors know, between {low:g} and "
                f"{high:g}, got {switch:g}; beyond them use one of the priors alone"
            )
        self.cheap, self.exact, self.switch = cheap, exact, float(switch)
        bounds = [p.max_batch for p in (cheap, exact) if p.max_batch is not None]
        super().__init__(
            MixedDenoiser(cheap.denoiser, exact.denoiser, self.switch),
            exact.event_shape,
            exact.sigma_min,
            cheap.sigma_max,
            error=self._mixed_error if exact.has_error else None,
            data_range=exact.data_range,
            solver=exact.solver,
            num_steps=exact.num_steps,
            sampling=exact.sampling,
            probes=exact.probes,
            max_batch=min(bounds, default=None),
            validate_args=validate_args,
        )

    def _mixed_error(self, sigma: float | Tensor) -> Tensor:
        level = torch.as_tensor(sigma, dtype=torch.float64).cpu()
        high = level >= self.switch
        return torch.where(high, self.cheap.error(level).cpu(), self.exact.error(level).cpu())

    def __repr__(self) -> str:
        return f"MixedPrior(cheap={self.cheap!r}, exact={self.exact!r}, switch={self.switch:g})"


def switch_level(
    cheap: DiffusionPrior, exact: DiffusionPrior, tolerance: float = TOLERANCE
) -> float:
    r"""The level down to which a cheap prior is as good as an exact one.

    It is the smallest level such that, at it and at every level above it,

    .. math:: \tilde r^2(\sigma) \le (1 + \delta)\, r^2(\sigma)

    with the errors :math:`\tilde r^2` of the cheap prior and :math:`r^2` of the exact one, which
    must have been measured on the same signals (a mixture's own error is of its own law). If the
    cheap prior is always good enough, it is the smallest level that both priors know.

    The default tolerance of 5% says: the cheap denoiser's answer lies off the exact one's by no
    more than :math:`\sqrt{0.05}`, or 22%, of the error that the exact one has anyway. A reverse
    step adds noise of that error's size (:class:`~bayes1bit.diffusion.VarianceCorrected`), whose
    standard deviation grows by 2.5%. A walk that ended at the switch would lose 0.2 dB of its
    squared error; a walk that goes on with the exact denoiser loses less, as only what is settled
    above the switch is affected (module docstring). A held-out table is known to 1% or so, and
    finer tolerances would choose by its noise.

    Args:
        cheap: The cheap prior.
        exact: The exact prior.
        tolerance: Relative excess of the squared error, the :math:`\delta` above.

    Returns:
        The level, in units of the signal; levels are told apart to about 1%.

    Raises:
        InputError: If a prior does not know its error, ``tolerance`` is not a finite number of at
            least 0, or the cheap prior is not good enough even at the largest level.
    """
    if not 0 <= tolerance < float("inf"):
        raise InputError(f"tolerance must be finite and at least 0, got {tolerance}")
    if not (cheap.has_error and exact.has_error):
        raise InputError(
            "where to switch is chosen by the denoising errors of both priors, and one has no "
            "table of them: measure one with ErrorTable.measure, or give the level yourself "
            "(switch of MixedPrior, exact_below of SplitGibbsSMC)"
        )
    high = min(cheap.sigma_max, exact.sigma_max)
    grid = geometric_levels(high, max(cheap.sigma_min, exact.sigma_min), _GRID)
    excess = cheap.error(grid).cpu() / exact.error(grid).cpu() - 1
    too_much = (~(excess <= tolerance)).nonzero()
    if len(too_much) == 0:
        return float(grid[-1])
    first = int(too_much[0])
    if first == 0:
        raise InputError(
            f"the cheap prior's error exceeds the exact one's by {float(excess[0]):.1%} at the "
            f"largest level {high:g}, more than the tolerance of {tolerance:.1%}: use the exact "
            "prior alone, or give the level yourself (switch of MixedPrior, exact_below of "
            "SplitGibbsSMC)"
        )
    return float(grid[first - 1])


def check_alike(
    cheap: DiffusionPrior, exact: DiffusionPrior, name: str = "cheap", other: str = "exact"
) -> None:
    """Refuse priors of different signals.

    Args:
        cheap: A prior.
        exact: Another one.
        name: What to call the first.
        other: What to call the second.

    Raises:
        InputError: If event shapes, data ranges, devices or types differ.
    """
    for what, first, second, advice in (
        ("event shape", tuple(cheap.event_shape), tuple(exact.event_shape),
         "load priors of the same signals"),
        ("data range", cheap.data_range, exact.data_range,
         "load priors of the same units, or pass data_range to both"),
        ("device", cheap.device, exact.device, "move one with prior.to(device)"),
        ("dtype", cheap.dtype, exact.dtype, "convert one with prior.denoiser.to(dtype)"),
    ):  # fmt: skip
        if first != second:
            raise InputError(
                f"the {name} prior has {what} {first} but the {other} one has {second}; {advice}"
            )
