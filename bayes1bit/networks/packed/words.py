r"""Signs packed sixty-four to a word, and weights at one bit each.

A vector of signs :math:`a \in \{-1, 1\}^C` becomes :math:`\lceil C / 64 \rceil` words, in which
the bit of :math:`+1` is set and bits past the last channel are clear. The product of two of them
is then an exclusive or and a population count,

.. math:: \sum_{i=1}^{C} a_i w_i = C - 2 \,\mathrm{popcount}(a \oplus w),

whatever C is, because clear bits agree (Rastegari et al., "XNOR-Net", ECCV 2016).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes1bit.errors import InputError

WORD = 64
LANES = 16
"""Outputs are padded to a multiple of what one step of the kernel computes."""
KERNELS = ((1, 1), (3, 3), (1, 3))


def pack_signs(t: Tensor) -> Tensor:
    """Signs along the last dimension as bits: set where t >= 0, so sign(0) is +1.

    Args:
        t: Any numbers, shape (..., channels). The sign of NaN is taken as -1.

    Returns:
        Words, shape (..., ceil(channels / 64)), int64. Channel i is bit i % 64 of word i // 64.
    """
    return _to_words(t >= 0)


def unpack_signs(words: Tensor, channels: int) -> Tensor:
    """Inverse of :func:`~bayes1bit.networks.packed.pack_signs`.

    Args:
        words: Words, shape (..., ceil(channels / 64)).
        channels: Signs in each vector.

    Returns:
        Signs, shape (..., channels), float32.

    Raises:
        InputError: If as many channels need another number of words.
    """
    if words.shape[-1] != -(-channels // WORD):
        raise InputError(
            f"{channels} channels need {-(-channels // WORD)} words, got {words.shape[-1]}"
        )
    return _signs(_from_words(words, channels))


@dataclass(frozen=True)
class PackedWeights:
    """Signs of a convolution's weights, laid out for the kernel.

    Args:
        words: Words, shape (kh * kw * ceil(in_channels / 64), outputs), int64, where outputs are
            padded with zeros to a multiple of 16. Rows go through the taps line by line, and
            through the words of a tap.
        shape: Shape (out_channels, in_channels, kh, kw) of the weights.
    """

    words: Tensor
    shape: tuple[int, int, int, int]

    @classmethod
    def from_float(cls, weight: Tensor) -> "PackedWeights":
        """Pack the signs of weights.

        Args:
            weight: Weights, shape (out_channels, in_channels, kh, kw), or (out_channels,
                in_channels, kw) of signals in one dimension.

        Raises:
            InputError: If the kernel is not 1x1, 3x3 or 1x3, or a weight is not a number.
        """
        if weight.ndim == 3:
            weight = weight[:, :, None]
        if weight.ndim != 4 or tuple(weight.shape[2:]) not in KERNELS or 0 in weight.shape:
            raise InputError(
                "packed weights have shape (out, in, kh, kw) with a kernel of 1x1, 3x3 or 1x3, "
                f"got {tuple(weight.shape)}"
            )
        if not weight.is_meta and weight.isnan().any():
            raise InputError("weights hold NaN, which has no sign")
        return cls._from_truth(weight.detach() >= 0)

    @classmethod
    def from_bits(cls, bits: Tensor, shape: Sequence[int]) -> "PackedWeights":
        """Inverse of :meth:`bits`.

        Args:
            bits: Bytes, shape (ceil(weights / 8),), uint8.
            shape: Shape (out_channels, in_channels, kh, kw) of the weights.

        Raises:
            InputError: If the shape has another number of bytes.
        """
        count = math.prod(shape)
        if bits.dtype != torch.uint8 or bits.shape != (-(-count // 8),):
            raise InputError(
                f"weights of shape {tuple(shape)} are {-(-count // 8)} bytes of bits, got "
                f"{bits.dtype} of shape {tuple(bits.shape)}"
            )
        return cls._from_truth(_to_bits(bits)[:count].reshape(tuple(shape)).bool())

    @classmethod
    def _from_truth(cls, positive: Tensor) -> "PackedWeights":
        """From truth values of shape (out_channels, in_channels, kh, kw)."""
        out_channels, in_channels, height, width = positive.shape
        by_tap = _to_words(positive.permute(0, 2, 3, 1)).flatten(1).T
        words = F.pad(by_tap, (0, -out_channels % LANES)).contiguous()
        return cls(words, (out_channels, in_channels, height, width))

    def bits(self) -> Tensor:
        """One bit a weight, as a file holds them.

        Returns:
            Bytes, shape (ceil(weights / 8),), uint8. Weight i, in the order of (out_channels,
            in_channels, kh, kw), is bit i % 8 of byte i // 8, set if it is +1.
        """
        positive = self._bits().flatten()
        return _to_bytes(F.pad(positive, (0, -len(positive) % 8)))

    def signs(self) -> Tensor:
        """The signs as numbers, shape (out_channels, in_channels, kh, kw), float32."""
        return _signs(self._bits())

    def _bits(self) -> Tensor:
        """Zeros and ones, shape (out_channels, in_channels, kh, kw), uint8."""
        out_channels, in_channels, height, width = self.shape
        by_tap = self.words[:, :out_channels].T.unflatten(1, (height, width, -1))
        return _from_words(by_tap, in_channels).permute(0, 3, 1, 2).contiguous()

    def border_table(self) -> Tensor:
        r"""What to subtract twice the population count from, at each kind of position.

        Zeros that pad the map are packed as clear bits, but should count as neither sign. At a
        position with v taps inside the map the sum is

        .. math:: v C + 2 \sum_{\text{taps outside}} \mathrm{popcount}(w)
            - 2 \sum_{\text{all taps}} \mathrm{popcount}(a \oplus w),

        and the first two terms depend only on which borders the position touches.

        Returns:
            The first two terms, shape (16, outputs), int32. The row is 4 * vertical + horizontal,
            where each is 1 at the first position, 2 at the last, 3 if it is both, otherwise 0.
        """
        out_channels, in_channels, height, width = self.shape
        ones = self._bits().sum(1, dtype=torch.int32)
        rows = []
        for kind in range(16):
            inside = _inside(kind // 4, height)[:, None] & _inside(kind % 4, width)
            inside = inside.to(ones.device)
            rows.append(inside.sum() * in_channels + 2 * (ones * ~inside).sum((1, 2)))
        return F.pad(torch.stack(rows).int(), (0, -out_channels % LANES)).contiguous()


def _inside(kind: int, taps: int) -> Tensor:
    """Which of the taps of one axis are inside the map."""
    inside = torch.ones(taps, dtype=torch.bool)
    if taps == 3:
        inside[0], inside[2] = not kind & 1, not kind & 2
    return inside


def _to_words(positive: Tensor) -> Tensor:
    """What :func:`pack_signs` returns, from truth values."""
    return _to_bytes(F.pad(positive, (0, -positive.shape[-1] % WORD))).view(torch.int64)


def _from_words(words: Tensor, channels: int) -> Tensor:
    """Bits of as many channels, as uint8 of 0 and 1."""
    octets = words.clone(memory_format=torch.contiguous_format).view(torch.uint8)
    return _to_bits(octets)[..., :channels]


def _to_bytes(bits: Tensor) -> Tensor:
    """Bits (..., 8 n) to bytes (..., n), where bit i is bit i % 8 of byte i // 8."""
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    return (bits.unflatten(-1, (-1, 8)).byte() << places).sum(-1, dtype=torch.uint8)


def _to_bits(octets: Tensor) -> Tensor:
    """Inverse of :func:`_to_bytes`, as uint8 of 0 and 1."""
    places = torch.arange(8, dtype=torch.uint8, device=octets.device)
    return ((octets[..., None] >> places) & 1).flatten(-2)


def _signs(bits: Tensor) -> Tensor:
    """Zeros and ones to -1 and 1, float32."""
    return bits.float().mul_(2).sub_(1)
