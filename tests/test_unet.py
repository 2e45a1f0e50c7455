"""The patched UNet: shapes, wiring, and what it refuses."""

import pytest
import torch

from bayes1bit.errors import InputError
from bayes1bit.networks.unet import PatchedUNet, parameter_count

SMALL = {"patch": 2, "widths": (32, 32), "attention": (False, False)}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PatchedUNet((1, 8, 8), **SMALL).eval()


@pytest.mark.parametrize(
    ("event_shape", "settings"),
    [
        ((1, 8, 8), SMALL),
        ((3, 8, 16), SMALL),
        ((1, 16, 16), {**SMALL, "patch": 4}),
        ((1, 4, 4), {**SMALL, "patch": 1, "widths": (32, 64), "layers": 2}),
        ((1, 6, 6), {"patch": 2, "widths": (32,), "attention": (True,)}),
    ],
)
def test_output_has_the_shape_of_the_picture(event_shape, settings):
    network = PatchedUNet(event_shape, **settings)
    x = torch.randn(2, *event_shape)
    assert network(x, torch.zeros(2)).shape == x.shape


def test_signals_of_a_batch_do_not_see_each_other(network):
    x, labels = torch.randn(3, 1, 8, 8), torch.tensor([-5.0, 0.0, 20.0])
    with torch.no_grad():
        together = network(x, labels)
        alone = torch.cat([network(x[i : i + 1], labels[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_answer_depends_on_the_level(network):
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        low, high = network(x, torch.tensor([-10.0])), network(x, torch.tensor([10.0]))
    assert (low - high).abs().max() > 1e-3


def test_every_weight_matters(network):
    x, labels = torch.randn(2, 1, 8, 8), torch.tensor([-5.0, 5.0])
    weights = dict(network.named_parameters())
    loss = (network(x, labels) * torch.randn(2, 1, 8, 8)).sum()
    gradients = torch.autograd.grad(loss, list(weights.values()))
    assert [n for n, g in zip(weights, gradients, strict=True) if g.abs().max() == 0] == []


def test_patches_come_out_where_they_went_in(network):
    """With the UNet replaced by the identity the picture is unchanged."""

    class Identity(torch.nn.Module):
        def forward(self, x, label, return_dict):
            assert x.shape == (1, 4, 4, 4)
            return (x,)

    wired = PatchedUNet((1, 8, 8), **SMALL)
    wired.unet = Identity()
    x = torch.arange(64.0).view(1, 1, 8, 8)
    assert torch.equal(wired(x, torch.zeros(1)), x)


def test_attention_stands_where_it_is_asked_for():
    network = PatchedUNet((1, 8, 8), patch=1, widths=(32, 64, 64), attention=(False, True, False))
    down = [hasattr(block, "attentions") for block in network.unet.down_blocks]
    up = [hasattr(block, "attentions") for block in network.unet.up_blocks]
    assert down == [False, True, False]
    assert up == [False, True, False]
    assert network.unet.down_blocks[1].attentions[0].heads == 2


def test_default_network_is_for_pictures_of_32_by_32():
    network = PatchedUNet((1, 32, 32))
    assert network.unet.config.block_out_channels == (64, 128, 128)
    assert [hasattr(b, "attentions") for b in network.unet.down_blocks] == [False, True, False]


def test_parameters_are_counted_frozen_or_not():
    layer = torch.nn.Linear(3, 2)
    assert parameter_count(layer) == 8
    # a trained denoiser is frozen, and its card states its size
    assert parameter_count(layer.requires_grad_(False)) == 8


@pytest.mark.parametrize(
    ("event_shape", "settings", "message"),
    [
        ((1, 10, 8), {}, "multiples of 4, got 10x8"),
        ((1, 8, 6), {}, "multiples of 4"),
        ((1, 8, 8), {"attention": (True,)}, "1 entries for 2 widths"),
        ((1, 8, 8), {"widths": (32, 48)}, "multiples of 32"),
        ((1, 8, 8), {"widths": (0, 32)}, "multiples of 32"),
        ((1, 8, 8), {"widths": (), "attention": ()}, "multiples of 32"),
        ((8, 8), {}, "channels, height, width"),
    ],
)
def test_refuses_shapes_and_settings_that_do_not_fit(event_shape, settings, message):
    with pytest.raises(InputError, match=message):
        PatchedUNet(event_shape, **{**SMALL, **settings})
