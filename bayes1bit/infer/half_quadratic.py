r"""The walk of half-quadratic splitting down the levels of a diffusion.

DiffPIR (Zhu et al., CVPRW 2023) and Diff-OneBit (Chen and Liu, AAAI 2026) share it and differ in
their data step, their levels and their settings. At each level :math:`\sigma` a step denoises,
brings the result into agreement with the data, and adds noise of the next level:

.. math::

    z &= D(x, \sigma)\\
    x_0 &= \arg\min_u\; \text{data}(u) + \frac{\lambda}{2 \sigma^2} \lVert u - z \rVert^2\\
    x &\leftarrow x_0 + \sigma' \left(\sqrt{1 - \zeta}\, (x - x_0) / \sigma
        + \sqrt{\zeta}\, \varepsilon\right), \quad \varepsilon \sim N(0, I)
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm
from bayes1bit.infer.steps import DataStep
from bayes1bit.infer.target import Target


class HalfQuadratic(Algorithm):
    """Base class of methods that walk this way; a subclass chooses the levels.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of runs from independent noise, processed in one batch.
        num_levels: Noise levels.
        lambda_: Weight of the prior.
        zeta: Share of fresh noise from one level to the next, between 0 (none) and 1.
        data_step: The data step.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int,
        *,
        num_levels: int,
        lambda_: float,
        zeta: float,
        data_step: DataStep,
        site: str | None,
        progress: bool,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_levels < 2:
            raise InputError(f"num_levels must be at least 2, got {num_levels}")
        if not lambda_ > 0:
            raise InputError(f"lambda_ must be positive, got {lambda_}")
        if not 0 <= zeta <= 1:
            raise InputError(f"zeta must lie between 0 and 1, got {zeta}")
        self.num_levels, self.lambda_, self.zeta = num_levels, lambda_, zeta
        self.data_step = data_step

    def walk(self, target: Target, levels: list[float]) -> Tensor:
        """Run all starts down the levels at once.

        Args:
            target: The target.
            levels: Levels from high to low, without the final zero.

        Returns:
            Signals, shape (num_samples, *event).
        """
        self.data_step.prepare(target)
        prior = target.prior
        x = prior.pure_noise(self.num_samples, levels[0])
        pairs = zip(levels, [*levels[1:], 0.0], strict=True)
        for sigma, sigma_next in self.track(pairs, self.num_levels):
            z = prior.denoise(x, sigma)
            x0 = self.data_step(target, z, sigma / self.lambda_**0.5)
            noise = (1 - self.zeta) ** 0.5 * (x - x0) / sigma
            noise = noise + self.zeta**0.5 * torch.randn_like(x)
            x = x0 + sigma_next * noise
            self.check_finite(x, f"sigma = {sigma:.3g}")
        return x
