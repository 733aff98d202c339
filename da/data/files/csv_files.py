"""Tables in .csv files: numbers, with an optional heading and an optional column of classes."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from da.data.files.folders import naming

LABELS = ("labels", "label", "y", "class")  # names of a column, or key, of classes


def read_csv(path: Path) -> tuple[np.ndarray, list[str] | None, tuple[str, ...] | None]:
    """Read a table separated by commas.

    Args:
        path: The file. Its first row is a heading if it is text. A column called label, labels, y
            or class holds the classes.

    Returns:
        Numbers (n, d) float64; the classes, or None; the names of the d columns, or None.

    Raises:
        ValueError: The file has no rows, rows of different lengths, text among the numbers, an
            unclear heading, or two columns of classes. The message names file and line.
    """
    lines = _csv_lines(path)
    start, first = next(lines, (0, []))
    if not first:
        raise ValueError(f"{path} has no rows")
    names = _heading(first, path)
    label_places = _label_places(names or (), first, path)
    number_places = [place for place in range(len(first)) if place not in label_places]
    values, labels = array("d"), []
    for number, row in lines if names else chain([(start, first)], lines):
        if len(row) != len(first):
            raise ValueError(
                f"{path}, line {number}: {len(row)} cells, but the first line has {len(first)}"
            )
        labels += [row[place].strip() for place in label_places]
        values.extend(_numbers([row[place] for place in number_places], path, number))
    x = np.array(values).reshape(-1, max(len(number_places), 1))
    columns = tuple(names[place] for place in number_places) if names else None
    return x, labels if label_places else None, columns


def is_number(cell: str) -> bool:
    """Whether Python reads the text as a number; "nan" and "inf" are numbers too."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _label_places(names: Sequence[str], first: Sequence[str], path: Path) -> list[int]:
    """Where the column of classes is: at most one place."""
    places = [place for place, name in enumerate(names) if name.lower() in LABELS]
    if len(places) > 1:
        candidates = ", ".join(repr(first[place]) for place in places)
        raise ValueError(f"{path}: {candidates} could all be the column of labels; keep one")
    return places


def _numbers(cells: Sequence[str], path: Path, line: int) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        cell = next(cell for cell in cells if not is_number(cell))
        raise ValueError(
            f"{path}, line {line}: {cell!r} is no number; "
            "only a column called label, y or class may be text"
        ) from None


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every line that is not blank."""
    with naming(path), open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        for row in reader:
            if row:
                yield reader.line_num, row


def _heading(first: Sequence[str], path: Path) -> tuple[str, ...] | None:
    """The names of the columns, or None if the first row is numbers."""
    names = tuple(cell.strip() for cell in first)
    numbers = sum(is_number(name) for name in names)
    if "" in names and numbers < len(names):
        raise ValueError(
            f"{path}, first line: cell {names.index('') + 1} is empty; if the file was written by "
            "pandas, write it with index=False"
        )
    if len(names) > 2 and names == tuple(str(number) for number in range(len(names))):
        raise ValueError(
            f"{path}: the first row is 0, 1, ..., {len(names) - 1}, like numbers of columns; "
            "give them names, or remove it"
        )
    if numbers == len(names):
        return None
    if numbers and not any(name.lower() in LABELS for name in names):
        raise ValueError(
            f"{path}: the first row holds numbers and text ({', '.join(names[:5])}, ...): "
            "neither a heading nor a row"
        )
    return names
