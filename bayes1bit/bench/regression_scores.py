"""What a regression benchmark scores: predictions of held-out answers, and the template."""

import torch
from torch import Tensor

from bayes1bit.bench.recovery_scores import Scores, varies
from bayes1bit.bench.regression_problem import Answers, Observer
from bayes1bit.diagnostics.metrics import coverage
from bayes1bit.diagnostics.probabilities import (
    ReliabilityCurve,
    accuracy,
    log_loss,
    reliability_curve,
)
from bayes1bit.posterior import Posterior

NUM_BINS = 10
SUMMARY = (
    "accuracy",
    "log loss",
    "calibration error",
    "correlation",
    "coverage 90%",
    "NFE",
    "seconds",
)
"""Scores of a run that tables show."""
CURVE = tuple(f"{part} {k + 1}" for part in ReliabilityCurve._fields for k in range(NUM_BINS))
"""Its reliability curve, bin by bin."""


def predict(posterior: Posterior, observer: Observer, stimuli: Tensor) -> Tensor:
    """Posterior predictive probabilities of yes.

    Args:
        posterior: Templates, and the latent site "intercept".
        observer: Gives gain and background.
        stimuli: Shape (m, *event).

    Returns:
        The average over the posterior's samples, shape (m,).
    """
    equal = posterior.equally_weighted()
    logits = observer.logits(equal.samples.to(stimuli), stimuli)
    probabilities = (logits + equal.latents["intercept"].to(stimuli)[:, None]).sigmoid()
    return probabilities.double().mean(0)


def score(
    posterior: Posterior, observer: Observer, held_out: Answers, deviation: Tensor
) -> Scores:
    """All scores of a posterior.

    Args:
        posterior: Templates, and the latent site "intercept".
        observer: The truth.
        held_out: Answers that the posterior has not seen.
        deviation: Standard deviation of each pixel over templates, shape event; coverage counts
            those that vary.

    Returns:
        Values by the names of :data:`SUMMARY` and :data:`CURVE`. One estimate has no coverage, and
        a bin without answers no point of the curve.
    """
    probabilities = predict(posterior, observer, held_out.stimuli)
    curve = reliability_curve(probabilities, held_out.answers, NUM_BINS)
    mean = posterior.mean.cpu()
    pair = torch.stack([mean.flatten(), observer.template.flatten()]).double()
    scores: Scores = {
        "accuracy": accuracy(probabilities, held_out.answers),
        "log loss": log_loss(probabilities, held_out.answers),
        "calibration error": curve.calibration_error,
        "correlation": float(torch.corrcoef(pair)[0, 1]),
        "coverage 90%": None,
        "NFE": posterior.nfe,
        "seconds": posterior.seconds,
    }
    varying = varies(deviation, (float(observer.template.min()), float(observer.template.max())))
    if posterior.num_samples > 1 and bool(varying.any()):
        samples = posterior.equally_weighted().samples.cpu()
        scores["coverage 90%"] = coverage(samples, observer.template, 0.9, where=varying)
    values = torch.cat(list(curve)).tolist()
    points = (None if value != value else value for value in values)
    return scores | dict(zip(CURVE, points, strict=True))
