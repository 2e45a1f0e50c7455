r"""The other latent sites of a model, as one vector of unconstrained numbers for each particle.

A model may draw more than the signal: the scale of the noise, a threshold, a gain for each channel
of a plate, hyperparameters of these. Samplers want them without bounds. Each site is mapped to its
support by torch's ``biject_to``, and the density of the unconstrained z has the Jacobian's factor,

.. math:: \log p(z) = \sum_j \log p(\theta_j) + \log |\partial \theta_j / \partial z_j|.

The map is applied inside the model, by a handler that answers the site. So the support of one site
may depend on the value of another, as in ``Uniform(0, width)`` with ``width`` unknown.
"""

import math
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.infer.sites import Site, innermost, pointwise_log_prob
from bayes1bit.infer.target import Target


class Parameters:
    """Unconstrained coordinates of all latent sites but the signal.

    Args:
        target: A target with other latent sites.

    Attributes:
        shapes: Shape of each site's unconstrained value, by name.
        size: Number d of all coordinates.

    Raises:
        InputError: If a site is discrete or has a diffusion prior itself, or its prior depends on
            the signal.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        prior = target.prior
        signals = torch.randn(2, *prior.event_shape, dtype=prior.dtype, device=prior.device)
        self.signal, other = signals
        with torch.no_grad():
            sites = target.sites(self.signal)
            for name in target.latents:
                _check_continuous(name, sites[name])
            values = {name: sites[name]["value"] for name in target.latents}
            moved = target.sites(other, values)
            for name in target.latents:
                if not torch.equal(*(pointwise_log_prob(s[name]) for s in (sites, moved))):
                    raise InputError(
                        f'the prior of site "{name}" depends on the signal "{target.site}": draw '
                        "it from a law of its own, and let the observed sites depend on both"
                    )
        self.shapes = {
            name: biject_to(sites[name]["fn"].support).inverse_shape(value.shape)
            for name, value in values.items()
        }
        self.size = sum(math.prod(shape) for shape in self.shapes.values())

    @torch.no_grad()
    def draw(self, num: int) -> Tensor:
        """Draw from the prior.

        Args:
            num: Number of draws.

        Returns:
            Unconstrained values, shape (num, d).

        Raises:
            InputError: If the signal's prior is another one in each run of the model.
        """
        # one at a time: samplers draw into fresh tensors in place, which vmap refuses
        return torch.stack([self._draw_one() for _ in range(num)])

    def _draw_one(self) -> Tensor:
        prior, trace = self.target.prior, self.target.trace(self.signal)
        drawn = innermost(trace.nodes[self.target.site]["fn"])
        if drawn.denoiser is not prior.denoiser:
            raise InputError(
                f'the prior of the signal "{self.target.site}" is made anew in each run of the '
                "model: make it outside of the model; it must not depend on other latent sites"
            )
        values = [
            biject_to(trace.nodes[name]["fn"].support).inv(trace.nodes[name]["value"]).flatten()
            for name in self.shapes
        ]
        return torch.cat(values).to(self.signal)

    def run(self, z: Tensor, x: Tensor) -> tuple[dict[str, Site], Tensor]:
        """Run the model at one signal and one set of parameters, also under ``torch.vmap``.

        Args:
            z: Unconstrained parameters, shape (d,).
            x: One signal, shape (*event).

        Returns:
            The observed and the other latent sites, and log p(z), a scalar.
        """
        parts = z.split([math.prod(shape) for shape in self.shapes.values()])
        values = {
            name: part.reshape(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        with _Coordinates(values) as coordinates:
            sites = self.target.sites(x)
        with pyro.validation_enabled(False):
            priors = [pointwise_log_prob(sites[name]).sum() for name in self.shapes]
        return sites, torch.stack([*priors, *coordinates.log_jacobians]).sum()

    def constrain(self, z: Tensor) -> dict[str, Tensor]:
        """Values of the sites.

        Args:
            z: Unconstrained parameters, shape (particles, d).

        Returns:
            Values by site, each with a leading particle dimension.
        """

        def one(z: Tensor) -> dict[str, Tensor]:
            sites, _ = self.run(z, self.signal)
            return {name: sites[name]["value"] for name in self.shapes}

        values: dict[str, Tensor] = torch.vmap(one, randomness="different")(z)
        return values

    def log_density(self, z: Tensor, x: Tensor, power: float) -> Tensor:
        """Log of p(z) times a power of the likelihood, shape (particles,).

        Args:
            z: Unconstrained parameters, shape (particles, d).
            x: Signals, shape (particles, *event).
            power: Power of the likelihood.
        """

        def one(z: Tensor, x: Tensor) -> Tensor:
            sites, log_prior = self.run(z, x)
            with pyro.validation_enabled(False):
                scores = [pointwise_log_prob(sites[name]).sum() for name in self.target.observed]
            return log_prior + power * torch.stack(scores).sum()

        value: Tensor = torch.vmap(one, randomness="different")(z, x)
        return value


class _Coordinates(Messenger):
    """Answer latent sites by unconstrained values, mapped to the site's support."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values
        self.log_jacobians: list[Tensor] = []

    def _pyro_sample(self, message: Any) -> None:
        if message["name"] in self.values:
            z, to_support = self.values[message["name"]], biject_to(message["fn"].support)
            message["value"], message["done"] = to_support(z), True
            self.log_jacobians.append(to_support.log_abs_det_jacobian(z, message["value"]).sum())


def _check_continuous(name: str, site: Site) -> None:
    distribution = innermost(site["fn"])
    if isinstance(distribution, DiffusionPrior):
        raise InputError(
            f'site "{name}" has a diffusion prior as the signal has: one signal is inferred at a '
            "time; fix the other with pyro.condition"
        )
    if site["fn"].support.is_discrete:
        raise InputError(
            f'site "{name}" is discrete ({type(distribution).__name__}), and unknown parameters '
            "must be continuous: sum over its values in the likelihood, as flip=... of OneBit "
            "does for bits that are wrong, or fix it with pyro.condition"
        )
