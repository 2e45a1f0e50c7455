"""Every ready-made model under several algorithms, against its posterior on a grid."""

import pyro
import pytest
import torch
from pyro.distributions import Bernoulli, Normal
from scipy.special import roots_hermitenorm

from bayes1bit import models
from bayes1bit.bench.exact import GridPosterior
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import JointGibbs, Langevin, SampleGiven, SplitGibbsSMC, Target, TwistedSMC
from bayes1bit.operators import Dense

EVENT = (1, 1, 2)
MEANS = torch.tensor([[-0.8, -0.5], [0.7, 0.6], [0.2, -0.9]])
PRIOR = GaussianMixturePrior(MEANS.view(3, *EVENT), 0.4)
OPERATOR = Dense(torch.tensor([[0.9, 0.3], [-0.4, 0.8], [0.5, -0.7], [0.2, 1.0]]), EVENT)
DITHER = torch.tensor([0.2, -0.3, 0.1, 0.4])
EDGES = torch.tensor([-0.5, 0.5])
PAIRS = torch.tensor([[0, 1], [2, 1], [3, 0], [2, 3], [1, 3]])
LIMITS = (-2.6, 2.6)

MODELS = {
    "one_bit_cs": models.one_bit_cs(PRIOR, OPERATOR, 0.4, threshold=DITHER, flip=0.05),
    "quantized_cs": models.quantized_cs(PRIOR, OPERATOR, 0.4, EDGES),
    "dithered_adc": models.dithered_adc(
        PRIOR, OPERATOR, 0.3, bits=2, full_scale=1.0, dither=DITHER
    ),
    "heavy_tailed_cs": models.heavy_tailed_cs(PRIOR, OPERATOR, 0.4),
    "super_resolution": models.super_resolution(PRIOR, 1, 0.4),
    "quanta_image_sensor": models.quanta_image_sensor(
        PRIOR, 2.0, exposures=torch.tensor([0.5, 1.0, 3.0])
    ),
    "logistic_regression": models.logistic_regression(PRIOR, OPERATOR, scale=0.4),
    "ordinal_regression": models.ordinal_regression(PRIOR, OPERATOR, EDGES, scale=0.3),
    "bradley_terry": models.bradley_terry(PRIOR, PAIRS, OPERATOR, scale=0.4),
}
ALGORITHMS = {
    "SplitGibbsSMC": lambda model: SplitGibbsSMC(
        model, 400, prior_step=SampleGiven(), progress=False
    ),
    "TwistedSMC": lambda model: TwistedSMC(model, 400, progress=False),
    "Langevin": lambda model: Langevin(
        model, 400, num_levels=10, num_steps=6, metropolis=True, progress=False
    ),
}

JOINT = {
    "SplitGibbsSMC": ALGORITHMS["SplitGibbsSMC"],
    "JointGibbs": lambda model: JointGibbs(
        model,
        400,
        num_chains=100,
        num_warmup=5,
        num_sweeps=2,
        prior_step=SampleGiven(),
        progress=False,
    ),
}
"""Algorithms that infer other latent sites with the signal."""


def assert_agrees(samples, grid):
    """First and second moments within five standard errors of 400 independent draws.

    A tenth of a standard deviation more is for the coupling of likelihoods without a closed form,
    and for chains that keep the mode which they found.
    """

    def functions(x):
        x = x.flatten(1)
        return torch.cat([x, x.square(), x[:, :1] * x[:, 1:]], 1)

    mean = grid.expectation(functions)
    std = (grid.expectation(lambda x: functions(x).square()) - mean.square()).sqrt()
    error = (functions(samples).mean(0) - mean).abs() / std
    assert (error < 5 / len(samples) ** 0.5 + 0.1).all(), error


@pytest.mark.parametrize("name", MODELS)
def test_posteriors_agree_with_a_grid(name):
    pyro.set_rng_seed(3)
    model = MODELS[name]
    y = pyro.condition(model, {"x": torch.tensor([0.7, -0.2]).view(EVENT)})()
    target = Target.from_model(model, y)
    grid = GridPosterior(target, LIMITS, 120)
    # the data say something, or else the prior would pass
    assert ((grid.mean - PRIOR.mixture.means.mean(0).view(EVENT)).abs() > 0.3).any()
    for make in ALGORITHMS.values():
        draws = make(model).draw(target)
        assert draws.weights is None
        assert_agrees(draws.samples, grid)


CHANNELS = torch.tensor([0, 0, 0, 1, 1, 1, 0, 1])
ROWS = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
LEVELS = torch.tensor([0.5, -0.5, 1.0, 0.8, -0.8, 0.2, -1.0, -0.2])


class KnownGains:
    """The likelihood with the gains integrated out, as far as a grid needs a target."""

    prior = PRIOR

    def __init__(self, y):
        nodes, weights = map(torch.as_tensor, roots_hermitenorm(30))
        self.gains, self.log_weights = (0.5 * nodes).exp(), (weights / weights.sum()).log()
        self.y = y.double()

    def by_gain(self, x):
        """Log-likelihood of each channel at each gain, shape (particles, gains, channels)."""
        t = x.flatten(1).double() @ ROWS.double().T
        z = self.y * (self.gains[:, None] * t[:, None] - LEVELS) / 0.3
        log_mass = torch.special.log_ndtr(z)
        return torch.stack([log_mass[..., c == CHANNELS].sum(-1) for c in (0, 1)], -1)

    def log_likelihood(self, x):
        return (self.by_gain(x) + self.log_weights[:, None]).logsumexp(1).sum(-1)

    def log_gain(self, x):
        """Mean of the logarithm of each gain given the signal, shape (particles, channels)."""
        mass = (self.by_gain(x) + self.log_weights[:, None]).softmax(1)
        return (mass * self.gains.log()[:, None]).sum(1)


@pytest.mark.parametrize("algorithm", JOINT)
def test_unknown_gains_are_inferred_with_the_signal(algorithm):
    operator = Dense(ROWS, EVENT)
    model = models.unknown_gain_cs(PRIOR, operator, 0.3, CHANNELS, LEVELS)
    pyro.set_rng_seed(5)
    y = pyro.condition(model, {"gain": torch.tensor([0.5, 2.0])})()
    known = KnownGains(y)
    grid = GridPosterior(known, LIMITS, 60)
    posterior = JOINT[algorithm](model).run(y)
    assert_agrees(posterior.samples, grid)
    expected = grid.expectation(known.log_gain)
    log_gain = posterior.latents["gain"].log()
    # five standard errors of the 100 chains, each worth one draw at least
    assert ((log_gain.mean(0) - expected).abs() < 5 * log_gain.std(0) / 10).all()
    assert expected.abs().max() > 0.1


class KnownIntercept:
    """The likelihood with the intercept integrated out, as far as a grid needs a target."""

    prior = PRIOR
    stimuli = torch.randn(12, *EVENT, generator=torch.Generator().manual_seed(1))

    def __init__(self, y):
        nodes, weights = map(torch.as_tensor, roots_hermitenorm(40))
        self.intercepts, self.log_weights = nodes, (weights / weights.sum()).log()
        self.y = y.double()

    def by_intercept(self, x):
        """Log-likelihood at each intercept, weights counted, shape (particles, intercepts)."""
        t = 2.0 * (x + 1).flatten(1).double() @ self.stimuli.flatten(1).double().T
        logits = t[:, None] + self.intercepts[:, None]
        mass = torch.nn.functional.logsigmoid((2 * self.y - 1) * logits).sum(-1)
        return mass + self.log_weights

    def log_likelihood(self, x):
        return self.by_intercept(x).logsumexp(1)

    def intercept(self, x):
        """Mean of the intercept given the template, shape (particles, 1)."""
        return (self.by_intercept(x).softmax(1) @ self.intercepts)[:, None]


@pytest.mark.parametrize("algorithm", JOINT)
def test_unknown_intercept_is_inferred_with_the_coefficients(algorithm):
    model = models.classification_images(PRIOR, KnownIntercept.stimuli, 2.0)
    pyro.set_rng_seed(2)
    template = torch.tensor([0.6, 0.5]).view(EVENT)
    y = pyro.condition(model, {"x": template, "intercept": torch.tensor(1.0)})()
    known = KnownIntercept(y)
    grid = GridPosterior(known, LIMITS, 60)
    posterior = JOINT[algorithm](model).run(y)
    assert_agrees(posterior.samples, grid)
    intercept = posterior.latents["intercept"]
    assert intercept.shape == (400,)
    expected = grid.expectation(known.intercept)
    # five standard errors of 100 chains, each worth one draw at least; the prior's mean is zero
    assert abs(intercept.mean() - expected) < 5 * intercept.std() / 10
    assert abs(expected) > 0.2


def test_prior_of_an_intercept_is_of_one_real_number():
    for law in (Normal(torch.zeros(2), 1.0), Bernoulli(0.5)):
        with pytest.raises(InputError, match="prior of the intercept must be of one real number"):
            models.logistic_regression(PRIOR, OPERATOR, intercept=law)
