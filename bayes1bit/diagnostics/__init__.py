"""Judging results: scores against a known truth, calibration and pictures.

Scores of single signals and of posteriors are in :mod:`~bayes1bit.diagnostics.metrics`, the
distance between sets of pictures in :mod:`~bayes1bit.diagnostics.features`, figures in
:mod:`~bayes1bit.diagnostics.plots`.
"""
