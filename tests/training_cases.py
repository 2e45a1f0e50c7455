"""A toy recipe, and pictures of 8 by 8 with one bar each to train on."""

import copy
import csv
import json

import numpy as np

from bayes1bit.diffusion.training import Recipe
from bayes1bit.diffusion.training.data import Signals, to_event_shape

TABLE = {
    "data": {"event_shape": [1, 8, 8], "held_out": 40},
    "network": {"patch": 2, "widths": [32, 32], "attention": [False, False]},
    "noise": {"sigma_data": 1.0, "sigma_min": 0.05, "sigma_max": 20.0},
    "training": {
        "signals": 16 * 40,
        "batch_size": 16,
        "learning_rate": 5e-3,
        "warmup_steps": 4,
        "ema_decay": 0.9,
        "precision": "bfloat16",
        "log_every": 5,
        "checkpoint_every": 6,
    },
    "card": {"title": "Bars", "summary": "One bar.", "source": "Made here.", "terms": "Free."},
}


def table(**changes):
    """The toy recipe with other entries, each given as ``table={key: value}``."""
    changed = copy.deepcopy(TABLE)
    for name, entries in changes.items():
        changed[name].update(entries)
    return changed


def toml(tables):
    """TOML of plain tables; JSON writes numbers, texts, truth values and lists the same way."""
    lines = []
    for name, entries in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(v)}" for key, v in entries.items())]
    return "\n".join(lines)


def bars(count=200):
    generator = np.random.default_rng(0)
    pictures = np.zeros((count, 8, 8), np.uint8)
    for picture in pictures:
        row = generator.integers(8)
        (picture if generator.integers(2) else picture.T)[row] = 255
    return pictures


def recipe(**changes):
    return Recipe.from_table(table(**changes))


def toy_pictures(settings=None):
    settings = settings or recipe().data
    stored = to_event_shape(bars(), settings)
    return Signals(stored[:-40], stored[-40:], settings)


def log_rows(out):
    with (out / "training.csv").open(newline="") as file:
        return list(csv.DictReader(file))
