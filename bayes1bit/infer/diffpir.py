r"""DiffPIR: plug-and-play restoration along the levels of a diffusion (Zhu et al., CVPRW 2023).

Half-quadratic splitting with a least-squares data term. At each level :math:`\sigma`, with
:math:`s` the standard deviation of the noise and :math:`\rho_\sigma = \lambda s^2 / \sigma^2`:

.. math::

    z &= D(x, \sigma)\\
    x_0 &= \arg\min_u\; \lVert y - A u \rVert^2 + \rho_\sigma \lVert u - z \rVert^2\\
    \hat\varepsilon &= (x - x_0) / \sigma\\
    x &\leftarrow x_0 + \sigma' \left(\sqrt{1 - \zeta}\, \hat\varepsilon
        + \sqrt{\zeta}\, \varepsilon\right), \quad \varepsilon \sim N(0, I)

The data term does not know of the quantizer: it takes bits for the values of
:math:`A x - \text{threshold}` (:mod:`bayes1bit.infer.misfit`). Diff-OneBit
(:mod:`bayes1bit.infer.diff_onebit`) is this loop with the exact likelihood in its place. The
paper walks 100 of its network's 1,000 steps; here the levels are in Karras spacing.
"""

from collections.abc import Callable
from typing import Any

import torch

from bayes1bit.diffusion import karras_levels
from bayes1bit.infer.algorithm import Draws
from bayes1bit.infer.half_quadratic import HalfQuadratic
from bayes1bit.infer.misfit import LeastSquaresStep
from bayes1bit.infer.steps import DataStep
from bayes1bit.infer.target import Target


class DiffPIR(HalfQuadratic):
    """DiffPIR, with its least-squares data step or with any other.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of runs from independent noise, processed in one batch.
        num_levels: Noise levels, in Karras spacing from the prior's largest to its smallest.
        lambda_: Weight of the prior; 8 to 10 in the published comparisons.
        zeta: Share of fresh noise from one level to the next, between 0 (none) and 1.
        data_step: ``LeastSquaresStep()``, as published, unless another is given;
            ``LeastSquaresStep("matched")`` gives the bits their natural scale. A likelihood that
            is not one-bit has no residual, and the step descends its exact gradient.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range.
    """

    paper = "Zhu et al., CVPR workshops 2023, arXiv 2305.08995"
    assumptions = "linear data; takes bits for linear data, any other likelihood by its gradient"
    cost = "100: one per level"
    exactness = "no: a point estimate of a linear model, blind to quantization"
    independent_chains = True

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        num_levels: int = 100,
        lambda_: float = 8.0,
        zeta: float = 0.3,
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
            data_step=data_step or LeastSquaresStep(),
            site=site,
            progress=progress,
        )

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Run all starts down the levels at once."""
        prior = target.prior
        levels = karras_levels(prior.sigma_max, prior.sigma_min, self.num_levels)
        return Draws(self.walk(target, levels.tolist()))
