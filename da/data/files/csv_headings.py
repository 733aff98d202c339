"""Whether the first row of a table is a heading, and what it says.

A heading can be numbers: wavelengths, years, masses. A row of such numbers among the data would
spoil every mean, and two tables with other wavelengths would be compared without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from da.data.files.csv_layout import is_number

# Names of a column, or key, of classes
LABELS = ("labels", "label", "y", "class", "target", "targets", "classification")
_FEW = 3  # rows below the first, without which it cannot look unlike them


def heading(first: Sequence[str], path: Path) -> tuple[str, ...] | None:
    """The names of the columns, or None if the first row is all numbers.

    Raises:
        ValueError: The first row is neither names nor numbers, or a name is missing or stands
            twice.
    """
    names = tuple(cell.strip() for cell in first)
    if names[0].startswith("#"):  # as NumPy's savetxt writes a heading, whatever it says
        names = (names[0].lstrip("# "), *names[1:])
        _check_doubles(names, path)
        return names
    numbers = sum(is_number(name) for name in names)
    if "" in names and numbers < len(names) or names[0] == "Unnamed: 0":
        place = names.index("") if "" in names else 0
        raise ValueError(
            f"{path}, first line: cell {place + 1} is empty or a number of rows; if the file was "
            "written by pandas, write it with index=False"
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
            "neither a heading nor a row; if it is a heading, call the column of classes label, "
            "and if it is a row, write a heading above it"
        )
    _check_doubles(names, path)
    return names


def label_places(names: Sequence[str], path: Path) -> list[int]:
    """Where the column of classes is: at most one place.

    Raises:
        ValueError: There are two such columns.
    """
    places = [place for place, name in enumerate(names) if name.lower() in LABELS]
    if len(places) > 1:
        candidates = ", ".join(repr(names[place]) for place in places)
        raise ValueError(f"{path}: {candidates} could all be the column of labels; keep one")
    return places


def first_row_of_numbers(x: np.ndarray) -> Literal["heading", "row", "unclear"]:
    """Judge whether the first row of a table of numbers is its heading.

    Three things speak for a heading. Its numbers lie outside the values of every column, by more
    than their range. Its numbers are whole and no column's are. Its numbers rise or fall from
    column to column, and no other row's do: in at least five columns, or four in equal steps.

    Args:
        x: All rows (n, d).

    Returns:
        "heading" if it is unlike the rows and in order, "unclear" if it is one of the two.
    """
    if not np.isfinite(x).all():
        return "row"  # such a table is refused anyway
    first, rest = x[0], x[1:]
    unlike = len(rest) >= _FEW and (_far(first, rest) or _whole(first, rest))
    ordered = _ordered(first[None])[0]
    if unlike and ordered and len(first) > 2:
        return "heading"
    steps = np.diff(first)
    orderly = len(first) > 4 or (len(first) == 4 and np.allclose(steps, steps[0], rtol=1e-6))
    return "unclear" if unlike or (ordered and orderly and not _ordered(rest).any()) else "row"


def _far(first: np.ndarray, rest: np.ndarray) -> bool:
    """Whether each value lies outside its column by more than the range of the column."""
    low, high = rest.min(axis=0), rest.max(axis=0)
    gap = np.maximum(low - first, first - high)
    return len(first) > 1 and bool((gap > high - low).all())


def _whole(first: np.ndarray, rest: np.ndarray) -> bool:
    """Whether the values are different whole numbers, unlike most of those in every column."""
    different = len(first) > 3 and len(np.unique(first)) == len(first)
    fractions = (rest != np.round(rest)).mean(axis=0)
    return different and bool((first == np.round(first)).all() and (fractions > 0.5).all())


def _ordered(rows: np.ndarray) -> np.ndarray:
    """Whether the numbers of each row (n, d) rise or fall from column to column, (n,)."""
    steps = np.diff(rows, axis=1)
    return np.all(steps > 0, axis=1) | np.all(steps < 0, axis=1)


def _check_doubles(names: tuple[str, ...], path: Path) -> None:
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        if name in seen:
            raise ValueError(
                f"{path}: columns {seen[name] + 1} and {place + 1} are both called {name!r}; give "
                "each column a name of its own"
            )
        seen[name] = place
