"""Many methods at a glance: target accuracies as a coloured table, from records of finished runs.

    python paper_figures/methods.py
    python paper_figures/methods.py --experiment mnist_usps_mmd

A row is a method, and the row with the best average is on top. The baseline is in bold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from da.records import Table
from da.records.table import AVERAGE


@dataclass(frozen=True)
class Options(style.TableOptions):
    """Draw the mean target accuracies of one experiment as a coloured table."""


def draw(table: Table, options: Options) -> Figure:
    """Draw the table. Colours reach from the lowest mean to 100 %; no runs leave a cell empty."""
    columns = [*table.tasks, AVERAGE] if len(table.tasks) > 1 else list(table.tasks)
    rows = sorted(table.rows, key=lambda method: -_overall(table, method))
    # A mean of None becomes NaN.
    means = np.array([[table.mean(method, task) for task in columns] for method in rows], float)
    size = (style.INCHES[options.width], 0.9 + 0.17 * len(rows))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    _draw_cells(axes, means)
    names = style.short_names(table, columns)
    axes.set_xticks(range(len(columns)), names, rotation=35, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == table.baseline else "normal")
    if len(columns) > 1:
        axes.axvline(len(columns) - 1.5, color="white", linewidth=2)
    axes.set_xlabel(
        f"{table.experiment}: mean target accuracy (%)\nover {style.seeds(table)}, "
        f"model selected by '{table.select}'{style.of_oracle(table)}"
    )
    return figure


def _draw_cells(axes: Axes, means: np.ndarray) -> None:
    """Colour the cells and write their means (methods, columns) into them."""
    low = float(np.nanmin(means))
    axes.imshow(means, cmap="viridis", vmin=low, vmax=100, aspect="auto")
    for row, column in np.argwhere(~np.isnan(means)):
        dark = (means[row, column] - low) / max(100 - low, 1e-9) < 0.6
        look = {"color": "white" if dark else "black", "fontsize": 6}
        text = f"{means[row, column]:.1f}"
        axes.text(column, row, text, ha="center", va="center", **look)


def _overall(table: Table, method: str) -> float:
    """The average of a method, or the mean of the tasks that it has."""
    average = table.mean(method, AVERAGE)
    if average is not None:
        return average
    means = [table.mean(method, task) for task in table.tasks]
    return float(np.mean([mean for mean in means if mean is not None]))


if __name__ == "__main__":
    style.main(Options, draw, kind="methods")
