"""Sensing operators: linear maps from signals to measurements, and effects on their calls.

===================  ===================  ========  =============  ===============================
operator             memory               in files  ``row_gram``   for
===================  ===================  ========  =============  ===============================
:class:`Dense`       m n                  matrix    None           a matrix of one's own
:class:`Gaussian`    m n                  seed      None           the setting of most papers
:class:`Hadamard`    O(n)                 seed      n / m          large signals, exact data steps
:class:`DCT`         O(n)                 seed      n / m          the same, by one FFT for any n
:class:`Identity`    nothing              shape     1              quantized signals and pictures
:class:`Downsample`  one matrix per axis  shape     1 / f^2 (box)  super-resolution
===================  ===================  ========  =============  ===============================
"""

from bayes1bit.operators.base import Adjoint, LinearOperator, from_dict
from bayes1bit.operators.dense import Dense, Gaussian
from bayes1bit.operators.effects import OperatorCall, record_operators, replace_output
from bayes1bit.operators.resample import Downsample, Identity
from bayes1bit.operators.subsampled import DCT, Hadamard

__all__ = [
    "DCT",
    "Adjoint",
    "Dense",
    "Downsample",
    "Gaussian",
    "Hadamard",
    "Identity",
    "LinearOperator",
    "OperatorCall",
    "from_dict",
    "record_operators",
    "replace_output",
]
