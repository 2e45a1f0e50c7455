"""Doors for networks and denoisers of other conventions, against priors whose answer is known."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bayes1bit.diffusion import (
    DiffusionPrior,
    ErrorTable,
    GaussianMixturePrior,
    VariancePreservingDenoiser,
    from_azula,
    from_deepinv,
    from_edm,
    from_function,
    from_variance_preserving,
)
from bayes1bit.diffusion.adapters import schedules
from bayes1bit.errors import InputError
from bayes1bit.infer import DiffOneBit
from bayes1bit.measurement import Measurement
from bayes1bit.operators import Hadamard

SHAPE = (2, 4, 4)
LINEAR = schedules.alphas_cumprod(schedules.linear_betas(1000))
LEVELS = ((1 - LINEAR) / LINEAR).sqrt()
PREDICTIONS = ("epsilon", "v_prediction", "sample")


@pytest.fixture(scope="module")
def mixture():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(5, *SHAPE, generator=generator, dtype=torch.float64)
    return GaussianMixturePrior(means, 0.3)


def signals(count=3, dtype=torch.float64):
    return torch.randn(count, *SHAPE, dtype=dtype, generator=torch.Generator().manual_seed(1))


class Trained(nn.Module):
    """What a perfectly trained variance-preserving network says at a step of the schedule.

    It knows nothing of sigma: the step's share of signal is looked up, between steps by the
    logarithm of the noise-to-signal ratio.
    """

    def __init__(self, mixture, prediction, variance=False):
        super().__init__()
        self.mixture, self.prediction, self.variance = mixture, prediction, variance
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x_t, t):
        self.t = t
        left = t.floor().long().clamp(max=len(LEVELS) - 2)
        log = LEVELS.log()
        ratio = (log[left] + (t - left) * (log[left + 1] - log[left])).exp().view(-1, 1, 1, 1)
        signal = 1 / (1 + ratio.square()).sqrt()
        noise = ratio * signal
        clean = self.mixture.denoise(x_t / signal, ratio.flatten())
        epsilon = (x_t - signal * clean) / noise
        answer = {
            "epsilon": epsilon,
            "v_prediction": signal * epsilon - noise * clean,
            "sample": clean,
        }[self.prediction]
        return torch.cat([answer, torch.full_like(answer, 7.0)], 1) if self.variance else answer


# --- variance-preserving networks -------------------------------------------------------------


@pytest.mark.parametrize("variance", [False, True], ids=["", "learned variance"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_network_becomes_the_posterior_mean(mixture, prediction, variance):
    """At trained levels and between them, of a whole batch at once."""
    network = Trained(mixture, prediction, variance)
    denoiser = VariancePreservingDenoiser(network, LINEAR, prediction)
    sigma = torch.stack([LEVELS[0], LEVELS[400], LEVELS[400:402].log().mean().exp(), LEVELS[999]])
    x = signals(4) * (1 + sigma.view(-1, 1, 1, 1))
    # times are known to single precision: 1e-7 of log sigma, and at large levels D = x - sigma F
    torch.testing.assert_close(denoiser(x, sigma), mixture.denoise(x, sigma), rtol=0, atol=2e-3)
    expected = torch.tensor([0.0, 400.0, 400.5, 999.0])
    torch.testing.assert_close(network.t.float(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_prior_is_that_of_the_schedule(mixture, prediction):
    error = ErrorTable([0.1, 1.0], [0.01, 0.1])
    prior = from_variance_preserving(
        Trained(mixture, prediction),
        LINEAR,
        SHAPE,
        prediction_type=prediction,
        error=error,
        max_batch=2,
        num_steps=7,
    )
    assert isinstance(prior, DiffusionPrior)
    assert tuple(prior.event_shape) == SHAPE
    assert prior.data_range == (-1.0, 1.0)
    # beta_0 = 1e-4; the product of 1 - beta at 1000 steps is 4.04e-5
    assert prior.sigma_min == pytest.approx(math.sqrt(1e-4 / (1 - 1e-4)))
    assert prior.sigma_max == pytest.approx(157.4, abs=0.1)
    assert (prior.max_batch, prior.num_steps) == (2, 7)
    assert prior.error(0.1) == pytest.approx(0.01)
    assert not any(p.requires_grad for p in prior.denoiser.parameters())
    assert not prior.denoiser.training
    x, sigma = signals(), torch.tensor([0.05, 0.7, 3.0], dtype=torch.float64)
    torch.testing.assert_close(
        prior.denoise(x, sigma), mixture.denoise(x, sigma), rtol=0, atol=1e-4
    )


def test_levels_beyond_the_schedule_are_answered_at_its_ends(mixture):
    network = Trained(mixture, "epsilon")
    denoiser = VariancePreservingDenoiser(network, LINEAR)
    x = signals(2)
    answer = denoiser(x, torch.tensor([1e-9, 1e4], dtype=torch.float64))
    assert network.t.tolist() == [0.0, 999.0]
    # the less noise is spoken of, the nearer the answer is to the signal
    assert (answer[0] - x[0]).abs().max() < 1e-8
    assert answer.isfinite().all()
    assert torch.equal(denoiser(x, torch.zeros((), dtype=torch.float64)), x)


def test_gradients_reach_the_signal(mixture):
    prior = from_variance_preserving(
        Trained(mixture, "v_prediction"), LINEAR, SHAPE, prediction_type="v_prediction"
    )
    x = signals().requires_grad_()
    prior.denoise(x, 0.5).sum().backward()
    expected = signals().requires_grad_()
    mixture.denoise(expected, 0.5).sum().backward()
    torch.testing.assert_close(x.grad, expected.grad, rtol=0, atol=1e-3)


def test_network_without_weights_takes_single_precision():
    class Echo(nn.Module):
        def forward(self, x, t):
            return x

    prior = from_variance_preserving(Echo(), LINEAR, SHAPE)
    assert prior.dtype == torch.float32
    assert prior.sample((2,)).dtype == torch.float32


def test_networks_of_other_shapes_are_refused():
    class Narrow(nn.Module):
        def forward(self, x, t):
            return x[:, :1]

    prior = from_variance_preserving(Narrow(), LINEAR, SHAPE)
    with pytest.raises(InputError, match=r"\(3, 2, 4, 4\) with \(3, 1, 4, 4\)"):
        prior.denoise(signals(), 1.0)


@pytest.mark.parametrize(
    "share", [[0.5, 0.6], [0.9, 0.0], [1.0, 0.5], [0.5], [[0.9, 0.5]], [0.9, math.nan]]
)
def test_schedules_that_cannot_be_are_refused(share):
    with pytest.raises(InputError, match="must decrease strictly"):
        VariancePreservingDenoiser(nn.Identity(), share)


def test_unknown_predictions_are_refused():
    with pytest.raises(InputError, match='epsilon, v_prediction, sample; got "flow"'):
        VariancePreservingDenoiser(nn.Identity(), LINEAR, "flow")


@pytest.mark.parametrize(
    ("settings", "betas"),
    [
        ({"beta_schedule": "linear"}, schedules.linear_betas(1000)),
        (
            {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
            schedules.scaled_linear_betas(1000, 0.00085, 0.012),
        ),
        ({"beta_schedule": "squaredcos_cap_v2"}, schedules.cosine_betas(1000)),
        (
            {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 50},
            schedules.cosine_betas(50),
        ),
        ({"trained_betas": [0.1, 0.2, 0.4]}, [0.1, 0.2, 0.4]),
    ],
)
def test_schedules_are_those_of_diffusers(settings, betas):
    from diffusers import DDPMScheduler

    expected = DDPMScheduler(**settings).alphas_cumprod.double()
    share = schedules.alphas_cumprod(betas)
    # theirs is a product of a thousand numbers in single precision
    torch.testing.assert_close(share, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("betas", [[0.1], [0.1, 1.0], [0.0, 0.1], [0.1, math.nan]])
def test_betas_that_cannot_be_are_refused(betas):
    with pytest.raises(InputError, match="two or more betas between 0 and 1"):
        schedules.alphas_cumprod(betas)


# --- EDM --------------------------------------------------------------------------------------


class Small(nn.Module):
    """A network called as those of EDM are; it remembers its label."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x, c_noise):
        self.c_noise = c_noise
        return self.convolution(x) + c_noise[:, None, None, None]


def test_edm_network_is_preconditioned_and_told_a_quarter_of_log_sigma():
    torch.manual_seed(0)
    network = Small()
    prior = from_edm(network, SHAPE, sigma_data=0.4)
    x, s = signals(dtype=torch.float32), 1.7
    answer = prior.denoise(x, s)
    torch.testing.assert_close(network.c_noise, torch.full((3,), math.log(s) / 4))
    total = s**2 + 0.4**2
    inner = network(x / math.sqrt(total), torch.full((3,), math.log(s) / 4))
    expected = 0.4**2 / total * x + s * 0.4 / math.sqrt(total) * inner
    torch.testing.assert_close(answer, expected)
    assert (prior.sigma_min, prior.sigma_max) == (0.002, 80.0)
    assert prior.data_range == (-1.0, 1.0)
    assert not network.training


def test_edm_weights_come_from_a_file(tmp_path):
    torch.manual_seed(0)
    stored, network = Small(), Small()
    save_file(stored.state_dict(), tmp_path / "edm.safetensors")
    prior = from_edm(network, SHAPE, weights=tmp_path / "edm.safetensors")
    x = signals(dtype=torch.float32)
    assert torch.equal(prior.denoise(x, 0.5), from_edm(stored, SHAPE).denoise(x, 0.5))


def test_edm_files_of_others_are_refused(tmp_path):
    save_file({"convolution.weight": torch.zeros(2, 2, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"1 of 2 tensors are missing \(convolution.bias\)"):
        from_edm(Small(), SHAPE, weights=tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"not a \.safetensors file"):
        from_edm(Small(), SHAPE, weights=tmp_path / "edm.pkl")
    with pytest.raises(InputError, match="sigma_data must be positive"):
        from_edm(Small(), SHAPE, sigma_data=0.0)


# --- other packages ---------------------------------------------------------------------------


def test_any_function_is_a_prior(mixture):
    shapes = []

    def f(x, sigma):
        shapes.append((tuple(x.shape), tuple(sigma.shape)))
        return mixture.denoise(x, sigma)

    prior = from_function(f, SHAPE, 0.01, 50.0, None, max_batch=2)
    x = signals()
    assert torch.equal(prior.denoise(x, 0.3), mixture.denoise(x, 0.3))
    assert shapes == [((2, *SHAPE), (2,)), ((1, *SHAPE), (1,))]
    assert (prior.sigma_min, prior.sigma_max, prior.data_range) == (0.01, 50.0, None)
    assert prior.dtype == torch.float32


def test_functions_live_where_their_prior_is_moved():
    prior = from_function(lambda x, sigma: x, SHAPE, 0.01, 50.0, None)
    assert prior.to("meta").device.type == "meta"


@pytest.mark.parametrize(
    ("answer", "got"), [(lambda x: x[:, :1], r"\(3, 1, 4, 4\)"), (lambda x: None, "NoneType")]
)
def test_functions_that_do_not_denoise_are_refused(answer, got):
    prior = from_function(lambda x, sigma: answer(x), SHAPE, 0.01, 50.0, None)
    with pytest.raises(InputError, match=f"same shape, got {got}"):
        prior.denoise(signals(), 1.0)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(InputError, match="a str cannot be"):
        from_function("drunet", SHAPE, 0.01, 50.0, None)


class DeepinvDenoiser(nn.Module):
    """``forward(x, sigma)`` of signals in [0, 1], sigma of shape (batch,)."""

    def __init__(self, mixture):
        super().__init__()
        self.mixture = mixture
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, sigma):
        assert sigma.shape == (len(x),)
        return self.mixture.denoise(x, sigma)


def test_deepinv_denoisers(mixture):
    prior = from_deepinv(DeepinvDenoiser(mixture), SHAPE, sigma_min=0.02, sigma_max=20.0)
    assert prior.data_range == (0.0, 1.0)
    assert prior.dtype == torch.float64
    assert not prior.denoiser.function.weight.requires_grad
    x = signals()
    assert torch.equal(prior.denoise(x, 0.3), mixture.denoise(x, 0.3))


class Posterior:
    """What a denoiser of azula returns."""

    def __init__(self, mean):
        self.mean = mean


class AzulaDenoiser(nn.Module):
    """A perfect denoiser of ``alpha(t) x + sigma(t) eps``, with a schedule of rectified flows."""

    def __init__(self, mixture, schedule):
        super().__init__()
        self.mixture, self.schedule = mixture, schedule
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x_t, t):
        self.t = t
        alpha, sigma = self.schedule(t)
        scale = alpha.view(-1, 1, 1, 1)
        return Posterior(self.mixture.denoise(x_t / scale, sigma / alpha))


AZULA = {
    "rectified": lambda t: (1e-3 * t + 1 - t, t + 1e-3 * (1 - t)),
    "variance exploding": lambda t: (torch.ones_like(t), 1e-3 ** (1 - t) * 1e3**t),
    "variance preserving": lambda t: (1e-3 ** (t**2), (1 - 1e-3 ** (2 * t**2) + 1e-6).sqrt()),
}


@pytest.mark.parametrize("name", AZULA)
def test_azula_denoisers(mixture, name):
    denoiser = AzulaDenoiser(mixture, AZULA[name])
    prior = from_azula(denoiser, SHAPE, data_range=(-1.0, 1.0))
    assert prior.sigma_min == pytest.approx(1e-3)
    assert prior.sigma_max == pytest.approx(1e3)
    x, sigma = signals(), torch.tensor([0.01, 0.6, 40.0], dtype=torch.float64)
    torch.testing.assert_close(prior.denoise(x, sigma), mixture.denoise(x, sigma))
    alpha, spread = AZULA[name](denoiser.t)
    torch.testing.assert_close(spread / alpha, sigma)
    narrow = from_azula(denoiser, SHAPE, data_range=None, sigma_min=0.01, sigma_max=50.0)
    assert (narrow.sigma_min, narrow.sigma_max, narrow.data_range) == (0.01, 50.0, None)


def test_azula_denoisers_need_a_schedule_and_a_mean(mixture):
    with pytest.raises(InputError, match="this DeepinvDenoiser has none"):
        from_azula(DeepinvDenoiser(mixture), SHAPE, data_range=None)
    endless = AzulaDenoiser(mixture, lambda t: (1 - t, t))
    with pytest.raises(InputError, match="0 < sigma_min < sigma_max"):
        from_azula(endless, SHAPE, data_range=None)
    endless.forward = lambda x, t: (x, t)
    prior = from_azula(endless, SHAPE, data_range=None, sigma_min=0.01, sigma_max=50.0)
    with pytest.raises(InputError, match="got NoneType"):
        prior.denoise(signals(), 1.0)


# --- in use -----------------------------------------------------------------------------------


def test_recovery_is_the_same_through_a_door(mixture):
    """The same random numbers go the same way through the network and through the mixture."""
    operator = Hadamard(SHAPE, 16, seed=0)
    torch.manual_seed(0)
    measurement = Measurement.simulate(mixture.sample(), operator, scale=0.5)
    prior = from_variance_preserving(Trained(mixture, "epsilon"), LINEAR, SHAPE)
    exact = mixture.expand(())
    # the levels of the walk must be the same
    exact.sigma_min = prior.sigma_min
    means = []
    for each in (prior, exact):
        torch.manual_seed(1)
        algorithm = DiffOneBit(
            measurement.model(each), 4, num_levels=8, sigma_max=20.0, progress=False
        )
        means.append(algorithm.run(measurement.y).mean)
    torch.testing.assert_close(*means, rtol=0, atol=1e-2)


def test_pictures_of_another_range_are_refused(mixture):
    """Measured in [0, 1], they do not fit a prior of [-1, 1], nor the other way round."""
    operator = Hadamard(SHAPE, 16, seed=0)
    vp = from_variance_preserving(Trained(mixture, "epsilon"), LINEAR, SHAPE)
    deepinv = from_deepinv(DeepinvDenoiser(mixture), SHAPE, sigma_min=0.02, sigma_max=20.0)
    x = torch.rand(SHAPE, dtype=torch.float64)
    for data_range, right, wrong in (((0.0, 1.0), deepinv, vp), ((-1.0, 1.0), vp, deepinv)):
        measurement = Measurement.simulate(x, operator, scale=0.5, data_range=data_range)
        assert measurement.model(right)
        with pytest.raises(InputError, match="measure it in the prior's range"):
            measurement.model(wrong)
    with pytest.raises(InputError, match=r"the data range is \[0, 1\]"):
        Measurement.simulate(-x, operator, scale=0.5, data_range=deepinv.data_range)
