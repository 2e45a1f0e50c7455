r"""Binary convolution units: seven published ways to convolve one bit with one bit.

A binary convolution multiplies signs by signs. Its result is an integer, computed on packed words
by exclusive or and population count, and everything around it tries to make up for what the signs
threw away: a scale for the lost magnitudes, learnt shifts, an activation, and above all the
**identity**, which carries the full-precision input past the convolution. All units here add it
wherever input and output have the same channels.

The units are drop-in replacements of each other, under the names of :data:`BINARIZERS`. Those
whose response is a scaled integer are evaluated in one fixed order,

.. math::

    c = \operatorname{sign}(w) * \operatorname{sign}(x + b_k), \quad
    y = s\,c, \quad t = y + b'_k, \quad
    u = \max(t, 0) + a_k \min(t, 0) + b''_k, \quad u + x,

integers first, so that the float convolution is exact too (borders are zeros *after* the sign)
and a packed kernel that follows the same order gives the same bits; :meth:`BinaryUnit.packable`
hands over the constants.
"""

from torch import Tensor

from bayes1bit.networks.binarize import (
    annealed_sign,
    balanced,
    channel_scale,
    dorefa_activation,
    dorefa_weight,
    power_of_two_scale,
    quadratic_sign,
    scaled_weight_sign,
    straight_through_sign,
    xnor_weight,
)
from bayes1bit.networks.binary_base import BinaryUnit, PackedTensors, anneal
from bayes1bit.networks.time_aware import RPReLU, TaA, TaR, rows, rprelu

__all__ = [
    "BBCU",
    "BINARIZERS",
    "BNN",
    "BIDiffSRUnit",
    "BinaryUnit",
    "DoReFa",
    "IRNet",
    "PackedTensors",
    "ReActNet",
    "XNORNet",
    "anneal",
]


class BNN(BinaryUnit):
    """Signs of both, straight-through, no scale: Courbariaux et al., 2016."""

    def respond(self, x: Tensor, bins: Tensor) -> Tensor:
        """See :meth:`BinaryUnit.respond`."""
        return self.convolve(straight_through_sign(x), straight_through_sign(self.weight))

    def packable(self) -> PackedTensors:
        """See :meth:`BinaryUnit.packable`."""
        return self.bare(self.weight, self.weight.new_ones(self.out_channels))


class DoReFa(BinaryUnit):
    """One-bit DoReFa-Net: activations 0 or 1, one weight scale per layer (Zhou et al., 2016)."""

    def respond(self, x: Tensor, bins: Tensor) -> Tensor:
        """See :meth:`BinaryUnit.respond`."""
        return self.convolve(dorefa_activation(x), dorefa_weight(self.weight))


class XNORNet(BinaryUnit):
    r"""XNOR-Net: weight scales :math:`\alpha` per channel, activation scales K per position.

    .. math::

        (\operatorname{sign}(x) * \operatorname{sign}(w)) \odot K \alpha, \qquad
        K = \Bigl(\tfrac{1}{C} \sum_c |x_c|\Bigr) * \text{box}

    K is the mean magnitude of the patch under the kernel. Like the other scales it is not
    differentiated. Rastegari et al., ECCV 2016.
    """

    def respond(self, x: Tensor, bins: Tensor) -> Tensor:
        """See :meth:`BinaryUnit.respond`."""
        magnitude = x.detach().abs().mean(1, keepdim=True)
        box = magnitude.new_full((1, 1, *self.weight.shape[2:]), 1 / self.weight[0, 0].numel())
        response = self.convolve(straight_through_sign(x), xnor_weight(self.weight))
        return response * self.convolve(magnitude, box)


class IRNet(BinaryUnit):
    """IR-Net: balanced weights, bit-shift scales, annealed estimator (Qin et al., CVPR 2020)."""

    progress = 0.0

    def anneal(self, progress: float) -> None:
        """See :meth:`BinaryUnit.anneal`."""
        self.progress = progress

    def respond(self, x: Tensor, bins: Tensor) -> Tensor:
        """See :meth:`BinaryUnit.respond`."""
        weight = balanced(self.weight)
        signs = annealed_sign(x, self.progress), annealed_sign(weight, self.progress)
        response = self.convolve(*signs)
        return response * self.per_channel(power_of_two_scale(weight), response)

    def packable(self) -> PackedTensors:
        """See :meth:`BinaryUnit.packable`."""
        weight = balanced(self.weight.detach())
        return self.bare(weight, power_of_two_scale(weight))


class BIDiffSRUnit(BinaryUnit):
    """BI-DiffSR: TaR, sign, binary convolution, scale, TaA (Chen et al., NeurIPS 2024).

    It has no batch normalisation and stands behind group normalisation and Swish. Arguments are
    those of :class:`BinaryUnit`.
    """

    time_aware = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        dim: int = 2,
        pairs: int = 1,
        identity: bool = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, dim=dim, pairs=pairs, identity=identity
        )
        self.tar = TaR(in_channels, self.pairs)
        self.taa = TaA(out_channels, self.pairs) if self.time_aware else RPReLU(out_channels)

    def respond(self, x: Tensor, bins: Tensor) -> Tensor:
        """See :meth:`BinaryUnit.respond`."""
        scale = channel_scale(self.weight)
        signs = quadratic_sign(self.tar(x, bins))
        response = self.convolve(signs, scaled_weight_sign(self.weight, scale))
        return self.taa(response * self.per_channel(scale, response), bins)

    def packable(self) -> PackedTensors:
        """See :meth:`BinaryUnit.packable`."""
        constants = (self.tar.shift, self.taa.before, self.taa.slope, self.taa.after)
        return PackedTensors(
            self.weight.detach(),
            channel_scale(self.weight),
            *(constant.detach() for constant in constants),
        )


class ReActNet(BIDiffSRUnit):
    """ReActNet: one learnt shift and one RPReLU for all noise levels (Liu et al., ECCV 2020).

    As in the restoration networks that it is compared in, without its batch normalisation and
    with the identity added behind the RPReLU.
    """

    time_aware = False


class BBCU(ReActNet):
    r"""BBCU: ReActNet's unit with the response brought to the range of the identity.

    .. math::

        x + \tfrac{1}{k} \mathrm{RPReLU}(s\,c), \qquad k = 130\,n / 64

    for n channels out. Without batch normalisation the response of a binary convolution is much
    larger than the identity. The paper multiplies the input of the whole network by k and divides
    its output by k, which for a chain of such units is the same as this. Xia et al., "Basic binary
    convolution unit for binarized image restoration network", ICLR 2023.
    """

    AMPLIFICATION = 130 / 64

    def _aligned(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scale, and shifts around the PReLU, divided by k."""
        k = self.AMPLIFICATION * self.out_channels
        return channel_scale(self.weight) / k, self.taa.before / k, self.taa.after / k

    def respond(self, x: Tensor, bins: Tensor) -> Tensor:
        """See :meth:`BinaryUnit.respond`."""
        scale, before, after = self._aligned()
        signs = quadratic_sign(self.tar(x, bins))
        # the latent weights answer for the response before its division by k
        weight = scaled_weight_sign(self.weight, channel_scale(self.weight))
        response = self.convolve(signs, weight)
        response = response * self.per_channel(scale, response)
        constants = (rows(table, bins, response) for table in (before, self.taa.slope, after))
        return rprelu(response, *constants)

    def packable(self) -> PackedTensors:
        """See :meth:`BinaryUnit.packable`."""
        scale, before, after = self._aligned()
        return (
            super().packable()._replace(scale=scale, before=before.detach(), after=after.detach())
        )


BINARIZERS: dict[str, type[BinaryUnit]] = {
    "bnn": BNN,
    "dorefa": DoReFa,
    "xnor": XNORNet,
    "irnet": IRNet,
    "reactnet": ReActNet,
    "bbcu": BBCU,
    "bidiffsr": BIDiffSRUnit,
}
"""The units by name, in the order of the published table of their results."""
