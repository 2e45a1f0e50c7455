"""Loss on held-out signals on the way, and the warning that a network memorises."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_cases import TABLE, recipe, toy_pictures

from bayes1bit.diffusion import ErrorTable
from bayes1bit.diffusion.training import held_out, trainer
from bayes1bit.diffusion.training.card import write_card
from bayes1bit.diffusion.training.data import Signals, to_event_shape
from bayes1bit.diffusion.training.held_out import (
    Comparison,
    HeldOutLoss,
    expected_loss,
    first_memorising,
    number_of_signals,
    training_levels,
)
from bayes1bit.diffusion.training.loss import edm_loss
from bayes1bit.diffusion.training.recipe import NoiseSettings, TrainingSettings
from bayes1bit.diffusion.training.trainer import train

SHORT = {"signals": 16 * 8, "log_every": 2, "checkpoint_every": 4, "precision": "float32"}


def noise_pictures(count=80):
    """Pictures without anything in common: all that can be learnt of them is what they are."""
    generator = np.random.default_rng(0)
    stored = to_event_shape(
        255 * generator.integers(0, 2, (count, 8, 8), dtype=np.uint8), recipe().data
    )
    return Signals(stored[:16], stored[16:], recipe().data)


MEMORISING = recipe(
    training={
        "signals": 16 * 40,
        "precision": "float32",
        "learning_rate": 2e-3,
        "checkpoint_every": 5,
        "log_every": 20,
    },
    noise={"log_mean": 0.0, "log_std": 0.8},
)


@pytest.fixture(scope="module")
def memorised(tmp_path_factory):
    """The folder of a network that learns 16 pictures by heart, and what it warned of."""
    out = tmp_path_factory.mktemp("memorised")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(MEMORISING, noise_pictures(), out, progress=False)
    return out, [str(warning.message) for warning in caught]


def test_measuring_changes_nothing(tmp_path):
    weights = []
    for every in (1, 8):
        settings = recipe(training={**SHORT, "evaluate_every": every})
        train(settings, toy_pictures(), tmp_path / str(every), progress=False)
        weights.append(load_file(tmp_path / str(every) / "checkpoint.safetensors"))
        steps = [c.step for c in held_out.read(tmp_path / str(every) / "held_out.csv")]
        assert steps == sorted([*range(every, 9, every)] * 6)
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_lines_are_the_loss_of_the_averaged_weights(tmp_path):
    settings, signals = recipe(training=SHORT), toy_pictures()
    denoiser, _ = train(settings, signals, tmp_path, progress=False)
    measured = held_out.read(tmp_path / "held_out.csv")
    # at every checkpoint, five levels and their average
    assert [c.step for c in measured] == [4] * 6 + [8] * 6
    assert [c.sigma is None for c in measured] == 2 * (5 * [False] + [True])
    subset = HeldOutLoss(settings, signals, tmp_path, "cpu")
    assert len(subset.held_out) == len(subset.training) == 16
    for name, x in (("held_out", subset.held_out), ("training", subset.training)):
        for i, comparison in enumerate(measured[6:11]):
            sigma = subset.sigma[i].float().expand(16)
            assert comparison.sigma == pytest.approx(subset.sigma[i].item(), rel=1e-5)
            with torch.no_grad():
                loss = edm_loss(denoiser, x, sigma, subset.eps).item()
            assert getattr(comparison, name) == pytest.approx(loss, rel=1e-4)
        mean = np.mean([getattr(c, name) for c in measured[6:11]])
        assert getattr(measured[11], name) == pytest.approx(mean, rel=1e-4)


def test_signals_are_those_that_training_sees_and_does_not(tmp_path):
    signals = toy_pictures()
    subset = HeldOutLoss(recipe(), signals, tmp_path, "cpu")
    for chosen, stored in (
        (subset.held_out, signals.held_out),
        (subset.training, signals.train),
    ):
        assert {tuple(x.flatten().tolist()) for x in chosen} <= {
            tuple(x.flatten().tolist()) for x in signals.scale(stored)
        }
    again = HeldOutLoss(recipe(), signals, tmp_path, "cpu")
    assert torch.equal(again.held_out, subset.held_out)
    assert torch.equal(again.eps, subset.eps)


def test_dropout_is_off_and_put_back(tmp_path):
    class Shaky(torch.nn.Module):
        sigma_data = 1.0

        def __init__(self):
            super().__init__()
            self.modes = []

        def forward(self, x, sigma):
            self.modes.append(self.training)
            return torch.zeros_like(x)

    network = Shaky()
    HeldOutLoss(recipe(), toy_pictures(), tmp_path, "cpu").measure(network, 1)
    assert network.modes == [False] * 10
    assert network.training


def test_cost_stays_below_a_twentieth_of_training():
    for every, batch in ((250, 64), (500, 32), (50, 128), (100, 256)):
        settings = TrainingSettings(signals=1, batch_size=batch, checkpoint_every=every)
        count = number_of_signals(settings)
        assert 16 < count <= 256
        assert 2 * count * held_out.LEVELS < 0.05 * 3 * every * batch
    assert number_of_signals(TrainingSettings(signals=1, evaluate_every=1)) == 16


def test_the_difference_must_be_certain_and_large():
    def memorises(excess, error):
        return Comparison(1, None, 0.5 + excess, 0.5, error).memorises

    assert memorises(0.06, 0.019)
    assert not memorises(0.06, 0.021)
    assert not memorises(0.049, 0.001)
    assert not memorises(-0.2, 0.001)
    assert not memorises(float("nan"), 0.001)


def test_standard_error_is_that_of_two_samples():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2000, 200, generator=generator, dtype=torch.float64)
    compared = [held_out._compare(1, None, 1 + 2 * x, y) for x, y in zip(a, b, strict=True)]
    differences = torch.tensor([c.held_out - c.training for c in compared])
    # the spread of 2,000 differences is known to 1.6%; four times that
    expected = ((4 + 1) / 200) ** 0.5
    assert differences.std().item() == pytest.approx(expected, rel=0.07)
    assert np.mean([c.standard_error for c in compared]) == pytest.approx(expected, rel=0.02)


def test_a_network_that_memorises_warns_once(memorised):
    out, messages = memorised
    measured = held_out.read(out / "held_out.csv")
    first = first_memorising(measured)
    # the network's first answers are as good for one kind of pictures as for the other
    assert not measured[5].memorises
    assert first.step > 5
    assert sum(c.memorises for c in measured if c.sigma is None) > 1
    (message,) = messages
    assert f"at step {first.step} the loss" in message
    for cure in ("fewer steps", "more signals", "data.flip", "smaller network"):
        assert cure in message


def test_the_warning_is_in_the_card(memorised, tmp_path):
    out, _ = memorised
    (tmp_path / "weights.safetensors").write_bytes(b"")
    facts = {"parameters": 1, "pictures": 1, "seconds": 1, "held_out": 1, "torch": "x"}
    measured = held_out.read(out / "held_out.csv")
    table = ErrorTable([0.1, 1.0], [0.1, 0.2])
    write_card(tmp_path, MEMORISING, facts, table, "40 steps", measured)
    text = (tmp_path / "MODEL_CARD.md").read_text()
    assert f"**Warning: from step {first_memorising(measured).step} the loss on held-out" in text


def test_a_resumed_run_does_not_warn_again(memorised, tmp_path, monkeypatch):
    out, _ = memorised
    for name in ("checkpoint.safetensors", "held_out.csv", "training.csv"):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    longer = dataclasses.replace(MEMORISING.training, signals=16 * 41)
    settings = dataclasses.replace(MEMORISING, training=longer)
    # warnings are errors here
    train(settings, noise_pictures(), tmp_path, progress=False)
    assert held_out.read(tmp_path / "held_out.csv")[-1].step == 41


def test_levels_split_those_of_training_evenly():
    noise = NoiseSettings(log_mean=-0.8, log_std=1.4, sigma_min=0.1, sigma_max=80.0)
    levels = training_levels(noise, 5)
    # quantiles 0.1, 0.3, ..., 0.9 of the standard normal distribution
    z = torch.tensor([-1.281552, -0.524401, 0.0, 0.524401, 1.281552], dtype=torch.float64)
    expected = (1.4 * z - 0.8).exp().clamp(min=0.1)
    torch.testing.assert_close(levels, expected, rtol=1e-5, atol=0)


def test_expected_loss_is_one_for_a_normal_prior_and_that_of_draws_for_others():
    noise = NoiseSettings(sigma_data=0.7)

    def normal(sigma):
        return sigma**2 * 0.49 / (sigma**2 + 0.49)

    assert expected_loss(normal, noise) == pytest.approx(1, rel=1e-9)
    settings = recipe(training={"batch_size": 20_000})
    _, sigma, _ = trainer.draw_batch(toy_pictures(), noise, settings.training, 0)
    weight = (sigma**2 + 0.49) / (sigma * 0.7) ** 2
    terms = weight * 0.3 * sigma**2 / (1 + sigma**2)
    # four standard errors of 20,000 draws
    assert expected_loss(lambda s: 0.3 * s**2 / (1 + s**2), noise) == pytest.approx(
        terms.mean().item(), abs=4 * terms.std().item() / 20_000**0.5
    )


def test_toy_recipe_is_measured_at_its_checkpoints():
    assert held_out.interval(recipe().training) == TABLE["training"]["checkpoint_every"]
