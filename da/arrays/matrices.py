"""Torch tensors or NumPy arrays in, the same kind out; and the checks of every two-sample function.

A function on two samples begins and ends with these lines, and works on tensors between them:

    x, y = check_two_samples(source, target)    # finite, of equal width, float32 or float64
    ...
    return like(value, source)                  # a tensor for a tensor, an array for an array

Nothing is moved between devices.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from da.arrays.annotations import all_finite
from da.arrays.devices import without_values
from da.arrays.numbers import as_numbers
from da.arrays.stacking import stacking
from da.arrays.tables import dense_array


class NonFiniteError(ValueError):
    """The error for a value that is NaN or infinite where only finite values make sense.

    Catch it to tell a run that diverged from a mistake in the arguments. The message names the
    argument and its first such row.

    Example:
        >>> import numpy as np
        >>> from da.arrays import NonFiniteError, as_matrix
        >>> try:
        ...     as_matrix(np.array([[1.0], [np.nan]]), "source")
        ... except NonFiniteError as error:
        ...     print(str(error).split(":")[0])
        source must be finite; row 1 holds NaN or infinity
    """


Array = TypeVar("Array", Tensor, np.ndarray)


def as_matrix(x: Tensor | np.ndarray, name: str) -> Tensor:
    """Check one sample and turn it into a tensor; the gradient of a tensor passes.

    Sparse rows become dense, since what is computed of them is dense. Half precision becomes
    float32. An array shares its memory with the tensor if possible. Integers in an array or a
    tensor are refused and not converted: an integer matrix in place of features is most often
    labels or raw images, passed by mistake. The columns of a table and the entries of a sparse
    matrix may be counts.

    Args:
        x: Rows (n, d), finite, with n >= 1 and d >= 1: floats in a tensor or an array, or numbers
            in a pandas DataFrame or a SciPy sparse matrix.
        name: What an error message calls `x`.

    Returns:
        The rows (n, d) in float32 or float64.

    Raises:
        TypeError: `x` is none of these, or it does not hold floats or, in a table, numbers.
        ValueError: The shape is another one.
        NonFiniteError: A value is NaN or infinite.

    Example:
        >>> import numpy as np
        >>> from da.arrays import as_matrix
        >>> as_matrix(np.array([[1.0, 2.0]]), "source")
        tensor([[1., 2.]], dtype=torch.float64)
    """
    if isinstance(x, Tensor):
        tensor = x if x.layout == torch.strided else x.to_dense()
    else:
        tensor = _from_numpy(dense_array(x, name), name)
    if without_values(tensor):
        raise ValueError(f"{name} must hold values; got a tensor on the device meta, without any")
    if not tensor.is_floating_point():
        raise TypeError(
            f"{name} must hold floats; got {tensor.dtype}: convert it first, with {name}.float() "
            f"or {name}.astype('float32')"
        )
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ValueError(
            f"{name} must have shape (n, d) with at least one row and one column; "
            f"got {tuple(tensor.shape)}: flatten each sample to a row"
        )
    tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
    if stacking():
        # Nothing can be read here. A member whose values are not finite must not stop the others in
        # a decomposition that takes finite numbers alone; its own task loss says that it diverged.
        return tensor.nan_to_num()
    if not all_finite(tensor):
        row = int((~tensor.isfinite().all(dim=1)).nonzero()[0])
        raise NonFiniteError(
            f"{name} must be finite; row {row} holds NaN or infinity: rows are not dropped here, "
            f"so look at what produced this one"
        )
    return tensor


def check_two_samples(
    source: Tensor | np.ndarray,
    target: Tensor | np.ndarray,
    *,
    names: tuple[str, str] = ("source", "target"),
    least: int = 1,
) -> tuple[Tensor, Tensor]:
    """Check two samples and turn them into tensors of one precision, the wider of the two.

    It is the first line of every function that compares two samples.

    Args:
        source: Rows (n, d), floats, finite.
        target: Rows (m, d), of the kind of `source`.
        names: What error messages call the two.
        least: The fewest rows that each sample must have, >= 1.

    Returns:
        Both samples, (n, d) and (m, d), in float32 or float64. If one object was given twice, it
        is returned twice.

    Raises:
        TypeError: One is a tensor and the other an array; or as `as_matrix`.
        ValueError: Widths or devices differ, or there are too few rows; or as `as_matrix`.

    Example:
        >>> import numpy as np
        >>> from da.arrays import check_two_samples
        >>> x, y = check_two_samples(np.zeros((3, 2)), np.zeros((5, 2), dtype=np.float32))
        >>> x.shape, y.shape, y.dtype
        (torch.Size([3, 2]), torch.Size([5, 2]), torch.float64)
    """
    first = as_matrix(source, names[0])
    second = first if target is source else as_matrix(target, names[1])
    both = f"{names[0]} and {names[1]}"
    if isinstance(source, Tensor) != isinstance(target, Tensor):
        raise TypeError(
            f"{both} must be of one kind; got {type(source).__name__} and {type(target).__name__}"
        )
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{both} must have equal widths d; got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if first.device != second.device:
        raise ValueError(f"{both} must be on one device; got {first.device} and {second.device}")
    for name, x in zip(names, (first, second), strict=True):
        if len(x) < least:
            raise ValueError(f"{name} must have at least {least} rows; got {len(x)}")
    if second is first:
        return first, first
    dtype = torch.promote_types(first.dtype, second.dtype)
    return first.to(dtype), second.to(dtype)


def like(value: Tensor, reference: Array) -> Array:
    """Return a result as the kind that the caller gave, a tensor or an array.

    Args:
        value: The result.
        reference: The caller's input. Only its kind matters.

    Returns:
        `value` itself if `reference` is a tensor. Otherwise a NumPy array without the gradient; it
        is 0-dimensional if `value` is a scalar.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from da.arrays import like
        >>> like(torch.tensor(3.0), np.zeros(2))
        array(3., dtype=float32)
    """
    if isinstance(reference, Tensor):
        return value
    return value.detach().cpu().numpy()


def full_precision(x: Tensor) -> torch.autocast:
    """Switch autocast off, because under it even exp and matmul run in half precision.

    Args:
        x: A tensor on the device in question.

    Returns:
        A context manager for the device of `x`.

    Example:
        >>> import torch
        >>> from da.arrays import full_precision
        >>> x = torch.ones(2, 2)
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     print((x @ x).dtype)
        ...     with full_precision(x):
        ...         print((x @ x).dtype)
        torch.bfloat16
        torch.float32
    """
    return torch.autocast(device_type=x.device.type, enabled=False)


def at_least_single(x: Tensor) -> Tensor:
    """Raise half precision to float32, for losses and weights that are computed under autocast.

    Args:
        x: A tensor of any shape and precision.

    Returns:
        `x` itself in float64, otherwise `x` in float32.

    Example:
        >>> import torch
        >>> from da.arrays import at_least_single
        >>> at_least_single(torch.ones(2, dtype=torch.bfloat16))
        tensor([1., 1.])
    """
    return x if x.dtype == torch.float64 else x.float()


def _from_numpy(x: np.ndarray, name: str) -> Tensor:
    """An array as a tensor, which shares its memory if torch can read that."""
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold floats; got {x.dtype}")
    if x.dtype.itemsize > 8:  # a long double, of which torch has none
        x = x.astype(np.float64)
    # torch cannot read negative strides or foreign byte order, and warns about read-only memory (a
    # memory map). Such arrays are copied.
    readable = x.dtype.isnative and x.flags.writeable and min(x.strides, default=0) >= 0
    return torch.from_numpy(x if readable else x.astype(x.dtype.newbyteorder("="), order="C"))


def normalised_weights(weights: Array, rows: int, *, name: str = "weights") -> Array:
    """Check sample weights and divide them by their mean, so that a weighted loss keeps its scale.

    Every consumer of sample weights uses this one rule: a loss, a discrepancy, an estimator.

        w_i -> n w_i / sum_j w_j

    Args:
        weights: One weight >= 0 for each row, (n,), finite and not all zero.
        rows: n, the number of rows that the weights are for.
        name: What an error calls them.

    Returns:
        Weights (n,) of mean 1, without gradient, of the kind and precision of `weights`; an
        array of integers becomes float64, a tensor of integers float32.

    Raises:
        ValueError: The weights have another shape, a negative or no finite value, or are all zero.

    Example:
        >>> import numpy as np
        >>> from da.arrays import normalised_weights
        >>> normalised_weights(np.array([1.0, 3.0]), rows=2).tolist()
        [0.5, 1.5]
    """
    w = as_numbers(weights, name).detach()
    if not w.is_floating_point():
        w = w.double() if isinstance(weights, np.ndarray) else w.float()
    fits = w.shape == (rows,) and bool(w.isfinite().all()) and not bool((w < 0).any())
    if not fits or not float(w.sum()) > 0:
        raise ValueError(
            f"{name} must be ({rows},), one for each row, finite, >= 0 and not all zero; "
            f"got shape {tuple(w.shape)}: {w.flatten()[:5].tolist()} ..."
        )
    return like(w / w.mean(), weights)
