"""Each column's own test: numbers, categories, missing values, labels."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from da.shift.categories import moved_categories, pool_rare
from da.shift.drift import moved_columns
from da.shift.gaps import moved_gaps


class Column(NamedTuple):
    """What was found in one column.

    Attributes:
        name: The column.
        kind: What was compared: numbers, categories, missing values, or labels.
        distance: Of the distributions, in [0, 1]: Kolmogorov-Smirnov for numbers, total variation
            for categories, the difference of the shares for missing values.
        p_value: Of equal distributions.
        says: In words, how it moved; "" if there is nothing to say.
        shift: Of numbers, the target's mean less the source's, in standard deviations over both;
            else NaN.

    Example:
        >>> import pandas as pd
        >>> from da.shift.column_findings import of_table
        >>> old, new = pd.DataFrame({"a": [0.0, 1.0]}), pd.DataFrame({"a": [0.0, None]})
        >>> [(column.name, column.kind, column.distance) for column in of_table(old, new)]
        [('a', 'numbers', 0.5), ('a', 'missing', 0.5)]
    """

    name: str
    kind: Literal["numbers", "categories", "missing", "labels"]
    distance: float
    p_value: float
    says: str
    shift: float = math.nan


def of_array(source: np.ndarray, target: np.ndarray) -> list[Column]:
    """Test each column of rows (n, d) and (m, d). The p-values are not corrected."""
    return [
        _numbers(f"column {place}", source[:, place], target[:, place])
        for place in range(source.shape[1])
    ]


def of_table(source: pd.DataFrame, target: pd.DataFrame) -> list[Column]:
    """Test each column of two tables, and its gaps. The p-values are not corrected.

    Args:
        source: Columns of floats with NaN, or of categories with None.
        target: The same columns.
    """
    found = []
    for name in source.columns:
        own, other = source[name], target[name]
        if pd.api.types.is_float_dtype(own) and pd.api.types.is_float_dtype(other):
            x, y = own.dropna().to_numpy(), other.dropna().to_numpy()
            if len(x) and len(y):
                found.append(_numbers(name, x, y))
        else:
            x, y = own.dropna().astype(str).to_numpy(), other.dropna().astype(str).to_numpy()
            if len(x) and len(y):
                found.append(_categories(name, x, y, "categories"))
        if own.isna().any() or other.isna().any():
            found.append(_gaps(name, own.isna().to_numpy(), other.isna().to_numpy()))
    return found


def of_labels(source: np.ndarray, target: np.ndarray) -> Column:
    """Test whether classes have the same shares, or the numbers of a regression the same values."""
    if source.dtype.kind == "U" and target.dtype.kind == "U":
        return _categories("labels", source, target, "labels")
    return _numbers("labels", source, target)._replace(kind="labels")


def _numbers(name: str, x: np.ndarray, y: np.ndarray) -> Column:
    found = moved_columns(*(values.astype(np.float64)[:, None] for values in (x, y)))
    distance, p_value, shift = (float(values[0]) for values in found)
    says = f"mean moved by {shift:+.2f} deviations"
    return Column(name, "numbers", distance, p_value, says, shift)


def _categories(
    name: str, x: np.ndarray, y: np.ndarray, kind: Literal["categories", "labels"]
) -> Column:
    found = moved_categories(*(values[:, None] for values in pool_rare(x, y)))
    new = np.setdiff1d(y, x).tolist()
    says = f"only in the target: {', '.join(new[:5])}{', ...' if len(new) > 5 else ''}"
    distance, p_value = float(found.distance[0]), float(found.p_value[0])
    return Column(name, kind, distance, p_value, says if new else "")


def _gaps(name: str, x: np.ndarray, y: np.ndarray) -> Column:
    found = moved_gaps(x[:, None], y[:, None])
    before, after = found.share[:, 0]
    says = f"{100 * before:.1f} % missing in the source, {100 * after:.1f} % in the target"
    return Column(name, "missing", float(abs(after - before)), float(found.p_value[0]), says)
