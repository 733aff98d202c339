"""Folders of finished runs that are trials of each other: several recipes of one method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stored_runs import store

from da.records.run import Run

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
    words: dict[str, Any] = {"defaults": DEFAULTS, "wandb": "disabled"}
    run = Run.start(root, DEFAULTS | changed, **names, seed=seed, **words)
    selected = {}
    for rule, given in figures.items():
        accuracy, score = given if isinstance(given, tuple) else (given, None)
        selected[rule] = {"step": 9, metric: accuracy}
        if score is not None:
            selected[rule][rule] = score
    run.finish({"selected": selected})
    return run.directory


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
