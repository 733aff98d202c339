"""Many methods at a glance: a map of target accuracy, a row a method, best average on top, from finished run records.

python paper_figures/methods.py
python paper_figures/methods.py --experiment mnist_usps_mmd
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.figure import Figure

from da.records import Table
from da.records.table import AVERAGE


@dataclass(frozen=True)
class Options(style.TableOptions):
    """Draw one experiment's mean target accuracies as a coloured table; the baseline stands where its average puts it, in bold."""


def draw(table: Table, options: Options) -> Figure:
    """Colour from the lowest mean to 100 %; a cell without runs stays empty."""
    columns = [*table.tasks, AVERAGE] if len(table.tasks) > 1 else list(table.tasks)
    rows = sorted(table.rows, key=lambda method: -_overall(table, method))
    means = np.array(
        [[table.mean(method, task) for task in columns] for method in rows], float
    )  # None becomes NaN
    figure, axes = pyplot.subplots(
        figsize=(style.INCHES[options.width], 0.9 + 0.17 * len(rows)), layout="constrained"
    )
    low = float(np.nanmin(means))
    axes.imshow(means, cmap="viridis", vmin=low, vmax=100, aspect="auto")
    for row, column in np.argwhere(~np.isnan(means)):
        dark = (means[row, column] - low) / max(100 - low, 1e-9) < 0.6
        axes.text(
            column,
            row,
            f"{means[row, column]:.1f}",
            ha="center",
            va="center",
            color="white" if dark else "black",
            fontsize=6,
        )
    one_source = len({task.split(">")[0] for task in table.tasks}) == 1
    names = [name.split(">")[-1] if one_source else name.replace(">", " → ") for name in columns]
    axes.set_xticks(range(len(columns)), names, rotation=35, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == table.baseline else "normal")
    if len(columns) > 1:
        axes.axvline(len(columns) - 1.5, color="white", linewidth=2)
    oracle = ", which reads target labels" if table.select == "oracle" else ""
    axes.set_xlabel(
        f"{table.experiment}: mean target accuracy (%)\nover {style.seeds(table)}, model selected by '{table.select}'{oracle}"
    )
    return figure


def _overall(table: Table, method: str) -> float:
    """Its average, or the mean of what it has where tasks are missing."""
    average = table.mean(method, AVERAGE)
    return (
        average
        if average is not None
        else float(
            np.mean(
                [mean for task in table.tasks if (mean := table.mean(method, task)) is not None]
            )
        )
    )


if __name__ == "__main__":
    style.main(Options, draw, kind="methods")
