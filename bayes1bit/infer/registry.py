r"""All inference algorithms by name, and how a line of text says which one with which settings.

The documentation, the command line and the benchmarks read :data:`ALGORITHMS`. What they call a
method is a *spec*: a name, followed by settings of the constructor that differ from its defaults,

    ``dps misfit=likelihood num_levels=200``
    ``daps data_step=langevin:100 solver=ddim:0.5``

Values are numbers, ``true`` and ``false``, ``none``, words, and parts by name (:data:`PARTS`),
with their main setting after a colon. So a table can name every setting of a run in one cell, and
the cell can be pasted back to repeat it.
"""

import inspect
import types
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from bayes1bit.diffusion.solvers import (
    DDIM,
    Ancestral,
    Heun,
    Multistep,
    StochasticMultistep,
    Tweedie,
    VarianceCorrected,
)
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm
from bayes1bit.infer.biht import BIHT
from bayes1bit.infer.daps import DAPS
from bayes1bit.infer.data_steps import AugmentedGibbsStep, ExactStep, LangevinStep
from bayes1bit.infer.diff_onebit import DiffOneBit
from bayes1bit.infer.diffpir import DiffPIR
from bayes1bit.infer.dps import DPS
from bayes1bit.infer.gaussian_gibbs import GaussianGibbs
from bayes1bit.infer.joint_gibbs import JointGibbs
from bayes1bit.infer.langevin import Langevin
from bayes1bit.infer.lookahead_smc import LookaheadSMC
from bayes1bit.infer.misfit import LeastSquaresStep
from bayes1bit.infer.moment_matched import MomentMatched
from bayes1bit.infer.nuts import NUTS
from bayes1bit.infer.plan_vershynin import PlanVershynin
from bayes1bit.infer.pnp_onebit import PnPOneBit
from bayes1bit.infer.prior_steps import PosteriorMean, ReverseDiffusion, SampleGiven
from bayes1bit.infer.qcs_sgm import QCSSGM
from bayes1bit.infer.sim_dmis import SIMDMIS
from bayes1bit.infer.split_gibbs import SplitGibbs
from bayes1bit.infer.split_gibbs_smc import SplitGibbsSMC
from bayes1bit.infer.steps import GradientStep, ProximalStep
from bayes1bit.infer.twisted_smc import TwistedSMC

ALGORITHMS: dict[str, type[Algorithm]] = {
    "lookahead-smc": LookaheadSMC,
    "split-gibbs-smc": SplitGibbsSMC,
    "twisted-smc": TwistedSMC,
    "moment-matched": MomentMatched,
    "split-gibbs": SplitGibbs,
    "joint-gibbs": JointGibbs,
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
"""All algorithms by name, those of this package first, then published and classical ones."""


class Part(NamedTuple):
    """A part of an algorithm that has a name.

    Attributes:
        make: Its constructor.
        setting: The setting that may follow the name after a colon, if there is one.
    """

    make: Callable[..., Any]
    setting: str | None = None


PARTS: dict[str, dict[str, Part]] = {
    "data_step": {
        "gradient": Part(GradientStep, "num_steps"),
        "proximal": Part(ProximalStep, "max_iterations"),
        "langevin": Part(LangevinStep, "num_steps"),
        "langevin-metropolis": Part(partial(LangevinStep, metropolis=True), "num_steps"),
        "exact": Part(ExactStep),
        "gibbs": Part(AugmentedGibbsStep, "num_sweeps"),
        "least-squares": Part(LeastSquaresStep, "scaling"),
    },
    "prior_step": {
        "reverse": Part(ReverseDiffusion, "num_steps"),
        "sample-given": Part(SampleGiven),
        "posterior-mean": Part(PosteriorMean),
    },
    "solver": {
        "ddim": Part(DDIM, "eta"),
        "ancestral": Part(Ancestral),
        "stochastic-multistep": Part(StochasticMultistep),
        "variance-corrected": Part(VarianceCorrected),
        "heun": Part(Heun),
        "multistep": Part(Multistep),
        "tweedie": Part(Tweedie),
    },
}
"""Parts by the setting that they are a value of, and by name."""

_CALLER = ("model", "site", "progress")
"""Arguments that belong to one call and not to the method."""


def settings_of(algorithm: Callable[..., Algorithm]) -> dict[str, inspect.Parameter]:
    """The settings that a spec can give an algorithm, by name."""
    parameters = inspect.signature(algorithm).parameters
    return {name: value for name, value in parameters.items() if name not in _CALLER}


def parse_spec(spec: str) -> tuple[type[Algorithm], dict[str, Any]]:
    """Read a spec.

    Args:
        spec: A name of :data:`ALGORITHMS` and settings, separated by spaces.

    Returns:
        The algorithm, and the settings as arguments of its constructor.

    Raises:
        InputError: If the name or a setting is unknown, a setting is given twice, or its value
            does not have the type that the constructor asks for.
    """
    words = spec.split()
    if not words:
        raise InputError(f"a method is missing; methods are {', '.join(ALGORITHMS)}")
    name, *pairs = words
    if name not in ALGORITHMS:
        raise InputError(f'unknown method "{name}"; methods are {", ".join(ALGORITHMS)}')
    known = settings_of(ALGORITHMS[name])
    settings: dict[str, Any] = {}
    for pair in pairs:
        setting, equals, text = pair.partition("=")
        if not equals or not text:
            raise InputError(
                f'"{pair}" is not a setting of {name}: settings are NAME=VALUE, and methods have '
                "commas between them"
            )
        if setting not in known:
            raise InputError(
                f'{name} has no setting "{setting}"; its settings are {", ".join(known)}'
            )
        if setting in settings:
            raise InputError(f"{name} is given {setting} twice")
        settings[setting] = _read(f"{setting} of {name}", setting, text, known[setting])
    return ALGORITHMS[name], settings


def make_algorithm(spec: str, model: Callable[..., Any], **options: Any) -> Algorithm:
    """Make the algorithm that a spec describes.

    Args:
        spec: A name of :data:`ALGORITHMS` and settings, separated by spaces, such as
            ``"dps misfit=likelihood num_levels=200"``.
        model: A Pyro model with one diffusion site.
        **options: Arguments that many methods are given alike (``num_samples``, ``progress``).
            Settings of the spec come before them. ``num_samples`` is left out for a method that
            has one answer.

    Returns:
        The algorithm, ready to run.

    Raises:
        InputError: As :func:`parse_spec`, or if the constructor refuses a value.
    """
    algorithm, settings = parse_spec(spec)
    if "num_samples" not in settings_of(algorithm):
        options.pop("num_samples", None)
    return algorithm(model, **{**options, **settings})


def _read(label: str, name: str, text: str, parameter: inspect.Parameter) -> Any:
    """The value that a text stands for, if the parameter can take it."""
    if name in PARTS and text != "none":
        return _read_part(label, PARTS[name], text)
    value = _read_plain(text)
    kinds = _kinds(parameter.annotation)
    for kind in kinds:
        if get_origin(kind) is Literal:
            for choice in get_args(kind):
                if text == str(choice):
                    return choice
        elif kind in (Any, inspect.Parameter.empty) or type(value) is kind:
            return value
        elif kind is float and type(value) is int:
            return float(value)
    expected = " or ".join(filter(None, map(_describe, kinds)))
    raise InputError(f'{label} must be {expected}, got "{text}"')


def _read_part(label: str, parts: dict[str, Part], text: str) -> Any:
    name, colon, argument = text.partition(":")
    if name not in parts:
        raise InputError(f'{label} must be one of {", ".join(parts)}, got "{name}"')
    part = parts[name]
    if not colon:
        return part.make()
    if part.setting is None:
        raise InputError(f'{label}: "{name}" takes nothing after it, got "{text}"')
    parameter = inspect.signature(part.make).parameters[part.setting]
    value = _read(f"{part.setting} of {name} in {label}", part.setting, argument, parameter)
    return part.make(**{part.setting: value})


def _read_plain(text: str) -> bool | int | float | str | None:
    words: dict[str, bool | None] = {"true": True, "false": False, "none": None}
    if text in words:
        return words[text]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _describe(kind: Any) -> str:
    """A type in words; nothing for one that text cannot give."""
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    return {**names, str: "a word", type(None): "none"}.get(kind, "")
