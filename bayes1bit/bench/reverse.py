"""How well each reverse solver keeps the spread of a prior: ``bayes1bit bench reverse``.

The prior is a mixture whose components are pictures, each with standard deviation 0.25 about it.
A solver that walks from pure noise to a picture in few steps should leave exactly that spread.
"""

from typing import Any

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
)

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
