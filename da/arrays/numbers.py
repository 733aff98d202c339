"""Numbers in whatever form they come, weights, shares or values, as a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from da.arrays.devices import without_values


def as_numbers(values: Any, name: str) -> Tensor:
    """Turn numbers of any shape into a tensor, or say which argument holds none.

    Unlike `as_matrix` it takes lists, integers and truth values, and does not ask for a shape or
    for finite values. The gradient of a tensor passes.

    Args:
        values: A tensor, an array, a table, or a list of numbers.
        name: The argument's name, for the error.

    Returns:
        The numbers, on the device they were on. Long doubles become float64.

    Raises:
        TypeError: The values are text, objects, complex, hidden or without any content.

    Example:
        >>> import numpy as np
        >>> from da.arrays import as_numbers
        >>> as_numbers(np.array([1.0, 2.0])[::-1], "weights")
        tensor([2., 1.], dtype=torch.float64)
        >>> as_numbers(["a"], "weights")
        Traceback (most recent call last):
        TypeError: weights must hold numbers; got text
    """
    if isinstance(values, Tensor):
        if values.is_complex() or without_values(values):
            what = "no values, on the device meta" if values.is_meta else str(values.dtype)
            raise TypeError(f"{name} must hold numbers; got {what}")
        return values if values.layout == torch.strided else values.to_dense()
    own = _array(values, name)
    if own.dtype.kind not in "biuf":
        what = "text" if own.dtype.kind in "US" else str(own.dtype)
        raise TypeError(f"{name} must hold numbers; got {what}")
    wide = np.dtype(np.float64) if own.dtype.itemsize > 8 else own.dtype.newbyteorder("=")
    # torch reads neither negative strides nor foreign byte order, and warns of read-only memory.
    readable = own.dtype == wide and own.dtype.isnative and own.flags.writeable
    if readable and min(own.strides, default=0) >= 0:
        return torch.from_numpy(own)
    return torch.from_numpy(np.array(own, dtype=wide))


def _array(values: Any, name: str) -> np.ndarray:
    """The values as an array, of which none is hidden by a mask."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise TypeError(f"{name} must hold numbers; got hidden ones, in a masked array")
    if hasattr(values, "toarray"):
        values = values.toarray()
    try:
        return np.asarray(values)
    except ValueError:  # lists of unequal lengths
        raise TypeError(f"{name} must hold numbers; got lists of unequal lengths") from None
