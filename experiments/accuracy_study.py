"""How well is target accuracy estimated without target labels? Error and coverage on finished runs.

    python experiments/digits_mmd.py --source-validation 0.2 --processes 2
    python experiments/accuracy_study.py

Every run's accuracy is estimated from its predictions, from held-out source rows, and from the runs
of the other methods. Target labels serve for the errors and for nothing else. Beside its own
interval each estimate has one that is calibrated on all tasks but its own.

The table is in docs/results/accuracy_study.md.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da.records import read_runs
from da.records.command_line import parse
from da.records.grids import aligned
from da.records.trials import own_recipes
from da.select.accuracy_cells import Cell, estimated_cells, with_calibrated_intervals

HEADING = ["estimator", "mean error", "bias", "interval covers", "width", "calibrated covers",
           "width", "called reliable"]  # fmt: skip
COLUMNS = ("method task seed accuracy estimator estimate low high reliable calibrated_low "
           "calibrated_high")  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Measure estimates of accuracy on finished runs."""

    runs_dir: Path = Path("runs")
    """Where the runs are; of several recipes of a method the usual one counts."""
    experiment: str = "digits_mmd"
    """The experiment that they belong to."""
    out: Path = Path("runs/accuracy_study.csv")
    """Where the estimates of all runs go."""


def table(cells: list[Cell]) -> str:
    """Mean error, bias and coverage of every estimator."""
    truth = np.array([cell.accuracy for cell in cells])
    grid = [HEADING]
    for name in cells[0].estimates:
        found = [cell.estimates[name] for cell in cells]
        value = np.array([one.accuracy for one in found])
        error, bias = np.abs(value - truth).mean(), (value - truth).mean()
        line = [name, f"{100 * error:.1f}", f"{100 * bias:.1f}"]
        for one in (found, [cell.calibrated[name] for cell in cells]):
            low, high = (np.array([getattr(o, end) for o in one]) for end in ("low", "high"))
            covered, width = ((low <= truth) & (truth <= high)).mean(), (high - low).mean()
            line += [f"{100 * covered:.0f} %", f"{100 * width:.1f}"]
        reliable = np.mean([one.reliable for one in found])
        grid.append([*line, f"{100 * reliable:.0f} %"])
    tasks = len({cell.task for cell in cells})
    return f"{len(cells)} runs on {tasks} tasks; percentage points.\n\n{aligned(grid)}"


def study(config: Config) -> str:
    """The table; the estimates of all runs go to `out`."""
    records = read_runs(config.runs_dir, experiment=config.experiment)
    cells = with_calibrated_intervals(estimated_cells(own_recipes(records)))
    if not cells:
        raise ValueError(f"no runs of {config.experiment} in {config.runs_dir}")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    with open(config.out, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS.split())
        for cell in cells:
            names = (cell.method, cell.task, cell.seed, cell.accuracy)
            for name, one in cell.estimates.items():
                own = (one.accuracy, one.low, one.high, one.reliable)
                wide = cell.calibrated[name]
                writer.writerow([*names, name, *own, wide.low, wide.high])
    return table(cells)


if __name__ == "__main__":
    try:
        print(study(parse(Config, description=__doc__)))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
