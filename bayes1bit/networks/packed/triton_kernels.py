r"""The convolution by exclusive or and population count on a GPU, compiled by Triton.

It computes what :mod:`~bayes1bit.networks.packed.kernels` does on the CPU, in two launches:

1. :func:`pack_kernel` adds the shift, takes signs and packs those of 32 channels into a word. It
   reads the map once, in whatever order its memory is; the words are a 32nd of it.
2. :func:`convolve_kernel` counts the differing bits of a tile of positions times outputs over the
   taps, turns counts into sums
   (:meth:`~bayes1bit.networks.packed.words.PackedWeights.border_table`), scales them, applies the
   RPReLU, adds the identity and stores the result.

Words have 32 bits because GPUs count those in one instruction, and 64 only in two. From the counts
on everything is float32, rounded after every operation, in the order of the plain path.

The kernels were checked in Triton's interpreter, on the CPU, and compiled for GPUs, but not run or
timed on one: the sizes of tiles are a guess. :func:`agrees` is the check that a device passes
before they are used on it (:mod:`~bayes1bit.networks.packed.choice`).
"""

import torch
import triton  # type: ignore[import-not-found, import-untyped, unused-ignore]
import triton.language as tl  # type: ignore[import-not-found, import-untyped, unused-ignore]
from torch import Tensor

from bayes1bit.networks.packed.reference import reference_unit
from bayes1bit.networks.packed.words import PackedWeights

POSITIONS, OUTPUTS = 64, 32
"""Most positions and outputs in a tile: with more of them ``ptxas`` runs out of registers."""
EXACT = {"enable_fp_fusion": False}
"""Options of the compiler: a multiplication fused with an addition would be rounded only once."""
LEAST = 16
"""Fewest of either, for small maps and layers."""
WORD = 32


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def popcount(v: tl.tensor) -> tl.tensor:
    """Set bits of uint32: sums of 2, 4 and 8 bits side by side, then of the four bytes.

    LLVM knows this form and makes it one instruction; and the interpreter, unlike that
    instruction, can run it.
    """
    v = v - ((v >> 1) & 0x55555555)
    v = (v & 0x33333333) + ((v >> 2) & 0x33333333)
    v = (v + (v >> 4)) & 0x0F0F0F0F
    return ((v * 0x01010101) >> 24).to(tl.int32)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def pack_kernel(
    x: tl.tensor,
    shift: tl.tensor,
    packed: tl.tensor,
    tiles: tl.tensor,
    size: tl.tensor,
    width: tl.tensor,
    channels: tl.tensor,
    words: tl.tensor,
    shift_row: tl.tensor,
    x_sample: tl.tensor,
    x_channel: tl.tensor,
    x_row: tl.tensor,
    x_column: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """One word of every position of a tile.

    ``size`` is the number of positions in the map of a sample, of which a tile never sees two;
    ``x_sample`` to ``x_column`` and ``shift_row`` are steps in memory.
    """
    # only what grows with the batch can pass 32 bits
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    place = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    word, bit = tl.program_id(1), tl.arange(0, 32)
    channel = word * 32 + bit
    inside = (place < size)[:, None] & (channel < channels)[None, :]
    row, column = place // width, place % width
    at = (row * x_row + column * x_column)[:, None] + (channel * x_channel)[None, :]
    value = tl.load(x + sample * x_sample + at, mask=inside, other=0)
    added = tl.load(shift + sample * shift_row + channel, mask=channel < channels, other=0)
    positive = (value + added[None, :] >= 0) & inside
    bits = tl.sum(positive.to(tl.uint32) << bit[None, :], 1)
    tl.store(packed + (sample * size + place) * words + word, bits, mask=place < size)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def convolve_kernel(
    packed: tl.tensor,
    weights: tl.tensor,
    border: tl.tensor,
    tables: tl.tensor,
    identity: tl.tensor,
    out: tl.tensor,
    tiles: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    outputs: tl.tensor,
    padded: tl.tensor,
    table_row: tl.tensor,
    i_sample: tl.tensor,
    i_channel: tl.tensor,
    i_row: tl.tensor,
    i_column: tl.tensor,
    ADDED: tl.constexpr,
    KERNEL_HEIGHT: tl.constexpr,
    KERNEL_WIDTH: tl.constexpr,
    WORDS: tl.constexpr,
    BLOCK: tl.constexpr,
    OUTPUTS: tl.constexpr,
) -> None:
    """Results of a tile of positions times outputs.

    ``padded`` is the step between rows of the weights and of the border table, ``table_row`` that
    between samples in the tables, ``i_sample`` to ``i_column`` those of the identity.
    """
    size = height * width
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    place = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    y, column = place // width, place % width
    o = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    real = o < outputs
    signs = packed + sample * size * WORDS
    counts = tl.zeros((BLOCK, OUTPUTS), tl.int32)
    # not unrolled: with the loads of several taps in flight the registers run out
    for tap in range(KERNEL_HEIGHT * KERNEL_WIDTH):
        above = y + (tap // KERNEL_WIDTH - KERNEL_HEIGHT // 2)
        left = column + (tap % KERNEL_WIDTH - KERNEL_WIDTH // 2)
        inside = (above >= 0) & (above < height) & (left >= 0) & (left < width)
        for word in range(WORDS):
            a = tl.load(signs + (above * width + left) * WORDS + word, mask=inside, other=0)
            w = tl.load(weights + (tap * WORDS + word) * padded + o, mask=real, other=0)
            differing = a[:, None] ^ w[None, :]
            counts += popcount(differing.to(tl.uint32, bitcast=True))
    vertical = (y == 0).to(tl.int32) + 2 * (y == height - 1).to(tl.int32)
    horizontal = (column == 0).to(tl.int32) + 2 * (column == width - 1).to(tl.int32)
    kind = 4 * vertical + horizontal
    stored = (place < size)[:, None] & real[None, :]
    fixed = tl.load(border + (kind * padded)[:, None] + o[None, :], mask=stored, other=0)
    table = tables + sample * table_row + o
    scale = tl.load(table, mask=real, other=0)[None, :]
    before = tl.load(table + outputs, mask=real, other=0)[None, :]
    slope = tl.load(table + 2 * outputs, mask=real, other=0)[None, :]
    after = tl.load(table + 3 * outputs, mask=real, other=0)[None, :]
    t = (fixed - 2 * counts).to(tl.float32) * scale + before
    t = tl.where(t > 0, t, slope * t) + after
    if ADDED:
        at = (y * i_row + column * i_column)[:, None] + (o * i_channel)[None, :]
        t += tl.load(identity + sample * i_sample + at, mask=stored, other=0)
    target = out + (sample * size + place)[:, None] * outputs + o[None, :]
    tl.store(target, t, mask=stored)


def lay_out(weights: PackedWeights) -> tuple[Tensor, Tensor]:
    """What the kernel reads of the weights.

    Returns:
        Words of 32 bits, shape (kh * kw * ceil(in_channels / 32), padded outputs), int32, and the
        border table, shape (16, padded outputs), int32.
    """
    _, in_channels, height, width = weights.shape
    halves = weights.words.unflatten(0, (height * width, -1)).unsqueeze(-1).view(torch.int32)
    by_tap = halves.movedim(-1, 2).flatten(1, 2)[:, : -(-in_channels // WORD)]
    return by_tap.flatten(0, 1).contiguous(), weights.border_table()


def convolve(
    x: Tensor,
    shape: tuple[int, int, int, int],
    words: Tensor,
    border: Tensor,
    tables: Tensor,
    shift: Tensor,
    identity: Tensor | None,
) -> Tensor:
    """Launch the kernels.

    Tensors lie on one GPU, or on the CPU under Triton's interpreter. The input and the identity
    are read in place, whatever the order of their memory.

    Args:
        x: Input, shape (batch, in_channels, height, width) or (batch, in_channels, length),
            float32, not empty.
        shape: Shape (out_channels, in_channels, kh, kw) of the weights.
        words: Weights as :func:`lay_out` gives them.
        border: Their border table, likewise.
        tables: Scale, before, slope and after, shape (batch or 1, 4, out_channels), float32.
        shift: Shape (batch or 1, in_channels), float32.
        identity: Added to the result if given, float32, of its shape.

    Returns:
        Shape (batch, out_channels, height, width) or (batch, out_channels, length), with channels
        last in memory.
    """
    outputs, channels, *kernel = shape
    if x.ndim == 3:
        flat = None if identity is None else identity[:, :, None]
        return convolve(x[:, :, None], shape, words, border, tables, shift, flat).squeeze(2)
    batch, _, height, width = x.shape
    size, per_position = height * width, -(-channels // WORD)
    block = min(POSITIONS, max(LEAST, triton.next_power_of_2(size)))
    lanes = min(OUTPUTS, max(LEAST, triton.next_power_of_2(outputs)))
    tiles = -(-size // block)
    tables, shift = tables.contiguous(), shift.contiguous()
    packed = torch.empty(batch * size * per_position, dtype=torch.int32, device=x.device)
    out = x.new_empty((batch, height, width, outputs))
    added = out if identity is None else identity
    # Triton launches on the current device, which need not be that of the tensors
    with torch.cuda.device_of(x):
        pack_kernel[(batch * tiles, per_position)](
            x.detach(), shift, packed, tiles, size, width, channels, per_position,
            channels if len(shift) > 1 else 0, *x.stride(), BLOCK=block, **EXACT,
        )  # fmt: skip
        convolve_kernel[(batch * tiles, -(-outputs // lanes))](
            packed, words, border, tables, added.detach(), out, tiles, height, width, outputs,
            words.shape[1], 4 * outputs if len(tables) > 1 else 0, *added.stride(),
            ADDED=identity is not None, KERNEL_HEIGHT=kernel[0], KERNEL_WIDTH=kernel[1],
            WORDS=per_position, BLOCK=block, OUTPUTS=lanes, **EXACT,
        )  # fmt: skip
    return out.movedim(-1, 1)


def agrees(device: torch.device) -> bool:
    """Whether a small unit comes out as in plain torch, bit for bit.

    Args:
        device: A device that Triton can launch on.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        numbers = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        return numbers.to(device)

    x, identity, shift = draw(2, 70, 5, 7), draw(2, 20, 5, 7), draw(1, 70)
    weights, tables = PackedWeights.from_float(draw(20, 70, 3, 3)), draw(1, 4, 20)
    ours = convolve(x, weights.shape, *lay_out(weights), tables, shift, identity)
    (scale,), before, slope, after = tables.unbind(1)
    # whoever asks may be computing in a type that does not hold the sums
    with torch.autocast(device.type, enabled=False):
        plain = reference_unit(
            x, weights.signs(), scale, shift, before, slope, after, None, identity
        )
    return torch.equal(ours, plain)
