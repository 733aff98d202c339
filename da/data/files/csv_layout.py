"""How a table of text is written: its encoding, and the sign between its columns.

Excel writes semicolons where the comma is the decimal sign, tabs and UTF-16 as "Unicode text", and
a byte order mark before UTF-8. Older programs write Latin-1.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from da.data.files.folders import naming

DELIMITERS = (",", ";", "\t", "|")
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SAMPLE = 20  # lines that decide on the delimiter


class Row(NamedTuple):
    """A row of a table: the number of its (last) line, and its cells."""

    line: int
    cells: list[str]


def read_rows(path: Path, *, words: bool = False) -> tuple[str, Iterator[Row]]:
    """Read a table of text row by row.

    The encoding is UTF-8, or UTF-16 if the file's zeros say so, else Latin-1 (Windows-1252), and
    then a line is printed. The delimiter is the comma, semicolon, tab or bar that divides the first
    lines into most cells that are numbers; a first line such as "sep=;" says it itself.

    Args:
        path: The file.
        words: Whether columns may hold words. Then the delimiter must above all divide all first
            lines into equally many cells. Default False.

    Returns:
        The delimiter, and the rows that have a cell which is not blank.

    Raises:
        ValueError: The file is no text, or a quotation mark in it is not closed.
    """
    encoding = _encoding(path)
    with naming(path), open(path, newline="", encoding=encoding) as file:
        lines = list(islice(file, _SAMPLE))
    told = _told_delimiter(lines)
    fit = _even_fit if words else _fit
    delimiter = told or max(DELIMITERS, key=lambda sign: fit(lines, sign))
    return delimiter, _rows(path, encoding, delimiter, skipped=1 if told else 0)


def is_number(cell: str) -> bool:
    """Whether a text is a number; "nan" and "inf" are numbers too, Python's 1_000 is none."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def decimal_comma(cell: str) -> float | None:
    """The number in "1,5" or "-2,5e3", or None if the text is no number with a decimal comma."""
    whole, comma, rest = cell.strip().partition(",")
    ends = whole[-1:].isdigit() or whole in ("", "+", "-")
    if not (comma and ends and rest[:1].isdigit() and is_number(f"{whole}.{rest}")):
        return None
    return float(f"{whole}.{rest}")


def _encoding(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(4096)
        for mark, name in _MARKS.items():
            if head.startswith(mark):
                return name
        if b"\0" in head:
            return _without_mark(path, head)
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while chunk := file.read(1 << 20):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            print(f"{path} is not UTF-8, so it is read as Latin-1 (Windows-1252)")
            return "cp1252"
    return "utf-8"


def _without_mark(path: Path, head: bytes) -> str:
    """UTF-16 without a byte order mark: every other byte of its digits and commas is 0."""
    first, second = head[::2].count(0), head[1::2].count(0)
    if first and second:
        raise ValueError(f"{path} cannot be read: it is no text, whatever its name says")
    return "utf-16-be" if first else "utf-16-le"


def _told_delimiter(lines: Sequence[str]) -> str:
    """The delimiter that Excel's first line "sep=;" names, or ""."""
    first = lines[0].strip('\r\n"') if lines else ""
    return first[4:] if first.lower().startswith("sep=") and first[4:] in DELIMITERS else ""


def _fit(lines: Sequence[str], delimiter: str) -> tuple[float, bool]:
    """How well a delimiter divides the lines.

    It is the share of numbers among the cells below the first row, and whether all rows are equally
    long. Rows of one cell are not divided.
    """
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if any(row)]
    except csv.Error:  # a whole line as one cell can be too long
        return 0.0, False
    below = rows[1:] or rows
    cells = [cell for row in below if len(row) > 1 for cell in row]
    numbers = sum(
        is_number(cell) or (delimiter != "," and decimal_comma(cell) is not None) for cell in cells
    )
    even = len({len(row) for row in rows}) == 1 and bool(cells)
    return numbers / max(sum(len(row) for row in below), 1), even


def _even_fit(lines: Sequence[str], delimiter: str) -> tuple[bool, float, int]:
    """How well a delimiter divides lines with words: evenly, into numbers, into many cells."""
    share, _ = _fit(lines, delimiter)
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if any(row)]
    except csv.Error:
        return False, share, 0
    rows = rows[:-1] if len(rows) > 2 else rows  # the last may be cut within quotation marks
    lengths = {len(row) for row in rows}
    return len(lengths) == 1 and lengths != {1}, share, max(lengths, default=0)


def _rows(path: Path, encoding: str, delimiter: str, skipped: int) -> Iterator[Row]:
    with open(path, newline="", encoding=encoding) as file:
        for _ in range(skipped):
            next(file)
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            for cells in reader:
                if any(map(str.strip, cells)):
                    yield Row(reader.line_num + skipped, cells)
        except (csv.Error, UnicodeError) as error:
            raise ValueError(
                f"{path}, line {reader.line_num + skipped} cannot be read ({error}); the file is "
                "damaged, or a quotation mark is not closed"
            ) from error
