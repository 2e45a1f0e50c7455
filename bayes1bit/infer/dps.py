r"""DPS: diffusion posterior sampling (Chung et al., ICLR 2023).

The ancestral step of the unconditional diffusion, pushed along the gradient of the data misfit at
the denoised signal :math:`D = D(x, \sigma)`, taken through the denoiser. From :math:`\sigma` to
:math:`\sigma'`, with :math:`k = 1 - \sigma'^2 / \sigma^2`:

.. math::

    x' = x + k (D - x) + \sigma' \sqrt{k}\, \varepsilon - g, \qquad \varepsilon \sim N(0, I)

*Least squares*, as published, :math:`g = \zeta\, \nabla_x \lVert y - A D \rVert` for a
variance-preserving diffusion, whose states are :math:`x / \sqrt{1 + \sigma^2}`. In the states of
this package that step is

.. math:: g = \zeta \sqrt{(1 + \sigma^2)(1 + \sigma'^2)}\; \nabla_x \lVert u - A D \rVert,

with pseudo-observations u made of the bits (:mod:`bayes1bit.infer.misfit`).

*Likelihood*: with :math:`p(y \mid x_\sigma)` taken as :math:`p(y \mid D)`, the conditional
denoiser is :math:`D + \sigma^2 \nabla_x \log p(y \mid D)`. Put into the ancestral step this gives
the natural step size, with nothing to tune:

.. math:: g = -(\sigma^2 - \sigma'^2)\, \nabla_x \log p(y \mid D(x, \sigma))

The published levels are the 1,000 of a variance-preserving network, linear in its variance, from
about 157 to 0.01. Here they are in Karras spacing, from the prior's largest to its smallest, and
the published step, which does not shrink with their spacing, depends on how many there are. Its
length does not depend on the size of the signal either: 0.3 is published for n = 196,608, and the
same share of a smaller signal would be :math:`0.3 \sqrt{n / 196608}`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayes1bit.diffusion import karras_levels
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.guidance import guided_denoise
from bayes1bit.infer.misfit import (
    LeastSquaresTarget,
    Misfit,
    Scaling,
    check_choice,
    least_squares,
)
from bayes1bit.infer.target import Target


class DPS(Algorithm):
    """Diffusion posterior sampling, with the published misfit or the exact likelihood.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of independent runs, processed in one batch.
        num_levels: Noise levels, in Karras spacing from the prior's largest to its smallest.
        misfit: ``"least-squares"``, as published, or ``"likelihood"``. A likelihood that is not
            one-bit has no residual and is always used itself.
        zeta: Step of the least-squares misfit, in the paper's units (its code takes 0.3 for
            linear problems).
        step: Step of the likelihood, as a multiple of the natural one.
        scaling: Scale of the bits in the least-squares misfit: ``"unit"``, as published, or
            ``"matched"``.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range.
    """

    paper = "Chung et al., ICLR 2023, arXiv 2209.14687"
    assumptions = "linear data, of which bits are taken for, or a differentiable likelihood"
    cost = "2000: one call and one backward pass for each of 1000 levels"
    exactness = "no: the likelihood of a noisy signal is taken as that of its denoised one"
    independent_chains = True

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        num_levels: int = 1000,
        misfit: Misfit = "least-squares",
        zeta: float = 0.3,
        step: float = 1.0,
        scaling: Scaling = "unit",
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_levels < 2:
            raise InputError(f"num_levels must be at least 2, got {num_levels}")
        if not (zeta > 0 and step > 0):
            raise InputError(f"zeta and step must be positive, got {zeta} and {step}")
        check_choice("misfit", misfit, Misfit)
        check_choice("scaling", scaling, Scaling)
        self.num_levels, self.misfit, self.zeta = num_levels, misfit, zeta
        self.step, self.scaling = step, scaling

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Run all chains down the levels at once."""
        prior = target.prior
        if self.misfit == "least-squares":
            target = least_squares(target, self.scaling)
        levels = karras_levels(prior.sigma_max, prior.sigma_min, self.num_levels).tolist()
        x = prior.pure_noise(self.num_samples, levels[0])
        log_weight: Callable[[Tensor], Tensor] = target.log_likelihood
        if isinstance(target, LeastSquaresTarget):
            data = target.data

            def log_weight(clean: Tensor) -> Tensor:
                return -data.residual(clean).norm(dim=1)

        pairs = zip(levels, [*levels[1:], 0.0], strict=True)
        for sigma, sigma_next in self.track(pairs, self.num_levels):
            guided = guided_denoise(prior, x, sigma, log_weight)
            k = 1 - (sigma_next / sigma) ** 2
            x = torch.lerp(x, guided.clean, k) + sigma_next * k**0.5 * torch.randn_like(x)
            if isinstance(target, LeastSquaresTarget):
                step = self.zeta * ((1 + sigma**2) * (1 + sigma_next**2)) ** 0.5
            else:
                step = self.step * (sigma**2 - sigma_next**2)
            x = x + step * guided.gradient
            self.check_finite(x, f"sigma = {sigma:.3g}", "take more levels or a smaller step")
        return Draws(x)
