"""By how much is each method better than the baseline? Paired differences, from records.

    python paper_figures/forest.py
    python paper_figures/forest.py --baseline adabn --methods adabn coral mmd dann

A panel is a task. A mark is a method less the baseline, paired by seed, with its 95 % interval. A
filled mark is significant, by the t-test with Holm's correction over all marks of the picture. The
row with the best average is on top. An interval that leaves the panel ends in an arrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from da.records import Difference, Table, display_name

COLUMNS = ("method", "task", "difference", "low", "high", "seeds", "p_value", "significant")


@dataclass(frozen=True)
class Options(style.TableOptions):
    """Draw the difference of each method to the baseline, task by task."""

    width: style.Width = "double"
    """Printed width: one column (3.3 inches) or two (6.9)."""


Gains = dict[tuple[str, str], Difference]


def draw(table: Table, gains: Gains, *, width: style.Width) -> Figure:
    """Draw a panel for each task, and one for their average."""
    rows = sorted({row for row, _ in gains}, key=lambda row: -_overall(table, gains, row))
    size = (style.INCHES[width], 0.75 + 0.15 * len(rows))
    figure, grid = pyplot.subplots(
        1, len(table.columns), figsize=size, layout="constrained", sharey=True, sharex=True,
        squeeze=False,
    )  # fmt: skip
    low, high = _limits(gains)
    names = style.short_names(table, table.columns)
    for axes, column, name in zip(grid[0], table.columns, names, strict=True):
        axes.axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
        for place, row in enumerate(rows):
            if (row, column) in gains:
                _mark(axes, gains[row, column], place, (low, high))
        axes.set_title(name)
        axes.tick_params(axis="y", length=0)
    axes = grid[0, 0]
    axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [display_name(row) for row in rows])
    figure.supxlabel(
        f"difference to {display_name(table.baseline)} (points), 95 % interval over "
        f"{style.seeds(table)}; filled: significant. {table.experiment}, {style.selected(table)}",
        fontsize=7,
    )
    return figure


def _overall(table: Table, gains: Gains, row: str) -> float:
    """The average difference of a method, or the mean of those that it has."""
    *_, column = table.columns
    if (row, column) in gains:
        return gains[row, column].mean
    return float(np.mean([gain.mean for (own, _), gain in gains.items() if own == row]))


def _limits(gains: Gains) -> tuple[float, float]:
    """A range that shows every mean; intervals may leave it."""
    means = [0.0, *(gain.mean for gain in gains.values())]
    room = 0.25 * max(max(means) - min(means), 1.0)
    return min(means) - room, max(means) + room


def _mark(axes: Axes, gain: Difference, place: int, limits: tuple[float, float]) -> None:
    """Draw a mean and its interval. One seed has no interval."""
    colour = style.METHODS[1] if gain.mean < 0 else style.METHODS[0]
    if gain.low is not None and gain.high is not None:
        ends = np.clip((gain.low, gain.high), *limits)
        axes.plot(ends, (place, place), color=colour, linewidth=0.8, zorder=2)
        for end, limit, sign in ((gain.low, limits[0], "<"), (gain.high, limits[1], ">")):
            if (end < limit) if sign == "<" else (end > limit):
                axes.plot(limit, place, color=colour, marker=sign, markersize=2.5, clip_on=False)
    fill = colour if gain.certain else "white"
    look = {"color": colour, "marker": "o", "markersize": 3.2, "markerfacecolor": fill}
    axes.plot(gain.mean, place, zorder=3, markeredgewidth=0.8, **look)


def make(options: Options) -> style.Drawing:
    """The figure of the records that the flags name."""
    table = options.table()
    gains = table.differences()
    if not gains:
        raise ValueError(
            f"no method shares a seed with the baseline {table.baseline!r}; it is one of the rows "
            f"{', '.join(table.rows)} or is missing: choose it with --baseline"
        )
    rows = [
        (*key, gain.mean, gain.low, gain.high, gain.seeds, gain.p_value, gain.certain)
        for key, gain in gains.items()
    ]
    figure = draw(table, gains, width=options.width)
    numbers = style.csv_text(COLUMNS, rows)
    return style.Drawing(figure, f"{table.experiment}_forest", numbers)


if __name__ == "__main__":
    style.main(Options, make)
