"""How well reverse solvers keep a prior: ``bayes1bit bench reverse``.

The prior is a mixture whose components are pictures, each with standard deviation 0.25 about it.
A solver that walks from pure noise to a picture in few steps should leave exactly that spread, and
lead to every picture equally often.
"""

from typing import Any, get_args

import torch
from torch import Tensor

from bayes1bit.diffusion import (
    DDIM,
    Ancestral,
    GaussianMixturePrior,
    Heun,
    Multistep,
    ReverseSolver,
    StochasticMultistep,
    VarianceCorrected,
    count_evaluations,
    karras_levels,
    levels_to_normal,
)
from bayes1bit.diffusion.levels import Spacing

SCALE = 0.25
SIGMA_MAX, SIGMA_MIN = 80.0, 0.01
SOLVERS: tuple[ReverseSolver, ...] = (
    Ancestral(),
    VarianceCorrected(),
    StochasticMultistep(),
    DDIM(),
    Heun(),
    Multistep(),
)


def reverse_table(
    means: Tensor, *, steps: tuple[int, ...] = (10, 20), num_samples: int = 512
) -> list[dict[str, Any]]:
    """Run every solver on a mixture prior with the given means.

    Args:
        means: Component means, shape (components, *event).
        steps: Numbers of levels to try, in Karras spacing from 80 to 0.01.
        num_samples: Draws for each row.

    Returns:
        One row per number of steps and solver: denoiser calls, the standard deviation about the
        nearest component, its error, and the number of components reached.
    """
    prior = GaussianMixturePrior(means, SCALE, sigma_max=SIGMA_MAX, sigma_min=SIGMA_MIN)
    rows = []
    for num in steps:
        levels = torch.cat([karras_levels(SIGMA_MAX, SIGMA_MIN, num), torch.zeros(1)])
        noise = SIGMA_MAX * torch.randn(num_samples, *prior.event_shape).to(means)
        for solver in SOLVERS:
            with torch.no_grad(), count_evaluations(prior) as count:
                x = solver(prior, noise, levels)
            nearest = prior.component_log_probs(x).argmax(-1)
            spread = (x - prior.means[nearest]).square().mean().sqrt().item()
            rows.append(
                {
                    "steps": num,
                    "solver": repr(solver),
                    "NFE": count.signals / num_samples,
                    "spread": spread,
                    "true": SCALE,
                    "error %": round(100 * (spread / SCALE - 1), 2),
                    "components": len(nearest.unique()),
                }
            )
    return rows


def shares_table(
    means: Tensor, *, steps: tuple[int, ...] = (8, 14), num_samples: int = 20_000
) -> list[dict[str, Any]]:
    """See how evenly the walks of lookahead SMC end in components of equal weight.

    Args:
        means: Component means, shape (components, *event).
        steps: Numbers of levels to try (:func:`~bayes1bit.diffusion.levels.levels_to_normal`).
        num_samples: Walks for each row.

    Returns:
        One row per number of steps, spacing and solver: the standard deviation of the components'
        shares over their mean, less what chance gives; and what chance gives, which a difference
        has to exceed to be one.
    """
    prior = GaussianMixturePrior(means, SCALE, sigma_max=SIGMA_MAX, sigma_min=SIGMA_MIN)
    num_components, rows = len(prior.means), []
    for num in steps:
        for spacing in get_args(Spacing):
            walk = levels_to_normal(prior.error, SIGMA_MAX, SIGMA_MIN, num, spacing)
            levels = torch.tensor([*walk, 0.0])
            for solver in (VarianceCorrected(), StochasticMultistep()):
                with torch.no_grad():
                    noise = SIGMA_MAX * torch.randn(num_samples, *prior.event_shape).to(means)
                    probs = prior.component_log_probs(solver(prior, noise, levels)).exp().double()
                shares = num_components * probs
                chance = float(shares.var(0).mean() / num_samples)
                excess = float(shares.mean(0).var()) - chance
                rows.append(
                    {
                        "steps": len(walk),
                        "levels": spacing,
                        "solver": repr(solver),
                        "uneven %": round(100 * max(excess, 0.0) ** 0.5, 1),
                        "chance %": round(100 * chance**0.5, 1),
                    }
                )
    return rows
