"""Triton's kernels equal the float path bit for bit: on a GPU, or in Triton's interpreter.

The interpreter runs on the CPU where the environment has ``TRITON_INTERPRET=1`` from the start.
Without it, and without a GPU, they can still be compiled for one.
"""

import copy
import re
import subprocess
import sys

import packed_cases
import pytest
import torch
from packed_cases import plain, same_bits

from bayes1bit.networks import BIDiffSR, BitUNet, pack
from bayes1bit.networks.packed import PackedUnit, PackedWeights, choice

triton = pytest.importorskip("triton", reason="Triton is not installed")
kernels = pytest.importorskip("bayes1bit.networks.packed.triton_kernels")

INTERPRETED = triton.knobs.runtime.interpret
DEVICE = torch.device("cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu")
runs = pytest.mark.skipif(
    DEVICE.type == "cpu" and not INTERPRETED, reason="needs a GPU, or TRITON_INTERPRET=1"
)

CHANNELS = [3, 64, 70, 128]
OUTPUTS = [3, 16, 65]
KERNELS = [(1, 1), (3, 3), (1, 3)]


@pytest.fixture
def on_device(monkeypatch):
    """Packed units take Triton's kernels, on the CPU too if that is where they run."""
    monkeypatch.setattr(choice, "TRITON_DEVICES", (DEVICE.type,))


def make_case(channels, outputs, kernel, pairs=2, batch=2, size=(5, 7), seed=0):
    """A case on the device."""
    return packed_cases.make_case(
        channels, outputs, kernel, pairs, batch, size, seed, device=DEVICE
    )


@runs
def test_population_count():
    """Through a unit of 32 channels whose words are any 32 bits."""
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(2, (1, 32, 40, 50), generator=generator)
    bits[..., 0, 0], bits[..., 0, 1] = 0, 1
    weight = torch.ones(1, 32, 1, 1, device=DEVICE)
    # scale and slope are 1, the shifts around them 0
    tables = torch.tensor([1.0, 0.0, 1.0, 0.0], device=DEVICE).view(1, 4, 1)
    weights = PackedWeights.from_float(weight)
    x, shift = (bits - 0.5).to(DEVICE), torch.zeros(1, 32, device=DEVICE)
    got = kernels.convolve(x, weights.shape, *kernels.lay_out(weights), tables, shift, None)
    assert torch.equal(got[:, 0].cpu(), 2.0 * bits.sum(1) - 32)


@runs
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_the_float_path(channels, outputs, kernel, on_device):
    for number, size in enumerate([(1, 1), (1, 5), (5, 7), (9, 16)]):
        pairs = (1, 5)[number % 2]
        weight, tables, x, bins, identity = make_case(
            channels, outputs, kernel, pairs, size=size, seed=number
        )
        packed = PackedUnit.from_tensors(weight, **tables)
        added = identity if number != 1 else None
        want = plain(weight, tables, x, bins, added)
        assert same_bits(packed(x, bins, added), want), (size, pairs)


@runs
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("channels", CHANNELS)
def test_sums_are_exact_at_every_border(channels, kernel, on_device):
    """The integers alone, against sums in float64 of maps that are all border, or nearly."""
    for height, width in ((1, 1), (1, 2), (2, 1), (3, 3), (4, 3)):
        weight, _, x, *_ = make_case(channels, 20, kernel, size=(height, width))
        signs = [torch.where(t >= 0, 1.0, -1.0).double() for t in (x, weight)]
        padding = (kernel[0] // 2, kernel[1] // 2)
        want = torch.nn.functional.conv2d(*signs, padding=padding)
        got = PackedUnit.from_tensors(weight)(x)
        assert torch.equal(got.double(), want.round()), (height, width)


@runs
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(3, 5), (8, 8), (13, 11), (2, 200)])
def test_batches_and_maps_of_several_tiles(batch, size, on_device):
    weight, tables, x, bins, identity = make_case(70, 70, (3, 3), 5, batch, size)
    packed = PackedUnit.from_tensors(weight, **tables)
    assert same_bits(packed(x, bins, identity), plain(weight, tables, x, bins, identity))


@runs
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("channels", CHANNELS)
def test_signals_of_one_dimension(channels, kernel, on_device):
    weight, tables, x, bins, identity = make_case(channels, channels, (kernel,), 5, 3, (83,))
    packed = PackedUnit.from_tensors(weight, **tables)
    got = packed(x, bins, identity)
    assert same_bits(got, plain(weight, tables, x, bins, identity))
    # the output of one unit is the input of the next
    assert same_bits(packed(got, bins, got), plain(weight, tables, got, bins, got))


@runs
def test_every_part_is_optional(on_device):
    weight, tables, x, bins, identity = make_case(20, 20, (3, 3), 3)
    rprelu = ("before", "slope", "after")
    for names in ((), ("scale",), ("shift",), rprelu, ("scale", "shift"), ("shift", *rprelu)):
        some = {name: tables[name] for name in names}
        packed = PackedUnit.from_tensors(weight, **some)
        chosen = bins if set(names) - {"scale"} else None
        for added in (None, identity):
            want = plain(weight, some, x, chosen, added)
            assert same_bits(packed(x, chosen, added), want), names


@runs
def test_signs_of_zero_and_nan(on_device):
    weight, tables, x, bins, _ = make_case(70, 5, (3, 3), 2)
    packed = PackedUnit.from_tensors(weight, **tables)
    broken, low = x.clone(), x.clone()
    broken[:, ::3], low[:, ::3] = torch.nan, -torch.inf
    assert same_bits(packed(broken, bins), packed(low, bins))
    x = torch.tensor([0.0, -0.0, 1.0, -1.0], device=DEVICE).view(1, 4, 1, 1)
    ones = torch.ones(1, 4, 1, 1, device=DEVICE)
    assert PackedUnit.from_tensors(ones)(x).item() == 2


@runs
def test_memory_layout_does_not_matter(on_device):
    weight, tables, x, bins, identity = make_case(20, 20, (3, 3), 2, size=(6, 8))
    packed = PackedUnit.from_tensors(weight, **tables)
    layouts = {
        "contiguous": lambda t: t.contiguous(),
        "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
        "transposed": lambda t: t.mT.contiguous().mT,
        "strided": lambda t: t.repeat_interleave(2, dim=3)[..., ::2],
        "expanded": lambda t: t[:1].expand_as(t),
        "part of a larger batch": lambda t: torch.cat([t, t])[2:],
    }
    for name, change in layouts.items():
        changed, added = change(x), change(identity)
        kept = changed.clone()
        want = plain(weight, tables, kept, bins, added.clone())
        assert same_bits(packed(changed, bins, added), want), name
        assert torch.equal(changed, kept)
    assert packed(x, bins).is_contiguous(memory_format=torch.channels_last)


@runs
def test_a_new_state_takes_effect(on_device):
    first, second = (make_case(70, 20, (3, 3), 2, seed=seed) for seed in (0, 1))
    loaded = PackedUnit.from_tensors(first[0], **first[1])
    # a call before the state is loaded must leave nothing behind
    loaded(*first[2:])
    loaded.load_state_dict(PackedUnit.from_tensors(second[0], **second[1]).state_dict())
    want = plain(second[0], second[1], *second[2:])
    assert same_bits(loaded(*second[2:]), want)
    assert same_bits(copy.deepcopy(loaded)(*second[2:]), want)


@runs
@pytest.mark.parametrize("sigma", [[0.01, 0.3], [0.5, 0.5]])
@pytest.mark.parametrize(
    ("event_shape", "settings"), [((1, 8, 8), {}), ((2, 16), {}), ((1, 8, 8), {"knots": 1})]
)
def test_packed_bit_unet_gives_the_same_bits(event_shape, settings, sigma, on_device, monkeypatch):
    torch.manual_seed(0)
    settings = {"widths": (16, 32), "blocks": 1, "middle_blocks": 1, "octaves": 2, **settings}
    packed = pack(BitUNet(event_shape, **settings)).to(DEVICE)
    x, labels = torch.randn(2, *event_shape).to(DEVICE), 10 * torch.tensor(sigma).log().to(DEVICE)
    calls, original = [], kernels.convolve
    monkeypatch.setattr(kernels, "convolve", lambda *a: calls.append(0) or original(*a))
    with torch.no_grad():
        ours = packed(x, labels)
        assert calls
        # the same modules, each in float
        monkeypatch.setattr(choice, "_load", lambda name: None)
        monkeypatch.setattr(choice, "TRITON_DEVICES", ())
        number = len(calls)
        assert torch.equal(packed(x, labels), ours)
        assert len(calls) == number


@runs
@pytest.mark.parametrize("binarizer", ["bnn", "bidiffsr"])
def test_packed_bidiffsr_gives_the_same_numbers(binarizer, on_device):
    torch.manual_seed(0)
    settings = {"width": 8, "multipliers": (1, 2), "blocks": 1, "norm_groups": 4}
    network = BIDiffSR((1, 8, 8), binarizer=binarizer, full_decoder=(0,), **settings).eval()
    network = network.to(DEVICE)
    x, labels = torch.randn(2, 1, 8, 8).to(DEVICE), torch.tensor([-40.0, 3.0]).to(DEVICE)
    with torch.no_grad():
        ours, theirs = pack(network)(x, labels), network(x, labels)
    # normalisations round differently where memory is in another order
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@runs
def test_gradients_take_the_float_path(on_device):
    unit = next(
        module
        for module in pack(BitUNet((1, 8, 8), widths=(16, 32), blocks=1)).to(DEVICE).modules()
        if isinstance(module, PackedUnit)
    )
    x = torch.randn(2, unit.shape[1], 4, 4).to(DEVICE).requires_grad_()
    response = unit(x, torch.zeros(2).to(DEVICE))
    response.square().sum().backward()
    assert x.grad.abs().max() > 0
    assert torch.equal(unit(x.detach(), torch.zeros(2).to(DEVICE)), response)


@runs
def test_empty_batch(on_device):
    weight, tables, x, bins, _ = make_case(20, 6, (3, 3), 2)
    assert PackedUnit.from_tensors(weight, **tables)(x[:0], bins[:0]).shape == (0, 6, 5, 7)


@runs
def test_kernels_are_what_runs(on_device, monkeypatch):
    """So that the other tests do not compare the plain path with itself."""
    weight, tables, x, bins, identity = make_case(20, 20, (3, 3), 2)
    packed = PackedUnit.from_tensors(weight, **tables)
    calls, original = [], kernels.convolve
    monkeypatch.setattr(kernels, "convolve", lambda *a: calls.append(0) or original(*a))
    packed(x, bins, identity)
    assert calls == [0]


@runs
def test_a_device_is_checked_once(on_device, monkeypatch):
    weight, tables, x, bins, _ = make_case(20, 20, (3, 3), 2)
    want = plain(weight, tables, x, bins)
    asked = []

    def wrong(device):
        asked.append(device)
        return False

    def broken(device):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(choice, "numba_for", lambda x: None)
    for agrees, message in ((wrong, "not those of plain torch"), (broken, "no compiler")):
        choice._checked.cache_clear()
        monkeypatch.setattr(kernels, "agrees", agrees)
        packed = PackedUnit.from_tensors(weight, **tables)
        with pytest.warns(UserWarning, match=message):
            got = packed(x, bins)
        assert torch.allclose(got, want)
        assert torch.equal(packed(x, bins), got)
    assert len(asked) == 1
    monkeypatch.undo()
    choice._checked.cache_clear()
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        assert kernels.agrees(DEVICE)


def test_importing_does_not_import_triton():
    # torch itself may: this asks for the only module of ours that does
    code = (
        "import sys, bayes1bit.networks.packed; "
        "sys.exit('bayes1bit.networks.packed.triton_kernels' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(INTERPRETED, reason="the interpreter stands in place of the compiler")
@pytest.mark.parametrize("capability", [75, 80, 90])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_compiles_to_what_is_meant(kernel, capability):
    """For a GPU that need not be there: one-instruction counts, and nothing fused or flushed."""
    types = {
        **dict.fromkeys(["packed", "weights", "border"], "*i32"),
        **dict.fromkeys(["tables", "identity", "out", "x", "shift"], "*fp32"),
    }
    constants = {
        "ADDED": True,
        "KERNEL_HEIGHT": kernel[0],
        "KERNEL_WIDTH": kernel[1],
        "WORDS": 3,
        "BLOCK": 64,
        "OUTPUTS": 32,
    }
    code = {}
    for function in (kernels.pack_kernel, kernels.convolve_kernel):
        names = function.arg_names
        source = triton.compiler.ASTSource(
            fn=function,
            signature={
                name: "constexpr" if name in constants else types.get(name, "i32")
                for name in names
            },
            constexprs={
                (names.index(name),): value for name, value in constants.items() if name in names
            },
        )
        target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
        compiled = triton.compile(source, target=target, options=kernels.EXACT)
        code[function] = compiled.asm["ptx"]
        assert compiled.asm["cubin"]
        assert not re.search(r"\bfma\.|\.ftz", code[function])
    assert "popc.b32" in code[kernels.convolve_kernel]
