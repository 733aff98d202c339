"""Which columns of categories moved between two samples: text, or codes such as postcodes.

Use it beside `da.shift.drift.moved_columns`, which is for columns of numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from da.arrays.arguments import checked
from da.records.multiple_tests import holm
from da.shift.class_drift import moved_proportions


class Categories(NamedTuple):
    """How each of c columns of categories moved, as found by `moved_categories`.

    Attributes:
        distance: The total variation distance (c,) of the two columns' shares, in [0, 1].
        p_value: The p-value (c,) of Pearson's chi-square test of equal shares, corrected by `holm`.
        least_expected: The least expected count (c,), in rows. The p-value is rough if this is
            below 5.
        new: The categories that only the target has, a tuple of texts for each column.

    Example:
        >>> import numpy as np
        >>> from da.shift import moved_categories
        >>> source, target = np.array([["a"], ["a"]]), np.array([["a"], ["b"]])
        >>> found = moved_categories(source, target)
        >>> found.distance.tolist(), found.new
        ([0.5], (('b',),))
    """

    distance: np.ndarray
    p_value: np.ndarray
    least_expected: np.ndarray
    new: tuple[tuple[str, ...], ...]


@checked
def moved_categories(source: np.ndarray, target: np.ndarray) -> Categories:
    """Test each column of categories for a change of its shares.

    With the shares p of the source and q of the target, and N rows in both samples together,

        distance = 1/2 sum_k |p_k - q_k|        chi2 = sum (count - expected)^2 / expected

    A missing value is a category of its own. Two values are one category if their texts are equal.

    Args:
        source: Categories (n, c), text or numbers, n >= 1.
        target: Categories (m, c), m >= 1.

    Returns:
        Distance, corrected p-value, least expected count and new categories for each column.

    Raises:
        ValueError: An input is no table, or the widths differ.

    Example:
        Only the second column has moved:

        >>> import numpy as np
        >>> from da.shift import moved_categories
        >>> colours, sizes = np.repeat(["red", "blue"], 50), np.tile(["S", "L"], 50)
        >>> source = np.column_stack([colours, sizes])
        >>> target = np.column_stack([colours, np.where(np.arange(100) < 80, "L", "S")])
        >>> found = moved_categories(source, target)
        >>> found.p_value < 0.05, found.distance.round(2)
        (array([False,  True]), array([0. , 0.3]))

    Paper:
        Pearson: On the Criterion that a Given System of Deviations from the Probable in the Case
        of a Correlated System of Variables is Such that it Can Be Reasonably Supposed to Have
        Arisen from Random Sampling. Philosophical Magazine 50, 1900.
        Holm: A Simple Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of
        Statistics 6, 1979 (the correction).

    Differences:
        None known. There is no continuity correction.
    """
    own, other = _table(source, "source"), _table(target, "target")
    if own.shape[1] != other.shape[1]:
        raise ValueError(
            f"source and target must have as many columns; got {own.shape} and {other.shape}"
        )
    found = [moved_proportions(a, b) for a, b in zip(own.T, other.T, strict=True)]
    shares = [line.counts / line.counts.sum(axis=1, keepdims=True) for line in found]
    return Categories(
        np.array([np.abs(p - q).sum() / 2 for p, q in shares]),
        holm(np.array([line.p_value for line in found])),
        np.array([line.least_expected for line in found]),
        tuple(tuple(line.classes[line.counts[0] == 0].tolist()) for line in found),
    )


def pool_rare(
    source: np.ndarray, target: np.ndarray, *, least: float = 5.0
) -> tuple[np.ndarray, np.ndarray]:
    """Make one category of all that are too rare for a chi-square test.

    Use it before `moved_categories` on columns of many categories. Which ones are rare depends on
    the rows of both samples together, so the level of a test stays what it is.

    Args:
        source: Categories (n,) of a column, text or numbers.
        target: Categories (m,) of the same column.
        least: The least expected count of a category in the smaller sample. Default 5.

    Returns:
        The two columns as text, with "(others)" in place of rare categories.

    Example:
        >>> import numpy as np
        >>> from da.shift.categories import pool_rare
        >>> pool_rare(np.array(["a"] * 10 + ["b"]), np.array(["a"] * 10 + ["c"]))[1][-2:].tolist()
        ['a', '(others)']
    """
    own, other = np.asarray(source).astype(str), np.asarray(target).astype(str)
    values, places, counts = np.unique(
        np.concatenate([own, other]), return_inverse=True, return_counts=True
    )
    expected = counts * min(len(own), len(other)) / (len(own) + len(other))
    pooled = np.where(expected < least, "(others)", values)[places]
    return pooled[: len(own)], pooled[len(own) :]


def _table(values: np.ndarray, name: str) -> np.ndarray:
    """A table (n, c) as text."""
    table = np.asarray(values)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(
            f"{name} must have shape (n, c) with at least one row and one column; got {table.shape}"
        )
    return table.astype(str)
