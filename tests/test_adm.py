"""The network of guided diffusion against a plain computation from the names of its weights."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

from bayes1bit.errors import InputError
from bayes1bit.networks import ADMUNet
from bayes1bit.networks.unet import parameter_count

GROUPS = 32


# --- what the names say, in plain torch -------------------------------------------------------


class Plain:
    """The forward pass of the published architecture, from a dictionary of weights alone."""

    def __init__(self, weights, *, num_channels, num_res_blocks, head_width, scale_shift, new):
        self.weights, self.num_channels = weights, num_channels
        self.num_res_blocks, self.head_width = num_res_blocks, head_width
        self.scale_shift, self.new = scale_shift, new

    def has(self, name):
        return f"{name}.weight" in self.weights

    def of(self, name):
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def norm(self, name, x):
        grouped = x.reshape(len(x), GROUPS, -1)
        mean, variance = grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, correction=0)
        weight, bias = self.of(name)
        shape = (1, -1, *[1] * (x.ndim - 2))
        standard = ((grouped - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
        return standard * weight.reshape(shape) + bias.reshape(shape)

    def conv(self, name, x, **options):
        weight, bias = self.of(name)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, **options)

    def embedding(self, t):
        half = self.num_channels // 2
        columns = []
        for wave in (math.cos, math.sin):
            for k in range(half):
                columns.append([wave(time * 10_000 ** (-k / half)) for time in t.tolist()])
        e = torch.tensor(columns, dtype=torch.float64).T
        e = F.silu(F.linear(e, *self.of("time_embed.0")))
        return F.linear(e, *self.of("time_embed.2"))

    def residual(self, name, x, embedding, resample):
        h = resample(F.silu(self.norm(f"{name}.in_layers.0", x)))
        h = self.conv(f"{name}.in_layers.2", h)
        told = F.linear(F.silu(embedding), *self.of(f"{name}.emb_layers.1"))[..., None, None]
        if self.scale_shift:
            half = told.shape[1] // 2
            h = self.norm(f"{name}.out_layers.0", h) * (1 + told[:, :half]) + told[:, half:]
        else:
            h = self.norm(f"{name}.out_layers.0", h + told)
        h = self.conv(f"{name}.out_layers.3", F.silu(h))
        skip = f"{name}.skip_connection"
        x = resample(x)
        return h + (self.conv(skip, x) if self.has(skip) else x)

    def attention(self, name, x):
        channels, flat = x.shape[1], x.flatten(2)
        weight, bias = self.of(f"{name}.qkv")
        stacked = F.conv1d(self.norm(f"{name}.norm", flat), weight, bias)
        size, heads = self.head_width, channels // self.head_width
        outputs = []
        for head in range(heads):
            if self.new:
                starts = [part * channels + head * size for part in range(3)]
            else:
                starts = [(3 * head + part) * size for part in range(3)]
            query, key, value = (stacked[:, start : start + size] for start in starts)
            weights = torch.einsum("bcq,bck->bqk", query, key) / math.sqrt(size)
            outputs.append(torch.einsum("bqk,bck->bcq", weights.softmax(2), value))
        weight, bias = self.of(f"{name}.proj_out")
        return x + F.conv1d(torch.cat(outputs, 1), weight, bias).reshape(x.shape)

    def stage(self, name, x, embedding, changes=None):
        indices = {int(m[1]) for key in self.weights if (m := re.match(rf"{name}\.(\d+)\.", key))}
        residuals = 0
        for index in sorted(indices):
            layer = f"{name}.{index}"
            if self.has(f"{layer}.in_layers.0"):
                # on the way up, a second residual block of a stage is there to change the size
                up = name.startswith("output") and residuals > 0
                resample = enlarge if up else changes or (lambda y: y)
                x = self.residual(layer, x, embedding, resample)
                residuals += 1
            elif self.has(f"{layer}.qkv"):
                x = self.attention(layer, x)
            elif self.has(f"{layer}.op"):
                x = self.conv(f"{layer}.op", x, stride=2)
            elif self.has(f"{layer}.conv"):
                x = self.conv(f"{layer}.conv", enlarge(x))
            else:
                x = self.conv(layer, x)
        return x

    def __call__(self, x, t):
        embedding, skips = self.embedding(t), []
        count = 1 + max(int(key.split(".")[1]) for key in self.weights if key.startswith("input"))
        for i in range(count):
            shrinks = i > 0 and i % (self.num_res_blocks + 1) == 0
            x = self.stage(f"input_blocks.{i}", x, embedding, shrink if shrinks else None)
            skips.append(x)
        x = self.stage("middle_block", x, embedding)
        for i in range(count):
            x = self.stage(f"output_blocks.{i}", torch.cat([x, skips.pop()], 1), embedding)
        return self.conv("out.2", F.silu(self.norm("out.0", x)))


def shrink(x):
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def enlarge(x):
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


# --- tests ------------------------------------------------------------------------------------

CASES = {
    "resampling in residual blocks": {"resblock_updown": True, "learn_sigma": True},
    "resampling by convolutions": {"num_res_blocks": 2, "channel_mult": (1, 2)},
    "time that only shifts": {"use_scale_shift_norm": False},
    "new order of attention": {"use_new_attention_order": True, "resblock_updown": True},
    "heads by their number": {"num_head_channels": None, "num_heads": 2, "channel_mult": (1, 1)},
}


def network(**changes):
    """A small network in double precision, with every weight random."""
    settings = {
        "image_size": 16,
        "num_channels": 32,
        "num_res_blocks": 1,
        "channel_mult": (1, 2, 2),
        "attention_resolutions": (8,),
        "num_head_channels": 16,
        "resblock_updown": False,
        "use_scale_shift_norm": True,
        "learn_sigma": False,
    } | changes
    made = ADMUNet(**settings).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        with torch.no_grad():
            parameter.normal_(0, 0.1, generator=generator)
    return made, settings


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_forward_is_the_published_architecture(changes):
    made, settings = network(**changes)
    plain = Plain(
        made.state_dict(),
        num_channels=32,
        num_res_blocks=settings["num_res_blocks"],
        head_width=settings["num_head_channels"] or 32 // settings["num_heads"],
        scale_shift=settings["use_scale_shift_norm"],
        new=settings.get("use_new_attention_order", False),
    )
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([3.0, 700.25], dtype=torch.float64)
    with torch.no_grad():
        answer = made(x, t)
        expected = plain(x, t)
    assert answer.shape == (2, 6 if settings["learn_sigma"] else 3, 16, 16)
    assert expected.std() > 0.05
    torch.testing.assert_close(answer, expected, rtol=1e-10, atol=1e-10)


def test_names_are_those_of_the_checkpoints():
    names = set(network(resblock_updown=True)[0].state_dict())
    for name in (
        "time_embed.0.weight",
        "time_embed.2.bias",
        "input_blocks.0.0.weight",
        "input_blocks.1.0.in_layers.0.weight",
        "input_blocks.1.0.in_layers.2.weight",
        "input_blocks.1.0.emb_layers.1.weight",
        "input_blocks.1.0.out_layers.0.weight",
        "input_blocks.1.0.out_layers.3.weight",
        "input_blocks.3.0.skip_connection.weight",
        "input_blocks.3.1.norm.weight",
        "input_blocks.3.1.qkv.weight",
        "input_blocks.3.1.proj_out.weight",
        "middle_block.1.qkv.bias",
        "output_blocks.1.1.out_layers.3.weight",
        "out.0.weight",
        "out.2.bias",
    ):
        assert name in names, name


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"num_channels": 128, "num_res_blocks": 1, "attention_resolutions": (16,)}, 93_563_910),
        (
            {"num_channels": 256, "num_res_blocks": 2, "attention_resolutions": (32, 16, 8)},
            552_814_086,
        ),
    ],
    ids=["ffhq256", "imagenet256"],
)
def test_published_networks_have_their_size(settings, count):
    with torch.device("meta"):
        made = ADMUNet(
            256, num_head_channels=64, resblock_updown=True, learn_sigma=True, **settings
        )
    assert parameter_count(made) == count


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 48, "channel_mult": None}, "side 64, 128, 256, 512, not 48"),
        ({"num_channels": 48}, "multiples of 32"),
        ({"image_size": 18}, "multiple of 4, got 18"),
        ({"num_head_channels": None, "num_heads": 7}, "shared by 7 attention heads"),
        ({"num_res_blocks": 0}, "at least 1"),
        ({"num_channels": 33}, "must be even"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        network(**changes)
