"""How good a trained prior is: ``bayes1bit bench prior``.

Samples are compared with test pictures by the Frechet distance in a fixed feature space (see
:mod:`bayes1bit.diagnostics.features`). The distance between training and test pictures, of the
same number, is what perfect samples would get.
"""

from typing import Any

import torch
from torch import Tensor

from bayes1bit.diagnostics.features import RandomConvolutionFeatures, frechet_distance
from bayes1bit.diffusion import DiffusionPrior, ErrorTable

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def sample_quality(prior: DiffusionPrior, train: Tensor, test: Tensor) -> list[dict[str, Any]]:
    """Frechet distances of training pictures, samples, and damaged pictures to test pictures.

    Args:
        prior: The prior to judge.
        train: Training pictures, shape (count, *event).
        test: Test pictures, of the same shape.

    Returns:
        One row for each set that is compared with the test pictures.
    """
    low, high = prior.data_range or (test.min().item(), test.max().item())
    features = RandomConvolutionFeatures(test.shape[1], (low, high))
    chunk = 200
    samples = torch.cat([prior.sample((len(part),)) for part in train.split(chunk)])
    noisy = test + 0.1 * torch.randn_like(test)
    normal = _normal_fit(train, len(test))
    return [
        {"pictures": name, "count": len(x), "Frechet": frechet_distance(x, test, features)}
        for name, x in (
            ("training set", train),
            ("samples of the prior", samples.cpu()),
            ("test set with noise 0.1", noisy),
            ("normal with the training set's moments", normal),
        )
    ]


def denoising_error(prior: DiffusionPrior, test: Tensor) -> list[dict[str, Any]]:
    """Denoising error on test pictures beside the table that is shipped with the prior."""
    sigma = torch.tensor(LEVELS, dtype=torch.float64)
    measured = ErrorTable.measure(prior.denoise, test.to(prior.device), sigma)
    return [
        {"sigma": s, "test error": float(measured(s)), "shipped table": float(prior.error(s))}
        for s in LEVELS
    ]


def _normal_fit(x: Tensor, count: int) -> Tensor:
    """Draws from the normal with the mean and covariance of ``x``."""
    flat = x.flatten(1)
    centred = flat - flat.mean(0)
    # a random combination of the centred pictures has their covariance
    weights = torch.randn(count, len(x)) / (len(x) - 1) ** 0.5
    return (flat.mean(0) + weights @ centred).view(count, *x.shape[1:])
