"""The picture of a drift report: null distribution, projection, the columns and classes that moved.

`python -m da shift --out` draws it with `draw`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")  # a file only, so that no display is needed

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from da.shift.class_drift import ClassTest
from da.shift.drift import Columns
from da.shift.mmd import MMDTest

BARS = 10  # columns or classes that are shown
# Okabe and Ito's colours, for every kind of colour vision.
COLOURS = {"source": "#0072b2", "target": "#d55e00"}
MOVED, SAME = "#009e73", "#b5b5b5"
STYLE = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,
}


class Projection(NamedTuple):
    """Both samples on their common principal components.

    Attributes:
        points: The coordinates of "source" (n, k) and "target" (m, k).
        explained: Each component's share (k,) of the variance.
        distance: The Kolmogorov-Smirnov distance (k,) between the two samples.
    """

    points: dict[str, np.ndarray]
    explained: np.ndarray
    distance: np.ndarray


def draw(
    test: MMDTest,
    alpha: float,
    projection: Projection,
    columns: Columns,
    names: Sequence[str],
    classes: Sequence[ClassTest],
) -> Figure:
    """Draw the findings in three panels, or in four if classes were tested.

    Args:
        test: The test of all columns together.
        alpha: The level.
        projection: Both samples on principal components.
        columns: What moved, column by column.
        names: The columns' names.
        classes: The tests within classes; may be empty.

    Returns:
        The figure.
    """
    with pyplot.rc_context(STYLE):  # type: ignore[arg-type]
        rows, panels = (2, 2) if classes else (1, 3)
        widths = None if classes else (1, 1, 0.8)  # the names of the columns take the rest
        figure, grid = pyplot.subplots(
            rows,
            panels,
            figsize=(6.9, 2.5 * rows),
            layout="constrained",
            squeeze=False,
            width_ratios=widths,
        )
        axes = list(grid.flat)
        _null(axes[0], test, alpha)
        _projection(axes[1], projection)
        _columns(axes[2], columns, names, alpha)
        if classes:
            _classes(axes[3], classes, alpha)
        return figure


def _null(axes: Axes, test: MMDTest, alpha: float) -> None:
    """The statistics of the relabellings, and the observed one."""
    low, high = min(test.null.min(), test.statistic), max(test.null.max(), test.statistic)
    _null_histogram(axes, test.null, (high - low) / 150)
    level = np.quantile(test.null, 1 - alpha)
    dashed = (0, (4, 3))
    axes.axvline(level, color="black", linewidth=0.7, linestyle=dashed, label=f"level {alpha:g}")
    observed = f"observed, p = {test.p_value:.2g}"
    axes.axvline(test.statistic, color=COLOURS["target"], linewidth=1.4, label=observed)
    axes.set(
        xlabel="statistic\n(about 0 if nothing has changed)",
        ylabel="relabellings",
        xlim=_padded(low, high),
    )
    axes.set_ylim(top=1.45 * axes.get_ylim()[1])  # room for the legend
    verdict = "differ" if test.p_value <= alpha else "do not differ noticeably"
    axes.set_title(f"All columns together {verdict}")
    axes.legend(
        loc="upper right" if test.statistic < (low + high) / 2 else "upper center",
        frameon=True,
        framealpha=1,
        edgecolor="none",
    )


def _null_histogram(axes: Axes, null: np.ndarray, least: float) -> None:
    """The histogram of the relabellings.

    Bars are at least `least` wide, so that they can be seen if the observed statistic is far off.
    """
    width = max(float(np.ptp(null)) / 40, least) or 1.0
    bins = int(np.ptp(null) / width) + 1
    reach = (null.min(), null.min() + bins * width)
    axes.hist(null, bins=bins, range=reach, color=SAME, label=f"{len(null)} relabellings")


def _projection(axes: Axes, projection: Projection) -> None:
    """Both samples on two components, or as histograms if there is one column."""
    if projection.points["source"].shape[1] == 1:
        _histograms(axes, projection.points)
    else:
        _scatter(axes, projection)
    axes.set_title("Principal components that differ most")
    axes.legend(loc="best", handletextpad=0.2)


def _histograms(axes: Axes, points: dict[str, np.ndarray]) -> None:
    """The densities of both samples' only column."""
    pooled = np.concatenate(list(points.values()))[:, 0]
    bins = np.histogram_bin_edges(pooled, bins=40).tolist()
    for name, values in points.items():
        axes.hist(
            values[:, 0],
            bins=bins,
            density=True,
            histtype="step",
            color=COLOURS[name],
            label=name,
        )
    axes.set(xlabel="value, less the mean", ylabel="density")


def _scatter(axes: Axes, projection: Projection) -> None:
    """Both samples as points, in mixed order so that neither hides the other."""
    points = np.concatenate(list(projection.points.values()))
    counts = [len(values) for values in projection.points.values()]
    colours = np.repeat([COLOURS[name] for name in projection.points], counts)
    mixed = np.random.default_rng(0).permutation(len(points))
    # Drift need not lie in the directions of largest variance, so those that differ most are shown.
    most = np.argsort(-projection.distance, kind="stable")[:2]
    first, second = np.sort(most)
    axes.scatter(
        points[mixed, first],
        points[mixed, second],
        c=colours[mixed].tolist(),
        s=float(np.clip(3000 / len(points), 1.5, 12)),
        alpha=0.6,
        linewidths=0,
        rasterized=True,
    )
    for name in projection.points:
        axes.scatter([], [], s=12, color=COLOURS[name], label=name)
    share = 100 * projection.explained
    axes.set(
        xticks=(),
        yticks=(),
        xlabel=f"component {first + 1}, {share[first]:.0f} % of the variance",
    )
    axes.set_ylabel(f"component {second + 1}, {share[second]:.0f} %")


def _columns(axes: Axes, columns: Columns, names: Sequence[str], alpha: float) -> None:
    """The columns that moved most."""
    order = np.argsort(-columns.distance, kind="stable")[:BARS]
    moved = columns.p_value[order] <= alpha
    shifts = columns.shift[order]
    notes = [f"{shift:+.2f}" if np.isfinite(shift) else "" for shift in shifts]
    _bars(axes, [names[i] for i in order], columns.distance[order], moved, notes)
    total = int((columns.p_value <= alpha).sum())
    shown = f", the first {BARS}" if len(names) > BARS else ""
    title = f"Columns: {total} of {len(names)} differ{shown}"
    axes.set(title=title, xlim=(0, 1.12), xticks=(0, 0.5, 1))
    axes.set_xlabel(
        "distance of the distributions\n(at the bar: shift of the mean in deviations)", loc="right"
    )


def _bars(
    axes: Axes, names: Sequence[str], values: np.ndarray, moved: np.ndarray, notes: Sequence[str]
) -> None:
    """Horizontal bars from the top, green if the corrected p-value rejects, each with a note."""
    places = np.arange(len(names))
    axes.barh(places, values, height=0.7, color=np.where(moved, MOVED, SAME).tolist())
    reach = max(float(np.abs(values).max()), 1e-12)
    for place, value, note in zip(places.tolist(), values, notes, strict=True):
        axes.text(max(value, 0) + 0.02 * reach, place, note, va="center", fontsize=6)
    axes.set_yticks(places, [name if len(name) <= 18 else f"{name[:17]}…" for name in names])
    axes.invert_yaxis()


def _classes(axes: Axes, classes: Sequence[ClassTest], alpha: float) -> None:
    """The classes with the largest statistics."""
    first = sorted(classes, key=lambda line: -line.statistic)[:BARS]
    values = np.array([line.statistic for line in first])
    moved = np.array([line.p_value <= alpha for line in first])
    notes = [f"p = {line.p_value:.2g}" for line in first]
    _bars(axes, [line.label for line in first], values, moved, notes)
    low, high = _padded(min(0.0, float(values.min())), max(float(values.max()), 1e-12))
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set(
        xlim=(low, high + 0.15 * (high - low)),
        xlabel="statistic within the class\n(about 0 if nothing has changed)",
    )
    total = sum(line.p_value <= alpha for line in classes)
    shown = f", the first {BARS}" if len(classes) > BARS else ""
    axes.set_title(f"Classes: {total} of {len(classes)} differ{shown}")


def _padded(low: float, high: float) -> tuple[float, float]:
    """A range a little larger than [low, high], never empty."""
    margin = 0.05 * (high - low) or 1e-6
    return low - margin, high + margin
