"""BI-DiffSR and its twin: published counts, wiring, levels per sample, and what they refuse."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bayes1bit.diffusion import KarrasDenoiser
from bayes1bit.errors import InputError
from bayes1bit.networks import BINARIZERS, BIDiffSR, BinaryUnit, CPDown, CPUp, CSFusion, SR3UNet
from bayes1bit.networks.bidiffsr_parts import AddFusion, ConcatFusion, PlainDown, SplitFusion
from bayes1bit.networks.unet import parameter_count
from bayes1bit.networks.unet_blocks import (
    FullPrecision,
    NoiseLevel,
    ResidualBlock,
    SelfAttention,
    TimeEmbedding,
    shuffle,
    unshuffle,
)

PUBLISHED = {"event_shape": (3, 256, 256), "condition_channels": 3}
SMALL = {"width": 8, "multipliers": (1, 2), "blocks": 1, "norm_groups": 4, "full_decoder": (0,)}
SMALL_TWIN = {key: value for key, value in SMALL.items() if key != "full_decoder"}


def small(event_shape=(1, 8, 8), **settings):
    """A small network whose constants are not their trivial initial values."""
    torch.manual_seed(0)
    network = BIDiffSR(event_shape, **{**SMALL, **settings})
    for name, parameter in network.named_parameters():
        if name.endswith(("shift", "before", "after")):
            nn.init.normal_(parameter, std=0.1)
        if name.endswith("slope"):
            nn.init.uniform_(parameter)
    return network.eval()


def units(network):
    return [module for module in network.modules() if isinstance(module, BinaryUnit)]


def effective(network):
    binary = sum(unit.weight.numel() for unit in units(network))
    return parameter_count(network) - binary + binary / 32


def test_published_configuration_has_the_published_counts():
    with torch.device("meta"):
        network = BIDiffSR(**PUBLISHED)
    assert parameter_count(network) == 51_280_387  # published 51.28 M
    assert sum(unit.weight.numel() for unit in units(network)) == 48_211_968  # 48.21 M
    assert len(units(network)) == 56
    assert effective(network) == 4_575_043  # 4.575 M
    constants = sum(
        parameter_count(unit.tar) + parameter_count(unit.taa) for unit in units(network)
    )
    assert constants == 346_880  # 0.35 M


@pytest.mark.parametrize(
    ("settings", "millions"),
    [
        ({"identity": False, "resampling": "plain", "fusion": "concat", "pairs": 1}, 4.29),
        ({"resampling": "plain", "fusion": "concat", "pairs": 1}, 4.29),
        ({"fusion": "concat", "pairs": 1}, 4.29),
        ({"fusion": "split", "pairs": 1}, 4.30),
        ({"pairs": 1}, 4.30),
        ({"pairs": 2}, 4.37),
        ({"pairs": 5}, 4.58),
        # the publication says 4.10, one in the last digit more
        ({"fusion": "add", "pairs": 1}, 4.09),
    ],
)
def test_rows_of_the_ablation_have_the_published_parameters(settings, millions):
    with torch.device("meta"):
        network = BIDiffSR(**PUBLISHED, **settings)
    assert round(effective(network) / 1e6, 2) == millions


def test_twin_has_the_published_parameters():
    with torch.device("meta"):
        network = SR3UNet(**PUBLISHED)
    assert parameter_count(network) == 55_407_235  # published 55.41 M


def test_full_precision_stands_where_it_is_asked_for():
    network = small(multipliers=(1, 2, 4), full_decoder=(0, 1), full_encoder=(2,))

    def kinds(blocks):
        pairs = [(type(block.first), type(block.second)) for block in blocks]
        assert all(len(set(pair)) == 1 for pair in pairs)
        return ["full" if pair[0] is FullPrecision else "binary" for pair in pairs]

    blocks = [block for block in network.encoder if hasattr(block, "first")]
    assert kinds(blocks) == ["binary", "binary", "full"]
    assert kinds(network.middle) == ["binary"] * 2
    blocks = [block for block in network.decoder if hasattr(block, "first")]
    # from the coarsest to the finest, two blocks each, and so the fusions
    assert kinds(blocks) == ["binary"] * 2 + ["full"] * 4
    assert kinds(network.fusions) == ["binary"] * 2 + ["full"] * 4
    attention = [isinstance(m, SelfAttention) for m in network.modules()]
    assert sum(attention) == 1
    assert isinstance(network.middle[0].attention, SelfAttention)


@pytest.mark.parametrize("make", [small, lambda shape, **s: SR3UNet(shape, **{**SMALL_TWIN, **s})])
@pytest.mark.parametrize(
    ("event_shape", "settings", "out_channels"),
    [
        ((1, 8, 8), {}, 1),
        ((3, 8, 12), {"condition_channels": 2, "out_channels": 5}, 5),
        ((2, 16, 16), {"patch": 4}, 2),
        ((1, 32), {}, 1),
        ((2, 16), {"patch": 2, "condition_channels": 1}, 2),
        ((1, 8, 8), {"blocks": 2, "middle_blocks": 0}, 1),
    ],
)
def test_output_has_the_shape_of_the_signal(make, event_shape, settings, out_channels):
    network = make(event_shape, **settings)
    x = torch.randn(2, *event_shape)
    channels = settings.get("condition_channels", 0)
    condition = torch.randn(2, channels, *event_shape[1:]) if channels else None
    output = network(x, torch.zeros(2), condition)
    assert output.shape == (2, out_channels, *event_shape[1:])


@pytest.mark.parametrize("network", [small(pairs=5), SR3UNet((1, 8, 8), **SMALL_TWIN).eval()])
def test_samples_of_a_batch_keep_their_own_level(network):
    x, labels = torch.randn(3, 1, 8, 8), torch.tensor([-40.0, 0.0, 40.0])
    with torch.no_grad():
        together = network(x, labels)
        alone = torch.cat([network(x[i : i + 1], labels[i : i + 1]) for i in range(3)])
        other = network(x, labels.flip(0))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert (together - other)[0].abs().max() > 1e-3


def test_bins_cut_the_range_of_log_sigma_evenly():
    network = small(pairs=4, sigma_min=0.1, sigma_max=1000.0)
    sigma = torch.tensor([0.001, 0.1, 0.9, 1.1, 9.0, 11.0, 90.0, 110.0, 999.0, 1000.0, 5e4])
    assert network.bins(10 * sigma.log()).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3]


def test_bins_choose_the_constants():
    """A change of the constants of one bin changes the answer in that bin only."""
    network = small(pairs=3, sigma_min=0.1, sigma_max=100.0)
    labels = 10 * torch.tensor([0.3, 3.0, 30.0]).log()
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        before = network(x, labels)
        for unit in units(network):
            unit.taa.after[1] += 1
            unit.tar.shift[1] += 1
        changed = (network(x, labels) - before).abs().amax((1, 2, 3))
    assert changed[1] > 1e-2
    assert changed[0] == changed[2] == 0


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"identity": False, "resampling": "plain", "fusion": "concat", "pairs": 1},
        {"fusion": "split"},
        {"fusion": "add", "full_decoder": (0, 1), "full_encoder": (0, 1)},
        *({"binarizer": name} for name in BINARIZERS),
    ],
)
@pytest.mark.parametrize("event_shape", [(1, 8, 8), (1, 16)])
def test_every_weight_matters(settings, event_shape):
    network = small(event_shape, **settings)
    x, labels = torch.randn(8, *event_shape), torch.linspace(-40, 40, 8)
    weights = dict(network.named_parameters())
    loss = (network(x, labels) * torch.randn_like(x)).sum()
    gradients = torch.autograd.grad(loss, list(weights.values()))
    assert [n for n, g in zip(weights, gradients, strict=True) if not g.abs().max() > 0] == []


def test_every_weight_of_the_twin_matters():
    network = SR3UNet((1, 8, 8), condition_channels=1, **SMALL_TWIN)
    x = torch.randn(2, 1, 8, 8)
    network(x, torch.tensor([-5.0, 5.0]), torch.randn_like(x)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def identity(in_channels, out_channels, kernel_size):
    """A convolution that lets everything pass: what full precision the parts let through."""

    class Identity(nn.Module):
        def forward(self, x, bins):
            assert x.shape[1] == in_channels == out_channels
            return x

    return Identity()


LEVEL = NoiseLevel(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))


def test_cp_down_sums_halves_and_unshuffles():
    x = torch.randn(2, 8, 4, 6)
    expected = F.pixel_unshuffle(x[:, :4] + x[:, 4:], 2)
    assert torch.equal(CPDown(identity, 8, 16, dim=2)(x, LEVEL), expected)


def test_cp_up_repeats_and_shuffles():
    x = torch.randn(2, 8, 4, 6)
    expected = F.pixel_shuffle(torch.cat((x, x), 1), 2)
    assert torch.equal(CPUp(identity, 8, 4, dim=2)(x, LEVEL), expected)


@pytest.mark.parametrize(
    ("channels", "out_channels", "dim", "convolutions"),
    [(8, 16, 2, 2), (8, 8, 2, 4), (8, 32, 2, 1), (8, 16, 1, 1), (8, 8, 1, 2)],
)
def test_cp_down_and_up_make_any_ratio(channels, out_channels, dim, convolutions):
    down = CPDown(identity, channels, out_channels, dim=dim)
    up = CPUp(identity, out_channels, channels, dim=dim)
    assert len(down.convolutions) == len(up.convolutions) == convolutions
    x = torch.randn(2, channels, *[8] * dim)
    small = down(x, LEVEL)
    assert small.shape == (2, out_channels, *[4] * dim)
    assert up(small, LEVEL).shape == x.shape
    # no numbers are lost where there is one convolution
    assert convolutions > 1 or torch.equal(up(small, LEVEL), x)


def test_cs_fusion_exchanges_every_other_channel():
    seen = []

    def recording(in_channels, out_channels, kernel_size):
        class Recording(nn.Module):
            def forward(self, x, bins):
                seen.append(x[0, :, 0].tolist())
                return x

        assert kernel_size == 1
        return Recording()

    x, skip = torch.arange(4.0).view(1, 4, 1), torch.arange(10.0, 14).view(1, 4, 1)
    fused = CSFusion(recording, 4)(x, skip, LEVEL)
    assert seen == [[1, 3, 10, 12], [0, 2, 11, 13]]
    assert fused[0, :, 0].tolist() == [1, 5, 21, 25]


def test_ablation_is_made_of_its_parts():
    network = small(resampling="plain", fusion="split")
    kinds = {type(module) for module in network.modules()}
    assert {PlainDown, SplitFusion} < kinds
    assert not {CPDown, CPUp, CSFusion} & kinds
    assert isinstance(small(fusion="concat").fusions[0], ConcatFusion)
    assert isinstance(small(fusion="add").fusions[0], AddFusion)
    assert not any(unit.identity for unit in units(small(identity=False)))
    assert all(unit.identity for unit in units(small()))
    # a unit that is not time-aware has one pair, whatever is asked for
    network = small(binarizer="reactnet", pairs=5)
    assert network.pairs == 1
    assert network.bins(torch.tensor([-50.0, 50.0])).tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(2, 3, 12), (2, 3, 8, 12)])
def test_shuffle_is_the_inverse_of_unshuffle(shape):
    x = torch.randn(shape)
    patches = unshuffle(x, 4)
    assert patches.shape == (2, 3 * 4 ** (x.ndim - 2), *(size // 4 for size in shape[2:]))
    assert torch.equal(shuffle(patches, 4), x)
    # the patches of a channel stay together, in order
    assert torch.equal(
        patches[0, :4, 0] if x.ndim == 3 else patches[0, :4, 0, 0],
        x[0, 0, :4] if x.ndim == 3 else x[0, 0, 0, :4],
    )


def test_attention_is_the_usual_one():
    torch.manual_seed(0)
    attention = SelfAttention(8, 4)
    x = torch.randn(2, 8, 3, 5)
    query, key, value = attention.query_key_value(attention.norm(x).flatten(2)).chunk(3, dim=1)
    weights = (query.transpose(1, 2) @ key / math.sqrt(8)).softmax(2)
    expected = x + attention.out(value @ weights.transpose(1, 2)).view_as(x)
    torch.testing.assert_close(attention(x), expected)


def test_embedding_is_sines_and_cosines_of_waves_from_1_to_10000():
    embedding = TimeEmbedding(6)
    embedding.perceptron = nn.Sequential()
    label = torch.tensor([0.0, 2.0])
    angles = label[:, None] / torch.tensor([1.0, 1e4 ** (1 / 3), 1e4 ** (2 / 3)])
    torch.testing.assert_close(embedding(label), torch.cat((angles.sin(), angles.cos()), 1))


def test_residual_block_is_its_equation():
    torch.manual_seed(0)
    common = {"dim": 1, "embedding": 3, "norm_groups": 2, "dropout": 0.5, "attention": False}
    block = ResidualBlock(
        FullPrecision(4, 6, dim=1), FullPrecision(6, 6, dim=1), 4, 6, **common
    ).eval()
    x, level = torch.randn(2, 4, 5), NoiseLevel(torch.randn(2, 3), torch.zeros(2).long())
    h = block.first.convolution(F.silu(block.first_norm(x)))
    h = h + block.level(F.silu(level.embedding))[:, :, None]
    h = block.second.convolution(F.silu(block.second_norm(h))) + block.skip(x)
    torch.testing.assert_close(block(x, level), h)
    # dropout acts in training, in front of the second convolution only
    block.train()
    block.second.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    block.first.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    seen = []
    block(x, level)
    assert [(tensor == 0).any().item() for tensor in seen] == [False, True]


def test_condition_is_seen_and_must_fit():
    network = small(condition_channels=2)
    x, condition = torch.randn(1, 1, 8, 8), torch.randn(1, 2, 8, 8)
    label = torch.zeros(1)
    assert not torch.equal(network(x, label, condition), network(x, label, -condition))
    for wrong in (None, condition[:, :1]):
        with pytest.raises(InputError, match="expects 2 channels of condition"):
            network(x, label, wrong)
    with pytest.raises(InputError, match="expects 0 channels of condition, got 2"):
        small()(x, label, condition)


def test_network_learns_inside_a_denoiser():
    """A few steps on one batch reduce its denoising loss by a third at least."""
    torch.manual_seed(0)
    denoiser = KarrasDenoiser(BIDiffSR((1, 8, 8), **SMALL, dropout=0.0), 1.0)
    clean = torch.randn(8, 1, 1, 1).sign().expand(8, 1, 8, 8)
    sigma = torch.linspace(0.5, 2, 8)
    noisy = clean + sigma.view(-1, 1, 1, 1) * torch.randn(8, 1, 8, 8)
    optimizer = torch.optim.Adam(denoiser.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = (denoiser(noisy, sigma) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] * 2 / 3


@pytest.mark.parametrize(
    ("event_shape", "settings", "message"),
    [
        ((1, 9, 8), {}, "multiples of 2, got 9x8"),
        ((1, 8, 12), {"patch": 4}, "multiples of 8"),
        ((8,), {}, "channels, length"),
        ((1, 8, 8, 8), {}, "channels, length"),
        ((1, 8, 8), {"norm_groups": 3}, "positive multiples of 3"),
        ((1, 8, 8), {"multipliers": (), "full_decoder": ()}, "positive multiples"),
        ((1, 8, 8), {"multipliers": (1, 8)}, "CP-Down cannot take 8 to 64"),
        ((1, 8), {"multipliers": (1, 4)}, "CP-Down cannot take 8 to 32"),
        ((1, 8, 8), {"binarizer": "xor"}, 'binarizer is "xor"; use one of bnn, dorefa'),
        ((1, 8, 8), {"resampling": "max"}, "use one of cp, plain"),
        ((1, 8, 8), {"fusion": "sum"}, "use one of cs, concat, add, split"),
        ((1, 8, 8), {"full_decoder": (2,)}, "resolution 2 cannot stay"),
        ((1, 8, 8), {"full_encoder": (-1,)}, "resolution -1 cannot stay"),
        ((1, 8, 8), {"pairs": 0}, "at least one pair|one pair"),
        ((1, 8, 8), {"blocks": 0}, "at least one block"),
        ((1, 8, 8), {"width": 9, "norm_groups": 3, "multipliers": (1,)}, "width must be even"),
        ((1, 8, 8), {"sigma_min": 1.0, "sigma_max": 1.0}, "sigma_min < sigma_max"),
    ],
)
def test_refuses_shapes_and_settings_that_do_not_fit(event_shape, settings, message):
    with pytest.raises(InputError, match=message):
        BIDiffSR(event_shape, **{**SMALL, **settings})


def test_cp_up_refuses_what_it_cannot_make():
    with pytest.raises(InputError, match="CP-Up cannot take 8 to 1 channels in 2"):
        CPUp(identity, 8, 1, dim=2)
    with pytest.raises(InputError, match="makes a multiple of 4 channels, not 6"):
        PlainDown(identity, 6, 6, dim=2)
