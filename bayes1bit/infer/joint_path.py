r"""Paths of annealing where each particle has its own parameters beside the signal.

With unknown parameters :math:`\theta` (a noise scale, a threshold, a gain) the targets of a path
are laws of both,

.. math:: \pi_u(x, \theta) \propto p(x)\, p(\theta)\, L_u(x; \theta), \qquad
          L_0(x; \theta) = p(y \mid x, \theta).

Given its parameters, a particle's signal moves as :mod:`bayes1bit.infer.annealing` says: one-bit
data have their normal form at every :math:`\theta`, with the variances
:math:`V_i = s_i^2(\theta) + u` of each particle's own, and one coupling that fits all of them,
:math:`\rho^2 \lambda_{max} \le \min V`. Given its signal, the parameters are drawn from
:math:`p(\theta) L_u(x; \theta)` by a step of :mod:`bayes1bit.infer.parameter_steps`.

The form of one-bit data as a function of the parameters is read off the model, as
:mod:`bayes1bit.infer.structure` does it once: the model is run at two outputs of the operator for
each particle, all in one batch. So gains, offsets, thresholds, scales and flips may depend on the
parameters in any way. Evaluating it costs neither the operator nor the denoiser.
"""

import warnings
from abc import abstractmethod
from copy import copy
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from bayes1bit.infer.annealing import NoiseSplitting, Path, Tempering
from bayes1bit.infer.one_bit_form import OneBitForm
from bayes1bit.infer.parameter_steps import LogDensity, ParameterStep, SliceStep
from bayes1bit.infer.parameters import Parameters
from bayes1bit.infer.sites import innermost, link_argument
from bayes1bit.infer.softening import Softening
from bayes1bit.infer.structure import Structure
from bayes1bit.infer.target import Target
from bayes1bit.observation import OneBit
from bayes1bit.operators import replace_output

_POOL = 64
"""Draws of the parameters' prior that widths and the typical parameters are taken from."""
_WITHIN = torch.tensor([0.16, 0.84], dtype=torch.float64)
"""Quantiles that are two standard deviations of a normal law apart."""
_WIDTHS = 2.0
"""Width of the slices' steps in these units: all chains wait for the one that steps out most."""


class JointPath(Path):
    """A path of particles (x, theta).

    Args:
        target: A target with other latent sites than the signal.
        parameters: Their coordinates.
        step: How they are drawn given the signal.
        z: Their values, shape (particles, d).
    """

    def __init__(
        self, target: Target, parameters: Parameters, step: ParameterStep, z: Tensor
    ) -> None:
        self.target, self.parameters, self.step, self.z = target, parameters, step, z

    @property
    def latents(self) -> dict[str, Tensor]:
        """Values of the other latent sites, each with a leading particle dimension."""
        return self.parameters.constrain(self.z)

    @property
    @abstractmethod
    def given(self) -> Target:
        """The target of the signals, given each particle's parameters."""

    @abstractmethod
    def at(self, z: Tensor) -> Self:
        """The path of particles with other parameters, shape (particles, d)."""

    @abstractmethod
    def log_density(self, x: Tensor, u: float) -> LogDensity:
        """Log of ``p(theta) L_u(x; theta)`` as a function of unconstrained parameters."""

    def spread(self, num: int) -> Self:
        """Draw the parameters of ``num`` particles from their prior."""
        return self.at(self.parameters.draw(num))

    def select(self, kept: Tensor) -> Self:
        """Keep the parameters of resampled particles."""
        return self.at(self.z[kept])

    def update(self, x: Tensor, u: float) -> Self:
        """Draw the parameters given the signals."""
        return self.at(self.step(self.log_density(x, u), self.z))


class JointSplitting(JointPath, NoiseSplitting):
    """The path of one-bit data whose form depends on the parameters.

    Args:
        softening: The likelihoods of the path at typical parameters, which decide the damping.
        forms: The one-bit form as a function of the parameters.
        step: How they are drawn given the signal.
        z: Their values, shape (particles, d).
    """

    def __init__(
        self, softening: Softening, forms: "OneBitForms", step: ParameterStep, z: Tensor
    ) -> None:
        NoiseSplitting.__init__(self, softening)
        JointPath.__init__(self, forms.parameters.target, forms.parameters, step, z)
        self.forms, self._typical = forms, softening
        self._place(z)

    def _place(self, z: Tensor) -> None:
        self.z = z
        self.softening = self._typical.given(self.forms(z)[0])

    @torch.no_grad()
    def at(self, z: Tensor) -> Self:
        """See :meth:`JointPath.at`."""
        other = copy(self)
        other._place(z)
        return other

    @property
    def given(self) -> Target:
        """See :attr:`JointPath.given`."""
        form = self.softening.form
        structure = Structure(self.structure.operator, form.log_likelihood, form)
        return self.target.given(self.latents, structure)

    def log_density(self, x: Tensor, u: float) -> LogDensity:
        """See :meth:`JointPath.log_density`."""
        t = self.features(x)

        def value(z: Tensor) -> Tensor:
            form, log_prior = self.forms(z)
            return log_prior + self._typical.given(form).log_likelihood(t, u).sum(1)

        return value


class JointTempering(JointPath):
    """The path of any other likelihood: the data count with the power ``1 / (1 + u)``."""

    unit = Tempering.unit

    @cached_property
    def given(self) -> Target:
        """See :attr:`JointPath.given`."""
        return self.target.given(self.latents)

    @cached_property
    def _path(self) -> Tempering:
        return Tempering(self.given, num_probes=len(self.z))

    @torch.no_grad()
    def at(self, z: Tensor) -> Self:
        """See :meth:`JointPath.at`."""
        return type(self)(self.target, self.parameters, self.step, z)

    def log_density(self, x: Tensor, u: float) -> LogDensity:
        """See :meth:`JointPath.log_density`."""
        return lambda z: self.parameters.log_density(z, x, 1 / (1 + u))

    def features(self, x: Tensor) -> Tensor:
        """The log-likelihood at each particle's parameters, shape (particles,)."""
        return self.given.log_likelihood(x).detach()

    def log_likelihood(self, features: Tensor, u: float) -> Tensor:
        """The tempered log-likelihood."""
        return features / (1 + u)

    def coupling(self, u: float) -> float:
        """See :meth:`Tempering.coupling <bayes1bit.infer.annealing.Tempering.coupling>`."""
        return self._path.coupling(u)

    def noisy_copy(self, x: Tensor, u: float) -> Tensor:
        """A draw of the copy by Langevin steps on the tempered likelihood."""
        return self._path.noisy_copy(x, u)


class OneBitForms:
    """The one-bit form of a model as a function of its parameters.

    Args:
        parameters: Coordinates of the parameters.
        structure: Structure of the likelihood at typical parameters.
        form: Its one-bit form.
    """

    def __init__(self, parameters: Parameters, structure: Structure, form: OneBitForm) -> None:
        self.parameters, self._operator, self._form = parameters, structure.operator, form
        (self._site,) = parameters.target.observed
        y = parameters.target.observed[self._site].to(form.scale)
        self._y = torch.where(y == 0, -1.0, y)  # a Bernoulli site counts in 0 and 1

    def __call__(self, z: Tensor) -> tuple[OneBitForm, Tensor]:
        """The forms of particles, and their log prior density.

        Args:
            z: Unconstrained parameters, shape (particles, d).

        Returns:
            A form of tensors (particles, m) and log p(z), shape (particles,).
        """
        (offset, moved), (rest, _), (log_prior, _) = self._run(z, (0.0, 1.0))
        return self._of_runs(offset, moved - offset, rest), log_prior

    def fit(self, z: Tensor) -> bool:
        """Whether the link's argument is affine in the output at all these parameters."""
        (offset, moved, third), (rest, *others), _ = self._run(z, (0.0, 1.0, -2.0))
        gain = moved - offset
        magnitude = offset.abs() + moved.abs() + third.abs() + 1
        tolerance = 1e-4 if z.dtype == torch.float32 else 1e-9
        straight = ((third - offset + 2 * gain).abs() <= tolerance * magnitude).all()
        return bool(straight & (gain != 0).all()) and all(torch.equal(rest, r) for r in others)

    def _of_runs(self, offset: Tensor, gain: Tensor, rest: Tensor) -> OneBitForm:
        threshold, scale, flip = rest.unbind(-2)
        flips = flip if isinstance(self._form.flip, Tensor) else 0.0
        link = self._form.link
        return OneBitForm.of_affine(self._y, gain, offset, threshold, scale, flips, link)

    def _run(
        self, z: Tensor, outputs: tuple[float, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Arguments of the link, other parameters and log prior, at each constant output."""
        m, num = self._operator.m, len(z)
        t = z.new_tensor(outputs).repeat_interleave(num)[:, None].expand(-1, m)

        def one(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            with replace_output(self._operator, t):
                sites, log_prior = self.parameters.run(z, self.parameters.signal)
            distribution = sites[self._site]["fn"]
            argument, base = link_argument(distribution), innermost(distribution)
            assert argument is not None
            if isinstance(base, OneBit):
                rest = [p.expand(m) for p in (base.threshold, base.scale, base.flip)]
            else:
                rest = [t.new_full((m,), value) for value in (0.0, 1.0, 0.0)]
            return argument, torch.stack(rest), log_prior

        results = torch.vmap(one, randomness="different")(z.repeat(len(outputs), 1), t)
        argument, rest, log_prior = (result.split(num) for result in results)
        return argument, rest, log_prior


@torch.no_grad()
def joint_path_of(target: Target) -> JointPath:
    """The best path that a target with other latent sites allows, at typical parameters.

    Args:
        target: The target.

    Returns:
        The path of one particle with typical parameters, whose step is slice sampling.

    Raises:
        InputError: If a latent site is none that can be sampled; see :class:`Parameters`.
    """
    parameters = Parameters(target)
    pool = parameters.draw(_POOL)
    low, high = pool.double().quantile(_WITHIN.to(pool.device), dim=0)
    step = SliceStep((_WIDTHS * (high - low)).clamp(min=1e-6).to(pool))
    typical = pool.median(0).values[None]
    values = parameters.constrain(typical)
    softening = Softening.of(target.fixed({name: value[0] for name, value in values.items()}))
    if softening is not None:
        forms = OneBitForms(parameters, softening.structure, softening.form)
        if forms.fit(pool):
            _warn_of_scale(forms(pool)[0], target)
            return JointSplitting(softening, forms, step, typical)
    return JointTempering(target, parameters, step, typical)


def _warn_of_scale(form: OneBitForm, target: Target) -> None:
    """Warn of bits that cannot tell the scale of the signal from that of the noise."""
    if (form.threshold != 0).any() or (form.scale == form.scale[:1]).all():
        return
    warnings.warn(
        f"the data are signs about zero, and the model leaves the scale of the noise or a gain "
        f"unknown ({', '.join(target.latents)}): bits do not change when signal and noise are "
        "multiplied by the same number, so that only the signal's prior tells the two scales "
        "apart; use known thresholds other than zero (dither), or fix the scale with "
        "pyro.condition",
        UserWarning,
        stacklevel=2,
    )
