"""From a trained network of simulated bits to one of real ones.

:func:`pack` puts packed kernels in the place of all binary units that are a scaled integer between
constants: those of a BitUNet, and of a BIDiffSR with any binarizer but DoReFa, whose activations
are not signs, and XNOR-Net, whose scale is a convolution of its own. Those two stay as they are.

A packed network takes what the float one takes and returns the same numbers. Its weights are bits
without a gradient, so it cannot be trained. But gradients *through* it, with respect to its input,
are what guidance asks of a prior: in a call that needs one, each unit computes the same numbers in
float from the same bits, with slopes as in training, of the quadratic sign and of the RPReLU
(whichever estimator the unit was trained with). A CPU without numba, and a GPU without Triton,
take that path as well. Such a gradient is a direction to follow, as in training, not the
derivative of a function of signs, so no density can be computed from its trace; and it cannot be
differentiated again.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from bayes1bit.errors import InputError
from bayes1bit.networks.binary_base import BinaryUnit
from bayes1bit.networks.bit_unit import BitUnit, Constants, respond
from bayes1bit.networks.packed.checks import check_call
from bayes1bit.networks.packed.choice import numba_for, triton_for
from bayes1bit.networks.packed.unit import PackedUnit
from bayes1bit.networks.packed.words import PackedWeights

Network = TypeVar("Network", bound=nn.Module)


class PackedConvolution(PackedUnit):
    """What stands in the place of a binary unit, and is called as that is.

    Args:
        weight: Weights whose signs are convolved, shape (out_channels, in_channels, *kernel).
        constants: A row for each bin or knot, but for a scale that is the same at all, shape
            (out_channels,).
        identity: Whether the input is added to the response.
        interpolated: Whether rows belong to knots, between which they are interpolated.
    """

    shift: Tensor
    scale: Tensor
    before: Tensor
    slope: Tensor
    after: Tensor

    def __init__(
        self, weight: Tensor, constants: Constants, *, identity: bool, interpolated: bool
    ) -> None:
        shift, scale, before, slope, after = constants
        super().__init__(PackedWeights.from_float(weight), None, shift, before, slope, after)
        self.scale = scale.detach().float().contiguous().clone()
        self.identity, self.interpolated, self.dim = identity, interpolated, weight.ndim - 2
        self._unpacked: tuple[Tensor, Tensor] | None = None
        self._shorten()

    def forward(  # type: ignore[override]
        self, x: Tensor, bins: Tensor
    ) -> Tensor:
        """Response of the unit, with the identity if it has one.

        Args:
            x: Activations, shape (batch, in_channels, *space).
            bins: What the network tells its units: the bin of the noise level of each sample, or
                its place among the knots, shape (batch,).

        Returns:
            Shape (batch, out_channels, *space).

        Raises:
            InputError: If shapes do not fit.
        """
        kernel = triton_for(x) or numba_for(x)
        if kernel is None or (torch.is_grad_enabled() and x.requires_grad):
            response = respond(x, self._signs(), self._constants(bins))
            return response + x if self.identity else response
        numbers = x.float()
        identity = numbers if self.identity else None
        if self.interpolated:
            return self._interpolate(numbers, bins, identity).to(x.dtype)
        return super().forward(numbers, bins, identity).to(x.dtype)

    def _constants(self, bins: Tensor) -> Constants:
        """Constants of each sample, or one row for all."""
        held = (self.shift, self.scale, self.before, self.slope, self.after)
        knots = Constants(*(part.float() for part in held))
        if self.interpolated:
            return knots.at(bins)
        chosen = (part if part.ndim == 1 or len(part) == 1 else part[bins] for part in knots)
        return Constants(*(torch.atleast_2d(part) for part in chosen))

    def _interpolate(self, x: Tensor, places: Tensor, identity: Tensor | None) -> Tensor:
        """One pass of a kernel with constants between those of the knots."""
        check_call(self.shape, 1, x, None, identity)
        if places.shape != x.shape[:1]:
            raise InputError(f"places must have shape ({len(x)},), got {tuple(places.shape)}")
        if (triton_kernels := triton_for(x)) is not None:
            if self._arguments is None:
                self._arguments = triton_kernels.lay_out(self.weights)
            shift, *others = self._constants(places)
            tables = torch.stack(others, dim=1)
            return triton_kernels.convolve(
                x, self.shape, *self._arguments, tables, shift, identity
            )
        return self._convolve(x, places, identity, interpolated=True)

    def _signs(self) -> Tensor:
        """Weights in float, kept from the first call that needs them as long as they hold."""
        if self._unpacked is None or self._unpacked[0] is not self.words:
            signs = self.weights.signs()
            self._unpacked = self.words, signs[:, :, 0] if self.dim == 1 else signs
        return self._unpacked[1]

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_unpacked": None}


def pack(network: Network) -> Network:
    """A copy of a trained network with its binary units packed.

    Args:
        network: A network, or a denoiser around one. It is left as it is.

    Returns:
        The copy, in evaluation mode for good, with frozen parameters. Its state dict holds the
        weights of packed units at one bit each.

    Raises:
        InputError: If no unit of the network can be packed.
    """
    if not packable(network):
        raise InputError(
            f"no part of this {type(network).__name__} can be packed; a BitUNet can be, and a "
            "BIDiffSR unless its binarizer is dorefa or xnor"
        )
    # the copy takes these for copies that are made already: it never holds a weight in float
    packed = {
        id(module): unit
        for module in network.modules()
        if isinstance(module, BinaryUnit) and (unit := _packed(module)) is not None
    }
    return copy.deepcopy(network, packed).eval().requires_grad_(False)


def packable(network: nn.Module) -> bool:
    """Whether a network has units that :func:`pack` packs."""
    return any(
        isinstance(module, BitUnit) or (isinstance(module, BinaryUnit) and module.packable())
        for module in network.modules()
    )


def _packed(unit: BinaryUnit) -> PackedConvolution | None:
    """The unit's packed form, if it has one."""
    if isinstance(unit, BitUnit):
        return PackedConvolution(
            unit.weight, unit.constants, identity=unit.identity, interpolated=True
        )
    tensors = unit.packable()
    if tensors is None:
        return None
    weight, scale, shift, before, slope, after = tensors
    constants = Constants(shift, scale, before, slope, after)
    return PackedConvolution(weight, constants, identity=unit.identity, interpolated=False)
