"""How good a trained prior is: ``bayes1bit bench prior``.

Samples are compared with held-out signals by the Frechet distance in a fixed feature space (see
:mod:`bayes1bit.diagnostics.features`). How near they can be is told by the distance of training
signals to the same held-out ones: samples without a flaw are as far, where a prior has learnt the
law of the training signals. That distance is more than sampling error where the held-out signals
come from elsewhere, such as heartbeats of other people. So samples are compared with training
signals too, and training signals with others of their kind, which is sampling error alone.

The distance is biased upwards by an amount that falls with the number of signals, so all sets
that are compared have the same number, and ratios are only comparable between runs of the same
number. It also varies by chance, most where it is sampling error alone, so it is averaged over as
many sets of data as there are, up to five.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayes1bit.diagnostics.features import RandomConvolutionFeatures, feature_distance
from bayes1bit.diffusion import DiffusionPrior, ErrorTable
from bayes1bit.errors import InputError

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
NOISE = 0.15
"""Noise of the damaged signals, in standard deviations of the training signals."""
CHUNK = 200
"""Signals that are drawn, or seen by the features, at a time."""
GROUPS = 10
"""Groups of signals that are left out in turn for the standard errors."""
FEWEST = 20
MOST_SETS = 5


class SignalSets(NamedTuple):
    """Sets of equally many signals of each kind, shape (num_sets, count, *event).

    Attributes:
        train: Training signals.
        others: Other training signals.
        held_out: Signals that training did not see.
    """

    train: Tensor
    others: Tensor
    held_out: Tensor


def choose_signals(train: Tensor, held_out: Tensor, count: int, seed: int = 0) -> SignalSets:
    """Choose sets of signals at random, none of them in two sets.

    Args:
        train: All training signals, shape (num_train, *event), as stored or scaled.
        held_out: All held-out signals, shape (num_held_out, *event).
        count: Signals in a set; fewer where there are not as many.
        seed: Seed of the choice.

    Raises:
        InputError: If fewer than 20 of each kind are left, too few for a distance.
    """
    count = min(count, len(held_out), len(train) // 2)
    if count < FEWEST:
        raise InputError(
            f"{len(train)} training signals and {len(held_out)} held-out ones are too few: give "
            f"{2 * FEWEST} and {FEWEST} at least"
        )
    num_sets = min(MOST_SETS, len(held_out) // count, len(train) // (2 * count))
    generator = torch.Generator().manual_seed(seed)

    def choose(signals: Tensor, sets: int) -> Tensor:
        index = torch.randperm(len(signals), generator=generator)[: sets * count]
        return signals[index].unflatten(0, (sets, count))

    known = choose(train, 2 * num_sets)
    return SignalSets(known[:num_sets], known[num_sets:], choose(held_out, num_sets))


def feature_space(prior: DiffusionPrior, signals: Tensor) -> RandomConvolutionFeatures:
    """The features in which signals of a prior are compared.

    Args:
        prior: The prior; without a data range, that of ``signals`` is taken.
        signals: Signals of the prior, shape (count, channels, *space).

    Raises:
        InputError: If they have neither one nor two dimensions in space.
    """
    data_range = prior.data_range or (signals.min().item(), signals.max().item())
    return RandomConvolutionFeatures(signals.shape[1], data_range, dim=signals.ndim - 2)


def sample_quality(
    prior: DiffusionPrior, sets: SignalSets, features: RandomConvolutionFeatures
) -> list[dict[str, Any]]:
    """Frechet distances of samples, training and damaged signals to the data.

    Standard errors are those of the jackknife over groups: a tenth of every set is left out at a
    time. They hold the randomness of samples and data alike. Of distances that are sampling error
    alone they are too large rather than too small.

    Args:
        prior: The prior to judge.
        sets: Signals to compare with; one set of as many samples is drawn.
        features: Where to compare, such as :func:`feature_space`.

    Returns:
        A row for each pair of kinds, with the number of signals in a set, the distance averaged
        over the sets, and its ratio to that of held-out signals against training signals.
    """
    train, held_out = sets.train, sets.held_out
    num_sets, count = held_out.shape[:2]
    known_signals = train.flatten(0, 1)
    damaged = known_signals + NOISE * train.std() * torch.randn_like(known_signals)
    normal = _normal_fit(known_signals, count)
    chunks: dict[str, Iterable[Tensor]] = {
        "samples": _draw(prior, count),
        "held-out": held_out.flatten(0, 1).split(CHUNK),
        "training": known_signals.split(CHUNK),
        "other training": sets.others.flatten(0, 1).split(CHUNK),
        f"training, {NOISE:.0%} noise": damaged.split(CHUNK),
        "normal of training's moments": normal.split(CHUNK),
    }
    seen = {
        name: torch.cat([features(x) for x in parts]).unflatten(0, (-1, count))
        for name, parts in chunks.items()
    }
    sample, real, known, other, noisy, normal_fit = seen
    reference = _distances(seen[real], seen[known])
    rows = []
    for name, against in (
        (sample, real),
        (real, known),
        (sample, known),
        (known, other),
        (noisy, real),
        (normal_fit, real),
    ):
        distances = _distances(seen[name], seen[against])
        ratios = distances / reference
        rows.append(
            {
                "signals": name,
                "against": against,
                "sets": num_sets,
                "count": count,
                "Frechet": float(distances[0]),
                "error": _jackknife(distances[1:]),
                "ratio": float(ratios[0]),
                "its error": _jackknife(ratios[1:]),
            }
        )
    return rows


def denoising_error(prior: DiffusionPrior, held_out: Tensor) -> list[dict[str, Any]]:
    """Denoising error on held-out signals beside the table that is shipped with the prior.

    Args:
        prior: The prior.
        held_out: Signals that training did not see, shape (count, *event).

    Returns:
        A row for each of :data:`LEVELS` that is one of the prior.
    """
    levels = [s for s in LEVELS if prior.sigma_min <= s <= prior.sigma_max]
    sigma = torch.tensor(levels, dtype=torch.float64)
    measured = ErrorTable.measure(prior.denoise, held_out.to(prior.device), sigma)
    return [
        {
            "sigma": s,
            "count": len(held_out),
            "held-out error": float(measured(s)),
            "shipped table": float(prior.error(s)),
            "ratio": float(measured(s) / prior.error(s)),
        }
        for s in levels
    ]


def _draw(prior: DiffusionPrior, count: int) -> Iterator[Tensor]:
    for start in range(0, count, CHUNK):
        yield prior.sample(torch.Size([min(CHUNK, count - start)])).cpu()


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """Mean distance of sets of features, then that without one group of each set at a time.

    Args:
        first: One set for all of the others or one for each, shape (sets, count, dimension).
        second: Sets to compare with, of that shape.
    """
    group = torch.arange(second.shape[1]) % GROUPS
    kept = [group >= 0, *(group != g for g in range(GROUPS))]
    pairs = list(zip(first.expand(len(second), -1, -1), second, strict=True))
    return torch.tensor(
        [[feature_distance(x[keep], y[keep]) for x, y in pairs] for keep in kept],
        dtype=torch.float64,
    ).mean(1)


def _jackknife(values: Tensor) -> float:
    """Standard error of a statistic from its values without each group (Efron, 1982)."""
    return float(((len(values) - 1) * values.var(correction=0)).sqrt())


def _normal_fit(x: Tensor, count: int) -> Tensor:
    """Draws from the normal with the mean and covariance of ``x``."""
    flat = x.flatten(1)
    centred = flat - flat.mean(0)
    # a random combination of the centred signals has their covariance
    weights = torch.randn(count, len(x)) / (len(x) - 1) ** 0.5
    return (flat.mean(0) + weights @ centred).view(count, *x.shape[1:])
