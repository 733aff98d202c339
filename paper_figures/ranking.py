"""Do transferability scores predict the accuracy after fine-tuning? From records of finished runs.

    python paper_figures/ranking.py
    python paper_figures/ranking.py --runs-dir experiments/records --experiment rank_models

A panel shows one score. A mark is a candidate, as a mean over seeds, and its colour is the target.
Compare marks of one colour only, because the scores of one target say nothing about another. The
title of a panel is the weighted Kendall tau, as a mean over targets and seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from da.records import Table, ranking
from da.records.rankings import Point, points

COLUMNS = 3
MARKS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Options(style.RecordOptions):
    """Draw the scores of one experiment against accuracies."""

    experiment: str = "rank_sources"
    """Experiment to draw."""
    width: style.Width = "double"
    """Printed width: one column (3.3 inches) or two (6.9)."""


def draw(table: Table, found: Sequence[Point], *, width: style.Width) -> Figure:
    """Draw a panel for each score. `table` has the taus, `found` the points."""
    columns = COLUMNS if width == "double" else 2
    lines = -(-len(table.rows) // columns)
    size = (style.INCHES[width], 1.75 * lines + 0.35)
    figure, grid = pyplot.subplots(
        lines, columns, figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axes in grid.flat[len(table.rows) :]:
        axes.remove()
    for axes, score in zip(grid.flat, table.rows, strict=False):
        _panel(axes, table, [point for point in found if point.score == score])
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy reached (%)")
    handles = grid[0, 0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _panel(axes: Axes, table: Table, own: Sequence[Point]) -> None:
    """Draw the points of one score."""
    for target, colour, mark in zip(table.tasks, style.METHODS, MARKS, strict=False):
        means = _means([point for point in own if point.target == target])  # (candidates, 2)
        look = {"linestyle": "none", "color": colour, "marker": mark, "markersize": 3.5}
        axes.plot(means[:, 0], 100 * means[:, 1], label=target, **look)
    score = own[0].score
    axes.set_xlabel(style.score_name(score))
    axes.ticklabel_format(useOffset=False)
    axes.locator_params(axis="x", nbins=5)  # more would run into each other
    axes.set_title(_title(table, score), loc="left")


def _title(table: Table, score: str) -> str:
    """The mean tau of a score, and over how many targets if not over all."""
    taus = [table.mean(score, target) for target in table.tasks]
    known = [tau for tau in taus if tau is not None]
    if not known:
        return "no ranking: all candidates alike"
    left_out = f", {len(known)} of {len(taus)} targets" if len(known) < len(taus) else ""
    # z: no minus before 0.00
    return f"weighted τ {np.mean(known):z.2f}{left_out}".replace("-", "−")


def _means(own: Sequence[Point]) -> np.ndarray:
    """Score and accuracy of each candidate, means over seeds: (candidates, 2)."""
    candidates = dict.fromkeys(point.candidate for point in own)
    pairs = [
        np.mean([(p.value, p.accuracy) for p in own if p.candidate == candidate], axis=0)
        for candidate in candidates
    ]
    return np.array(pairs).reshape(-1, 2)


def make(options: Options) -> style.Drawing:
    """The figure of the records that the flags name."""
    records = options.records()
    table, found = ranking(records), points(records)
    figure = draw(table, found, width=options.width)
    numbers = style.csv_text(Point._fields, found)
    return style.Drawing(figure, f"{options.experiment}_ranking", numbers)


if __name__ == "__main__":
    style.main(Options, make)
