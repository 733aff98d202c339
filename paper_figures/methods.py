"""Many methods at a glance: target accuracies as a coloured table, from records of finished runs.

    python paper_figures/methods.py
    python paper_figures/methods.py --runs-dir experiments/records --experiment mnist_usps_mmd

A row is a method, and the row with the best average is on top. The baseline is in bold. A cell has
the mean and the standard deviation over seeds. The colours mean the same in every such picture:
they reach from 0 to 100 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from da.records import Table, display_name
from da.records.table import AVERAGE


@dataclass(frozen=True)
class Options(style.TableOptions):
    """Draw the target accuracies of one experiment as a coloured table."""

    width: style.Width = "double"
    """Printed width: one column (3.3 inches) or two (6.9)."""


def draw(table: Table, options: Options) -> Figure:
    """Draw the table. Without runs a cell is empty."""
    columns = list(table.columns)
    rows = sorted(table.rows, key=lambda method: -_overall(table, method))
    # None becomes NaN.
    means = np.array([[table.mean(row, task) for task in columns] for row in rows], float)
    spread = np.array([[table.deviation(row, task) for task in columns] for row in rows], float)
    size = (style.INCHES[options.width], 0.9 + 0.17 * len(rows))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    _draw_cells(axes, means, spread, font=min(6.0, 12 * (size[0] - 1.6) / len(columns)))
    names = style.short_names(table, columns)
    axes.set_xticks(range(len(columns)), names, rotation=35, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), [display_name(row) for row in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if row == table.baseline else "normal")
    if len(columns) > 1:
        axes.axvline(len(columns) - 1.5, color="white", linewidth=2)
    lines = (
        f"{table.experiment}: target accuracy (%),",
        f"mean ± standard deviation over {style.seeds(table)},",
        f"model {style.selected(table)}",
    )
    axes.set_xlabel(("\n" if options.width == "column" else " ").join(lines))
    return figure


def _draw_cells(axes: Axes, means: np.ndarray, spread: np.ndarray, *, font: float) -> None:
    """Colour the cells and write means and deviations (methods, columns) into them."""
    image = axes.imshow(means, aspect="auto", **style.ACCURACIES)
    style.colour_bar([axes], image)
    for row, column in np.argwhere(~np.isnan(means)):
        mean, deviation = means[row, column], spread[row, column]
        text = f"{mean:.1f}" if np.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"
        look = {"color": style.ink(mean), "fontsize": font, "ha": "center", "va": "center"}
        axes.text(column, row, text, **look)


def _overall(table: Table, method: str) -> float:
    """The average of a method, or the mean of the tasks that it has."""
    average = table.mean(method, AVERAGE)
    if average is not None:
        return average
    means = [table.mean(method, task) for task in table.tasks]
    return float(np.mean([mean for mean in means if mean is not None]))


if __name__ == "__main__":
    style.main_of_table(Options, draw, kind="methods")
