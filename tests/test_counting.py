"""Counting: the published figures, counts by hand, and shares of time."""

import time

import pytest
import torch
from torch import nn

from bayes1bit.errors import InputError
from bayes1bit.networks import BNN, BIDiffSR, Counts, PatchedUNet, SR3UNet, count, measure_shares
from bayes1bit.networks.packed import PackedUnit
from bayes1bit.networks.unet_blocks import SelfAttention

PUBLISHED = {"event_shape": (3, 256, 256), "condition_channels": 3}


class Wired(nn.Module):
    """Modules in a row behind the interface of a network; binary units get bins."""

    def __init__(self, *parts, sleep=0.0):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.sleep = sleep

    def forward(self, x, noise_label):
        for part in self.parts:
            x = part(x, noise_label.long()) if isinstance(part, BNN | PackedUnit) else part(x)
        time.sleep(self.sleep)
        return x


def test_operations_of_the_published_networks():
    with torch.device("meta"):
        binarized, twin = BIDiffSR(**PUBLISHED), SR3UNet(**PUBLISHED)
    counts = count(binarized, (3, 256, 256))
    assert counts.parameters == 4_575_043
    assert counts.binary_parameters == 48_211_968
    assert counts.binary_operations == 98_650_030_080
    assert counts.operations == 36_668_583_936  # published 36.67 G
    assert round(counts.full_share, 2) == 0.96
    counts = count(twin, (3, 256, 256))
    assert counts.operations == 176_408_113_152  # published 176.41 G
    assert counts.binary_operations == counts.binary_parameters == 0


@pytest.mark.parametrize(
    ("settings", "billions"),
    [
        # the published ablation: all its rows have equal operations, but without a fusion
        ({"identity": False, "resampling": "plain", "fusion": "concat", "pairs": 1}, 36.67),
        ({"fusion": "concat"}, 36.67),
        ({"fusion": "split"}, 36.67),
        ({"fusion": "add"}, 33.40),
    ],
)
def test_operations_of_the_published_ablation(settings, billions):
    with torch.device("meta"):
        network = BIDiffSR(**PUBLISHED, **settings)
    assert round(count(network, (3, 256, 256)).operations / 1e9, 2) == billions


def test_rule_of_the_literature():
    counts = Counts(10, 64, 100, 128)
    assert counts.parameters == 10 + 2
    assert counts.operations == 100 + 2
    assert counts.full_share == 100 / 102


def test_counts_by_hand():
    network = Wired(
        nn.Conv2d(2, 4, 3, padding=1),  # 4 * 2 * 9 * 30 positions
        nn.GroupNorm(2, 4),  # 5 * 4 * 30
        BNN(4, 6, 3),  # 6 * 4 * 9 * 30 bits
        nn.Upsample(scale_factor=2),  # 6 * 120
        nn.Conv2d(6, 3, 1, stride=2),  # 3 * 6 * 30
        nn.Linear(6, 2),  # 3 * 5 rows, 6 * 2 each
    )
    counts = count(network, (2, 5, 6))
    assert counts.binary_operations == 6 * 4 * 9 * 30
    assert counts.full_operations == 72 * 30 + 20 * 30 + 6 * 120 + 18 * 30 + 12 * 15
    assert counts.binary_parameters == 216
    assert counts.full_parameters == (72 + 4) + 8 + (18 + 3) + (12 + 2)


def test_attention_is_counted():
    """Two products of all pairs of positions, beyond the 1x1 convolutions."""
    settings = {"width": 8, "multipliers": (1,), "blocks": 1, "norm_groups": 4}
    counts = [
        count(SR3UNet((1, 8, 8), middle_blocks=n, **settings), (1, 8, 8)).full_operations
        for n in (0, 1, 2)
    ]
    positions = 64
    projections = 4 * 8 * 8 * positions
    norm = 5 * 8 * positions
    assert counts[1] - counts[0] - (counts[2] - counts[1]) == (
        2 * positions**2 * 8 + projections + norm
    )


def test_attention_of_other_networks_is_counted():
    """The UNet of diffusers, whose attention has a fused kernel on the CPU."""
    network = PatchedUNet((1, 8, 8), widths=(32, 32), attention=(False, False))
    counts = count(network, (1, 8, 8))
    assert counts.full_parameters == sum(p.numel() for p in network.parameters())
    attention = network.unet.mid_block.attentions[0]
    attention.forward = lambda x, temb=None: x
    # at 2x2 positions four 32x32 projections and two products
    expected = 4 * 32 * 32 * 4 + 2 * 4 * 4 * 32
    assert counts.full_operations - count(network, (1, 8, 8)).full_operations == expected


def test_counting_and_measuring_leave_the_network_as_it_was():
    network = BIDiffSR((1, 8, 8), width=8, multipliers=(1, 2), blocks=1, norm_groups=4)
    network.middle[0].eval()
    modes = [module.training for module in network.modules()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count(network, (1, 8, 8))
    measure_shares(network, (1, 8, 8), repeats=1)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, state[n]) for n, tensor in network.state_dict().items())
    assert all(
        not module._forward_hooks and not module._forward_pre_hooks for module in network.modules()
    )


def delayed(part, seconds):
    """The part with a sleep inside."""
    forward = part.forward

    def slow(*inputs):
        time.sleep(seconds)
        return forward(*inputs)

    part.forward = slow
    return part


def test_shares_of_time():
    """Known sleeps: two fifths binary, a fifth full precision, two fifths the rest."""
    network = Wired(delayed(nn.Conv2d(2, 2, 1), 0.02), delayed(BNN(2, 2, 1), 0.04), sleep=0.04)
    shares = measure_shares(network, (2, 4, 4), repeats=3)
    assert shares.binary + shares.full_precision + shares.other == pytest.approx(1)
    assert shares.binary == pytest.approx(0.4, abs=0.1)
    assert shares.full_precision == pytest.approx(0.2, abs=0.1)
    assert 0.1 <= shares.seconds < 0.2


def test_layer_inside_a_layer_is_timed_once():
    attention = SelfAttention(2, 1)
    delayed(attention.query_key_value, 0.03)
    shares = measure_shares(Wired(attention, sleep=0.03), (2, 4, 4), repeats=2)
    assert shares.full_precision == pytest.approx(0.5, abs=0.1)


def test_packed_units_are_timed_as_binary_and_not_counted():
    packed = PackedUnit.from_tensors(torch.randn(2, 2, 1, 1))
    network = Wired(nn.Conv2d(2, 2, 1), packed)
    shares = measure_shares(network, (2, 4, 4), repeats=2)
    assert 0 < shares.binary < 1
    with pytest.raises(InputError, match="before it is packed"):
        count(network, (2, 4, 4))


def test_counts_are_the_same_in_inference_mode():
    network = BIDiffSR((1, 16, 16), patch=2, width=32, multipliers=(1, 2), blocks=1)
    expected = count(network, (1, 16, 16))
    with torch.inference_mode():
        assert count(network, (1, 16, 16)) == expected
