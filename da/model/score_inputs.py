"""The inputs of transferability scores: features and labels, checked and made tensors.

Each message names the argument. Everything stays on the device of the input.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from da.arrays.devices import widened
from da.arrays.matrices import as_matrix
from da.arrays.numbers import as_numbers


def labelled_rows(
    features: Tensor | np.ndarray, labels: Tensor | np.ndarray, name: str = "features"
) -> tuple[Tensor, Tensor]:
    """Check features (or probabilities) and their labels.

    Args:
        features: (n, d), floats.
        labels: (n,), integers; two or more classes must occur.
        name: What the first argument is called in messages.

    Returns:
        The rows (n, d) in float32 or float64, and their classes (n,).

    Raises:
        ValueError: Shapes, devices or values do not fit.
        TypeError: The features are not floats, or the labels are not integers.
    """
    x = as_matrix(features, name)
    return x, class_numbers(labels, "labels", x)


def class_numbers(
    labels: Tensor | np.ndarray, name: str, x: Tensor | None = None, *, least: int = 2
) -> Tensor:
    """Number the classes that occur from 0 without gaps.

    Args:
        labels: (n,), integers.
        name: What the labels are called in messages.
        x: A tensor with as many rows and on the same device. Default None: any number of rows.
        least: How many classes must occur.

    Returns:
        Classes (n,), int64.

    Raises:
        ValueError: Too few classes occur; also as for `label_tensor`.
        TypeError: The labels are not integers.
    """
    given = label_tensor(labels, name, x)
    if given.is_floating_point():
        raise TypeError(f"{name} must be integers; got {given.dtype}")
    found, classes = given.long().unique(return_inverse=True)
    if len(found) < least:
        raise ValueError(f"{name} must hold {least} or more classes; got only {found.tolist()}")
    return classes


def label_tensor(labels: Tensor | np.ndarray, name: str, x: Tensor | None) -> Tensor:
    """Make labels a tensor (n,) of numbers, with as many entries as `x` has rows.

    Args:
        labels: (n,), integers or floats.
        name: What the labels are called in messages.
        x: A tensor with as many rows and on the same device. None: any number of rows, n >= 1.

    Returns:
        The labels (n,).

    Raises:
        ValueError: The shape or the device is another one.
        TypeError: The labels are not numbers, or neither a tensor nor an array.
    """
    if not isinstance(labels, Tensor | np.ndarray):
        raise TypeError(
            f"{name} must be a torch tensor or a NumPy array; got {type(labels).__name__}"
        )
    own = labels if isinstance(labels, Tensor) else _from_numpy(labels, name)
    if own.dtype.is_complex:
        raise TypeError(f"{name} must be numbers; got {own.dtype}")
    reference = own if x is None else x
    rows, device = reference.shape[:1], reference.device
    if own.ndim != 1 or len(own) == 0 or own.shape != rows or own.device != device:
        wanted = "(n,), n >= 1" if x is None else f"({len(x)},)"
        raise ValueError(
            f"{name} must have one entry a sample, shape {wanted}, on {device}; "
            f"got {tuple(own.shape)} on {own.device}"
        )
    return own


def _from_numpy(labels: np.ndarray, name: str) -> Tensor:
    """An array of numbers as a tensor."""
    if labels.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers; got {labels.dtype}")
    return as_numbers(labels, name)


def indicator(classes: Tensor) -> Tensor:
    """(n, K) float64: 1 if a row is of the class, else 0."""
    return widened(torch.nn.functional.one_hot(classes))


def principal_components(x: Tensor, *, centred: bool = False) -> tuple[Tensor, Tensor]:
    """The singular vectors and values of a matrix, without those that rounding can have made.

    A singular value counts if it is larger than the rounding of x in its own precision and that
    of the decomposition.

    Args:
        x: (n, d).
        centred: Whether the mean row is subtracted first. Default False.

    Returns:
        Left singular vectors (n, r) and singular values (r,), float64, with r the rank.
    """
    z = widened(x)
    size = torch.linalg.matrix_norm(z)
    u, s, _ = torch.linalg.svd(z - z.mean(0) if centred else z, full_matrices=False)
    kept = s > size * max(torch.finfo(x.dtype).eps, max(x.shape) * torch.finfo(z.dtype).eps)
    return u[:, kept], s[kept]
