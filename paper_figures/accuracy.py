"""Target accuracy of each task and method as bars, from records of finished runs.

    python paper_figures/accuracy.py --width double --methods none adabn mmd
    python paper_figures/accuracy.py --runs-dir experiments/records --experiment office_caltech_mmd

A bar is the mean over seeds, and its whisker one standard deviation. The dashed line is the
accuracy of chance, 1 / classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from da.records import Table, display_name
from da.records.table import AVERAGE

GROUP = 0.8  # width of all bars of a task; the next task is 1 away


@dataclass(frozen=True)
class Options(style.TableOptions):
    """Draw the target accuracies of one experiment as grouped bars."""

    classes: int | None = None
    """Number of classes, for a line at chance; none: as the records say, or no line."""

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes < 2:
            raise ValueError(f"classes must be at least 2; got {self.classes}")


class Bars(NamedTuple):
    """The bars of one method."""

    method: str
    places: np.ndarray  # (columns,) of their middles
    width: float
    colour: str
    cap: float  # of a whisker, in points


def draw(table: Table, options: Options) -> Figure:
    """Draw tasks along the axis, with a bar for each method. Several tasks have an average."""
    columns = [*table.tasks, AVERAGE] if len(table.tasks) > 1 else list(table.tasks)
    apart = np.where(np.array(columns) == AVERAGE, 0.25, 0)
    places = np.arange(len(columns)) + apart
    spacing = (style.INCHES[options.width] - 0.5) / (places[-1] + 1.1)  # inches between two tasks
    names = style.short_names(table, columns)
    longest = max(map(len, names))
    slanted = longest * 0.046 + 0.05 > spacing  # level names would touch
    size = (style.INCHES[options.width], 2.2 + 0.02 * longest * slanted)
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    for bars in _all_bars(table, places, spacing):
        _draw_bars(axes, table, columns, bars)
    if classes := options.classes or _classes(table):
        chance = 100 / classes
        axes.axhline(chance, **style.RULE, label=f"chance: {chance:.3g} %", zorder=3)
    axes.set(ylim=(0, 100), ylabel="target accuracy (%)")
    axes.set(xlim=(places[0] - 0.55, places[-1] + 0.55))
    place = {"rotation": 35, "ha": "right"} if slanted else {"rotation": 0, "ha": "center"}
    axes.set_xticks(places, names, rotation_mode="anchor", **place)
    axes.tick_params(axis="x", length=0, pad=2 if slanted else 8)
    if len(sources := style.sources(table)) == 1:
        axes.set_xlabel(f"target domain (source: {sources.pop()})")
    axes.set_title(_title(table), loc="left")
    _legend(figure, axes, columns=4 if options.width == "column" else 8)
    return figure


def _classes(table: Table) -> int:
    """How many classes the records say there are; 0 if they do not."""
    names = style.class_names(run for runs in table.runs.values() for run in runs)
    return len(names or ())


def _all_bars(table: Table, places: np.ndarray, spacing: float) -> list[Bars]:
    """The bars of every method, side by side. The baseline is grey."""
    colours = iter(style.METHODS * len(table.rows))
    width = GROUP / len(table.rows)
    found = []
    for row, method in enumerate(table.rows):
        colour = style.GREY if method == table.baseline else next(colours)
        shift = (row - (len(table.rows) - 1) / 2) * width
        cap = min(2.0, 20 * spacing * width)
        found.append(Bars(method, places + shift, 0.92 * width, colour, cap))
    return found


def _draw_bars(axes: Axes, table: Table, columns: list[str], bars: Bars) -> None:
    """Draw the bars of one method. A task without a run has no bar, one seed no whisker."""
    means = [table.mean(bars.method, task) for task in columns]
    known = [number for number, mean in enumerate(means) if mean is not None]
    places, heights = bars.places[known], np.array(means, float)[known]
    # A deviation of None becomes NaN and is not drawn.
    deviations = np.array([table.deviation(bars.method, columns[k]) for k in known], float)
    axes.bar(
        places, heights, bars.width, color=bars.colour, label=display_name(bars.method), zorder=2
    )
    whisker = {"ecolor": "black", "elinewidth": 0.7, "capsize": bars.cap, "capthick": 0.7}
    axes.errorbar(places, heights, deviations, fmt="none", zorder=4, **whisker)


def _legend(figure: Figure, axes: Axes, *, columns: int) -> None:
    """The methods, and chance as the last entry."""
    handles = axes.get_legend_handles_labels()[0]
    handles = sorted(handles, key=lambda handle: isinstance(handle, Line2D))
    place = {"loc": "outside lower center", "ncols": min(len(handles), columns)}
    figure.legend(handles=handles, **place)


def _title(table: Table) -> str:
    lines = [f"{table.experiment}: model selected by '{style.score_name(table.select)}'"]
    if table.select == "oracle":
        lines.append("(reads target labels: an upper bound)")
    seeds = style.seeds(table)
    lines.append("one seed" if seeds == "1 seed" else f"mean ± standard deviation over {seeds}")
    return "\n".join(lines)


if __name__ == "__main__":
    style.main_of_table(Options, draw, kind="accuracy")
