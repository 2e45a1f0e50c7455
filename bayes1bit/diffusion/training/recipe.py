"""Recipes: everything that decides what a prior becomes, in one TOML file.

A recipe has five tables. ``[data]`` says how what is stored becomes signals, ``[network]`` is the
architecture, ``[noise]`` the range of levels and how training draws them, ``[training]`` the
optimisation, and ``[card]`` what the model card says about source and terms. A sixth,
``[distillation]``, names a teacher. Every key has the name of a field below, or for ``[network]``
of :mod:`~bayes1bit.diffusion.training.network_settings`; an unknown or mistyped key is an error.
``docs/training.md`` lists them all.
"""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from bayes1bit.diffusion.training.network_settings import KINDS, NetworkSettings
from bayes1bit.errors import InputError

POSITIVE = {
    "data": ("held_out", "unit"),
    "noise": ("sigma_data", "log_std"),
    "training": ("signals", "batch_size", "learning_rate", "log_every", "checkpoint_every"),
}
NOT_NEGATIVE = {
    "data": ("pad", "rate"),
    "training": ("warmup_steps", "weight_decay", "gradient_clip", "seed", "evaluate_every"),
}


@dataclass(frozen=True)
class DataSettings:
    """How what is stored becomes signals.

    Attributes:
        event_shape: Shape (channels, length) or (channels, height, width) of one signal after
            padding.
        pad: Zeros added on each side of what is stored.
        low: Lowest value of signals; that of a stored 0 of 8-bit pictures.
        high: Highest value of signals; that of a stored 255 of 8-bit pictures.
        unit: Signal value of a stored 1, for anything but 8-bit pictures.
        labels: Name of the labels that ``drop`` is about: the array ``train_NAME`` beside
            ``train``.
        drop: Labels of signals to leave out.
        held_out: Number of training signals, the last ones, kept out of training to measure the
            denoising error.
        flip: Whether to mirror half of the training signals, left to right.
        resize: Whether to cut the middle out of pictures of another size, and resize it. For
            folders of pictures.
        rate: Samples per second that recordings must have, in Hz; 0 for any. For signals of one
            dimension.
    """

    event_shape: tuple[int, ...]
    pad: int = 0
    low: float = -1.0
    high: float = 1.0
    unit: float = 1.0
    labels: str = ""
    drop: tuple[int, ...] = ()
    held_out: int = 2000
    flip: bool = False
    resize: bool = False
    rate: int = 0


@dataclass(frozen=True)
class NoiseSettings:
    """Noise levels, in units of the signal.

    Attributes:
        sigma_data: Standard deviation of the signals over all signals and their entries.
        sigma_min: Smallest level that the prior is used at.
        sigma_max: Largest level, where a picture drowns in noise.
        log_mean: Mean of log(sigma) in training.
        log_std: Standard deviation of log(sigma) in training.
    """

    sigma_data: float = 0.5
    sigma_min: float = 0.01
    sigma_max: float = 80.0
    log_mean: float = -0.8
    log_std: float = 1.4


@dataclass(frozen=True)
class TrainingSettings:
    """Optimisation.

    Attributes:
        signals: Number of signals to train on, repetitions counted.
        batch_size: Signals per step.
        learning_rate: Peak rate of AdamW, reached after ``warmup_steps`` and then lowered to zero
            along half a cosine.
        warmup_steps: Steps of linear warm-up.
        weight_decay: AdamW's decoupled weight decay.
        gradient_clip: Largest norm of a step's gradient, to which longer ones are shortened; 0
            for no limit.
        ema_decay: Largest decay per step of the averaged weights.
        precision: "float32" or "bfloat16" (autocast of the network).
        binary_from: Fraction of the steps after which a BitUNet's weights are binary; in the
            first steps only its activations are.
        seed: Seed of initial weights, order of signals, levels and noise.
        log_every: Steps between two lines of the training log.
        checkpoint_every: Steps between two checkpoints.
        evaluate_every: Steps between two measurements of the loss on held-out signals; 0 for one
            at every checkpoint.
    """

    signals: int
    batch_size: int = 64
    learning_rate: float = 5e-4
    warmup_steps: int = 200
    weight_decay: float = 0.0
    gradient_clip: float = 0.0
    ema_decay: float = 0.9995
    precision: str = "bfloat16"
    binary_from: float = 0.0
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 500
    evaluate_every: int = 0

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return -(-self.signals // self.batch_size)


@dataclass(frozen=True)
class DistillationSettings:
    """Learning from another prior's denoiser besides the signals.

    Attributes:
        teacher: Name of a shipped prior, or path of a prior's folder.
        weight: Share of the teacher's answer in the target, the rest being the clean picture.
    """

    teacher: str
    weight: float = 1.0


@dataclass(frozen=True)
class CardSettings:
    """What the model card says beyond the measured figures.

    Attributes:
        title: Name of the prior.
        summary: What the signals are, in a sentence.
        source: Where the data come from, and which of them were used.
        terms: Terms of use of the weights and of the data.
        unit: Unit of the signals' values, such as "mV"; empty for none.
    """

    title: str
    summary: str
    source: str
    terms: str
    unit: str = ""


@dataclass(frozen=True)
class Recipe:
    """A parsed and checked recipe.

    Args:
        data: What the signals are.
        network: The network, of one of the kinds that there are.
        noise: Noise levels.
        training: Optimisation.
        card: What the model card says.
        distillation: The prior to learn from besides the signals, if there is one.
    """

    data: DataSettings
    network: NetworkSettings
    noise: NoiseSettings
    training: TrainingSettings
    card: CardSettings
    distillation: DistillationSettings | None = None

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a recipe file.

        Args:
            path: TOML file, or a folder that holds ``recipe.toml``.

        Raises:
            InputError: If the file is missing, is not TOML, or has a key that is unknown, missing,
                of the wrong type or out of range.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "recipe.toml"
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read recipe {path}: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{path} is not valid TOML: {error}") from error
        try:
            return cls.from_table(table)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Recipe":
        """Build a recipe from nested dictionaries, as TOML gives them.

        Args:
            table: Tables of settings by name.

        Raises:
            InputError: If a key is unknown, missing, of the wrong type or out of range.
        """
        sections = {**get_type_hints(cls), "distillation": DistillationSettings}
        if unknown := sorted(set(table) - set(sections)):
            raise InputError(f"unknown table [{unknown[0]}]; a recipe has {', '.join(sections)}")
        sections["network"] = _network_kind(table.get("network"))
        if "distillation" not in table:
            del sections["distillation"]
        recipe = cls(**{name: _section(name, kind, table) for name, kind in sections.items()})
        recipe._check()
        return recipe

    def _check(self) -> None:
        shape = self.data.event_shape
        picture = len(shape) == 3 and shape[0] in (1, 3)
        if min(shape, default=0) < 1 or not (picture or len(shape) == 2):
            raise InputError(
                "data.event_shape must be [channels, height, width] with 1 or 3 channels, or "
                f"[channels, length]; got {list(shape)}"
            )
        if 2 * self.data.pad >= min(shape[1:]):
            raise InputError(
                f"data.pad = {self.data.pad} on both sides leaves nothing of data.event_shape "
                f"{list(shape)}"
            )
        if self.data.resize and not picture:
            raise InputError("data.resize is for pictures; data.event_shape is that of signals")
        if self.data.rate and picture:
            raise InputError("data.rate is for recordings; data.event_shape is that of pictures")
        if self.data.drop and not self.data.labels:
            raise InputError("data.drop needs data.labels, the name of the labels to drop")
        if not self.data.low < self.data.high:
            raise InputError("the data range must satisfy data.low < data.high")
        if not 0 < self.noise.sigma_min < self.noise.sigma_max:
            raise InputError("noise levels must satisfy 0 < sigma_min < sigma_max")
        if self.training.precision not in ("float32", "bfloat16"):
            raise InputError(
                f'training.precision is "{self.training.precision}"; use "float32" or "bfloat16"'
            )
        for table, names in {**POSITIVE, "network": self.network.positive}.items():
            for name in names:
                if getattr(getattr(self, table), name) <= 0:
                    raise InputError(f"{table}.{name} must be positive")
        for table, names in NOT_NEGATIVE.items():
            for name in names:
                if getattr(getattr(self, table), name) < 0:
                    raise InputError(f"{table}.{name} must not be negative")
        if self.training.seed >= 2**32:
            raise InputError("training.seed must be less than 2**32")
        if not 0 <= self.training.ema_decay < 1:
            raise InputError("training.ema_decay must be in [0, 1)")
        if not 0 <= getattr(self.network, "dropout", 0.0) < 1:
            raise InputError("network.dropout must be in [0, 1)")
        if not 0 <= self.training.binary_from < 1:
            raise InputError("training.binary_from must be in [0, 1)")
        if self.distillation is not None and not 0 <= self.distillation.weight <= 1:
            raise InputError("distillation.weight must be in [0, 1]")


def _network_kind(values: Any) -> type:
    kind = values.get("kind", "unet") if isinstance(values, Mapping) else "unet"
    if kind not in KINDS:
        raise InputError(f"network.kind is {kind!r}; use one of {', '.join(KINDS)}")
    return KINDS[kind]


def _section(name: str, kind: type, table: Mapping[str, Any]) -> Any:
    values = table.get(name, {})
    hints = get_type_hints(kind)
    types = {field.name: hints[field.name] for field in fields(kind)}
    if not isinstance(values, Mapping):
        raise InputError(f"[{name}] must be a table")
    if unknown := sorted(set(values) - set(types)):
        raise InputError(f"unknown key {name}.{unknown[0]}; known keys: {', '.join(types)}")
    for field in fields(kind):
        required = field.default is dataclasses.MISSING
        if required and field.name not in values:
            raise InputError(f"key {name}.{field.name} is missing")
    return kind(**{key: _value(f"{name}.{key}", types[key], v) for key, v in values.items()})


def _value(key: str, kind: Any, value: Any) -> Any:
    arguments = getattr(kind, "__args__", None)
    if arguments:  # tuple[item, ...]
        if not isinstance(value, list):
            raise InputError(f"{key} must be a list, got {value!r}")
        return tuple(_value(key, arguments[0], item) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if kind is float and type(value) is float and not math.isfinite(value):
        raise InputError(f"{key} must be finite, got {value!r}")
    if type(value) is not kind:
        raise InputError(f"{key} must be {kind.__name__}, got {value!r}")
    return value
