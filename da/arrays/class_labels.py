"""The classes of rows beside their logits, checked: what losses of labelled rows begin with."""

from __future__ import annotations

import torch
from torch import Tensor

from da.arrays.matrices import as_matrix
from da.arrays.stacking import stacking


def labelled_logits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Check logits and the classes of their rows.

    Args:
        logits: Rows (n, K), floats.
        labels: Classes (n,), whole numbers from 0 to K - 1.

    Returns:
        Logits (n, K) in float32 or float64, and classes (n,) in int64.

    Raises:
        ValueError: The shapes do not fit, or a class is out of range.
        TypeError: The logits are no floats.
    """
    z = as_matrix(logits, "logits")
    return z, class_indices(labels, len(z), z.shape[1])


def class_indices(labels: Tensor, rows: int, classes: int, *, name: str = "labels") -> Tensor:
    """Check that labels are `rows` whole numbers from 0 to classes - 1, and make them int64.

    Args:
        labels: Whole numbers (n,).
        rows: n, as many as there are rows.
        classes: The first number that is too large.
        name: What an error calls them.

    Returns:
        The numbers (n,) in int64.

    Raises:
        ValueError: The shape or the type is another one, or a number is out of range.
    """
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.shape != (rows,):
        raise ValueError(
            f"{name} must be whole numbers, ({rows},), one for each row; got {labels.dtype}, "
            f"{tuple(labels.shape)}"
        )
    own = labels.long()
    if not stacking() and rows and not 0 <= int(own.min()) <= int(own.max()) < classes:
        raise ValueError(
            f"{name} must be from 0 to {classes - 1}; got {int(own.min())} to {int(own.max())}"
        )
    return own
