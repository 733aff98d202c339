"""What a cell of a table is made from: which runs belong together, and which figure of theirs is shown, in what unit."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from da.records.run import NAMES, Record

PERCENT = (
    "accuracy",
    "hos",
    "f1",
)  # last words of the names of fractions in [0, 1], which are shown in percent
SMALLER = ("mae", "mse")  # last words of the names of errors, of which less is better
WORDS = {
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "f1": "F1",
    "r2": "R^2",
    "hos": "HOS",
}


@dataclass(frozen=True)
class Metric:
    """A figure that result.json holds for every selected model, by its key there: target_accuracy, target_r2, target_mae ...

    A name that ends in accuracy, f1 or hos (the harmonic mean of open-set adaptation) is of a fraction in [0, 1], shown in percent with one
    decimal; every other is a number in its own unit, shown with three. Of one that ends in mae or mse less is better, of the others more.
    """

    name: str = "target_accuracy"

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
        return words + (
            " in percent" if self.percent else " (less is better)" if self.smaller_is_better else ""
        )

    @property
    def factor(self) -> float:
        """Shown unit over stored unit: 100 or 1."""
        return 100.0 if self.percent else 1.0

    @property
    def decimals(self) -> int:
        """Digits after the point."""
        return 1 if self.percent else 3

    def read(self, run: Record, select: str) -> float:
        """The figure of the model that `select` picked, as stored. ValueError, naming the folder, where it lacks or is no such number."""
        selected = run.result.get("selected", {})
        if select not in selected:
            raise ValueError(
                f"{run.directory} has no selection {select!r}; it has {', '.join(sorted(selected)) or 'none'}"
            )
        value = selected[select].get(self.name)
        if value is None:
            known = ", ".join(key for key in selected[select] if key != "step") or "none"
            raise ValueError(f"{run.directory} has no {self.name} under {select!r}; it has {known}")
        if self.percent and not 0 <= value <= 1:
            raise ValueError(
                f"{run.directory}: {self.name} under {select!r} must be a fraction in [0, 1]; got {value!r}"
            )
        if not math.isfinite(value):
            raise ValueError(
                f"{run.directory}: {self.name} under {select!r} must be finite; got {value!r}"
            )
        return float(value)


def has_value(record: Record, key: str, value: Any) -> bool:
    """Whether the name or configuration value at `key` ("optimizer.name": dots lead into parts) is `value`."""
    found: Any = {name: record.result[name] for name in NAMES} | record.config
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return False
        found = found[part]
    return bool(found == (list(value) if isinstance(value, tuple) else value))


def parse_condition(text: str) -> tuple[str, Any]:
    """Key and value of "key=value", the value as JSON has it where it is JSON; ValueError for another form."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise ValueError(f"--where takes key=value; got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def check_alike(cell: tuple[str, str], runs: Sequence[Record]) -> None:
    """Runs of one cell (method, task) may differ in their seed alone; ValueError, naming the folders, where they differ in more."""
    first: dict[int, Record] = {}
    for run in runs:
        other = first.setdefault(run.result["seed"], run)
        for against in (other, runs[0]):
            keys = sorted(
                key
                for key in run.config.keys() | against.config.keys()
                if run.config.get(key) != against.config.get(key)
            )
            differing = [key for key in keys if key not in ("seed", "seeds")]
            if differing or (against is other and run is not other):
                words = ", ".join(differing) or "nothing but their folders"
                raise ValueError(
                    f"runs of {cell[0]} on {cell[1]} differ in {words}: {against.directory} and {run.directory}; "
                    "keep one configuration with where (--where key=value), or move the other folder away"
                )
