r"""The target of inference: a user's Pyro model as a likelihood of its diffusion site.

:meth:`Target.from_model` runs the model once to find the site whose prior is a
:class:`~bayes1bit.diffusion.DiffusionPrior` and the observed sites. Afterwards the model is only
ever run with the signal given, so that every run scores the observed sites and draws nothing. Runs
are vectorised over particles with ``torch.vmap``: the model sees one signal at a time, in exactly
the shape that the prior gives it, whatever plates it has.

Whether the likelihood has structure that algorithms can use is found by
:func:`bayes1bit.infer.structure.find_structure`.
"""

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.infer.sites import (
    Site,
    check_observed,
    innermost,
    pointwise_log_prob,
    signal_site,
)
from bayes1bit.infer.structure import Structure, find_structure


class _CheapSignal(Messenger):
    """Give diffusion sites a rough value, so that tracing a model needs no reverse diffusion."""

    def _pyro_sample(self, message: Site) -> None:
        prior = innermost(message["fn"])
        if isinstance(prior, DiffusionPrior) and message["value"] is None:
            shape = message["fn"].shape()
            message["value"] = torch.randn(shape, dtype=prior.dtype, device=prior.device)
            message["done"] = True


class Target:
    """A Pyro model with one diffusion site, seen from that site.

    Attributes:
        model: The Pyro model.
        arguments: Positional arguments that it is called with.
        keywords: Keyword arguments that it is called with.
        prior: The diffusion prior of the signal.
        site: Name of the signal's site.
        observed: Observed values by site name.
        latents: Names of the other latent sites; values for them must be given to every method
            that evaluates the likelihood.
        structure: The recognised :class:`~bayes1bit.infer.structure.Structure`, or None when only
            gradients can be used.
        obstacle: Why there is no structure, in a few words; empty if there is one, or if other
            latent sites need values before it can be looked for.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        prior: DiffusionPrior,
        site: str,
        observed: dict[str, Tensor],
        latents: tuple[str, ...],
    ) -> None:
        self.model, self.arguments, self.keywords = model, arguments, keywords
        self.prior, self.site, self.observed, self.latents = prior, site, observed, latents
        self.structure: Structure | None = None
        self.obstacle = ""

    @classmethod
    def from_model(
        cls, model: Callable[..., Any], *args: Any, site: str | None = None, **kwargs: Any
    ) -> "Target":
        """Find the signal, the data and the structure of a model.

        Args:
            model: A Pyro model, conditioned on its data by ``obs=`` or ``pyro.condition``.
            args: Positional arguments of the model.
            site: Name of the signal's site, needed only if several have a diffusion prior.
            kwargs: Keyword arguments of the model.

        Raises:
            InputError: If the model has no latent diffusion site, or several and ``site`` does not
                say which; if that site stands in a plate; if nothing is observed; or if an
                observed value does not have the shape of its distribution or a value that it can
                take.
        """
        with torch.no_grad(), _CheapSignal():
            trace = poutine.trace(model).get_trace(*args, **kwargs)
        sites = {
            name: node
            for name, node in trace.nodes.items()
            if node["type"] == "sample"
            and not poutine.util.site_is_subsample(node)
            and not node["infer"].get("_deterministic")
        }
        signal = signal_site(sites, site)
        prior = innermost(sites[signal]["fn"])
        observed = {
            name: node
            for name, node in sites.items()
            if node["is_observed"] and not isinstance(innermost(node["fn"]), DiffusionPrior)
        }
        if not observed:
            raise InputError(
                "the model observes nothing: pass the data as the model expects it, so that a "
                "sample statement gets obs=..., or use pyro.condition"
            )
        for name, node in observed.items():
            check_observed(name, node)
        target = cls(
            model,
            args,
            kwargs,
            prior,
            signal,
            {name: node["value"] for name, node in observed.items()},
            tuple(
                name for name, node in sites.items() if not node["is_observed"] and name != signal
            ),
        )
        if not target.latents:
            target.structure, target.obstacle = find_structure(target)
        return target

    def log_likelihood(self, x: Tensor, latents: Mapping[str, Tensor] | None = None) -> Tensor:
        """Log-likelihood of all data for each particle.

        Args:
            x: Signals, shape (particles, *event).
            latents: Values of the other latent sites, each with a leading particle dimension.

        Returns:
            Log-likelihood in nats, shape (particles,).

        Raises:
            InputError: If the shape of ``x`` is not that of signals, or values of latent sites
                are missing.
        """
        return self._vectorised(_total, x, latents)

    def log_joint(self, x: Tensor, latents: Mapping[str, Tensor] | None = None) -> Tensor:
        """Log-likelihood of all data plus the log prior of the other latent sites.

        Args:
            x: Signals, shape (particles, *event).
            latents: See :meth:`log_likelihood`.

        Returns:
            Log density in nats, shape (particles,), to which the signal's prior is to be added.
        """
        return self._vectorised(_total, x, latents, self.sites)

    def value_and_gradient(
        self, x: Tensor, latents: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-likelihood of each particle and its gradient with respect to the signal.

        One-bit data of one site are scored in their normal form, which needs no run of the model.

        Args:
            x: Signals, shape (particles, *event).
            latents: See :meth:`log_likelihood`.

        Returns:
            Log-likelihood, shape (particles,), and gradient, shape of ``x``.
        """
        structure = self.structure
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            if structure is not None and structure.one_bit is not None and len(self.observed) == 1:
                self._check(x, latents)
                value = structure.log_likelihood(structure.apply(x)).sum(1)
            else:
                value = self.log_likelihood(x, latents)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    def pointwise_log_likelihood(
        self, x: Tensor, latents: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Log-likelihood of every measurement, by observed site.

        Args:
            x: Signals, shape (particles, *event).
            latents: See :meth:`log_likelihood`.

        Returns:
            Tensors of shape (particles, *measurements), one entry for each independent measurement
            of the site.
        """
        return self._vectorised(_pointwise, x, latents)

    @torch.no_grad()
    def posterior_predictive(
        self, x: Tensor, latents: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Draw new data for each particle.

        Args:
            x: Signals, shape (particles, *event).
            latents: See :meth:`log_likelihood`.

        Returns:
            Draws of each observed site, shape (particles, *site).
        """
        # one particle at a time: samplers draw into fresh tensors in place, which vmap refuses
        self._check(x, latents)
        draws: dict[str, list[Tensor]] = {name: [] for name in self.observed}
        for i, signal in enumerate(x):
            values = {name: value[i] for name, value in (latents or {}).items()}
            for name, node in self.observed_sites(signal, values).items():
                draws[name].append(node["fn"].sample())
        return {name: torch.stack(values) for name, values in draws.items()}

    def describe(self) -> str:
        """One line for the posterior's attributes: the structure that was found, or why none."""
        target = self.fixed() if self.latents else self
        return str(target.structure or f"gradients only: {target.obstacle}")

    def fixed(self, latents: Mapping[str, Tensor] | None = None) -> "Target":
        """The target of the same model, with one value for each other latent site.

        Args:
            latents: The values, without a particle dimension; None draws them from their prior.
        """
        if latents is None:
            x = torch.zeros(self.prior.event_shape, dtype=self.prior.dtype)
            sites = self.sites(x.to(self.prior.device))
            latents = {name: sites[name]["value"].detach() for name in self.latents}
        fixed = copy(self)
        fixed.model, fixed.latents = poutine.condition(self.model, data=dict(latents)), ()
        fixed.structure, fixed.obstacle = find_structure(fixed)
        return fixed

    def observed_sites(
        self, x: Tensor, latents: Mapping[str, Tensor] | None = None
    ) -> dict[str, Site]:
        """Run the model at one signal and return its observed sites, as Pyro's trace has them.

        Args:
            x: One signal, shape (*event).
            latents: Values of the other latent sites.
        """
        sites = self.sites(x, latents)
        return {name: sites[name] for name in self.observed}

    def sites(self, x: Tensor, latents: Mapping[str, Tensor] | None = None) -> dict[str, Site]:
        """Run the model at one signal and return its observed and its other latent sites.

        Args:
            x: One signal, shape (*event).
            latents: Values of the other latent sites; those that are left out are drawn.
        """
        trace = self.trace(x, latents)
        return {name: trace.nodes[name] for name in (*self.observed, *self.latents)}

    def trace(self, x: Tensor, latents: Mapping[str, Tensor] | None = None) -> Trace:
        """Run the model at one signal and return Pyro's trace; see :meth:`sites`."""
        values = {self.site: x, **(latents or {})}
        # validation looks at values, which is neither possible under vmap nor needed twice
        with pyro.validation_enabled(False):
            conditioned = poutine.condition(self.model, data=values)
            return poutine.trace(conditioned).get_trace(*self.arguments, **self.keywords)

    def given(self, latents: Mapping[str, Tensor], structure: Structure | None = None) -> "Target":
        """The target that remains when each particle has values of the other latent sites.

        Args:
            latents: See :meth:`log_likelihood`; the number of particles is that of these values.
            structure: Structure of the likelihood at these values, where it is known.
        """
        return _Given(self, latents, structure)

    def _vectorised(
        self,
        function: Callable[[dict[str, Site]], Any],
        x: Tensor,
        latents: Mapping[str, Tensor] | None,
        run: Callable[[Tensor, dict[str, Tensor]], dict[str, Site]] | None = None,
    ) -> Any:
        self._check(x, latents)
        run = run or self.observed_sites

        def one(x: Tensor, latents: dict[str, Tensor]) -> Any:
            sites = run(x, latents)
            with pyro.validation_enabled(False):
                return function(sites)

        return torch.vmap(one, randomness="different")(x, dict(latents or {}))

    def _check(self, x: Tensor, latents: Mapping[str, Tensor] | None) -> None:
        if missing := [name for name in self.latents if name not in (latents or {})]:
            raise InputError(
                f"the model has other latent sites than the signal: {', '.join(missing)}; "
                "give their values, or fix them with pyro.condition"
            )
        if x.shape[1:] != self.prior.event_shape:
            raise InputError(
                f"signals must have shape (particles, *{tuple(self.prior.event_shape)}), "
                f"got {tuple(x.shape)}"
            )


class _Given(Target):
    """A target whose other latent sites have values, one set for each particle."""

    def __init__(
        self, target: Target, latents: Mapping[str, Tensor], structure: Structure | None
    ) -> None:
        self.__dict__.update(target.__dict__)
        self.latents, self.structure, self._values = (), structure, latents

    def _vectorised(
        self,
        function: Callable[[dict[str, Site]], Any],
        x: Tensor,
        latents: Mapping[str, Tensor] | None,
        run: Callable[[Tensor, dict[str, Tensor]], dict[str, Site]] | None = None,
    ) -> Any:
        return super()._vectorised(function, x, self._values, run)


def _pointwise(sites: dict[str, Site]) -> dict[str, Tensor]:
    return {name: pointwise_log_prob(site) for name, site in sites.items()}


def _total(sites: dict[str, Site]) -> Tensor:
    return torch.stack([node.sum() for node in _pointwise(sites).values()]).sum()
