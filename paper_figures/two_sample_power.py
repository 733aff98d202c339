"""Power of the two-sample tests, from the records of experiments/two_sample_power.py.

    python paper_figures/two_sample_power.py
    python paper_figures/two_sample_power.py --runs-dir experiments/records

A panel shows the share of repetitions in which a test rejects, against the number of rows or of
perturbations. Whiskers are 95 % intervals of Clopper and Pearson. The dashed line is the level: a
test of two equal distributions rejects as often.
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
from scipy.stats import binomtest

from da.records import Record

LABELS = {"mmd_test": "MMD, median bandwidth", "mmd_fuse": "MMD-FUSE"}
MARKS = {"mmd_test": (style.METHODS[0], "o", -1), "mmd_fuse": (style.METHODS[1], "s", 1)}


@dataclass(frozen=True)
class Options(style.RecordOptions):
    """Draw power curves of the two-sample tests."""

    experiment: str = "two_sample_power"
    """Experiment to draw."""
    width: style.Width = "double"
    """Printed width: one column (3.3 inches) or two (6.9)."""


class Point(NamedTuple):
    """A point of a curve, and a line of the CSV."""

    problem: str
    axis: str
    place: int
    test: str
    repetitions: int
    rejections: int
    power: float
    low: float
    high: float
    alpha: float


def points(records: Sequence[Record]) -> list[Point]:
    """Every point of every curve. Raises ValueError if a curve has two records."""
    found: dict[tuple[str, str], Record] = {}
    for record in records:
        key = (f"{record.result['source']} > {record.result['target']}", record.result["method"])
        if key in found:
            raise ValueError(
                f"{found[key].directory} and {record.directory} are one curve: "
                "choose one with --where key=value"
            )
        found[key] = record
    lines = []
    for (name, test), record in sorted(found.items()):
        problem, _, axis = name.rpartition(" by ")
        for metrics in record.metrics():
            count, rejections = int(metrics["repetitions"]), int(metrics["rejections"])
            low, high = binomtest(rejections, count).proportion_ci()
            numbers = (count, rejections, rejections / count, low, high, record.config["alpha"])
            lines.append(Point(problem, axis, int(metrics["step"]), test, *numbers))
    return lines


def draw(lines: Sequence[Point], *, width: style.Width) -> Figure:
    """Draw a panel for each problem and axis. The panels over rows come first."""
    panels = sorted({(line.problem, line.axis) for line in lines}, key=_order)
    columns = 3 if width == "double" else 2
    rows = -(-len(panels) // columns)
    size = (style.INCHES[width], 1.55 * rows + 0.4)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, panel in zip(grid.flat, panels, strict=False):
        _panel(axes, [line for line in lines if (line.problem, line.axis) == panel])
    for axes in grid[:, 0]:
        axes.set_ylabel("rejected")
    handles = grid[0, 0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _order(panel: tuple[str, str]) -> tuple[bool, bool, str]:
    """The key by which panels are sorted."""
    problem, axis = panel
    return axis != "rows" or "clean > clean" in problem, problem.startswith("clean"), problem


def _panel(axes: Axes, lines: Sequence[Point]) -> None:
    """Draw a curve for each test."""
    places = sorted({line.place for line in lines})
    spread = 0.006 * (places[-1] - places[0])  # so that whiskers stand side by side
    level = lines[0].alpha
    axes.axhline(level, **style.RULE, label=f"level {level:g}", zorder=1)
    for test in sorted({line.test for line in lines}, reverse=True):
        own = sorted((line for line in lines if line.test == test), key=lambda line: line.place)
        colour, marker, side = MARKS[test]
        x = np.array([line.place for line in own]) + side * spread
        power = np.array([line.power for line in own])
        reach = np.abs(np.array([(line.low, line.high) for line in own]).T - power)  # (2, points)
        look = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 1}
        whisker = {"elinewidth": 0.7, "capsize": 1.5, "capthick": 0.7}
        axes.errorbar(x, power, reach, label=LABELS[test], zorder=3, **look, **whisker)
    axes.set_ylim(-0.03, 1.05)
    if lines[0].axis == "rows":
        axes.set_xlabel("rows of each sample")
    else:
        axes.set_xlabel("perturbations along each axis")
        axes.set_xticks(places)
    axes.set_title(lines[0].problem.replace(">", "→"), loc="left")


def make(options: Options) -> style.Drawing:
    """The figure of the records that the flags name."""
    lines = points(options.records())
    figure = draw(lines, width=options.width)
    return style.Drawing(figure, options.experiment, style.csv_text(Point._fields, lines))


if __name__ == "__main__":
    style.main(Options, make)
