r"""Two paths to the posterior, each guarding the other.

Annealed split-Gibbs SMC (:mod:`bayes1bit.infer.split_gibbs_smc`) goes down in the noise of the
data. Its weights are even and its evidence good to a fraction of a nat, unless the right mode is
so small a part of the early targets that no particle is there; then it misses it, and nothing in
the cloud shows that. Twisted SMC (:mod:`bayes1bit.infer.twisted_smc`) goes down in the noise of
the signal, looking ahead to the denoised one. It hardly ever misses a mode, but its weights are
uneven and its evidence is too low by some nats.

Both estimate the same p(y), without bias on the linear scale up to what their finite reverse
diffusions add. So two clouds may be pooled with their estimates as weights (islands, in the
language of particle methods); a cloud that has missed the mode that matters has an estimate far
below the other's, and no say. Any fixed average of the two is again an estimate without bias. Four
fifths go to the first path, whose estimate varies less.
"""

from collections.abc import Callable
from typing import Any

import torch

from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.prior_steps import PriorStep
from bayes1bit.infer.split_gibbs_smc import SplitGibbsSMC
from bayes1bit.infer.target import Target
from bayes1bit.infer.twisted_smc import TwistedSMC
from bayes1bit.weighted import resample

_SHARES = (0.8, 0.2)
"""Of split-Gibbs and twisted SMC in the average of their estimates of p(y)."""


class TwoPathSMC(Algorithm):
    """Split-Gibbs SMC and twisted SMC, pooled by their evidence.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of samples.
        explore: See :class:`~bayes1bit.infer.SplitGibbsSMC`.
        efficiency: See :class:`~bayes1bit.infer.SplitGibbsSMC`.
        twisted_explore: Particles per sample of the twisted path.
        num_levels: Noise levels of the twisted path.
        guidance: See :class:`~bayes1bit.infer.TwistedSMC`.
        inflation: See :class:`~bayes1bit.infer.TwistedSMC`.
        num_sweeps: Sweeps at the end of each path.
        prior_step: Prior step of all sweeps; ``ReverseDiffusion(12)`` by default.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range; when run, if the prior does not know its
            denoising error.
    """

    paper = "bayes1bit"
    assumptions = "prior with an error table; differentiable likelihood unless one-bit"
    cost = "250 to 300 for real pictures as components, more for data that say more"
    exactness = "as particles and levels grow and the reverse diffusion becomes exact"

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 64,
        *,
        explore: float = 6.0,
        efficiency: float = 0.8,
        twisted_explore: float = 2.0,
        num_levels: int = 20,
        guidance: float = 0.5,
        inflation: float = 2.0,
        num_sweeps: int = 4,
        prior_step: PriorStep | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_sweeps < 1:
            raise InputError(f"num_sweeps must be at least 1, got {num_sweeps}")
        self.explore, self.efficiency = explore, efficiency
        self.twisted_explore = twisted_explore
        self.num_levels, self.guidance, self.inflation = num_levels, guidance, inflation
        self.num_sweeps, self.prior_step = num_sweeps, prior_step
        self._paths = (
            SplitGibbsSMC(
                model,
                num_samples,
                explore=explore,
                efficiency=efficiency,
                num_sweeps=num_sweeps,
                prior_step=prior_step,
                progress=progress,
            ),
            TwistedSMC(
                model,
                num_samples,
                explore=twisted_explore,
                guidance=guidance,
                inflation=inflation,
                num_levels=num_levels,
                num_sweeps=num_sweeps,
                prior_step=prior_step,
                progress=progress,
            ),
        )

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Run both paths and pool their clouds."""
        clouds = [path.draw(target) for path in self._paths]
        samples = torch.cat([cloud.samples for cloud in clouds])
        log_evidences = [cloud.log_evidence for cloud in clouds if cloud.log_evidence is not None]
        estimates = torch.tensor(log_evidences, dtype=torch.float64)
        weights = (estimates.softmax(0) / self.num_samples).repeat_interleave(self.num_samples)
        kept = resample(weights, self.num_samples).to(samples.device)
        log_evidence = float((estimates + torch.tensor(_SHARES).log()).logsumexp(0))
        return Draws(samples[kept], log_evidence=log_evidence)
