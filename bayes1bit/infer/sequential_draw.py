r"""Signals drawn given one-bit data, for operators whose rows are not orthogonal.

Let :math:`x \sim N(\mu, v I)` before the data, and :math:`t = A x`. If rows of A were orthogonal,
outputs would be independent, and each would be drawn given its own bit. Elsewhere they are drawn
one after another, each given its bit and the outputs before it: the simulator of Geweke,
Hajivassiliou and Keane for normal variables cut off at zero.

Drawn are the outputs with as much noise on them as is normal whatever the link,
:math:`\tilde t = t + N(0, V)`. Their covariance is :math:`v A A^T + V = L L^T`. So
:math:`\tilde t = A \mu + L z`, where :math:`\tilde t_i` has mean
:math:`m_i = (A \mu)_i + \sum_{j < i} L_{ij} z_j` and variance :math:`L_{ii}^2` given those before,
and

.. math:: \hat Z = \prod_i E\big[p(y_i \mid \tilde t_i)\big], \qquad
          \tilde t_i \sim N(m_i, L_{ii}^2),

has the expectation :math:`E[p(y \mid x)]`: it is the weight of what was drawn. Every factor is a
closed form (:mod:`bayes1bit.infer.one_bit_form`), and weights are nearly even where V is large
against :math:`v A A^T` or rows are nearly orthogonal. Given :math:`\tilde t` the signal is normal,
and is drawn as in :mod:`bayes1bit.infer.gibbs_step`. Softened data are damped
(:mod:`bayes1bit.infer.softening`) by a normal factor of each output, which is taken in first.

References:
    Hajivassiliou, McFadden and Ruud, *Simulation of multivariate normal rectangle probabilities
    and their derivatives*, Journal of Econometrics 72 (1996).
"""

import torch
from torch import Tensor

from bayes1bit.infer.one_bit_form import OneBitForm
from bayes1bit.infer.softening import Softening


def draw_in_turn(
    softening: Softening, gram: Tensor, mean: Tensor, variance: float, u: float
) -> tuple[Tensor, Tensor]:
    """Draw signals from N(mean, variance I) times the softened likelihood, with weights.

    Args:
        softening: The likelihoods.
        gram: ``A A^T``, shape (m, m), float64.
        mean: Centres, shape (particles, *event).
        variance: Variance of the normal law per dimension.
        u: The softening.

    Returns:
        Signals, shape of ``mean``, and the log of their weights in nats, shape (particles,). The
        weight of a centre has the softened likelihood, averaged over the centre's normal law, as
        its expectation.
    """
    structure, form, kappa = softening.structure, softening.form, softening.damping(u)
    noise = (form.smallest_noise_variance + u).to(gram)
    centre, covariance = structure.apply(mean), variance * gram
    if kappa is None:
        t, log_weight = _draw_outputs(form, noise, centre, covariance)
    else:
        damped, narrowed, log_damping = _damp(centre, covariance, form.threshold, kappa)
        t, log_weight = _draw_outputs(form, noise, damped, narrowed)
        log_weight = log_weight + log_damping
        # what the damping says of an output, and its noisy copy, are two normal measurements
        precision = 1 / noise + kappa
        t = ((t / noise + kappa * form.threshold) / precision).to(centre)
        noise = 1 / precision
    h = mean + variance**0.5 * torch.randn_like(mean)
    missed = t - structure.apply(h) - noise.sqrt().to(t) * torch.randn_like(t)
    factor = torch.linalg.cholesky(covariance + noise.diag()).to(t)
    gain = torch.cholesky_solve(missed.mT, factor).mT
    return h + variance * structure.adjoint(gain, mean.shape[1:]), log_weight


def _draw_outputs(
    form: OneBitForm, noise: Tensor, centre: Tensor, covariance: Tensor
) -> tuple[Tensor, Tensor]:
    """Noisy outputs given bits, and the log of their weights, from N(centre, covariance + noise).

    Args:
        form: The bits.
        noise: The V above, shape (m,).
        centre: Means of the outputs before the data, shape (particles, m).
        covariance: Their covariance, shape (m, m).
    """
    factor = torch.linalg.cholesky(covariance + noise.diag()).to(centre)
    z, log_weight = torch.empty_like(centre), centre.new_zeros(len(centre))
    for i, row in enumerate(factor):
        bit = form.select(slice(i, i + 1))
        own, shared = row[i].square(), bit.smallest_noise_variance
        conditional = (centre[:, i] + z[:, :i] @ row[:i])[:, None]
        log_weight += bit.smoothed_log_likelihood(conditional, own - shared)[:, 0]
        drawn = bit.draw_output(conditional, own, extra_noise=-shared)
        z[:, i] = ((drawn - conditional) / row[i])[:, 0]
    return centre + z @ factor.mT, log_weight


def _damp(
    centre: Tensor, covariance: Tensor, threshold: Tensor, kappa: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Multiply normal laws of outputs by exp(-kappa (t - threshold)^2 / 2).

    Args:
        centre: Their means, shape (particles, m).
        covariance: Their covariance, shape (m, m), float64.
        threshold: Thresholds, shape (m,).
        kappa: The damping, shape (m,).

    Returns:
        Means and covariance after it, and the log of the factor's average, shape (particles,).
    """
    root = kappa.to(covariance).sqrt()
    scaled = root[:, None] * covariance
    matrix = scaled * root
    matrix.diagonal().add_(1)
    factor = torch.linalg.cholesky(matrix)
    half = torch.linalg.solve_triangular(factor, scaled, upper=False)
    margin = (centre - threshold).to(root) * root
    whitened = torch.linalg.solve_triangular(factor, margin.mT, upper=False).mT
    log_average = -0.5 * whitened.square().sum(1) - factor.diagonal().log().sum()
    return (
        centre - (whitened @ half).to(centre),
        covariance - half.mT @ half,
        log_average.to(centre),
    )
