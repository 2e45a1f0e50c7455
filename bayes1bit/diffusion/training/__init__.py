"""Training a diffusion prior from a recipe: ``bayes1bit train RECIPE --data PATH --out DIR``."""

from bayes1bit.diffusion.training.recipe import Recipe

__all__ = ["Recipe"]
