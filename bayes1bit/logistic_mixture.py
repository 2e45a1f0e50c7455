r"""The logistic law as a mixture of normal laws.

Logistic noise is normal noise of random variance, so that

.. math:: \operatorname{sigmoid}(z) \approx \sum_{k=1}^{8} p_k \Phi(s_k z)

holds for a few constants with an error that no data can show: at most 2.2e-9 on the whole line.
With it everything that has a closed form for normal noise has one for logistic noise: sum over the
component, or draw it first. A standard logistic variable is then normal with standard deviation
:math:`1 / s_k` with probability :math:`p_k`.

The error is absolute. Beyond :math:`|z| \approx 20`, where the sigmoid itself is below 2e-9, the
mixture's tail falls faster than the exponential one.

``scripts/fit_logistic_mixture.py`` computes and prints the constants.

Reference: Monahan and Stefanski, *Normal scale mixture approximations to F*(z) and computation of
the logistic-normal integral*, in Handbook of the Logistic Distribution (1992).
"""

PROBABILITIES = (
    0.003246317048520,
    0.051517303202076,
    0.195077868680950,
    0.315570180161683,
    0.274149800988487,
    0.131076717841063,
    0.027912261601178,
    0.001449550476043,
)
SCALES = (
    1.365341522750178,
    1.059524481130650,
    0.830791579978390,
    0.650732209002655,
    0.508135305909424,
    0.396313137750575,
    0.308904029385233,
    0.238212438544815,
)
