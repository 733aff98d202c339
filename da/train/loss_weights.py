"""Weights in a loss: of its terms, of single rows and of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.numbers import as_numbers

ClassWeights = Tensor | np.ndarray | Sequence[float]


def check_factor(name: str, value: float) -> None:
    """Raise a ValueError unless a weight in a sum of losses is a finite number >= 0."""
    if not 0 <= value < math.inf:
        raise ValueError(
            f"{name} must be a finite number >= 0; got {value}: a loss with a negative weight is "
            "driven up, not down"
        )


@checked
def balanced_class_weights(labels: Tensor | np.ndarray, classes: int | None = None) -> Tensor:
    """Weigh classes so that all count the same in a loss, however rare they are.

    Pass the result as `class_weights` to `da.train.Align` or `da.train.Regularize`. They are the
    weights "balanced" of scikit-learn. Their mean over the rows is 1, so the loss keeps its scale.

        w_c = n / (K n_c)        n rows, n_c of class c, K classes with at least one row

    The other way is to draw rare classes more often: `da.data.PairedBatches(..., balanced=True)`.
    It serves every method. Do not do both.

    Args:
        labels: The class of each row of the source, whole numbers (n,) from 0.
        classes: How many outputs the head has. Default None: the largest label + 1.

    Returns:
        Weights (classes,), float32; 0 for a class without a row.

    Raises:
        ValueError: The labels are no whole numbers from 0 to classes - 1, or there are none.

    Example:
        >>> import torch
        >>> from da.train import balanced_class_weights
        >>> balanced_class_weights(torch.tensor([0, 0, 0, 1])).tolist()  # 4 / (2 * 3), 4 / (2 * 1)
        [0.6666666865348816, 2.0]
    """
    y = as_numbers(labels, "labels")
    if y.ndim != 1 or y.is_floating_point() or len(y) == 0 or int(y.min()) < 0:
        raise ValueError(
            f"labels must be one or more whole numbers (n,) from 0; got {tuple(y.shape)} {y.dtype}"
        )
    if classes is not None and int(y.max()) >= classes:
        raise ValueError(f"labels must be 0 to {classes - 1}; got {int(y.max())}")
    counts = y.long().bincount(minlength=classes or 0).double()
    present = counts > 0
    weights = len(y) / (present.sum() * counts.clamp(min=1))
    return weights.where(present, 0).float()


def checked_class_weights(weights: ClassWeights | None) -> Tensor | None:
    """Class weights (classes,) as a tensor in single precision; None stays None.

    Raises:
        ValueError: They are not (classes,), finite, >= 0 and not all zero.
    """
    if weights is None:
        return None
    own = as_numbers(weights, "class_weights").detach().float()
    fits = own.ndim == 1 and bool(own.isfinite().all()) and not bool((own < 0).any())
    if not fits or not float(own.sum()) > 0:
        raise ValueError(
            "class_weights must be (classes,), one for each output, finite, >= 0 and not all zero; "
            f"got shape {tuple(own.shape)}: {own.flatten()[:5].tolist()}"
        )
    return own


def weighted_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Compute the mean over the rows of weight times cross-entropy.

        1 / b sum_i w_i v[y_i] CE_i        w weights of rows, v weights of classes

    torch's weighted mean divides by the weights of the batch instead. Then two halves of a batch do
    not average to the whole, and a batch of rare classes counts no more than another.

    Args:
        logits: (b, classes).
        labels: Classes (b,).
        weights: w, (b,), of mean 1 over the domain if the loss is to keep its scale. Default None:
            all 1.
        class_weights: v, (classes,), likewise. Default None: all 1.
        label_smoothing: Probability mass spread evenly over the classes; it does not change the
            weight of a row. Default 0.

    Returns:
        A scalar.
    """
    if weights is None and class_weights is None:
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    losses = functional.cross_entropy(
        logits, labels, reduction="none", label_smoothing=label_smoothing
    )  # (b,)
    if class_weights is not None:
        losses = class_weights[labels] * losses
    return (losses if weights is None else weights * losses).mean()
