"""Sensing operators: linear maps from signals to measurements, and effects on their calls.

========================  =====================  ============  ==============================
operator                  storage                ``row_gram``  for
========================  =====================  ============  ==============================
:class:`Dense`            the matrix             None          a matrix of one's own
:class:`Gaussian`         the matrix (file: seed) None         the setting of most papers
:class:`Hadamard`         O(n) (file: seed)      n / m         large signals, exact data steps
:class:`DCT`              O(n) (file: seed)      n / m         the same, for any n one FFT
:class:`Identity`         nothing                1             quantized signals and pictures
:class:`Downsample`       one matrix per axis    1 / f^2       super-resolution
========================  =====================  ============  ==============================
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
