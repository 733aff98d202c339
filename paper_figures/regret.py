"""What a choice by each label-free score costs, from the CSV of experiments/selection_study.py.

    python experiments/selection_study.py
    python paper_figures/regret.py
    python paper_figures/regret.py --half confirm

A panel is a kind of choice: the trial of a method, the method, or both at once. A bar is the mean
regret, that is, how much the chosen run is worse on the target than the best one. The diamond is
the worst task. The rules are sorted by the sum of their regrets.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLUMNS = (
    *("half", "tasks", "rule", "choice", "regret"),
    *("worst", "worst_task", "correlation", "groups"),
)
TITLES = {
    "trial": "the trial of a method",
    "method": "the method",
    "both": "both at once",
}
NAMED = 6  # more tasks than these are counted
HALVES = {
    "all": "All tasks",
    "decide": "The tasks that decide",
    "confirm": "The tasks that confirm",
}
Row = dict[str, str]


@dataclass(frozen=True)
class Options(style.Options):
    """Draw the regret of every rule of a study of selection."""

    csv: Path = style.RUNS / "selection_study.csv"
    """The CSV of experiments/selection_study.py."""
    half: Literal["all", "decide", "confirm"] = "all"
    """Tasks that count: all, the half that decides, or the half that confirms."""


def read(path: Path, half: str) -> list[Row]:
    """The rows of one half of the tasks, or of all.

    Raises:
        FileNotFoundError: There is no file.
        ValueError: The file is no CSV of the study, or has no such half.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run experiments/selection_study.py")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise ValueError(
            f"{path} is not a CSV of experiments/selection_study.py: its columns must include "
            f"{', '.join(COLUMNS)}"
        )
    kept = [row for row in rows if row["half"] == half]
    if not kept:
        halves = ", ".join(sorted({row["half"] for row in rows}))
        raise ValueError(f"half must be one that {path} has, {halves}; got {half!r}")
    return kept


def draw(rows: Sequence[Row], half: str) -> Figure:
    """Draw a panel for each kind of choice."""
    choices = [choice for choice in TITLES if any(row["choice"] == choice for row in rows)]
    order = _order(rows)
    size = (style.INCHES["double"], 0.95 + 0.15 * len(order))
    figure, grid = pyplot.subplots(
        1, len(choices), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axes, choice in zip(grid[0], choices, strict=True):
        _panel(axes, {row["rule"]: row for row in rows if row["choice"] == choice}, order)
        axes.set_title(TITLES[choice], loc="left")
    grid[0, 0].set_yticks(range(len(order)), [style.score_name(rule) for rule in order])
    grid[0, 0].invert_yaxis()
    figure.supxlabel(
        "mean regret (bar) / regret of the worst task (diamond), in points.\n"
        f"{HALVES[half]}: {_tasks(rows)}.",
        fontsize=7,
    )
    return figure


def _tasks(rows: Sequence[Row]) -> str:
    """The tasks, without their source if that is the same for all; their number if many."""
    tasks = rows[0]["tasks"].split()
    if len(tasks) > NAMED:
        return str(len(tasks))
    if len({task.split(">")[0] for task in tasks}) == 1:
        return ", ".join(task.split(">")[-1] for task in tasks)
    return ", ".join(style.task_name(*task.split(">")) for task in tasks)


def _order(rows: Sequence[Row]) -> list[str]:
    """The rules by the sum of their regrets, the least first."""
    sums: dict[str, float] = {}
    for row in rows:
        sums[row["rule"]] = sums.get(row["rule"], 0.0) + float(row["regret"])
    return sorted(sums, key=lambda rule: (sums[rule], rule))


def _panel(axes: Axes, by_rule: dict[str, Row], order: Sequence[str]) -> None:
    """Draw a bar and a diamond for each rule."""
    for place, rule in enumerate(order):
        if rule not in by_rule:
            continue
        regret, worst = (float(by_rule[rule][key]) for key in ("regret", "worst"))
        axes.barh(place, regret, height=0.7, color=style.METHODS[0], zorder=2)
        axes.plot([regret, worst], [place, place], color=style.GREY, linewidth=0.7, zorder=1)
        look = {"color": style.METHODS[1], "marker": "D", "markersize": 3}
        axes.plot(worst, place, zorder=3, **look)
        beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 6}
        axes.annotate(f"{regret:.1f} / {worst:.1f}", (worst, place), **beside)
    axes.margins(x=0.3)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)


def make(options: Options) -> style.Drawing:
    """The figure of the CSV that the flags name."""
    rows = read(options.csv, options.half)
    numbers = style.csv_text(COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
    return style.Drawing(draw(rows, options.half), f"{options.csv.stem}_regret", numbers)


if __name__ == "__main__":
    style.main(Options, make)
