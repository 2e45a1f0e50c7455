r"""What a model's likelihood looks like to an algorithm that wants more than gradients.

Most measurement models see the signal only through one linear operator, one measurement at a
time: :math:`\log p(y \mid x) = \sum_i \ell_i(a_i x)`. Then steps that are hard for a general
likelihood split into one-dimensional problems, and for one-bit links they have closed forms.

The structure is found by experiment, not by reading the model's code. A sensing operator is an
effect (:mod:`bayes1bit.operators.effects`): its calls can be recorded, and its output can be
replaced. So the model itself answers the questions: is there one operator that acts on the signal?
Does the likelihood stay the same when the signal changes but the operator's output does not? Does
changing one output leave the likelihood of the other measurements alone? And is the argument of
the link an affine function of the output?
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayes1bit.infer.one_bit_form import OneBitForm
from bayes1bit.infer.sites import Site, innermost, is_plain, link_argument, pointwise_log_prob
from bayes1bit.observation import Link, OneBit
from bayes1bit.operators import LinearOperator, record_operators, replace_output

if TYPE_CHECKING:
    from bayes1bit.infer.target import Target

__all__ = ["OneBitForm", "Structure", "find_structure", "one_bit_form"]


@dataclass(frozen=True)
class Structure:
    """A likelihood that sees the signal through one linear operator, one measurement at a time.

    Attributes:
        operator: The sensing operator A.
        log_likelihood: Log-likelihood of each measurement as a function of ``t = A x``: shape
            (particles, m) to (particles, m). Data that do not depend on the signal are left out.
        one_bit: The one-bit normal form, if the measurements are one-bit.
    """

    operator: LinearOperator
    log_likelihood: Callable[[Tensor], Tensor]
    one_bit: OneBitForm | None

    @property
    def row_gram(self) -> float | None:
        """The c of ``A A^T = c I``, or None if rows are not orthogonal or not of equal norm."""
        return self.operator.row_gram

    def apply(self, x: Tensor) -> Tensor:
        """``A x`` for signals of shape (particles, *event), whatever shape the operator is fed."""
        return self.operator(x.reshape(len(x), *self.operator.event_shape))

    def adjoint(self, v: Tensor, event_shape: torch.Size) -> Tensor:
        """``A^T v`` as signals, for v of shape (particles, m)."""
        return self.operator.T(v).reshape(len(v), *event_shape)

    def draw_given_output(self, x: Tensor, variance: float, t: Tensor) -> Tensor:
        """Draw z from N(x, variance I) given that ``A z = t``, for a row-orthogonal operator.

        Args:
            x: Centres, shape (particles, *event).
            variance: Variance of the normal law per dimension.
            t: Outputs, shape (particles, m).
        """
        c = self.row_gram
        assert c is not None
        h = torch.randn_like(x).mul_(variance**0.5).add_(x)
        return h.add_(self.adjoint((t - self.apply(h)).div_(c), x.shape[1:]))

    def __str__(self) -> str:
        rows = "row-orthogonal" if self.row_gram is not None else "general"
        likelihood = f"one-bit {self.one_bit.link}" if self.one_bit else "separable likelihood"
        return f"{likelihood} of a {rows} {type(self.operator).__name__} operator"


def one_bit_form(
    distributions: list[Any], outputs: list[Tensor], observed: Tensor
) -> OneBitForm | None:
    """Bring a one-bit site to normal form, if its link's argument is affine in the output.

    Args:
        distributions: The site's distribution in three runs of the model.
        outputs: The operator's output in these runs, each of shape (m,), differing everywhere.
        observed: The observed value of the site.

    Returns:
        The normal form, or None if the site is not one-bit or its argument is not affine,
        measurement by measurement, with a gain other than zero.
    """
    arguments = [link_argument(distribution) for distribution in distributions]
    m = outputs[0].shape[-1:]
    if any(a is None or a.shape != m for a in arguments) or observed.shape != m:
        return None
    first, second, third = (a.detach().double() for a in arguments if a is not None)
    t1, t2, t3 = (output.double() for output in outputs)
    gain = (second - first) / (t2 - t1)
    offset = first - gain * t1
    tolerance = 1e-4 if outputs[0].dtype == torch.float32 else 1e-9
    magnitude = first.abs() + second.abs() + third.abs() + 1
    if ((offset + gain * t3 - third).abs() > tolerance * magnitude).any() or (gain == 0).any():
        return None
    bases = [innermost(distribution) for distribution in distributions]
    y = observed.double()
    if isinstance(bases[0], OneBit):
        parameters = [
            torch.stack([p.detach().double().expand(m) for p in (b.threshold, b.scale, b.flip)])
            for b in bases
        ]
        if any(not torch.equal(parameters[0], other) for other in parameters[1:]):
            return None
        threshold, scale, flip = parameters[0]
        link: Link = bases[0].link
    else:
        threshold, scale, flip = torch.zeros(m), torch.ones(m), torch.zeros(m)
        threshold, scale, flip = (p.to(y) for p in (threshold, scale, flip))
        link, y = "logistic", 2 * y - 1
    form = OneBitForm.of_affine(y, gain, offset, threshold, scale, flip, link)
    return OneBitForm(
        y=form.y.to(outputs[0]),
        threshold=form.threshold.to(outputs[0]),
        scale=form.scale.to(outputs[0]),
        # a plain zero spares the mixture with flipped bits
        flip=flip.to(outputs[0]) if bool(flip.any()) else 0.0,
        link=link,
    )


def find_structure(target: "Target") -> tuple[Structure | None, str]:
    """Find by experiment whether the likelihood is separable in one operator's output.

    Args:
        target: A target without other latent sites.

    Returns:
        The structure and an empty text, or None when only gradients can be used, and why.
    """
    prior = target.prior
    x, other = torch.randn(2, *prior.event_shape, dtype=prior.dtype, device=prior.device)
    with torch.no_grad():
        with record_operators() as calls:
            reference = target.observed_sites(x)
        on_signal = [call for call in calls if _is_signal(call.input, x)]
        if not calls:
            return None, "the model calls no operator of bayes1bit"
        if not on_signal:
            return None, "no operator acts on the signal itself"
        if any(call.operator is not on_signal[0].operator for call in on_signal):
            return None, "several operators act on the signal"
        operator, _, output = on_signal[0]

        def run(t: Tensor, signal: Tensor = x) -> dict[str, Site]:
            with replace_output(operator, t):
                return target.observed_sites(signal)

        before = {name: pointwise_log_prob(site) for name, site in reference.items()}
        for name, site in run(output, signal=other).items():
            if not torch.equal(pointwise_log_prob(site), before[name]):
                return None, f'site "{name}" sees the signal beside the operator\'s output'
        outputs = [output, output + 1, output - 2]
        runs = [run(t) for t in outputs]
        affected = [
            name
            for name, site in runs[1].items()
            if not torch.equal(pointwise_log_prob(site), before[name])
        ]
        if not affected:
            return None, "no observed site depends on the operator's output"
        if len(affected) > 1:
            return None, f"several sites depend on the operator's output: {', '.join(affected)}"
        name = affected[0]

        def per_measurement(t: Tensor) -> Tensor:
            return pointwise_log_prob(run(t)[name]).reshape(-1, operator.m).sum(0)

        if before[name].shape[-1:] != output.shape:
            return None, f'site "{name}" does not have one measurement for each output'
        if not _separable(per_measurement, output):
            return None, f'a measurement of site "{name}" depends on several outputs'
        sites = [sites[name] for sites in runs]
        form = None
        if is_plain(sites[0]):
            form = one_bit_form([s["fn"] for s in sites], outputs, target.observed[name])
    if form is not None:
        return Structure(operator, form.log_likelihood, form), ""
    likelihood = torch.vmap(per_measurement, randomness="different")
    return Structure(operator, likelihood, None), ""


def _is_signal(candidate: Tensor, x: Tensor) -> bool:
    """Whether an operator's input is the signal itself or a reshaped view of it."""
    return candidate is x or (
        candidate.data_ptr() == x.data_ptr()
        and candidate.numel() == x.numel()
        and candidate.is_contiguous()
    )


def _separable(function: Callable[[Tensor], Tensor], t: Tensor) -> bool:
    """Whether moving some of the outputs leaves the value of all others exactly as it was."""
    before = function(t)
    for _ in range(2):
        moved = torch.rand(t.shape, device=t.device) < 0.5
        after = function(torch.where(moved, t + torch.randn_like(t), t))
        if not torch.equal(after[~moved], before[~moved]):
            return False
    return True
