"""What a packed unit can be made of and called with."""

from torch import Tensor, float32, int64

from bayes1bit.errors import InputError


def check_tables(
    shape: tuple[int, int, int, int],
    scale: Tensor | None,
    shift: Tensor | None,
    before: Tensor | None,
    slope: Tensor | None,
    after: Tensor | None,
) -> int:
    """Tables of a unit, as :class:`~bayes1bit.networks.packed.unit.PackedUnit` takes them.

    Returns:
        Their number of pairs.

    Raises:
        InputError: If they do not fit each other and the shape of the weights.
    """
    out_channels, in_channels, *_ = shape
    if scale is not None and scale.shape != (out_channels,):
        raise InputError(f"scale must have shape ({out_channels},), got {tuple(scale.shape)}")
    rprelu = {"before": before, "slope": slope, "after": after}
    given = {name: table for name, table in rprelu.items() if table is not None}
    if len(given) not in (0, 3):
        raise InputError(f"an RPReLU needs before, slope and after, got only {', '.join(given)}")
    widths = {name: (table, out_channels) for name, table in given.items()}
    if shift is not None:
        widths["shift"] = (shift, in_channels)
    pairs = {len(table) for table, _ in widths.values()} or {1}
    for name, (table, width) in widths.items():
        if table.ndim != 2 or table.shape[1] != width or len(pairs) > 1:
            raise InputError(
                f"{name} must have shape (pairs, {width}) with the same pairs in each table, "
                f"got {tuple(table.shape)}"
            )
    return pairs.pop()


def check_call(
    shape: tuple[int, int, int, int],
    pairs: int,
    x: Tensor,
    bins: Tensor | None,
    identity: Tensor | None,
) -> None:
    """Arguments of a call, as :class:`~bayes1bit.networks.packed.unit.PackedUnit` takes them.

    Raises:
        InputError: If they do not fit each other, the shape of the weights and the pairs.
    """
    out_channels, in_channels, height, _ = shape
    if x.dtype != float32:
        raise InputError(f"a packed unit takes float32 input, got {x.dtype}")
    if x.ndim not in (3, 4) or x.shape[1] != in_channels or (x.ndim == 3 and height == 3):
        wanted = f"(batch, {in_channels}, height, width)"
        if height == 1:
            wanted += f" or (batch, {in_channels}, length)"
        raise InputError(f"input must have shape {wanted}, got {tuple(x.shape)}")
    if bins is None:
        if pairs > 1:
            raise InputError(f"bins must choose one of {pairs} pairs for each sample")
    elif bins.shape != x.shape[:1] or bins.dtype != int64:
        raise InputError(
            f"bins must be int64 of shape ({len(x)},), one for each sample, "
            f"got {bins.dtype} of shape {tuple(bins.shape)}"
        )
    # other devices check their indices themselves; to read them here would wait for the device
    elif bins.device.type == "cpu" and len(bins):
        low, high = int(bins.min()), int(bins.max())
        if low < 0 or high >= pairs:
            raise InputError(f"bins must be in [0, {pairs}), got {low} to {high}")
    if identity is None:
        return
    wanted_shape = (len(x), out_channels, *x.shape[2:])
    if identity.shape != wanted_shape or identity.dtype != float32:
        raise InputError(
            f"identity must be float32 of shape {wanted_shape}, "
            f"got {identity.dtype} of shape {tuple(identity.shape)}"
        )
