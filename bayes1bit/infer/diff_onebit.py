r"""Diff-OneBit: plug-and-play recovery from one-bit measurements (Chen and Liu, AAAI 2026).

The problem of the posterior mode, :math:`\min_x -\log p(y \mid x) - \log p(x)` with the exact
one-bit likelihood in place of the quantizer, is split in the half-quadratic way and solved along
the noise levels of a diffusion prior. At each level :math:`\sigma`:

.. math::

    z &= D(x, \sigma) && \text{prior: Tweedie's posterior mean}\\
    x_0 &= \arg\min_u\; -\log p(y \mid u) + \frac{\lambda}{2 \sigma^2} \lVert u - z \rVert^2
        && \text{data}\\
    \hat\varepsilon &= (x - x_0) / \sigma\\
    x &\leftarrow x_0 + \sigma' \left(\sqrt{1 - \zeta}\, \hat\varepsilon
        + \sqrt{\zeta}\, \varepsilon\right), \quad \varepsilon \sim N(0, I)
        && \text{noise for the next level}\ \sigma'

It is an estimate of the mode from a random start, not a sampler: the spread of its runs says how
far the answer depends on the start, which is less than the posterior's own spread.
"""

from collections.abc import Callable
from typing import Any

import torch

from bayes1bit.diffusion import karras_levels
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Draws
from bayes1bit.infer.half_quadratic import HalfQuadratic
from bayes1bit.infer.moments import typical_distance
from bayes1bit.infer.steps import DataStep, GradientStep
from bayes1bit.infer.target import Target


class DiffOneBit(HalfQuadratic):
    """Diff-OneBit, with its own gradient steps or with any other data step.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of runs from independent noise, processed in one batch.
        num_levels: Noise levels, in Karras spacing down to the prior's smallest.
        sigma_max: First level. By default the typical distance of a signal from the prior's mean,
            ``sqrt(n * prior.error(prior.sigma_max))``: at higher levels signals cannot be told
            apart. Without an error table it is the prior's largest level.
        lambda_: Weight of the prior, the lambda of the paper: the data step may move a denoised
            signal by about ``sigma / sqrt(lambda)``.
        zeta: Share of fresh noise from one level to the next, between 0 (none) and 1.
        data_step: ``GradientStep(20)``, as published, unless another is given; ``ProximalStep()``
            is exact for row-orthogonal operators.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range.
    """

    paper = "Chen and Liu, AAAI 2026, arXiv 2511.12471"
    assumptions = "differentiable likelihood"
    cost = "50: one per level"
    exactness = "no: an estimate of the posterior mode from a random start"
    independent_chains = True

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        num_levels: int = 50,
        sigma_max: float | None = None,
        lambda_: float = 0.1,
        zeta: float = 1.0,
        data_step: DataStep | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(
            model,
            num_samples,
            num_levels=num_levels,
            lambda_=lambda_,
            zeta=zeta,
            data_step=data_step or GradientStep(),
            site=site,
            progress=progress,
        )
        if sigma_max is not None and not sigma_max > 0:
            raise InputError(f"sigma_max must be positive, got {sigma_max}")
        self.sigma_max = sigma_max

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Run all starts down the levels at once."""
        prior = target.prior
        first = self.sigma_max or typical_distance(prior)
        levels = karras_levels(first, prior.sigma_min, self.num_levels)
        return Draws(self.walk(target, levels.tolist()))
