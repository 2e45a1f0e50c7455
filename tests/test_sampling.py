"""How priors draw samples: the walk, where its levels lie, and what it leaves alone."""

import pyro
import pytest
import torch

from bayes1bit.diffusion import (
    DDIM,
    DiffusionPrior,
    GaussianMixturePrior,
    Heun,
    MixedPrior,
    Sampling,
    StochasticMultistep,
    VarianceCorrected,
    adapted_levels,
    count_evaluations,
    geometric_levels,
    karras_levels,
)
from bayes1bit.errors import InputError
from bayes1bit.infer import ReverseDiffusion, SampleGiven
from bayes1bit.zoo import SAMPLING, load_prior

MEANS = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0)).sign()
MIXTURE = GaussianMixturePrior(MEANS, 0.25)


def known(**settings):
    """The law of the mixture, known through its denoiser and its error alone."""
    return DiffusionPrior(MIXTURE.denoiser, (1, 8, 8), 0.01, 80.0, error=MIXTURE.error, **settings)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("karras", karras_levels(80.0, 0.01, 7)),
        ("geometric", geometric_levels(80.0, 0.01, 7)),
        ("adapted", adapted_levels(MIXTURE.error, 80.0, 0.01, 7)),
    ],
)
def test_levels_of_each_spacing_end_at_zero(spacing, expected):
    levels = Sampling(Heun(), spacing, 7).levels(known())
    torch.testing.assert_close(levels[:-1], expected)
    assert levels[-1] == 0
    assert len(levels) == 8


def test_sample_is_the_walk_from_pure_noise():
    sampling = Sampling(DDIM(), "geometric", 5)
    prior = known(sampling=sampling)
    pyro.set_rng_seed(0)
    with count_evaluations(prior) as count:
        x = prior.expand([2]).sample((3,))
    assert count.signals == 6 * 5
    pyro.set_rng_seed(0)
    noise = 80.0 * torch.randn(3, 2, 1, 8, 8)
    assert torch.equal(x, DDIM()(prior, noise, sampling.levels(prior)))
    assert torch.equal(x, sampling(prior, noise))


def test_without_it_samples_are_of_the_solver_over_karras_levels():
    solver = DDIM()
    prior = known(solver=solver, num_steps=6)
    assert prior.sampling == Sampling(solver, "karras", 6)
    assert torch.equal(prior.sampling.levels(prior), prior.levels())


def test_sampling_leaves_conditional_draws_and_prior_steps_alone():
    plain, other = known(), known(sampling=Sampling(Heun(), "geometric", 3))
    assert isinstance(other.solver, VarianceCorrected)
    noisy = torch.randn(4, 1, 8, 8)
    for draw in (
        lambda prior: prior.sample_given(noisy, 0.7),
        lambda prior: SampleGiven()(prior, noisy, 0.7),
        lambda prior: ReverseDiffusion(5)(prior, noisy, 0.7),
        lambda prior: ReverseDiffusion(5).start(prior, 4),
    ):
        drawn = []
        for prior in (plain, other):
            pyro.set_rng_seed(1)
            drawn.append(draw(prior))
        assert torch.equal(*drawn)
    assert torch.equal(plain.levels(0.7), other.levels(0.7))
    assert SampleGiven().num_calls(plain, 0.7) == SampleGiven().num_calls(other, 0.7)


def test_a_mixed_prior_draws_as_its_exact_part_does():
    exact = known(sampling=Sampling(Heun(), "geometric", 3))
    assert MixedPrior(known(), exact, 0.7).sampling is exact.sampling


def test_trained_priors_draw_in_steps_of_second_order(tiny_prior):
    prior = load_prior(tiny_prior)
    assert prior.sampling is SAMPLING
    assert isinstance(prior.sampling.solver, StochasticMultistep)
    assert isinstance(prior.solver, VarianceCorrected)
    assert str(prior.sampling) == "40 steps of StochasticMultistep() over geometric levels"
    with count_evaluations(prior) as count:
        assert prior.sample((2,)).isfinite().all()
    # as many calls as the steps that it took the place of
    assert count.signals == 2 * 40 == 2 * prior.num_steps


@pytest.mark.slow
def test_shipped_prior_keeps_the_contrast_of_its_data():
    prior = load_prior("fashion32", precision="bfloat16")
    contrast = {}
    for sampling in (prior.sampling, Sampling(VarianceCorrected())):
        pyro.set_rng_seed(0)
        contrast[str(sampling.solver)] = sampling(prior, prior.pure_noise(128, 80.0)).std().item()
    # 0.663 over Fashion-MNIST's test pictures; of 128 samples it is known to 0.007
    assert contrast["StochasticMultistep()"] == pytest.approx(0.655, abs=0.02)
    assert contrast["VarianceCorrected()"] < contrast["StochasticMultistep()"] - 0.02


def test_unknown_spacings_and_single_steps_are_refused():
    with pytest.raises(InputError, match='spacing is "even"; use one of karras, geometric'):
        Sampling(Heun(), "even")
    with pytest.raises(InputError, match="num_steps must be at least 2, got 1"):
        Sampling(Heun(), num_steps=1)
    without = DiffusionPrior(
        MIXTURE.denoiser, (1, 8, 8), 0.01, 80.0, sampling=Sampling(Heun(), "adapted")
    )
    with pytest.raises(InputError, match=r"ErrorTable\.measure"):
        without.sample()
