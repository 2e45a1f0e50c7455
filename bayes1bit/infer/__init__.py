"""Inference: a model's target, its parts, and the algorithms made of them."""

from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.data_steps import (
    AugmentedGibbsStep,
    ExactStep,
    LangevinStep,
    best_draw_step,
)
from bayes1bit.infer.diff_onebit import DiffOneBit
from bayes1bit.infer.steps import DataStep, GradientStep, ProximalStep
from bayes1bit.infer.structure import OneBitForm, Structure
from bayes1bit.infer.target import Target

__all__ = [
    "Algorithm",
    "AugmentedGibbsStep",
    "DataStep",
    "DiffOneBit",
    "Draws",
    "ExactStep",
    "GradientStep",
    "LangevinStep",
    "OneBitForm",
    "ProximalStep",
    "Structure",
    "Target",
    "best_draw_step",
]
