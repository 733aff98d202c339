"""What each column of a table is taken for: numbers, categories, or nothing that can be used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

FEW = 20  # different values below which a column neither names nor numbers the rows
WORDS = 4  # mean words of a cell from which a column is free text
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ]\d{1,2}:\d{2}.*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( .*)?"
)


class Roles(NamedTuple):
    """What the columns of a table are taken for.

    Attributes:
        numbers: Columns of numbers.
        gaps: Those of them that have missing values in the source.
        categories: Columns of categories.
    """

    numbers: tuple[str, ...]
    gaps: tuple[str, ...]
    categories: tuple[str, ...]

    @property
    def used(self) -> tuple[str, ...]:
        """All columns that become features."""
        return self.numbers + self.categories


def roles_of(source: pd.DataFrame, target: pd.DataFrame) -> tuple[Roles, list[str]]:
    """Decide what each column is taken for.

    Args:
        source: The rows of all sources.
        target: The rows of the target, with the same columns.

    Returns:
        The roles, and a line for each kind of column that is left out.

    Example:
        >>> import pandas as pd
        >>> from da.adapt.table_columns import roles_of
        >>> day = ["2024-01-05", "2024-01-06"]
        >>> table = pd.DataFrame({"height": [1.0, 3.0], "colour": ["red", "blue"], "day": day})
        >>> roles, notes = roles_of(table, table)
        >>> roles.numbers, roles.categories, notes
        (('height',), ('colour',), ['Dates are left out: day.'])
    """
    numbers, categories = [], []
    left_out: dict[str, list[str]] = {}
    for name in source.columns:
        reason = unusable(source[name], target[name])
        if reason:
            left_out.setdefault(reason, []).append(name)
        elif pd.api.types.is_float_dtype(source[name]):
            numbers.append(name)
        else:
            categories.append(name)
    gaps = [name for name in numbers if source[name].isna().any()]
    notes = [f"{reason}: {some(names)}." for reason, names in left_out.items()]
    return Roles(tuple(numbers), tuple(gaps), tuple(categories)), notes


def unusable(source: pd.Series, target: pd.Series) -> str:
    """Say why a column cannot become a feature.

    Args:
        source: The column in all sources.
        target: The same column in the target.

    Returns:
        The beginning of a sentence about such columns; "" for a column that can be used.
    """
    present = source.dropna()
    if present.empty or target.isna().all():
        return f"Columns without values in the {'source' if present.empty else 'target'} are out"
    if present.nunique() == 1 and not source.isna().any():
        return "Columns that are constant in the source are left out"
    return measures_nothing(source)


def measures_nothing(column: pd.Series) -> str:
    """Say why a column tells when or which a row is, and not how it is.

    Args:
        column: The column of one side.

    Returns:
        The beginning of a sentence about such columns; "" for one that measures something.
    """
    present = column.dropna()
    if pd.api.types.is_datetime64_any_dtype(column) or _are_dates(present):
        return "Dates are left out"
    if _counts_rows(column):
        return "Columns that number the rows are left out"
    if pd.api.types.is_float_dtype(column) or isinstance(column.dtype, pd.CategoricalDtype):
        return ""
    return _unusable_text(present.astype(str))


def _unusable_text(present: pd.Series) -> str:
    share = present.nunique() / max(len(present), 1)
    words = present.str.count(r"\s+").mean() + 1
    if share > 0.5 and words >= WORDS:
        return "Free text is left out (--text NAME makes features of a column alone)"
    if share > 0.9 and present.nunique() > FEW:
        return "Columns that name each row are left out"
    return ""


def _are_dates(present: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(present) or isinstance(present.dtype, pd.CategoricalDtype):
        return False
    return len(present) > 0 and all(_DATE.fullmatch(str(value)) for value in present)


def _counts_rows(column: pd.Series) -> bool:
    """Whether a column of numbers rises by whole steps from row to row, as numbers of rows do."""
    if not pd.api.types.is_float_dtype(column) or column.isna().any() or len(column) <= FEW:
        return False
    steps = np.diff(column.to_numpy())
    return bool((steps > 0).all() and (steps == np.round(steps)).all())


def some(names: Sequence[str], most: int = 8) -> str:
    """The first names of a list, with commas."""
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")
