"""Training on signals of one dimension, from recordings to a prior's folder."""

import warnings

import numpy as np
import pytest
from test_training_data import write_wav
from training_cases import table, toml

from bayes1bit.diffusion.training.run import run
from bayes1bit.zoo import load_prior, open_prior

LINES = table(
    data={"event_shape": [1, 32], "held_out": 20, "unit": 2.0, "low": -2.0, "high": 2.0},
    training={"signals": 16 * 4, "precision": "float32"},
    card={"unit": "mV"},
)
LINES["data"]["rate"] = 360
LINES["network"] = {
    "kind": "sr3",
    "patch": 2,
    "width": 8,
    "multipliers": [1, 2],
    "blocks": 1,
    "middle_blocks": 1,
    "norm_groups": 4,
    "dropout": 0.0,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    phases = np.random.default_rng(0).uniform(0, 6, 4)
    for i, phase in enumerate(phases):
        wave = 2**14 * np.sin(phase + np.arange(32 * 40) / 5)
        write_wav(folder / "data" / f"{i}.wav", wave.astype(np.int64), rate=360)
    (folder / "recipe.toml").write_text(toml(LINES))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return run(folder, folder / "data", folder / "out", progress=False)


def test_recordings_become_a_prior_of_lines(trained):
    prior = load_prior(trained)
    assert prior.event_shape == (1, 32)
    assert prior.data_range == (-2.0, 2.0)
    assert open_prior(trained).facts["held_out"] == 20
    # a sine of half of full scale, in units of 2, has a mean square of one half, which is all that
    # an untrained network can be wrong by at the highest level
    assert float(prior.error(20.0)) == pytest.approx(0.5, rel=0.3)


def test_card_speaks_of_signals_and_samples(trained):
    text = (trained / "MODEL_CARD.md").read_text()
    for part in (
        "| signal | 1x32, values in [-2, 2] mV, 360 samples per second |",
        "SR3's UNet on patches of 2 samples",
        "sigma from 0.05 to 20 mV",
        "64 signals in",
        "Mean squared error per sample of the denoised signal, on 20 signals",
        "on some held-out signals and on as\nmany that training saw",
    ):
        assert part in text
    assert "picture" not in text
    assert "pixel" not in text
