"""Which score chooses best without target labels? Regret of every score on finished trials.

    python experiments/digits_mmd.py --trials 8 --source-validation 0.2 --processes 2
    python experiments/selection_study.py

Three choices are measured: the trial of each method, the method with its usual recipe, and both at
once. The regret is how much the chosen run is worse on the target than the best one of its group.
Every second task decides which rule is best; the others confirm it. Target labels serve for the
regret and for nothing else.

The table is in docs/results/selection_study.md.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from da.records import read_runs
from da.records.command_line import parse
from da.records.grids import aligned
from da.select.candidates import CHOICES, read_candidates, rules
from da.select.study import Cost, costs


@dataclass(frozen=True)
class Config:
    """Measure label-free choices on finished trials."""

    runs_dir: Path = Path("runs")
    """Where the trials are."""
    experiment: str = "digits_mmd"
    """The experiment that the trials belong to."""
    out: Path = Path("runs/selection_study.csv")
    """Where the figures go."""


def table(title: str, found: list[Cost]) -> str:
    """The costs of every rule as a text."""
    by_rule: dict[str, dict[str, Cost]] = {}
    for each in found:
        by_rule.setdefault(each.rule, {})[each.choice] = each
    head = [f"{choice}: {word}" for choice in CHOICES for word in ("regret", "worst", "rank")]
    grid = [["rule", *head]]
    for rule, costed in by_rule.items():
        cells = [
            text
            for choice in CHOICES
            for text in (
                f"{costed[choice].regret:.1f}",
                f"{costed[choice].worst:.1f}",
                f"{costed[choice].correlation:.2f}".replace("nan", "-"),
            )
        ]
        grid.append([rule, *cells])
    return f"{title}\n\n{aligned(grid)}"


def study(config: Config) -> str:
    """The tables of both halves of the tasks; the figures of all go to `out`."""
    candidates = read_candidates(read_runs(config.runs_dir, experiment=config.experiment))
    tasks = sorted({candidate.task for candidate in candidates})
    if len(tasks) < 2:
        raise ValueError(f"runs_dir must hold trials on two tasks or more; got {tasks}")
    halves = {"decide": tasks[::2], "confirm": tasks[1::2], "all": tasks}
    every, parts, lines = rules(candidates), [], []
    for half, chosen in halves.items():
        found = costs(every, candidates, chosen)
        parts.append(table(f"{half}: {', '.join(chosen)}.", found))
        named = (half, " ".join(chosen))
        lines += [[*named, *(getattr(each, f.name) for f in fields(Cost))] for each in found]
    config.out.parent.mkdir(parents=True, exist_ok=True)
    with open(config.out, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([["half", "tasks", *(f.name for f in fields(Cost))], *lines])
    return "\n\n".join(parts)


if __name__ == "__main__":
    try:
        print(study(parse(Config, description=__doc__)))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
