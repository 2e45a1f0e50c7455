"""Parts of the network of guided diffusion, with the names that its checkpoints give them.

What has no weights but counts in a name is there as an ``Identity``.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes1bit.errors import InputError

NORM_GROUPS = 32
LONGEST_WAVE = 1e4


def norm(channels: int) -> nn.GroupNorm:
    """Normalisation of 32 groups."""
    return nn.GroupNorm(NORM_GROUPS, channels)


def convolution(in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Conv2d:
    """Convolution that keeps the size of the picture."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def time_embedding(t: Tensor, width: int) -> Tensor:
    r"""Cosines, then sines, of a time at ``width // 2`` frequencies from 1 down to almost 1e-4.

    Args:
        t: Times, any real numbers, shape (batch,).
        width: Number of features, even.

    Returns:
        Features, shape (batch, width), of the type of ``t``.
    """
    count = width // 2
    steps = torch.arange(count, dtype=t.dtype, device=t.device) / count
    angles = t[:, None] * torch.exp(-math.log(LONGEST_WAVE) * steps)
    return torch.cat((angles.cos(), angles.sin()), dim=1)


class Upsample(nn.Module):
    """Each pixel becomes four; a convolution follows if it is asked for."""

    def __init__(self, channels: int, *, convolve: bool) -> None:
        super().__init__()
        self.conv = convolution(channels, channels) if convolve else None

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, channels, height, width) to (batch, channels, 2 height, 2 width)."""
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return x if self.conv is None else self.conv(x)


class Downsample(nn.Module):
    """A convolution of stride 2, or the mean of four pixels."""

    def __init__(self, channels: int, *, convolve: bool) -> None:
        super().__init__()
        self.op: nn.Module = nn.AvgPool2d(2)
        if convolve:
            self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, channels, height, width) to (batch, channels, height / 2, width / 2)."""
        output: Tensor = self.op(x)
        return output


class ADMBlock(nn.Module):
    r"""Residual block whose second normalisation is modulated by the time.

    .. math:: h \leftarrow (1 + \mathrm{scale}(t))\, \mathrm{norm}(h) + \mathrm{shift}(t)

    or, without ``scale_shift``, ``norm(h + shift(t))``.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        embedding: Width of the time embedding.
        scale_shift: Whether the time scales as well as shifts.
        resample: :class:`Upsample` or :class:`Downsample` without weights, which acts on both
            branches before the first convolution; None to keep the resolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        *,
        scale_shift: bool,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = nn.Identity() if resample is None else resample
        self.in_layers = nn.Sequential(
            norm(in_channels), nn.SiLU(), convolution(in_channels, out_channels)
        )
        features = 2 * out_channels if scale_shift else out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, features))
        # the Identity stands where training has dropout
        self.out_layers = nn.Sequential(
            norm(out_channels), nn.SiLU(), nn.Identity(), convolution(out_channels, out_channels)
        )
        self.skip_connection: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.skip_connection = convolution(in_channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Activations and time embedding, shape (batch, embedding), to activations."""
        h = self.in_layers[-1](self.resample(self.in_layers[:-1](x)))
        modulation = self.emb_layers(embedding)[:, :, None, None]
        second, rest = self.out_layers[0], self.out_layers[1:]
        if self.scale_shift:
            scale, shift = modulation.chunk(2, dim=1)
            h = second(h) * (1 + scale) + shift
        else:
            h = second(h + modulation)
        output: Tensor = self.skip_connection(self.resample(x)) + rest(h)
        return output


class ADMAttention(nn.Module):
    """Self-attention over all pixels, with an identity around it.

    Args:
        channels: Channels.
        heads: Number of heads, a divisor of ``channels``.
        new_order: Whether the channels behind ``qkv`` are query, key and value, each of all
            heads; in the older order they are heads, each with its query, key and value.
    """

    def __init__(self, channels: int, heads: int, *, new_order: bool) -> None:
        super().__init__()
        if channels % heads:
            raise InputError(f"{channels} channels cannot be shared by {heads} attention heads")
        self.heads, self.new_order = heads, new_order
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, channels, height, width) to the same shape."""
        pixels = x.flatten(2)
        stacked = self.qkv(self.norm(pixels))
        if self.new_order:
            parts = stacked.unflatten(1, (3, self.heads, -1)).unbind(1)
        else:
            parts = stacked.unflatten(1, (self.heads, 3, -1)).unbind(2)
        # (batch, heads, pixels, channels of a head)
        query, key, value = (part.transpose(-1, -2) for part in parts)
        attended = F.scaled_dot_product_attention(query, key, value)
        output: Tensor = x + self.proj_out(attended.transpose(-1, -2).flatten(1, 2)).view_as(x)
        return output


class Stage(nn.ModuleList):
    """Layers in sequence, of which residual blocks are told the time."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Activations and time embedding to activations."""
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ADMBlock) else layer(x)
        return x
