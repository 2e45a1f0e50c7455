"""Measurements of the package itself: what ``bayes1bit bench`` runs."""
