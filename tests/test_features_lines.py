"""Features of signals in one dimension: what they see of a heartbeat's shape."""

import math

import pytest
import torch
import torch.nn.functional as F

from bayes1bit.diagnostics.features import (
    RandomConvolutionFeatures,
    feature_distance,
    frechet_distance,
)
from bayes1bit.errors import InputError

FEATURES = RandomConvolutionFeatures(1, (-4.0, 4.0), dim=1)


def beats(count, seed, length=256):
    """A sharp spike, a slow wave after it, and a little noise, within [-4, 4]."""
    generator = torch.Generator().manual_seed(seed)
    place, height, delay = torch.randn(3, count, 1, generator=generator).unbind()
    time = torch.arange(length) * 256 / length

    def bump(centre, width):
        return torch.exp(-0.5 * ((time - centre) / width).square())

    spike = (1.5 + 0.3 * height) * bump(96 + 2 * place, 3.0)
    wave = (0.3 + 0.05 * height) * bump(170 + 8 * delay, 15.0)
    noise = 0.02 * torch.randn(count, length, generator=generator)
    return (spike + wave + noise)[:, None]


def smooth(x):
    kernel = torch.ones(1, 1, 5) / 5
    return F.conv1d(F.pad(x, (2, 2), "replicate"), kernel)


def test_worse_beats_are_further_away():
    reference, held_out = beats(300, 0), beats(300, 1)
    noise = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(2))
    floor = frechet_distance(reference, held_out, FEATURES)
    noisy = [frechet_distance(reference, held_out + s * noise, FEATURES) for s in (0.02, 0.06)]
    assert 1.5 * floor < noisy[0] < 0.5 * noisy[1]
    # blunt spikes; eight beats over and over; the last wave of each upside down
    upside_down = torch.where(torch.arange(256) > 130, -held_out, held_out)
    for worse in (smooth(held_out), held_out[:8].repeat(40, 1, 1)[:300], upside_down):
        assert frechet_distance(reference, worse, FEATURES) > 3 * floor


def test_a_wave_longer_than_the_filters_of_pictures_is_seen():
    # a slow wave of 150 samples a period: same level, hardly an edge
    held_out = beats(300, 1)
    slow = 0.15 * torch.sin(2 * math.pi * torch.arange(256) / 150)
    floor = frechet_distance(beats(300, 0), held_out, FEATURES)
    assert frechet_distance(beats(300, 0), held_out + slow, FEATURES) > 3 * floor


def test_size_and_name_say_what_the_space_is():
    assert FEATURES(beats(3, 0)).shape == (3, 98)
    assert FEATURES.size == 98
    assert str(FEATURES) == "98 random 1-D convolutional features, seed 0"
    two_leads = RandomConvolutionFeatures(2, seed=3, dim=1)
    assert two_leads(torch.randn(5, 2, 64)).shape == (5, two_leads.size) == (5, 100)
    assert str(RandomConvolutionFeatures(3)) == "60 random 2-D convolutional features, seed 0"


def test_seed_and_range_of_the_data_count():
    x = beats(4, 0)
    assert torch.equal(FEATURES(x), RandomConvolutionFeatures(1, (-4.0, 4.0), dim=1)(x))
    other = RandomConvolutionFeatures(1, (-4.0, 4.0), seed=1, dim=1)
    assert not torch.allclose(FEATURES(x), other(x))
    halved = RandomConvolutionFeatures(1, (-2.0, 2.0), dim=1)
    torch.testing.assert_close(halved(x / 2), FEATURES(x), rtol=1e-4, atol=1e-6)


def test_default_features_follow_the_shape():
    x, y = beats(30, 0), beats(30, 1)
    features = RandomConvolutionFeatures(1, dim=1)
    assert frechet_distance(x, y) == frechet_distance(x, y, features)
    assert frechet_distance(x, y) == feature_distance(features(x), features(y))


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="1 or 2 dimensions, got dim 3"):
        RandomConvolutionFeatures(1, dim=3)
    for shape in ((256,), (2, 256), (2, 2, 256), (2, 1, 63), (2, 1, 8, 64)):
        with pytest.raises(InputError, match=r"signals have shape .* at least 64"):
            FEATURES(torch.zeros(shape))
    with pytest.raises(InputError, match="at least 2"):
        feature_distance(torch.zeros(2, 3), torch.zeros(1, 3))
