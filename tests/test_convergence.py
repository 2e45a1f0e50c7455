"""R-hat and effective sample size of chains with known answers."""

import pytest
import torch

from bayes1bit.diagnostics.convergence import bulk_ess, projections, rhat, split_into_chains
from bayes1bit.errors import InputError


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_independent_draws_have_converged():
    draws = torch.randn(4, 500, 2, 3)
    assert rhat(draws).shape == bulk_ess(draws).shape == (2, 3)
    assert (rhat(draws) - 1).abs().max() < 0.01
    # 2,000 draws; its estimate has a relative error of about 5 percent
    assert (bulk_ess(draws) / 2000 - 1).abs().max() < 0.2


def test_chains_in_different_places_have_not():
    draws = torch.randn(4, 200)
    draws[0] += 3
    assert rhat(draws).shape == ()
    assert rhat(draws) > 1.3
    assert bulk_ess(draws) < 20


def test_effective_sample_size_of_an_autoregressive_chain():
    correlation, x = 0.8, torch.randn(4)
    draws = []
    for _ in range(5000):
        x = correlation * x + (1 - correlation**2) ** 0.5 * torch.randn(4)
        draws.append(x)
    # N (1 - r) / (1 + r)
    assert bulk_ess(torch.stack(draws, 1)) == pytest.approx(20_000 / 9, rel=0.15)


def test_a_constant_has_no_rhat():
    assert rhat(torch.ones(2, 10, 1)).isnan().all()


@pytest.mark.parametrize("shape", [(1, 10), (2, 3), (8,)])
def test_too_few_draws_are_refused(shape):
    with pytest.raises(InputError, match="at least 2 chains of 4 draws"):
        rhat(torch.randn(shape))


def test_draws_that_are_not_finite_are_refused():
    draws = torch.randn(2, 8)
    draws[1, 3] = torch.nan
    with pytest.raises(InputError, match="finite"):
        bulk_ess(draws)


def test_samples_are_cut_in_order():
    chains = split_into_chains(torch.arange(18.0)[:, None], 4)
    assert chains.shape == (4, 4, 1)
    assert chains[1, :, 0].tolist() == [4, 5, 6, 7]
    with pytest.raises(InputError, match="16 are needed"):
        split_into_chains(torch.zeros(15, 2))


def test_projections_are_on_unit_directions():
    x = torch.randn(10_000, 3, 4)
    projected = projections(x, 6)
    assert projected.shape == (10_000, 6)
    # standard normals stay such under a unit direction: five standard errors
    assert (projected.std(0) - 1).abs().max() < 5 / 20_000**0.5
    assert torch.equal(projected, projections(x, 6))
    assert not torch.equal(projected, projections(x, 6, seed=1))
