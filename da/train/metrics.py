"""Figures of merit: predictions and labels -> a number, or a table of counts.

Classification takes logits (n, classes) and integer labels (n,); regression takes predictions and labels (n,).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Fraction of rows of logits (n, classes) whose largest entry stands at labels (n,), in [0, 1]. ValueError for float labels."""
    return (logits.argmax(1) == _classes(labels)).double().mean().item()


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Counts (classes, classes) int64: entry (i, j) is the number of samples of class i whose largest logit stands at j.

    logits (n, classes), labels (n,). Raises ValueError for labels that are no integers from 0 to classes - 1.
    """
    classes = logits.shape[1]
    if len(labels) and not 0 <= int(_classes(labels).min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels must be from 0 to {classes - 1}, for logits of {classes} classes; got {int(labels.min())} to {int(labels.max())}"
        )
    pairs = labels.cpu() * classes + logits.argmax(1).cpu()
    return pairs.bincount(minlength=classes * classes).reshape(classes, classes)


def per_class_recall(confusion: Tensor) -> Tensor:
    """Of each class i, the fraction of its samples that are found: C_ii / sum_j C_ij of counts (classes, classes); (classes,) in [0, 1].

    NaN for a class that has no sample.
    """
    return confusion.diagonal().double() / confusion.sum(1)


def balanced_accuracy(confusion: Tensor) -> float:
    """Mean of `per_class_recall` over the classes that have samples, in [0, 1]: the accuracy if all classes were equally frequent."""
    return per_class_recall(confusion).nanmean().item()


def macro_f1(confusion: Tensor) -> float:
    """Mean over classes of F1_i = 2 C_ii / (sum_j C_ij + sum_j C_ji), in [0, 1], of counts (classes, classes).

    F1 is the harmonic mean of precision and recall. A class that has samples, or is named by mistake, counts; one with neither does not.
    """
    either = (confusion.sum(0) + confusion.sum(1)).double()
    return (2 * confusion.diagonal() / either).nanmean().item()


def mean_squared_error(predictions: Tensor, labels: Tensor) -> float:
    """Mean of (prediction - label)^2 over predictions (n,) and labels (n,), in the labels' unit squared. ValueError for other shapes."""
    return _residuals(predictions, labels).square().mean().item()


def mean_absolute_error(predictions: Tensor, labels: Tensor) -> float:
    """Mean of |prediction - label| over predictions (n,) and labels (n,), in the labels' unit. Raises ValueError for other shapes."""
    return _residuals(predictions, labels).abs().mean().item()


def r_squared(predictions: Tensor, labels: Tensor) -> float:
    """1 - sum (prediction - label)^2 / sum (label - mean label)^2 of predictions (n,) and labels (n,), without unit.

    1 for exact predictions, 0 for the labels' mean, negative for worse than that. Raises ValueError for other shapes and labels all equal.
    """
    residuals = _residuals(predictions, labels)
    if bool((labels == labels[0]).all()):
        raise ValueError(
            f"labels must not all be equal, for there is no variance to explain; got {len(labels)} times {labels[0].item():g}"
        )
    centred = labels.double() - labels.double().mean()
    return (1 - residuals.square().sum() / centred.square().sum()).item()


def _classes(labels: Tensor) -> Tensor:
    if labels.is_floating_point():
        raise ValueError(
            f"labels must be integer classes; got {labels.dtype}: for a regression say Evaluation(..., task='regression')"
        )
    return labels


def _residuals(predictions: Tensor, labels: Tensor) -> Tensor:
    if (
        predictions.ndim != 1 or predictions.shape != labels.shape or len(labels) == 0
    ):  # (n, 1) - (n,) would become (n, n)
        raise ValueError(
            f"predictions and labels must both be (n,), n >= 1; got {tuple(predictions.shape)} and {tuple(labels.shape)}: "
            "of a head with one output pass logits.squeeze(1)"
        )
    return predictions.double() - labels.double()


class OpenSetMetrics(NamedTuple):
    """What an open-set prediction is worth; fractions in [0, 1]."""

    os_star: float  # OS*, the mean over known classes of the share of their samples that are found
    unknown: float  # UNK, the share of unknown samples that are called unknown
    hos: float  # HOS, the harmonic mean of the two; 0 if both are 0


def open_set_metrics(logits: Tensor, labels: Tensor, *, known: int) -> OpenSetMetrics:
    """OS*, UNK and HOS of logits (n, known + 1), the last column for unknown, at labels (n,); every label >= known is unknown.

    The largest logit is the prediction. OS* is the mean over those known classes that labels hold.

    Raises ValueError on shapes, known < 1, a negative label, or labels without a known or without an unknown sample.
    """
    if (
        known < 1
        or logits.ndim != 2
        or logits.shape[1] != known + 1
        or labels.shape != logits.shape[:1]
    ):
        wanted = (
            f"logits must be (n, known + 1) = (n, {known + 1}) with known >= 1, and labels (n,)"
        )
        raise ValueError(f"{wanted}; got {tuple(logits.shape)} and {tuple(labels.shape)}")
    if (
        not len(labels)
        or labels.min() < 0
        or not (labels < known).any()
        or not (labels >= known).any()
    ):
        raise ValueError(
            f"labels must be >= 0 and hold both known (< {known}) and unknown (>= {known}) samples; got {labels.unique().tolist()}"
        )
    found = logits.argmax(1) == labels.clamp(max=known)  # (n,)
    rates = [found[labels == c].double().mean().item() for c in labels[labels < known].unique()]
    os_star, unknown = sum(rates) / len(rates), found[labels >= known].double().mean().item()
    return OpenSetMetrics(
        os_star, unknown, 2 * os_star * unknown / (os_star + unknown) if os_star + unknown else 0.0
    )
