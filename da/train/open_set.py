"""Metrics of a classifier that may answer "unknown": OS*, UNK, HOS and the H-score."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import widened


class OpenSetMetrics(NamedTuple):
    """The three figures of an open-set classifier, as `open_set_metrics` gives them.

    Attributes:
        os_star: OS*, the mean over the known classes of the share of samples that are found;
            in [0, 1].
        unknown: UNK, the share of unknown samples that are called unknown; in [0, 1].
        hos: HOS, the harmonic mean of the two; 0 if both are 0.

    Example:
        >>> from da.train import OpenSetMetrics
        >>> OpenSetMetrics(os_star=1.0, unknown=0.5, hos=2 / 3).unknown
        0.5
    """

    os_star: float
    unknown: float
    hos: float


@checked
def open_set_metrics(logits: Tensor, labels: Tensor, *, known: int) -> OpenSetMetrics:
    """Measure a classifier that may answer "unknown".

    Use it if the target has classes that the source lacks. A single accuracy would reward a
    classifier that never says "unknown", or that always does; HOS rewards neither.

        HOS = 2 OS* UNK / (OS* + UNK)

    Args:
        logits: Scores (n, known + 1), the last column for unknown; the largest is the prediction.
        labels: Integers (n,) >= 0; every label >= `known` means unknown.
        known: Number of known classes, >= 1.

    Returns:
        OS*, UNK and HOS. OS* is the mean over those known classes that occur in `labels`.

    Raises:
        ValueError: The shapes do not fit, `known` < 1, a label is negative, or the labels have no
            known or no unknown sample.

    Example:
        >>> import torch
        >>> from da.train import open_set_metrics
        >>> logits = torch.eye(3)[[0, 1, 2, 0]]  # predictions: class 0, class 1, unknown, class 0
        >>> found = open_set_metrics(logits, torch.tensor([0, 1, 2, 3]), known=2)
        >>> found.os_star, found.unknown, round(found.hos, 3)
        (1.0, 0.5, 0.667)

    Paper:
        Bucci, Loghmani, Tommasi: On the Effectiveness of Image Rotation for Open Set Domain
        Adaptation. ECCV 2020.

    Differences:
        None known.
    """
    fits = logits.ndim == 2 and logits.shape[1] == known + 1 and labels.shape == logits.shape[:1]
    if known < 1 or not fits:
        raise ValueError(
            f"logits must be (n, known + 1) = (n, {known + 1}) with known >= 1, and labels (n,); "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    is_known = labels < known  # (n,)
    if not len(labels) or labels.min() < 0 or not is_known.any() or is_known.all():
        raise ValueError(
            f"labels must be >= 0 and hold both known (< {known}) and unknown (>= {known}) "
            f"samples; got {labels.unique().tolist()}"
        )
    found = logits.argmax(1) == labels.clamp(max=known)  # (n,)
    rates = [widened(found[labels == c]).mean().item() for c in labels[is_known].unique()]
    os_star = sum(rates) / len(rates)
    unknown = widened(found[~is_known]).mean().item()
    total = os_star + unknown
    return OpenSetMetrics(os_star, unknown, 2 * os_star * unknown / total if total else 0.0)


@checked
def universal_h_score(logits: Tensor, labels: Tensor, *, known: int) -> float:
    """Measure a classifier that may answer "unknown", with every known sample counted the same.

    It is the figure of universal adaptation. HOS takes the mean over known classes, so the two
    differ if known classes are of unequal size.

        H = 2 a u / (a + u),    a = accuracy on known samples,    u = UNK

    Args:
        logits: Scores (n, known + 1), the last column for unknown; the largest is the prediction.
        labels: Integers (n,) >= 0; every label >= `known` means unknown.
        known: Number of known classes, >= 1.

    Returns:
        H in [0, 1]; 0 if a and u are 0.

    Raises:
        ValueError: As `open_set_metrics`.

    Example:
        >>> import torch
        >>> from da.train import universal_h_score
        >>> logits = torch.eye(3)[[0, 1, 1, 2]]  # predictions: 0, 1, 1, unknown
        >>> round(universal_h_score(logits, torch.tensor([0, 0, 1, 2]), known=2), 3)  # a = 2/3
        0.8

    Paper:
        Fu, Cao, Long, Wang: Learning to Detect Open Classes for Universal Domain Adaptation.
        ECCV 2020.

    Differences:
        None known.
    """
    unknown = open_set_metrics(logits, labels, known=known).unknown
    is_known = labels < known  # (n,)
    found = widened(logits.argmax(1) == labels)[is_known].mean().item()
    return 2 * found * unknown / (found + unknown) if found + unknown else 0.0
