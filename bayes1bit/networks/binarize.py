r"""One bit with a gradient: the estimators that train binary weights and activations.

The sign function is flat wherever it has a derivative, so a network of signs cannot be trained by
its true gradient. Every method here keeps the exact discrete value in the forward pass and invents
a slope for the backward pass,

.. math::

    y = v(x), \qquad \frac{\partial \ell}{\partial x} := \frac{\partial \ell}{\partial y}\, s(x),

and the methods differ in nothing but the value :math:`v` and the slope :math:`s`, which therefore
stand side by side below. Throughout, :math:`\operatorname{sign}(0) = +1`: a bit has two values,
and a packed kernel that reads the sign bit must agree with the float path on every input.

Scales are never differentiated (they are detached means of magnitudes) except where a paper says
otherwise.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

TEMPERATURES = (0.1, 10.0)
"""First and last temperature of IR-Net's annealed estimator."""


class _Estimator(Function):
    """The value of one function with the slope of another."""

    @staticmethod
    def forward(
        x: Tensor, value: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]
    ) -> Tensor:
        return value(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.slope = inputs
        ctx.save_for_backward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.slope(x).mul_(gradient), None, None


def sign(x: Tensor) -> Tensor:
    """Plus or minus one, +1 at 0 and at -0; shape and type of ``x``, no gradient of its own."""
    # arithmetic on three values is ten times faster on a CPU than a select on a random mask
    return torch.sign(x).mul_(2).add_(1).clamp_(-1, 1)


def straight_through_sign(x: Tensor) -> Tensor:
    r"""Sign with the clipped straight-through slope :math:`1\{|x| \le 1\}`.

    Courbariaux et al., "Binarized neural networks", 2016.

    Args:
        x: Activations or latent weights, any shape.

    Returns:
        Signs of ``x``, same shape.
    """
    return _Estimator.apply(x, sign, _within_one)


def quadratic_sign(x: Tensor) -> Tensor:
    r"""Sign with the slope :math:`\max(2 - 2|x|, 0)` of a piecewise quadratic.

    The quadratic rises from -1 at -1 to +1 at +1, much closer to the sign than the straight line
    of :func:`straight_through_sign`. Liu et al., "Bi-Real Net", ECCV 2018.

    Args:
        x: Activations, any shape.

    Returns:
        Signs of ``x``, same shape.
    """
    return _Estimator.apply(x, sign, _triangle)


def annealed_sign(x: Tensor, progress: float) -> Tensor:
    r"""Sign with IR-Net's error-decay slope :math:`k\,t\,(1 - \tanh^2(t x))`.

    The temperature :math:`t = 10^{-1 + 2p}` rises from 0.1 to 10 with the progress :math:`p` of
    training, and :math:`k = \max(1/t, 1)`: at first nearly the identity, so that all weights are
    updated, in the end nearly the sign. Qin et al., "Forward and backward information retention
    for accurate binary neural networks", CVPR 2020.

    Args:
        x: Activations or balanced weights, any shape.
        progress: Fraction of training that is done, in [0, 1].

    Returns:
        Signs of ``x``, same shape.
    """
    first, last = TEMPERATURES
    temperature = first * (last / first) ** progress
    height = max(1.0, temperature)

    def slope(x: Tensor) -> Tensor:
        return x.mul(temperature).tanh_().square_().neg_().add_(1).mul_(height)

    return _Estimator.apply(x, sign, slope)


def scaled_weight_sign(weight: Tensor, scale: Tensor) -> Tensor:
    r"""Signs of weights, for a convolution whose result is then multiplied by ``scale``.

    The straight-through rule is meant for the product ``scale * sign(weight)``: a latent weight
    gets the gradient of its scaled sign, clipped to :math:`|w| \le 1`. Here the scale comes after
    the convolution, so that what is convolved are integers, and the slope takes it out again:
    :math:`1\{|w| \le 1\} / \text{scale}`. Rastegari et al., "XNOR-Net", ECCV 2016 (scale); Liu et
    al., "Bi-Real Net", ECCV 2018 (gradient).

    Args:
        weight: Latent weights, shape (out_channels, in_channels, *kernel).
        scale: Scales of the output channels, shape (out_channels,).

    Returns:
        Signs of ``weight``, same shape.
    """
    # a channel of zeros has scale zero and passes nothing back
    inverse = scale.clamp(min=torch.finfo(scale.dtype).tiny).reciprocal()

    def slope(weight: Tensor) -> Tensor:
        return _within_one(weight) * inverse.view(-1, *[1] * (weight.ndim - 1))

    return _Estimator.apply(weight, sign, slope)


def channel_scale(weight: Tensor) -> Tensor:
    """Mean magnitude of the weights of each output channel, detached, shape (out_channels,)."""
    return weight.detach().abs().flatten(1).mean(1)


def xnor_weight(weight: Tensor) -> Tensor:
    r"""XNOR-Net's weights :math:`\alpha\,\operatorname{sign}(w)`, :math:`\alpha` = mean |w|.

    The slope is :math:`1/n + \alpha\,1\{|w| \le 1\}` for a channel of n weights: the scale is
    differentiated too. Rastegari et al., "XNOR-Net", ECCV 2016, section 3.1.

    Args:
        weight: Latent weights, shape (out_channels, in_channels, *kernel).

    Returns:
        Scaled signs, same shape.
    """
    scale = channel_scale(weight).view(-1, *[1] * (weight.ndim - 1))

    def slope(weight: Tensor) -> Tensor:
        return _within_one(weight) * scale + 1 / weight[0].numel()

    return _Estimator.apply(weight, lambda w: sign(w) * scale, slope)


def dorefa_weight(weight: Tensor) -> Tensor:
    r"""DoReFa-Net's one-bit weights :math:`E|W|\,\operatorname{sign}(w)`, one scale per layer.

    The slope is 1 everywhere. Zhou et al., "DoReFa-Net", 2016, section 2.3.

    Args:
        weight: Latent weights, shape (out_channels, in_channels, *kernel).

    Returns:
        Scaled signs, same shape.
    """
    return _Estimator.apply(weight, lambda w: sign(w) * w.abs().mean(), torch.ones_like)


def dorefa_activation(x: Tensor) -> Tensor:
    r"""DoReFa-Net's one-bit activations: ``x`` clipped to [0, 1], then rounded to 0 or 1.

    The slope is that of the clip, :math:`1\{0 \le x \le 1\}`; one half rounds up. Zhou et al.,
    "DoReFa-Net", 2016, section 2.4.

    Args:
        x: Activations, any shape.

    Returns:
        Zeros and ones, same shape.
    """
    return _Estimator.apply(
        x, lambda x: (x >= 0.5).to(x.dtype), lambda x: ((x >= 0) & (x <= 1)).to(x.dtype)
    )


def balanced(weight: Tensor) -> Tensor:
    r"""IR-Net's balanced, standardised weights: zero mean and unit deviation in each channel.

    Half of the signs of a balanced channel are positive, which maximises their information. This
    step is differentiated as it is. Qin et al., CVPR 2020, section 3.2.

    Args:
        weight: Latent weights, shape (out_channels, in_channels, *kernel).

    Returns:
        Standardised weights, same shape.
    """
    flat = weight.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    return (centred / centred.std(1, keepdim=True)).view_as(weight)


def power_of_two_scale(weight: Tensor) -> Tensor:
    r"""IR-Net's scale :math:`2^{\operatorname{round}(\log_2 E|w|)}`, a bit shift in hardware.

    Args:
        weight: Balanced weights, shape (out_channels, in_channels, *kernel).

    Returns:
        Scales of the output channels, detached, shape (out_channels,).
    """
    return channel_scale(weight).log2().round().exp2()


def _within_one(x: Tensor) -> Tensor:
    return (x.abs() <= 1).to(x.dtype)


def _triangle(x: Tensor) -> Tensor:
    return x.abs().mul_(-2).add_(2).clamp_(min=0)
