"""In which columns the share of missing values differs between two samples.

Use it beside `da.shift.moved_columns`, which looks at the values that are there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import fisher_exact

from da.arrays.arguments import checked
from da.records.multiple_tests import holm


class Gaps(NamedTuple):
    """How the missing values of each of c columns moved, as found by `moved_gaps`.

    Attributes:
        share: The share (2, c) of missing values, in the source and in the target.
        p_value: The p-value (c,) of Fisher's exact test of equal shares, corrected by `holm`.

    Example:
        >>> import numpy as np
        >>> from da.shift import moved_gaps
        >>> moved_gaps(np.array([[True], [False]]), np.array([[False], [False]])).share.tolist()
        [[0.5], [0.0]]
    """

    share: np.ndarray
    p_value: np.ndarray


@checked
def moved_gaps(source: np.ndarray, target: np.ndarray) -> Gaps:
    """Test each column for a change of its share of missing values.

    Args:
        source: Whether a value is missing, (n, c) bool, n >= 1.
        target: The same of the target, (m, c) bool, m >= 1.

    Returns:
        The shares, and corrected p-values, which are exact for any number of rows.

    Raises:
        ValueError: An input is no table of bools, or the widths differ.

    Example:
        The second column is missing in the target more often:

        >>> import numpy as np
        >>> from da.shift import moved_gaps
        >>> rows = np.arange(100)
        >>> source = np.column_stack([rows < 5, rows < 5])
        >>> target = np.column_stack([rows < 6, rows < 40])
        >>> moved_gaps(source, target).p_value < 0.05
        array([False,  True])

    Paper:
        Fisher: On the Interpretation of chi-square from Contingency Tables, and the Calculation of
        P. Journal of the Royal Statistical Society 85, 1922.

    Differences:
        None known.
    """
    own, other = np.asarray(source), np.asarray(target)
    for name, table in (("source", own), ("target", other)):
        if table.ndim != 2 or len(table) == 0 or table.dtype != bool:
            raise ValueError(
                f"{name} must be bools (n, c) with a row or more; got {table.dtype} {table.shape}"
            )
    if own.shape[1] != other.shape[1]:
        raise ValueError(
            f"source and target must have as many columns; got {own.shape} and {other.shape}"
        )
    counts = [(int(a.sum()), int(b.sum())) for a, b in zip(own.T, other.T, strict=True)]
    p_values = [
        fisher_exact([[a, len(own) - a], [b, len(other) - b]]).pvalue if a + b else 1.0
        for a, b in counts
    ]
    shares = np.array([own.mean(axis=0), other.mean(axis=0)])
    return Gaps(shares, holm(np.array(p_values)))
