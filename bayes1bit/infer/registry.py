"""All inference algorithms by name: what the documentation and the command line read."""

from bayes1bit.infer.algorithm import Algorithm
from bayes1bit.infer.biht import BIHT
from bayes1bit.infer.daps import DAPS
from bayes1bit.infer.diff_onebit import DiffOneBit
from bayes1bit.infer.diffpir import DiffPIR
from bayes1bit.infer.dps import DPS
from bayes1bit.infer.gaussian_gibbs import GaussianGibbs
from bayes1bit.infer.langevin import Langevin
from bayes1bit.infer.nuts import NUTS
from bayes1bit.infer.plan_vershynin import PlanVershynin
from bayes1bit.infer.pnp_onebit import PnPOneBit
from bayes1bit.infer.qcs_sgm import QCSSGM
from bayes1bit.infer.sim_dmis import SIMDMIS
from bayes1bit.infer.split_gibbs import SplitGibbs
from bayes1bit.infer.split_gibbs_smc import SplitGibbsSMC

ALGORITHMS: dict[str, type[Algorithm]] = {
    "split-gibbs-smc": SplitGibbsSMC,
    "split-gibbs": SplitGibbs,
    "langevin": Langevin,
    "nuts": NUTS,
    "diff-onebit": DiffOneBit,
    "pnp-onebit": PnPOneBit,
    "dps": DPS,
    "daps": DAPS,
    "diffpir": DiffPIR,
    "sim-dmis": SIMDMIS,
    "qcs-sgm": QCSSGM,
    "gaussian-gibbs": GaussianGibbs,
    "biht": BIHT,
    "plan-vershynin": PlanVershynin,
}
