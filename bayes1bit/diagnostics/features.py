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
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes1bit.errors import InputError

_LAYERS = {
    1: (F.conv1d, F.avg_pool1d, F.adaptive_avg_pool1d),
    2: (F.conv2d, F.avg_pool2d, F.adaptive_avg_pool2d),
}
"""Convolution, pooling by a factor and pooling to a size, for each number of dimensions."""


class RandomConvolutionFeatures:
    """A fixed random convolutional network as a feature space for pictures and 1-D signals.

    Convolutions of random filters with zero mean and unit norm (so that they see edges and
    texture, fine noise included), each followed by a rectifier and halving of the resolution:
    three for pictures, six for 1-D signals, which are longer. Features are the averages over
    space after each rectifier, and the averages of the four quarters of a picture or the two
    halves of a 1-D signal: 48 + 4 * channels numbers, or 96 + 2 * channels.

    Filters are drawn on the CPU from ``seed`` alone; distances are comparable only between runs
    with the same ``seed`` and ``data_range``.

    Args:
        channels: Channels of the signals.
        data_range: Lowest and highest value (low, high), black and white of a picture; mapped to
            (-1, 1).
        seed: Seed of the filters.
        dim: Directions in space, 1 or 2.

    Raises:
        InputError: If ``data_range`` is empty or ``dim`` is neither 1 nor 2.
    """

    width = 16
    depths: ClassVar[dict[int, int]] = {1: 6, 2: 3}

    def __init__(
        self,
        channels: int,
        data_range: tuple[float, float] = (-1.0, 1.0),
        seed: int = 0,
        dim: int = 2,
    ) -> None:
        if not data_range[0] < data_range[1]:
            raise InputError(f"data_range must be (low, high) with low < high, got {data_range}")
        if dim not in self.depths:
            raise InputError(f"features are of signals in 1 or 2 dimensions, got dim {dim}")
        self.channels, self.data_range, self.seed, self.dim = channels, data_range, seed, dim
        generator = torch.Generator().manual_seed(seed)
        self.filters = []
        for inputs in (channels, *[self.width] * (self.depths[dim] - 1)):
            filters = torch.randn(self.width, inputs, *[3] * dim, generator=generator)
            filters -= filters.mean(tuple(range(2, 2 + dim)), keepdim=True)
            norm = filters.flatten(1).norm(dim=1).view(-1, *[1] * (dim + 1))
            # A rectifier halves the power of what passes; the factor restores it.
            self.filters.append(filters * 2**0.5 / norm)

    def __call__(self, signals: Tensor) -> Tensor:
        """Compute the features.

        Args:
            signals: Shape (batch, channels, height, width) with sides of at least 8, or (batch,
                channels, length) with a length of at least 64 where ``dim`` is 1.

        Returns:
            Features, shape (batch, :attr:`size`).

        Raises:
            InputError: If the shape is not that of such signals.
        """
        smallest = 2 ** self.depths[self.dim]
        if (
            signals.dim() != self.dim + 2
            or signals.shape[1] != self.channels
            or min(signals.shape[2:]) < smallest
        ):
            names, sides = {1: ("signals", "length"), 2: ("pictures", "height, width")}[self.dim]
            raise InputError(
                f"{names} have shape {tuple(signals.shape)}; expected (batch, {self.channels}, "
                f"{sides}) with sides of at least {smallest}"
            )
        convolve, pool, pool_to = _LAYERS[self.dim]
        space = tuple(range(2, self.dim + 2))
        low, high = self.data_range
        maps = (signals - low) * (2.0 / (high - low)) - 1.0
        features = [pool_to(maps, 2).flatten(1)]
        for filters in self.filters:
            padded = F.pad(maps, (1, 1) * self.dim, "replicate")
            maps = F.relu(convolve(padded, filters.to(maps)))
            features.append(maps.mean(space))
            maps = pool(maps, 2)
        return torch.cat(features, dim=1)

    @property
    def size(self) -> int:
        """Number of features."""
        return self.width * self.depths[self.dim] + 2**self.dim * self.channels

    def __str__(self) -> str:
        return f"{self.size} random {self.dim}-D convolutional features, seed {self.seed}"


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
            :class:`RandomConvolutionFeatures`, for signals with values in (-1, 1).

    Returns:
        The distance, in squared units of the features.

    Raises:
        InputError: If a set has fewer than two signals, event shapes differ, the signals are
            neither pictures (channels, height, width) nor of shape (channels, length) and no
            ``features`` are given, or a feature is NaN or infinite.
    """
    if x.shape[1:] != y.shape[1:]:
        raise InputError(
            f"signals of shape {tuple(x.shape[1:])} and {tuple(y.shape[1:])} cannot be compared"
        )
    if features is None:
        if x.dim() not in (3, 4):
            raise InputError(
                f"signals of shape {tuple(x.shape[1:])} are not pictures (channels, height, "
                f"width), nor of shape (channels, length); give features=, such as "
                f"lambda x: x.flatten(1)"
            )
        features = RandomConvolutionFeatures(x.shape[1], dim=x.dim() - 2)
    return feature_distance(features(x), features(y))


def feature_distance(first: Tensor, second: Tensor) -> float:
    """Squared Frechet distance between Gaussian fits of two sets of feature vectors.

    Args:
        first: Features of the first set, shape (count, dimension), count of at least 2.
        second: Features of the second set, of the same dimension.

    Returns:
        The distance; see :func:`frechet_distance`.

    Raises:
        InputError: If a set has fewer than two vectors, or one is not finite.
    """
    if min(len(first), len(second)) < 2:
        raise InputError(
            f"two sets of at least 2 signals are needed, got {len(first)} and {len(second)}"
        )
    first, second = first.double(), second.double()
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
