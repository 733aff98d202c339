"""Estimated accuracy from the confidences of a classifier: the largest probability of each row.

They hold if confidences mean on the target what they mean on the source. An adapted network is
often too sure of its target predictions, and then all of them are too high.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.choices import check_choice
from da.arrays.matrices import Array
from da.select.accuracy import (
    AccuracyEstimate,
    bootstrap_variance,
    check_level,
    checked_logits,
    checked_source,
    doubts_about,
    estimate_of,
    variance_of_mean,
)

Score = Literal["confidence", "negative_entropy"]


@checked
def average_confidence(target_logits: Array, *, level: float = 0.9) -> AccuracyEstimate:
    """Estimate target accuracy by the mean confidence on the target.

    It is exact for a classifier that is calibrated on the target. Networks are rarely so: they are
    too sure. It needs no source data.

        mean_i max_k p_k(x_i)        p the softmax of the logits

    Args:
        target_logits: Logits (n, classes) of target rows.
        level: The level of the interval, in (0, 1). Default 0.9.

    Returns:
        The estimate. Its interval is that of sampling error alone.

    Raises:
        TypeError: The logits are not floats.
        ValueError: The shape is wrong, a logit is not finite, or `level` is out of range.

    Example:
        >>> import torch
        >>> from da.select import average_confidence
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.3, 0.7]]).repeat(50, 1)
        >>> print(average_confidence(probabilities.log()))
        80.0 % [77.7, 82.3]

    Paper:
        Hendrycks, Gimpel: A Baseline for Detecting Misclassified and Out-of-Distribution Examples
        in Neural Networks. ICLR 2017 (the confidence).
        Guillory, Shankar, Ebrahimi, Darrell, Schmidt: Predicting with Confidence on Unseen
        Distributions. ICCV 2021 (its mean as an estimate).

    Differences:
        The interval is added here.
    """
    target = checked_logits(target_logits, "target_logits")
    sure = confidence(target)
    variance = variance_of_mean(sure)
    return estimate_of(float(sure.mean()), variance, level, doubts_about(target))


@checked
def difference_of_confidences(
    source_logits: Array, source_labels: Array, target_logits: Array, *, level: float = 0.9
) -> AccuracyEstimate:
    """Estimate target accuracy by source accuracy less the loss of confidence (DoC).

    It corrects `average_confidence` by the classifier's overconfidence on held-out source rows. It
    holds if the classifier is as overconfident on the target as on the source.

        accuracy_source - (mean confidence_source - mean confidence_target)

    Args:
        source_logits: Logits (v, classes) of source rows that were not trained on.
        source_labels: Their classes (v,), integers from 0.
        target_logits: Logits (n, classes) of target rows.
        level: The level of the interval, in (0, 1). Default 0.9.

    Returns:
        The estimate, cut to [0, 1]. Its interval is that of sampling error alone.

    Raises:
        TypeError: Logits are not floats or labels not integers.
        ValueError: Shapes do not fit, a logit is not finite, a label is no class, or `level` is
            out of range.

    Example:
        On the source the confidence is 0.9 and the accuracy 1, so 0.1 is added:

        >>> import torch
        >>> from da.select import difference_of_confidences
        >>> source = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).repeat(50, 1).log()
        >>> target = torch.tensor([[0.8, 0.2], [0.2, 0.8]]).repeat(50, 1).log()
        >>> print(difference_of_confidences(source, torch.tensor([0, 1]).repeat(50), target))
        90.0 % [87.7, 92.3]

    Paper:
        Guillory, Shankar, Ebrahimi, Darrell, Schmidt: Predicting with Confidence on Unseen
        Distributions. ICCV 2021.

    Differences:
        The paper also fits a regression from the difference to the loss of accuracy, on many
        domains with labels. Here the factor is 1, the paper's version without such domains. The
        interval is added here.
    """
    target = checked_logits(target_logits, "target_logits")
    source = checked_source(source_logits, source_labels, target.shape[1])
    sure = confidence(target)
    gaps = source.correct - confidence(source.logits)  # (v,)
    accuracy = float(sure.mean() + gaps.mean())
    variance = variance_of_mean(sure) + variance_of_mean(gaps)
    return estimate_of(accuracy, variance, level, doubts_about(target, source))


@checked
def average_thresholded_confidence(
    source_logits: Array,
    source_labels: Array,
    target_logits: Array,
    *,
    score: Score = "negative_entropy",
    level: float = 0.9,
) -> AccuracyEstimate:
    """Estimate target accuracy by the share of target rows above a threshold of confidence (ATC).

    On held-out source rows, as many rows are below the threshold as are predicted wrongly.

        t such that  #{source rows with s(x) < t} = #{source rows predicted wrongly}
        mean over target rows of  1 if s(x) >= t, otherwise 0

    Args:
        source_logits: Logits (v, classes) of source rows that were not trained on.
        source_labels: Their classes (v,), integers from 0.
        target_logits: Logits (n, classes) of target rows.
        score: s. "negative_entropy" (default) is sum_k p_k log p_k; "confidence" is max_k p_k.
        level: The level of the interval, in (0, 1). Default 0.9.

    Returns:
        The estimate. Its interval is that of sampling error alone, by a bootstrap of source and
        target rows. It is not reliable if no source row is predicted wrongly, or all are: then the
        threshold is arbitrary.

    Raises:
        TypeError: Logits are not floats or labels not integers.
        ValueError: Shapes do not fit, a logit is not finite, a label is no class, or an option is
            out of range.

    Example:
        One source row of four is wrong, and it is the least certain one. So t is the second
        least certain row, and half of the target rows are as certain:

        >>> import torch
        >>> from da.select import average_thresholded_confidence
        >>> source = torch.tensor([[3.0, 0.0], [2.0, 0.0], [4.0, 0.0], [1.0, 0.0]]).repeat(25, 1)
        >>> labels = torch.tensor([0, 0, 0, 1]).repeat(25)
        >>> target = torch.tensor([[5.0, 0.0], [0.0, 1.0]]).repeat(50, 1)
        >>> average_thresholded_confidence(source, labels, target).accuracy
        0.5

    Paper:
        Garg, Balakrishnan, Lipton, Neyshabur, Sedghi: Leveraging Unlabeled Data to Predict
        Out-of-Distribution Performance. ICLR 2022.

    Differences:
        The published code takes the next lower source score as threshold, so on the source itself
        it says one row too many. The paper calibrates the classifier on the source first; that
        matters for three or more classes, and logits / T may be passed. The interval is added here.
    """
    check_choice("score", score, Score)
    check_level(level)
    target = checked_logits(target_logits, "target_logits")
    source = checked_source(source_logits, source_labels, target.shape[1])
    doubts = doubts_about(target, source)
    if source.accuracy in (0.0, 1.0):
        right = "no" if source.accuracy == 0 else "every"
        doubts.append(
            f"{right} source row is predicted correctly, so no threshold is the right one"
        )
    scores = confidence if score == "confidence" else _negative_entropy
    of_source, of_target = scores(source.logits), scores(target)

    def statistic(rows: Tensor, target_rows: Tensor) -> float:
        return _above_threshold(of_source[rows], source.correct[rows], of_target[target_rows])

    accuracy = _above_threshold(of_source, source.correct, of_target)
    variance = bootstrap_variance(statistic, len(of_source), len(of_target))
    return estimate_of(accuracy, variance, level, doubts)


def confidence(logits: Tensor) -> Tensor:
    """The largest probability of each row of logits (n, classes): (n,)."""
    return logits.softmax(1).amax(1)


def _negative_entropy(logits: Tensor) -> Tensor:
    """sum_k p_k log p_k of each row, (n,)."""
    return -torch.special.entr(logits.softmax(1)).sum(1)


def _above_threshold(of_source: Tensor, correct: Tensor, of_target: Tensor) -> float:
    """The share of target scores (n,) that reach the threshold of source scores (v,)."""
    wrong = int((1 - correct).sum())
    if wrong == len(of_source):
        return 0.0
    threshold = of_source.sort().values[wrong]
    return float((of_target >= threshold).double().mean())
