"""What users have, turned into what a domain holds: samples that give rows, labels as one tensor.

samples   tensors, arrays and memory maps as they are; a DataFrame, a list or anything with
          __array__ becomes an array; a map-style Dataset is read row by row
labels    whole numbers of any width become int64 and are classes; floats stay and are numbers
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.utils.data import Dataset

from da.data.datasets import DatasetSamples

Samples: TypeAlias = Tensor | np.ndarray | sparse.csr_matrix | DatasetSamples


def as_samples(x: Any) -> Samples:
    """Turn a user's samples into something whose rows can be taken.

    Args:
        x: A tensor, an array, a memory map, a SciPy matrix in CSR format, a map-style Dataset, or
            anything that `numpy.asarray` makes an array of numbers of, such as a DataFrame.

    Returns:
        `x` itself if it is of one of the first four kinds.

    Raises:
        TypeError: A sparse matrix is in another format, a Dataset has no rows by number, or the
            values are no numbers; the message names columns that hold text.
    """
    if isinstance(x, Tensor | DatasetSamples):
        return x
    if sparse.issparse(x):
        if x.format != "csr":
            raise TypeError(
                "x: a sparse matrix must be in CSR format, which gives rows quickly; "
                f"got {x.format}: pass x.tocsr()"
            )
        return x
    if isinstance(x, Dataset):
        return DatasetSamples(x)
    array = _array(x)
    if array.dtype == object:
        array = _numbers_of_objects(array, getattr(x, "columns", None))
    if array.dtype.kind not in "biuf":
        raise TypeError(f"x must hold numbers; got {array.dtype}{_example(array)}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_labels(y: Any) -> Tensor:
    """Turn a user's labels into a tensor: int64 for classes, floats for a regression.

    Args:
        y: A tensor, an array, a Series, a DataFrame or a list of numbers.

    Returns:
        int64 for integers and booleans of any width; float32 for half precision; other floats as
        they are.

    Raises:
        TypeError: The labels are text or no numbers.
    """
    if not isinstance(y, Tensor):
        array = _array(y)
        if array.dtype == object and not _holds_text(array):
            array = _as_floats(array, "y")
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"y must hold numbers; got {array.dtype}{_example(array)}: number the classes of "
                "all domains with one list, classes = numpy.unique(names); "
                "y = numpy.searchsorted(classes, names)"
            )
        kind = np.int64 if array.dtype.kind in "biu" else array.dtype.newbyteorder("=")
        y = torch.from_numpy(np.array(array, dtype=kind))
    if y.is_complex():
        raise TypeError(f"y must hold classes or real numbers; got {y.dtype}")
    if not y.is_floating_point():
        return y.long()
    return y.float() if y.dtype in (torch.float16, torch.bfloat16) else y


def _array(value: Any) -> np.ndarray:
    """An array of a DataFrame, a Series, a list or whatever has __array__."""
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)


def _numbers_of_objects(array: np.ndarray, columns: Any) -> np.ndarray:
    """Numbers of a table whose columns have several types, for example booleans and floats."""
    if array.ndim == 2:
        names = range(array.shape[1]) if columns is None else columns
        pairs = zip(names, array.T, strict=True)
        text = [repr(name) for name, column in pairs if _holds_text(column)]
        if text:
            raise TypeError(
                f"x must hold numbers; the columns {', '.join(text[:8])} hold text: leave them "
                "out, or turn them into numbers"
            )
    return _as_floats(array, "x")


def _as_floats(array: np.ndarray, name: str) -> np.ndarray:
    """Objects as float64."""
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold numbers; {error}") from error


def _holds_text(values: np.ndarray) -> bool:
    return any(isinstance(value, str) for value in values.flat)


def _example(array: np.ndarray) -> str:
    """The first value, for an error."""
    return f", such as {array.flat[0]!r}" if array.size else ""
