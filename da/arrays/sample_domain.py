"""Tell source rows from target rows in pooled data, and read no label but those asked for.

    sample_domain (n,)    whole numbers: > 0 for a source row, < 0 for a target row

The estimators of `da.shallow`, `da.instance` and `da.recipes` use it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length, column_or_1d, validate_data

from da.arrays.naming import naming


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


def pooled_rows(estimator: BaseEstimator, X: Any, y: Any = None, **options: Any) -> Any:
    """Check the rows of an estimator as scikit-learn does; errors name the argument.

    Args:
        estimator: The estimator, which learns or knows the width.
        X: Rows (n, d).
        y: Labels (n,), of which the number alone is checked. Default None: there are none.
        options: Of scikit-learn's `validate_data`.

    Returns:
        The rows (n, d).

    Raises:
        ValueError: The rows are no matrix of finite numbers, or of another width, or there are not
            as many labels.
        TypeError: The rows are no numbers.
    """
    if getattr(getattr(X, "dtype", None), "kind", None) in ("m", "M"):  # they would be numbers
        raise TypeError(f"X must hold numbers; got {X.dtype}")
    if np.ma.is_masked(X):
        raise TypeError("X must hold numbers, none of them hidden; got a masked array")
    with naming("X"):
        X = validate_data(estimator, X, **options)
    if y is not None:
        with naming("y"):
            check_consistent_length(X, y)
    return X


def labels_of(y: Any, chosen: np.ndarray) -> np.ndarray:
    """Read the labels of the chosen rows and of no others.

    Args:
        y: Labels (n,) of any kind.
        chosen: Booleans (n,).

    Returns:
        The labels of the chosen rows (k,), as an array whose type depends on them alone.
    """
    with naming("y"):
        y = y if hasattr(y, "__getitem__") else np.asarray(y)
        values = column_or_1d(np.asarray(_safe_indexing(y, np.flatnonzero(chosen))), warn=True)
        # If y also holds None or strings, NumPy keeps its numbers as objects: find their own type.
        return np.array(values.tolist()) if values.dtype == object else values


def labelled_rows(y: Any, chosen: np.ndarray) -> np.ndarray:
    """Mark those of the chosen rows that have a label.

    Args:
        y: Labels (n,) of any kind. None, NaN and what pandas takes for missing are no labels.
        chosen: Booleans (n,). The entries of other rows are not read.

    Returns:
        Booleans (n,), True for a chosen row with a label.
    """
    import pandas as pd  # a third of a second, which few calls need

    rows = np.flatnonzero(chosen)
    with naming("y"):
        y = y if hasattr(y, "__getitem__") else np.asarray(y)
        values = column_or_1d(np.asarray(_safe_indexing(y, rows), dtype=object))
    found = np.zeros(len(chosen), dtype=bool)
    found[rows[~pd.isna(values)]] = True
    return found
