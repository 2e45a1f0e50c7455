"""Packed networks give the numbers of the float ones, and gradients to their input."""

import copy
import pickle
import sys

import pytest
import torch
from torch import nn

from bayes1bit.bench.network_speed import held_bytes
from bayes1bit.diffusion import KarrasDenoiser
from bayes1bit.errors import InputError
from bayes1bit.networks import (
    BIDiffSR,
    BitUNet,
    PatchedUNet,
    SR3UNet,
    count,
    measure_shares,
    pack,
    packable,
)
from bayes1bit.networks.binary_base import BinaryUnit
from bayes1bit.networks.bit_unit import BitUnit, Constants
from bayes1bit.networks.pack import PackedConvolution
from bayes1bit.zoo import load_prior

# the package's function hides the module of the same name
pack_module = sys.modules["bayes1bit.networks.pack"]
BIT = {"widths": (64, 72), "blocks": 1, "middle_blocks": 1, "octaves": 2, "knots": 3}
FAITHFUL = {"width": 8, "multipliers": (1, 2), "blocks": 1, "norm_groups": 4, "full_decoder": (0,)}
SIGMA = torch.tensor([0.01, 0.3, 40.0])


def varied(network):
    """The network with constants that are not their initial values."""
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            parameter.data += 0.2 * torch.randn_like(parameter)
        if name.startswith("tail"):
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


def bit_unet(event_shape=(1, 8, 8), **settings):
    return varied(BitUNet(event_shape, **{**BIT, "widths": (16, 32), **settings}))


def units(network):
    kinds = (PackedConvolution, BinaryUnit)
    return [(name, m) for name, m in network.named_modules() if isinstance(m, kinds)]


def labels(sigma):
    return 10 * torch.as_tensor(sigma).log()


@pytest.fixture(params=["kernel", "float"])
def path(request, monkeypatch):
    """With numba, and as if there were none."""
    if request.param == "kernel":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(pack_module, "numba_for", lambda x: None)


@pytest.mark.parametrize("sigma", [SIGMA, [0.5, 0.5, 0.5]])
@pytest.mark.parametrize(
    ("event_shape", "settings"),
    [
        ((1, 8, 8), {}),
        ((3, 4, 8), {"patch": 1, "widths": (64, 128)}),
        ((2, 16), {}),
        ((1, 8, 8), {"knots": 1}),
    ],
)
def test_packed_bit_unet_gives_the_same_bits(event_shape, settings, sigma, path):
    network = bit_unet(event_shape, **settings)
    packed = pack(network)
    x = torch.randn(3, *event_shape)
    with torch.no_grad():
        assert torch.equal(packed(x, labels(sigma)), network(x, labels(sigma)))


@pytest.mark.parametrize("binarizer", ["bnn", "irnet", "reactnet", "bbcu", "bidiffsr"])
@pytest.mark.parametrize("event_shape", [(1, 8, 8), (2, 16)])
def test_packed_bidiffsr_gives_the_same_numbers(event_shape, binarizer, path):
    network = varied(BIDiffSR(event_shape, binarizer=binarizer, **FAITHFUL))
    x = torch.randn(3, *event_shape)
    with torch.no_grad():
        ours, theirs = pack(network)(x, labels(SIGMA)), network(x, labels(SIGMA))
    # normalisations round differently where memory is in another order
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [bit_unet, lambda: varied(BIDiffSR((1, 8, 8), **FAITHFUL))])
def test_gradient_with_respect_to_the_input_is_that_of_the_float_network(make):
    network = make()
    packed = pack(network)
    x = torch.randn(3, 1, 8, 8, requires_grad=True)
    first, second = (
        torch.autograd.grad(f(x, labels(SIGMA)).square().sum(), x)[0] for f in (packed, network)
    )
    assert second.abs().max() > 0.01
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_the_kernel_runs_unless_a_gradient_is_needed(monkeypatch):
    pytest.importorskip("numba")
    packed, called = pack(bit_unet()), []
    monkeypatch.setattr(
        pack_module, "respond", lambda *a, f=pack_module.respond: called.append(1) or f(*a)
    )
    x = torch.randn(1, 1, 8, 8)
    packed(x, torch.zeros(1))
    with torch.no_grad():
        packed(x.requires_grad_(), torch.zeros(1))
    assert not called
    packed(x, torch.zeros(1))
    assert called


def test_signs_in_float_follow_a_new_state():
    first, second = pack(bit_unet()), pack(bit_unet(event_shape=(1, 16, 16)))
    for unit in second.modules():
        if isinstance(unit, PackedConvolution):
            unit.words = ~unit.words
    x = torch.randn(1, 1, 8, 8, requires_grad=True)
    before = first(x, torch.zeros(1))
    first.load_state_dict(second.state_dict())
    assert torch.equal(first(x, torch.zeros(1)), second(x, torch.zeros(1)))
    assert not torch.equal(first(x, torch.zeros(1)), before)


def test_packing_leaves_the_network_as_it_is():
    network = bit_unet().train()
    before = copy.deepcopy(network.state_dict())
    packed = pack(network)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in packed.parameters())
    assert not any(module.training for module in packed.modules())


def test_a_packed_network_is_not_trained():
    with pytest.raises(InputError, match="cannot be trained"):
        pack(bit_unet()).train()


def test_state_holds_one_bit_a_weight():
    network = bit_unet()
    state = pack(network).state_dict()
    bits = [tensor for tensor in state.values() if tensor.dtype == torch.uint8]
    assert len(bits) == sum(isinstance(m, PackedConvolution) for m in pack(network).modules())
    assert 8 * sum(len(b) for b in bits) == count(network, (1, 8, 8)).binary_parameters
    other = pack(bit_unet(patch=2))
    other.load_state_dict(state)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(other(x, torch.zeros(2)), network(x, torch.zeros(2)))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_are_packed_too(duplicate):
    packed = pack(bit_unet())
    x = torch.randn(2, 1, 8, 8, requires_grad=True)
    y = packed(x, torch.zeros(2))
    again = duplicate(packed)
    assert torch.equal(again(x, torch.zeros(2)), y)
    assert torch.equal(again(x.detach(), torch.zeros(2)), y)


def test_a_denoiser_is_packed_with_its_network():
    denoiser = KarrasDenoiser(bit_unet(), 0.5)
    packed = pack(denoiser)
    assert isinstance(packed, KarrasDenoiser)
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(packed(x, SIGMA), denoiser(x, SIGMA))
        # the float parts follow a reduced type; what the bits are made of is close
        packed.autocast = torch.bfloat16
        reduced = packed(x, SIGMA)
    assert reduced.dtype == torch.float32
    with pytest.raises(InputError, match="count it before"):
        count(packed.network, (1, 8, 8))
    shares = measure_shares(packed.network, (1, 8, 8), repeats=1)
    assert shares.binary > 0


def test_packing_does_not_copy_weights_in_float(monkeypatch):
    def refuse(unit, memo):
        raise AssertionError("copied")

    networks = [bit_unet(), varied(BIDiffSR((1, 8, 8), **FAITHFUL))]
    monkeypatch.setattr(BinaryUnit, "__deepcopy__", refuse, raising=False)
    for network in networks:
        assert not any(isinstance(module, BinaryUnit) for module in pack(network).modules())
    single = next(m for m in networks[0].modules() if isinstance(m, BinaryUnit))
    assert isinstance(pack(single), PackedConvolution)


@pytest.mark.parametrize("make", [bit_unet, lambda: varied(BIDiffSR((1, 8, 8), **FAITHFUL))])
def test_a_network_without_memory_is_packed_and_loaded(make):
    network = pack(make())
    with torch.device("meta"):
        skeleton = make()
    loaded = pack(skeleton)
    loaded.load_state_dict(network.state_dict(), assign=True)
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded(x, labels(SIGMA)), network(x, labels(SIGMA)))


def test_stored_numbers_give_the_same_bits(path, monkeypatch):
    """Constants are held in half precision, and the float network with them is the same."""
    network = bit_unet().half().float()
    packed = pack(network).half().float()
    stored = {}
    for (name, unit), (_, simulated) in zip(units(packed), units(network), strict=True):
        parts = (unit.shift, unit.scale, unit.before, unit.slope, unit.after)
        assert {part.dtype for part in parts} == {torch.float16}, name
        stored[simulated] = Constants(*(part.float() for part in parts))
    monkeypatch.setattr(BitUnit, "constants", property(stored.get))
    x = torch.randn(3, 1, 8, 8, requires_grad=True)
    with torch.no_grad():
        want = network(x, labels(SIGMA))
        assert torch.equal(packed(x, labels(SIGMA)), want)
    assert torch.equal(packed(x, labels(SIGMA)), want)


def test_the_prior_of_bits_holds_a_fifteenth_of_the_full_one():
    full, bits = (load_prior(name).denoiser for name in ("fashion32", "fashion32-bi"))
    with torch.no_grad():
        bits(torch.randn(2, 1, 32, 32), torch.tensor([0.1, 1.0]))
    assert held_bytes(bits) <= held_bytes(full) / 15


def test_places_must_be_one_for_each_sample():
    pytest.importorskip("numba")
    unit = next(m for m in pack(bit_unet()).modules() if isinstance(m, PackedConvolution))
    with pytest.raises(InputError, match=r"places must have shape \(2,\), got \(3,\)"):
        unit(torch.zeros(2, 16, 4, 4), torch.zeros(3))


def test_units_pass_empty_batches():
    unit = next(m for m in pack(bit_unet()).modules() if isinstance(m, PackedConvolution))
    assert unit(torch.zeros(0, 16, 4, 4), torch.zeros(0)).shape == (0, 16, 4, 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BIDiffSR((1, 8, 8), binarizer="dorefa", **FAITHFUL),
        lambda: BIDiffSR((1, 8, 8), binarizer="xnor", **FAITHFUL),
        lambda: SR3UNet((1, 8, 8), width=8, multipliers=(1, 2), blocks=1, norm_groups=4),
        lambda: PatchedUNet((1, 8, 8), widths=(32, 32), attention=(False, False)),
        lambda: KarrasDenoiser(nn.Identity(), 0.5),
    ],
)
def test_networks_without_packable_units_are_refused(make):
    network = make()
    assert not packable(network)
    with pytest.raises(InputError, match=r"no part of this \w+ can be packed"):
        pack(network)
