"""What people have their rows in: NumPy arrays, tables of pandas, SciPy's sparse matrices."""

from __future__ import annotations

from typing import Any

import numpy as np


def dense_array(x: Any, name: str) -> np.ndarray:
    """Turn rows of whatever kind into a dense NumPy array.

    What is computed of the rows is dense, so sparse rows need the memory of dense ones. Numbers of
    a table or of a sparse matrix become float64 if they are integers or truth values, because
    counts and one-hot columns are stored so. A masked or missing value becomes NaN.

    Args:
        x: An array, a pandas DataFrame or Series, another table with `to_numpy`, or a SciPy sparse
            matrix.
        name: What an error message calls `x`.

    Returns:
        The rows: an array as it is, otherwise a new one.

    Raises:
        TypeError: `x` is none of these, or a column of a table holds no numbers; the message names
            the column.

    Example:
        >>> import pandas as pd
        >>> from scipy.sparse import csr_array
        >>> from da.arrays import dense_array
        >>> dense_array(pd.DataFrame({"age": [51, None], "dose": [1, 2]}), "source").tolist()
        [[51.0, 1.0], [nan, 2.0]]
        >>> dense_array(csr_array([[0, 3]]), "source")
        array([[0., 3.]])
    """
    if isinstance(x, np.ma.MaskedArray):
        return np.ma.filled(x.astype(np.promote_types(x.dtype, np.float32)), np.nan)
    if isinstance(x, np.ndarray):
        return x
    if hasattr(x, "toarray"):
        return _floats(x.toarray(), name)
    if hasattr(x, "to_numpy"):
        return _floats(_cells(x, name), name)
    raise TypeError(
        f"{name} must be a torch tensor, a NumPy array, a table or a sparse matrix; "
        f"got {type(x).__name__}"
    )


def _cells(table: Any, name: str) -> np.ndarray:
    """The cells of a table that holds numbers alone."""
    import pandas as pd  # a third of a second, which only tables need

    if isinstance(table, pd.Series):
        table = table.to_frame(table.name or "of the series")
        return _cells(table, name)[:, 0]
    if not isinstance(table, pd.DataFrame):
        return table.to_numpy()
    for column, dtype in zip(table.columns, table.dtypes, strict=True):
        if not pd.api.types.is_numeric_dtype(dtype):
            raise TypeError(
                f"{name} must hold numbers; column {column!r} holds {dtype}: encode it first, for "
                f"example with sklearn.preprocessing.OneHotEncoder, or leave it out"
            )
    return table.to_numpy(dtype=np.float64, na_value=np.nan)


def _floats(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind in "iub":
        return values.astype(np.float64)
    if values.dtype.kind != "f":
        raise TypeError(f"{name} must hold numbers; got {values.dtype}")
    return values
