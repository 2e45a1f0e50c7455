r"""Pyro's No-U-Turn sampler on the posterior of a diffusion prior (Hoffman and Gelman, JMLR 2014).

Hamiltonian Monte Carlo needs the log density of the prior and its gradient,

.. math:: U(x) = -\log p(x) - \log p(y \mid x).

A Gaussian mixture has them in closed form. For every other prior the density is that of the
probability flow (:mod:`bayes1bit.diffusion.flow`), thousands of denoiser calls for one gradient,
and exact only where the trace is: this is a reference for low dimensions, to judge faster samplers
by.
"""

from collections.abc import Callable
from typing import Any

import pyro.infer
import torch
from torch import Tensor

from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.diffusion.prior import EXACT_TRACE_DIMENSIONS
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.target import Target


class NUTS(Algorithm):
    """Pyro's NUTS, with step size and diagonal mass matrix adapted during warm-up.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of draws in all, in the order of the chains.
        num_chains: Chains, run one after another from independent draws of the prior; a divisor
            of ``num_samples``.
        num_warmup: Steps of each chain before its first draw.
        target_accept_prob: Acceptance probability that the step size is adapted to.
        max_tree_depth: Most doublings of a trajectory, which has up to two to this power steps.
        flow_steps: Runge-Kutta steps of the prior's log density, where it has no closed form.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range; when run, if the prior has more than 64
            dimensions and is no mixture.
    """

    paper = "Hoffman and Gelman, JMLR 2014"
    assumptions = "differentiable likelihood; at most 64 dimensions unless the prior is a mixture"
    cost = "0 if the prior is a mixture; otherwise thousands"
    exactness = "yes, as draws grow; it does not cross between far modes"

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 400,
        *,
        num_chains: int = 4,
        num_warmup: int = 200,
        target_accept_prob: float = 0.8,
        max_tree_depth: int = 10,
        flow_steps: int = 20,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_chains < 1 or num_samples % num_chains:
            raise InputError(
                f"num_chains must divide num_samples, got {num_chains} and {num_samples}"
            )
        if num_warmup < 0:
            raise InputError(f"num_warmup must not be negative, got {num_warmup}")
        if not 0 < target_accept_prob < 1:
            raise InputError(
                f"target_accept_prob must lie between 0 and 1, got {target_accept_prob}"
            )
        if max_tree_depth < 1 or flow_steps < 1:
            raise InputError(
                "max_tree_depth and flow_steps must be at least 1, got "
                f"{max_tree_depth} and {flow_steps}"
            )
        self.num_chains, self.num_warmup = num_chains, num_warmup
        self.target_accept_prob, self.max_tree_depth = target_accept_prob, max_tree_depth
        self.flow_steps = flow_steps

    def draw(self, target: Target) -> Draws:
        """Run the chains one after another."""
        prior = target.prior
        n = prior.event_shape.numel()
        if n > EXACT_TRACE_DIMENSIONS and not isinstance(prior, GaussianMixturePrior):
            raise InputError(
                f"NUTS needs the log density of the prior, which in {n} dimensions (more than "
                f"{EXACT_TRACE_DIMENSIONS}) is exact for a GaussianMixturePrior alone; use "
                "SplitGibbs or Langevin"
            )
        samples = []
        for chain in self.track(range(self.num_chains), self.num_chains, "chain"):
            kernel = pyro.infer.NUTS(
                potential_fn=lambda state: potential_energy(target, state["x"], self.flow_steps),
                target_accept_prob=self.target_accept_prob,
                max_tree_depth=self.max_tree_depth,
            )
            mcmc = pyro.infer.MCMC(
                kernel,
                num_samples=self.num_samples // self.num_chains,
                warmup_steps=self.num_warmup,
                initial_params={"x": prior.sample()},
                disable_progbar=True,
            )
            mcmc.run()
            samples.append(mcmc.get_samples()["x"].detach())
            self.check_finite(samples[-1], f"chain {chain + 1}", "take more warm-up steps")
        return Draws(torch.cat(samples), num_chains=self.num_chains)


def potential_energy(target: Target, x: Tensor, flow_steps: int) -> Tensor:
    """Negative log posterior density of one signal, but for a constant.

    Args:
        target: The posterior.
        x: Signal, shape (*event).
        flow_steps: Runge-Kutta steps of the prior's log density, where it is that of a flow.

    Returns:
        Energy in nats, a scalar, differentiable in ``x``.
    """
    structure, x = target.structure, x[None]
    if structure is None:
        log_likelihood = target.log_likelihood(x)
    else:
        log_likelihood = structure.log_likelihood(structure.apply(x)).sum(1)
    return -(target.prior.log_prob(x, num_steps=flow_steps) + log_likelihood)[0]
