"""The picture of two_sample.py, which imports it: null distribution, projection, the columns and the classes that moved most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")  # a file only, so that no display is needed

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from da.shift.drift import ClassTest, Columns
from da.shift.mmd import MMDTest

BARS = 10
COLOURS = {
    "source": "#0072b2",
    "target": "#d55e00",
}  # Okabe and Ito, for every kind of colour vision
MOVED, SAME = "#009e73", "#b5b5b5"
STYLE = {
    "font.size": 7, "axes.titlesize": 7.5, "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "pdf.fonttype": 42,
}  # fmt: skip


class Projection(NamedTuple):
    """Both samples on their common principal components."""

    points: dict[str, np.ndarray]  # source (n, k) and target (m, k)
    explained: np.ndarray  # (k,) share of the variance
    distance: np.ndarray  # (k,) Kolmogorov-Smirnov, between the two samples


def draw(
    test: MMDTest,
    alpha: float,
    projection: Projection,
    columns: Columns,
    names: Sequence[str],
    classes: Sequence[ClassTest],
) -> Figure:
    """Three panels, or four where classes were tested."""
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
        order = np.argsort(-columns.distance, kind="stable")[:BARS]
        moved = columns.p_value[order] <= alpha
        _bars(
            axes[2],
            [names[i] for i in order],
            columns.distance[order],
            moved,
            [f"{columns.shift[i]:+.2f}" for i in order],
        )
        total = int((columns.p_value <= alpha).sum())
        shown = f", the first {BARS}" if len(names) > BARS else ""
        axes[2].set(
            title=f"Columns: {total} of {len(names)} differ{shown}",
            xlim=(0, 1.12),
            xticks=(0, 0.5, 1),
        )
        axes[2].set_xlabel(
            "Kolmogorov-Smirnov distance\n(at the bar: shift of the mean in deviations)",
            loc="right",
        )
        if classes:
            _classes(axes[3], classes, alpha)
        return figure


def _null(axes: Axes, test: MMDTest, alpha: float) -> None:
    """The statistics of the relabellings, and the observed one."""
    low, high = min(test.null.min(), test.statistic), max(test.null.max(), test.statistic)
    width = (
        max(float(np.ptp(test.null)) / 40, (high - low) / 150) or 1.0
    )  # bars that can be seen, however far off the observed one is
    bins = int(np.ptp(test.null) / width) + 1
    axes.hist(
        test.null,
        bins=bins,
        range=(test.null.min(), test.null.min() + bins * width),
        color=SAME,
        label=f"{len(test.null)} relabellings",
    )
    axes.axvline(
        np.quantile(test.null, 1 - alpha),
        color="black",
        linewidth=0.7,
        linestyle=(0, (4, 3)),
        label=f"level {alpha:g}",
    )
    axes.axvline(
        test.statistic,
        color=COLOURS["target"],
        linewidth=1.4,
        label=f"observed, p = {test.p_value:.2g}",
    )
    axes.set(
        xlabel="statistic\n(about 0 where nothing has changed)",
        ylabel="relabellings",
        xlim=_padded(low, high),
    )
    axes.set_ylim(top=1.45 * axes.get_ylim()[1])  # room for the legend
    axes.set_title("The samples differ" if test.p_value <= alpha else "No difference found")
    axes.legend(
        loc="upper right" if test.statistic < (low + high) / 2 else "upper center",
        frameon=True,
        framealpha=1,
        edgecolor="none",
    )


def _projection(axes: Axes, projection: Projection) -> None:
    """Both samples on two components, in mixed order so that neither hides the other; histograms where there is one column."""
    if projection.points["source"].shape[1] == 1:
        bins = np.histogram_bin_edges(
            np.concatenate(list(projection.points.values()))[:, 0], bins=40
        ).tolist()
        for name, points in projection.points.items():
            axes.hist(
                points[:, 0],
                bins=bins,
                density=True,
                histtype="step",
                color=COLOURS[name],
                label=name,
            )
        axes.set(xlabel="value, less the mean", ylabel="density")
    else:
        points = np.concatenate(list(projection.points.values()))
        colours = np.repeat(
            [COLOURS[name] for name in projection.points],
            [len(p) for p in projection.points.values()],
        )
        mixed = np.random.default_rng(0).permutation(len(points))
        size = float(np.clip(3000 / len(points), 1.5, 12))
        first, second = np.sort(
            np.argsort(-projection.distance, kind="stable")[:2]
        )  # drift need not lie where the variance is largest
        axes.scatter(
            points[mixed, first],
            points[mixed, second],
            c=colours[mixed].tolist(),
            s=size,
            alpha=0.6,
            linewidths=0,
            rasterized=True,
        )
        for name in projection.points:
            axes.scatter([], [], s=12, color=COLOURS[name], label=name)
        axes.set(
            xticks=(),
            yticks=(),
            xlabel=f"component {first + 1}, {100 * projection.explained[first]:.0f} % of the variance",
        )
        axes.set_ylabel(f"component {second + 1}, {100 * projection.explained[second]:.0f} %")
    axes.set_title("Principal components that differ most")
    axes.legend(loc="best", handletextpad=0.2)


def _bars(
    axes: Axes, names: Sequence[str], values: np.ndarray, moved: np.ndarray, notes: Sequence[str]
) -> None:
    """Horizontal bars from the top, green where the corrected p-value rejects; a note at the end of each."""
    places = np.arange(len(names))
    axes.barh(places, values, height=0.7, color=np.where(moved, MOVED, SAME).tolist())
    reach = max(float(np.abs(values).max()), 1e-12)
    for place, value, note in zip(places.tolist(), values, notes, strict=True):
        axes.text(max(value, 0) + 0.02 * reach, place, note, va="center", fontsize=6)
    axes.set_yticks(places, [name if len(name) <= 18 else f"{name[:17]}…" for name in names])
    axes.invert_yaxis()


def _classes(axes: Axes, classes: Sequence[ClassTest], alpha: float) -> None:
    first = sorted(classes, key=lambda line: -line.statistic)[:BARS]
    values, moved = (
        np.array([line.statistic for line in first]),
        np.array([line.p_value <= alpha for line in first]),
    )
    _bars(
        axes,
        [line.label for line in first],
        values,
        moved,
        [f"p = {line.p_value:.2g}" for line in first],
    )
    low, high = _padded(min(0.0, float(values.min())), max(float(values.max()), 1e-12))
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set(
        xlim=(low, high + 0.15 * (high - low)),
        xlabel="statistic within the class\n(about 0 where nothing has changed)",
    )
    total, shown = (
        sum(line.p_value <= alpha for line in classes),
        f", the first {BARS}" if len(classes) > BARS else "",
    )
    axes.set_title(f"Classes: {total} of {len(classes)} differ{shown}")


def _padded(low: float, high: float) -> tuple[float, float]:
    """A range a little larger than [low, high], of some width even where the two are equal."""
    margin = 0.05 * (high - low) or 1e-6
    return low - margin, high + margin
