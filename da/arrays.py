"""Torch tensors or NumPy arrays in, the same kind out; and the checks that every two-sample function makes.

    x, y = check_two_samples(source, target)                # tensors, float32 or float64, finite, of equal width
    ...
    return like(value, source)                              # a tensor for a tensor, an array for an array

A scalar made from arrays is a 0-dimensional array. Nothing is moved between devices.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor


class NonFiniteError(ValueError):
    """A value is NaN or infinite where only finite ones make sense. The message says which."""


Array = TypeVar("Array", Tensor, np.ndarray)


def as_matrix(x: Tensor | np.ndarray, name: str) -> Tensor:
    """`x` as a tensor (n, d) with n, d >= 1, finite, in float32 or float64 (half precisions are raised to float32); gradients pass.

    A NumPy array shares its memory with the tensor where it can. Integers are refused, not converted: an integer matrix
    among features is most often labels or raw images passed by mistake.

    Raises TypeError when `x` is neither tensor nor array or does not hold floats, ValueError on its shape or values; both name `name`.
    """
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(f"{name} must be a torch tensor or a NumPy array; got {type(x).__name__}")
    tensor = x if isinstance(x, Tensor) else _from_numpy(x, name)
    if not tensor.is_floating_point():
        raise TypeError(
            f"{name} must hold floats; got {tensor.dtype}: convert it first, with {name}.float() or {name}.astype('float32')"
        )
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ValueError(
            f"{name} must have shape (n, d) with at least one row and one column; got {tuple(tensor.shape)}: flatten each sample to a row"
        )
    tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
    # A sum is finite only if every value is, short of overflow, which the second look excludes; so the good case costs one reduction.
    if not bool(tensor.detach().sum().isfinite()) and not bool(tensor.isfinite().all()):
        row = int((~tensor.isfinite().all(dim=1)).nonzero()[0])
        raise NonFiniteError(
            f"{name} must be finite; row {row} holds NaN or infinity: look at what produced it, it is not dropped here"
        )
    return tensor


def check_two_samples(
    source: Tensor | np.ndarray,
    target: Tensor | np.ndarray,
    *,
    names: tuple[str, str] = ("source", "target"),
    least: int = 1,
) -> tuple[Tensor, Tensor]:
    """Both samples as tensors (n, d) and (m, d) of one precision (the wider of the two); one object given twice stays one object.

    least: the fewest rows that each sample must have. Raises as `as_matrix`, and when kinds, widths or devices differ.
    """
    first = as_matrix(source, names[0])
    second = first if target is source else as_matrix(target, names[1])
    if isinstance(source, Tensor) != isinstance(target, Tensor):
        raise TypeError(
            f"{names[0]} and {names[1]} must be of one kind; got {type(source).__name__} and {type(target).__name__}"
        )
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{names[0]} and {names[1]} must have equal widths d; got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if first.device != second.device:
        raise ValueError(
            f"{names[0]} and {names[1]} must be on one device; got {first.device} and {second.device}"
        )
    for name, x in zip(names, (first, second), strict=True):
        if len(x) < least:
            raise ValueError(f"{name} must have at least {least} rows; got {len(x)}")
    dtype = torch.promote_types(first.dtype, second.dtype)
    if second is first:
        return first, first
    return first.to(dtype), second.to(dtype)


def like(value: Tensor, reference: Array) -> Array:
    """`value` as the kind of `reference`: the tensor itself, or a NumPy array (0-dimensional for a scalar), without its gradient."""
    if isinstance(reference, Tensor):
        return value
    return value.detach().cpu().numpy()


def full_precision(x: Tensor) -> torch.autocast:
    """A context in which autocast is off for the device of `x`: under it even exp and matmul would run in half precision."""
    return torch.autocast(device_type=x.device.type, enabled=False)


def _from_numpy(x: np.ndarray, name: str) -> Tensor:
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold floats; got {x.dtype}")
    # torch reads neither negative strides nor foreign byte order, and warns of read-only memory (a memory map): those are copied.
    readable = x.dtype.isnative and x.flags.writeable and min(x.strides, default=0) >= 0
    return torch.from_numpy(x if readable else x.astype(x.dtype.newbyteorder("="), order="C"))


def at_least_single(x: Tensor) -> Tensor:
    """`x` in float32, or as it is in float64: for losses and weights under autocast."""
    return x if x.dtype == torch.float64 else x.float()
