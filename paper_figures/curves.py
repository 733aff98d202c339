"""Accuracy and label-free scores while a network learns, from the metrics of finished runs.

    python paper_figures/curves.py
    python paper_figures/curves.py --methods none mmd dann --scores information_maximisation entropy

The first panel shows the target accuracy, which no choice may read. Each further panel shows a
score that reads no target labels, so one can see whether it follows the accuracy. A line is the
mean over seeds, and its band one standard deviation. Of several trials the row's own recipe is
drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from da.records import Record, display_name
from da.records.trials import DEFAULT_SCORE

ACCURACY = "target_accuracy"


@dataclass(frozen=True)
class Options(style.TaskOptions):
    """Draw the target accuracy and label-free scores over the training steps."""

    methods: tuple[str, ...] = ("none", "adabn", "mmd")
    """Methods to draw, in this order."""
    scores: tuple[str, ...] = (DEFAULT_SCORE,)
    """Label-free scores to draw, as the runs have logged them."""


class Point(NamedTuple):
    """A line of the CSV: a method at a step."""

    method: str
    figure: str
    step: int
    mean: float
    deviation: float  # NaN from one seed
    seeds: int


def points(runs: Mapping[str, Mapping[int, Record]], figures: Sequence[str]) -> list[Point]:
    """Every point of every line, at the steps that all seeds of a method have.

    Raises:
        ValueError: The runs of a method have not logged a figure.
    """
    found = []
    for method, by_seed in runs.items():
        logged = [run.metrics() for run in by_seed.values()]
        for name in figures:
            curves = [{int(m["step"]): m[name] for m in lines if name in m} for lines in logged]
            steps = sorted(set.intersection(*map(set, curves)))
            if not steps:
                names = sorted(set().union(*(line for lines in logged for line in lines)))
                there = ", ".join(names) or "nothing"
                raise ValueError(f"the runs of {method} have not logged {name}; they have {there}")
            for step in steps:
                values = [curve[step] for curve in curves]
                deviation = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
                mean = float(np.mean(values))
                found.append(Point(method, name, step, mean, deviation, len(values)))
    return found


def draw(found: Sequence[Point], options: Options) -> Figure:
    """Draw a panel for the accuracy and one for each score."""
    figures = list(dict.fromkeys(point.figure for point in found))
    columns = 3 if options.width == "double" else 1
    lines = -(-len(figures) // columns)
    size = (style.INCHES[options.width], 1.7 * lines + 0.5)
    shape = {"figsize": size, "layout": "constrained", "squeeze": False, "sharex": True}
    figure, grid = pyplot.subplots(lines, min(columns, len(figures)), **shape)
    for axes in grid.flat[len(figures) :]:
        axes.remove()
    for axes, name in zip(grid.flat, figures, strict=False):
        _panel(axes, [point for point in found if point.figure == name])
    task = style.task_name(options.source, options.target)
    counts = sorted({point.seeds for point in found})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    words = "one seed" if seeds == "1" else f"mean ± standard deviation, {seeds} seeds"
    apart = " " if options.width == "double" else "\n"
    title = f"{options.experiment}, {task}:{apart}{words}"
    figure.suptitle(title, fontsize=7, x=0.01, ha="left")
    for axes in grid.flat[max(len(figures) - columns, 0) : len(figures)]:
        axes.set_xlabel("step")
    handles = grid.flat[0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4 * columns))
    return figure


def _panel(axes: Axes, own: Sequence[Point]) -> None:
    """Draw a line with its band for each method."""
    name = own[0].figure
    factor = 100 if name == ACCURACY else 1
    methods = list(dict.fromkeys(point.method for point in own))
    colours = style.looks(methods)
    for method in methods:
        kept = [point for point in own if point.method == method]
        x = [point.step for point in kept]
        mean = factor * np.array([point.mean for point in kept])
        reach = factor * np.nan_to_num([point.deviation for point in kept])
        look = {"color": colours[method], "marker": "o", "markersize": 2, "linewidth": 1}
        axes.plot(x, mean, label=display_name(method), **look)
        axes.fill_between(x, mean - reach, mean + reach, color=colours[method], alpha=0.2, lw=0)
    axes.set_ylabel(style.score_name(name) + " (%)" * (factor == 100))
    axes.tick_params(labelbottom=True)


def make(options: Options) -> style.Drawing:
    """The figure of the runs that the flags name."""
    found = points(options.usual_runs(), (ACCURACY, *options.scores))
    name = f"{options.experiment}_curves_{options.source}-{options.target}"
    return style.Drawing(draw(found, options), name, style.csv_text(Point._fields, found))


if __name__ == "__main__":
    style.main(Options, make)
