"""A diffusion model as a distribution: levels, shapes, counting, and life inside Pyro."""

import copy
import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, Predictive
from pyro.infer.importance import vectorized_importance_weights
from torch import nn

from bayes1bit.diffusion import (
    DDIM,
    Ancestral,
    DiffusionPrior,
    ErrorTable,
    GaussianMixturePrior,
    Heun,
    Tweedie,
    VarianceCorrected,
    count_evaluations,
    karras_levels,
)
from bayes1bit.errors import InputError
from bayes1bit.observation import OneBit

MEANS_2D = torch.tensor([[-1.0, 0.5], [1.0, 1.0], [0.5, -1.5]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)


@pytest.fixture
def plane():
    return GaussianMixturePrior(MEANS_2D, 0.4, WEIGHTS)


@pytest.fixture
def mixture():
    """Ten components in the shape of small grey pictures, single precision."""
    means = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0)).sign()
    return GaussianMixturePrior(means, 0.25)


@pytest.fixture
def pictures(mixture):
    """The same law, known through its denoiser and its error alone."""
    return DiffusionPrior(mixture.denoiser, (1, 8, 8), 0.01, 80.0, error=mixture.error)


def nearest(x, prior):
    return torch.cdist(x.flatten(1), prior.means.flatten(1)).min(1)


def test_samples_are_those_of_the_law_behind_the_denoiser(pictures, mixture):
    pyro.set_rng_seed(0)
    x = pictures.sample((300,))
    assert x.shape == (300, 1, 8, 8)
    assert x.dtype == torch.float32
    distance, component = nearest(x, mixture)
    # 19,200 residuals: their root mean square has a standard deviation of 0.5%
    assert (distance.square().mean() / 64).sqrt().item() == pytest.approx(0.25, rel=0.03)
    counts = torch.bincount(component, minlength=10).double()
    # chi-square with 9 degrees of freedom exceeds 27.9 with probability 0.001
    assert ((counts - 30).square() / 30).sum() < 27.9


def test_sample_given_returns_to_the_signal_behind_the_noise(pictures, mixture):
    pyro.set_rng_seed(1)
    clean = mixture.sample((200,))
    noisy = clean + 0.5 * torch.randn_like(clean)
    draw = pictures.sample_given(noisy, 0.5)
    assert torch.equal(nearest(draw, mixture)[1], nearest(clean, mixture)[1])
    # given x_sigma the signal is a draw just as the truth is: 12,800 squares, 1.2%
    truth = (clean - mixture.denoise(noisy, 0.5)).square().mean().item()
    ours = (draw - mixture.denoise(noisy, 0.5)).square().mean().item()
    assert ours == pytest.approx(truth, rel=0.06)


def test_sample_given_takes_another_solver_and_number_of_steps(pictures):
    noisy = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    tweedie = pictures.sample_given(noisy, 0.7, solver=Tweedie())
    assert torch.equal(tweedie, pictures.denoise(noisy, 0.7))
    with count_evaluations(pictures) as count:
        draw = pictures.sample_given(noisy, 0.7, num_steps=5)
    assert draw.shape == noisy.shape
    assert count.signals == 6 * 5
    with count_evaluations(pictures) as count:
        pictures.sample_given(noisy, 0.7, num_steps=5, solver=Heun())
    assert count.signals == 6 * 9
    expected = Heun()(pictures, noisy, pictures.levels(0.7, 5))
    assert torch.equal(pictures.sample_given(noisy, 0.7, num_steps=5, solver=Heun()), expected)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_sample_given_refuses_a_level_that_is_not_positive(pictures, sigma):
    with pytest.raises(InputError, match="positive noise level"):
        pictures.sample_given(torch.zeros(1, 8, 8), sigma)


def test_solver_is_the_corrected_one_where_the_error_is_known(mixture):
    make = functools.partial(DiffusionPrior, mixture.denoiser, (1, 8, 8), 0.01, 80.0)
    assert isinstance(make(error=mixture.error).solver, VarianceCorrected)
    assert isinstance(make().solver, Ancestral)
    chosen = DDIM(0.5)
    assert make(solver=chosen).solver is chosen
    x = torch.zeros(4, 1, 8, 8)
    assert make(solver=Tweedie()).sample_given(x, 1.0).equal(mixture.denoise(x, 1.0))


def test_error_is_the_table_or_a_plain_refusal(mixture):
    table = ErrorTable([0.1, 1.0], [0.01, 0.2])
    prior = DiffusionPrior(mixture.denoiser, (1, 8, 8), 0.01, 80.0, error=table)
    assert prior.has_error
    assert prior.error(1.0).item() == pytest.approx(0.2)
    assert prior.error(torch.tensor([0.1, 1.0])).shape == (2,)
    without = DiffusionPrior(mixture.denoiser, (1, 8, 8), 0.01, 80.0)
    assert not without.has_error
    with pytest.raises(InputError, match=r"ErrorTable\.measure"):
        without.error(1.0)


def test_levels_descend_to_zero_in_karras_spacing(pictures):
    levels = pictures.levels()
    assert levels.shape == (41,)
    assert levels[-1] == 0
    torch.testing.assert_close(levels[:-1], karras_levels(80.0, 0.01, 40))
    own = pictures.levels(2.0, 5)
    torch.testing.assert_close(own[:-1], karras_levels(2.0, 0.01, 5))
    assert own.shape == (6,)


def test_levels_from_below_the_top_take_their_share_of_the_steps(pictures):
    counts = [
        len(pictures.levels(sigma)) - 1 for sigma in (80.0, 40.0, 5.0, 1.0, 0.1, 0.02, 0.011)
    ]
    assert counts[0] == 40
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 2
    # the share of a level halfway down the spacing is half of the steps
    middle = karras_levels(80.0, 0.01, 40)[20].item()
    assert len(pictures.levels(middle * 1.001)) - 1 == 21
    for sigma in (0.01, 0.001):
        assert pictures.levels(sigma).tolist() == [sigma, 0.0]
    # above the top no more steps than from the top, plus the one from there
    assert pictures.levels(100.0)[0].item() == pytest.approx(100)
    assert len(pictures.levels(100.0)) - 1 == 41


def test_number_of_steps_is_the_number_of_calls(mixture):
    prior = DiffusionPrior(mixture.denoiser, (1, 8, 8), 0.01, 80.0, num_steps=7)
    with count_evaluations(prior) as count:
        prior.sample((5,))
    assert count.signals == 5 * 7
    prior.sample((5,))
    assert count.signals == 5 * 7


def test_counter_stops_after_an_error_too(pictures):
    with pytest.raises(InputError), count_evaluations(pictures) as count:
        pictures.denoise(torch.stack([pictures.denoise(torch.zeros(3, 1, 8, 8), 1.0)] * 2, -1), 1)
    pictures.denoise(torch.zeros(3, 1, 8, 8), 1.0)
    assert count.signals == 3
    assert not pictures.denoiser._forward_hooks


@pytest.mark.parametrize("max_batch", [1, 5, 12, 100])
def test_bounded_batches_give_the_same_answers(mixture, max_batch):
    bounded = DiffusionPrior(mixture.denoiser, (1, 8, 8), 0.01, 80.0, max_batch=max_batch)
    x = torch.randn(3, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    bounded.denoiser.double()
    sizes = []
    handle = bounded.denoiser.register_forward_hook(
        lambda m, args, out: sizes.append(len(args[0]))
    )
    for sigma in (0.7, torch.rand(3, 4) + 0.1, torch.tensor([[0.1], [1.0], [9.0]])):
        # matrix products of other sizes round differently
        torch.testing.assert_close(
            bounded.denoise(x, sigma), mixture.denoise(x, sigma), rtol=1e-12, atol=1e-12
        )
    handle.remove()
    pieces = [s for s in sizes if s <= max_batch]
    assert sum(pieces) >= 3 * 12
    with count_evaluations(bounded) as count:
        bounded.denoise(x, 0.7)
    assert count.signals == 12


def test_to_moves_the_denoiser_and_returns_the_prior(pictures):
    assert pictures.to("cpu") is pictures
    assert pictures.device == torch.device("cpu")
    assert pictures.dtype == torch.float32
    pictures.denoiser.double()
    assert pictures.dtype == torch.float64
    assert pictures.sample().dtype == torch.float64


def test_a_denoiser_without_tensors_lives_on_the_cpu_in_single_precision():
    class Zero(nn.Module):
        def forward(self, x, sigma):
            return torch.zeros_like(x)

    prior = DiffusionPrior(Zero(), (3,), 0.1, 10.0, num_steps=2)
    assert prior.device == torch.device("cpu")
    assert prior.sample((2,)).dtype == torch.float32
    assert prior.sample((2,)).abs().max() == 0


def test_expand_shares_everything_but_the_shape(pictures):
    wide = pictures.expand([3, 2])
    assert type(wide) is DiffusionPrior
    assert wide.batch_shape == (3, 2)
    assert wide.event_shape == (1, 8, 8)
    assert pictures.batch_shape == ()
    assert wide.denoiser is pictures.denoiser
    assert wide.solver is pictures.solver
    assert wide.data_range == pictures.data_range
    assert wide.error(0.5) == pictures.error(0.5)
    assert wide.shape((4,)) == (4, 3, 2, 1, 8, 8)
    assert pictures.expand_by([5]).batch_shape == (5,)


def test_expand_keeps_the_kind_and_the_closed_forms(mixture):
    wide = mixture.expand([3])
    assert type(wide) is GaussianMixturePrior
    assert wide.means is not None
    x = wide.sample()
    assert x.shape == (3, 1, 8, 8)
    torch.testing.assert_close(wide.log_prob(x), mixture.log_prob(x))
    assert wide.expand([2, 3]).log_prob(x).shape == (2, 3)


def test_validation_setting_survives_expand(mixture):
    nan = torch.full((1, 8, 8), math.nan)
    with pytest.raises(ValueError, match="support"):
        mixture.expand([1]).log_prob(nan)
    with pytest.raises(ValueError, match="support"):
        DiffusionPrior(mixture.denoiser, (1, 8, 8), 0.01, 80.0).log_prob(nan)
    quiet = GaussianMixturePrior(mixture.means, 0.25, validate_args=False)
    assert quiet.expand([1]).log_prob(nan).isnan().all()


def test_support_is_all_signals(pictures):
    assert pictures.support.event_dim == 3
    assert pictures.support.check(torch.zeros(4, 1, 8, 8)).shape == (4,)
    assert not pictures.support.check(torch.full((1, 8, 8), math.nan))


def test_representation_names_shape_levels_and_solver(pictures):
    text = repr(pictures)
    for part in ("DiffusionPrior", "(1, 8, 8)", "sigma_min=0.01", "VarianceCorrected()"):
        assert part in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma_min": 0.0}, "0 < sigma_min < sigma_max"),
        ({"sigma_min": 90.0}, "0 < sigma_min < sigma_max"),
        ({"sigma_max": math.inf}, "0 < sigma_min < sigma_max"),
        ({"sigma_max": math.nan}, "0 < sigma_min < sigma_max"),
        ({"num_steps": 1}, "num_steps must be at least 2"),
        ({"probes": 0}, "at least 1"),
        ({"max_batch": 0}, "at least 1"),
    ],
)
def test_refuses_levels_and_counts_out_of_range(mixture, arguments, message):
    settings = {"sigma_min": 0.01, "sigma_max": 80.0, **arguments}
    with pytest.raises(InputError, match=message):
        DiffusionPrior(mixture.denoiser, (1, 8, 8), **settings)


def test_refuses_signals_of_another_shape(pictures):
    for method in (
        pictures.log_prob,
        lambda x: pictures.denoise(x, 1.0),
        lambda x: pictures.score(x, 1.0),
        lambda x: pictures.sample_given(x, 1.0),
    ):
        for shape in [(8, 8), (2, 1, 8, 7), (64,), ()]:
            with pytest.raises(InputError, match=r"trailing shape \(1, 8, 8\)"):
                method(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3,), (2, 5), (1, 1, 4)])
def test_refuses_levels_that_do_not_broadcast_against_the_batch(pictures, shape):
    with pytest.raises(InputError, match="do not broadcast"):
        pictures.denoise(torch.zeros(2, 4, 1, 8, 8), torch.ones(shape))


def test_predictive_gives_one_signal_per_draw(pictures):
    def model():
        x = pyro.sample("x", pictures)
        y = pyro.sample("y", dist.Normal(x, 0.1).to_event(3))
        return x, y

    pyro.set_rng_seed(2)
    drawn = Predictive(model, num_samples=5)()
    assert drawn["x"].shape == drawn["y"].shape == (5, 1, 8, 8)
    assert len(drawn["x"].flatten(1).unique(dim=0)) == 5
    # the observation belongs to the signal of the same draw
    assert (drawn["y"] - drawn["x"]).std().item() == pytest.approx(0.1, rel=0.2)
    together = Predictive(model, num_samples=5, parallel=True)()
    assert together["x"].shape == (5, 1, 8, 8)


def test_predictive_replays_given_signals(pictures):
    def model():
        x = pyro.sample("x", pictures)
        return pyro.sample("y", dist.Delta(2 * x, event_dim=3))

    x = torch.randn(4, 1, 8, 8)
    for parallel in (False, True):
        y = Predictive(model, {"x": x}, parallel=parallel)()["y"]
        torch.testing.assert_close(y.reshape(4, 1, 8, 8), 2 * x)


def test_condition_fixes_the_signal_and_scores_it(mixture):
    def model():
        return pyro.sample("x", mixture)

    x = mixture.sample()
    conditioned = poutine.condition(model, {"x": x})
    trace = poutine.trace(conditioned).get_trace()
    assert trace.nodes["x"]["value"] is x
    assert trace.nodes["x"]["is_observed"]
    torch.testing.assert_close(trace.log_prob_sum(), mixture.log_prob(x))


def test_plate_gives_independent_pictures(mixture, pictures):
    def model(prior):
        with pyro.plate("signals", 4):
            return pyro.sample("x", prior)

    pyro.set_rng_seed(3)
    for prior in (mixture, pictures):
        x = model(prior)
        assert x.shape == (4, 1, 8, 8)
        assert len(x.flatten(1).unique(dim=0)) == 4
    trace = poutine.trace(model).get_trace(mixture)
    trace.compute_log_prob()
    assert trace.nodes["x"]["log_prob"].shape == (4,)
    torch.testing.assert_close(
        trace.log_prob_sum(), mixture.log_prob(trace.nodes["x"]["value"]).sum()
    )


def test_mask_and_event_reinterpretation(mixture):
    x = mixture.sample((3,))
    masked = mixture.expand([3]).mask(torch.tensor([True, False, True]))
    log_prob = masked.log_prob(x)
    assert log_prob[1] == 0
    torch.testing.assert_close(log_prob[0], mixture.log_prob(x)[0])
    event = mixture.expand([3]).to_event(1)
    assert event.event_shape == (3, 1, 8, 8)
    torch.testing.assert_close(event.log_prob(x), mixture.log_prob(x).sum())


A = torch.tensor([[1.0, 0.4], [-0.3, 0.8], [0.7, -0.9]], dtype=torch.float64)
OBSERVATIONS = {
    "normal": (lambda u: dist.Normal(u, 0.7), torch.tensor([0.6, 0.5, -0.2]).double()),
    "one-bit": (lambda u: OneBit(u, 0.7), torch.tensor([1.0, 1.0, -1.0]).double()),
}


def grid_posterior(prior, law, y):
    """Log evidence, posterior mean and covariance by the trapezoidal rule."""
    axis = torch.linspace(-6, 6, 301, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    log_joint = prior.log_prob(points) + law(points @ A.T).log_prob(y).sum(1)
    log_evidence = log_joint.logsumexp(0) + 2 * math.log(axis[1] - axis[0])
    posterior = log_joint.softmax(0)
    mean = posterior @ points
    covariance = ((points - mean) * posterior[:, None]).T @ (points - mean)
    return log_evidence.item(), mean, covariance


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_vectorised_importance_sampling_finds_the_evidence(plane, name):
    law, y = OBSERVATIONS[name]
    shapes = []

    def model():
        x = pyro.sample("x", plane)
        shapes.append(tuple(x.shape))
        pyro.sample("y", law(x @ A.T).to_event(1), obs=y)

    def guide():
        pyro.sample("x", plane)

    pyro.set_rng_seed(4)
    count = 20_000
    log_weights, model_trace, _ = vectorized_importance_weights(
        model, guide, num_samples=count, max_plate_nesting=1, normalized=False
    )
    assert shapes == [(count, 1, 2)]
    assert log_weights.shape == (count,)
    log_evidence, mean, covariance = grid_posterior(plane, law, y)
    weights = log_weights.exp()
    # four standard deviations of the mean of the weights
    bound = 4 * (weights.std() / weights.mean()).item() / count**0.5
    assert (log_weights.logsumexp(0).item() - math.log(count)) == pytest.approx(
        log_evidence, abs=bound
    )
    assert bound < 0.05
    share = weights / weights.sum()
    estimate = share @ model_trace.nodes["x"]["value"].view(count, 2)
    effective = 1 / share.square().sum()
    assert ((estimate - mean).abs() < 4 * (covariance.diagonal() / effective).sqrt()).all()


def test_vectorised_importance_sampling_takes_pictures(mixture):
    def model():
        x = pyro.sample("x", mixture)
        assert x.shape == (6, 1, 1, 8, 8)
        pyro.sample("y", dist.Normal(x, 1.0).to_event(3), obs=torch.zeros(1, 8, 8))

    log_weights, _, _ = vectorized_importance_weights(
        model,
        lambda: pyro.sample("x", mixture),
        num_samples=6,
        max_plate_nesting=1,
        normalized=False,
    )
    assert log_weights.shape == (6,)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_nuts_samples_the_posterior(plane, name):
    law, y = OBSERVATIONS[name]

    def model():
        x = pyro.sample("x", plane)
        pyro.sample("y", law(x @ A.T).to_event(1), obs=y)

    pyro.set_rng_seed(5)
    start = {"x": torch.tensor([0.5, 0.5], dtype=torch.float64)}
    kernel = NUTS(model, max_tree_depth=4)
    mcmc = MCMC(
        kernel, num_samples=60, warmup_steps=40, initial_params=start, disable_progbar=True
    )
    mcmc.run()
    x = mcmc.get_samples()["x"]
    assert x.shape == (60, 2)
    assert len(x.unique(dim=0)) > 40
    _, mean, covariance = grid_posterior(plane, law, y)
    # a short chain that may keep to one component: three posterior standard deviations
    assert ((x.mean(0) - mean).abs() < 3 * covariance.diagonal().sqrt()).all()


def test_nuts_runs_on_the_probability_flow_density(plane):
    class Coarse(DiffusionPrior):
        def log_prob(self, value, *, num_steps=10):
            return super().log_prob(value, num_steps=num_steps)

    prior = Coarse(plane.denoiser, (2,), 0.05, 30.0)

    def model():
        x = pyro.sample("x", prior)
        pyro.sample("y", OneBit(x @ A.T, 0.7).to_event(1), obs=OBSERVATIONS["one-bit"][1])

    pyro.set_rng_seed(6)
    start = {"x": torch.tensor([0.9, 0.8], dtype=torch.float64)}
    mcmc = MCMC(
        NUTS(model, max_tree_depth=2, step_size=0.2, adapt_step_size=False),
        num_samples=4,
        warmup_steps=0,
        initial_params=start,
        disable_progbar=True,
    )
    mcmc.run()
    x = mcmc.get_samples()["x"]
    assert x.shape == (4, 2)
    assert torch.isfinite(x).all()
    assert len(x.unique(dim=0)) > 1


def test_copies_share_nothing(pictures):
    twin = copy.deepcopy(pictures)
    assert twin.denoiser is not pictures.denoiser
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(twin.denoise(x, 1.0), pictures.denoise(x, 1.0))
