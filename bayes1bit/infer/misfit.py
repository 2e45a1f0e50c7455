r"""One-bit data treated as linear ones: the least-squares misfit of methods for linear problems.

Methods that were made for :math:`y = A x + \text{noise}` need a residual, which one-bit data do
not have. Here the bits become pseudo-observations

.. math:: u_i = a_i x + N(0, v_i),

in one of two scalings.

``"unit"`` is what published comparisons do: the bits are taken for the values of
:math:`a_i x - \text{threshold}_i`, so :math:`u_i = y_i + \text{threshold}_i`, and :math:`v_i` is
the variance of the noise before the sign. Bits are of size one and :math:`a_i x` is whatever the
operator makes of the signal, so the answer has the wrong norm unless the two happen to agree.

``"matched"`` is the natural scale: the statistical linearization of the sign (Bussgang 1952)
about the prior. If :math:`a_i x \sim N(\mu_i, \kappa_i^2)` under the prior, the best linear
predictor of the bit has slope :math:`\beta_i = \partial E[y_i] / \partial \mu_i`, and

.. math::

    u_i = \mu_i + \frac{y_i - E[y_i]}{\beta_i}, \qquad
    v_i = \frac{1 - E[y_i]^2}{\beta_i^2} - \kappa_i^2.

Expectation and slope come from the smoothed likelihood in closed form, for both links, with
thresholds and flips.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.infer.moments import prior_mean
from bayes1bit.infer.steps import DataStep, GradientStep
from bayes1bit.infer.structure import OneBitForm, Structure
from bayes1bit.infer.target import Target

Misfit = Literal["likelihood", "least-squares"]
"""What a method takes for the data term."""
Scaling = Literal["unit", "matched"]
"""How bits become pseudo-observations of ``A x``."""

# A single bit at best leaves (pi / 2 - 1) kappa^2; limits below it only meet rounding.
_SMALLEST_VARIANCE = 0.5
_SMALLEST_SLOPE = 1e-4
_PRIOR_DRAWS = 64


def check_choice(name: str, value: str, choices: object) -> None:
    """Raise InputError unless ``value`` is among the values of a Literal type."""
    if value not in get_args(choices):
        known = " or ".join(f'"{choice}"' for choice in get_args(choices))
        raise InputError(f"{name} must be {known}, got {value!r}")


@dataclass(frozen=True)
class LinearData:
    """Pseudo-observations of ``A x``.

    Attributes:
        structure: The one-bit structure that they were made from.
        value: The pseudo-observations u, shape (m,), or (particles, m) where bits have that shape.
        variance: Their variances v, of the same shape.
    """

    structure: Structure
    value: Tensor
    variance: Tensor

    def residual(self, x: Tensor) -> Tensor:
        """``u - A x`` for signals of shape (particles, *event), shape (particles, m)."""
        return self.value - self.structure.apply(x)

    def log_likelihood(self, t: Tensor) -> Tensor:
        """Normal log-likelihood of each pseudo-observation given ``t``, shape (particles, m)."""
        squared = (self.value - t).square() / self.variance
        return -0.5 * (squared + (2 * math.pi * self.variance).log())


class LeastSquaresTarget(Target):
    """A target whose one-bit likelihood is replaced by that of its pseudo-observations.

    Args:
        target: The one-bit target.
        data: Its pseudo-observations.
    """

    def __init__(self, target: Target, data: LinearData) -> None:
        super().__init__(
            target.model,
            target.arguments,
            target.keywords,
            target.prior,
            target.site,
            target.observed,
            target.latents,
        )
        self.data = data
        self.structure: Structure = Structure(
            data.structure.operator, data.log_likelihood, one_bit=None
        )

    def log_likelihood(self, x: Tensor, latents: Mapping[str, Tensor] | None = None) -> Tensor:
        """Normal log-likelihood of the pseudo-observations; see :meth:`Target.log_likelihood`."""
        self._check(x, latents)
        return self.structure.log_likelihood(self.structure.apply(x)).sum(1)


def least_squares(target: Target, scaling: Scaling = "unit") -> Target:
    """Replace a one-bit likelihood by least squares.

    Args:
        target: Any target.
        scaling: ``"unit"`` as published, or ``"matched"``.

    Returns:
        A :class:`LeastSquaresTarget`, or ``target`` itself when it is not one-bit data of one
        operator: then its exact likelihood is the only misfit that it has.
    """
    structure = target.structure
    if structure is None or structure.one_bit is None:
        return target
    form = structure.one_bit
    if scaling == "unit":
        factor = 1.0 if form.link == "probit" else math.pi**2 / 3
        data = LinearData(structure, form.y + form.threshold, factor * form.scale.square())
        return LeastSquaresTarget(target, data)
    prior_mean, prior_variance = prior_moments(target.prior)
    rows = len(form.y) if form.y.ndim == 2 else 1
    mean = structure.apply(prior_mean.expand(rows, *prior_mean.shape)).view_as(form.y)
    variance = structure.operator.row_norms_squared.to(mean) * prior_variance
    expected, slope = expected_bits(form, mean, variance)
    slope = slope.clamp(min=_SMALLEST_SLOPE * variance.rsqrt())
    remaining = (1 - expected.square()) / slope.square() - variance
    data = LinearData(
        structure,
        mean + (form.y - expected) / slope,
        torch.maximum(remaining, _SMALLEST_VARIANCE * variance),
    )
    return LeastSquaresTarget(target, data)


def expected_bits(form: OneBitForm, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Expectation of each bit when ``t`` is normal, and its derivative by the mean of ``t``.

    Args:
        form: The one-bit data.
        mean: Means of t, shape of the bits: (m,), or (particles, m) if they are each particle's.
        variance: Variances of t, shape (m,).

    Returns:
        Expectations ``E[y_i]`` and slopes, each of the shape of the bits.
    """
    with torch.enable_grad():
        mean = mean.detach().requires_grad_()
        probability = form.smoothed_log_likelihood(mean, variance).exp()
        (slope,) = torch.autograd.grad(probability.sum(), mean)
    probability = probability.detach()
    return form.y * (2 * probability - 1), 2 * form.y * slope


@torch.no_grad()
def prior_moments(prior: DiffusionPrior) -> tuple[Tensor, float]:
    """Mean of a prior and its variance per dimension.

    At the largest level a denoiser knows nothing but the prior: its answer is the mean, and its
    error the variance. Without an error table both are taken from 64 draws of the prior.

    Args:
        prior: The prior.

    Returns:
        The mean, shape (*event), and the variance averaged over dimensions.
    """
    if prior.has_error:
        return prior_mean(prior), float(prior.error(prior.sigma_max))
    draws = prior.sample((_PRIOR_DRAWS,))
    return draws.mean(0), float(draws.var(0).mean())


class LeastSquaresStep(DataStep):
    r"""The exact solution of the half-quadratic subproblem with least squares for the data term.

    .. math::

        \arg\min_z \sum_i \frac{(u_i - a_i z)^2}{2 v_i} + \frac{\lVert z - x \rVert^2}{2 \rho^2}
        = x + A^T w, \qquad
        \left(\operatorname{diag}(v) + \rho^2 A A^T\right) w = \rho^2 (u - A x)

    For a row-orthogonal operator the system is diagonal; otherwise conjugate gradients solve it.
    A target that is not one-bit data of one operator has no residual: there gradient descent
    on its exact likelihood takes over, :class:`~bayes1bit.infer.steps.GradientStep` with 20 steps.

    Args:
        scaling: ``"unit"`` takes the bits for values of ``A x - threshold``, as published;
            ``"matched"`` is the natural scale, see :mod:`bayes1bit.infer.misfit`.
        max_iterations: Most conjugate-gradient iterations.
        tolerance: Residual of the system at which they stop, relative to its right-hand side.

    Raises:
        InputError: If ``scaling`` is unknown or ``max_iterations`` is less than 1.
    """

    def __init__(
        self, scaling: Scaling = "unit", max_iterations: int = 50, tolerance: float = 1e-4
    ) -> None:
        check_choice("scaling", scaling, Scaling)
        if max_iterations < 1:
            raise InputError(f"max_iterations must be at least 1, got {max_iterations}")
        self.scaling, self.max_iterations, self.tolerance = scaling, max_iterations, tolerance
        self._data: LinearData | None = None
        self._general = GradientStep()

    def prepare(self, target: Target) -> None:
        """Make the pseudo-observations of the target."""
        linear = least_squares(target, self.scaling)
        self._data = linear.data if isinstance(linear, LeastSquaresTarget) else None
        self._general.prepare(target)

    def __call__(self, target: Target, x: Tensor, rho: float) -> Tensor:
        """See :meth:`DataStep.__call__`."""
        data = self._data
        if data is None:
            return self._general(target, x, rho)
        right = rho**2 * data.residual(x)
        c = data.structure.row_gram
        if c is not None:
            w = right / (data.variance + c * rho**2)
        else:
            w = self._conjugate_gradients(data, right, rho**2)
        return x + data.structure.adjoint(w, x.shape[1:])

    def _conjugate_gradients(self, data: LinearData, right: Tensor, variance: float) -> Tensor:
        """Solve ``(diag(v) + variance A A^T) w = right`` for each particle."""
        operator = data.structure.operator
        w, residual = torch.zeros_like(right), right
        direction, squared = residual, residual.square().sum(1, keepdim=True)
        goal = self.tolerance**2 * squared
        for _ in range(self.max_iterations):
            if (squared <= goal).all():
                break
            image = data.variance * direction + variance * operator(operator.T(direction))
            length = squared / (direction * image).sum(1, keepdim=True)
            # a particle that is done, or was right from the start, stays where it is
            length = torch.where(squared > goal, length, 0.0)
            w, residual = w + length * direction, residual - length * image
            before, squared = squared, residual.square().sum(1, keepdim=True)
            ratio = torch.where(before > goal, squared / before, 0.0)
            direction = residual + ratio * direction
        return w

    def __repr__(self) -> str:
        return f'LeastSquaresStep("{self.scaling}")'
