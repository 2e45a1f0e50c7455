"""The preconditioning of Karras et al. around networks that show what they are given."""

import math

import pytest
import torch
from torch import nn

from bayes1bit.diffusion import Denoiser, KarrasDenoiser

SIGMA_DATA = 0.66


class Recorder(nn.Module):
    """Returns a fixed multiple of its input and remembers how it was called."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.3, dtype=dtype))

    def forward(self, x, label):
        self.x, self.label = x, label
        return self.factor * x


class Convolutions(nn.Module):
    """A small network whose answer depends on the level."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(2, 16, 3, padding=1), nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x, label):
        return self.last(torch.tanh(self.first(x) + label[:, None, None, None] / 10))


def test_output_is_the_published_combination():
    network = Recorder()
    denoiser = KarrasDenoiser(network, SIGMA_DATA)
    x = torch.randn(5, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.01, 0.3, SIGMA_DATA, 4.0, 80.0], dtype=torch.float64)
    answer = denoiser(x, sigma)
    for i, s in enumerate(sigma.tolist()):
        total = s**2 + SIGMA_DATA**2
        scaled = x[i] / math.sqrt(total)
        torch.testing.assert_close(network.x[i], scaled)
        expected = SIGMA_DATA**2 / total * x[i] + s * SIGMA_DATA / math.sqrt(total) * 0.3 * scaled
        torch.testing.assert_close(answer[i], expected)
    torch.testing.assert_close(network.label, 10 * sigma.log())


def test_one_level_for_all_is_the_same_level_for_each():
    denoiser = KarrasDenoiser(Convolutions(), SIGMA_DATA)
    x = torch.randn(4, 2, 5, 5)
    answer = denoiser(x, torch.tensor(0.7))
    assert answer.shape == x.shape
    assert torch.equal(answer, denoiser(x, torch.full((4,), 0.7)))


def test_network_sees_and_should_return_unit_variance():
    """For signals of the stated spread, at every level."""
    torch.manual_seed(1)
    clean = SIGMA_DATA * torch.randn(100_000, 1, dtype=torch.float64)
    network = Recorder()
    denoiser = KarrasDenoiser(network, SIGMA_DATA)
    for s in (0.05, 0.66, 30.0):
        noisy = clean + s * torch.randn_like(clean)
        sigma = torch.tensor(s, dtype=torch.float64)
        answer = denoiser(noisy, sigma)
        # undo the combination: the network's output that would be right
        total = s**2 + SIGMA_DATA**2
        out = s * SIGMA_DATA / math.sqrt(total)
        target = network.factor * network.x + (clean - answer) / out
        # a variance of 100,000 draws is known to 0.45%
        assert network.x.var().item() == pytest.approx(1, abs=0.02)
        assert target.var().item() == pytest.approx(1, abs=0.02)


def test_little_noise_leaves_the_signal_as_it_is():
    denoiser = KarrasDenoiser(Convolutions(), SIGMA_DATA).double()
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    for sigma in (1e-3, 1e-6):
        change = (denoiser(x, torch.tensor(sigma).double()) - x).abs().max().item()
        # sigma times the network's output, and what skip takes off, sigma^2
        assert 0 < change < 3 * sigma


def test_much_noise_leaves_the_network_alone_to_answer():
    network = Convolutions().double()
    denoiser = KarrasDenoiser(network, SIGMA_DATA)
    eps = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    sigma = torch.tensor(1e4, dtype=torch.float64)
    expected = SIGMA_DATA * network(eps, (10 * sigma.log()).expand(3))
    torch.testing.assert_close(denoiser(1e4 * eps, sigma), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_answer_has_the_type_of_the_signal_and_the_network_its_own(dtype, autocast):
    network = Recorder(torch.float32)
    answer = KarrasDenoiser(network, SIGMA_DATA, autocast)(torch.ones(2, 3, dtype=dtype), 0.5)
    assert answer.dtype == dtype
    assert network.x.dtype == network.label.dtype == torch.float32


def test_scaling_stays_in_double_precision_around_a_single_precision_network():
    x = torch.tensor([[1.0 + 1e-12]], dtype=torch.float64)
    denoiser = KarrasDenoiser(Recorder(torch.float32), SIGMA_DATA)
    sigma = torch.tensor(1e-9, dtype=torch.float64)
    assert (denoiser(x, sigma) - x).abs().item() < 2e-9
    assert denoiser(x, sigma).item() != denoiser(torch.ones_like(x), sigma).item()


def test_autocast_runs_the_network_in_reduced_precision():
    x = torch.randn(4, 2, 8, 8)
    network = Convolutions()
    plain, reduced = (
        KarrasDenoiser(network, SIGMA_DATA, cast)(x, torch.tensor(1.0))
        for cast in (None, torch.bfloat16)
    )
    assert reduced.dtype == torch.float32
    difference = (plain - reduced).abs().max().item()
    # bfloat16 has a relative precision of 2^-9 per product; the answer is of order one
    assert 0 < difference < 0.02
    assert not torch.is_autocast_enabled("cpu")


def test_gradients_reach_signal_and_weights():
    denoiser = KarrasDenoiser(Convolutions(), SIGMA_DATA)
    x = torch.randn(2, 2, 5, 5, requires_grad=True)
    denoiser(x, torch.tensor([0.1, 3.0])).square().sum().backward()
    assert x.grad.abs().min() > 0
    assert all(p.grad.abs().max() > 0 for p in denoiser.parameters())


def test_network_without_weights_runs_in_the_type_of_the_signal():
    class Echo(nn.Module):
        def forward(self, x, label):
            return x

    answer = KarrasDenoiser(Echo(), SIGMA_DATA)(torch.ones(2, 3).double(), torch.tensor(0.5))
    assert answer.dtype == torch.float64


def test_contract_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Denoiser()
