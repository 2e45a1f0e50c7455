"""BitUNet and its units: one formula, constants that glide with the level, a calm start."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bayes1bit.diffusion import KarrasDenoiser
from bayes1bit.errors import InputError
from bayes1bit.networks import BitUNet, BitUnit, count
from bayes1bit.networks.binarize import quadratic_sign, straight_through_sign
from bayes1bit.networks.binary_base import use_real_weights
from bayes1bit.networks.bit_unit import Constants, interpolate, respond
from bayes1bit.networks.bitunet_parts import GroupDown, HalfExchange, ShuffleUp, Waves
from bayes1bit.networks.time_aware import rprelu
from bayes1bit.networks.unet_blocks import NoiseLevel

SMALL = {"widths": (8, 16), "blocks": 1, "middle_blocks": 1, "octaves": 2, "knots": 3}


def small(event_shape=(1, 8, 8), **settings):
    """A small network whose constants are not their initial values."""
    torch.manual_seed(0)
    network = BitUNet(event_shape, **{**SMALL, **settings})
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            parameter.data += 0.2 * torch.randn_like(parameter)
        if name.startswith("tail"):
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


def units(network):
    return {name: m for name, m in network.named_modules() if isinstance(m, BitUnit)}


def random_unit(*channels, kernel_size=3, dim=2, pairs=3):
    torch.manual_seed(1)
    unit = BitUnit(*channels, kernel_size, dim=dim, pairs=pairs)
    for parameter in unit.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return unit.double()


# Units


@pytest.mark.parametrize("channels", [(4, 4), (4, 6)])
@pytest.mark.parametrize(("dim", "kernel_size"), [(2, 3), (2, 1), (1, 3)])
def test_unit_is_the_composition_of_published_parts(channels, dim, kernel_size):
    unit = random_unit(*channels, kernel_size=kernel_size, dim=dim)
    x = torch.randn(3, 4, *[5] * dim, dtype=torch.float64, requires_grad=True)
    places = torch.tensor([0.0, 0.7, 2.0], dtype=torch.float64)
    ends = [1] * dim
    convolve = {1: F.conv1d, 2: F.conv2d}[dim]

    def composed():
        constants = unit.constants.at(places)
        shift, scale, before, slope, after = (part.unflatten(1, (-1, *ends)) for part in constants)
        signs = quadratic_sign(x + shift)
        weight = straight_through_sign(unit.weight)
        sums = convolve(signs, weight, padding=kernel_size // 2)
        response = rprelu(sums * scale, before, slope, after)
        return response + x if channels[0] == channels[1] else response

    inputs = [x, *unit.parameters()]
    ours, theirs = unit(x, places), composed()
    assert torch.equal(ours, theirs)
    probe = torch.randn_like(ours)
    first, second = (torch.autograd.grad((y * probe).sum(), inputs) for y in (ours, theirs))
    for a, b in zip(first, second, strict=True):
        assert a.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_scale_is_the_gain_over_the_deviation_of_a_sum_of_signs():
    unit = random_unit(4, 6)
    assert torch.equal(unit.constants.scale, unit.gain / math.sqrt(4 * 9))


@pytest.mark.parametrize("shift", [0.0, -0.0])
def test_sign_of_both_zeros_is_plus_one(shift):
    ones = torch.ones(1, 1)
    constants = Constants(torch.full((1, 1), shift), ones, 0 * ones, ones, 0 * ones)
    x = torch.tensor([0.0, -0.0, -1e-30]).view(1, 1, 3)
    assert respond(x, torch.ones(1, 1, 1), constants).flatten().tolist() == [1, 1, -1]


def test_gradient_may_come_in_any_order_of_memory():
    unit = random_unit(4, 4)
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    y = unit(x, torch.zeros(2, dtype=torch.float64))
    probe = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    first = torch.autograd.grad(y, x, probe, retain_graph=True)[0]
    second = torch.autograd.grad(y, x, probe.contiguous(memory_format=torch.channels_last))[0]
    assert torch.equal(first, second)


def test_constants_are_those_of_the_knots_and_linear_between():
    table = torch.randn(4, 5, dtype=torch.float64)
    places = torch.tensor([0.0, 1.0, 3.0, 0.25, 2.5], dtype=torch.float64)
    rows = interpolate(table, places)
    torch.testing.assert_close(rows[:3], table[[0, 1, 3]])
    torch.testing.assert_close(rows[3], 0.75 * table[0] + 0.25 * table[1])
    torch.testing.assert_close(rows[4], 0.5 * table[2] + 0.5 * table[3])
    assert interpolate(table[:1], places[:3]).shape == (1, 5)


def test_rows_do_not_depend_on_the_other_samples():
    table, places = torch.randn(5, 7), torch.rand(33) * 4
    together = interpolate(table, places)
    alone = torch.cat([interpolate(table, place[None]) for place in places])
    assert torch.equal(together, alone)


def test_real_weights_keep_the_size_of_binary_ones():
    unit = random_unit(64, 64)
    x, places = torch.randn(4, 64, 8, 8, dtype=torch.float64), torch.zeros(4).double()
    binary = unit(x, places)
    use_real_weights(nn.Sequential(unit), True)
    real = unit(x, places)
    weight = unit.weight / unit.weight.abs().mean((1, 2, 3), keepdim=True)
    expected = respond(x, weight, unit.constants.at(places)) + x
    torch.testing.assert_close(real, expected)
    # normal weights have a root mean square of 1.25 mean magnitudes
    assert 1 < ((real - x).std() / (binary - x).std()).item() < 1.4
    use_real_weights(unit, False)
    assert torch.equal(unit(x, places), binary)


# The parts


def make(in_channels, out_channels, kernel_size):
    return BitUnit(in_channels, out_channels, kernel_size)


LEVEL = NoiseLevel(torch.zeros(2), torch.zeros(2))


@pytest.mark.parametrize(("coarse", "number"), [(8, 4), (16, 2), (32, 1)])
def test_changes_of_resolution_work_on_a_quarter_of_the_coarse_channels(coarse, number):
    down, up = (part(make, *c, dim=2) for part, c in _both(coarse))
    x = torch.randn(2, 8, 6, 4)
    y = down(x, LEVEL)
    assert y.shape == (2, coarse, 3, 2)
    assert up(y, LEVEL).shape == x.shape
    for part in (down, up):
        assert [unit.in_channels for unit in part.convolutions] == [coarse // 4] * number


def _both(coarse):
    return (GroupDown, (8, coarse)), (ShuffleUp, (coarse, 8))


@pytest.mark.parametrize("channels", [(8, 6), (6, 16), (8, 2)])
def test_changes_of_resolution_refuse_channels_that_do_not_fit(channels):
    with pytest.raises(InputError, match="downsampling cannot take"):
        GroupDown(make, *channels, dim=2)
    with pytest.raises(InputError, match="upsampling cannot take"):
        ShuffleUp(make, *channels[::-1], dim=2)


def test_fusion_exchanges_halves_and_keeps_the_size():
    fusion = HalfExchange(make, 4)
    for unit in (fusion.first, fusion.second):
        nn.init.zeros_(unit.gain)
        nn.init.zeros_(unit.after)
    x, skip = torch.randn(2, 2, 4, 3, 3).unbind()
    left, right = x[:, :2] + skip[:, :2], skip[:, 2:] + x[:, 2:]
    torch.testing.assert_close(fusion(x, skip, LEVEL), torch.cat((left, right), 1) / 2**0.5)


def test_waves_are_octaves_damped_as_by_noise():
    waves = Waves(2, 3, torch.tensor([0.01, 1.0]))
    x = torch.randn(2, 2, 4)
    y = waves(x, torch.tensor([0.0, 1.0]))
    assert y.shape == (2, waves.out_channels, 4) == (2, 12, 4)
    for i, s in enumerate((0.01, 1.0)):
        deviation = s / math.sqrt(1 + s**2)
        for j in range(3):
            w = 2**j * math.pi
            for k, wave in enumerate((torch.sin, torch.cos)):
                expected = math.exp(-((w * deviation) ** 2) / 2) * wave(w * x[i])
                found = y[i, 6 * k + 2 * j : 6 * k + 2 * j + 2]
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


# The network


@pytest.mark.parametrize(
    ("event_shape", "settings"),
    [
        ((1, 8, 8), {}),
        ((3, 8, 16), {"patch": 1}),
        ((2, 12), {"widths": (8, 8)}),
        ((1, 16), {"patch": 4, "widths": (8, 8, 16)}),
        ((1, 8, 8), {"widths": (8,), "middle_blocks": 0, "knots": 1}),
    ],
)
def test_output_has_the_shape_of_the_signal_and_starts_at_zero(event_shape, settings):
    network = BitUNet(event_shape, **{**SMALL, **settings})
    x = torch.randn(3, *event_shape)
    y = network(x, torch.zeros(3))
    assert y.shape == x.shape
    assert (y == 0).all()
    assert small(event_shape, **settings)(x, torch.zeros(3)).abs().min() > 0


def test_activations_keep_their_size_through_the_untrained_network():
    torch.manual_seed(0)
    network = BitUNet((1, 32, 32))
    spread = {}
    for name, unit in units(network).items():
        unit.register_forward_hook(
            lambda m, i, y, name=name: spread.update({name: (y.mean().item(), y.std().item())})
        )
    with torch.no_grad():
        network(torch.randn(4, 1, 32, 32), torch.linspace(-40, 40, 4))
    assert len(spread) == 30
    # units of gain 1/2 add a fifth of a variance each, in the end to something like 2
    assert max(abs(mean) for mean, _ in spread.values()) < 0.5
    assert min(std for _, std in spread.values()) > 0.5
    assert max(std for _, std in spread.values()) < 2


def test_nearly_all_is_bits():
    counts = count(BitUNet((1, 32, 32)), (1, 32, 32))
    assert counts.binary_parameters == 7_094_272
    assert counts.full_operations < 0.01 * counts.binary_operations
    # in bits and half precision, against fashion32 in float32
    assert counts.binary_parameters / 8 + 2 * counts.full_parameters < 23.8e6 / 15


def test_samples_of_a_batch_have_levels_of_their_own():
    network = small()
    x, labels = torch.randn(3, 1, 8, 8), torch.tensor([-40.0, 0.0, 30.0])
    with torch.no_grad():
        together = network(x, labels)
        alone = torch.cat([network(x[i : i + 1], labels[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_answer_is_continuous_in_the_level_and_constant_outside_its_range():
    network = small(sigma_min=0.1, sigma_max=10.0)
    x = torch.randn(1, 1, 8, 8)

    def at(sigma):
        with torch.no_grad():
            return network(x, torch.tensor([10 * math.log(sigma)]))

    assert torch.equal(at(0.1), at(0.01))
    assert torch.equal(at(10.0), at(50.0))
    # across the middle knot: a bin's edge would change all constants
    torch.testing.assert_close(at(0.99999), at(1.00001), atol=1e-3, rtol=0)
    assert (at(0.5) - at(1.0)).abs().max() > 0.01


def test_places_are_equally_spaced_in_the_logarithm():
    network = small(sigma_min=0.01, sigma_max=100.0, knots=5)
    labels = 10 * torch.tensor([1e-3, 0.01, 0.1, 1.0, 3.1622776, 100.0, 1e4]).log()
    expected = torch.tensor([0.0, 0.0, 1.0, 2.0, 2.5, 4.0, 4.0])
    torch.testing.assert_close(network.places(labels), expected, atol=1e-5, rtol=0)


def test_every_parameter_learns():
    network = small()
    x, labels = torch.randn(4, 1, 8, 8), torch.tensor([-46.0, -10.0, 10.0, 43.0])
    weights = dict(network.named_parameters())
    loss = (network(x, labels) * torch.randn_like(x)).sum()
    gradients = torch.autograd.grad(loss, list(weights.values()))
    assert [n for n, g in zip(weights, gradients, strict=True) if g.abs().max() == 0] == []


def test_condition_is_seen_and_demanded():
    network = small(condition_channels=2)
    x, labels = torch.randn(2, 1, 8, 8), torch.zeros(2)
    first, second = (network(x, labels, torch.randn(2, 2, 8, 8)) for _ in range(2))
    assert (first - second).abs().max() > 0
    with pytest.raises(InputError, match="expects 2 channels of condition, got 0"):
        network(x, labels)


def test_reduced_precision_is_close():
    network = small()
    denoisers = [KarrasDenoiser(network, 0.5, cast) for cast in (None, torch.bfloat16)]
    x, sigma = torch.randn(8, 1, 8, 8), torch.full((8,), 0.3)
    with torch.no_grad():
        exact, rounded = (denoiser(x, sigma) for denoiser in denoisers)
    assert rounded.dtype == torch.float32
    # a sign that flips changes a sum by two: loose, but far from another answer
    assert 0 < (exact - rounded).std() < 0.3 * (exact - x).std()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event_shape": (8,)}, "works on"),
        ({"event_shape": (1, 6, 8)}, "multiples of 4, got 6x8"),
        ({"patch": 0}, "multiples"),
        ({"widths": ()}, "widths must be positive and even"),
        ({"widths": (8, 9)}, "widths must be positive and even"),
        ({"widths": (8, 12)}, "downsampling cannot take 8 to 12"),
        ({"blocks": 0}, "at least one block"),
        ({"knots": 0}, "at least one block"),
        ({"octaves": 0}, "at least one block"),
        ({"middle_blocks": -1}, "no negative count"),
        ({"sigma_min": 2.0, "sigma_max": 1.0}, "0 < sigma_min < sigma_max"),
    ],
)
def test_network_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        BitUNet(**{"event_shape": (1, 8, 8), **SMALL, **arguments})
