"""Which classes are mistaken for which? Confusion matrices on the target, from finished runs.

    python paper_figures/confusion.py
    python paper_figures/confusion.py --runs-dir experiments/records --methods none adabn mmd

A panel is a method. Its counts are summed over seeds. A cell has the percentage of a true class,
its row, that is predicted as the class of the column. Of several trials the row's own recipe is
drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from da.records import Record, display_name

COLUMNS = ("method", "true", "predicted", "count")
WRITTEN = 12  # more classes than these have no numbers in their cells


@dataclass(frozen=True)
class Options(style.TaskOptions):
    """Draw the confusion matrices of some methods side by side."""

    select: str = "last"
    """Model of a run: last, oracle, or another that kept its confusion matrix."""
    width: style.Width = "double"
    """Printed width: one column (3.3 inches) or two (6.9)."""


def counts(runs: Iterable[Record], select: str) -> np.ndarray:
    """The sum (true class, predicted class) over runs. Raises ValueError if one has no matrix."""
    total = None
    for run in runs:
        own = style.confusion(run, select)
        if own is None:
            kept = [
                name for name in run.result["selected"] if style.confusion(run, name) is not None
            ]
            raise ValueError(
                f"{run.directory} has no confusion matrix of the model by {select!r}; it has "
                f"{', '.join(kept) or 'none: runs that were recorded before matrices were'}"
            )
        total = own if total is None else total + own
    assert total is not None  # `TaskOptions.runs` gives at least one run
    return total


def draw(found: Mapping[str, np.ndarray], names: list[str], options: Options) -> Figure:
    """Draw a panel for each method."""
    inches = style.INCHES[options.width]
    columns = min(len(found), 3 if options.width == "double" else 1)
    lines = -(-len(found) // columns)
    names = [name.replace("_", " ") for name in names]
    beside = 0.05 * max(map(len, names))  # inches for the names of the classes
    side = (inches - 0.9 - beside) / max(columns, 2 if options.width == "double" else 1)
    size = (min(inches, side * columns + 0.9 + beside), side * lines + 0.5 + beside)
    shape: dict[str, Any] = {"figsize": size}
    shape |= {"layout": "constrained", "sharex": True, "sharey": True, "squeeze": False}
    figure, grid = pyplot.subplots(lines, columns, **shape)
    for axes in grid.flat[len(found) :]:
        axes.remove()
    for axes, (method, matrix) in zip(grid.flat, found.items(), strict=False):
        image = _panel(axes, matrix, names, font=min(6.0, 25 * side / len(names)))
        share = 100 * np.trace(matrix) / matrix.sum()
        axes.set_title(f"{display_name(method)}: {share:.1f} %", loc="left")
    style.colour_bar(list(grid.flat[: len(found)]), image)
    for axes in grid[:, 0]:
        axes.set_ylabel("true class")
    for axes in grid[-1]:
        axes.set_xlabel("predicted class")
    task = style.task_name(options.source, options.target)
    model = f"model selected by '{style.score_name(options.select)}'"
    figure.suptitle(f"{options.experiment}, {task}, {model}", fontsize=7, x=0.01, ha="left")
    return figure


def _panel(axes: Axes, matrix: np.ndarray, names: list[str], *, font: float) -> AxesImage:
    """Draw the percentages of each row; a class without samples has an empty row."""
    sums = matrix.sum(axis=1, keepdims=True)
    shares = np.where(sums > 0, 100 * matrix / np.maximum(sums, 1), np.nan)
    image = axes.imshow(shares, **style.ACCURACIES)
    level = max(map(len, names)) <= 2 and len(names) <= WRITTEN
    place = {} if level else {"rotation": 90}
    size = min(6.5, 1.9 * font)
    axes.set_xticks(range(len(names)), names, fontsize=size, **place)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.tick_params(length=0, labelbottom=True)
    axes.spines[:].set_visible(False)
    if len(names) <= WRITTEN:
        for row, column in np.argwhere(np.nan_to_num(shares) >= 0.5):
            look = {"color": style.ink(shares[row, column]), "fontsize": font}
            text = f"{shares[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", **look)
    return image


def make(options: Options) -> style.Drawing:
    """The figure of the runs that the flags name."""
    runs = {method: list(own.values()) for method, own in options.usual_runs().items()}
    found = {method: counts(own, options.select) for method, own in runs.items()}
    names = style.class_names(run for own in runs.values() for run in own)
    if names is None or any(len(matrix) != len(names) for matrix in found.values()):
        raise ValueError("the runs have different classes, which no picture can show side by side")
    rows = [
        (method, names[true], names[predicted], int(matrix[true, predicted]))
        for method, matrix in found.items()
        for true in range(len(names))
        for predicted in range(len(names))
    ]
    stem = f"{options.experiment}_confusion_{options.source}-{options.target}"
    return style.Drawing(draw(found, names, options), stem, style.csv_text(COLUMNS, rows))


if __name__ == "__main__":
    style.main(Options, make)
