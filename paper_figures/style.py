"""What the figures share: widths, fonts, colours, the choice of records, and a picture saved beside the numbers behind it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")  # files only, so that no display is needed

from matplotlib import pyplot
from matplotlib.figure import Figure

Width = Literal["column", "double"]
INCHES = {"column": 3.3, "double": 6.9}

GREY = "#8c8c8c"
# Okabe and Ito's colours for every kind of colour vision, the darker ones first; the baseline is grey.
METHODS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
# Paul Tol's "muted" scheme, made for up to nine classes, and black.
CLASSES = ("#332288", "#88ccee", "#117733", "#ddcc77", "#cc6677", "#882255", "#44aa99", "#999933", "#aa4499", "#000000")


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


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated lines under a heading."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    return text.getvalue()


def save(figure: Figure, stem: Path, numbers: str) -> None:
    """Writes stem.pdf, stem.png (300 dots an inch) and the `numbers` behind them to stem.csv, and prints the three names."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("pdf", "png", "csv")]
    figure.savefig(paths[0], metadata={"CreationDate": None})  # no clock: the same runs give the same bytes
    figure.savefig(paths[1], dpi=300)
    paths[2].write_text(numbers, encoding="utf-8")
    print(*paths, sep="\n")
