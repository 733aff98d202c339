"""What a run was begun with, so that an interrupted run is not continued with something else.

The record of a run holds the configuration that the caller passed to `Run.start`. It need not hold
the settings of the loop, nor what the method is made of. A checkpoint holds them all in short, and
they must be equal when the run is continued.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from da.data.domain import Unlabelled
from da.networks.backbones import fingerprint
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.method import Method

LONGEST = 60  # characters of a value in an error
_DOMAINS = ("source", "target", "domain", "sources")


def settings_of(
    method: Method, stream: Any, config: TrainConfig, evaluation: Evaluation | None
) -> dict[str, str]:
    """What the result of a run depends on, in short, by name.

    Settings that cannot change a result, such as the number of threads, are left out. Functions
    count by their names, data by the number of rows.

    Args:
        method: As it is before training.
        stream: Where batches come from.
        config: The settings of the loop.
        evaluation: What the run is judged by, or None.
    """
    counted = [f.name for f in fields(TrainConfig) if f.metadata.get("result", True)]
    counted.remove("batch_size")  # the stream's counts
    found = {name: repr(getattr(config, name)) for name in counted}
    if config.start_from is not None:
        found["start_from"] = fingerprint(config.start_from)
    found |= {name: in_short(getattr(stream, name, None)) for name in ("batch_size", "seed")}
    found["balanced"] = in_short(getattr(stream, "balanced", False))
    found["transform"] = in_short(getattr(stream, "transform", None))
    for name in _DOMAINS:
        found[f"rows of {name}"] = _rows(getattr(stream, name, None))
    found["method"] = type(method).__name__
    for name, value in vars(method).items():
        if not name.startswith("_") and name != "training" and _is_setting(value):
            found[f"{type(method).__name__}'s {name}"] = in_short(value)
    class_weights = getattr(method, "class_weights", None)
    if isinstance(class_weights, Tensor):
        found["class_weights"] = in_short(class_weights.tolist())
    if evaluation is not None:
        found["evaluation's task"] = evaluation.task
        found["evaluation's scores"] = in_short(sorted(evaluation.used_scores))
        found["rows of evaluation's target"] = _rows(evaluation.target)
    return found


def check_settings(
    begun: Mapping[str, str], now: Mapping[str, str], done: int, directory: Path
) -> None:
    """Raise a ValueError that names what differs between a run's beginning and now.

    Args:
        begun: The settings that the checkpoint holds. A setting that either side lacks is from
            another version of this package and is not compared.
        now: The settings of the call that continues it.
        done: Steps that the checkpoint has.
        directory: The run's folder.
    """
    differing = [name for name in now if name in begun and begun[name] != now[name]]
    if not differing:
        return
    listed = "; ".join(
        f"{name} was {begun[name][:LONGEST]} and is now {now[name][:LONGEST]}" for name in differing
    )
    steps = "; learning rate and ramps follow steps done / steps in all" * ("steps" in differing)
    raise ValueError(
        f"the run in {directory} has {done} steps done with other settings: {listed}{steps}. It "
        "can be continued as it was begun. To keep both, put these settings into the configuration "
        "of the record: Run.start(folder, da.recipes.configuration(config), ...). To begin again, "
        "pass force=True to Run.start (--force on the command line)"
    )


def in_short(value: Any) -> str:
    """A value in one line that is the same in every process: functions by name, no addresses."""
    if isinstance(value, partial):
        parts = [in_short(part) for part in value.args]
        parts += [f"{name}={in_short(part)}" for name, part in sorted(value.keywords.items())]
        return f"{in_short(value.func)}({', '.join(parts)})"
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    return " ".join(re.sub(r" at 0x[0-9a-f]+", "", repr(value)).split())


def _is_setting(value: Any) -> bool:
    """Numbers, words, functions, and collections of them."""
    if isinstance(value, Mapping):
        return all(map(_is_setting, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_setting, value))
    return value is None or isinstance(value, str | bool | int | float) or callable(value)


def _rows(domain: Any) -> str:
    if isinstance(domain, Unlabelled):
        return str(len(domain))
    return ", ".join(map(_rows, domain)) if isinstance(domain, tuple) else "none"
