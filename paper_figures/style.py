"""What the figures share: widths, fonts, colours, the choice of records, and how they are saved."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import matplotlib

from da.records.command_line import parse

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

GREY = "#8c8c8c"  # the baseline
# Okabe and Ito's colours for every kind of colour vision, the darker ones first.
METHODS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
# Paul Tol's "muted" scheme, made for up to nine classes, and black.
CLASSES = (
    *("#332288", "#88ccee", "#117733", "#ddcc77", "#cc6677"),
    *("#882255", "#44aa99", "#999933", "#aa4499", "#000000"),
)
RULE = {"color": "black", "linewidth": 0.7, "linestyle": (0, (4, 3))}  # a level to compare with


@dataclass(frozen=True)
class TableOptions:
    """The flags of every figure that draws a table of run records."""

    experiment: str = "digits_mmd"
    """Experiment to draw."""
    runs_dir: Path = Path("experiments/records")
    """Folder of run records."""
    select: str = "last"
    """Model of a run: last, validation, a label-free score, or oracle (reads target labels)."""
    baseline: str = "none"
    """Method that the others are compared with. It is drawn apart."""
    where: tuple[str, ...] = ()
    """Keep the runs whose configuration has these values: key=value."""
    methods: tuple[str, ...] = ()
    """Methods to draw, in this order; none: all."""
    width: Width = "column"
    """Printed width: one column (3.3 inches) or two (6.9)."""
    out: Path = OUT
    """Folder for the .pdf, the .png and the .csv behind them."""

    def table(self) -> Table:
        """The table of the records that the flags name. ValueError or OSError if there is none."""
        records = matching(read_runs(self.runs_dir, experiment=self.experiment), self.where)
        return Table.of(records, select=self.select, baseline=self.baseline, methods=self.methods)


OptionsType = TypeVar("OptionsType", bound=TableOptions)


def main(
    options_type: type[OptionsType], draw: Callable[[Table, OptionsType], Figure], *, kind: str
) -> None:
    """The command line of a figure of a table: what `draw` returns is saved as EXPERIMENT_kind."""
    try:
        options = parse(options_type, description=sys.modules["__main__"].__doc__)
        table = options.table()
        set_style()
        save(draw(table, options), options.out / f"{table.experiment}_{kind}", to_csv(table))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def set_style() -> None:
    """Small sans-serif text that is readable at the printed width, and thin lines."""
    small = dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), 6.5)
    thin = dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6)
    settings = {
        "font.size": 7,
        "axes.titlesize": 7,
        "axes.labelsize": 7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.handlelength": 1.2,
        "legend.columnspacing": 1.2,
        "pdf.fonttype": 42,  # letters stay letters in the PDF
    }
    pyplot.rcParams.update(settings | small | thin)


def seeds(table: Table) -> str:
    """How many seeds the cells have: "3 seeds", or "1 to 3 seeds" if they differ."""
    counts = sorted({len(values) for values in table.measured.values()})
    least, most = counts[0], counts[-1]
    if least < most:
        return f"{least} to {most} seeds"
    return f"{least} seed{'s' * (least > 1)}"


def of_oracle(table: Table) -> str:
    """What a caption adds if target labels select the model."""
    return ", which reads target labels" if table.select == "oracle" else ""


def sources(table: Table) -> set[str]:
    """The source domains of the tasks."""
    return {task.split(">")[0] for task in table.tasks}


def short_names(table: Table, columns: Sequence[str]) -> list[str]:
    """The tasks as source → target. If all have one source, its name is left out."""
    if len(sources(table)) == 1:
        return [name.split(">")[-1] for name in columns]
    return [name.replace(">", " → ") for name in columns]


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
    # Without a date the same runs give the same bytes.
    figure.savefig(paths[0], metadata={"CreationDate": None})
    figure.savefig(paths[1], dpi=DOTS)
    paths[2].write_text(numbers, encoding="utf-8")
    print(*paths, sep="\n")
