r"""Several posteriors drawn in one batch of chains.

Chains that do not learn from each other need not be of the same data. Where signals are small, a
network takes hardly longer for a hundred of them than for one, so that a test set is recovered
many times faster when its data sets share the batch than when they take turns.

The chains of each data set lie side by side in the batch, and each sees its own measurements: the
operators act on their own parts of it, and the parameters of the links have a row for each chain.
"""

import time
from collections.abc import Mapping, Sequence
from copy import copy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bayes1bit.diffusion import count_evaluations
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.one_bit_form import OneBitForm
from bayes1bit.infer.structure import Structure
from bayes1bit.infer.target import Target
from bayes1bit.operators import LinearOperator
from bayes1bit.posterior import Posterior


class StackedOperator(LinearOperator):
    """Row-orthogonal operators of the same shape, each for an equal part of the batch.

    Args:
        operators: The operators, the first one for the first part.
    """

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        first = operators[0]
        super().__init__(first.event_shape, first.m, first.row_gram)
        self.operators, self.device, self.dtype = operators, first.device, first.dtype

    def _forward(self, x: Tensor) -> Tensor:
        parts = zip(self.operators, _parts(x, len(self.operators)), strict=True)
        return torch.cat([operator._forward(part) for operator, part in parts])

    def _adjoint(self, v: Tensor) -> Tensor:
        parts = zip(self.operators, _parts(v, len(self.operators)), strict=True)
        return torch.cat([operator._adjoint(part) for operator, part in parts])


class StackedTarget(Target):
    """Targets of one prior, each for an equal part of the particles.

    Args:
        targets: The targets, the first one for the first particles.
        chains: Number of particles of each.

    Raises:
        InputError: If structures differ in kind, shape or noise, or rows of an operator are not
            orthogonal.
    """

    def __init__(self, targets: Sequence[Target], chains: int) -> None:
        self.__dict__.update(targets[0].__dict__)
        self.targets = targets
        self.structure = _stacked_structure(targets, chains)

    def log_likelihood(self, x: Tensor, latents: Mapping[str, Tensor] | None = None) -> Tensor:
        """Log-likelihood of the data of each particle; see :meth:`Target.log_likelihood`."""
        parts = zip(self.targets, _parts(x, len(self.targets)), strict=True)
        return torch.cat([target.log_likelihood(part) for target, part in parts])


def run_together(algorithms: Sequence[Algorithm], data: Sequence[Any]) -> list[Posterior]:
    """Draw from several posteriors in one batch of chains.

    The samples are those of ``algorithm.run(y)`` in law, not number by number, since the stream of
    random numbers is dealt out in another way.

    Args:
        algorithms: One for each data set, of the same class and with the same settings; their
            models have the same prior and noise, but operators and thresholds may be their own.
        data: What each algorithm's model is given.

    Returns:
        The posteriors, in the same order. ``seconds`` is an equal share of the whole time.

    Raises:
        InputError: If the chains of the algorithm depend on each other
            (``Algorithm.independent_chains``), classes, settings, priors, links or noise differ,
            rows of an operator are not orthogonal, a model has other latent sites than the signal,
            or there is not one algorithm for each data set.
        FloatingPointError: If a chain diverges.
    """
    if not algorithms or len(algorithms) != len(data):
        raise InputError(
            f"one algorithm for each data set is needed, got {len(algorithms)} and {len(data)}"
        )
    first = algorithms[0]
    if not all(algorithm.independent_chains for algorithm in algorithms):
        raise InputError(
            f"the chains of {type(first).__name__} with these settings depend on each other; run "
            "one data set at a time"
        )
    kinds = [(type(algorithm), algorithm.settings()) for algorithm in algorithms]
    if any(before != after for before, after in pairwise(kinds)):
        raise InputError("algorithms that run together must have the same class and settings")
    started = time.perf_counter()
    targets = [algorithm.target(y) for algorithm, y in zip(algorithms, data, strict=True)]
    prior, chains = targets[0].prior, first.num_samples
    if any(target.prior is not prior for target in targets):
        raise InputError("algorithms that run together must have the same prior")
    together = copy(first)
    together.num_samples = chains * len(targets)
    with count_evaluations(prior) as evaluations:
        samples = together.draw(StackedTarget(targets, chains)).samples
    share = (time.perf_counter() - started) / len(targets)
    calls = evaluations.signals / len(samples)
    return [
        algorithm.posterior(target, Draws(part), calls, share)
        for algorithm, target, part in zip(algorithms, targets, samples.split(chains), strict=True)
    ]


def _parts(batch: Tensor, count: int) -> Sequence[Tensor]:
    """Equal parts of a batch."""
    if len(batch) % count:
        raise InputError(
            f"a batch of {len(batch)} cannot be dealt out equally to {count} data sets"
        )
    return batch.split(len(batch) // count)


def _stacked_structure(targets: Sequence[Target], chains: int) -> Structure | None:
    """The common structure of targets; None where none of them has one."""
    structures = [target.structure for target in targets if target.structure is not None]
    if not structures:
        return None
    kinds = [(s.operator.event_shape, s.operator.m, s.row_gram, _noise(s)) for s in structures]
    if len(structures) < len(targets) or len(set(kinds)) > 1 or structures[0].row_gram is None:
        raise InputError(
            "data sets that run together need the same link, the same smallest noise and "
            "row-orthogonal operators of the same size, but their models have: "
            f"{targets[0].describe()}, and others; run one data set at a time"
        )

    def log_likelihood(t: Tensor) -> Tensor:
        parts = zip(structures, _parts(t, len(structures)), strict=True)
        return torch.cat([structure.log_likelihood(part) for structure, part in parts])

    operator = StackedOperator([structure.operator for structure in structures])
    forms = [structure.one_bit for structure in structures if structure.one_bit is not None]
    if not forms:
        return Structure(operator, log_likelihood, None)
    form = _stacked_form(forms, chains)
    return Structure(operator, form.log_likelihood, form)


def _noise(structure: Structure) -> tuple[str, float] | None:
    """Link and smallest noise, from which some algorithms choose their levels."""
    form = structure.one_bit
    return None if form is None else (form.link, float(form.smallest_noise_variance.min()))


def _stacked_form(forms: Sequence[OneBitForm], chains: int) -> OneBitForm:
    """One-bit data with a row for each chain."""

    def rows(name: str) -> Tensor:
        values = [torch.as_tensor(getattr(form, name)).to(form.y) for form in forms]
        return torch.cat([value.expand(chains, len(forms[0].y)) for value in values])

    return OneBitForm(
        y=rows("y"),
        threshold=rows("threshold"),
        scale=rows("scale"),
        flip=rows("flip") if any(isinstance(form.flip, Tensor) for form in forms) else 0.0,
        link=forms[0].link,
    )
