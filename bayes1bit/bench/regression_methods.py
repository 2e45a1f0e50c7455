"""The methods of a regression benchmark: from answers to a posterior of template and intercept.

Algorithms that infer other latent sites infer the intercept with the template. For all others it
is fixed at an estimate from the share of yes, and drawn given each of their samples afterwards.
That is one step of a Gibbs sampler from a good start: noise of mean zero says nothing of a
template that an intercept could imitate, so that an error of the intercept adds to the template's
uncertainty only in second order.
"""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bayes1bit.bench.linear_classifiers import cross_validated_ridge, gaussian_posterior
from bayes1bit.bench.recovery import Maker
from bayes1bit.bench.regression_problem import Experiment, Problem
from bayes1bit.infer.parameter_steps import SliceStep
from bayes1bit.models.psychophysics import SIGNAL_OF_OBSERVER
from bayes1bit.posterior import Posterior

NUTS_SAMPLES = NUTS_WARMUP = 200

_SLICES = 10
"""Slice sampling steps of an intercept given the template, in one dimension."""

Fit = Callable[[Problem, Experiment], Posterior]
"""A method: from answers to a posterior of templates and of the site "intercept"."""


def truth(problem: Problem, experiment: Experiment) -> Posterior:
    """The observer itself."""
    observer = experiment.observer
    intercept = torch.tensor([observer.intercept])
    return Posterior(observer.template[None], latents={"intercept": intercept})


def ridge(problem: Problem, experiment: Experiment) -> Posterior:
    """Cross-validated ridge regression, as a posterior of one sample."""
    started, data = time.perf_counter(), experiment.training
    covariates = data.stimuli.flatten(1).double().numpy()
    rng = np.random.default_rng(experiment.seed)
    fit = cross_validated_ridge(covariates, data.answers.double().numpy(), rng)
    coefficients = torch.from_numpy(fit.coefficients[None]).float()
    return Posterior(
        experiment.observer.coefficients_as_templates(coefficients),
        latents={"intercept": torch.tensor([fit.intercept])},
        seconds=time.perf_counter() - started,
    )


def gaussian_nuts(problem: Problem, experiment: Experiment) -> Posterior:
    """The posterior of a Gaussian prior with learned scale."""
    started, data = time.perf_counter(), experiment.training
    draws = gaussian_posterior(data.stimuli.flatten(1), data.answers, NUTS_SAMPLES, NUTS_WARMUP)
    return Posterior(
        experiment.observer.coefficients_as_templates(draws.coefficients),
        latents={"intercept": draws.intercept},
        seconds=time.perf_counter() - started,
    )


BASELINES: dict[str, Fit] = {"observer": truth, "ridge": ridge, "gaussian-nuts": gaussian_nuts}


def with_diffusion_prior(maker: Maker) -> Fit:
    """The method that runs an algorithm on the model with the diffusion prior."""

    def fit(problem: Problem, experiment: Experiment) -> Posterior:
        started, data = time.perf_counter(), experiment.training
        answers = data.answers.to(problem.prior.device, problem.prior.dtype)
        algorithm = maker(problem.model(data.stimuli))
        if algorithm.takes_parameters:
            return algorithm.run(answers)
        intercept = estimate_intercept(data.answers)
        posterior = maker(problem.model(data.stimuli, intercept)).run(answers)
        logits = experiment.observer.logits(posterior.samples.cpu().float(), data.stimuli)
        posterior.latents = {"intercept": draw_intercepts(logits, data.answers, intercept)}
        posterior.seconds = time.perf_counter() - started
        return posterior

    return fit


def estimate_intercept(answers: Tensor) -> float:
    r"""The intercept of a typical observer with this share of yes.

    White stimuli move the logit by a normal variable of standard deviation s
    (:data:`~bayes1bit.models.psychophysics.SIGNAL_OF_OBSERVER`), which draws the share of yes
    towards one half: :math:`E[\mathrm{sigmoid}(b + s n)] \approx
    \mathrm{sigmoid}(b / \sqrt{1 + \pi s^2 / 8})`.

    Args:
        answers: 0 and 1, shape (m,).
    """
    share = (float(answers.sum()) + 0.5) / (len(answers) + 1)  # finite without a yes or a no
    return math.sqrt(1 + math.pi / 8 * SIGNAL_OF_OBSERVER**2) * math.log(share / (1 - share))


def draw_intercepts(logits: Tensor, answers: Tensor, start: float) -> Tensor:
    """Draw the intercept given templates and answers, by slice sampling.

    Args:
        logits: What the templates make of the stimuli, without an intercept, shape
            (num_samples, m).
        answers: 0 and 1, shape (m,).
        start: Where to start.

    Returns:
        Intercepts under a standard normal prior, shape (num_samples,).
    """
    signs = 2 * answers - 1

    def log_density(z: Tensor) -> Tensor:
        likelihood = torch.nn.functional.logsigmoid(signs * (logits + z))
        return likelihood.sum(1) - 0.5 * z[:, 0].square()

    step = SliceStep(logits.new_tensor([4 / len(answers) ** 0.5]))  # about two standard errors
    z = torch.full_like(logits[:, :1], start)
    for _ in range(_SLICES):
        z = step(log_density, z)
    return z[:, 0]
