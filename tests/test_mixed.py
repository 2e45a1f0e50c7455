"""MixedPrior, and the draft of SplitGibbsSMC: a cheap prior at high noise, an exact one below."""

import copy
import math
from functools import partial

import pyro
import pytest
import torch

import bayes1bit as b1
from bayes1bit.bench.exact import GridPosterior
from bayes1bit.diffusion import (
    Ancestral,
    Denoiser,
    DiffusionPrior,
    ErrorTable,
    GaussianMixturePrior,
    Heun,
    MixedPrior,
    VarianceCorrected,
    count_evaluations,
    geometric_levels,
)
from bayes1bit.diffusion.mixed import switch_level
from bayes1bit.errors import InputError
from bayes1bit.infer import DPS, LookaheadSMC, ReverseDiffusion, SampleGiven, SplitGibbsSMC, Target
from bayes1bit.infer.annealing import path_of
from bayes1bit.operators import Hadamard

MEANS = torch.tensor([[-1.0, -0.6], [1.0, 0.8], [0.2, -1.4]])
WEIGHTS = torch.tensor([0.5, 0.3, 0.2])
Y = torch.tensor([1.0, -1.0])


class Shrink(Denoiser):
    """A denoiser with one number to tell it by, and to differentiate."""

    def __init__(self, factor):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, x, sigma):
        level = sigma.reshape(-1, *[1] * (x.ndim - 1))
        return self.factor * x / (1 + level)


def shrinking(factor, *, event_shape=(3,), sigma_min=0.01, sigma_max=100.0, **options):
    options.setdefault("error", unit_error)
    return DiffusionPrior(Shrink(factor), event_shape, sigma_min, sigma_max, **options)


def unit_error(sigma, excess=None):
    """Error of a standard normal prior, with a relative excess by level."""
    level = torch.as_tensor(sigma, dtype=torch.float64)
    return level.square() / (1 + level.square()) * (1 + (excess(level) if excess else 0.0))


def falling(level):
    """5% at the level 0.5, 20% at 0.25."""
    return 0.05 * (0.5 / level).square()


def plane_prior(shift=0.0, scale=0.4):
    return GaussianMixturePrior(MEANS + shift, scale, WEIGHTS)


def blurred():
    """A draft that knows where the components are, but neither exactly nor how wide they are."""
    return plane_prior(torch.tensor([0.15, -0.15]), 0.65)


@pytest.mark.parametrize(("tolerance", "level"), [(0.05, 0.5), (0.2, 0.25), (0.0125, 1.0)])
def test_switch_is_where_the_errors_part_by_the_tolerance(tolerance, level):
    cheap = shrinking(1.0, error=partial(unit_error, excess=falling))
    exact = shrinking(2.0)
    # 512 steps over four decades: 1.8% each
    assert level <= switch_level(cheap, exact, tolerance) < level * 1.02
    assert MixedPrior(cheap, exact, tolerance=tolerance).switch == pytest.approx(level, rel=0.02)
    assert MixedPrior(cheap, exact, 3.3, tolerance=tolerance).switch == 3.3


def test_default_tolerance_is_five_percent():
    cheap = shrinking(1.0, error=partial(unit_error, excess=falling))
    assert MixedPrior(cheap, shrinking(2.0)).switch == pytest.approx(0.5, rel=0.02)


def test_a_cheap_prior_must_be_good_at_every_level_above_the_switch():
    def bump(level):
        return falling(level) + 0.1 * ((level > 4) & (level < 5))

    cheap = shrinking(1.0, error=partial(unit_error, excess=bump))
    assert switch_level(cheap, shrinking(2.0)) == pytest.approx(5.0, rel=0.02)


def test_a_cheap_prior_that_is_always_good_answers_at_all_common_levels():
    better = partial(unit_error, excess=lambda level: -0.1)
    cheap, exact = shrinking(1.0, error=better, sigma_min=0.03), shrinking(2.0)
    mixed = MixedPrior(cheap, exact)
    assert mixed.switch == pytest.approx(0.03)
    assert (mixed.sigma_min, mixed.sigma_max) == (0.01, 100.0)
    assert MixedPrior(exact, cheap, 0.1).sigma_min == 0.03


def test_a_cheap_prior_that_is_never_good_is_refused_with_its_excess():
    cheap = shrinking(1.0, error=partial(unit_error, excess=lambda level: 0.12))
    for choose in (switch_level, MixedPrior):
        with pytest.raises(InputError, match=r"exceeds the exact one's by 12\.0% at the largest"):
            choose(cheap, shrinking(2.0))
    nan = shrinking(1.0, error=partial(unit_error, excess=lambda level: math.nan))
    with pytest.raises(InputError, match="largest"):
        switch_level(nan, shrinking(2.0))


def test_measured_errors_put_the_switch_between_coarse_and_fine():
    """A mixture of groups of components is as good as the mixture where groups look like one."""
    generator = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(5, 1, 16, generator=generator)
    means = centres + 0.3 * torch.randn(5, 4, 16, generator=generator)
    truth = GaussianMixturePrior(means.flatten(0, 1), 0.1)
    coarse = GaussianMixturePrior(means.mean(1), 0.3)
    pyro.set_rng_seed(0)
    clean = truth.sample((400,))
    levels = geometric_levels(50.0, 0.01, 24)
    cheap, exact = (
        DiffusionPrior(
            p.denoiser, (16,), 0.01, 50.0, error=ErrorTable.measure(p.denoise, clean, levels)
        )
        for p in (coarse, truth)
    )
    mixed = MixedPrior(cheap, exact)
    assert 0.2 < mixed.switch < 3.0
    above, below = mixed.switch * 1.001, mixed.switch * 0.97
    assert cheap.error(above) <= 1.05 * exact.error(above)
    assert cheap.error(below) > 1.05 * exact.error(below)
    assert mixed.error(above) == cheap.error(above)
    assert mixed.error(below) == exact.error(below)
    # its draws have the fine structure, which those of the cheap prior have not
    spreads = []
    for prior in (mixed, cheap):
        x = prior.sample((200,))
        distance = torch.cdist(x, truth.means).min(1).values
        spreads.append(float((distance.square().mean() / 16).sqrt()))
    # 3,200 residuals about the mean: a standard deviation of 1.3%
    assert spreads[0] == pytest.approx(0.1, rel=0.06)
    assert spreads[1] > 0.2


def test_each_denoiser_answers_on_its_side_of_the_switch():
    cheap, exact = shrinking(1.0), shrinking(2.0)
    mixed = MixedPrior(cheap, exact, 0.7)
    x = torch.randn(5, 3)
    for sigma, prior in ((0.701, cheap), (0.7, cheap), (0.699, exact), (0.01, exact)):
        assert torch.equal(mixed.denoise(x, sigma), prior.denoise(x, sigma))
        assert mixed.error(sigma) == prior.error(sigma)


def test_one_level_for_all_asks_one_denoiser_alone():
    mixed = MixedPrior(shrinking(1.0), shrinking(2.0), 0.7)
    x = torch.randn(5, 3)
    with (
        count_evaluations(mixed) as both,
        count_evaluations(mixed.cheap) as high,
        count_evaluations(mixed.exact) as low,
    ):
        mixed.denoise(x, 2.0)
        assert (both.signals, high.signals, low.signals) == (5, 5, 0)
        mixed.denoise(x, torch.full((5,), 0.1))
        assert (both.signals, high.signals, low.signals) == (10, 5, 5)
        mixed.denoise(x, torch.tensor([0.1, 0.7, 3.0, 0.2, 9.0]))
        assert (both.signals, high.signals, low.signals) == (15, 8, 7)
        # a backward pass counts as one more, in each of the two
        mixed.denoise(x, 2.0).sum().backward()
        assert (both.signals, high.signals, low.signals) == (25, 18, 7)


def test_levels_per_signal_give_what_calls_by_level_give():
    mixed = MixedPrior(shrinking(1.0), shrinking(2.0), 0.7)
    x = torch.randn(4, 2, 3)
    sigma = torch.tensor([[0.1, 5.0], [0.7, 0.69], [30.0, 2.0], [0.01, 0.02]])
    answer = mixed.denoise(x, sigma)
    for i in range(4):
        for j in range(2):
            one = mixed.denoise(x[i, j], float(sigma[i, j]))
            torch.testing.assert_close(answer[i, j], one)
    # signals of an image's shape, and a level for each row of the batch
    images = MixedPrior(*(shrinking(f, event_shape=(1, 2, 2)) for f in (1.0, 2.0)), 0.7)
    x, sigma = torch.randn(3, 1, 2, 2), torch.tensor([0.1, 4.0, 0.2])
    rows = torch.cat([images.denoise(x[i : i + 1], float(sigma[i])) for i in range(3)])
    torch.testing.assert_close(images.denoise(x, sigma), rows)


def test_errors_take_any_shape_of_levels():
    cheap = shrinking(1.0, error=partial(unit_error, excess=falling))
    mixed = MixedPrior(cheap, shrinking(2.0), 0.7)
    sigma = torch.tensor([[0.1, 0.7], [0.699, 5.0]], dtype=torch.float64)
    expected = unit_error(sigma)
    expected[0, 1], expected[1, 1] = cheap.error(0.7), cheap.error(5.0)
    torch.testing.assert_close(mixed.error(sigma), expected)
    assert mixed.error(0.1).shape == ()


def test_gradients_pass_through_both_denoisers():
    mixed = MixedPrior(shrinking(1.0), shrinking(2.0), 0.7)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor([0.1, 4.0, 0.2, 1.0], dtype=torch.float64)
    mixed.denoiser.double()
    assert torch.autograd.gradcheck(lambda z: mixed.denoise(z, sigma), x)
    (gradient,) = torch.autograd.grad(mixed.denoise(x, sigma).sum(), x)
    expected = torch.where(sigma >= 0.7, 1.0, 2.0) / (1 + sigma)
    torch.testing.assert_close(gradient, expected[:, None].expand(4, 3))
    mixed.denoise(x, sigma).sum().backward()
    for prior, rows in ((mixed.cheap, [1, 3]), (mixed.exact, [0, 2])):
        share = (x[rows].sum(1) / (1 + sigma[rows])).sum()
        torch.testing.assert_close(prior.denoiser.factor.grad, share.detach())


def test_function_transforms_pass_through():
    mixed = MixedPrior(plane_prior(0.1), plane_prior(), 0.7)
    x, sigma = torch.randn(4, 2), torch.tensor([0.1, 4.0, 0.2, 1.0])
    jacobians = torch.func.jacrev(lambda z: mixed.denoise(z, sigma).sum(0))(x)
    assert jacobians.shape == (2, 4, 2)
    mapped = torch.vmap(lambda z: mixed.denoise(z, sigma))(torch.stack([x, 2 * x]))
    torch.testing.assert_close(mapped[1], mixed.denoise(2 * x, sigma))


def test_density_is_the_flow_of_both():
    prior = plane_prior()
    mixed = MixedPrior(prior, prior, 0.7)
    x = torch.tensor([[0.9, 0.7], [-1.0, 0.0]])
    torch.testing.assert_close(
        mixed.log_prob(x, num_steps=60), prior.log_prob(x), atol=0.02, rtol=0.02
    )


def test_settings_are_those_of_the_exact_prior():
    cheap = shrinking(1.0, num_steps=5, solver=Ancestral(), data_range=(-1.0, 1.0), max_batch=7)
    exact = shrinking(
        2.0, num_steps=9, solver=Heun(), data_range=(-1.0, 1.0), probes=3, max_batch=4
    )
    mixed = MixedPrior(cheap, exact, 0.7)
    assert (mixed.num_steps, mixed.probes, mixed.solver) == (9, 3, exact.solver)
    # the bound that keeps both within their memory
    assert mixed.max_batch == MixedPrior(exact, cheap, 0.7).max_batch == 4
    assert mixed.data_range == (-1.0, 1.0)
    bounded = MixedPrior(cheap, shrinking(2.0, data_range=(-1.0, 1.0)), 0.7)
    assert bounded.max_batch == 7
    assert isinstance(bounded.solver, VarianceCorrected)


def test_priors_without_errors_can_be_mixed_where_the_switch_is_given():
    mixed = MixedPrior(shrinking(1.0, error=None), shrinking(2.0, error=None), 0.7)
    assert not mixed.has_error
    assert isinstance(mixed.solver, Ancestral)
    assert mixed.sample((2,)).shape == (2, 3)


def test_a_mixed_prior_lives_as_other_priors_do():
    mixed = MixedPrior(shrinking(1.0), shrinking(2.0), 0.7)
    assert mixed.to("cpu") is mixed
    wide = mixed.expand([4, 2])
    assert type(wide) is MixedPrior
    assert (wide.batch_shape, wide.event_shape) == ((4, 2), (3,))
    assert (wide.cheap, wide.exact, wide.switch) == (mixed.cheap, mixed.exact, 0.7)
    assert wide.sample().shape == (4, 2, 3)
    # moved and converted with the priors that it is made of
    mixed.denoiser.double()
    assert mixed.dtype == mixed.cheap.dtype == mixed.exact.dtype == torch.float64
    twin = copy.deepcopy(mixed)
    assert twin.denoiser.cheap is twin.cheap.denoiser
    assert twin.denoiser.cheap is not mixed.denoiser.cheap
    for part in ("MixedPrior(cheap=DiffusionPrior(", "exact=DiffusionPrior(", "switch=0.7"):
        assert part in repr(mixed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"event_shape": (4,)},
            r"cheap prior has event shape \(4,\) but the exact one has \(3,\)",
        ),
        ({"data_range": (0.0, 1.0)}, r"data range \(0.0, 1.0\) but the exact one has None"),
        ({"error": None}, "the cheap prior has no table of denoising errors but the exact one"),
    ],
)
def test_priors_of_other_signals_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        MixedPrior(shrinking(1.0, **options), shrinking(2.0), 0.7)


def test_other_types_and_missing_tables_are_refused():
    cheap, exact = shrinking(1.0), shrinking(2.0)
    with pytest.raises(InputError, match="the exact prior has no table"):
        MixedPrior(cheap, shrinking(2.0, error=None), 0.7)
    with pytest.raises(InputError, match="or give the level yourself"):
        MixedPrior(shrinking(1.0, error=None), shrinking(2.0, error=None))
    cheap.denoiser.double()
    with pytest.raises(InputError, match=r"dtype torch\.float64 .* convert one"):
        MixedPrior(cheap, exact, 0.7)


@pytest.mark.parametrize("switch", [0.0, 0.009, 101.0, math.inf, math.nan])
def test_switch_must_be_a_level_of_both(switch):
    with pytest.raises(InputError, match=r"between 0\.01 and 100"):
        MixedPrior(shrinking(1.0), shrinking(2.0), switch)


@pytest.mark.parametrize("tolerance", [-0.01, math.inf, math.nan])
def test_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(InputError, match="tolerance must be finite"):
        MixedPrior(shrinking(1.0), shrinking(2.0), tolerance=tolerance)


def one_bit_model(prior):
    operator = Hadamard((2,), m=2, seed=1)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", b1.OneBit(operator(x), scale=0.5).to_event(1), obs=y)

    return model


def moments(posterior):
    samples = posterior.samples.double()
    outer = samples[:, :, None] * samples[:, None, :]
    return torch.cat([samples.mean(0), outer.mean(0)[[0, 0, 1], [0, 1, 1]]])


@pytest.fixture(scope="module")
def truth():
    """Mean and second moments of the posterior under the exact prior, by quadrature."""
    grid = GridPosterior(Target.from_model(one_bit_model(plane_prior()), Y))
    first = [grid.expectation(lambda x, i=i: x[:, i]) for i in (0, 1)]
    pairs = ((0, 0), (0, 1), (1, 1))
    second = [grid.expectation(lambda x, i=i, j=j: x[:, i] * x[:, j]) for i, j in pairs]
    return torch.stack([*first, *second]).double()


def test_algorithms_run_on_a_mixed_prior(truth):
    mixed = MixedPrior(blurred(), plane_prior(), 1.5)
    model = one_bit_model(mixed)
    target = Target.from_model(model, Y)
    assert target.prior is mixed
    assert target.describe() == "one-bit probit of a row-orthogonal Hadamard operator"
    assert model().shape == (2,)
    for algorithm in (DPS, LookaheadSMC):
        pyro.set_rng_seed(0)
        with count_evaluations(mixed.cheap) as high, count_evaluations(mixed.exact) as low:
            posterior = algorithm(model, 4, progress=False).run(Y)
        assert posterior.samples.isfinite().all()
        assert high.signals > 0
        assert low.signals > 0
        assert high.signals + low.signals == 4 * posterior.nfe
    assert "switch=1.5" in posterior.attributes["prior"]
    pyro.set_rng_seed(1)
    step = ReverseDiffusion(60)
    posterior = SplitGibbsSMC(model, 2000, prior_step=step, progress=False).run(Y)
    assert (moments(posterior) - truth).abs().max() < 0.07


def test_a_draft_is_corrected_by_the_exact_prior(truth):
    """The posterior is that of the model's prior, though most of the path is the draft's."""
    options = {"num_samples": 4000, "prior_step": SampleGiven(), "progress": False}
    pyro.set_rng_seed(3)
    alone = SplitGibbsSMC(one_bit_model(blurred()), **options).run(Y)
    assert (moments(alone) - truth).abs().max() > 0.15
    pyro.set_rng_seed(3)
    model = one_bit_model(plane_prior())
    corrected = SplitGibbsSMC(model, draft=blurred(), exact_below=1.0, **options).run(Y)
    # values are of order 1: the standard error of 4000 nearly independent draws is below 0.016
    assert (moments(corrected) - truth).abs().max() < 0.05


@pytest.fixture
def sweeps(monkeypatch):
    """The coupling and the prior of each sweep, as they are made."""
    made = []
    step = SampleGiven.__call__

    def record(self, prior, z, sigma):
        made.append((sigma, prior))
        return step(self, prior, z, sigma)

    monkeypatch.setattr(SampleGiven, "__call__", record)
    return made


@pytest.mark.parametrize("exact_below", [0.1, 0.8, 1.5, 1e6])
def test_sweeps_above_the_coupling_are_the_drafts(sweeps, exact_below):
    draft, exact = blurred(), plane_prior()
    model = one_bit_model(exact)
    pyro.set_rng_seed(0)
    SplitGibbsSMC(
        model, 50, draft=draft, exact_below=exact_below, num_sweeps=3, prior_step=SampleGiven(),
        progress=False,
    ).run(Y)  # fmt: skip
    last = path_of(Target.from_model(model, Y)).coupling(0.0)
    assert [rho for rho, _ in sweeps[-3:]] == [last] * 3
    assert all(prior is exact for _, prior in sweeps[-3:])
    assert len(sweeps) > 5
    for rho, prior in sweeps[:-3]:
        assert prior is (draft if rho > exact_below else exact)


def test_exact_sweeps_begin_at_twice_the_level_where_the_errors_part(sweeps):
    prior = plane_prior()
    make = partial(DiffusionPrior, prior.denoiser, (2,), prior.sigma_min, prior.sigma_max)
    draft = make(error=partial(unit_error, excess=falling))
    exact = make(error=unit_error)
    pyro.set_rng_seed(0)
    SplitGibbsSMC(
        one_bit_model(exact), 50, draft=draft, efficiency=0.95, prior_step=SampleGiven(),
        progress=False,
    ).run(Y)  # fmt: skip
    # the errors part at 0.5
    by_draft = [rho for rho, prior in sweeps if prior is draft]
    by_exact = [rho for rho, prior in sweeps if prior is exact]
    assert max(by_exact) < 1.02
    assert min(by_draft) > 1.0
    # neither bound is met only because no sweep is near
    assert max(by_exact) > 0.8
    assert min(by_draft) < 1.3


def test_calls_of_draft_and_model_are_counted_apart():
    step, options = ReverseDiffusion(4), {"num_sweeps": 3, "progress": False}
    draft, exact = blurred(), plane_prior()
    model = one_bit_model(exact)
    rho = path_of(Target.from_model(model, Y)).coupling(0.0)
    # the draft makes the first cloud, of twice as many particles, and nothing else
    first = SplitGibbsSMC(
        model, 20, draft=draft, exact_below=1e6, prior_step=step, **options
    ).run(Y)  # fmt: skip
    assert first.attributes["draft_nfe"] == 2 * 4
    assert first.nfe > 3 * step.num_calls(exact, rho)
    # the draft makes all but the last sweeps
    most = SplitGibbsSMC(
        model, 20, draft=draft, exact_below=1e-6, prior_step=step, **options
    ).run(Y)  # fmt: skip
    # and one call for one signal gives the prior's mean, that is the amplitude of its outputs
    assert most.nfe == 3 * step.num_calls(exact, rho) + 1 / 20
    assert most.attributes["draft_nfe"] > 2 * 4
    assert most.attributes["structure"] == first.attributes["structure"]
    assert most.settings["draft"] == repr(draft)
    assert "draft_nfe" not in SplitGibbsSMC(model, 20, **options).run(Y).attributes
    assert not draft.denoiser._forward_hooks


def test_a_likelihood_without_structure_takes_a_draft():
    """The coupling of its path is bounded; the first cloud is the draft's all the same."""
    draft, exact = blurred(), plane_prior()

    def model(y=None):
        radius = pyro.sample("x", exact).square().sum().sqrt()
        return pyro.sample("y", pyro.distributions.Normal(radius, 0.3), obs=y)

    posterior = SplitGibbsSMC(
        model, 10, draft=draft, exact_below=1e6, prior_step=ReverseDiffusion(4), progress=False
    ).run(torch.tensor(1.2))
    assert posterior.attributes["draft_nfe"] == 2 * 4


def test_drafts_that_do_not_fit_are_refused():
    model = one_bit_model(plane_prior())
    with pytest.raises(InputError, match="exact_below says where a draft ends"):
        SplitGibbsSMC(model, exact_below=1.0)
    for below in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="exact_below must be positive"):
            SplitGibbsSMC(model, draft=blurred(), exact_below=below)
    run = partial(SplitGibbsSMC, model, 4, progress=False)
    with pytest.raises(InputError, match=r"draft prior has event shape \(3,\) but the model's"):
        run(draft=shrinking(1.0)).run(Y)
    unknown = DiffusionPrior(plane_prior().denoiser, (2,), 0.01, 10.0)
    with pytest.raises(InputError, match="one has no table of them"):
        run(draft=unknown).run(Y)
    assert run(draft=unknown, exact_below=1.0).run(Y).attributes["draft_nfe"] > 0
