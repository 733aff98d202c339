"""Tell source rows from target rows in pooled data, and read the labels of source rows alone.

    sample_domain (n,)    whole numbers: > 0 for a source row, < 0 for a target row

The estimators and the cross-validation of this folder use it. What y holds for target rows is
never read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import column_or_1d

from da.arrays.matrices import normalised_weights

# (source (n, d), target (m, d)) -> weights (n,)
Weigher = Callable[[np.ndarray, np.ndarray], np.ndarray]


def is_source(sample_domain: Any, rows: int) -> np.ndarray:
    """Mark the source rows.

    Args:
        sample_domain: Integers (rows,), or floats that hold whole numbers: > 0 for source rows and
            < 0 for target rows.
        rows: How many rows there are.

    Returns:
        Booleans (rows,), True for source rows.

    Raises:
        TypeError: `sample_domain` does not hold whole numbers.
        ValueError: Its shape is not (rows,), or an entry is 0.
    """
    domains = np.asarray(sample_domain)
    if domains.shape != (rows,):
        raise ValueError(
            f"sample_domain must have one entry per row, shape ({rows},); got shape {domains.shape}"
        )
    if domains.dtype.kind == "O":  # as a column of a table may be
        domains = np.array(domains.tolist())
    whole = domains.dtype.kind == "f" and bool((np.mod(domains, 1) == 0).all())  # False for NaN
    if domains.dtype.kind not in "iu" and not whole:
        raise TypeError(
            "sample_domain must hold integers, > 0 for source rows and < 0 for target rows; "
            f"got {domains.dtype}"
        )
    zeros = np.flatnonzero(domains == 0)
    if len(zeros):
        raise ValueError(
            f"sample_domain must be > 0 for source and < 0 for target rows; got 0 in row {zeros[0]}"
        )
    return domains > 0


def labels_of(y: Any, chosen: np.ndarray) -> np.ndarray:
    """Read the labels of the chosen rows and of no others.

    Args:
        y: Labels (n,) of any kind.
        chosen: Booleans (n,).

    Returns:
        The labels of the chosen rows (k,), as an array whose type depends on them alone.
    """
    y = y if hasattr(y, "__getitem__") else np.asarray(y)
    values = column_or_1d(np.asarray(_safe_indexing(y, np.flatnonzero(chosen))), warn=True)
    # If y also holds None or strings, NumPy keeps its numbers as objects: find their own type.
    return np.array(values.tolist()) if values.dtype == object else values


def checked_weights(weigher: Weigher, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Compute the weights of the source rows, checked and divided by their mean.

    Args:
        weigher: A function (source, target) -> weights (n,).
        source: Rows (n, d).
        target: Rows (m, d).

    Returns:
        The weights (n,) in float64, of mean 1: an estimator's regularization keeps its strength.

    Raises:
        ValueError: The weights do not have the shape (n,), are not finite and >= 0, or are all 0.
    """
    weights = np.asarray(weigher(source, target), dtype=np.float64)
    return normalised_weights(weights, source.shape[0], name="the weights that weigher returns")
