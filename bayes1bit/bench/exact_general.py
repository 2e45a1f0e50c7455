r"""A reference for mixture priors and operators whose rows are not orthogonal.

Inside a component the outputs :math:`t = A x` are no longer independent under the prior: their
covariance is :math:`C = S^2 A A^T`. What remains true is that each component's posterior has one
mode (the links are log-concave), so that Monte Carlo methods are safe there, and that the mixture
over components needs no chain if the evidence of each of them is known. So

1. :math:`\log p(y \mid k)` comes from importance sampling in the space of outputs. Part of their
   covariance, :math:`\lambda I` with nearly the smallest eigenvalue of C, is integrated out in
   closed form; for the rest, expectation propagation (Minka, UAI 2001; the site updates of
   Rasmussen and Williams, *Gaussian Processes for Machine Learning*, 2006, section 3.6) finds the
   normal with the posterior's moments, which is the proposal. The estimate is unbiased, and
   ``log_evidence_error`` says how far it can be trusted. For row-orthogonal operators nothing but
   :math:`\lambda I` is left, and it is exact.
2. A draw takes a component by these probabilities and starts at a draw of its proposal; then
   sweeps of the augmented Gibbs sampler (Albert and Chib, JASA 1993),

   .. math:: w \mid t \sim p(w \mid t, y), \qquad
             t \mid w \sim N(a + C (C + V)^{-1} (w - a),\; C - C (C + V)^{-1} C),

   remove what the proposal got wrong, all within the m outputs. The last sweep draws the signal.

No draw ever has to cross from one component to another, which is where chains fail.
"""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

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
from bayes1bit.infer.one_bit_form import OneBitForm
from bayes1bit.infer.target import Target
from bayes1bit.operators import LinearOperator

_PILOT_DRAWS = 128
_PILOT_WINDOW = 12.0
_MOMENT_DRAWS = 2048
_ENTRIES = 2**24
"""Most numbers in a batch of m x m matrices: 134 MB."""


@dataclass(frozen=True)
class _Proposal:
    """Normal approximations of outputs about ``centre``, from sites ``linear``, ``precision``.

    The prior of the deviations d from ``centre`` is N(0, C - lambda I); each site multiplies it
    by exp(linear d - precision d^2 / 2). All tensors have shape (batch, m), or (batch, m, m).
    """

    centre: Tensor
    linear: Tensor
    precision: Tensor
    mean: Tensor
    covariance: Tensor
    factor: Tensor


class GibbsReference:
    """The posterior of a mixture prior under one-bit measurements by any operator.

    Exact in the limit of many ``num_draws`` and ``num_sweeps``; the defaults leave errors far
    below what a comparison of samplers can see. Randomness is torch's global generator.

    Args:
        prior: The mixture.
        operator: Sensing operator; matrices of m x m numbers are factorised.
        form: The bits, in units of the operator's output.
        num_draws: Importance samples for the evidence of each component that matters.
        num_sweeps: Gibbs sweeps of each draw; by default five times one plus the largest ratio of
            prior to noise variance of an output, which bounds the sampler's relaxation time.
        window: Components are first ranked by their evidence with correlations between outputs
            left out; those more than ``window`` nats behind the best are given probability zero.
            Of the others, those 12 nats behind in a pilot run are dropped too.

    Attributes:
        component_log_evidence: Log p(y | k) in nats, shape (components,), float64; minus infinity
            where it was not computed.
        component_probs: Posterior probability of each component, shape (components,), float64.
        log_evidence: Log p(y) in nats.
        log_evidence_error: Its Monte Carlo standard error in nats.

    Raises:
        InputError: If the prior is not a mixture, or sizes differ.
    """

    def __init__(
        self,
        prior: GaussianMixturePrior,
        operator: LinearOperator,
        form: OneBitForm,
        *,
        num_draws: int = 4096,
        num_sweeps: int | None = None,
        window: float = 40.0,
    ) -> None:
        check_fit(prior, operator, form)
        self.prior, self.operator, self.form = prior, operator, in_double(form)
        self.num_draws, self.window = num_draws, window
        self._means = prior.mixture.means
        self._outputs = component_outputs(prior, operator)
        self._covariance = prior.scale**2 * _gram(operator, self._outputs)
        eigenvalues, vectors = torch.linalg.eigh(self._covariance)
        # the identity's part is kept below the smallest eigenvalue, against rounding
        self._split = max(0.0, 0.999 * eigenvalues[0].item())
        rest = eigenvalues - self._split
        rest = rest.clamp(min=1e-12 * eigenvalues[-1].item())
        self._rest = (vectors * rest) @ vectors.T
        self._root = (vectors * rest.sqrt()) @ vectors.T
        self._full_root = (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.T
        noise = self.form.smallest_noise_variance.min().item()
        self.num_sweeps = num_sweeps or ceil(5 * (1 + eigenvalues[-1].item() / noise))
        self._estimate_evidence()

    @classmethod
    def from_target(cls, target: Target, **settings: float) -> "GibbsReference":
        """Read prior, operator and bits from a model.

        Args:
            target: A model whose data are one-bit measurements alone; the evidence is theirs.
            **settings: Settings of the class.

        Raises:
            InputError: If the model is another one; see also the class.
        """
        return cls(*one_bit_parts(target), **settings)  # type: ignore[arg-type]

    @property
    def mean(self) -> Tensor:
        """Posterior mean, shape event, of 2,048 draws; its error is 1/45 of ``std``."""
        return self._moments[0]

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation of each pixel, shape event, of 2,048 draws."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        draws = self.sample(_MOMENT_DRAWS)
        return draws.mean(0), draws.std(0)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Draw independent posterior samples.

        Args:
            num_samples: Number of draws.

        Returns:
            Signals, shape (num_samples, *event), in the prior's dtype.
        """
        index = torch.multinomial(self.component_probs, num_samples, replacement=True)
        index = index.sort().values
        size = max(1, _ENTRIES // self.operator.m**2)
        draws = torch.cat([self._run_chains(part) for part in index.split(size)])
        order = torch.randperm(num_samples, device=draws.device)
        return draws[order].view(num_samples, *self.prior.event_shape)

    def _run_chains(self, index: Tensor) -> Tensor:
        """One chain for each component of ``index``: signals of shape (len, n)."""
        components, inverse = index.unique(return_inverse=True)
        proposal = self._propagate(self._outputs[components])
        noise = torch.randn(2, len(index), self.operator.m).to(self._outputs)
        mean = self._outputs[index]
        t = mean + _draw_deviations(proposal, self._root, inverse, *noise)
        # what was integrated out comes back, given the data
        t = self.form.draw_output(t, self._split) if self._split > 0 else t
        solver = _NoiseSolver(self._covariance, self.form)
        for _ in range(self.num_sweeps - 1):
            residual, variance = self._residual(t, mean)
            prior_draw = torch.randn_like(t) @ self._full_root
            error = variance.sqrt() * torch.randn_like(t)
            gain = solver(residual - prior_draw - error, variance)
            t = mean + prior_draw + gain @ self._covariance
        residual, variance = self._residual(t, mean)
        deviation = self.prior.scale * torch.randn(len(index), self.operator.n).to(t)
        error = variance.sqrt() * torch.randn_like(t)
        output = self.operator(deviation.view(-1, *self.operator.event_shape))
        gain = solver(residual - output - error, variance)
        deviation += self.prior.scale**2 * self.operator.T(gain).flatten(1)
        return self._means[index] + deviation.to(self._means)

    def _residual(self, t: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """The noisy outputs before thresholds, drawn given ``t``, less their prior mean."""
        w, variance = self.form.draw_latent(t, 0.0)
        return w + self.form.threshold - mean, variance

    @torch.no_grad()
    def _estimate_evidence(self) -> None:
        log_weights = self.prior.mixture.log_weights.double()
        diagonal = self._covariance.diagonal()
        rough = torch.cat(
            [
                self.form.smoothed_log_likelihood(part, diagonal).sum(1)
                for part in self._outputs.split(512)
            ]
        )
        index = _leading(rough + log_weights, self.window).nonzero()[:, 0]
        evidence, error = torch.full_like(rough, -torch.inf), torch.zeros_like(rough)
        for num_draws in (_PILOT_DRAWS, self.num_draws):
            estimates = [
                self._importance_sample(part, num_draws)
                for part in index.split(max(1, _ENTRIES // (4 * self.operator.m**2)))
            ]
            evidence[:] = -torch.inf
            evidence[index] = torch.cat([value for value, _ in estimates])
            error[index] = torch.cat([standard_error for _, standard_error in estimates])
            index = _leading(evidence + log_weights, _PILOT_WINDOW).nonzero()[:, 0]
        joint = evidence + log_weights
        self.component_log_evidence, self.component_probs = evidence, joint.softmax(0)
        self.log_evidence = joint.logsumexp(0).item()
        self.log_evidence_error = (self.component_probs * error).norm().item()

    def _importance_sample(self, index: Tensor, num_draws: int) -> tuple[Tensor, Tensor]:
        """Log evidence of components and the relative standard error of the evidence."""
        proposal = self._propagate(self._outputs[index])
        values, errors = [], []
        for i in range(len(index)):
            noise = torch.randn(2, num_draws, self.operator.m).to(self._outputs)
            row = torch.full((num_draws,), i, device=index.device)
            d = _draw_deviations(proposal, self._root, row, *noise)
            log_weight = self._smoothed(proposal.centre[i] + d).sum(1)
            log_weight += (0.5 * proposal.precision[i] * d - proposal.linear[i]).mul(d).sum(1)
            weight = (log_weight - log_weight.max()).exp()
            determinant = proposal.factor[i].diagonal().log().sum()
            normalizer = 0.5 * proposal.linear[i] @ proposal.mean[i] - determinant
            values.append(log_weight.max() + weight.mean().log() + normalizer)
            errors.append(weight.std() / (weight.mean() * num_draws**0.5))
        return torch.stack(values), torch.stack(errors)

    def _propagate(self, centre: Tensor, iterations: int = 20) -> _Proposal:
        """Expectation propagation from the prior N(centre, C - lambda I) of outputs."""
        linear, precision = torch.zeros_like(centre), torch.full_like(centre, 1e-8)
        proposal = _combine(centre, linear, precision, self._rest)
        for _ in range(iterations):
            marginal = proposal.covariance.diagonal(dim1=1, dim2=2)
            cavity = (1 / marginal - precision).clamp(min=1e-8).reciprocal()
            cavity_mean = cavity * (proposal.mean / marginal - linear)
            _, slope, curvature = with_derivatives(
                lambda mean, cavity=cavity: self.form.smoothed_log_likelihood(  # type: ignore[misc]
                    mean, cavity + self._split
                ),
                centre + cavity_mean,
            )
            shrunk = (1 + cavity * curvature).clamp(min=1e-8)
            # sites of flipped bits can have negative precision, which no proposal may have
            new_precision = (-curvature / shrunk).clamp(min=1e-8)
            new_linear = (slope - curvature * cavity_mean) / shrunk
            precision = torch.lerp(precision, new_precision, 0.7)
            linear = torch.lerp(linear, new_linear, 0.7)
            proposal = _combine(centre, linear, precision, self._rest)
        return proposal

    def _smoothed(self, outputs: Tensor) -> Tensor:
        return self.form.smoothed_log_likelihood(outputs, self._split)


class _NoiseSolver:
    """Solves (C + diag(V)) u = r; one factor serves all draws of a probit model."""

    def __init__(self, covariance: Tensor, form: OneBitForm) -> None:
        self.covariance = covariance
        self.factor: Tensor | None = None
        if form.link == "probit":
            noise = form.smallest_noise_variance.diag()
            self.factor = torch.linalg.cholesky(covariance + noise)

    def __call__(self, residual: Tensor, variance: Tensor) -> Tensor:
        if self.factor is not None:
            return torch.cholesky_solve(residual.T, self.factor).T
        factor = torch.linalg.cholesky(self.covariance + torch.diag_embed(variance))
        return torch.cholesky_solve(residual[..., None], factor)[..., 0]


def _combine(centre: Tensor, linear: Tensor, precision: Tensor, rest: Tensor) -> _Proposal:
    """Mean and covariance of deviations given sites, in a form that takes singular ``rest``."""
    root = precision.sqrt()
    scaled = root[:, :, None] * rest
    matrix = scaled * root[:, None, :]
    matrix.diagonal(dim1=1, dim2=2).add_(1)
    factor = torch.linalg.cholesky(matrix)
    half = torch.linalg.solve_triangular(factor, scaled, upper=False)
    covariance = rest - half.mT @ half
    mean = (covariance @ linear[..., None])[..., 0]
    return _Proposal(centre, linear, precision, mean, covariance, factor)


def _draw_deviations(
    proposal: _Proposal, root: Tensor, rows: Tensor, first: Tensor, second: Tensor
) -> Tensor:
    """Draws of the proposal's components ``rows`` from standard normal noise of shape (len, m)."""
    prior_draw = first @ root
    result = torch.empty_like(prior_draw)
    for i in rows.unique().tolist():
        where = rows == i
        precision_root = proposal.precision[i].sqrt()
        residual = precision_root * prior_draw[where] + second[where]
        gain = torch.cholesky_solve(residual.T, proposal.factor[i]).T * precision_root
        result[where] = proposal.mean[i] + prior_draw[where] - gain @ (root @ root)
    return result


def _leading(log_values: Tensor, window: float) -> Tensor:
    """Where values are within ``window`` of the largest."""
    return log_values >= log_values.max() - window


def _gram(operator: LinearOperator, like: Tensor) -> Tensor:
    """A A^T in the type of ``like``, shape (m, m)."""
    unit = torch.eye(operator.m, dtype=like.dtype, device=like.device)
    gram = torch.cat([operator(operator.T(part)) for part in unit.split(512)])
    return 0.5 * (gram + gram.T)
