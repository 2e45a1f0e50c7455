r"""One-bit and few-bit measurements as Pyro distributions.

A coarse sensor sees ``loc + scale * noise``, where ``loc = A(x)`` is what the operator delivers,
and reports only on which side of a threshold (:class:`OneBit`), or in which bin
(:class:`Quantized`), the sum lies. A sensor of single photons says whether there was one
(:class:`PhotonDetection`). Each class is both the simulator and the exact likelihood of such a
sensor, so the two cannot disagree::

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(A(x), scale=0.5).to_event(1), obs=y)

With ``threshold = 0`` one-bit data keep no trace of the amplitude of the signal except through
``scale``; known, varying thresholds (dither) make it observable.

Logistic noise makes :class:`OneBit` logistic regression: ``OneBit(z, 1.0, link="logistic")`` on
``y`` in {-1, +1} is ``Bernoulli(logits=z)`` on ``(y + 1) / 2``.

Log-probabilities are never formed from probabilities, and nothing is clamped: see
:mod:`bayes1bit.special`. They can be mapped with ``torch.vmap`` once validation is off, which
looks at the data and so cannot be mapped.
"""

from bayes1bit.observation.one_bit import Link, OneBit, signs
from bayes1bit.observation.photons import PhotonDetection
from bayes1bit.observation.quantized import Quantized

__all__ = ["Link", "OneBit", "PhotonDetection", "Quantized", "signs"]
