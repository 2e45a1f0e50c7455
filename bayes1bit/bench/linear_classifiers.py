r"""Logistic regression without a diffusion prior: what statisticians would take first.

Both treat every coefficient alike. Ridge regression maximises the likelihood less a penalty
:math:`\frac{\lambda}{2} \lVert \beta \rVert^2`, which cross-validation chooses (Hoerl and Kennard,
Technometrics 1970; le Cessie and van Houwelingen, Applied Statistics 1992). The Bayesian version,
:math:`\beta \sim N(0, \tau^2 I)` with :math:`\tau` unknown, is drawn from by Pyro's NUTS.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyro
import pyro.infer
from numpy.typing import NDArray
from pyro import distributions as dist
from torch import Tensor

from bayes1bit.errors import InputError

PENALTIES = tuple(10.0 ** (k / 2) for k in range(10, 1, -1))
"""From strong to weak, so that each solution is the start of the next."""
_FOLDS = 5
_TOLERANCE = 1e-6
_MAX_ITERATIONS = 500

Array = NDArray[np.float64]


class RidgeFit(NamedTuple):
    """A solution of ridge logistic regression.

    Attributes:
        coefficients: Shape (n,).
        intercept: The intercept, which is not penalised.
        penalty: The penalty.
    """

    coefficients: Array
    intercept: float
    penalty: float


class GaussianDraws(NamedTuple):
    """Posterior draws of logistic regression with a Gaussian prior.

    Attributes:
        coefficients: Shape (num_samples, n).
        intercept: Shape (num_samples,).
        scale: The prior's standard deviation tau, shape (num_samples,).
    """

    coefficients: Tensor
    intercept: Tensor
    scale: Tensor


def ridge_objective(
    parameters: Array, covariates: Array, answers: Array, penalty: float
) -> tuple[float, Array]:
    """Penalised negative log-likelihood and its gradient.

    Args:
        parameters: Coefficients and, last, the intercept, shape (n + 1,).
        covariates: Shape (m, n).
        answers: 0 and 1, shape (m,).
        penalty: The lambda above.

    Returns:
        Value in nats and gradient, shape (n + 1,).
    """
    from scipy.special import expit

    coefficients, intercept = parameters[:-1], parameters[-1]
    logits = covariates @ coefficients + intercept
    value = np.logaddexp(0.0, logits).sum() - answers @ logits
    residual = expit(logits) - answers
    gradient = np.append(covariates.T @ residual + penalty * coefficients, residual.sum())
    return float(value + 0.5 * penalty * coefficients @ coefficients), gradient


def fit_ridge(
    covariates: Array, answers: Array, penalty: float, start: RidgeFit | None = None
) -> RidgeFit:
    """Ridge logistic regression by L-BFGS.

    Args:
        covariates: Shape (m, n).
        answers: 0 and 1, shape (m,).
        penalty: Positive penalty.
        start: A solution for a similar penalty.

    Returns:
        The solution.

    Raises:
        FloatingPointError: If it is not found.
    """
    from scipy.optimize import minimize

    parameters = np.zeros(covariates.shape[1] + 1)
    if start is not None:
        parameters = np.append(start.coefficients, start.intercept)
    result = minimize(
        ridge_objective,
        parameters,
        (covariates, answers, penalty),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": _MAX_ITERATIONS, "gtol": _TOLERANCE * len(answers), "ftol": 1e-12},
    )
    if not np.isfinite(result.fun) or result.nit >= _MAX_ITERATIONS:
        raise FloatingPointError(f"ridge regression has not converged: {result.message}")
    return RidgeFit(result.x[:-1], float(result.x[-1]), penalty)


def cross_validated_ridge(
    covariates: Array,
    answers: Array,
    rng: np.random.Generator,
    penalties: Sequence[float] = PENALTIES,
) -> RidgeFit:
    """Ridge logistic regression with the penalty of the smallest log loss in five folds.

    Args:
        covariates: Shape (m, n).
        answers: 0 and 1, shape (m,).
        rng: Draws the folds.
        penalties: Candidates.

    Returns:
        The solution on all data.

    Raises:
        InputError: If there are fewer data than folds.
        FloatingPointError: If a solution is not found.
    """
    if len(answers) < _FOLDS:
        raise InputError(f"cross-validation needs at least {_FOLDS} data, got {len(answers)}")
    fold = rng.permutation(len(answers)) % _FOLDS
    losses = np.zeros(len(penalties))
    for k in range(_FOLDS):
        held_out = fold == k
        fit = None
        for i, penalty in enumerate(penalties):
            fit = fit_ridge(covariates[~held_out], answers[~held_out], penalty, fit)
            logits = covariates[held_out] @ fit.coefficients + fit.intercept
            losses[i] += np.logaddexp(0.0, logits).sum() - answers[held_out] @ logits
    return fit_ridge(covariates, answers, penalties[int(losses.argmin())])


def gaussian_posterior(
    covariates: Tensor, answers: Tensor, num_samples: int, num_warmup: int
) -> GaussianDraws:
    r"""Draw from logistic regression with a Gaussian prior of learned scale, by Pyro's NUTS.

    .. math:: \beta = \tau u, \quad u \sim N(0, I), \quad \log \tau \sim N(-\tfrac12 \log n, 1),
              \quad \mathrm{intercept} \sim N(0, 1)

    For covariates of unit variance the logit then moves by about one, within a factor. The
    intercept and log tau are drawn in units of about the width that they have while u is fixed.
    With widths so much alike no mass matrix has to be learned: from a few hundred draws a thousand
    variances would come out so rough that trajectories get long.

    Args:
        covariates: Shape (m, n).
        answers: 0 and 1, shape (m,).
        num_samples: Number of draws, of one chain.
        num_warmup: Steps before the first of them.

    Returns:
        The draws.
    """
    m, n = covariates.shape
    width = 1.0 / m**0.5
    zero = covariates.new_zeros(())

    def model() -> None:
        unit = pyro.sample("unit", dist.Normal(zero.expand(n), 1.0).to_event(1))
        log_scale = width * pyro.sample("log_scale", dist.Normal(zero, 1.0 / width))
        intercept = 2.0 * width * pyro.sample("intercept", dist.Normal(zero, 0.5 / width))
        logits = covariates @ (log_scale.exp() / n**0.5 * unit) + intercept
        pyro.sample("y", dist.Bernoulli(logits=logits).to_event(1), obs=answers)

    kernel = pyro.infer.NUTS(model, adapt_mass_matrix=False)
    mcmc = pyro.infer.MCMC(kernel, num_samples, warmup_steps=num_warmup, disable_progbar=True)
    # looking at every value costs as much as the model itself
    with pyro.validation_enabled(False):
        mcmc.run()
    draws: dict[str, Tensor] = mcmc.get_samples()
    scale = (width * draws["log_scale"]).exp() / n**0.5
    intercept = 2.0 * width * draws["intercept"]
    return GaussianDraws(scale[:, None] * draws["unit"], intercept, scale)
