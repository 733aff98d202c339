"""Folders of finished runs that are trials of each other: several recipes of one method."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from stored_runs import store

DEFAULTS = {"steps": 9, "rate": 0.1, "trade_off": 1.0}


def trial(
    root: Path,
    method: str,
    seed: int,
    figures: dict[str, Any],
    *,
    task: str = "a>b",
    metric: str = "target_accuracy",
    **changed: Any,
) -> Path:
    """A finished run whose settings are `DEFAULTS`, but for those that are `changed`.

    `figures` has for each selection the accuracy, or a pair of accuracy and value of the score.
    """
    source, target = task.split(">")
    names = {"experiment": "toy", "method": method, "source": source, "target": target}
    selected = {}
    for rule, given in figures.items():
        accuracy, score = given if isinstance(given, tuple) else (given, None)
        selected[rule] = {"step": 9, metric: accuracy}
        if score is not None:
            selected[rule][rule] = None if math.isnan(score) else score
    config = DEFAULTS | changed
    usual = sorted(key for key in DEFAULTS if config[key] == DEFAULTS[key])
    names["seed"] = seed
    return store(root, names, config, {"selected": selected}, defaults=usual)


def early(
    root: Path, method: str, seed: int, accuracy: float, score: float, **settings: Any
) -> Path:
    """A run whose result lacks the value of the score `s`; its metrics hold it, step by step."""
    names = {"experiment": "toy", "method": method, "source": "a", "target": "b", "seed": seed}
    lines = [{"step": 5, "s": 9.9}, {"step": 9, "loss": 0.0}, {"step": 9, "s": score}]
    selected = {"last": accuracy, "s": accuracy, "oracle": accuracy}
    result = {rule: {"step": 9, "target_accuracy": value} for rule, value in selected.items()}
    metrics = "".join(json.dumps(line) + "\n" for line in lines)
    return store(root, names, {"steps": 9, **settings}, {"selected": result}, metrics=metrics)
