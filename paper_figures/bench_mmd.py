"""Time and memory of the squared MMD and of other ways to it, from the CSVs of experiments/benchmarks/mmd.py.

python paper_figures/bench_mmd.py
python paper_figures/bench_mmd.py --csv runs/bench_mmd_cpu.csv

A row for each machine and precision. Left: time over that of the bare matrix products, against n, a panel for each width d; what lies
below the floor computes less than a symmetric Gram matrix and one product with the samples. Right: memory beyond the inputs.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import style
import tyro
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

RECORDS = Path("experiments/records")
COLUMNS = (
    "machine",
    "precision",
    "threads",
    "clock",
    "contestant",
    "n",
    "d",
    "ratio",
    "ratio_min",
    "ratio_max",
    "extra_mb",
)
FLOOR = 1.5  # products that cannot be saved: half of Z Z^T, as it is symmetric, and one for the gradient
PRODUCTS = {"cuda events": 2}  # that a ratio is taken to; three otherwise
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
class Options:
    """Draw the benchmark of the squared MMD."""

    csv: tuple[Path, ...] = ()
    """What experiments/benchmarks/mmd.py wrote; none: every experiments/records/bench_mmd_*.csv."""
    out: Path = style.OUT
    """Folder for bench_mmd.pdf, .png and .csv."""


class Group(NamedTuple):
    """The rows of one machine in one precision."""

    title: str
    products: int
    rows: list[dict[str, str]]


def read(paths: tuple[Path, ...]) -> list[Group]:
    """Groups in the order of the files. Raises FileNotFoundError without files, ValueError for one of another kind."""
    paths = paths or tuple(sorted(RECORDS.glob("bench_mmd_*.csv")))
    if not paths:
        raise FileNotFoundError(
            f"no {RECORDS}/bench_mmd_*.csv: run experiments/benchmarks/mmd.py and give its CSV with --csv"
        )
    groups = []
    for path in paths:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows or not set(COLUMNS) <= set(rows[0]):
            raise ValueError(
                f"{path} is not a CSV of experiments/benchmarks/mmd.py: its columns must include {', '.join(COLUMNS)}"
            )
        for precision in dict.fromkeys(row["precision"] for row in rows):
            own = [
                row for row in rows if row["precision"] == precision and row["contestant"] in LOOKS
            ]
            threads = (
                ""
                if own[0]["clock"] == "cuda events"
                else f", {own[0]['threads']} thread{'s' * (own[0]['threads'] != '1')}"
            )
            groups.append(
                Group(
                    f"{own[0]['machine']}, {precision}{threads}",
                    PRODUCTS.get(own[0]["clock"], 3),
                    own,
                )
            )
    return groups


def draw(groups: list[Group]) -> Figure:
    """A row of panels for each group: one for each width, and one for memory."""
    widths = sorted({int(row["d"]) for group in groups for row in group.rows if row["ratio"]})
    height = 2.1 * len(groups) + 0.35
    figure = pyplot.figure(figsize=(style.INCHES["double"], height), layout="constrained")
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
    shown = {row["contestant"] for group in groups for row in group.rows}
    handles = {}
    for axes in grid[:, :-1].flat:
        handles |= {
            label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
    order = [name for name in LOOKS if name in shown and name in handles] + ["floor: 1.5 products"]
    figure.legend(
        [handles[name] for name in order],
        order,
        loc="outside lower center",
        ncols=min(len(order), 5),  # more would not fit into the width
    )
    return figure


def _ratios(axes: Axes, group: Group, d: int) -> None:
    """Median ratios against n, with bars from the lowest round to the highest."""
    for name, (colour, marker, dash) in reversed(LOOKS.items()):
        rows = sorted(
            (
                row
                for row in group.rows
                if (row["contestant"], int(row["d"])) == (name, d) and row["ratio"]
            ),
            key=_n,
        )
        if not rows:
            continue
        ratio, low, high = (
            [float(row[key]) for row in rows] for key in ("ratio", "ratio_min", "ratio_max")
        )
        spread = [
            [r - a for r, a in zip(ratio, low, strict=True)],
            [b - r for r, b in zip(ratio, high, strict=True)],
        ]
        look = {
            "color": colour,
            "marker": marker,
            "linestyle": dash,
            "markersize": 3.2,
            "linewidth": 1.0,
            "elinewidth": 0.7,
        }
        axes.errorbar([_n(row) for row in rows], ratio, spread, label=name, **look)
    axes.axhline(
        FLOOR / group.products,
        color="black",
        linewidth=0.7,
        linestyle=(0, (1, 2)),
        label="floor: 1.5 products",
    )
    axes.set(xscale="log", yscale="log", xlabel="n, rows of each sample")
    ticks = sorted({_n(row) for row in group.rows if int(row["d"]) == d and row["ratio"]})
    axes.set_xticks(ticks, [f"{n // 1024}k" if n % 1024 == 0 else str(n) for n in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(f"d = {d}", loc="left")


def _memory(axes: Axes, group: Group) -> None:
    """Points at the size that most contestants have; a run alone at another size is not comparable and not drawn."""
    rows = [row for row in group.rows if row["extra_mb"]]
    sizes = [(_n(row), int(row["d"])) for row in rows]
    if not sizes:
        axes.set_axis_off()
        return
    size = max(sizes, key=sizes.count)
    values = {
        row["contestant"]: float(row["extra_mb"])
        for row, own in zip(rows, sizes, strict=True)
        if own == size
    }
    names = [name for name in reversed(LOOKS) if name in values]
    for place, name in enumerate(names):
        axes.plot(values[name], place, color=LOOKS[name][0], marker=LOOKS[name][1], markersize=4)
        axes.annotate(
            f"{values[name]:,.0f}",
            (values[name], place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=6,
        )
    axes.set(
        xscale="log",
        xlabel="memory beyond inputs (MB)",
        xlim=(max(min(values.values()) / 2, 0.1), 4 * max(values.values())),
    )
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


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        groups = read(options.csv)
        style.set_style()
        rows = [[row[column] for column in COLUMNS] for group in groups for row in group.rows]
        style.save(draw(groups), options.out / "bench_mmd", style.csv_text(COLUMNS, rows))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
