"""Frechet distance against its closed form, and on pictures whose order of quality is known."""

import math

import pytest
import torch
import torch.nn.functional as F

from bayes1bit.diagnostics.features import RandomConvolutionFeatures, frechet_distance
from bayes1bit.errors import InputError


def flat(x):
    return x.flatten(1)


def shapes(count, seed):
    """Bright textured boxes on black, within [-1, 1]: pictures with edges, like clothes."""
    generator = torch.Generator().manual_seed(seed)
    corner, size, tone, wave = torch.rand(4, count, 2, generator=generator).unbind()
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    inside = torch.ones(count, 28, 28, dtype=bool)
    for axis, grid in enumerate((y, x)):
        start = (2 + 8 * corner[:, axis])[:, None, None]
        inside &= (grid >= start) & (grid < start + (8 + 8 * size[:, axis])[:, None, None])
    stripes = torch.sin((0.3 + 2 * wave[:, :1, None]) * x + 6 * wave[:, 1:, None])
    value = 2 * (0.3 + 0.5 * tone[:, :1, None] + 0.2 * stripes) - 1
    return torch.where(inside, value, -1.0)[:, None]


def blurred(x):
    kernel = torch.tensor([0.25, 0.5, 0.25])
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(F.conv2d(x, kernel[None, None, :, None]), kernel[None, None, None])


def gaussian_fit(x, seed):
    """A Gaussian with the mean and covariance of the pictures: right in every pixel pair."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(len(x), len(x), generator=generator) / math.sqrt(len(x) - 1)
    mean = x.mean(0)
    return mean + (z @ (x - mean).flatten(1)).reshape(x.shape)


def test_distance_of_known_gaussians():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).mT
    # Commuting covariances I and diag(4, 9, 1): |m|^2 + sum (1 - s)^2 with s = 2, 3, 1.
    y = x * torch.tensor([2.0, 3.0, 1.0]) + torch.tensor([0.0, 0.0, 5.0])
    assert frechet_distance(x, y, flat) == pytest.approx(25 + 1 + 4, abs=1e-9)
    assert frechet_distance(y, x, flat) == pytest.approx(30, abs=1e-9)
    assert frechet_distance(x, x, flat) == pytest.approx(0, abs=1e-9)


def test_distance_of_correlated_gaussians():
    import scipy.linalg

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    y = x.flip(0) @ torch.randn(4, 4, generator=generator, dtype=torch.float64) + 1
    first, second = torch.cov(x.T), torch.cov(y.T)
    root = scipy.linalg.sqrtm((first @ second).numpy()).real
    shift = (x.mean(0) - y.mean(0)).square().sum()
    expected = float(shift + first.trace() + second.trace()) - 2 * root.trace()
    assert frechet_distance(x, y, flat) == pytest.approx(expected, rel=1e-9)


def test_distance_with_fewer_signals_than_features():
    x = torch.randn(5, 20, generator=torch.Generator().manual_seed(2))
    assert frechet_distance(x, x + 1, flat) == pytest.approx(20, rel=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_worse_pictures_are_further_away(seed):
    features = RandomConvolutionFeatures(1, seed=seed)
    reference, held_out = shapes(320, 10), shapes(320, 11)
    generator = torch.Generator().manual_seed(12)
    noise = torch.randn(held_out.shape, generator=generator)
    floor = frechet_distance(reference, held_out, features)
    mild = frechet_distance(reference, held_out + 0.1 * noise, features)
    strong = frechet_distance(reference, held_out + 0.3 * noise, features)
    once = frechet_distance(reference, blurred(held_out), features)
    twice = frechet_distance(reference, blurred(blurred(held_out)), features)
    assert 1.5 * floor < mild < 0.5 * strong
    assert 1.5 * floor < once < 0.8 * twice
    # Right in mean and covariance of the pixels, but not made of boxes.
    assert frechet_distance(reference, gaussian_fit(held_out, 13), features) > 3 * floor
    # Eight pictures over and over: every one is perfect, the variety is not.
    assert frechet_distance(reference, held_out[:8].repeat(40, 1, 1, 1), features) > 2 * floor


def test_features_are_fixed_by_the_seed_alone():
    pictures = shapes(3, 0)
    torch.manual_seed(0)
    first = RandomConvolutionFeatures(1)(pictures)
    torch.manual_seed(1)
    assert torch.equal(first, RandomConvolutionFeatures(1)(pictures))
    assert not torch.allclose(first, RandomConvolutionFeatures(1, seed=1)(pictures))
    assert first.shape == (3, 52)
    assert RandomConvolutionFeatures(3)(pictures.expand(3, 3, 28, 28)).shape == (3, 60)


def test_features_of_pictures_are_what_they_always_were():
    # distances that were reported are comparable only as long as these numbers stay
    grey = shapes(3, 0)
    numbers = RandomConvolutionFeatures(1)(grey)[0, [0, 3, 4, 19, 20, 35, 36, 51]]
    expected = [
        *(-0.8315946459770203, -0.872499406337738, 0.048043373972177505, 0.0725320428609848),
        *(0.04919063672423363, 0.03413784131407738, 0.03096216544508934, 0.03625749424099922),
    ]
    torch.testing.assert_close(numbers, torch.tensor(expected), rtol=1e-5, atol=1e-7)
    colour = torch.cat([grey, -grey, grey.roll(3, -1)], 1)
    numbers = RandomConvolutionFeatures(3, (0.0, 2.0), seed=5)(colour)[1, [0, 11, 12, 59]]
    expected = [-1.4792252779006958, -1.9734961986541748, 0.0333259142935276, 0.02270117774605751]
    torch.testing.assert_close(numbers, torch.tensor(expected), rtol=1e-5, atol=1e-7)


def test_features_take_the_range_of_the_data():
    pictures = shapes(3, 0)
    bytes_like = (pictures + 1) * 127.5
    features = RandomConvolutionFeatures(1, data_range=(0, 255))
    torch.testing.assert_close(
        features(bytes_like), RandomConvolutionFeatures(1)(pictures), atol=1e-5, rtol=1e-5
    )


def test_default_features_of_pictures():
    x, y = shapes(30, 0), shapes(30, 1)
    expected = frechet_distance(x, y, RandomConvolutionFeatures(1))
    assert frechet_distance(x, y) == expected


def test_bad_input_is_refused():
    pictures = shapes(3, 0)
    with pytest.raises(InputError, match="cannot be compared"):
        frechet_distance(pictures, pictures[..., 1:])
    with pytest.raises(InputError, match="at least 2"):
        frechet_distance(pictures, pictures[:1])
    with pytest.raises(InputError, match="are not pictures"):
        frechet_distance(torch.randn(4, 9), torch.randn(4, 9))
    with pytest.raises(InputError, match="NaN"):
        frechet_distance(pictures, pictures * math.nan)
    with pytest.raises(InputError, match="data_range"):
        RandomConvolutionFeatures(1, data_range=(1.0, 1.0))
    for shape in ((3, 28, 28), (2, 3, 28, 28), (2, 1, 7, 28)):
        with pytest.raises(InputError, match="pictures have shape"):
            RandomConvolutionFeatures(1)(torch.zeros(shape))
