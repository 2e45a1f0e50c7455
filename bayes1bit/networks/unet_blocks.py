r"""Blocks that every UNet here is made of, whatever it convolves with.

A block is told the noise level in two ways: by an embedding of sines and cosines, which is added
to its activations, and by the number of a bin, which a binary convolution looks its constants up
with. Group normalisation, Swish and dropout as in SR3 (Saharia et al., TPAMI 2022).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes1bit.errors import InputError

LONGEST_WAVE = 1e4
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}


class NoiseLevel(NamedTuple):
    """What the parts of a network know about the noise.

    Attributes:
        embedding: Embedding of the level of each sample, shape (batch, width).
        bins: Bin of the level of each sample, int64, shape (batch,).
    """

    embedding: Tensor
    bins: Tensor


class TimeEmbedding(nn.Module):
    """Sines and cosines of the noise label, then a two-layer perceptron with Swish."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )

    def forward(self, noise_label: Tensor) -> Tensor:
        """Labels, shape (batch,), to their embedding, shape (batch, width)."""
        count = self.width // 2
        steps = torch.arange(count, dtype=noise_label.dtype, device=noise_label.device) / count
        angles = noise_label[:, None] * torch.exp(-math.log(LONGEST_WAVE) * steps)
        embedding: Tensor = self.perceptron(torch.cat((angles.sin(), angles.cos()), dim=1))
        return embedding


class SelfAttention(nn.Module):
    """Single-head self-attention over all positions, with an identity around it."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels)
        self.query_key_value = nn.Conv1d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Activations, shape (batch, channels, *space), to the same shape."""
        query, key, value = (
            self.query_key_value(self.norm(x).flatten(2)).transpose(1, 2).chunk(3, dim=2)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(attended.transpose(1, 2)).view_as(x)


class FullPrecision(nn.Module):
    """A plain convolution behind the interface of a binary unit."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *, dim: int = 2
    ) -> None:
        super().__init__()
        self.convolution = CONVOLUTIONS[dim](
            in_channels, out_channels, kernel_size, padding=kernel_size // 2
        )

    def forward(self, x: Tensor, bins: Tensor) -> Tensor:
        """Shape (batch, in_channels, *space) to (batch, out_channels, *space)."""
        return self.convolution(x)


class ResidualBlock(nn.Module):
    """Twice group normalisation, Swish and a convolution, the noise level added in between.

    Args:
        first: Convolution from ``in_channels`` to ``out_channels``, called with bins.
        second: Convolution of ``out_channels``, called with bins, behind dropout.
        in_channels: Channels in.
        out_channels: Channels out. Where they differ a full-precision 1x1 convolution takes the
            place of the identity.
        dim: Number of spatial dimensions.
        embedding: Width of the embedding of the noise level.
        norm_groups: Groups of the normalisations.
        dropout: Probability of dropout.
        attention: Whether self-attention follows.
    """

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module,
        in_channels: int,
        out_channels: int,
        *,
        dim: int,
        embedding: int,
        norm_groups: int,
        dropout: float,
        attention: bool,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.first_norm = nn.GroupNorm(norm_groups, in_channels)
        self.first = first
        self.level = nn.Linear(embedding, out_channels)
        self.second_norm = nn.GroupNorm(norm_groups, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.second = second
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else CONVOLUTIONS[dim](in_channels, out_channels, 1)
        self.attention = SelfAttention(out_channels, norm_groups) if attention else nn.Identity()

    def forward(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Shape (batch, in_channels, *space) to (batch, out_channels, *space)."""
        h = self.first(F.silu(self.first_norm(x)), level.bins)
        h = h + self.level(F.silu(level.embedding)).view(*h.shape[:2], *[1] * (x.ndim - 2))
        h = self.second(self.dropout(F.silu(self.second_norm(h))), level.bins)
        output: Tensor = self.attention(h + self.skip(x))
        return output


def unshuffle(x: Tensor, factor: int) -> Tensor:
    """Patches to channels: (..., C, *sizes) to (..., C * factor**dim, *(sizes / factor)).

    Args:
        x: Signals, shape (batch, channels, *space) with one or two spatial dimensions.
        factor: Side of the patches.
    """
    if x.ndim == 4:
        return F.pixel_unshuffle(x, factor)
    return x.unflatten(2, (-1, factor)).transpose(2, 3).flatten(1, 2)


def shuffle(x: Tensor, factor: int) -> Tensor:
    """The inverse of :func:`unshuffle`."""
    if x.ndim == 4:
        return F.pixel_shuffle(x, factor)
    return x.unflatten(1, (-1, factor)).transpose(2, 3).flatten(2, 3)


def with_condition(x: Tensor, condition: Tensor | None, channels: int) -> Tensor:
    """Put the condition, if a network has one, in front of its input.

    Args:
        x: Noisy signals, shape (batch, event_channels, *space).
        condition: What is known besides, shape (batch, channels, *space), or None.
        channels: Channels of condition that the network expects.

    Returns:
        Shape (batch, channels + event_channels, *space).

    Raises:
        InputError: If ``condition`` has other channels.
    """
    given = 0 if condition is None else condition.shape[1]
    if given != channels:
        raise InputError(f"the network expects {channels} channels of condition, got {given}")
    return x if condition is None else torch.cat((condition, x), dim=1)
