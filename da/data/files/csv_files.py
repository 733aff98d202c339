"""Tables in .csv and .tsv files: numbers, with an optional heading and a column of classes."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from da.data.files.csv_headings import first_row_of_numbers, heading, label_places
from da.data.files.csv_layout import Row, decimal_comma, is_number, read_rows

_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_MISSING = ("", "na", "n/a", "#n/a", "null", "none", "-", "?", ".")  # what stands for no value


class Table(NamedTuple):
    """What a table of text holds.

    Attributes:
        x: Numbers (n, d) float64.
        labels: The classes (n,), or None if there is no such column or all of it is empty.
        names: The names of the d columns, or None.
        words: The columns of categories (n, c) as text, or None if they were not asked for.
        word_names: The names of the c columns of categories.
    """

    x: np.ndarray
    labels: list[str] | None
    names: tuple[str, ...] | None
    words: np.ndarray | None = None
    word_names: tuple[str, ...] = ()


def read_csv(path: Path, *, categories: Sequence[str] | None = None) -> Table:
    """Read a table whose columns are divided by commas, semicolons, tabs or bars.

    Args:
        path: The file, in UTF-8, UTF-16 or Latin-1. Its first row is a heading if it is text, or if
            it is numbers in order that are unlike all rows below it; then a line is printed. A
            column called label, labels, y, class, target, targets or classification holds the
            classes. Numbers may have a decimal comma if columns are not divided by commas. Empty
            columns at the end are left out.
        categories: Names of columns that hold categories though they look like numbers. Columns
            with text are then set apart too. Default None: text among the numbers is an error.

    Returns:
        Numbers, classes, names and columns of categories.

    Raises:
        ValueError: The file has no rows, rows of different lengths, text or nothing among the
            numbers, numbers written in two ways, an unclear heading, two columns of one name, or
            two columns of classes. The message names the file, and line and column where it can.
    """
    delimiter, rows = read_rows(path)
    first = next(rows, Row(0, []))
    width = _width(first.cells)
    if not width:
        raise ValueError(f"{path} has no rows")
    names = heading([_plain(cell, delimiter) for cell in first.cells[:width]], path)
    labels_at = label_places(names or (), path)
    words_at: list[int] = []
    if categories is not None:
        kept = list(rows)
        words_at = word_places(kept, names or (), labels_at, categories, path)
        rows = iter(kept)
        if width == len(words_at) + len(labels_at):
            raise ValueError(f"{path}: no column of numbers is left beside those of categories")
    table = _Table(path, delimiter, width, names, labels_at, words_at)
    for row in rows if names else chain([first], rows):
        table.add(row)
    x, columns = table.numbers(), table.columns()
    if columns is None and len(x) and _is_heading(x, first.cells, path):
        x, columns = x[1:], tuple(cell.strip() for cell in first.cells[:width])
    if categories is None:
        return Table(x, table.classes(), columns)
    words = np.array(table.words, dtype=str).reshape(len(x), len(words_at))
    word_names = tuple((names or ())[place] for place in words_at)
    return Table(x, table.classes(), columns, words, word_names)


def word_places(
    rows: Sequence[Row],
    names: Sequence[str],
    labels_at: Sequence[int],
    categories: Sequence[str],
    path: Path,
) -> list[int]:
    """Where the columns of categories are: those named, and those in which a cell is text.

    Raises:
        ValueError: There is no column of a name.
    """
    for name in categories:
        if name not in names:
            raise ValueError(f"{path} has no column {name!r} of categories; it has {list(names)}")
    text = {
        place
        for row in rows
        for place, cell in enumerate(row.cells[: len(names)])
        if not is_number(cell)
        and decimal_comma(cell) is None
        and cell.strip().lower() not in _MISSING
    }
    named = {place for place, name in enumerate(names) if name in categories}
    return sorted((text | named) - set(labels_at))


@dataclass
class _Table:
    """The rows that were read so far, and how they are written."""

    path: Path
    delimiter: str
    width: int
    names: tuple[str, ...] | None
    labels_at: list[int]
    words_at: list[int]
    values: array[float] = field(default_factory=lambda: array("d"))
    labels: list[Row] = field(default_factory=list)
    words: list[list[str]] = field(default_factory=list)
    points: bool = False  # whether a number has a decimal point
    comma: str = ""  # a number with a decimal comma
    surely: bool = False  # whether one of them cannot mean thousands

    def __post_init__(self) -> None:
        self.numbers_at = [
            place for place in range(self.width) if place not in self.labels_at + self.words_at
        ]

    def add(self, row: Row) -> None:
        line, cells = row
        if len(cells) > self.width:
            cells = cells[: max(_width(cells), self.width)]
        if len(cells) != self.width:
            hint = "; if the comma is the decimal sign, divide the columns by semicolons"
            raise ValueError(
                f"{self.path}, line {line}: {len(cells)} cells, but the first line has "
                f"{self.width}{hint if self.delimiter == ',' else ''}"
            )
        if self.labels_at or self.words_at:
            self.labels += [Row(line, [cells[place]]) for place in self.labels_at]
            if self.words_at:
                self.words.append([cells[place].strip() for place in self.words_at])
            cells = [cells[place] for place in self.numbers_at]
        text = "".join(cells)
        self.points = self.points or "." in text
        try:
            if "_" in text:  # Python reads 1_000 as a number
                raise ValueError
            self.values.extend([float(cell) for cell in cells])
        except ValueError:
            places = zip(self.numbers_at, cells, strict=True)
            self.values.extend([self._number(cell, place, line) for place, cell in places])

    def _number(self, cell: str, place: int, line: int) -> float:
        """A number as Python or with a decimal comma."""
        if is_number(cell):
            return float(cell)
        value = decimal_comma(cell)
        where = f"{self.path}, line {line}, column {self._name(place)}"
        if cell.strip().lower() in _MISSING:
            raise ValueError(f"{where}: no value ({cell!r}); fill it, or drop the row or column")
        if value is None:
            raise ValueError(
                f"{where}: {cell!r} is no number; only a column called label, y, class or target "
                "may be text"
            )
        if self.delimiter == ",":
            raise ValueError(f"{where}: {cell!r} is no number; write it with a decimal point")
        self.comma = cell.strip()
        self.surely = self.surely or not _THOUSANDS.fullmatch(self.comma)
        return value

    def _name(self, place: int) -> str:
        return repr(self.names[place]) if self.names else str(place + 1)

    def numbers(self) -> np.ndarray:
        """All numbers, (n, d)."""
        if self.comma and self.points:
            raise ValueError(
                f"{self.path}: numbers with a comma ({self.comma}) and numbers with a point; write "
                "all of them with a decimal point and without thousands' signs"
            )
        if self.comma and not self.surely:
            raise ValueError(
                f"{self.path}: the comma in {self.comma} and all other numbers may be a decimal "
                "sign or divide thousands; write a decimal point, or no sign"
            )
        # A view: a copy would take the memory of the whole table once more.
        return np.asarray(self.values).reshape(-1, max(len(self.numbers_at), 1))

    def columns(self) -> tuple[str, ...] | None:
        """The names of the columns of numbers."""
        return tuple(self.names[place] for place in self.numbers_at) if self.names else None

    def classes(self) -> list[str] | None:
        """The classes; None if none is given, as in a target without labels."""
        classes = [row.cells[0].strip() for row in self.labels]
        if not any(classes):
            return None
        if "" in classes:
            raise ValueError(
                f"{self.path}, line {self.labels[classes.index('')].line}, column "
                f"{self._name(self.labels_at[0])}: no class; labels must be whole numbers or "
                "text, none empty, or all of them"
            )
        return classes


def _width(cells: Sequence[str]) -> int:
    """Number of cells without the empty ones at the end."""
    return next((place for place in range(len(cells), 0, -1) if cells[place - 1].strip()), 0)


def _plain(cell: str, delimiter: str) -> str:
    """A number with a decimal comma as one with a point."""
    value = None if delimiter == "," else decimal_comma(cell)
    return cell if value is None else str(value)


def _is_heading(x: np.ndarray, first: Sequence[str], path: Path) -> bool:
    """Whether the first row of numbers is a heading."""
    shown = ", ".join(cell.strip() for cell in first[:3]) + (", ..." if len(first) > 3 else "")
    verdict = first_row_of_numbers(x)
    if verdict == "unclear":
        raise ValueError(
            f"{path}: the first row ({shown}) may be a heading or a row; if it is a heading, put a "
            "letter before each number; if it is a row, write a heading of names above it"
        )
    if verdict == "heading":
        print(f"{path}: the first row ({shown}) is taken as the names of the columns")
    return verdict == "heading"
