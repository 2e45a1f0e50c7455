"""Every ready-made model runs with every algorithm that accepts it; the others say why not."""

import pyro
import pytest
from short_runs import SHORT
from test_models_posterior import CHANNELS, EVENT, LEVELS, MODELS, PRIOR, ROWS, KnownIntercept

from bayes1bit import models
from bayes1bit.errors import InputError
from bayes1bit.infer import ALGORITHMS
from bayes1bit.infer.registry import make_algorithm
from bayes1bit.operators import Dense

WITH_LATENTS = {
    "unknown_gain_cs": models.unknown_gain_cs(PRIOR, Dense(ROWS, EVENT), 0.3, CHANNELS, LEVELS),
    "classification_images": models.classification_images(PRIOR, KnownIntercept.stimuli, 2.0),
}
LATENTS = {"unknown_gain_cs": {"gain"}, "classification_images": {"intercept"}}
ONE_BIT = ("one_bit_cs", "logistic_regression", "bradley_terry")


def refusal(model, algorithm):
    """What an algorithm says of a model that it does not take, or None."""
    if model in WITH_LATENTS:
        return None if algorithm in ("joint-gibbs", "split-gibbs-smc") else "other latent sites"
    if algorithm == "joint-gibbs":
        return "infers other latent sites beside the signal, but this model has none"
    if algorithm in ("gaussian-gibbs", "biht", "plan-vershynin") and model not in ONE_BIT:
        return "needs one-bit measurements of one linear operator"
    return None


def test_no_ready_made_model_is_left_out():
    ready_made = {name for name in models.__all__ if name.islower() and name[:5] != "check"}
    assert ready_made - {"observer_gain"} == {*MODELS, *WITH_LATENTS}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", MODELS | WITH_LATENTS)
def test_every_model_runs_with_every_algorithm_that_accepts_it(name, algorithm):
    model = (MODELS | WITH_LATENTS)[name]
    pyro.set_rng_seed(0)
    y = model()
    spec = f"{algorithm} {SHORT.get(algorithm, '')}"
    method = make_algorithm(spec, model, num_samples=4, progress=False)
    why = refusal(name, algorithm)
    if why is not None:
        with pytest.raises(InputError, match=why):
            method.run(y)
        return
    posterior = method.run(y)
    assert posterior.samples.shape[1:] == EVENT
    assert posterior.samples.isfinite().all()
    assert posterior.log_likelihood["y"].isfinite().all()
    assert set(posterior.latents) == LATENTS.get(name, set())
