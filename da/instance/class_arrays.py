"""Checks of class labels, class probabilities and class weights in label-shift functions.

Use these in a new label-shift method: they turn tensors or arrays into tensors on the CPU, or raise
an error that names the argument.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.matrices import Array, as_matrix
from da.arrays.numbers import as_numbers

TINY = 1e-30  # the least value that a probability or a weight has under a logarithm


def probabilities_of(x: Tensor | np.ndarray, name: str, k: int | None) -> Tensor:
    """Check rows of probabilities and divide each by its sum.

    Args:
        x: Probabilities (n, k), or, if `k` is given, also predicted classes (n,): they become rows
            of 0 and 1.
        name: What error messages call the argument.
        k: The number of classes, or None if it is not known.

    Returns:
        Probabilities (n, k) in float64 on the CPU.

    Raises:
        ValueError: The shape is wrong, a value is not finite, or a row is no distribution.
        TypeError: `x` is neither a float matrix nor a vector of integers.
    """
    if x.ndim == 1 and k is not None:
        return functional.one_hot(integers_of(x, name), k).double()
    p = as_matrix(x, name).detach().cpu().double()
    if k is not None and p.shape[1] != k:
        raise ValueError(f"{name} must have {k} columns, one a class; got shape {tuple(p.shape)}")
    off = (p.min(1).values < 0) | ((p.sum(1) - 1).abs() > 1e-3)
    if bool(off.any()):
        row = int(off.nonzero()[0])
        raise ValueError(
            f"{name} must hold probabilities, rows >= 0 that sum to 1; "
            f"got {p[row, :5].tolist()} in row {row}: softmax logits"
        )
    return p / p.sum(1, keepdim=True)


def integers_of(x: Tensor | np.ndarray, name: str) -> Tensor:
    """Check classes (n,), integers from 0, and return them as int64 on the CPU.

    Raises:
        TypeError: The values are no integers.
        ValueError: The shape is not (n,) with n >= 1, or a class is negative.
    """
    values = as_numbers(x, name).detach().cpu()
    if values.is_floating_point() or values.dtype == torch.bool:
        raise TypeError(f"{name} must hold classes as integers from 0; got {values.dtype}")
    values = values.long()
    if values.ndim != 1 or len(values) == 0 or int(values.min()) < 0:
        raise ValueError(
            f"{name} must be (n,), n >= 1, with classes from 0; "
            f"got shape {tuple(values.shape)}: {values.flatten()[:5].tolist()}"
        )
    return values


def class_count(labels: Tensor, *predictions: Tensor | np.ndarray) -> int:
    """The number of classes: the columns of the probabilities, else the largest class plus 1."""
    columns = [p.shape[1] for p in predictions if p.ndim == 2]
    if columns:
        return columns[0]
    return 1 + max(int(integers_of(x, "predictions").max()) for x in (labels, *predictions))


def frequencies(labels: Tensor, k: int, rows: int, name: str) -> Tensor:
    """The share (k,) of each class among labels.

    Args:
        labels: Classes, int64, on the CPU.
        k: The number of classes.
        rows: How many labels there must be.
        name: What error messages call the argument.

    Returns:
        The shares in float64, all > 0.

    Raises:
        ValueError: The number of labels is wrong, or a class is missing or above k - 1.
    """
    if len(labels) != rows:
        raise ValueError(f"{name} must hold one class a row, {rows}; got {len(labels)}")
    counts = torch.bincount(labels, minlength=k)
    if len(counts) > k or bool((counts == 0).any()):
        missing = (counts[:k] == 0).nonzero().flatten().tolist()
        detail = f"none of class {missing[0]}" if missing else f"class {len(counts) - 1}"
        raise ValueError(
            f"{name} must hold each of the classes 0 to {k - 1} and no other; got {detail}"
        )
    return counts.double() / len(labels)


def class_weights_of(class_weights: Tensor | np.ndarray) -> Tensor:
    """Check class weights (k,), finite, >= 0, not all 0, and return them in float64 on the CPU."""
    weights = as_numbers(class_weights, "class_weights").detach().cpu().double()
    usable = weights.ndim == 1 and bool((weights.isfinite() & (weights >= 0)).all())
    if not usable or not bool(weights.sum() > 0):
        raise ValueError(
            "class_weights must be (k,), finite, >= 0 and not all 0; "
            f"got {weights.flatten()[:5].tolist()}"
        )
    return weights


def as_given(values: Tensor, reference: Array) -> Array:
    """`values` in the kind, precision and device of `reference`."""
    if isinstance(reference, Tensor):
        return values.to(reference.device, reference.dtype)
    return values.numpy().astype(reference.dtype)
