"""Inference: a model's target, its parts, and the algorithms made of them."""

from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.annealing import NoiseSplitting, Path, Tempering, path_of
from bayes1bit.infer.biht import BIHT
from bayes1bit.infer.daps import DAPS
from bayes1bit.infer.data_steps import AugmentedGibbsStep, ExactStep, LangevinStep, best_draw_step
from bayes1bit.infer.diff_onebit import DiffOneBit
from bayes1bit.infer.diffpir import DiffPIR
from bayes1bit.infer.dps import DPS
from bayes1bit.infer.gaussian_gibbs import GaussianGibbs
from bayes1bit.infer.guidance import guided_denoise
from bayes1bit.infer.joint_gibbs import JointGibbs
from bayes1bit.infer.langevin import Langevin
from bayes1bit.infer.lookahead_smc import LookaheadSMC
from bayes1bit.infer.misfit import LeastSquaresStep
from bayes1bit.infer.moment_matched import MomentMatched
from bayes1bit.infer.moves import Move
from bayes1bit.infer.nuts import NUTS
from bayes1bit.infer.plan_vershynin import PlanVershynin
from bayes1bit.infer.pnp_onebit import PnPOneBit
from bayes1bit.infer.prior_steps import PosteriorMean, PriorStep, ReverseDiffusion, SampleGiven
from bayes1bit.infer.qcs_sgm import QCSSGM
from bayes1bit.infer.registry import ALGORITHMS
from bayes1bit.infer.sim_dmis import SIMDMIS
from bayes1bit.infer.split_gibbs import SplitGibbs
from bayes1bit.infer.split_gibbs_smc import SplitGibbsSMC
from bayes1bit.infer.steps import DataStep, GradientStep, ProximalStep
from bayes1bit.infer.structure import OneBitForm, Structure
from bayes1bit.infer.target import Target
from bayes1bit.infer.together import run_together
from bayes1bit.infer.twisted_smc import TwistedSMC

__all__ = [
    "ALGORITHMS",
    "BIHT",
    "DAPS",
    "DPS",
    "NUTS",
    "QCSSGM",
    "SIMDMIS",
    "Algorithm",
    "AugmentedGibbsStep",
    "DataStep",
    "DiffOneBit",
    "DiffPIR",
    "Draws",
    "ExactStep",
    "GaussianGibbs",
    "GradientStep",
    "JointGibbs",
    "Langevin",
    "LangevinStep",
    "LeastSquaresStep",
    "LookaheadSMC",
    "MomentMatched",
    "Move",
    "NoiseSplitting",
    "OneBitForm",
    "Path",
    "PlanVershynin",
    "PnPOneBit",
    "PosteriorMean",
    "PriorStep",
    "ProximalStep",
    "ReverseDiffusion",
    "SampleGiven",
    "SplitGibbs",
    "SplitGibbsSMC",
    "Structure",
    "Target",
    "Tempering",
    "TwistedSMC",
    "best_draw_step",
    "guided_denoise",
    "path_of",
    "run_together",
]
