"""The parts of a model whose posterior is known, in double precision."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer.one_bit_form import OneBitForm
from bayes1bit.infer.target import Target
from bayes1bit.operators import LinearOperator

_CHUNK = 512


def check_fit(prior: GaussianMixturePrior, operator: LinearOperator, form: OneBitForm) -> None:
    """Refuse parts that do not fit each other.

    Raises:
        InputError: If the prior is not a mixture, or sizes differ.
    """
    if not isinstance(prior, GaussianMixturePrior):
        raise InputError(
            f"an exact posterior needs a GaussianMixturePrior, got {type(prior).__name__}"
        )
    if operator.n != prior.event_shape.numel():
        raise InputError(
            f"the operator measures {operator.n} numbers, but signals of the prior have "
            f"{prior.event_shape.numel()}"
        )
    if form.y.shape != (operator.m,):
        raise InputError(
            f"there are bits of shape {tuple(form.y.shape)}, but the operator makes "
            f"{operator.m} measurements"
        )


def one_bit_parts(target: Target) -> tuple[GaussianMixturePrior, LinearOperator, OneBitForm]:
    """Prior, operator and bits of a model.

    Raises:
        InputError: If the data are not one-bit measurements at a single site.
    """
    structure = target.structure
    if structure is None or structure.one_bit is None or len(target.observed) != 1:
        raise InputError(
            "an exact posterior needs a model that observes one site of one-bit measurements "
            f"through one linear operator, but this model has: {target.describe()}"
        )
    return target.prior, structure.operator, structure.one_bit


def in_double(form: OneBitForm) -> OneBitForm:
    """The same bits in double precision."""
    flip = form.flip.double() if isinstance(form.flip, Tensor) else form.flip
    y, threshold, scale = form.y.double(), form.threshold.double(), form.scale.double()
    return replace(form, y=y, threshold=threshold, scale=scale, flip=flip)


@torch.no_grad()
def component_outputs(prior: GaussianMixturePrior, operator: LinearOperator) -> Tensor:
    """``A mu_k`` of every component, shape (components, m), float64."""
    parts = prior.mixture.means.split(_CHUNK)
    return torch.cat([operator(part.double().view(-1, *operator.event_shape)) for part in parts])


def with_derivatives(
    function: Callable[[Tensor], Tensor], argument: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, slope and curvature of a function that acts element by element."""
    with torch.enable_grad():
        argument = argument.detach().requires_grad_()
        value = function(argument)
        (slope,) = torch.autograd.grad(value.sum(), argument, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), argument)
    return value.detach(), slope.detach(), curvature.detach()
