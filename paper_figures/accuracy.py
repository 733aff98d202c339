"""Bars of target accuracy by task and method, with standard deviations over seeds, from finished run records.

python paper_figures/accuracy.py
python paper_figures/accuracy.py --experiment office_caltech_mmd --width double
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from da.records import Table
from da.records.table import AVERAGE

GROUP = 0.8  # width of a task's bars together, where the next task is 1 away


@dataclass(frozen=True)
class Options(style.TableOptions):
    """Draw one experiment's target accuracies as grouped bars: mean over seeds, whiskers of one standard deviation."""

    classes: int | None = 10
    """Number of classes, for a line at the chance level 100 / classes; none: no line."""

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes < 2:
            raise ValueError(f"classes must be at least 2; got {self.classes}")


def draw(table: Table, options: Options) -> Figure:
    """Tasks, and their average where there are several, along the axis; a bar for each method."""
    width, classes = options.width, options.classes
    columns = [*table.tasks, AVERAGE] if len(table.tasks) > 1 else list(table.tasks)
    places = np.arange(len(columns)) + np.where(
        np.array(columns) == AVERAGE, 0.25, 0
    )  # the average stands apart
    spacing = (style.INCHES[width] - 0.5) / (places[-1] + 1.1)  # inches between two tasks
    names = _names(table, columns)
    slanted = max(len(name) for name in names) * 0.046 + 0.05 > spacing  # they would touch
    figure, axes = pyplot.subplots(
        figsize=(style.INCHES[width], 2.2 + 0.02 * max(map(len, names)) * slanted),
        layout="constrained",
    )
    colours = iter(style.METHODS * len(table.rows))
    for row, method in enumerate(table.rows):
        colour = style.GREY if method == table.baseline else next(colours)
        shift = (row - (len(table.rows) - 1) / 2) * GROUP / len(table.rows)
        _bars(
            axes,
            table,
            method,
            columns,
            places + shift,
            colour=colour,
            cap=min(2.0, 20 * spacing * GROUP / len(table.rows)),
        )
    if classes is not None:
        label = f"chance: {100 / classes:.3g} %"
        axes.axhline(
            100 / classes,
            color="black",
            linewidth=0.7,
            linestyle=(0, (4, 3)),
            label=label,
            zorder=3,
        )
    axes.set(
        ylim=(0, 100), ylabel="target accuracy (%)", xlim=(places[0] - 0.55, places[-1] + 0.55)
    )
    axes.set_xticks(
        places,
        names,
        rotation=35 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor",
    )
    axes.tick_params(axis="x", length=0, pad=2 if slanted else 8)
    if len(sources := _sources(table)) == 1:
        axes.set_xlabel(f"target domain (source: {sources.pop()})")
    axes.set_title(_title(table), loc="left")
    handles = sorted(
        axes.get_legend_handles_labels()[0], key=lambda handle: isinstance(handle, Line2D)
    )  # chance last
    per_line = 4 if width == "column" else 8
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), per_line))
    return figure


def _bars(
    axes: Axes,
    table: Table,
    method: str,
    columns: list[str],
    places: np.ndarray,
    *,
    colour: str,
    cap: float,
) -> None:
    """One method's bars; a task without a run of it has no bar, a single seed no whisker."""
    known = [
        (place, task)
        for place, task in zip(places, columns, strict=True)
        if table.mean(method, task) is not None
    ]
    means = np.array([table.mean(method, task) for _, task in known], float)
    deviations = np.array(
        [table.deviation(method, task) for _, task in known], float
    )  # None becomes NaN: not drawn
    axes.bar(
        [place for place, _ in known],
        means,
        0.92 * GROUP / len(table.rows),
        color=colour,
        label=method,
        zorder=2,
    )
    whisker = {"ecolor": "black", "elinewidth": 0.7, "capsize": cap, "capthick": 0.7}
    axes.errorbar([place for place, _ in known], means, deviations, fmt="none", zorder=4, **whisker)


def _sources(table: Table) -> set[str]:
    return {task.split(">")[0] for task in table.tasks}


def _names(table: Table, columns: list[str]) -> list[str]:
    """source>target, or the target alone where all tasks have one source."""
    return [
        name.split(">")[-1] if len(_sources(table)) == 1 else name.replace(">", " → ")
        for name in columns
    ]


def _title(table: Table) -> str:
    seeds = style.seeds(table)
    lines = [f"{table.experiment}: model selected by '{table.select}'"]
    lines += ["(reads target labels: an upper bound)"] if table.select == "oracle" else []
    return "\n".join(
        [*lines, f"mean ± standard deviation over {seeds}" if seeds != "1 seed" else "one seed"]
    )


if __name__ == "__main__":
    style.main(Options, draw, kind="accuracy")
