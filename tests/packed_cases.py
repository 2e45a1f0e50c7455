"""Units to pack, and what the float path makes of them."""

import torch

from bayes1bit.networks.packed import reference_unit


def make_case(channels, outputs, kernel, pairs=2, batch=3, size=(5, 7), seed=0, device="cpu"):
    """Tensors of a unit and of a call; half of all shifted inputs are exactly zero."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator).to(device)

    tables = {
        "scale": draw(outputs),
        "shift": draw(pairs, channels),
        "before": draw(pairs, outputs),
        "slope": draw(pairs, outputs),
        "after": draw(pairs, outputs),
    }
    bins = torch.randint(pairs, (batch,), generator=generator).to(device)
    x = draw(batch, channels, *size)
    negated = -tables["shift"][bins].view(batch, channels, *[1] * len(size)).expand_as(x)
    x = torch.where(torch.rand(x.shape, generator=generator).to(device) < 0.5, negated, x)
    return draw(outputs, channels, *kernel), tables, x, bins, draw(batch, outputs, *size)


def plain(weight, tables, x, bins=None, identity=None):
    """The float path."""
    signs = torch.where(weight >= 0, 1.0, -1.0)
    if weight.ndim == 3:
        signs = signs[:, :, None]
    return reference_unit(x, signs, **tables, bins=bins, identity=identity)


def same_bits(first, second):
    """Whether two float32 tensors are equal, signs of zeros included."""
    return first.shape == second.shape and torch.equal(
        first.contiguous().view(torch.int32), second.contiguous().view(torch.int32)
    )
