"""What the figures share: widths, fonts, colours, the choice of records, and a picture saved beside the numbers behind it."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import matplotlib
import tyro

matplotlib.use("Agg")  # files only, so that no display is needed

from matplotlib import pyplot
from matplotlib.figure import Figure

from da.records import Table, read_runs
from da.records.commands import matching
from da.records.table_text import to_csv

OUT = Path("docs/pictures")  # the .png are in git; a .pdf and a .csv take seconds to make
DOTS = 150  # an inch of a .png, enough for a page; the .pdf is for print

Width = Literal["column", "double"]
INCHES = {"column": 3.3, "double": 6.9}

GREY = "#8c8c8c"
# Okabe and Ito's colours for every kind of colour vision, the darker ones first; the baseline is grey.
METHODS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
# Paul Tol's "muted" scheme, made for up to nine classes, and black.
CLASSES = (
    "#332288",
    "#88ccee",
    "#117733",
    "#ddcc77",
    "#cc6677",
    "#882255",
    "#44aa99",
    "#999933",
    "#aa4499",
    "#000000",
)


@dataclass(frozen=True)
class TableOptions:
    """The flags of every figure that draws a table of run records."""

    experiment: str = "digits_mmd"
    """Experiment to draw."""
    runs_dir: Path = Path("experiments/records")
    """Folder of run records."""
    select: str = "last"
    """Which model of a run counts: last, the name of a label-free score, validation, or oracle (reads target labels)."""
    baseline: str = "none"
    """Method that the others are compared with, and that is drawn apart."""
    where: tuple[str, ...] = ()
    """Keep the runs whose configuration has these values: key=value."""
    methods: tuple[str, ...] = ()
    """Methods to draw, in this order; none: all."""
    width: Width = "column"
    """Printed width: one column (3.3 inches) or two (6.9)."""
    out: Path = OUT
    """Folder for the .pdf, the .png and the .csv behind them."""

    def table(self) -> Table:
        """The table of the records that the flags name; ValueError or OSError where there is none."""
        records = matching(read_runs(self.runs_dir, experiment=self.experiment), self.where)
        return Table.of(records, select=self.select, baseline=self.baseline, methods=self.methods)


OptionsType = TypeVar("OptionsType", bound=TableOptions)


def main(
    options_type: type[OptionsType], draw: Callable[[Table, OptionsType], Figure], *, kind: str
) -> None:
    """The command line of such a figure: parses the flags, reads the table, and saves what `draw` gives as EXPERIMENT_kind."""
    try:
        options = tyro.cli(options_type, description=sys.modules["__main__"].__doc__)
        table = options.table()
        set_style()
        save(draw(table, options), options.out / f"{table.experiment}_{kind}", to_csv(table))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def set_style() -> None:
    """Small sans-serif text that is readable at the printed width, thin lines, and letters that stay letters in the PDF."""
    pyplot.rcParams.update(
        {
            "font.size": 7, "axes.titlesize": 7, "axes.labelsize": 7, "legend.fontsize": 6.5,
            "xtick.labelsize": 6.5, "ytick.labelsize": 6.5,
            "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "axes.spines.top": False, "axes.spines.right": False,
            "legend.frameon": False, "legend.handlelength": 1.2, "legend.columnspacing": 1.2, "pdf.fonttype": 42,
        }
    )  # fmt: skip


def seeds(table: Table) -> str:
    """How many seeds its cells have: "3 seeds", or "1 to 3 seeds" where they differ."""
    counts = sorted({len(values) for values in table.measured.values()})
    return (
        f"{counts[0]} to {counts[-1]} seeds"
        if counts[0] < counts[-1]
        else f"{counts[0]} seed{'s' * (counts[0] > 1)}"
    )


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated lines under a heading."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    return text.getvalue()


def save(figure: Figure, stem: Path, numbers: str) -> None:
    """Write stem.pdf, stem.png, and the `numbers` behind them as stem.csv; print their names."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("pdf", "png", "csv")]
    figure.savefig(
        paths[0], metadata={"CreationDate": None}
    )  # no clock: the same runs give the same bytes
    figure.savefig(paths[1], dpi=DOTS)
    paths[2].write_text(numbers, encoding="utf-8")
    print(*paths, sep="\n")
