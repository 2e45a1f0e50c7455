"""Judging results: scores against a known truth, calibration and pictures.

Scores of single signals and of posteriors are in :mod:`~bayes1bit.diagnostics.metrics`, the
distance between sets of pictures in :mod:`~bayes1bit.diagnostics.features`, figures in
:mod:`~bayes1bit.diagnostics.plots`.
"""

from bayes1bit.diagnostics.features import RandomConvolutionFeatures, frechet_distance
from bayes1bit.diagnostics.metrics import bit_agreement, coverage, psnr, ssim
from bayes1bit.diagnostics.plots import plot_grid, plot_posterior

__all__ = [
    "RandomConvolutionFeatures",
    "bit_agreement",
    "coverage",
    "frechet_distance",
    "plot_grid",
    "plot_posterior",
    "psnr",
    "ssim",
]
