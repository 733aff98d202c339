"""Class labels as arguments: integers, strings, or floats that hold whole numbers."""

from __future__ import annotations

from numbers import Real

import numpy as np
from torch import Tensor


def class_values(labels: Tensor | np.ndarray, name: str) -> np.ndarray:
    """Check that labels are classes, and return them as an array on the CPU.

    Floats such as 0.0 and 1.0 are classes, as in scikit-learn: a table with empty cells in the
    column of labels has them. Other floats are not, and neither are missing labels.

    Args:
        labels: Classes of any shape: integers, booleans, strings, or floats that hold whole
            numbers.
        name: What the error calls them.

    Returns:
        The classes, in the type given. Objects that are all numbers become an array of numbers.

    Raises:
        TypeError: A label is no class, or strings and numbers are mixed.

    Example:
        >>> import numpy as np
        >>> from da.arrays import class_values
        >>> class_values(np.array([0.0, 1.0, 1.0]), "labels")
        array([0., 1., 1.])
    """
    if np.ma.is_masked(labels):
        raise TypeError(f"{name} must hold classes, none of them hidden; got a masked array")
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.dtype.kind == "O":
        return _objects(values, name)
    if values.dtype.kind == "f":
        wrong = np.flatnonzero(~(np.isfinite(values) & (values == np.round(values))).ravel())
        if len(wrong) == 0:
            return values
        raise TypeError(
            f"{name} must hold classes, as integers, strings or floats that hold whole numbers; "
            f"got {values.ravel()[wrong[0]]} in row {wrong[0]}"
        )
    if values.dtype.kind not in "iubUS":
        raise TypeError(f"{name} must hold classes, as integers or strings; got {values.dtype}")
    return values


def _objects(values: np.ndarray, name: str) -> np.ndarray:
    """The classes of an array of objects: all strings, or all numbers."""
    flat = values.ravel().tolist()
    kind = str if flat and isinstance(flat[0], str) else Real
    for row, value in enumerate(flat):
        if not isinstance(value, kind):
            raise TypeError(
                f"{name} must hold classes, as integers or strings, all of one kind; "
                f"got {value!r} in row {row}"
            )
    return values if kind is str else class_values(np.array(flat).reshape(values.shape), name)
