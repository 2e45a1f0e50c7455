r"""Fit the constants of ``bayes1bit/logistic_mixture.py``, and print them.

The error :math:`e(z) = \sum_k p_k \Phi(s_k z) - \operatorname{sigmoid}(z)` is an odd function.
With K components, and probabilities that sum to one, there are 2K - 1 parameters, and the largest
error is smallest where its 2K extrema on z > 0 are equal in size and alternate in sign. Scales in
geometric progression are nearly right. From them Gauss-Newton finds the least-squares fit, whose
error alternates already; the exchange algorithm of Remez makes the extrema equal::

    python scripts/fit_logistic_mixture.py

Reference: Monahan and Stefanski, *Normal scale mixture approximations to F*(z) and computation of
the logistic-normal integral*, in Handbook of the Logistic Distribution (1992).
"""

import numpy as np
from scipy.optimize import nnls
from scipy.special import expit, ndtr

NUM_COMPONENTS = 8
GRID = np.geomspace(0.05, 60.0, 4000)


def mixture_error(p: np.ndarray, s: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Mixture less sigmoid at positive arguments, from upper tails, which do not cancel."""
    return expit(-z) - ndtr(-np.outer(z, s)) @ p + (p.sum() - 1)


def derivatives(p: np.ndarray, s: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Derivatives of the error by ``p`` and by the logarithm of ``s``, shape (len(z), 2K)."""
    arguments = np.outer(z, s)
    densities = np.exp(-0.5 * arguments**2) / np.sqrt(2 * np.pi)
    return np.hstack([ndtr(arguments), p * arguments * densities])


def least_squares(iterations: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Newton on the grid, from scales in geometric progression."""
    s = np.geomspace(1.35, 0.24, NUM_COMPONENTS)
    p, _ = nnls(ndtr(-np.outer(GRID, s)), expit(-GRID))
    for _ in range(iterations):
        step = np.linalg.lstsq(derivatives(p, s, GRID), -mixture_error(p, s, GRID), rcond=None)[0]
        p, s = p + step[:NUM_COMPONENTS], s * np.exp(step[NUM_COMPONENTS:])
    return p, s


def exchange(p: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make the error equal in size, and alternating, where its extrema are now.

    Args:
        p: Probabilities.
        s: Scales.

    Returns:
        New probabilities and scales.

    Raises:
        RuntimeError: If the error does not alternate.
    """
    error = mixture_error(p, s, GRID)
    turns = np.flatnonzero(np.diff(np.sign(np.diff(error)))) + 1
    z, signs = GRID[turns], np.sign(error[turns])
    # rounding adds extrema at the far end
    z, signs = z[: 2 * NUM_COMPONENTS], signs[: 2 * NUM_COMPONENTS]
    if len(z) < 2 * NUM_COMPONENTS or (signs[1:] == signs[:-1]).any():
        raise RuntimeError(f"the error does not alternate: its extrema have the signs {signs}")
    sums = np.concatenate([np.ones(NUM_COMPONENTS), np.zeros(NUM_COMPONENTS + 1)])
    for _ in range(6):
        matrix = np.vstack([np.hstack([derivatives(p, s, z), -signs[:, None]]), sums])
        right = np.concatenate([-mixture_error(p, s, z), [1 - p.sum()]])
        step = np.linalg.solve(matrix, right)
        p, s = p + step[:NUM_COMPONENTS], s * np.exp(step[NUM_COMPONENTS:-1])
    return p, s


def fit() -> tuple[np.ndarray, np.ndarray]:
    """Fit the mixture: probabilities and scales, by decreasing scale."""
    p, s = least_squares()
    for _ in range(5):
        p, s = exchange(p, s)
    return p, s


if __name__ == "__main__":
    probabilities, scales = fit()
    for name, values in (("PROBABILITIES", probabilities), ("SCALES", scales)):
        print(f"{name} = (")
        for value in values:
            print(f"    {value:.15f},")
        print(")")
    largest = np.abs(mixture_error(probabilities, scales, GRID)).max()
    print(f"# largest error {largest:.2e}")
