r"""Frechet distance between sets of signals, in a feature space that needs no download.

The Frechet distance fits a Gaussian to the features of each set and compares the two,

.. math:: d^2 = |m_1 - m_2|^2 + \operatorname{tr}\bigl(C_1 + C_2 - 2 (C_1 C_2)^{1/2}\bigr),

which with the features of an Inception network is the well-known FID (Heusel et al., "GANs trained
by a two time-scale update rule", NeurIPS 2017). Those features are of little meaning away from
natural photographs. Networks with *random* weights do better there (Naeem et al., "Reliable
fidelity and diversity metrics for generative models", ICML 2020) and cost nothing to ship: a seed
is all they are. Principal components would be simpler still, but a Gaussian with the right
covariance, or noise outside the leading components, is invisible to them.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes1bit.errors import InputError


class RandomConvolutionFeatures:
    """A fixed random convolutional network as a feature space for pictures.

    Three convolutions of random filters with zero mean and unit norm (so that they see edges and
    texture, fine noise included), each followed by a rectifier and halving of the resolution.
    Features are the spatial averages after each rectifier, and the average brightness of the four
    quarters of the picture: 48 + 4 * channels numbers.

    Filters are drawn on the CPU from ``seed`` alone; distances are comparable only between runs
    with the same ``seed`` and ``data_range``.

    Args:
        channels: Channels of the pictures.
        data_range: Values (low, high) of black and white; mapped to (-1, 1).
        seed: Seed of the filters.

    Raises:
        InputError: If ``data_range`` is empty.
    """

    width = 16
    depth = 3

    def __init__(
        self, channels: int, data_range: tuple[float, float] = (-1.0, 1.0), seed: int = 0
    ) -> None:
        if not data_range[0] < data_range[1]:
            raise InputError(f"data_range must be (low, high) with low < high, got {data_range}")
        self.channels, self.data_range = channels, data_range
        generator = torch.Generator().manual_seed(seed)
        self.filters = []
        for inputs in (channels, *[self.width] * (self.depth - 1)):
            filters = torch.randn(self.width, inputs, 3, 3, generator=generator)
            filters -= filters.mean((2, 3), keepdim=True)
            # A rectifier halves the power of what passes; the factor restores it.
            self.filters.append(
                filters * 2**0.5 / filters.flatten(1).norm(dim=1)[:, None, None, None]
            )

    def __call__(self, pictures: Tensor) -> Tensor:
        """Compute the features.

        Args:
            pictures: Shape (batch, channels, height, width), sides of at least 8.

        Returns:
            Features, shape (batch, 48 + 4 * channels).

        Raises:
            InputError: If the shape is not that of such pictures.
        """
        smallest = 2**self.depth
        if (
            pictures.dim() != 4
            or pictures.shape[1] != self.channels
            or min(pictures.shape[2:]) < smallest
        ):
            raise InputError(
                f"pictures have shape {tuple(pictures.shape)}; expected (batch, {self.channels}, "
                f"height, width) with sides of at least {smallest}"
            )
        low, high = self.data_range
        maps = (pictures - low) * (2.0 / (high - low)) - 1.0
        features = [F.adaptive_avg_pool2d(maps, 2).flatten(1)]
        for filters in self.filters:
            maps = F.relu(F.conv2d(F.pad(maps, (1, 1, 1, 1), "replicate"), filters.to(maps)))
            features.append(maps.mean((2, 3)))
            maps = F.avg_pool2d(maps, 2)
        return torch.cat(features, dim=1)


def frechet_distance(
    x: Tensor, y: Tensor, features: Callable[[Tensor], Tensor] | None = None
) -> float:
    """Squared Frechet distance between Gaussian fits of two sets of signals.

    The distance is never negative and, for finite sets, biased upwards by an amount that shrinks
    with the number of signals: compare numbers taken with equally large sets, and report next to
    them the distance between two halves of the real data.

    Args:
        x: First set, shape (count, *event), count of at least 2.
        y: Second set, shape (count, *event), count of at least 2.
        features: Map from (count, *event) to (count, dimension); None takes
            :class:`RandomConvolutionFeatures`, for pictures with values in (-1, 1).

    Returns:
        The distance, in squared units of the features.

    Raises:
        InputError: If a set has fewer than two signals, event shapes differ, the signals are not
            pictures (channels, height, width) and no ``features`` are given, or a feature is NaN
            or infinite.
    """
    if x.shape[1:] != y.shape[1:]:
        raise InputError(
            f"signals of shape {tuple(x.shape[1:])} and {tuple(y.shape[1:])} cannot be compared"
        )
    if min(len(x), len(y)) < 2:
        raise InputError(f"two sets of at least 2 signals are needed, got {len(x)} and {len(y)}")
    if features is None:
        if x.dim() != 4:
            raise InputError(
                f"signals of shape {tuple(x.shape[1:])} are not pictures (channels, height, "
                f"width); give features=, such as lambda x: x.flatten(1)"
            )
        features = RandomConvolutionFeatures(x.shape[1])
    first, second = features(x).double(), features(y).double()
    if not (torch.isfinite(first).all() and torch.isfinite(second).all()):
        raise InputError("features hold NaN or infinite values; give finite signals")
    shift = first.mean(0) - second.mean(0)
    covariance, other = _covariance(first), _covariance(second)
    # tr (C1 C2)^(1/2) = tr (S C2 S)^(1/2) with S = C1^(1/2), which is symmetric.
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
    distance = shift.square().sum() + covariance.trace() + other.trace() - 2 * cross
    return max(0.0, float(distance))


def _covariance(features: Tensor) -> Tensor:
    """Unbiased covariance matrix of features of shape (count, dimension)."""
    centred = features - features.mean(0)
    return centred.T @ centred / (len(features) - 1)
