"""Packed units equal the float path bit for bit, whatever the shape, layout and thread count."""

import copy
import io
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from packed_cases import make_case, plain, same_bits
from torch import nn

from bayes1bit.bench import network_speed, speed
from bayes1bit.errors import InputError
from bayes1bit.networks.bit_unit import interpolate
from bayes1bit.networks.packed import (
    PackedUnit,
    PackedWeights,
    buffers,
    pack_signs,
    unit,
    unpack_signs,
)

convolution = pytest.importorskip("bayes1bit.networks.packed.convolution", exc_type=ImportError)
constants = pytest.importorskip("bayes1bit.networks.packed.constants", exc_type=ImportError)

WIDTHS = [(3, 3), (3, 192), (64, 64), (64, 65), (65, 100), (100, 3), (128, 192), (192, 128)]
SIZES = [(1, 1), (1, 5), (2, 2), (5, 3), (16, 16)]


@pytest.fixture
def two_threads(monkeypatch):
    """Two threads, of which both work however little there is to do."""
    monkeypatch.setattr(convolution, "GRAIN", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_plain_path_is_the_equation():
    """Against sums by hand, tap by tap, where taps outside the map count nothing."""
    weight, tables, x, bins, identity = make_case(3, 4, (3, 3), pairs=2, size=(3, 4))
    got = plain(weight, tables, x, bins, identity).double()
    w, (batch, _, height, width) = np.where(weight >= 0, 1, -1), x.shape
    shift, before, slope, after = (
        tables[name].double().numpy() for name in ("shift", "before", "slope", "after")
    )
    for b, y, column in np.ndindex(batch, height, width):
        k, total = bins[b], np.zeros(4)
        for i, j in np.ndindex(3, 3):
            row, place = y + i - 1, column + j - 1
            if 0 <= row < height and 0 <= place < width:
                a = np.where(x[b, :, row, place].double().numpy() + shift[k] >= 0, 1, -1)
                total += w[:, :, i, j] @ a
        t = total * tables["scale"].double().numpy() + before[k]
        t = np.where(t > 0, t, slope[k] * t) + after[k] + identity[b, :, y, column].numpy()
        np.testing.assert_allclose(got[b, :, y, column], t, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "outputs"), WIDTHS)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (1, 3)])
def test_equals_the_float_path(channels, outputs, kernel):
    for number, size in enumerate(SIZES):
        pairs = (1, 5)[number % 2]
        weight, tables, x, bins, identity = make_case(
            channels, outputs, kernel, pairs, size=size, seed=number
        )
        packed = PackedUnit.from_tensors(weight, **tables)
        for added in (None, identity):
            want = plain(weight, tables, x, bins, added)
            assert same_bits(packed(x, bins, added), want), (size, pairs)


@pytest.mark.parametrize("size", [(40, 70), (37, 9), (300, 4), (2, 2100)])
def test_maps_of_several_blocks(size, monkeypatch):
    """Blocks of four rows, the last one shorter, of which each sees its neighbours' edges."""
    monkeypatch.setattr(convolution, "BLOCK", 1)
    weight, tables, x, bins, _ = make_case(70, 20, (3, 3), 2, batch=2, size=size)
    packed = PackedUnit.from_tensors(weight, **tables)
    assert same_bits(packed(x, bins), plain(weight, tables, x, bins))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_two_threads_give_the_same(batch, two_threads):
    for size in ((1, 7), (3, 5), (16, 16)):
        weight, tables, x, bins, identity = make_case(65, 20, (3, 3), 5, batch, size)
        packed = PackedUnit.from_tensors(weight, **tables)
        want = plain(weight, tables, x, bins, identity)
        assert same_bits(packed(x, bins, identity), want), size


def test_more_threads_than_numba_has(two_threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    weight, tables, x, bins, _ = make_case(8, 8, (3, 3), 2, 2, (70, 3))
    assert same_bits(
        PackedUnit.from_tensors(weight, **tables)(x, bins), plain(weight, tables, x, bins)
    )
    monkeypatch.undo()


@pytest.mark.parametrize("kernel", [1, 3])
def test_signals_of_one_dimension(kernel):
    weight, tables, x, bins, identity = make_case(70, 70, (kernel,), 5, size=(13,))
    packed = PackedUnit.from_tensors(weight, **tables)
    got = packed(x, bins, identity)
    assert got.shape == (3, 70, 13)
    assert same_bits(got, plain(weight, tables, x, bins, identity))
    assert same_bits(got, plain(weight[:, :, None], tables, x, bins, identity))
    # the output of one unit is the input of the next
    assert same_bits(packed(got, bins, got), plain(weight, tables, got, bins, got))


def test_every_part_is_optional():
    weight, tables, x, bins, identity = make_case(20, 20, (3, 3), 3)
    rprelu = ("before", "slope", "after")
    subsets = [(), ("scale",), ("shift",), rprelu, ("scale", "shift"), ("shift", *rprelu)]
    for names in subsets:
        some = {name: tables[name] for name in names}
        packed = PackedUnit.from_tensors(weight, **some)
        chosen = bins if set(names) - {"scale"} else None
        for added in (None, identity):
            got = packed(x, chosen, added)
            assert same_bits(got, plain(weight, some, x, chosen, added)), names
    integers = PackedUnit.from_tensors(weight)(x)
    assert torch.equal(integers, integers.round())
    # 20 channels times 9, 6 or 4 taps: sums have the parity of the number of their terms
    assert not (integers % 2).any()


def test_zero_and_negative_zero_are_positive():
    x, weight = torch.tensor([0.0, -0.0, 1.0, -1.0]).view(1, 4, 1, 1), torch.ones(1, 4, 1, 1)
    assert PackedUnit.from_tensors(weight)(x).item() == 2
    weight = torch.tensor([0.0, -0.0, 2.0, -1e-30]).view(1, 4, 1, 1)
    assert torch.equal(
        PackedWeights.from_float(weight).signs().flatten(), x.new_tensor([1, 1, 1, -1])
    )
    shift = torch.tensor([[-0.5, 0.5, -1.0, 1.0]])
    shifted = PackedUnit.from_tensors(torch.ones(1, 4, 1, 1), shift=shift)
    assert shifted(-shift.view(1, 4, 1, 1)).item() == 4


def test_sign_of_nan_is_negative():
    weight, tables, x, bins, _ = make_case(70, 5, (3, 3), 2)
    packed = PackedUnit.from_tensors(weight, **tables)
    broken, low = x.clone(), x.clone()
    broken[:, ::3], low[:, ::3] = torch.nan, -torch.inf
    assert same_bits(packed(broken, bins), packed(low, bins))
    assert same_bits(plain(weight, tables, broken, bins), packed(low, bins))


def test_memory_layout_does_not_matter():
    weight, tables, x, bins, identity = make_case(20, 20, (3, 3), 2, size=(6, 8))
    packed = PackedUnit.from_tensors(weight, **tables)
    want = plain(weight, tables, x, bins, identity)
    layouts = {
        "contiguous": lambda t: t.contiguous(),
        "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
        "transposed": lambda t: t.mT.contiguous().mT,
        "strided": lambda t: t.repeat_interleave(2, dim=3)[..., ::2],
        "part of a larger batch": lambda t: torch.cat([t, t])[3:],
    }
    for name, change in layouts.items():
        kept = change(x).clone()
        assert same_bits(packed(change(x), bins, change(identity)), want), name
        assert torch.equal(kept, x)
    assert packed(x, bins).is_contiguous(memory_format=torch.channels_last)
    # inputs are not written to, nor is a result by the next call
    first = packed(x, bins, identity)
    packed(-x, bins)
    assert same_bits(first, want)


def test_memory_of_large_results_is_used_again(monkeypatch):
    monkeypatch.setattr(buffers, "LARGE", 0)
    monkeypatch.setattr(buffers, "ROOM", 0)
    buffers._free.clear()
    weight, tables, x, bins, _ = make_case(20, 20, (3, 3), 2)
    x = x.contiguous(memory_format=torch.channels_last)
    packed = PackedUnit.from_tensors(weight, **tables)
    first = packed(x, bins)
    want, address, part = first.clone(), first.data_ptr(), first[1]
    del first
    others = [packed(-x, bins) for _ in range(3)]
    assert torch.equal(part, want[1])
    assert address not in [other.data_ptr() for other in others]
    del others
    assert len(buffers._free) == buffers.KEPT
    del part
    assert address in [piece.ctypes.data for piece in buffers._free]
    # nor does memory of another size serve
    packed(x[:2], bins[:2])
    held = [packed(x, bins) for _ in range(3)]
    assert len({one.data_ptr() for one in held}) == 3
    assert address in [one.data_ptr() for one in held]
    assert all(same_bits(one, want) for one in held)


def test_more_memory_is_kept_while_there_is_room(monkeypatch):
    monkeypatch.setattr(buffers, "LARGE", 0)
    monkeypatch.setattr(buffers, "ROOM", 4 * 1000)
    buffers._free.clear()
    # one after the other, so that none gets another's memory
    held = [buffers.empty((size,)) for size in (600, 300, 400, 100, 200)]
    while held:
        held.pop(0)
    assert [piece.size for piece in buffers._free] == [300, 400, 100, 200]
    # however large they are, the last two stay
    held = [buffers.empty((size,)) for size in (5000, 6000)]
    held.pop(0)
    held.pop(0)
    assert [piece.size for piece in buffers._free] == [5000, 6000]
    buffers._free.clear()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_smaller_memory_is_not_cleared_at_each_use():
    """Six tensors of 4 MiB, freed and made again, have 6,144 pages, each cleared or kept."""
    code = """
import resource, torch
from bayes1bit.networks.packed import buffers
buffers.keep_smaller()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work = lambda: [torch.empty(2**20).fill_(1) for _ in range(6)]
work()
before = faults()
for _ in range(10):
    work()
print(faults() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 6144


def test_calls_from_several_threads(two_threads):
    cases = [make_case(70, 20, (3, 3), 2, size=(9, 11), seed=seed) for seed in range(4)]
    units = [PackedUnit.from_tensors(weight, **tables) for weight, tables, *_ in cases]

    def repeat(number):
        _, _, x, bins, identity = cases[number]
        # a thread starts with torch's own count
        torch.set_num_threads(1 + number % 2)
        with torch.inference_mode():
            return [units[number](x, bins, identity) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(repeat, range(4)))
    for (weight, tables, x, bins, identity), outs in zip(cases, results, strict=True):
        want = plain(weight, tables, x, bins, identity)
        assert all(same_bits(out, want) for out in outs)


@pytest.mark.parametrize("pairs", [1, 5])
@pytest.mark.parametrize("size", [(5, 7), (9,)])
def test_tables_of_half_precision_are_held_in_it(pairs, size):
    weight, tables, x, bins, identity = make_case(65, 20, (3, 3)[: len(size)], pairs, size=size)
    tables = {name: table.half().float() for name, table in tables.items()}
    # a number below the smallest normal one, and the largest
    tables["after"][0, :2] = torch.tensor([2.0**-24, 65504.0])
    packed = PackedUnit.from_tensors(weight, **tables)
    assert all(packed.get_buffer(name).dtype == torch.float16 for name in tables)
    assert same_bits(packed(x, bins, identity), plain(weight, tables, x, bins, identity))
    # nothing is held besides the bits and the tables
    held = 2 * sum(table.numel() for table in tables.values()) + 8 * packed.words.numel()
    assert network_speed.held_bytes(packed) == held
    state = packed.state_dict()
    assert all(torch.equal(state[name], table) for name, table in tables.items())
    assert all(state[name].dtype == torch.float32 for name in tables)
    for same in (packed.half(), packed.float(), packed.double(), copy.deepcopy(packed)):
        assert same.scale.dtype == torch.float16
        assert same_bits(same(x, bins, identity), plain(weight, tables, x, bins, identity))


@pytest.mark.parametrize("name", ["scale", "shift", "before", "slope", "after"])
def test_no_table_is_rounded(name):
    """One number that half precision does not have, in the table's last place."""
    weight, tables, x, bins, identity = make_case(20, 20, (3, 3), 3)
    short = {key: table.half().float() for key, table in tables.items()}
    exact = {**short, name: short[name].clone()}
    exact[name].view(-1)[-1] = 0.1
    unit_, loaded = (PackedUnit.from_tensors(weight, **some) for some in (exact, short))
    loaded.load_state_dict(unit_.state_dict())
    for packed in (unit_, loaded):
        assert {packed.get_buffer(key).dtype for key in tables} == {torch.float32}
        assert same_bits(packed(x, bins, identity), plain(weight, exact, x, bins, identity))
    loaded.load_state_dict(PackedUnit.from_tensors(weight, **short).state_dict())
    assert {loaded.get_buffer(key).dtype for key in tables} == {torch.float16}
    assert same_bits(loaded(x, bins, identity), plain(weight, short, x, bins, identity))


def test_state_is_assigned_to_a_unit_without_memory():
    weight, tables, x, bins, identity = make_case(65, 20, (3, 3), 3)
    packed = PackedUnit.from_tensors(weight, **tables)
    on_meta = {name: table.to("meta") for name, table in tables.items()}
    empty = PackedUnit.from_tensors(weight.to("meta"), **on_meta)
    assert {buffer.device.type for buffer in empty.buffers()} == {"meta"}
    assert {key: t.shape for key, t in empty.state_dict().items()} == {
        key: t.shape for key, t in packed.state_dict().items()
    }
    empty.load_state_dict(packed.state_dict(), assign=True)
    assert same_bits(empty(x, bins, identity), packed(x, bins, identity))


@pytest.mark.parametrize(("channels", "outputs"), WIDTHS)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (1, 3)])
def test_kernel_counts_the_borders(channels, outputs, kernel):
    weights = PackedWeights.from_float(make_case(channels, outputs, kernel, 1)[0])
    border = np.zeros((constants.KINDS, weights.words.shape[1]), np.int32)
    constants.fill_border(weights.words.numpy(), *kernel, channels, border)
    want = weights.border_table().numpy()
    # outputs that are only padding are never read
    np.testing.assert_array_equal(border[:, :outputs], want[:, :outputs])


def test_kernel_reads_all_numbers_of_half_precision():
    bits = np.arange(-(2**15), 2**15, dtype=np.int16)[None]
    shift = np.empty((1, 2**16), np.float32)
    after_sums, rows = np.empty((1, 4, 2**16), np.float32), np.empty(1, np.int64)
    constants.fill_constants(np.zeros(1, np.float32), False, (bits,) * 5, after_sums, shift, rows)
    np.testing.assert_array_equal(shift, bits.view(np.float16).astype(np.float32))


@pytest.mark.parametrize("pairs", [1, 2, 5])
@pytest.mark.parametrize("half", [False, True])
def test_kernel_interpolates_as_torch_does(pairs, half):
    torch.manual_seed(0)
    tables = [torch.randn(pairs, width).half().float() for width in (70, 33, 33, 33, 33)]
    last = pairs - 1
    levels = [0.0, 0.0, last, last, 0.3 * last, 0.999 * last, 0.999 * last, 0.0, 0.5 * last]
    places = torch.tensor([*levels, *(torch.rand(50) * last).tolist()])
    stored = [t.half().view(torch.int16).numpy() if half else t.numpy() for t in tables]
    after_sums = np.full((len(places), 4, 48), np.nan, np.float32)
    shift, rows = np.empty((len(places), 70), np.float32), np.empty(len(places), np.int64)
    constants.fill_constants(places.numpy(), True, tuple(stored), after_sums, shift, rows)
    # samples of the level of the one before share its row
    assert rows[:9].tolist() == ([0] * 9 if pairs == 1 else [0, 0, 1, 1, 2, 3, 3, 4, 5])
    want = [interpolate(table, places).expand(len(places), -1) for table in tables]
    assert same_bits(torch.from_numpy(shift[rows]), want[0])
    for i in range(4):
        assert same_bits(torch.from_numpy(after_sums[rows, i, :33]), want[1 + i])
    assert not after_sums[rows, :, 33:].any()


def test_kernel_is_what_runs(monkeypatch):
    """So that the other tests do not compare the plain path with itself."""
    weight, tables, x, bins, identity = make_case(20, 20, (3, 3), 2)
    packed = PackedUnit.from_tensors(weight, **tables)
    calls, original = [], convolution.convolve
    spy = lambda *arguments: calls.append(0) or original(*arguments)  # noqa: E731
    monkeypatch.setattr(convolution, "convolve", spy)
    fast = packed(x, bins, identity)
    assert calls == [0]
    monkeypatch.setattr(unit, "numba_for", lambda x: None)
    assert same_bits(packed(x, bins, identity), fast)
    assert calls == [0]


def test_empty_batch():
    weight, tables, x, bins, _ = make_case(20, 6, (3, 3), 2)
    assert PackedUnit.from_tensors(weight, **tables)(x[:0], bins[:0]).shape == (0, 6, 5, 7)


@pytest.mark.parametrize("channels", [1, 3, 63, 64, 65, 128, 200])
def test_words_hold_the_signs(channels):
    generator = torch.Generator().manual_seed(channels)
    t = torch.randn(4, 5, channels, generator=generator).round()
    words = pack_signs(t)
    padded = np.zeros((4, 5, -(-channels // 64) * 64), bool)
    padded[..., :channels] = t.numpy() >= 0
    want = np.packbits(padded, axis=-1, bitorder="little").view("<i8")
    np.testing.assert_array_equal(words, want)
    assert torch.equal(unpack_signs(words, channels), torch.where(t >= 0, 1.0, -1.0))


@pytest.mark.parametrize("shape", [(3, 3, 3, 3), (65, 100, 1, 1), (5, 64, 1, 3), (16, 128, 3, 3)])
def test_weights_make_a_round_trip(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    packed = PackedWeights.from_float(weight)
    assert torch.equal(packed.signs(), torch.where(weight >= 0, 1.0, -1.0))
    want = np.packbits(weight.numpy().ravel() >= 0, bitorder="little")
    np.testing.assert_array_equal(packed.bits(), want)
    again = PackedWeights.from_bits(packed.bits(), shape)
    assert torch.equal(again.words, packed.words)
    assert again.shape == shape


def test_state_holds_one_bit_a_weight():
    weight, tables, x, bins, _ = make_case(100, 33, (3, 3), 2)
    packed = nn.Sequential(PackedUnit.from_tensors(weight, **tables))
    state = packed.state_dict()
    assert set(state) == {f"0.{name}" for name in (*tables, "weight_bits")}
    assert state["0.weight_bits"].dtype == torch.uint8
    assert state["0.weight_bits"].shape == (-(-33 * 100 * 9 // 8),)
    other = make_case(100, 33, (3, 3), 2, seed=1)
    loaded = nn.Sequential(PackedUnit.from_tensors(other[0], **other[1]))
    # a call before the state is loaded must leave nothing behind
    before = loaded[0](x, bins)
    loaded.load_state_dict(state)
    want = packed[0](x, bins)
    assert same_bits(loaded[0](x, bins), want)
    assert not torch.equal(before, want)
    stream = io.BytesIO()
    torch.save(packed, stream)
    stream.seek(0)
    assert same_bits(torch.load(stream, weights_only=False)[0](x, bins), want)
    assert same_bits(copy.deepcopy(packed)[0](x, bins), want)


def test_state_that_does_not_fit():
    weight, tables, *_ = make_case(100, 33, (3, 3), 2)
    packed = PackedUnit.from_tensors(weight, **tables)
    state = packed.state_dict()
    bits = state.pop("weight_bits")
    with pytest.raises(RuntimeError, match=r"Missing key.*weight_bits"):
        packed.load_state_dict(state)
    with pytest.raises(RuntimeError, match="3713 bytes of bits"):
        packed.load_state_dict({**state, "weight_bits": bits[1:]})


def test_training_is_refused():
    weight, tables, x, bins, identity = make_case(8, 8, (3, 3), 2)
    packed = PackedUnit.from_tensors(weight, **tables)
    assert not packed.training
    assert packed.eval() is packed
    network = nn.Sequential(packed)
    with pytest.raises(InputError, match="train the float network, then pack it"):
        network.train()
    assert not list(packed.parameters())
    with pytest.raises(InputError, match="without a gradient"):
        packed(x.requires_grad_(), bins)
    with pytest.raises(InputError, match="without a gradient"):
        packed(x.detach(), bins, identity.requires_grad_())
    with torch.no_grad():
        assert not packed(x, bins, identity).requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 7, 5, 5)}, r"shape \(batch, 8, height, width\), got \(2, 7, 5, 5\)"),
        ({"x": torch.zeros(2, 8, 5)}, "input must have shape"),
        ({"x": torch.zeros(2, 8, 5, 5, dtype=torch.float64)}, "takes float32 input"),
        ({"bins": None}, "one of 5 pairs"),
        ({"bins": torch.tensor([0, 5])}, r"in \[0, 5\), got 0 to 5"),
        ({"bins": torch.tensor([-1, 2])}, "got -1 to 2"),
        ({"bins": torch.tensor([0])}, r"int64 of shape \(2,\)"),
        ({"bins": torch.tensor([0.0, 1.0])}, "got torch.float32"),
        ({"identity": torch.zeros(2, 8, 5, 5)}, r"shape \(2, 9, 5, 5\)"),
        ({"identity": torch.zeros(2, 9, 5, 5, dtype=torch.float64)}, "identity must be float32"),
    ],
)
def test_calls_that_do_not_fit(change, message):
    weight, tables, *_ = make_case(8, 9, (3, 3), 5)
    call = {"x": torch.zeros(2, 8, 5, 5), "bins": torch.tensor([0, 4]), "identity": None}
    with pytest.raises(InputError, match=message):
        PackedUnit.from_tensors(weight, **tables)(**{**call, **change})


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"scale": torch.ones(8)}, r"scale must have shape \(9,\)"),
        ({"shift": torch.ones(2, 9)}, r"shift must have shape \(pairs, 8\)"),
        ({"before": torch.ones(2, 9)}, "needs before, slope and after, got only before"),
        (
            {
                "shift": torch.ones(1, 8),
                **dict.fromkeys(("before", "slope", "after"), torch.ones(2, 9)),
            },
            "the same pairs in each table",
        ),
    ],
)
def test_tables_that_do_not_fit(tables, message):
    with pytest.raises(InputError, match=message):
        PackedUnit.from_tensors(torch.ones(9, 8, 3, 3), **tables)


@pytest.mark.parametrize("shape", [(9, 8, 5, 5), (9, 8, 3, 1), (9, 8), (0, 8, 3, 3)])
def test_weights_that_do_not_fit(shape):
    with pytest.raises(InputError, match="kernel of 1x1, 3x3 or 1x3"):
        PackedWeights.from_float(torch.ones(shape))


def test_weights_without_a_sign():
    with pytest.raises(InputError, match="NaN"):
        PackedWeights.from_float(torch.full((2, 2, 1, 1), torch.nan))


def test_importing_does_not_import_numba():
    code = "import sys, bayes1bit.networks.packed; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_table_of_convolutions(monkeypatch):
    monkeypatch.setattr(speed, "BLOCK", 1e-4)
    monkeypatch.setattr(network_speed, "CHANNELS", (64,))
    monkeypatch.setattr(network_speed, "SIDES", (8,))
    rows = network_speed.convolution_speed()
    assert [(row["channels"], row["map"], row["batch"]) for row in rows] == [
        (64, "8x8", 8),
        (64, "8x8", 64),
    ]
    for row in rows:
        assert row["exact"]
        assert row["ratio"] == pytest.approx(row["float32 ms"] / row["packed ms"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same():
    weight, tables, x, bins, identity = make_case(65, 20, (3, 3), 5)
    packed = PackedUnit.from_tensors(weight, **tables)
    want = packed(x, bins, identity)
    got = packed.cuda()(x.cuda(), bins.cuda(), identity.cuda())
    assert torch.equal(got.cpu(), want)
