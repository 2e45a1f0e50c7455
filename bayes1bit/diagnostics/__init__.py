"""Judging results: scores against a known truth, calibration and pictures.

Scores of single signals and of posteriors are in :mod:`~bayes1bit.diagnostics.metrics`, those of
one-dimensional signals in :mod:`~bayes1bit.diagnostics.waveforms`, the distance between sets of
pictures in :mod:`~bayes1bit.diagnostics.features`, figures in :mod:`~bayes1bit.diagnostics.plots`.
Whether posteriors are as wide as they should be, over many runs, is tested in
:mod:`~bayes1bit.diagnostics.calibration`.

Models are criticised in :mod:`~bayes1bit.diagnostics.bit_checks`,
:mod:`~bayes1bit.diagnostics.reliability` and :mod:`~bayes1bit.diagnostics.sensitivity`, and
compared in :mod:`~bayes1bit.diagnostics.comparison`; further figures are in
:mod:`~bayes1bit.diagnostics.maps`, :mod:`~bayes1bit.diagnostics.chain_plots`,
:mod:`~bayes1bit.diagnostics.bit_plots` and :mod:`~bayes1bit.diagnostics.comparison_plots`.
"""

from bayes1bit.diagnostics.bit_checks import check_bits, check_predictions
from bayes1bit.diagnostics.bit_plots import (
    plot_bit_agreement,
    plot_bit_calibration,
    plot_predictive_checks,
)
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
from bayes1bit.diagnostics.chain_plots import plot_ranks, plot_traces
from bayes1bit.diagnostics.comparison import compare_evidence, compare_loo, leave_one_out
from bayes1bit.diagnostics.comparison_plots import (
    plot_ess_per_nfe,
    plot_quality,
    plot_recovery_file,
)
from bayes1bit.diagnostics.features import RandomConvolutionFeatures, frechet_distance
from bayes1bit.diagnostics.maps import exceedance, plot_exceedance, plot_spread
from bayes1bit.diagnostics.metrics import bit_agreement, coverage, psnr, ssim
from bayes1bit.diagnostics.plots import plot_grid, plot_posterior
from bayes1bit.diagnostics.reliability import bit_calibration
from bayes1bit.diagnostics.sensitivity import compare_priors, power_sensitivity
from bayes1bit.diagnostics.waveforms import r_peak, r_peak_error, snr

__all__ = [
    "RandomConvolutionFeatures",
    "bit_agreement",
    "bit_calibration",
    "check_bits",
    "check_predictions",
    "compare_evidence",
    "compare_loo",
    "compare_priors",
    "coverage",
    "coverage_curve",
    "exceedance",
    "expected_coverage",
    "frechet_distance",
    "interval_coverage",
    "interval_hits",
    "leave_one_out",
    "plot_bit_agreement",
    "plot_bit_calibration",
    "plot_coverage",
    "plot_ess_per_nfe",
    "plot_exceedance",
    "plot_grid",
    "plot_posterior",
    "plot_predictive_checks",
    "plot_quality",
    "plot_ranks",
    "plot_recovery_file",
    "plot_sbc",
    "plot_spread",
    "plot_traces",
    "pooled_coverage",
    "power_sensitivity",
    "psnr",
    "r_peak",
    "r_peak_error",
    "sbc_ranks",
    "sbc_test",
    "snr",
    "ssim",
    "tarp_rank",
]
