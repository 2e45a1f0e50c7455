"""The same computation in plain torch: what the kernel equals, and what other devices run."""

import torch
import torch.nn.functional as F
from torch import Tensor


def reference_unit(
    x: Tensor,
    signs: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    before: Tensor | None = None,
    slope: Tensor | None = None,
    after: Tensor | None = None,
    bins: Tensor | None = None,
    identity: Tensor | None = None,
) -> Tensor:
    r"""A binary convolution between a shift and an RPReLU, in float32.

    With :math:`\mathrm{sign}(0) = 1` and k the bin of each sample,

    .. math::

        y &= \mathrm{scale} \cdot \bigl(\mathrm{signs} * \mathrm{sign}(x + \mathrm{shift}_k)\bigr)
             + \mathrm{before}_k, \\
        \mathrm{out} &= \max(y, 0) + \mathrm{slope}_k \min(y, 0) + \mathrm{after}_k
             + \mathrm{identity}.

    Taps outside the map contribute 0. The sign of NaN is taken as -1.

    Args:
        x: Input, shape (batch, in_channels, height, width) or (batch, in_channels, length).
        signs: Weights of -1 and 1, shape (out_channels, in_channels, kh, kw) with kh and kw odd.
        scale: Factor of each output, shape (out_channels,).
        shift: Shape (pairs, in_channels).
        before: Shape (pairs, out_channels).
        slope: Shape (pairs, out_channels).
        after: Shape (pairs, out_channels).
        bins: Pair of each sample, shape (batch,); the first one if left out.
        identity: Added to the result, shape (batch, out_channels, height, width), or as x is.

    Returns:
        Shape (batch, out_channels, height, width), or (batch, out_channels, length).
    """
    if bins is None:
        bins = torch.zeros(len(x), dtype=torch.long, device=x.device)
    if x.ndim == 3:
        flat = None if identity is None else identity[:, :, None]
        out = reference_unit(x[:, :, None], signs, scale, shift, before, slope, after, bins, flat)
        return out.squeeze(2)
    t = x if shift is None else x + shift[bins][:, :, None, None]
    a = torch.where(t >= 0, 1.0, -1.0)
    padding = (signs.shape[2] // 2, signs.shape[3] // 2)
    # sums are integers, but a Winograd algorithm returns them with rounding errors
    out = F.conv2d(a, signs, padding=padding).round()
    if scale is not None:
        out = out * scale[:, None, None]
    if before is not None and slope is not None and after is not None:
        out = out + before[bins][:, :, None, None]
        out = torch.where(out > 0, out, slope[bins][:, :, None, None] * out)
        out = out + after[bins][:, :, None, None]
    return out if identity is None else out + identity
