"""Time and memory of the squared MMD, from the CSVs of experiments/benchmarks/mmd.py.

    python paper_figures/bench_mmd.py
    python paper_figures/bench_mmd.py --runs-dir experiments/records

A row is a machine and a precision. The left panels show time over the time of bare matrix products
against n, one panel for each width d. Bars reach from the lowest round to the highest. The right
panel shows memory beyond the inputs.

The dotted floor stands for a symmetric Gram matrix and one product with the samples. A contestant
below it computes less than that.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

COLUMNS = (
    *("machine", "precision", "threads", "clock", "contestant", "n", "d"),
    *("ratio", "ratio_min", "ratio_max", "extra_mb"),
)
# Half of the symmetric Z Z^T, and one product for the gradient.
FLOOR = 1.5
FLOOR_LABEL = "floor: 1.5 products"
PRODUCTS = {"cuda events": 2}  # that a ratio is taken to; three for any other clock
LOOKS = {
    "da auto": (style.METHODS[0], "o", "-"),
    "da stream": (style.METHODS[5], "s", "-"),
    "da gram": (style.METHODS[2], "D", "-"),
    "da triton": (style.METHODS[6], "P", "-"),
    "POT": (style.METHODS[3], "v", "--"),
    "geomloss": (style.METHODS[1], "^", "--"),
    "torch.cdist": (style.METHODS[4], "<", "--"),
    "autograd Gram": (style.GREY, ">", "--"),
}


@dataclass(frozen=True)
class Options(style.Options):
    """Draw the benchmark of the squared MMD."""

    runs_dir: Path = style.RUNS
    """Folder of bench_mmd_*.csv; experiments/records has the stored ones."""
    csv: tuple[Path, ...] = ()
    """Files of experiments/benchmarks/mmd.py; none: all bench_mmd_*.csv of the folder."""


class Group(NamedTuple):
    """The rows of one machine in one precision."""

    title: str
    products: int
    rows: list[dict[str, str]]


def read(options: Options) -> list[Group]:
    """Groups in the order of the files.

    Raises:
        FileNotFoundError: There is no file.
        ValueError: A file is no CSV of this benchmark.
    """
    paths = options.csv or tuple(sorted(options.runs_dir.glob("bench_mmd_*.csv")))
    if not paths:
        raise FileNotFoundError(
            f"no {options.runs_dir}/bench_mmd_*.csv: run experiments/benchmarks/mmd.py, or take "
            "the stored ones with --runs-dir experiments/records"
        )
    return [group for path in paths for group in _groups(path)]


def _groups(path: Path) -> Iterator[Group]:
    """The groups of one file, one for each precision."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise ValueError(
            f"{path} is not a CSV of experiments/benchmarks/mmd.py: "
            f"its columns must include {', '.join(COLUMNS)}"
        )
    for precision in dict.fromkeys(row["precision"] for row in rows):
        own = [row for row in rows if row["precision"] == precision and row["contestant"] in LOOKS]
        machine, clock, count = (own[0][key] for key in ("machine", "clock", "threads"))
        threads = "" if clock == "cuda events" else f", {count} thread{'s' * (count != '1')}"
        yield Group(f"{machine}, {precision}{threads}", PRODUCTS.get(clock, 3), own)


def draw(groups: list[Group]) -> Figure:
    """Draw a row of panels for each group: one for each width, and one for memory."""
    widths = sorted({int(row["d"]) for group in groups for row in group.rows if row["ratio"]})
    size = (style.INCHES["double"], 2.1 * len(groups) + 0.35)
    figure = pyplot.figure(figsize=size, layout="constrained")
    shares = [1.0] * len(widths) + [0.8]
    grid = figure.subplots(len(groups), len(widths) + 1, squeeze=False, width_ratios=shares)
    for line, group in zip(grid, groups, strict=True):
        for axes, d in zip(line, widths, strict=False):
            _ratios(axes, group, d)
            if axes is not line[0]:
                axes.sharey(line[0])
                axes.tick_params(axis="y", labelleft=False)
        line[0].set_ylabel(f"time / {group.products} matrix products")
        line[0].set_title(f"{group.title}\nd = {widths[0]}", loc="left")
        _memory(line[-1], group)
    _legend(figure, grid[:, :-1])
    return figure


def _legend(figure: Figure, grid: np.ndarray) -> None:
    """The contestants that any panel shows, in the order of LOOKS, and the floor."""
    handles = {}
    for axes in grid.flat:
        found, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    order = [name for name in (*LOOKS, FLOOR_LABEL) if name in handles]
    # More than five columns are wider than the page.
    place = {"loc": "outside lower center", "ncols": min(len(order), 5)}
    figure.legend([handles[name] for name in order], order, **place)


def _ratios(axes: Axes, group: Group, d: int) -> None:
    """Draw median ratios against n."""
    measured = [row for row in group.rows if int(row["d"]) == d and row["ratio"]]
    for name, look in reversed(LOOKS.items()):
        rows = sorted((row for row in measured if row["contestant"] == name), key=_n)
        if rows:
            _curve(axes, rows, name, look)
    dotted = {**style.RULE, "linestyle": (0, (1, 2))}
    axes.axhline(FLOOR / group.products, **dotted, label=FLOOR_LABEL)
    axes.set(xscale="log", yscale="log", xlabel="n, rows of each sample")
    ticks = sorted({_n(row) for row in measured})
    axes.set_xticks(ticks, [f"{n // 1024}k" if n % 1024 == 0 else str(n) for n in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(f"d = {d}", loc="left")


def _curve(axes: Axes, rows: list[dict[str, str]], name: str, look: tuple[str, str, str]) -> None:
    """Draw the ratios of one contestant, with bars from the lowest round to the highest."""
    ratio, low, high = (
        np.array([float(row[key]) for row in rows]) for key in ("ratio", "ratio_min", "ratio_max")
    )
    colour, marker, dash = look
    lines = {"linestyle": dash, "linewidth": 1.0, "elinewidth": 0.7}
    spread = [ratio - low, high - ratio]
    marks = {"color": colour, "marker": marker, "markersize": 3.2}
    axes.errorbar([_n(row) for row in rows], ratio, spread, label=name, **lines, **marks)


def _memory(axes: Axes, group: Group) -> None:
    """Draw memory at the size that most contestants have.

    A contestant that ran at another size alone cannot be compared and is left out.
    """
    rows = [row for row in group.rows if row["extra_mb"]]
    sizes = [(_n(row), int(row["d"])) for row in rows]
    if not sizes:
        axes.set_axis_off()
        return
    size = max(sizes, key=sizes.count)
    kept = [row for row, own in zip(rows, sizes, strict=True) if own == size]
    values = {row["contestant"]: float(row["extra_mb"]) for row in kept}
    names = [name for name in reversed(LOOKS) if name in values]
    for place, name in enumerate(names):
        value, (colour, marker, _) = values[name], LOOKS[name]
        axes.plot(value, place, color=colour, marker=marker, markersize=4)
        beside = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": 6}
        axes.annotate(f"{value:,.0f}", (value, place), **beside)
    limits = (max(min(values.values()) / 2, 0.1), 4 * max(values.values()))
    axes.set(xscale="log", xlabel="memory beyond inputs (MB)", xlim=limits)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(f"n = {size[0]}, d = {size[1]}", loc="left")
    axes.tick_params(axis="y", length=0)


def _n(row: dict[str, str]) -> int:
    return int(row["n"])


def make(options: Options) -> style.Drawing:
    """The figure of the files that the flags name."""
    groups = read(options)
    rows = [[row[column] for column in COLUMNS] for group in groups for row in group.rows]
    return style.Drawing(draw(groups), "bench_mmd", style.csv_text(COLUMNS, rows))


if __name__ == "__main__":
    style.main(Options, make)
