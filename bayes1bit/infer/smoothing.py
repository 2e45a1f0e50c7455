r"""The likelihood of a signal that is known up to an error.

Where a denoiser answers with D and a mean squared error of :math:`r^2` per dimension, the data are
not as likely as :math:`p(y \mid D)` says: the error must be averaged over. For one-bit data and a
normal error the average has a closed form,

.. math:: p(y_i \mid D) = \Phi\!\left(\frac{y_i (a_i D - \tau_i)}
          {\sqrt{s^2 + r^2 \lVert a_i \rVert^2}}\right),

a sum over the components of the noise for a logistic link. For any other likelihood it is taken as
that of a normal likelihood with the same largest curvature h, which the average flattens to the
power :math:`1 / (1 + h r^2)`.
"""

from copy import copy
from functools import cached_property

import torch
from torch import Tensor

from bayes1bit.infer.gibbs_step import gram_matrix
from bayes1bit.infer.langevin_step import largest_curvature
from bayes1bit.infer.moments import prior_mean, typical_distance
from bayes1bit.infer.sequential_draw import draw_in_turn
from bayes1bit.infer.softening import Softening
from bayes1bit.infer.target import Target


class SmoothedLikelihood:
    """Log-likelihood averaged over a white normal error of the signal.

    Args:
        target: The target.
        softening: The u of :mod:`bayes1bit.infer.annealing` at which the likelihood is taken; 0
            for the likelihood itself.
    """

    def __init__(self, target: Target, softening: float = 0.0) -> None:
        self.target, self.softening = target, softening
        self.soft = Softening.of(target)
        if self.soft is not None:
            norms = self.soft.structure.operator.row_norms_squared
            self.squared_norms = norms.to(self.soft.form.scale)
        else:
            with torch.no_grad():
                centre = prior_mean(target.prior)[None]
            rho = typical_distance(target.prior)
            self._largest_curvature = float(largest_curvature(target, centre, rho))

    @cached_property
    def gram(self) -> Tensor | None:
        """``A A^T`` of one-bit data, (m, m) in float64; None where rows are orthogonal."""
        if self.soft is None or self.soft.structure.row_gram is not None:
            return None
        return gram_matrix(self.soft.structure.operator)

    def softened(self, softening: float) -> "SmoothedLikelihood":
        """The same likelihood at another softening."""
        other = copy(self)
        other.softening = softening
        return other

    @property
    def curvature(self) -> float:
        """How sharply the data see a signal, as the inverse variance of a normal likelihood.

        For one-bit data it is an average over measurements.
        """
        if self.soft is not None:
            inverse = 1 / (self.soft.form.noise_variance + self.softening)
            damping = self.soft.damping(self.softening)
            if damping is not None:
                inverse = inverse + damping
            return float((self.squared_norms * inverse).mean())
        return self._largest_curvature / (1 + self.softening)

    def __call__(self, x: Tensor, variance: float) -> Tensor:
        """Smoothed log-likelihood of each signal, differentiable in ``x``.

        Args:
            x: Signals, shape (particles, *event).
            variance: Variance of their error per dimension; 0 for no error.

        Returns:
            Shape (particles,), in nats.
        """
        return self.of_features(self.features(x), variance)

    def features(self, x: Tensor) -> Tensor:
        """What :meth:`of_features` needs of signals (particles, *event), at any softening."""
        if self.soft is not None:
            return self.soft.structure.apply(x)
        return self.target.log_likelihood(x)

    def of_features(self, features: Tensor, variance: float) -> Tensor:
        """The log-likelihood of signals with these features, as when called with the signals."""
        if self.soft is not None:
            error = variance * self.squared_norms
            return self.soft.log_likelihood(features, self.softening, error).sum(1)
        return features / (1 + self.softening + variance * self._largest_curvature)

    @property
    def is_one_bit(self) -> bool:
        """Whether data are one-bit measurements, so that :meth:`draw` knows them."""
        return self.soft is not None

    def draw(self, mean: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        """Draw signals that are N(mean, variance I) before the data, with weights.

        One-bit data are drawn with: exactly if rows are orthogonal, where weights are the smoothed
        likelihood, and in turn if not (:mod:`bayes1bit.infer.sequential_draw`). For other data
        the draw is of the normal law, weighted by the likelihood.

        Args:
            mean: Centres, shape (particles, *event).
            variance: Variance of the normal law per dimension.

        Returns:
            One signal per centre, and the log of its weight, shape (particles,), whose expectation
            is the likelihood averaged over the normal law.
        """
        if self.soft is None:
            x = mean + variance**0.5 * torch.randn_like(mean)
            return x, self(x, 0.0)
        if self.gram is not None:
            return draw_in_turn(self.soft, self.gram, mean, variance, self.softening)
        structure = self.soft.structure
        assert structure.row_gram is not None
        t = structure.apply(mean)
        log_weight = self.of_features(t, variance)
        t = self.soft.draw_output(t, structure.row_gram * variance, self.softening)
        return structure.draw_given_output(mean, variance, t), log_weight
