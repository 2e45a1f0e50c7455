"""Judging results: scores against a known truth, calibration and pictures.

Scores of single signals and of posteriors are in :mod:`~bayes1bit.diagnostics.metrics`, those of
one-dimensional signals in :mod:`~bayes1bit.diagnostics.waveforms`, the distance between sets of
pictures in :mod:`~bayes1bit.diagnostics.features`, figures in :mod:`~bayes1bit.diagnostics.plots`.
Whether posteriors are as wide as they should be, over many runs, is tested in
:mod:`~bayes1bit.diagnostics.calibration`.
"""

from bayes1bit.diagnostics.calibration import (
    coverage_curve,
    expected_coverage,
    interval_coverage,
    interval_hits,
    pooled_coverage,
    sbc_ranks,
    sbc_test,
    tarp_rank,
)
from bayes1bit.diagnostics.calibration_plots import plot_coverage, plot_sbc
from bayes1bit.diagnostics.features import RandomConvolutionFeatures, frechet_distance
from bayes1bit.diagnostics.metrics import bit_agreement, coverage, psnr, ssim
from bayes1bit.diagnostics.plots import plot_grid, plot_posterior
from bayes1bit.diagnostics.waveforms import r_peak, r_peak_error, snr

__all__ = [
    "RandomConvolutionFeatures",
    "bit_agreement",
    "coverage",
    "coverage_curve",
    "expected_coverage",
    "frechet_distance",
    "interval_coverage",
    "interval_hits",
    "plot_coverage",
    "plot_grid",
    "plot_posterior",
    "plot_sbc",
    "pooled_coverage",
    "psnr",
    "r_peak",
    "r_peak_error",
    "sbc_ranks",
    "sbc_test",
    "snr",
    "ssim",
    "tarp_rank",
]
