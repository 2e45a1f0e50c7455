r"""Annealed split-Gibbs SMC: from the prior to the posterior by reweighting and exact sweeps.

The whole path of :mod:`bayes1bit.infer.annealed_smc`, from a cloud that is drawn from the prior.

Which modes are found is decided in the middle of the path. At its top a sweep forgets nearly
everything, and at its bottom no sweep leaves its mode. So the number of particles follows w, the
length of a sweep's reverse diffusion between that of the last sweep (w = 0) and a walk from pure
noise (w = 1):

.. math:: N(w) = N \left(1 + w + e \cdot 4 w (1 - w)\right).

A mode is missed if no particle is there when sweeps can no longer reach it.
:mod:`bayes1bit.infer.lookahead_smc` covers that part of the path in another way.

Most calls are made high on the path, where a sweep is a long walk and particles are many. A second
prior whose denoiser is cheap, the *draft*, can make the walks there, and the model's own prior
those at couplings of ``exact_below`` and less. What that does to the law:

* until the switch the path's targets are those of the draft, :math:`\tilde p(x) L_u(x)`, and so is
  that part of the evidence: the probability of the softened data under the draft;
* from the switch on, sweeps leave the targets of the model's own prior invariant, the posterior
  among them. No weight belongs to the change of priors: weights see the data alone, and diffusion
  priors have no densities to weight with. The cloud at the switch is one of the draft's target,
  which sweeps correct as far as they mix;
* one sweep at the coupling :math:`\rho` draws anew all that noise of level :math:`\rho` hides, by
  the model's own prior. What is left of the draft is what its denoiser says at levels above.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior, count_evaluations
from bayes1bit.diffusion.mixed import check_alike, switch_level
from bayes1bit.errors import InputError
from bayes1bit.infer.annealed_smc import AnnealedSMC
from bayes1bit.infer.annealing import Path
from bayes1bit.infer.prior_steps import PriorStep
from bayes1bit.infer.target import Target
from bayes1bit.posterior import Posterior
from bayes1bit.weighted import Scheme

_MARGIN = 2.0
"""Neighbouring couplings of the path are up to this factor apart."""


class SplitGibbsSMC(AnnealedSMC):
    """Annealed split-Gibbs SMC with as many particles as a level needs.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number N of particles at the end of the path.
        explore: The e above: how many more particles there are where modes are decided.
        efficiency: Effective share of particles that each level keeps; higher values make more
            and shorter levels.
        num_sweeps: Sweeps at the end, which leave the posterior invariant and part the copies
            that resampling made.
        prior_step: Prior step of the sweeps; ``ReverseDiffusion(12)`` by default.
        resampling: Resampling scheme.
        draft: A cheap prior of the same signals for the first cloud and for sweeps at couplings
            above ``exact_below``; by default the model's own prior makes all.
        exact_below: Coupling rho, in units of the signal, at and below which sweeps are those of
            the model's own prior; the final sweeps always are. By default twice the level down to
            which the draft is as good (:func:`~bayes1bit.diffusion.mixed.switch_level`), so that
            the first exact sweep still draws anew all that the draft does worse.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range, or ``exact_below`` is given without a draft;
            when run, if the draft is not a prior of the same signals, or ``exact_below`` is not
            given and a prior does not know its denoising error, or the draft is good at no level.
    """

    paper = "bayes1bit; after Del Moral, Doucet and Jasra, JRSS B 2006"
    assumptions = "none for one-bit data; otherwise a differentiable likelihood"
    cost = (
        "150 to 350: about 20 levels of 12 to 2 steps; 700 and more with trained priors or data "
        "that say more"
    )
    exactness = (
        "as particles grow and the reverse diffusion becomes exact; with gradients only, of a "
        "posterior that a small coupling smooths"
    )
    takes_parameters = True

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 64,
        *,
        explore: float = 10.0,
        efficiency: float = 0.8,
        num_sweeps: int = 4,
        prior_step: PriorStep | None = None,
        resampling: Scheme = "systematic",
        draft: DiffusionPrior | None = None,
        exact_below: float | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(
            model,
            num_samples,
            efficiency=efficiency,
            num_sweeps=num_sweeps,
            prior_step=prior_step,
            resampling=resampling,
            site=site,
            progress=progress,
        )
        if explore < 0:
            raise InputError(f"explore must not be negative, got {explore}")
        if exact_below is not None:
            if draft is None:
                raise InputError("exact_below says where a draft ends: give draft=... as well")
            if not exact_below > 0:
                raise InputError(f"exact_below must be positive, got {exact_below}")
        self.explore, self.draft, self.exact_below = explore, draft, exact_below

    def run(self, *args: Any, **kwargs: Any) -> Posterior:
        """Draw from the posterior; see :meth:`Algorithm.run`.

        ``nfe`` counts calls of the model's own prior. With a draft, the posterior's attribute
        ``draft_nfe`` has those of the draft's denoiser, also per posterior sample (all of them,
        so they are in both counts where the model's own prior is mixed with the draft).
        """
        if self.draft is None:
            return super().run(*args, **kwargs)
        with count_evaluations(self.draft) as calls:
            posterior = super().run(*args, **kwargs)
        draft_nfe = calls.signals / len(posterior.samples)
        return replace(posterior, attributes={**posterior.attributes, "draft_nfe": draft_nfe})

    def sweep_prior(self, target: Target, path: Path, u: float) -> DiffusionPrior:
        """The draft at couplings above ``exact_below``."""
        if self.draft is None or u == 0:
            return target.prior
        below = self.exact_below
        if below is None:
            below = _MARGIN * switch_level(self.draft, target.prior)
        # at the top nothing is coupled, though some paths bound their coupling
        return self.draft if u == math.inf or path.coupling(u) > below else target.prior

    def first_cloud(self, target: Target, path: Path) -> tuple[Tensor, float, float]:
        """Draws of the prior, or of its draft, at the top of the path."""
        if self.draft is not None:
            check_alike(self.draft, target.prior, "draft", "model's")
        prior = self.sweep_prior(target, path, math.inf)
        x = self.prior_step.start(prior, 2 * self.num_samples)
        top = path.log_likelihood(path.features(x[:1]), math.inf)
        return x, math.inf, float(top)

    def num_particles(self, target: Target, path: Path, u: float) -> int:
        """See the formula above."""
        w = self.walk_length(target, path, u)
        return round(self.num_samples * (1 + w + self.explore * 4 * w * (1 - w)))
