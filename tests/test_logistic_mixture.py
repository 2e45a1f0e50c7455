"""The mixture is the sigmoid to 1e-8, and the script computes the constants."""

import runpy
from pathlib import Path

import numpy as np
from scipy.special import expit, ndtr

from bayes1bit.logistic_mixture import PROBABILITIES, SCALES

SCRIPT = Path(__file__).parents[1] / "scripts" / "fit_logistic_mixture.py"


def test_error_on_the_whole_line():
    z = np.concatenate([np.linspace(-80, 80, 160_001), np.geomspace(1e-8, 1, 1000)])
    mixture = ndtr(np.outer(z, SCALES)) @ np.array(PROBABILITIES)
    assert np.abs(mixture - expit(z)).max() < 2.2e-9
    assert abs(sum(PROBABILITIES) - 1) < 1e-14
    assert min(PROBABILITIES) > 0


def test_script_computes_the_constants():
    probabilities, scales = runpy.run_path(str(SCRIPT))["fit"]()
    # the fit is ill-conditioned: rounding of another platform may show at 1e-6
    np.testing.assert_allclose(probabilities, PROBABILITIES, rtol=1e-5)
    np.testing.assert_allclose(scales, SCALES, rtol=1e-5)
