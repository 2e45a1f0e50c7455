r"""Gibbs sampling of a signal and the unknown parameters of its measurement.

A model may leave more open than the signal x: how noisy the sensor is, where its threshold lies,
how much each channel amplifies. With these other latent sites together as :math:`\theta`, chains
alternate between two conditional laws of the joint posterior,

.. math::

    x \mid \theta, y &\sim p(x)\, p(y \mid x, \theta) \\
    \theta \mid x, y &\sim p(\theta)\, p(y \mid x, \theta),

by transitions that leave them invariant (Geman and Geman, IEEE TPAMI 1984; Tierney, Annals of
Statistics 1994). The signal's is the move of another algorithm of the package, such as the sweep
of split Gibbs sampling. It moves all chains at once, each with parameters of its own. The
parameters' is slice sampling, or Pyro's NUTS or HMC (:mod:`bayes1bit.infer.parameter_steps`). It
never calls the denoiser.

Posteriors of signals have many modes, and no chain crosses between them. So chains start where an
annealed SMC sampler of both, :math:`(x, \theta)`, leaves them
(:class:`~bayes1bit.infer.split_gibbs_smc.SplitGibbsSMC`): it begins with parameters from their
prior. With ``signal="split-gibbs-smc"`` its particles are the answer, and the average weights
estimate p(y) with the parameters integrated out.

What bits say of scales: signs about zero do not change when signal and noise are multiplied by the
same number. Then only the signal's prior tells the two apart. Thresholds other than zero (dither)
make the noise's scale known.
"""

from collections.abc import Callable
from copy import copy
from typing import Any, Literal

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.joint_path import JointPath
from bayes1bit.infer.parameter_steps import HamiltonianStep, ParameterStep
from bayes1bit.infer.prior_steps import PriorStep, ReverseDiffusion
from bayes1bit.infer.split_gibbs_smc import SplitGibbsSMC
from bayes1bit.infer.target import Target

_PARTICLES = 32
"""Particles of the start, unless there are more chains."""


class JointGibbs(Algorithm):
    """Gibbs sampling of the signal and all other continuous latent sites of a model.

    Args:
        model: A Pyro model with one diffusion site and other latent sites.
        num_samples: Number of draws in all, in the order of the chains.
        signal: The algorithm whose move draws the signal: a name with settings, as
            :func:`~bayes1bit.infer.registry.make_algorithm` takes it, a class, or an instance.
            "split-gibbs" and "langevin" have such a move, "split-gibbs-smc" draws parameters as
            well.
        nuisance: How the other sites are drawn: "slice" for few, "nuts" or "hmc" for many or for
            those that depend on each other.
        num_chains: Chains, processed in one batch; a divisor of ``num_samples``.
        num_particles: Particles of the SMC sampler that chains start from, at random: the more,
            the surer it is that the right modes are among them. By default 32, but one for each
            chain at least.
        num_warmup: Sweeps of each chain before its first draw; steps adapt in them.
        num_sweeps: Sweeps from one draw to the next.
        prior_step: Prior step of the start and of split Gibbs sweeps; ``ReverseDiffusion(12)`` by
            default.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range, or the signal's algorithm has no move that
            leaves p(x | y) invariant; when run, if a latent site is discrete or its prior depends
            on the signal.
    """

    paper = "bayes1bit; Geman and Geman, IEEE TPAMI 1984; Neal, Ann. Stat. 2003"
    assumptions = "continuous other sites; differentiable likelihood unless one-bit"
    cost = (
        "85 to 150: 8 chains of 250 sweeps of 1 or 2 calls, for 50 draws each, 1000 to 1600 calls "
        "for each of 32 particles of the start"
    )
    exactness = (
        "as sweeps grow and the reverse diffusion becomes exact, within the modes of the start; "
        "with gradients only, of a posterior that a small coupling smooths"
    )
    takes_parameters = True

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 400,
        *,
        signal: str | type[Algorithm] | Algorithm = "split-gibbs",
        nuisance: Literal["slice", "nuts", "hmc"] = "slice",
        num_chains: int = 8,
        num_particles: int | None = None,
        num_warmup: int = 50,
        num_sweeps: int = 4,
        prior_step: PriorStep | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if nuisance not in ("slice", "nuts", "hmc"):
            raise InputError(f'nuisance must be "slice", "nuts" or "hmc", got {nuisance!r}')
        if num_warmup < 0:
            raise InputError(f"num_warmup must not be negative, got {num_warmup}")
        if num_sweeps < 1:
            raise InputError(f"num_sweeps must be at least 1, got {num_sweeps}")
        self.nuisance, self.num_warmup, self.num_sweeps = nuisance, num_warmup, num_sweeps
        self.prior_step = prior_step or ReverseDiffusion(12)
        self._algorithm = self._make(signal)
        self.signal = signal if isinstance(signal, str) else _described(self._algorithm)
        if self._algorithm.takes_parameters:
            self.num_chains, self.num_particles = 1, num_samples
            return
        if num_chains < 1 or num_samples % num_chains:
            raise InputError(
                f"num_chains must divide num_samples, got {num_chains} and {num_samples}"
            )
        if num_particles is not None and num_particles < num_chains:
            raise InputError(
                f"num_particles must be at least num_chains, got {num_particles} for "
                f"{num_chains} chains"
            )
        self.num_chains = num_chains
        self.num_particles = num_particles or max(_PARTICLES, num_chains)
        self._algorithm.move(self.prior_step)  # which says if it has none

    def _make(self, signal: str | type[Algorithm] | Algorithm) -> Algorithm:
        """The signal's algorithm, for this model."""
        from bayes1bit.infer.registry import make_algorithm

        if isinstance(signal, Algorithm):
            algorithm = copy(signal)
        elif isinstance(signal, str):
            algorithm = make_algorithm(signal, self.model)
        elif isinstance(signal, type) and issubclass(signal, Algorithm):
            algorithm = signal(self.model)
        else:
            raise InputError(
                "signal must be the name, the class or an instance of an algorithm, got "
                f"{type(signal).__name__}"
            )
        if isinstance(algorithm, JointGibbs):
            raise InputError("signal must be an algorithm of the signal, not JointGibbs itself")
        algorithm.model, algorithm.site = self.model, self.site
        algorithm.num_samples, algorithm.progress = self.num_samples, self.progress
        return algorithm

    def draw(self, target: Target) -> Draws:
        """Start all chains by SMC, then run them at once."""
        if not target.latents:
            raise InputError(
                "JointGibbs infers other latent sites beside the signal, but this model has none: "
                "use SplitGibbsSMC or another algorithm of the signal"
            )
        if self._algorithm.takes_parameters:
            return self._algorithm.draw(target)
        start = SplitGibbsSMC(
            self.model, self.num_particles, prior_step=self.prior_step, progress=self.progress
        )
        x, path, _ = start.walk(target)
        chosen = torch.randperm(len(x))[: self.num_chains].to(x.device)
        x, path = x[chosen], path.select(chosen)
        assert isinstance(path, JointPath)
        path.step = self._parameter_step(path.step)
        move = self._algorithm.move(self.prior_step)
        signals, coordinates = [], []
        num_draws = self.num_samples // self.num_chains
        total = self.num_warmup + num_draws * self.num_sweeps
        for i in self.track(range(1, total + 1), total, "sweep"):
            x = move(path.given, path, x, adapting=i <= self.num_warmup)
            self.check_finite(x, f"sweep {i}", "take another prior step")
            path = path.update(x, 0.0)
            self.check_finite(path.z, f"sweep {i}", "give the parameters proper priors")
            if i > self.num_warmup and (i - self.num_warmup) % self.num_sweeps == 0:
                signals.append(x)
                coordinates.append(path.z)
        latents = path.at(_by_chain(coordinates)).latents
        return Draws(_by_chain(signals), latents=latents, num_chains=self.num_chains)

    def _parameter_step(self, slices: ParameterStep) -> ParameterStep:
        """The step of the chains; slice sampling goes on with the start's own."""
        if self.nuisance == "slice":
            return slices
        return HamiltonianStep(self.nuisance, self.num_warmup)


def _described(algorithm: Algorithm) -> str:
    """Name and settings of an algorithm, as they go into the posterior file."""
    settings = ", ".join(f"{name}={value}" for name, value in algorithm.settings().items())
    return f"{type(algorithm).__name__}({settings})"


def _by_chain(draws: list[Tensor]) -> Tensor:
    """Draws of all chains, one chain after the other, shape (chains * draws, *any)."""
    return torch.stack(draws, 1).flatten(0, 1)
