r"""Posteriors that are known exactly, to hold samplers against.

Let the prior be a mixture :math:`\sum_k w_k N(\mu_k, S^2 I)` and the data one-bit measurements
of :math:`t = A x` with :math:`A A^T = c I`. Given its component the outputs :math:`t_i` are
independent, :math:`N(a_i \mu_k, c S^2)`, under the prior and so under the posterior too. With the
smoothed log-likelihood

.. math:: \ell_i(\mu) = \log \int p(y_i \mid t)\, N(t; \mu, c S^2)\, dt

everything follows, for any number of pixels: the evidence of a component is
:math:`\sum_i \ell_i(a_i \mu_k)`, and Tweedie's formulas

.. math::

    E[x \mid y, k] = \mu_k + S^2 A^T \ell'(A \mu_k), \qquad
    \operatorname{Cov}[x \mid y, k] = S^2 I + S^4 A^T \operatorname{diag} \ell''(A \mu_k)\, A

give the moments inside it. A draw takes a component, then its outputs one by one, and moves a
draw of the component onto these outputs: independent draws of the posterior, with no chain.

With real pictures as means this is a posterior as rugged as those of learned priors, but one whose
answer is known. :class:`GridPosterior` is the other reference: any likelihood, in two dimensions.
For operators whose rows are not orthogonal see :mod:`bayes1bit.bench.exact_general`.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from bayes1bit.bench.exact_parts import (
    check_fit,
    component_outputs,
    in_double,
    one_bit_parts,
    with_derivatives,
)
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer.one_bit_form import OneBitForm
from bayes1bit.infer.target import Target
from bayes1bit.operators import LinearOperator

_CHUNK = 512
_NEGLIGIBLE = 1e-14
"""Components less probable than this are left out of moments."""


class Reference(Protocol):
    """What the comparison of samplers asks of a reference posterior.

    Attributes:
        component_probs: Posterior probability of each component, shape (components,), float64.
    """

    component_probs: Tensor

    @property
    def log_evidence(self) -> float:
        """Log p(y) in nats."""

    @property
    def mean(self) -> Tensor:
        """Posterior mean, shape event."""

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation of each pixel, shape event."""

    def sample(self, num_samples: int) -> Tensor:
        """Independent draws, shape (num_samples, *event)."""


class ExactPosterior:
    """The exact posterior of a mixture prior under row-orthogonal one-bit measurements.

    Args:
        prior: The mixture.
        operator: Sensing operator with ``row_gram``.
        form: The bits, in units of the operator's output.

    Attributes:
        component_log_evidence: Log p(y | k) in nats, shape (components,), float64.
        component_probs: Posterior probability of each component, shape (components,), float64.

    Raises:
        InputError: If the prior is not a mixture, the operator's rows are not orthogonal and of
            one norm, or it measures signals of another size.
    """

    def __init__(
        self, prior: GaussianMixturePrior, operator: LinearOperator, form: OneBitForm
    ) -> None:
        check_fit(prior, operator, form)
        if operator.row_gram is None:
            raise InputError(
                f"the rows of {operator!r} are not orthogonal and of equal norm; use an operator "
                "such as Hadamard or DCT, or GibbsReference"
            )
        self.prior, self.operator, self.form = prior, operator, in_double(form)
        self.row_gram = operator.row_gram
        self._means = prior.mixture.means
        self._outputs = component_outputs(prior, operator)
        self.component_log_evidence = torch.cat(
            [self._smoothed(part).sum(1) for part in self._outputs.split(_CHUNK)]
        )
        joint = prior.mixture.log_weights.double() + self.component_log_evidence
        self._log_evidence = joint.logsumexp(0)
        self.component_probs = joint.softmax(0)

    @classmethod
    def from_target(cls, target: Target) -> "ExactPosterior":
        """Read prior, operator and bits from a model.

        Args:
            target: A model whose data are one-bit measurements alone; the evidence is theirs.

        Raises:
            InputError: If the model is another one; see also the class.
        """
        return cls(*one_bit_parts(target))

    @property
    def log_evidence(self) -> float:
        """Log p(y) in nats."""
        return float(self._log_evidence)

    @property
    def mean(self) -> Tensor:
        """Posterior mean, shape event, exact up to rounding."""
        return self._moments[0]

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation of each pixel, shape event, exact up to rounding."""
        return self._moments[1]

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Draw independent posterior samples, with torch's global generator.

        Args:
            num_samples: Number of draws.

        Returns:
            Signals, shape (num_samples, *event), in the prior's dtype.
        """
        index = torch.multinomial(self.component_probs, num_samples, replacement=True)
        draws = []
        for part in index.split(_CHUNK):
            mean = self._means[part].double()
            t = self.form.draw_output(self._outputs[part], self._output_variance)
            h = mean + self.prior.scale * torch.randn_like(mean)
            draws.append((h + self._adjoint(t - self._apply(h)) / self.row_gram).to(self._means))
        return torch.cat(draws).view(num_samples, *self.prior.event_shape)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each pixel, shape event."""
        variance = self.prior.scale**2
        index = (self.component_probs > _NEGLIGIBLE).nonzero()[:, 0]
        probs = self.component_probs[index] / self.component_probs[index].sum()
        first = self._means.new_zeros(self._means.shape[1], dtype=torch.float64)
        second, curvature = torch.zeros_like(first), self._outputs.new_zeros(self.operator.m)
        # squares about a point inside the posterior lose no digits
        centre = self._means[self.component_probs.argmax()].double()
        for part, p in zip(index.split(_CHUNK), probs.split(_CHUNK), strict=True):
            _, slope, curve = with_derivatives(self._smoothed, self._outputs[part])
            offset = self._means[part].double() + variance * self._adjoint(slope) - centre
            first += p @ offset
            second += p @ offset.square()
            curvature += p @ curve
        between = (second - first.square()).clamp(min=0)
        within = variance + variance**2 * self._gram_diagonal(curvature)
        shape, like = self.prior.event_shape, self._means
        std = (between + within.clamp(min=0)).sqrt()
        return (centre + first).to(like).view(shape), std.to(like).view(shape)

    def _gram_diagonal(self, diagonal: Tensor) -> Tensor:
        """Diagonal of A^T diag(d) A, shape (n,), for d of shape (m,)."""
        result = diagonal.new_zeros(self.operator.n)
        rows = torch.arange(self.operator.m, device=diagonal.device)
        for part in rows.split(_CHUNK):
            matrix = self._adjoint((part[:, None] == rows).double())
            result += diagonal[part] @ matrix.square()
        return result

    @property
    def _output_variance(self) -> float:
        return self.row_gram * self.prior.scale**2

    def _smoothed(self, outputs: Tensor) -> Tensor:
        return self.form.smoothed_log_likelihood(outputs, self._output_variance)

    def _apply(self, flat: Tensor) -> Tensor:
        return self.operator(flat.view(len(flat), *self.operator.event_shape))

    def _adjoint(self, v: Tensor) -> Tensor:
        return self.operator.T(v).flatten(1)


class GridPosterior:
    """The posterior of a two-dimensional signal on a grid, for any likelihood.

    Sums over cells stand for integrals (the midpoint rule), which is exact to many digits once
    cells are small beside every feature of the density.

    Args:
        target: A model whose signal has two elements; its prior's ``log_prob`` is used.
        limits: Lowest and highest value of both elements on the grid; by default the range of
            4,096 prior draws, made longer by half of it at either end.
        num_cells: Cells along each axis.

    Attributes:
        log_evidence: Log p(y) in nats.

    Raises:
        InputError: If the signal does not have two elements, or the limits are not increasing.
    """

    def __init__(
        self,
        target: Target,
        limits: tuple[float, float] | None = None,
        num_cells: int = 400,
    ) -> None:
        prior = target.prior
        if prior.event_shape.numel() != 2:
            raise InputError(
                "a grid needs a signal of two elements, this one has shape "
                f"{tuple(prior.event_shape)}"
            )
        if limits is None:
            draws = prior.sample((4096,))
            low, high = draws.min().item(), draws.max().item()
            limits = (low - (high - low) / 2, high + (high - low) / 2)
        low, high = limits
        if not low < high:
            raise InputError(f"limits must be (low, high) with low < high, got {limits}")
        self.event_shape, self.cell = prior.event_shape, (high - low) / num_cells
        axis = low + self.cell * (torch.arange(num_cells, dtype=torch.float64) + 0.5)
        points = torch.cartesian_prod(axis, axis).to(prior.device, prior.dtype)
        self.points = points.view(-1, *self.event_shape)
        with torch.no_grad():
            log_density = torch.cat(
                [
                    (prior.log_prob(part) + target.log_likelihood(part)).double()
                    for part in self.points.split(20_000)
                ]
            )
        log_mass = log_density.logsumexp(0)
        self.log_evidence = float(log_mass + 2 * torch.tensor(self.cell).double().log())
        self.probs = (log_density - log_mass).exp()

    @property
    def mean(self) -> Tensor:
        """Posterior mean, shape event."""
        return self.expectation(lambda x: x)

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation of each element, shape event."""
        mean = self.mean
        return self.expectation(lambda x: (x - mean).square()).sqrt()

    def expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Posterior expectation of a function.

        Args:
            function: Takes signals of shape (count, *event), returns shape (count, *any).

        Returns:
            Its expectation, shape any.
        """
        values = function(self.points)
        return torch.tensordot(self.probs, values.double(), dims=1).to(values)

    def sample(self, num_samples: int) -> Tensor:
        """Draw cells, then points spread evenly within them.

        Args:
            num_samples: Number of draws.

        Returns:
            Signals, shape (num_samples, *event).
        """
        index = torch.multinomial(self.probs, num_samples, replacement=True)
        x = self.points[index]
        return x + self.cell * (torch.rand_like(x) - 0.5)
