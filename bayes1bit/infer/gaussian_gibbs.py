r"""One-bit regression with a Gaussian prior, by exact Gibbs sampling (Albert and Chib, JASA 1993).

What is gained by a diffusion prior is seen against the best that a Gaussian one can do. With
:math:`x \sim N(\mu, v I)` in place of the model's prior, the posterior

.. math::

    p(x \mid y) \propto p(y \mid x)\, N(x; \mu, v I)

is the very law that the data step of a split sampler draws from, with the coupling's centre at
:math:`\mu` and :math:`\rho = \sqrt v`. For a row-orthogonal operator that step needs no Markov
chain: the draws are independent and exact. For any other operator it alternates between the noisy
values behind the bits, :math:`w \mid x, y`, truncated normals, and :math:`x \mid w`, a normal with
precision :math:`A^T \Lambda A + I / v`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.data_steps import AugmentedGibbsStep, ExactStep
from bayes1bit.infer.moments import prior_mean, prior_variance
from bayes1bit.infer.sparse import one_bit_structure
from bayes1bit.infer.steps import DataStep
from bayes1bit.infer.target import Target


class GaussianGibbs(Algorithm):
    """Probit or logistic regression with a Gaussian prior, in place of the model's own.

    Args:
        model: A Pyro model with one diffusion site and one-bit data.
        num_samples: Number of independent draws, or of chains, each of which gives its last
            state.
        mean: Mean of the Gaussian prior: a number or a tensor of the event shape; by default
            the mean of the model's prior.
        variance: Its variance; by default that of the model's prior, per dimension.
        num_sweeps: Gibbs sweeps of each chain, for operators whose rows are not orthogonal.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar; there is none, as all is one step.

    Raises:
        InputError: If a setting is outside its range; when run, if data are not one-bit
            measurements of one linear operator, ``mean`` has another shape than signals, or
            ``variance`` is not given and the prior does not know its own.
    """

    paper = "Albert and Chib, JASA 1993"
    assumptions = "one-bit data of one linear operator; replaces the prior by a Gaussian"
    cost = "0 (one call per run for the prior's mean)"
    exactness = "of the Gaussian prior's posterior: independent draws if row-orthogonal, else MCMC"

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        mean: float | Tensor | None = None,
        variance: float | None = None,
        num_sweeps: int = 200,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if variance is not None and not variance > 0:
            raise InputError(f"variance must be positive, got {variance}")
        if num_sweeps < 1:
            raise InputError(f"num_sweeps must be at least 1, got {num_sweeps}")
        self.mean, self.variance, self.num_sweeps = mean, variance, num_sweeps

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Draw all samples by one data step about the Gaussian prior's mean."""
        prior = target.prior
        structure, _ = one_bit_structure(target, type(self).__name__)
        variance = self.variance or prior_variance(prior, "variance")
        if self.mean is None:
            mean = prior_mean(prior)
        else:
            mean = torch.as_tensor(self.mean, dtype=prior.dtype, device=prior.device)
            if mean.ndim and mean.shape != prior.event_shape:
                raise InputError(
                    f"mean must be a number or have shape {tuple(prior.event_shape)}, "
                    f"got {tuple(mean.shape)}"
                )
        step: DataStep = AugmentedGibbsStep(num_sweeps=self.num_sweeps)
        if structure.row_gram is not None:
            step = ExactStep()
        step.prepare(target)
        x = mean.expand(self.num_samples, *prior.event_shape).contiguous()
        return Draws(step(target, x, variance**0.5))
