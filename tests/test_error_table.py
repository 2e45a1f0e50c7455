"""Error tables against known laws."""

import math

import pytest
import torch

from bayes1bit.diffusion.error_table import ErrorTable
from bayes1bit.errors import InputError


def float64(*values):
    return torch.tensor(values, dtype=torch.float64)


def assert_close(actual, expected, rtol=1e-12, atol=1e-15):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


def test_table_gives_its_entries_back_whatever_their_order():
    table = ErrorTable([3.0, 0.1, 1.0], [0.5, 0.01, 0.2])
    assert_close(table(float64(0.1, 1.0, 3.0)), float64(0.01, 0.2, 0.5), 1e-6)
    assert table.sigma.tolist() == [0.1, 1.0, 3.0]
    assert table.error.tolist() == [0.01, 0.2, 0.5]


def test_table_interpolates_power_laws_exactly_and_stays_between_its_entries():
    table = ErrorTable([1.0, 16.0], [2.0, 2.0 * 16**1.5])
    query = float64(1.0, 2.0, 5.0, 11.0, 16.0)
    assert_close(table(query), 2 * query**1.5)
    assert ErrorTable([1.0, 4.0, 16.0], [1.0, 3.0, 5.0])(2.0).item() == pytest.approx(3**0.5)
    assert ErrorTable([1.0, 4.0, 16.0], [1.0, 3.0, 5.0])(8.0).item() == pytest.approx(15**0.5)


def test_table_tails_follow_their_laws():
    table = ErrorTable([0.1, 1.0, 10.0], [0.02, 0.3, 0.4])
    assert_close(table(float64(0.05, 0.01)), float64(0.005, 0.0002))
    assert table(0.0).item() == 0
    assert table(10.5).item() == pytest.approx(0.4)
    assert table(1e9).item() == pytest.approx(0.4)


def test_table_keeps_the_shape_of_the_query():
    table = ErrorTable([0.1, 1.0], [0.02, 0.3])
    for shape in [(), (3,), (2, 3), (0,)]:
        answer = table(torch.full(shape, 0.5))
        assert answer.shape == shape
        assert answer.dtype == torch.float64
    assert table(0.5).shape == ()


@pytest.mark.parametrize(
    ("sigma", "error", "message"),
    [
        ([1.0, 2.0], [1.0], "equal length"),
        ([1.0], [1.0], "at least 2"),
        ([[1.0, 2.0]], [[1.0, 2.0]], "equal length"),
        ([0.0, 1.0], [1.0, 1.0], "positive and finite"),
        ([1.0, 2.0], [1.0, -1.0], "positive and finite"),
        ([1.0, 2.0], [1.0, math.nan], "positive and finite"),
        ([1.0, math.inf], [1.0, 1.0], "positive and finite"),
        ([1.0, 2.0, 1.0], [1.0, 2.0, 1.0], "occurs twice"),
    ],
)
def test_table_refuses_what_is_not_a_table(sigma, error, message):
    with pytest.raises(InputError, match=message):
        ErrorTable(sigma, error)


def test_measure_agrees_with_the_closed_form_of_a_gaussian():
    torch.manual_seed(0)
    scale = 0.7
    clean = 2.0 + scale * torch.randn(400, 8, 8, dtype=torch.float64)

    def denoise(x, sigma):
        return (sigma**2 * 2.0 + scale**2 * x) / (sigma**2 + scale**2)

    sigma = torch.tensor([0.05, 0.5, 1.0, 5.0, 50.0])
    table = ErrorTable.measure(denoise, clean, sigma, batch_size=150)
    exact = sigma**2 * scale**2 / (sigma**2 + scale**2)
    # the mean of 25,600 squared normals has a relative standard deviation of 0.9%: four of them
    assert_close(table(sigma), exact.double(), rtol=0.036)


def test_measure_averages_over_signals_not_over_batches():
    clean = torch.randn(130, 3, generator=torch.Generator().manual_seed(1)).double()
    levels = float64(1, 2)
    table = ErrorTable.measure(lambda x, sigma: torch.zeros_like(x), clean, levels)
    assert_close(table.error, clean.square().mean().expand(2))


def test_measure_uses_the_same_noise_at_every_level_and_repeats_itself():
    clean = torch.zeros(50, 4, dtype=torch.float64)
    sigma = float64(0.1, 1.0, 10.0)

    def measure(seed):
        return ErrorTable.measure(lambda x, level: x, clean, sigma, batch_size=16, seed=seed)

    per_level = measure(0).error / sigma.square()
    assert_close(per_level, per_level[0].expand(3))
    # 200 squared normals: relative standard deviation 10%
    assert per_level[0].item() == pytest.approx(1, abs=0.4)
    assert torch.equal(measure(0).error, measure(0).error)
    assert not torch.equal(measure(0).error, measure(1).error)


def test_measure_leaves_the_global_generator_and_the_graph_alone():
    weight = torch.ones(3, requires_grad=True)
    state = torch.random.get_rng_state()
    ErrorTable.measure(lambda x, s: x * weight, torch.ones(4, 3), torch.tensor([1.0, 2.0]))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert weight.grad is None


def test_measure_can_show_a_progress_bar(capsys):
    def measure(progress):
        ErrorTable.measure(
            lambda x, s: x, torch.ones(4, 3), torch.tensor([1.0, 2.0]), progress=progress
        )
        return capsys.readouterr().err

    assert measure(False) == ""
    assert "denoising error" in measure(True)
