r"""DAPS: decoupled annealing posterior sampling (Zhang et al., CVPR 2025).

Levels are decoupled: each starts from a clean signal with fresh noise, so that large errors of
early levels can be corrected later. At each annealing level :math:`\sigma`:

.. math::

    \hat x_0 &= \text{probability-flow ODE from } x \text{ at } \sigma \text{ down to } 0\\
    x_0 &\sim p(y \mid x_0)\, N(x_0; \hat x_0, r^2 I), \quad r = \sigma\\
    x &\leftarrow x_0 + \sigma' \varepsilon, \quad \varepsilon \sim N(0, I)

The paper draws :math:`x_0` by 100 Langevin steps. Its likelihood is
:math:`\exp(-\lVert y - A x_0 \rVert^2 / (2 \tau^2))`; the authors' code gives its Langevin the
gradient of :math:`\lVert \cdot \rVert^2 / \tau^2`, twice that, and only its Metropolis variant the
temperature of the paper. Here the likelihood is the model's own, or the paper's with
``misfit="least-squares"``, where the variance of the pseudo-observations
(:mod:`bayes1bit.infer.misfit`) stands for :math:`\tau^2`.
"""

from collections.abc import Callable
from typing import Any

import torch

from bayes1bit.diffusion import karras_levels
from bayes1bit.diffusion.solvers import DDIM, ReverseSolver
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.data_steps import LangevinStep
from bayes1bit.infer.misfit import Misfit, Scaling, check_choice, least_squares
from bayes1bit.infer.steps import DataStep
from bayes1bit.infer.target import Target


class DAPS(Algorithm):
    """Decoupled annealing, in its version of 1,000 denoiser calls.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of independent chains, processed in one batch.
        num_levels: Annealing levels, in Karras spacing from the prior's largest.
        sigma_last: Last annealing level, 0.1 in the paper; the prior's smallest if that is larger.
        num_ode_steps: Steps of the reverse solver at each level.
        data_step: ``LangevinStep(100)``, as published, unless another is given; ``ExactStep()`` is
            exact for one-bit data of a row-orthogonal operator.
        misfit: ``"likelihood"``, exact, or ``"least-squares"``, as published. A likelihood that is
            not one-bit has no residual and is always used itself.
        scaling: Scale of the bits in the least-squares misfit: ``"unit"``, as published, or
            ``"matched"``.
        solver: Solver of the ODE, Euler's method unless another is given.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range, or ``sigma_last`` is not below the prior's
            largest level.
    """

    paper = "Zhang et al., CVPR 2025, arXiv 2407.01521"
    assumptions = "differentiable likelihood"
    cost = "1000: five ODE steps for each of 200 levels"
    exactness = "no: the clean signal given a noisy one is taken as a normal about an ODE solution"
    independent_chains = True

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        num_levels: int = 200,
        sigma_last: float = 0.1,
        num_ode_steps: int = 5,
        data_step: DataStep | None = None,
        misfit: Misfit = "likelihood",
        scaling: Scaling = "unit",
        solver: ReverseSolver | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_levels < 2:
            raise InputError(f"num_levels must be at least 2, got {num_levels}")
        if num_ode_steps < 1:
            raise InputError(f"num_ode_steps must be at least 1, got {num_ode_steps}")
        if not sigma_last > 0:
            raise InputError(f"sigma_last must be positive, got {sigma_last}")
        check_choice("misfit", misfit, Misfit)
        check_choice("scaling", scaling, Scaling)
        self.num_levels, self.sigma_last = num_levels, sigma_last
        self.num_ode_steps, self.misfit, self.scaling = num_ode_steps, misfit, scaling
        self.data_step = data_step or LangevinStep(100)
        self.solver = solver or DDIM(0.0)

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Run all chains down the annealing levels at once."""
        prior = target.prior
        if self.misfit == "least-squares":
            target = least_squares(target, self.scaling)
        self.data_step.prepare(target)
        last = max(self.sigma_last, prior.sigma_min)
        levels = karras_levels(prior.sigma_max, last, self.num_levels).tolist()
        x = prior.pure_noise(self.num_samples, levels[0])
        pairs = zip(levels, [*levels[1:], 0.0], strict=True)
        for sigma, sigma_next in self.track(pairs, self.num_levels):
            estimate = self.solver(prior, x, prior.levels(sigma, self.num_ode_steps))
            x0 = self.data_step(target, estimate, sigma)
            x = x0 + sigma_next * torch.randn_like(x0)
            self.check_finite(x, f"sigma = {sigma:.3g}", "take a smaller step in data_step")
        return Draws(x)
