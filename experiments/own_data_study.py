"""How well does `python -m da adapt` choose and estimate? Collects its finished folders.

    python experiments/own_data_study.py adapted_1 adapted_2 ...

Each folder is the output of a task whose target has labels. It prints, for each task, the accuracy
of the chosen model, of the best one, and the estimate. With --write it also stores the estimates
and true accuracies in da/adapt/earlier_estimates.json, by which `adapt` calibrates its intervals.
The folders are made by the command itself, in up to ten minutes each; this script takes a second.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from da.adapt.estimate import EARLIER
from da.records.command_line import parse

PLACE = Path(__file__).resolve().parent.parent / "da/adapt" / EARLIER


@dataclass(frozen=True)
class Options:
    """Collect finished folders of python -m da adapt whose targets have labels."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Output folders of the command."""
    write: bool = False
    """Store the estimates for the calibration of intervals."""


def main(arguments: list[str] | None = None) -> None:
    options = parse(Options, arguments)
    tasks = [task_of(folder) for folder in options.folders]
    for task in tasks:
        print(
            "{task}: {row} {accuracy:.3f}, best {best:.3f}, source only {source_only:.3f}, "
            "estimated {estimate:.3f} [{low:.3f}, {high:.3f}]".format(**task)
        )
    loss = np.mean([task["best"] - task["accuracy"] for task in tasks])
    error = np.mean([abs(task["estimate"] - task["accuracy"]) for task in tasks])
    covered = sum(task["low"] <= task["accuracy"] <= task["high"] for task in tasks)
    print(f"mean loss {100 * loss:.1f}, mean error of the estimate {100 * error:.1f} points")
    print(f"{covered} of {len(tasks)} intervals, before calibration, hold the truth")
    if options.write:
        PLACE.write_text(json.dumps({"tasks": tasks}, indent=1) + "\n", encoding="utf-8")


def task_of(folder: Path) -> dict[str, Any]:
    """What a folder says of its task."""
    about = json.loads((folder / "model/model.json").read_text(encoding="utf-8"))
    estimate = about.get("estimate_before_calibration") or about["estimated_accuracy"]
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    if estimate is None or "true accuracy %" not in lines[0]:
        raise ValueError(f"{folder}: its target has no classes as labels")
    true = {(line["row"], line["trial"]): float(line["true accuracy %"]) / 100 for line in lines}
    return {
        "task": f"{'+'.join(about['sources'])}>{about['target']}",
        "row": about["row"],
        "accuracy": true[about["row"], str(about["trial"])],
        "best": max(true.values()),
        "source_only": true["source_only", "0"],
        "estimate": round(estimate["accuracy"], 4),
        "low": round(estimate["low"], 4),
        "high": round(estimate["high"], 4),
    }


if __name__ == "__main__":
    main()
