"""Estimators against their formulas, and binary units against their definitions."""

import math

import pytest
import torch
import torch.nn.functional as F

from bayes1bit.errors import InputError
from bayes1bit.networks import BINARIZERS, anneal
from bayes1bit.networks import binarize as b
from bayes1bit.networks.time_aware import INITIAL_SLOPE, RPReLU, TaA, TaR

TINY = 1e-30
SIGNS = {
    "straight through": (b.straight_through_sign, lambda x: (x.abs() <= 1).double()),
    "quadratic": (
        b.quadratic_sign,
        lambda x: torch.where(x.abs() < 1, 2 - 2 * x.abs(), torch.zeros_like(x)),
    ),
    "annealed, at first": (
        lambda x: b.annealed_sign(x, 0.0),
        lambda x: 1 - torch.tanh(0.1 * x) ** 2,
    ),
    "annealed, halfway": (lambda x: b.annealed_sign(x, 0.5), lambda x: 1 - torch.tanh(x) ** 2),
    "annealed, in the end": (
        lambda x: b.annealed_sign(x, 1.0),
        lambda x: 10 * (1 - torch.tanh(10 * x) ** 2),
    ),
}
SIGN_BASED = ("bnn", "irnet", "reactnet", "bbcu", "bidiffsr")


def points():
    """Points on both sides of all kinks, the kinks themselves, and random ones."""
    torch.manual_seed(0)
    kinks = torch.tensor([-2.0, -1.0, -TINY, -0.0, 0.0, TINY, 0.5, 1.0, 2.0])
    return torch.cat((kinks, torch.randn(200))).double().requires_grad_()


def gradient(function, x, upstream):
    return torch.autograd.grad((function(x) * upstream).sum(), x)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("function", [b.sign, *(function for function, _ in SIGNS.values())])
def test_signs_are_plus_or_minus_one_and_plus_at_zero(function, dtype):
    x = points().detach().to(dtype)
    expected = torch.where(x >= 0, 1.0, -1.0).to(dtype)
    assert torch.equal(function(x), expected)
    assert function(torch.tensor([-0.0, 0.0], dtype=dtype)).tolist() == [1, 1]


@pytest.mark.parametrize(("function", "slope"), SIGNS.values(), ids=SIGNS)
def test_slope_of_a_sign_is_its_formula(function, slope):
    x = points()
    upstream = torch.randn_like(x)
    torch.testing.assert_close(gradient(function, x, upstream), slope(x.detach()) * upstream)


def test_quadratic_slope_is_the_derivative_of_the_piecewise_quadratic():
    def quadratic(x):
        inside = torch.where(x < 0, 2 * x + x * x, 2 * x - x * x)
        return torch.where(x.abs() < 1, inside, x.detach().sign())

    x = points()
    upstream = torch.randn_like(x)
    torch.testing.assert_close(
        gradient(b.quadratic_sign, x, upstream), gradient(quadratic, x, upstream)
    )


def weights(*shape):
    torch.manual_seed(1)
    # some beyond the clip at 1
    return (0.8 * torch.randn(*shape, dtype=torch.float64)).requires_grad_()


def test_scaled_weights_pass_the_gradient_of_the_product_clipped():
    weight = weights(4, 3, 3, 3)
    upstream = torch.randn_like(weight)
    scale = b.channel_scale(weight)
    torch.testing.assert_close(scale, weight.detach().abs().mean((1, 2, 3)))
    assert not scale.requires_grad

    def product(weight):
        return scale.view(-1, 1, 1, 1) * b.scaled_weight_sign(weight, scale)

    assert torch.equal(product(weight), scale.view(-1, 1, 1, 1) * b.sign(weight))
    expected = upstream * (weight.abs() <= 1)
    torch.testing.assert_close(gradient(product, weight, upstream), expected.detach())


def test_channel_of_zero_weights_gets_no_gradient_and_no_nan():
    weight = torch.zeros(2, 3, 3, requires_grad=True)
    scale = b.channel_scale(weight)
    response = F.conv1d(torch.randn(1, 3, 5), b.scaled_weight_sign(weight, scale))
    (response * scale.view(-1, 1)).sum().backward()
    assert torch.equal(weight.grad, torch.zeros_like(weight))


def test_xnor_weights():
    weight = weights(4, 3, 3)
    upstream = torch.randn_like(weight)
    scale = weight.detach().abs().mean((1, 2), keepdim=True)
    torch.testing.assert_close(b.xnor_weight(weight), scale * b.sign(weight.detach()))
    slope = 1 / 9 + scale * (weight.detach().abs() <= 1)
    torch.testing.assert_close(gradient(b.xnor_weight, weight, upstream), slope * upstream)


def test_dorefa_weights_have_one_scale_per_layer():
    weight = weights(4, 3, 3)
    upstream = torch.randn_like(weight)
    values = b.dorefa_weight(weight)
    torch.testing.assert_close(values, weight.detach().abs().mean() * b.sign(weight.detach()))
    torch.testing.assert_close(gradient(b.dorefa_weight, weight, upstream), upstream)


def test_dorefa_activations():
    x = points()
    upstream = torch.randn_like(x)
    assert torch.equal(b.dorefa_activation(x), (x >= 0.5).double())
    inside = (x >= 0) & (x <= 1)
    torch.testing.assert_close(gradient(b.dorefa_activation, x, upstream), upstream * inside)


def test_balanced_weights_are_standardised_and_their_scale_is_a_power_of_two():
    weight = weights(4, 3, 3, 3)
    flat = b.balanced(weight).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(flat.std(1), torch.ones(4, dtype=torch.float64))
    scale = b.power_of_two_scale(torch.stack([0.3 * flat[0], 3 * flat[1]]))
    # mean magnitude of a standard normal is 0.8: 0.24 and 2.4 round to a quarter and two
    assert scale.tolist() == [0.25, 2.0]


def test_estimators_refuse_a_second_derivative_rather_than_give_a_wrong_one():
    x = points()
    (first,) = torch.autograd.grad(b.quadratic_sign(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def filled(name, *args, **kwargs):
    """A unit whose constants are not their trivial initial values."""
    torch.manual_seed(2)
    unit = BINARIZERS[name](*args, **kwargs)
    for parameter in unit.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter)
    return unit


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 4)])
def test_rprelu_and_its_gradients(shape):
    torch.manual_seed(0)
    y = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True)
    taa = TaA(5, pairs=4).double()
    for parameter in taa.parameters():
        torch.nn.init.normal_(parameter)
    bins = torch.tensor([3, 0, 3])
    upstream = torch.randn_like(y)

    def rows(table):
        return table[bins].view(3, 5, *[1] * (len(shape) - 1))

    t = y + rows(taa.before)
    reference = torch.where(t > 0, t, rows(taa.slope) * t) + rows(taa.after)
    inputs = (y, *taa.parameters())
    expected = torch.autograd.grad((reference * upstream).sum(), inputs)
    assert torch.equal(taa(y, bins), reference)
    actual = torch.autograd.grad((taa(y, bins) * upstream).sum(), inputs)
    torch.testing.assert_close(actual, expected)


def test_constants_begin_as_the_publications_say():
    taa, tar = TaA(3, pairs=2), TaR(3, pairs=2)
    assert INITIAL_SLOPE == 0.25
    assert torch.equal(taa.slope, torch.full((2, 3), 0.25))
    assert not any(table.any() for table in (taa.before, taa.after, tar.shift))
    assert isinstance(BINARIZERS["reactnet"](3, 3).taa, RPReLU)


@pytest.mark.parametrize("name", BINARIZERS)
@pytest.mark.parametrize(
    ("channels", "kernel_size", "dim"), [((6, 6), 3, 2), ((5, 7), 1, 2), ((5, 5), 3, 1)]
)
def test_unit_is_its_definition(name, channels, kernel_size, dim):
    """Same response as plain torch functions, written down a second time."""
    unit = filled(name, *channels, kernel_size, dim=dim, pairs=3)
    x, bins = torch.randn(4, channels[0], *[6] * dim), torch.tensor([0, 2, 1, 2])
    convolution = (F.conv1d, F.conv2d)[dim - 1]

    def convolve(x, weight):
        return convolution(x, weight, padding=kernel_size // 2)

    def hard(x):
        return torch.where(x >= 0, 1.0, -1.0)

    def channel(values):
        return values.view(-1, *[1] * dim)

    w = unit.weight
    mean = channel(w.abs().flatten(1).mean(1))
    if name == "bnn":
        expected = convolve(hard(x), hard(w))
    elif name == "dorefa":
        expected = convolve(x.clamp(0, 1).round(), hard(w)) * w.abs().mean()
    elif name == "xnor":
        box = torch.full((1, channels[0], *[kernel_size] * dim), 1 / w[0].numel())
        expected = convolve(hard(x), hard(w)) * mean * convolve(x.abs(), box)
    elif name == "irnet":
        standard = (w - channel(w.flatten(1).mean(1))[:, None]) / channel(w.flatten(1).std(1))[
            :, None
        ]
        shift = 2 ** torch.log2(standard.abs().flatten(1).mean(1)).round()
        expected = convolve(hard(x), hard(standard)) * channel(shift)
    else:
        k = 130 * channels[1] / 64 if name == "bbcu" else 1
        row = bins if name == "bidiffsr" else torch.zeros_like(bins)

        def pick(table):
            return table[row].view(4, -1, *[1] * dim)

        t = convolve(hard(x + pick(unit.tar.shift)), hard(w)) * mean + pick(unit.taa.before)
        expected = (torch.where(t > 0, t, pick(unit.taa.slope) * t) + pick(unit.taa.after)) / k
    expected = expected + x if channels[0] == channels[1] else expected
    torch.testing.assert_close(unit(x, bins), expected)


@pytest.mark.parametrize("name", BINARIZERS)
@pytest.mark.parametrize(("channels", "kernel_size", "dim"), [((65, 65), 3, 2), ((9, 5), 3, 1)])
def test_packable_constants_give_the_same_bits(name, channels, kernel_size, dim):
    unit = filled(name, *channels, kernel_size, dim=dim, pairs=3)
    packed = unit.packable()
    assert (packed is not None) == (name in SIGN_BASED)
    if packed is None:
        return
    pairs = 3 if name == "bidiffsr" else 1
    assert [tuple(tensor.shape) for tensor in packed] == [
        (channels[1], channels[0], *[kernel_size] * dim),
        (channels[1],),
        (pairs, channels[0]),
        *[(pairs, channels[1])] * 3,
    ]
    assert not any(tensor.requires_grad for tensor in packed)
    x, bins = torch.randn(4, channels[0], *[5] * dim), torch.tensor([0, 2, 1, 2])
    # an input that lies exactly on the threshold counts as positive
    shift = unit.tar.shift if hasattr(unit, "tar") else torch.zeros(1, channels[0])
    x[0, 0] = -shift[0, 0].item()

    def row(table):
        return table[bins if pairs == 3 else 0 * bins].view(4, -1, *[1] * dim)

    signs = torch.where(x + row(packed.shift) >= 0, 1.0, -1.0)
    bits = torch.where(packed.weight >= 0, 1.0, -1.0)
    integers = unit.convolve(signs, bits)
    assert torch.equal(integers, integers.round())
    t = integers * packed.scale.view(-1, *[1] * dim) + row(packed.before)
    expected = torch.where(t > 0, t, row(packed.slope) * t) + row(packed.after)
    expected = expected + x if unit.identity else expected
    for mode in (True, False):
        assert torch.equal(unit.train(mode)(x, bins), expected)


def test_bidiffsr_gradients_are_those_of_the_detached_formulation():
    """The usual way to write an estimator: value.detach() - surrogate.detach() + surrogate."""
    unit = filled("bidiffsr", 4, 4, pairs=2).double()
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    bins = torch.tensor([1, 0, 1])
    upstream = torch.randn_like(x)

    def row(table):
        return table[bins].view(3, 4, 1, 1)

    def passing(value, surrogate):
        return value.detach() - surrogate.detach() + surrogate

    a = x + row(unit.tar.shift)
    quadratic = torch.where(a < 0, 2 * a + a * a, 2 * a - a * a)
    quadratic = torch.where(a.abs() < 1, quadratic, b.sign(a.detach()))
    mean = unit.weight.detach().abs().mean((1, 2, 3), keepdim=True)
    weight = passing(mean * b.sign(unit.weight), unit.weight.clamp(-1, 1))
    t = F.conv2d(passing(b.sign(a), quadratic), weight, padding=1) + row(unit.taa.before)
    reference = torch.where(t > 0, t, row(unit.taa.slope) * t) + row(unit.taa.after) + x
    inputs = (x, *unit.parameters())
    expected = torch.autograd.grad((reference * upstream).sum(), inputs)
    actual = torch.autograd.grad((unit(x, bins) * upstream).sum(), inputs)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("name", BINARIZERS)
def test_identity_is_the_unshifted_input_and_can_be_left_out(name):
    x, bins = torch.randn(2, 6, 4, 4), torch.tensor([0, 1])
    with_identity = filled(name, 6, 6, pairs=2)
    without = filled(name, 6, 6, pairs=2, identity=False)
    without.load_state_dict(with_identity.state_dict())
    assert torch.equal(with_identity(x, bins), without(x, bins) + x)
    assert not filled(name, 6, 3).identity


@pytest.mark.parametrize("name", BINARIZERS)
@pytest.mark.parametrize("autocast", [False, True])
def test_all_parameters_of_a_unit_learn(name, autocast):
    unit = filled(name, 6, 6, pairs=2)
    x = torch.randn(4, 6, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = unit(x, torch.tensor([0, 1, 1, 0]))
    (output.float() * torch.randn(4, 6, 8, 8)).sum().backward()
    for tensor in (x, *unit.parameters()):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().max() > 0


@pytest.mark.parametrize("name", BINARIZERS)
def test_autocast_changes_a_unit_by_rounding_only(name):
    unit = filled(name, 64, 64, pairs=2)
    x, bins = torch.randn(2, 64, 6, 6), torch.tensor([0, 1])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rounded = unit(x, bins)
    exact = unit(x, bins)
    # at most three roundings to 8 bits, of numbers no larger than the largest
    assert (rounded - exact).abs().max() < 3 * 2**-8 * exact.abs().max()


def test_chain_of_bbcu_is_an_amplified_chain_of_plain_units():
    """Residual alignment: multiply the network's input by k, divide its output by k."""
    k = 130 * 6 / 64
    bins = torch.zeros(2, dtype=torch.int64)
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    aligned, amplified = x, k * x
    for _ in range(3):
        unit = filled("bbcu", 6, 6).double()
        plain = filled("reactnet", 6, 6).double()
        plain.load_state_dict(unit.state_dict())
        with torch.no_grad():
            plain.tar.shift.mul_(k)
        aligned, amplified = unit(aligned, bins), plain(amplified, bins)
    torch.testing.assert_close(aligned, amplified / k)


def test_annealing_reaches_irnet_and_sharpens_its_slope():
    unit = filled("irnet", 6, 6)
    network = torch.nn.Sequential(torch.nn.Identity(), unit, filled("bnn", 6, 6))
    x = torch.full((1, 6, 4, 4), 0.1, requires_grad=True)

    def slope():
        response = unit.respond(x, torch.zeros(1, dtype=torch.int64))
        return torch.autograd.grad(response.square().sum(), x)[0].abs().max()

    first = slope()
    anneal(network, 1.0)
    assert unit.progress == 1.0
    ratio = 10 * (1 - math.tanh(1.0) ** 2) / (1 - math.tanh(0.01) ** 2)
    torch.testing.assert_close(slope() / first, torch.tensor(ratio))
    for progress in (-0.1, 1.1):
        with pytest.raises(InputError, match="fraction"):
            anneal(network, progress)


@pytest.mark.parametrize(
    ("args", "settings", "message"),
    [
        ((4, 4, 2), {}, "kernel_size must be odd"),
        ((4, 4, 3), {"dim": 3}, "1 or 2 dimensions"),
        ((0, 4, 3), {}, "at least one channel"),
        ((4, 4, 3), {"pairs": 0}, "one pair"),
    ],
)
@pytest.mark.parametrize("name", BINARIZERS)
def test_units_refuse_what_does_not_fit(name, args, settings, message):
    with pytest.raises(InputError, match=message):
        BINARIZERS[name](*args, **settings)
