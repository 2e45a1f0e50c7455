r"""BitUNet: a denoising network in which nearly every operation is one on bits.

BI-DiffSR binarizes the convolutions of a UNet and leaves the rest in place: group normalisations,
Swish, attention, two resolutions of the decoder in full precision. Those are 96% of its
operations as the literature counts. This network is built the other way
round, from the one thing that is cheap: the **binary unit**, which a packed kernel computes, with
its shift, sign, scale, RPReLU and identity, in a single pass over the activations.

- A full-precision convolution lifts patches of the signal to the first width, along with waves of
  every number that show small differences to a threshold, and another brings them back. Everything
  between is binary units, exchanges of channels and pixel-shuffles.
- There is no normalisation. Learnt gains of the responses, which start small, keep the identity
  path from growing; and the shifts, gains and slopes, interpolated in the noise level
  (:mod:`~bayes1bit.networks.bit_unit`), are all that the network is told about it.
- Downsampling is CP-Down, of groups of a quarter of the width below. **Upsampling shuffles
  first**: pixels go to a quarter of the channels, on which binary units work, as many as make the
  width above. CP-Up convolves first, at the full width, for 4 times the operations in a picture.
- One skip connection per resolution is fused as in CS-Fusion, but **exchanging halves** of the
  channels rather than every other one. As all around is learnt per channel, that is the same up to
  the order of channels, and it moves memory in runs.

With the defaults and signals of 1x32x32 it has 7.1 million weights of one bit and 0.2 million
other parameters, and 99% of its multiply-accumulates are on bits.
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from bayes1bit.errors import InputError
from bayes1bit.networks.bit_unit import BitUnit, interpolate, spread
from bayes1bit.networks.bitunet_parts import (
    GroupDown,
    HalfExchange,
    ShuffleUp,
    UnitChain,
    Waves,
)
from bayes1bit.networks.unet_blocks import (
    CONVOLUTIONS,
    NoiseLevel,
    shuffle,
    unshuffle,
    with_condition,
)

LABEL_SCALE = 10.0
"""The noise label is ``10 log(sigma)``, the convention of ``KarrasDenoiser``."""


class BitUNet(nn.Module):
    r"""The network of bits, for signals in one or two dimensions.

    Args:
        event_shape: Shape (channels, length) or (channels, height, width) of the noisy signal.
            Sizes must be multiples of ``patch * 2 ** (len(widths) - 1)``.
        condition_channels: Channels of the condition given along with the signal.
        patch: Side of the patches that become channels in front, and pixels again behind.
        widths: Channels at each resolution, finest first. Multiples of 64 fill the words of the
            packed kernel. In d dimensions the width above and ``2**d`` times the width below must
            be multiples of each other's parts; equal or doubled widths are.
        blocks: Binary 3x3 units at each resolution, on the way down and again on the way up.
        middle_blocks: Further units at the coarsest resolution, where both ways meet.
        octaves: Frequencies of the :class:`Waves` of the input.
        knots: Number K of levels at which the constants are given.
        sigma_min: Smallest noise level, at the first knot.
        sigma_max: Largest noise level, at the last knot.

    Raises:
        InputError: If shape and widths do not fit together, or a number is out of range.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        *,
        condition_channels: int = 0,
        patch: int = 2,
        widths: Sequence[int] = (128, 256, 256),
        blocks: int = 2,
        middle_blocks: int = 2,
        octaves: int = 6,
        knots: int = 8,
        sigma_min: float = 0.01,
        sigma_max: float = 80.0,
    ) -> None:
        super().__init__()
        _check(event_shape, patch, widths)
        if min(blocks, octaves, knots) < 1 or min(middle_blocks, condition_channels) < 0:
            raise InputError(
                "a BitUNet needs at least one block, octave and knot, and no negative count of "
                f"others; got blocks {blocks}, octaves {octaves}, knots {knots}, middle_blocks "
                f"{middle_blocks} and condition_channels {condition_channels}"
            )
        if not 0 < sigma_min < sigma_max:
            raise InputError(f"need 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
        channels, dim = event_shape[0], len(event_shape) - 1
        self.patch, self.condition_channels, self.knots = patch, condition_channels, knots
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        unit = partial(BitUnit, dim=dim, pairs=knots)

        def chain(width: int, length: int) -> UnitChain:
            return UnitChain(unit(width, width, 3) for _ in range(length))

        steps = list(itertools.pairwise(widths))
        inputs = (channels + condition_channels) * patch**dim
        sigma = torch.logspace(math.log10(sigma_min), math.log10(sigma_max), knots)
        self.head = CONVOLUTIONS[dim](inputs, widths[0], 3, padding=1)
        self.waves = Waves(inputs, octaves, sigma)
        self.waves_head = CONVOLUTIONS[dim](self.waves.out_channels, widths[0], 1, bias=False)
        self.encoder = nn.ModuleList(chain(width, blocks) for width in widths)
        self.downs = nn.ModuleList(
            GroupDown(unit, fine, coarse, dim=dim) for fine, coarse in steps
        )
        self.middle = chain(widths[-1], middle_blocks)
        self.ups = nn.ModuleList(ShuffleUp(unit, coarse, fine, dim=dim) for fine, coarse in steps)
        self.fusions = nn.ModuleList(HalfExchange(unit, fine) for fine, _ in steps)
        self.decoder = nn.ModuleList(chain(width, blocks) for width in widths)
        self.gain = nn.Parameter(torch.ones(knots, widths[0]))
        self.tail = CONVOLUTIONS[dim](widths[0], channels * patch**dim, 3, padding=1)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    def places(self, noise_label: Tensor) -> Tensor:
        r"""Where noise levels lie among the knots, which are equally spaced in log sigma.

        .. math::

            p = (K - 1)\, \frac{\log \sigma - \log \sigma_{min}}
                {\log \sigma_{max} - \log \sigma_{min}} \text{ clamped to } [0, K - 1]

        Args:
            noise_label: ``10 log(sigma)``, shape (batch,).

        Returns:
            Places, shape (batch,).
        """
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        place = (noise_label / LABEL_SCALE - low) / (high - low)
        return (place * (self.knots - 1)).clamp(0, self.knots - 1)

    def forward(self, x: Tensor, noise_label: Tensor, condition: Tensor | None = None) -> Tensor:
        """Apply the network.

        Args:
            x: Scaled noisy signals, shape (batch, channels, *space).
            noise_label: ``10 log(sigma)`` of each, shape (batch,).
            condition: What is known besides, shape (batch, condition_channels, *space); None if
                there are no such channels.

        Returns:
            The raw network output, shape of ``x``.

        Raises:
            InputError: If ``condition`` does not have the channels that the network expects.
        """
        x = with_condition(x, condition, self.condition_channels)
        level = NoiseLevel(noise_label, self.places(noise_label))
        x = unshuffle(x, self.patch)
        if x.ndim == 4:
            # the order that all kernels here, packed or not, are fastest in; others follow
            x = x.contiguous(memory_format=torch.channels_last)
        waves = self.waves_head(self.waves(x, level.bins))
        x, skips = self.head(x).add_(waves), []
        for depth, units in enumerate(self.encoder):
            x = units(x, level)
            if depth < len(self.downs):
                skips.append(x)
                x = self.downs[depth](x, level)
        x = self.middle(x, level)
        for depth in reversed(range(len(self.decoder))):
            if depth < len(self.ups):
                x = self.fusions[depth](self.ups[depth](x, level), skips.pop(), level)
            x = self.decoder[depth](x, level)
        gain = interpolate(self.gain, level.bins)
        return shuffle(self.tail(x * spread(gain, x)), self.patch)


def _check(event_shape: Sequence[int], patch: int, widths: Sequence[int]) -> None:
    if len(event_shape) not in (2, 3):
        raise InputError(
            "a BitUNet works on (channels, length) or (channels, height, width), got event_shape "
            f"{tuple(event_shape)}"
        )
    if not widths or min(widths) < 2 or any(width % 2 for width in widths):
        raise InputError(f"widths must be positive and even, to exchange halves, got {widths}")
    factor = patch * 2 ** (len(widths) - 1)
    if patch < 1 or any(size % factor for size in event_shape[1:]):
        raise InputError(
            f"a BitUNet with patch {patch} and {len(widths)} resolutions needs sizes that are "
            f"multiples of {factor}, got {'x'.join(str(size) for size in event_shape[1:])}"
        )
