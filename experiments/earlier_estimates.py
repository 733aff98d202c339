"""Collect the estimates by which `python -m da adapt` makes its intervals, from stored records.

    python experiments/earlier_estimates.py

It reads the estimates "members" of the accuracy studies on the digits, Office-31 and
Office-Caltech10, each with the accuracy that the target's labels gave, and writes
da/adapt/earlier_estimates.json. One seed of a study is enough: on one task the seeds of a row err
alike. It takes a second. Run it after an accuracy study has changed.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from da.adapt.estimate import EARLIER
from da.records.command_line import parse

HERE = Path(__file__).resolve().parent
ESTIMATOR = "members"
SOURCES = "the digits, and Office-31 and Office-Caltech10 on frozen features"
STUDIES = {name: f"accuracy_study_{name}.csv" for name in ("digits", "office31", "office_caltech")}
SEED = "0"


@dataclass(frozen=True)
class Options:
    """Write the estimates of earlier models."""

    records: Path = HERE / "records"
    """Folder of the studies."""
    out: Path = HERE.parent / "da/adapt" / EARLIER
    """The file that is written."""


def models_of(name: str, path: Path) -> list[dict[str, str | float]]:
    """Task, estimate and true accuracy of each model of a study."""
    wanted = (ESTIMATOR, SEED)
    with path.open(encoding="utf-8", newline="") as file:
        lines = [x for x in csv.DictReader(file) if (x["estimator"], x["seed"]) == wanted]
    return [
        {
            "task": f"{name} {line['task']}",
            "model": line["method"],
            "estimate": round(float(line["estimate"]), 4),
            "accuracy": round(float(line["accuracy"]), 4),
        }
        for line in lines
    ]


def main(arguments: list[str] | None = None) -> None:
    options = parse(Options, arguments)
    models = [one for n, f in STUDIES.items() for one in models_of(n, options.records / f)]
    content = json.dumps({"sources": SOURCES, "models": models}, indent=0)
    options.out.write_text(content + "\n", encoding="utf-8")
    tasks = len({one["task"] for one in models})
    print(f"{options.out}: {len(models)} models on {tasks} tasks")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
