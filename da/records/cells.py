"""What a cell of a table is made from: which runs belong together, which figure is shown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from da.records.files import INCIDENTAL, NAMES
from da.records.paused import paused_step
from da.records.record import Record

PERCENT = ("accuracy", "hos", "f1")  # last words of the names of fractions, shown in percent
SMALLER = ("mae", "mse")  # last words of the names of errors
WORDS = {
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "f1": "F1",
    "r2": "R^2",
    "hos": "HOS",
}
LATER = ("target_balanced_accuracy", "target_macro_f1")  # figures that early records do not hold


@dataclass(frozen=True)
class Metric:
    """Name a figure that results hold for every selected model, and say how it is shown.

    A name that ends in accuracy, f1 or hos is a fraction in [0, 1]. It is shown in percent with one
    decimal. Every other figure is a number in its own unit, shown with three decimals. A name that
    ends in mae or mse is an error: lower is better. For all others higher is better.

    Attributes:
        name: The key in result.json: target_accuracy, target_r2, target_mae ...

    Example:
        >>> from da.records import Metric
        >>> Metric("target_mae").title, Metric("target_mae").smaller_is_better
        ('target mean absolute error (less is better)', True)
    """

    name: str = "target_accuracy"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name must be text; got {self.name!r}")

    @property
    def percent(self) -> bool:
        """Whether it is a fraction, shown in percent."""
        return self.name.split("_")[-1] in PERCENT

    @property
    def smaller_is_better(self) -> bool:
        """Whether it is an error."""
        return self.name.split("_")[-1] in SMALLER

    @property
    def title(self) -> str:
        """What a heading calls it, with its unit."""
        words = " ".join(WORDS.get(word, word) for word in self.name.split("_"))
        if self.percent:
            return f"{words} in percent"
        return f"{words} (less is better)" if self.smaller_is_better else words

    @property
    def factor(self) -> float:
        """Shown unit over stored unit: 100 or 1."""
        return 100.0 if self.percent else 1.0

    @property
    def decimals(self) -> int:
        """Digits after the point."""
        return 1 if self.percent else 3

    def read(self, run: Record, select: str) -> float | None:
        """The figure of the model that `select` picked, as stored.

        Returns:
            The number; None if the run was recorded before the figure was (`LATER`).

        Raises:
            ValueError: The run has no such selection or figure, or the figure is no such number;
                the message names the folder.
        """
        where, selection = run.directory, selection_of(run, select)
        value = selection.get(self.name)
        if value is None:
            if self.name in LATER and "target_accuracy" in selection:
                return None
            known = ", ".join(key for key in selection if key != "step") or "none"
            raise ValueError(f"{where} has no {self.name} under {select!r}; it has {known}")
        if self.percent and not 0 <= value <= 1:
            raise ValueError(
                f"{where}: {self.name} under {select!r} must be a fraction in [0, 1]; got {value!r}"
            )
        if not math.isfinite(value):
            raise ValueError(f"{where}: {self.name} under {select!r} must be finite; got {value!r}")
        return float(value)


def selection_of(run: Record, select: str) -> Mapping[str, Any]:
    """What a result holds of the model that `select` picked.

    Raises:
        ValueError: The run has no such selection; the message names the folder.
    """
    selected = run.result.get("selected", {})
    if select not in selected:
        known = ", ".join(sorted(selected)) or "none"
        raise ValueError(f"{run.directory} has no selection {select!r}; it has {known}")
    found: Mapping[str, Any] = selected[select]
    return found


def steps_of(run: Record) -> int | None:
    """The training steps of a run; None if it trains no network, as a shallow method.

    A run that has paused has had those up to there.
    """
    steps = run.config.get("steps")
    if (paused := paused_step(run.result)) is not None:
        return paused
    return steps if isinstance(steps, int) and "model" not in run.config else None


def has_value(record: Record, key: str, value: Any) -> bool:
    """Whether a name or setting of a record has this value; dots in `key` lead into parts."""
    found: Any = {name: record.result[name] for name in NAMES} | record.config
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return False
        found = found[part]
    return bool(found == (list(value) if isinstance(value, tuple) else value))


def parse_condition(text: str) -> tuple[str, Any]:
    """Key and value of "key=value"; the value is read as JSON if it is JSON.

    Raises:
        ValueError: The text has another form.
    """
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise ValueError(f"--where takes key=value; got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def check_alike(cell: tuple[str, str], runs: Sequence[Record], *, advice: str = "") -> None:
    """Raise a ValueError if the runs of one cell differ in more than their seed.

    Args:
        cell: Method and task.
        runs: The runs of the cell.
        advice: What else the caller can do with runs of several configurations.
    """
    first: dict[int, Record] = {}
    for run in runs:
        other = first.setdefault(run.result["seed"], run)
        for against in (other, runs[0]):
            differing = differing_settings(run, against)
            if differing or (against is other and run is not other):
                words = ", ".join(differing) or "nothing but their folders"
                raise ValueError(
                    f"runs of {cell[0]} on {cell[1]} differ in {words}: {against.directory} and "
                    f"{run.directory}; {advice if differing else ''}keep one configuration with "
                    "--where key=value, or move the other folder away"
                )


def differing_settings(first: Record, second: Record) -> list[str]:
    """The settings in which two runs differ.

    A setting that one record lacks is equal if the other says that it had its default.
    """
    differing = []
    for key in sorted(first.config.keys() | second.config.keys()):
        if key in ("seed", "seeds") or key in INCIDENTAL:
            continue
        holders = [record for record in (first, second) if key in record.config]
        if len(holders) == 2:
            if first.config[key] != second.config[key]:
                differing.append(key)
        elif key not in (holders[0].defaults or ()):
            differing.append(key)
    return differing
