r"""QCS-SGM: quantized compressed sensing by annealed Langevin (Meng and Kabashima, ICLR 2023).

Langevin steps on the posterior of the noisy signal, down the levels of the prior (Song and Ermon
2019, 2020):

.. math::

    x \leftarrow x + \alpha \left(\frac{D(x, \sigma) - x}{\sigma^2}
        + \nabla_x \log \tilde p_\sigma(y \mid x)\right) + \sqrt{2 \alpha}\, \varepsilon,
    \qquad \alpha = \epsilon\, \sigma^2 / \sigma_{min}^2 .

The likelihood of a noisy signal is that of the clean one, :math:`x_0 = x - \sigma \varepsilon`,
averaged as if the prior of :math:`x_0` were flat. The noise of the measurements is inflated by
what reaches them of the noise of the signal:

.. math::

    \tilde p_\sigma(y \mid x) = \prod_i p\left(y_i \mid a_i x,\;
        \text{noise variance } s^2 + \sigma^2 |a_i|^2\right),

one measurement at a time: the covariance :math:`\sigma^2 A A^T` between them is kept only for
row-orthogonal operators, where it has no other entries. QCS-SGM+ (arXiv 2302.00919) treats the
general case by expectation propagation.

The inflated one-bit likelihood is closed-form for both links. For any other likelihood the same
role is played by its Moreau envelope at the level,

.. math:: \nabla_x \log \tilde p_\sigma(y \mid x) = \frac{z - x}{\sigma^2}, \qquad
    z = \arg\min_z -\log p(y \mid z) + \frac{\lVert z - x \rVert^2}{2 \sigma^2},

which for normal noise is the inflated likelihood itself, and never too steep for the step.

Published steps: :math:`\epsilon = 5 \times 10^{-5}` with :math:`\sigma_{min} = 0.01`, so
:math:`\alpha = \sigma^2 / 2`, three at each level, for pictures of 256 pixels; for pictures of 32
pixels the same authors take :math:`2 \sigma^2`, which only a score network that is not told the
level survives: where it is told, steps of a normal state must stay below :math:`2 \sigma^2`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayes1bit.diffusion import geometric_levels
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.steps import DataStep, GradientStep
from bayes1bit.infer.target import Target


class QCSSGM(Algorithm):
    """Annealed Langevin with the noise-inflated likelihood.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of independent chains, processed in one batch.
        num_levels: Noise levels in geometric spacing, from the prior's largest to its smallest;
            232 is published for pictures of 32 pixels, 2,311 for 256.
        num_steps: Langevin steps at each level.
        step_size: Step in units of the level's variance, ``epsilon / sigma_min^2`` of the paper.
        data_step: For likelihoods that are not one-bit data of one operator: how the minimiser in
            the Moreau envelope is found, ``GradientStep(20)`` unless another is given.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range.
    """

    paper = "Meng and Kabashima, ICLR 2023, arXiv 2211.13006"
    assumptions = "independent measurements of one operator; else the likelihood's Moreau envelope"
    cost = "696: three steps at each of 232 levels"
    exactness = "no: flat prior in the inflated likelihood, and Langevin steps of finite size"
    independent_chains = True

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        num_levels: int = 232,
        num_steps: int = 3,
        step_size: float = 0.5,
        data_step: DataStep | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_levels < 2 or num_steps < 1:
            raise InputError(
                f"num_levels must be at least 2 and num_steps at least 1, got {num_levels} and "
                f"{num_steps}"
            )
        if not 0 < step_size < 2:
            raise InputError(
                "step_size must lie between 0 and 2, from where on Langevin steps diverge, got "
                f"{step_size}"
            )
        self.num_levels, self.num_steps, self.step_size = num_levels, num_steps, step_size
        self.data_step = data_step or GradientStep()

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Run all chains down the levels at once."""
        prior = target.prior
        data_score = self._data_score(target)
        levels = geometric_levels(prior.sigma_max, prior.sigma_min, self.num_levels).tolist()
        x = prior.pure_noise(self.num_samples, levels[0])
        for sigma in self.track(levels, self.num_levels):
            step = self.step_size * sigma**2
            for _ in range(self.num_steps):
                score = prior.score(x, sigma) + data_score(x, sigma)
                x = x + step * score + (2 * step) ** 0.5 * torch.randn_like(x)
            self.check_finite(x, f"sigma = {sigma:.3g}", "take a smaller step_size")
        return Draws(x)

    def _data_score(self, target: Target) -> Callable[[Tensor, float], Tensor]:
        """Gradient of the inflated log-likelihood, as a function of signals and level."""
        structure = target.structure
        if structure is None or structure.one_bit is None:
            self.data_step.prepare(target)

            def envelope(x: Tensor, sigma: float) -> Tensor:
                return (self.data_step(target, x, sigma) - x) / sigma**2

            return envelope
        form = structure.one_bit
        squared_norms = structure.operator.row_norms_squared.to(form.y)

        def inflated(x: Tensor, sigma: float) -> Tensor:
            with torch.enable_grad():
                t = structure.apply(x).requires_grad_()
                value = form.smoothed_log_likelihood(t, sigma**2 * squared_norms)
                (gradient,) = torch.autograd.grad(value.sum(), t)
            return structure.adjoint(gradient, x.shape[1:])

        return inflated
