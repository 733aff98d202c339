"""How good is a choice without target labels? The chosen model against the oracle's, from records.

    python paper_figures/chosen_oracle.py
    python paper_figures/chosen_oracle.py --select entropy --methods mmd dann mdd

A mark is a method on a task, as a mean over seeds. Its height is the accuracy of the trial and step
that a label-free score chose, and its place along the axis that of the best trial and step. The
oracle reads target labels to find these. The distance below the diagonal is the regret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from da.records import Table, display_name
from da.records.budgets import budgets_of, words
from da.records.choice import by_oracle, regrets_of
from da.records.trials import DEFAULT_SCORE

MARKS = "os^DvP<>"
NAMED = 3  # the largest regrets have the name of their method beside them


@dataclass(frozen=True)
class Options(style.TableOptions):
    """Draw the accuracies that a label-free score chooses against the best ones."""

    select: str = DEFAULT_SCORE
    """What chooses trial and step: a label-free score, or last."""
    trials: bool = True
    """Choose among several configurations of a method by --select, for each task and seed."""


class Point(NamedTuple):
    """A line of the CSV: a method on a task with one seed; accuracies in percent."""

    method: str
    task: str
    seed: int
    chosen: float
    oracle: float
    regret: float


class Mean(NamedTuple):
    """A mark: means over seeds."""

    method: str
    chosen: float
    oracle: float


def points(table: Table) -> list[Point]:
    """Every method, task and seed. Raises ValueError if the runs have no oracle."""
    oracle = by_oracle(table)
    if oracle is None:
        raise ValueError(
            f"some runs of {table.experiment} have no choice by target labels, 'oracle', to "
            "compare with"
        )
    found = []
    for row in table.rows:
        own, best = table.pairs(row), oracle.pairs(row)
        for (task, seed), regret in regrets_of(table, oracle, row).items():
            found.append(Point(row, task, seed, own[task, seed], best[task, seed], regret))
    return found


def draw(table: Table, found: Sequence[Point], *, width: style.Width) -> Figure:
    """Draw a mark for each method and task."""
    inches = {"column": 3.3, "double": 4.6}[width]
    figure, axes = pyplot.subplots(figsize=(inches, inches + 0.35), layout="constrained")
    shown = style.short_names(table, table.tasks)
    means = {task: _means([point for point in found if point.task == task]) for task in table.tasks}
    values = [value for own in means.values() for mean in own for value in mean[1:]]
    room = 0.07 * (max(values) - min(values) + 1)
    low, high = min(values) - room, max(values) + room
    axes.plot([low, high], [low, high], **style.RULE, zorder=1)
    for place, (task, name) in enumerate(zip(table.tasks, shown, strict=True)):
        look = {"color": style.METHODS[place % 8], "marker": MARKS[place % 8], "markersize": 3.5}
        x, y = [mean.oracle for mean in means[task]], [mean.chosen for mean in means[task]]
        axes.plot(x, y, linestyle="none", markeredgewidth=0, alpha=0.85, label=name, **look)
    _name_worst(axes, [mean for own in means.values() for mean in own])
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel("oracle (reads target labels): target accuracy (%)")
    axes.set_ylabel("chosen: target accuracy (%)")
    regret = np.mean([point.regret for point in found])
    budget = words([b for own in budgets_of(table.runs).values() for b in own])
    chosen = f"chosen by '{style.score_name(table.select)}'"
    seeds = style.seeds(table)
    axes.set_title(
        f"{table.experiment}, {chosen}\n{budget}, {seeds}; mean regret {regret:.1f} points",
        loc="left",
    )
    figure.legend(loc="outside lower center", ncols=3 if width == "column" else 5)
    return figure


def _means(own: Sequence[Point]) -> list[Mean]:
    """The mean over seeds of each method."""
    found = []
    for method in dict.fromkeys(point.method for point in own):
        kept = [point for point in own if point.method == method]
        pair = np.mean([(point.chosen, point.oracle) for point in kept], axis=0)
        found.append(Mean(method, float(pair[0]), float(pair[1])))
    return found


def _name_worst(axes: Axes, means: Sequence[Mean]) -> None:
    """Write the methods of the largest regrets, of a point or more, beside their marks."""
    worst = sorted(means, key=lambda mean: mean.chosen - mean.oracle)[:NAMED]
    for mean in worst:
        if mean.oracle - mean.chosen >= 1:
            place = {"xytext": (2, -2), "textcoords": "offset points", "va": "top", "fontsize": 6}
            axes.annotate(display_name(mean.method), (mean.oracle, mean.chosen), **place)


def make(options: Options) -> style.Drawing:
    """The figure of the records that the flags name."""
    table = options.table()
    found = points(table)
    name = f"{table.experiment}_chosen_oracle"
    numbers = style.csv_text(Point._fields, found)
    return style.Drawing(draw(table, found, width=options.width), name, numbers)


if __name__ == "__main__":
    style.main(Options, make)
