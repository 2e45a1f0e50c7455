r"""How far samples are from a posterior that is known.

Samples are judged against independent exact draws of the same number as their own:

* ``SW ratio``: sliced distance to exact draws (:func:`sliced_distance`), divided by the distance
  of exact draws from each other. 1 is perfect; each is an average over several sets.
* ``TV``: total variation between exact component probabilities and those of the samples, each
  sample shared out among components by the prior. The row of the exact sampler is the floor.
* ``miss``: a component has more than half of the probability, and the samples give it less than
  a tenth of what it should have. Not judged where no component has that much.
* ``mean error``: error of the posterior mean over the posterior standard deviation, root mean
  square over pixels; N exact draws have :math:`1/\sqrt N`.
* ``std ratio``: root mean posterior variance of the samples over the exact one, less 1.
* ``log evidence error``: estimated less true log p(y), for methods that estimate it.
* ``ESS``, ``R-hat``: Kish's effective sample size for weighted samples. Otherwise the samples, in
  the order they came, are cut into four chains, and the least bulk effective sample size and the
  largest R-hat of eight random projections are shown. Methods that run one chain per sample have
  nothing to fear of this; it is for those that return successive states.
"""

import time

import torch
from torch import Tensor

from bayes1bit.bench.exact_problems import ExactProblem, random_stream
from bayes1bit.diagnostics.convergence import bulk_ess, projections, rhat, split_into_chains
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior
from bayes1bit.weighted import normalize_weights, systematic_indices

SCORES = (
    "SW ratio",
    "TV",
    "miss",
    "mean error",
    "std ratio",
    "log evidence error",
    "ESS",
    "R-hat",
    "NFE",
    "seconds",
    "diverged",
)
"""Names of the scores, in the order of tables."""

_NUM_SETS = 8
_NUM_DIRECTIONS = 200
_NUM_CHAINS = 4
_MIN_SAMPLES = 16

Scores = dict[str, float | None]


def sliced_distance(
    a: Tensor,
    b: Tensor,
    weights: Tensor | None = None,
    num_directions: int = _NUM_DIRECTIONS,
    seed: int = 0,
) -> float:
    r"""Sliced Wasserstein-1 distance of two samples.

    Both are projected on random unit directions; the mean absolute difference of the sorted
    projections, averaged over directions, is the distance (Bonneel, Rabin, Peyre and Pfister,
    *Journal of Mathematical Imaging and Vision* 51, 2015).

    Args:
        a: Signals, shape (num_a, \*event).
        b: Signals, shape (num_b, \*event).
        weights: Relative weights of ``a``, shape (num_a,); ``a`` is then resampled
            systematically to as many equally weighted signals as ``b`` has.
        num_directions: Number of directions.
        seed: Seed of the directions.

    Returns:
        The distance, in units of the signal.

    Raises:
        InputError: If shapes disagree, or samples without weights differ in number.
    """
    if weights is not None:
        if weights.shape != a.shape[:1]:
            raise InputError(
                f"{len(a)} samples need weights of shape ({len(a)},), got {tuple(weights.shape)}"
            )
        a = a[systematic_indices(normalize_weights(weights), len(b), 0.5)]
    if a.shape != b.shape:
        raise InputError(
            f"samples of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared; give "
            "as many signals of the same shape, or weights"
        )
    first, second = (projections(x, num_directions, seed).sort(0).values for x in (a, b))
    return (first - second).abs().mean().item()


def component_frequencies(
    prior: GaussianMixturePrior, samples: Tensor, weights: Tensor | None = None
) -> Tensor:
    r"""Component probabilities of a weighted sample, each signal shared out by the prior.

    Args:
        prior: The mixture.
        samples: Signals, shape (num_samples, \*event).
        weights: Weights that sum to one, shape (num_samples,); None means equal weights.

    Returns:
        Probabilities, shape (components,), float64.
    """
    if weights is None:
        weights = torch.full((len(samples),), 1 / len(samples), device=samples.device)
    total = samples.new_zeros(len(prior.means), dtype=torch.float64)
    for part, weight in zip(samples.split(256), weights.double().split(256), strict=True):
        total += weight @ prior.component_log_probs(part).double().exp()
    return total


class Judge:
    """A problem's reference, and exact draws in the sizes that were asked for."""

    def __init__(self, problem: ExactProblem) -> None:
        self.problem, self.prior = problem, problem.prior
        self.reference = problem.reference()
        with random_stream(self.problem.seed, "reference"):
            self.mean, self.std = self.reference.mean, self.reference.std
        self._exact: dict[int, tuple[Tensor, float]] = {}

    def baseline(self, num_samples: int) -> Posterior:
        """The exact sampler as if it were a method."""
        with random_stream(self.problem.seed, "baseline"):
            started = time.perf_counter()
            samples = self.reference.sample(num_samples)
            return Posterior(samples, seconds=time.perf_counter() - started)

    def scores(self, posterior: Posterior) -> Scores:
        """All scores of a posterior."""
        samples, probs = posterior.samples, self.reference.component_probs
        frequencies = component_frequencies(self.prior, samples, posterior.weights)
        best = int(probs.argmax())
        judged = bool(probs[best] > 0.5)
        spread = self.std.square().mean().sqrt()
        # a single sample with all the weight has no spread
        sample_spread = posterior.std.nan_to_num(0.0).square().mean().sqrt()
        evidence = posterior.log_evidence
        return {
            "SW ratio": self._sliced_ratio(posterior.equally_weighted().samples),
            "TV": 0.5 * (frequencies - probs).abs().sum().item(),
            "miss": float(frequencies[best] < 0.1 * probs[best]) if judged else None,
            "mean error": ((posterior.mean - self.mean) / self.std).square().mean().sqrt().item(),
            "std ratio": (sample_spread / spread).item() - 1,
            "log evidence error": (
                None if evidence is None else evidence - self.reference.log_evidence
            ),
            **_convergence(posterior),
            "NFE": posterior.nfe,
            "seconds": posterior.seconds,
            "diverged": 0.0,
        }

    def _sliced_ratio(self, samples: Tensor) -> float:
        exact, floor = self._exact_projections(len(samples))
        own = projections(samples, _NUM_DIRECTIONS, self.problem.seed).sort(0).values
        return (own - exact).abs().mean().item() / floor

    def _exact_projections(self, size: int) -> tuple[Tensor, float]:
        """Sorted projections of exact sets, shape (sets, size, directions), and the floor."""
        if size not in self._exact:
            with random_stream(self.problem.seed, "exact samples"):
                exact = torch.stack(
                    [
                        projections(
                            self.reference.sample(size), _NUM_DIRECTIONS, self.problem.seed
                        )
                        for _ in range(_NUM_SETS)
                    ]
                )
            exact = exact.sort(1).values
            pairs = torch.combinations(torch.arange(_NUM_SETS))
            distances = [(exact[i] - exact[j]).abs().mean() for i, j in pairs.tolist()]
            self._exact[size] = exact, torch.stack(distances).mean().item()
        return self._exact[size]


def _convergence(posterior: Posterior) -> Scores:
    if posterior.weights is not None:
        return {"ESS": posterior.effective_sample_size, "R-hat": None}
    if posterior.num_samples < _MIN_SAMPLES:
        return {"ESS": None, "R-hat": None}
    chains = split_into_chains(projections(posterior.samples), _NUM_CHAINS)
    size, ratio = bulk_ess(chains).min().item(), rhat(chains).max().item()
    # samples that are all the same have neither
    return {"ESS": size if size == size else None, "R-hat": ratio if ratio == ratio else None}
