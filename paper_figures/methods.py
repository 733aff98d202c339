"""Many methods at a glance: a map of target accuracy, a row a method, best average on top, from finished run records.

python paper_figures/methods.py
python paper_figures/methods.py --experiment mnist_usps_mmd
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import style
import tyro
from matplotlib import pyplot
from matplotlib.figure import Figure

from da.table import AVERAGE, Table, load, matching


@dataclass(frozen=True)
class Options:
    """Draw one experiment's mean target accuracies as a coloured table; the baseline stands where its average puts it, in bold."""

    experiment: str = "digits_mmd"
    """Experiment to draw."""
    runs_dir: Path = Path("experiments/records")
    """Folder of run records."""
    select: str = "last"
    """Which model of a run counts: last, the name of a label-free score, or oracle (reads target labels)."""
    baseline: str = "none"
    """Method in bold letters."""
    where: tuple[str, ...] = ()
    """Keep the runs whose configuration has these values: key=value."""
    width: style.Width = "column"
    """Printed width: one column (3.3 inches) or two (6.9)."""
    out: Path = Path("paper_figures/out")
    """Folder for EXPERIMENT_methods.pdf, .png and .csv."""


def draw(table: Table, *, width: style.Width) -> Figure:
    """Colour from the lowest mean to 100 %; a cell without runs stays empty."""
    columns = [*table.tasks, AVERAGE] if len(table.tasks) > 1 else list(table.tasks)
    rows = sorted(table.rows, key=lambda method: -_overall(table, method))
    means = np.array([[table.mean(method, task) for task in columns] for method in rows], float)  # None becomes NaN
    figure, axes = pyplot.subplots(figsize=(style.INCHES[width], 0.9 + 0.17 * len(rows)), layout="constrained")
    low = float(np.nanmin(means))
    axes.imshow(means, cmap="viridis", vmin=low, vmax=100, aspect="auto")
    for row, column in np.argwhere(~np.isnan(means)):
        dark = (means[row, column] - low) / max(100 - low, 1e-9) < 0.6
        axes.text(column, row, f"{means[row, column]:.1f}", ha="center", va="center", color="white" if dark else "black", fontsize=6)
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
    counts = sorted({len(values) for values in table.measured.values()})
    seeds = f"{counts[0]} to {counts[-1]} seeds" if counts[0] < counts[-1] else f"{counts[0]} seed{'s' * (counts[0] > 1)}"
    axes.set_xlabel(f"{table.experiment}: mean target accuracy (%) over {seeds},\nmodel selected by '{table.select}'{oracle}")
    return figure


def _overall(table: Table, method: str) -> float:
    """Its average, or the mean of what it has where tasks are missing."""
    average = table.mean(method, AVERAGE)
    return (
        average if average is not None else float(np.mean([mean for task in table.tasks if (mean := table.mean(method, task)) is not None]))
    )


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        records = matching(load(options.runs_dir, options.experiment), options.where)
        table = Table.of(records, select=options.select, baseline=options.baseline)
        style.set_style()
        figure = draw(table, width=options.width)
        style.save(figure, options.out / f"{table.experiment}_methods", table.csv_text())
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
