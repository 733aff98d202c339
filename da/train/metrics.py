"""Metrics: how good predictions are, measured with labels.

Use them on the logits of `da.train.predict`. All of them are plain functions of tensors.

    classification   logits (n, classes) and integer labels (n,)
    regression       predictions (n,) and labels (n,)

Metrics of a classifier that may answer "unknown" are in `open_set.py`.
"""

from __future__ import annotations

from torch import Tensor

from da.arrays.arguments import checked, checked_arguments
from da.arrays.devices import capable, widened


@checked
def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Count how often the largest logit is at the right class.

    It is the usual metric of classification. Use `balanced_accuracy` if rare classes should count
    as much as frequent ones.

    Args:
        logits: Scores (n, classes); the largest of a row is the prediction.
        labels: Integer classes (n,), from 0.

    Returns:
        The fraction of correct predictions, in [0, 1].

    Raises:
        ValueError: The labels are floats, or the shapes are not (n, classes) and (n,).

    Example:
        >>> import torch
        >>> from da.train import accuracy
        >>> logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])  # predictions 0, 1, 0
        >>> round(accuracy(logits, torch.tensor([0, 1, 1])), 3)
        0.667
    """
    _check_shapes(logits, labels)
    return widened(logits.argmax(1) == _classes(labels)).mean().item()


@checked
def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Count which class is taken for which.

    It shows where a classifier errs. `per_class_recall`, `balanced_accuracy` and `macro_f1` are
    functions of it.

    Args:
        logits: Scores (n, classes); the largest of a row is the prediction.
        labels: Integer classes (n,), from 0 to classes - 1.

    Returns:
        Counts (classes, classes), int64. Entry (i, j) is the number of samples of class i that
        are predicted as class j.

    Raises:
        ValueError: A label is no integer from 0 to classes - 1.

    Example:
        >>> import torch
        >>> from da.train import confusion_matrix
        >>> logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])  # predictions 0, 1, 0
        >>> confusion_matrix(logits, torch.tensor([0, 1, 1])).tolist()
        [[1, 0], [1, 1]]
    """
    _check_shapes(logits, labels)
    classes = logits.shape[1]
    if len(labels) and not 0 <= int(_classes(labels).min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels must be from 0 to {classes - 1}, because the logits have {classes} classes; "
            f"got {int(labels.min())} to {int(labels.max())}"
        )
    pairs = labels.cpu() * classes + logits.argmax(1).cpu()
    return pairs.bincount(minlength=classes * classes).reshape(classes, classes)


@checked_arguments
def per_class_recall(confusion: Tensor) -> Tensor:
    """Find what share of each class is recognised.

    It shows which classes a classifier neglects.

        C_ii / sum_j C_ij

    Args:
        confusion: Counts (classes, classes) from `confusion_matrix`.

    Returns:
        Recall (classes,), float64, in [0, 1]; NaN for a class without samples.

    Example:
        >>> import torch
        >>> from da.train import per_class_recall
        >>> per_class_recall(torch.tensor([[1, 0], [1, 3]])).tolist()
        [1.0, 0.75]
    """
    counts = capable(_counts(confusion))
    return widened(counts.diagonal()) / counts.sum(1)


@checked
def balanced_accuracy(confusion: Tensor) -> float:
    """Compute the accuracy as if all classes were equally frequent.

    Use it if some classes are rare. It is the mean of `per_class_recall` over the classes that
    have samples.

    Args:
        confusion: Counts (classes, classes) from `confusion_matrix`.

    Returns:
        The mean recall, in [0, 1].

    Example:
        >>> import torch
        >>> from da.train import balanced_accuracy
        >>> balanced_accuracy(torch.tensor([[1, 0], [1, 3]]))  # the mean of 1 and 0.75
        0.875
    """
    return per_class_recall(confusion).nanmean().item()


@checked
def macro_f1(confusion: Tensor) -> float:
    """Average over the classes how well each is found and how rarely it is named by mistake.

    F1 is the harmonic mean of precision and recall. Use it if false alarms of a rare class matter.

        mean over classes i of 2 C_ii / (sum_j C_ij + sum_j C_ji)

    Args:
        confusion: Counts (classes, classes) from `confusion_matrix`.

    Returns:
        The mean F1, in [0, 1]. A class that has samples or is predicted counts; a class with
        neither does not.

    Example:
        >>> import torch
        >>> from da.train import macro_f1
        >>> round(macro_f1(torch.tensor([[1, 0], [1, 3]])), 3)  # the mean of 2/3 and 6/7
        0.762
    """
    either = widened(_counts(confusion).sum(0) + confusion.sum(1))
    return (2 * capable(confusion).diagonal() / either).nanmean().item()


@checked
def mean_squared_error(predictions: Tensor, labels: Tensor) -> float:
    """Average the squared difference of prediction and label.

    It is what a regression head is trained on. Large errors dominate it.

    Args:
        predictions: Numbers (n,), n >= 1.
        labels: Numbers (n,).

    Returns:
        The mean, >= 0, in the labels' unit squared.

    Raises:
        ValueError: The shapes are not both (n,), n >= 1.

    Example:
        >>> import torch
        >>> from da.train import mean_squared_error
        >>> mean_squared_error(torch.tensor([1.0, 5.0]), torch.tensor([1.0, 1.0]))
        8.0
    """
    return _residuals(predictions, labels).square().mean().item()


@checked
def mean_absolute_error(predictions: Tensor, labels: Tensor) -> float:
    """Average the absolute difference of prediction and label.

    It is in the labels' own unit, and single large errors weigh less than in the squared error.

    Args:
        predictions: Numbers (n,), n >= 1.
        labels: Numbers (n,).

    Returns:
        The mean, >= 0, in the labels' unit.

    Raises:
        ValueError: The shapes are not both (n,), n >= 1.

    Example:
        >>> import torch
        >>> from da.train import mean_absolute_error
        >>> mean_absolute_error(torch.tensor([1.0, 5.0]), torch.tensor([1.0, 1.0]))
        2.0
    """
    return _residuals(predictions, labels).abs().mean().item()


@checked
def r_squared(predictions: Tensor, labels: Tensor) -> float:
    """Measure how much of the labels' variance a regression explains.

    It has no unit, so it can be compared between tasks.

        1 - sum (prediction - label)^2 / sum (label - mean label)^2

    Args:
        predictions: Numbers (n,), n >= 1.
        labels: Numbers (n,), not all equal.

    Returns:
        1 for exact predictions, 0 if all predictions are the labels' mean, negative for worse ones.

    Raises:
        ValueError: The shapes are not both (n,), n >= 1, or all labels are equal.

    Example:
        >>> import torch
        >>> from da.train import r_squared
        >>> r_squared(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]))  # 1 - 1 / 2
        0.5
    """
    residuals = _residuals(predictions, labels)
    if bool((labels == labels[0]).all()):
        raise ValueError(
            "labels must not all be equal, because then there is no variance to explain; "
            f"got {len(labels)} times {labels[0].item():g}"
        )
    centred = widened(labels)
    centred = centred - centred.mean()
    return (1 - residuals.square().sum() / centred.square().sum()).item()


def _counts(confusion: Tensor) -> Tensor:
    """A confusion matrix that is one: square, with a class or more, and no negative count."""
    square = confusion.ndim == 2 and confusion.shape[0] == confusion.shape[1] > 0
    if not square or bool((confusion < 0).any()):
        raise ValueError(
            f"confusion must be counts (classes, classes), none negative; got "
            f"{tuple(confusion.shape)}"
        )
    return confusion


def _check_shapes(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or logits.shape[1] == 0 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "logits must be (n, classes) and labels (n,); got "
            f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        )


def _classes(labels: Tensor) -> Tensor:
    """The labels themselves, if they are integers."""
    if labels.is_floating_point():
        raise ValueError(
            f"labels must be integer classes; got {labels.dtype}: "
            "for a regression pass Evaluation(..., task='regression')"
        )
    return labels


def _residuals(predictions: Tensor, labels: Tensor) -> Tensor:
    """Differences (n,) in float64, of checked shapes: (n, 1) - (n,) would become (n, n)."""
    if predictions.ndim != 1 or predictions.shape != labels.shape or len(labels) == 0:
        raise ValueError(
            "predictions and labels must both be (n,), n >= 1; got "
            f"{tuple(predictions.shape)} and {tuple(labels.shape)}: "
            "for a head with one output pass logits.squeeze(1)"
        )
    return widened(predictions) - widened(labels)
