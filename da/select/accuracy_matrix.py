"""Estimated accuracy from the matrix of target predictions as a whole.

A confident classifier that never answers some class is not right. The nuclear norm and the optimal
transport to the source's class frequencies see that; the mean confidence does not.
"""

from __future__ import annotations

import math

import ot
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array
from da.select.accuracy import (
    AccuracyEstimate,
    bootstrap_variance,
    check_level,
    checked_labels,
    checked_logits,
    checked_source,
    doubts_about,
    estimate_of,
    variance_of_mean,
)


@checked
def nuclear_norm_accuracy(
    source_logits: Array, source_labels: Array, target_logits: Array, *, level: float = 0.9
) -> AccuracyEstimate:
    """Estimate target accuracy from the nuclear norm of the target's predictions.

    The norm is large if predictions are certain and spread over all classes. Divided by its
    largest value it is N, from 1 / classes for equal probabilities to 1. A straight line turns N
    into accuracy. It goes through two known points: held-out source rows, and guessing.

        N(P) = ||P||_* / sqrt(n min(n, classes))                 P the softmax (n, classes)
        c + (accuracy_source - c) (N(P_target) - c) / (N(P_source) - c)         c = 1 / classes

    It is too low if the target's classes have very unequal frequencies.

    Args:
        source_logits: Logits (v, classes) of source rows that were not trained on.
        source_labels: Their classes (v,), integers from 0.
        target_logits: Logits (n, classes) of target rows.
        level: The level of the interval, in (0, 1). Default 0.9.

    Returns:
        The estimate, cut to [0, 1]. Its interval is that of sampling error alone, by a bootstrap of
        source and target rows.

    Raises:
        TypeError: Logits are not floats or labels not integers.
        ValueError: Shapes do not fit, a logit is not finite, a label is no class, or `level` is
            out of range.

    Example:
        The source has N = 1 and accuracy 1, and all target rows have equal probabilities:

        >>> import torch
        >>> from da.select import nuclear_norm_accuracy
        >>> source, labels = 99 * torch.eye(4).repeat(25, 1), torch.arange(4).repeat(25)
        >>> round(nuclear_norm_accuracy(source, labels, torch.zeros(100, 4)).accuracy, 3)
        0.25

    Paper:
        Deng, Suh, Gould, Zheng: Confidence and Dispersity Speak: Characterising Prediction Matrix
        for Unsupervised Accuracy Estimation. ICML 2023.

    Differences:
        The paper fits the line on many domains with labels. Here two points give it. The interval
        is added here.
    """
    check_level(level)
    target = checked_logits(target_logits, "target_logits")
    source = checked_source(source_logits, source_labels, target.shape[1])
    of_source, of_target = source.logits.softmax(1), target.softmax(1)
    guess = 1 / target.shape[1]

    def accuracy(p: Tensor, correct: Tensor, q: Tensor) -> float:
        span = _norm(p) - guess
        if span <= 0:  # guessing on the source
            return guess
        return guess + (float(correct.mean()) - guess) * (_norm(q) - guess) / span

    def statistic(rows: Tensor, target_rows: Tensor) -> float:
        return accuracy(of_source[rows], source.correct[rows], of_target[target_rows])

    return estimate_of(
        accuracy(of_source, source.correct, of_target),
        bootstrap_variance(statistic, len(of_source), len(of_target)),
        level,
        doubts_about(target, source),
    )


@checked
def confidence_optimal_transport(
    source_labels: Array, target_logits: Array, *, level: float = 0.9
) -> AccuracyEstimate:
    """Estimate target accuracy by moving predictions to the source's class frequencies (COT).

    Each target row is assigned to classes so that these have the source's frequencies and the
    assigned probability is largest. The mean of that probability is the estimate. It is never above
    `average_confidence`, and below it if the target's answers have other class frequencies. It is
    too low if the target's classes do have other frequencies.

        max over plans a_ik >= 0 of  sum_ik a_ik p_k(x_i)
        with  sum_k a_ik = 1 / n  and  sum_i a_ik = share of class k in the source

    Args:
        source_labels: Classes (v,) of source rows, integers from 0.
        target_logits: Logits (n, classes) of target rows.
        level: The level of the interval, in (0, 1). Default 0.9.

    Returns:
        The estimate. Its interval is that of sampling error alone, from the dual potentials of the
        transport: to first order they say what each row adds.

    Raises:
        TypeError: Logits are not floats or labels not integers.
        ValueError: Shapes do not fit, a logit is not finite, a label is no class, or `level` is
            out of range.

    Example:
        All target rows are predicted as class 0 with 0.9, but half should be class 1:

        >>> import torch
        >>> from da.select import confidence_optimal_transport
        >>> target = torch.tensor([[0.9, 0.1]]).repeat(100, 1).log()
        >>> estimate = confidence_optimal_transport(torch.tensor([0, 1]).repeat(50), target)
        >>> round(estimate.accuracy, 3), estimate.reason
        (0.5, 'all target rows are predicted as class 0')

    Paper:
        Lu, Qin, Zhai, Shen, Chen, Wang, Kolouri, Stepputtis, Campbell, Sycara: Characterizing
        Out-of-Distribution Error via Optimal Transport. NeurIPS 2023 (COT).
        Del Barrio, Loubes: Central Limit Theorems for Empirical Transportation Cost in General
        Dimension. Annals of Probability 47, 2019 (the interval).

    Differences:
        The cost of the paper, half the L1 distance of probabilities to a one-hot class, is 1 - p_k.
        The published code draws n labels; here the classes are the points and have the weights of
        the source's frequencies, which is the same problem without the draw. The published code
        scales the logits by a temperature first: pass logits / T. The interval is added here.
    """
    target = checked_logits(target_logits, "target_logits")
    classes = target.shape[1]
    labels = checked_labels(source_labels, classes)
    prior = torch.bincount(labels, minlength=classes).double() / len(labels)
    occurring = prior > 0
    cost = 1 - target.softmax(1)[:, occurring]  # (n, occurring classes)
    rows = torch.full((len(target),), 1 / len(target), dtype=torch.float64)
    plan, log = ot.emd(
        rows.numpy(), prior[occurring].numpy(), cost.numpy(), numItermax=10_000_000, log=True
    )
    of_class = torch.zeros(classes, dtype=torch.float64)
    of_class[occurring] = torch.as_tensor(log["v"])
    variance = variance_of_mean(torch.as_tensor(log["u"])) + variance_of_mean(of_class[labels])
    return estimate_of(1 - float(log["cost"]), variance, level, doubts_about(target))


def _norm(p: Tensor) -> float:
    """The nuclear norm of probabilities (n, classes), divided by its largest value."""
    n, classes = p.shape
    # The singular values are the roots of the eigenvalues of the small matrix.
    small = p.T @ p if classes <= n else p @ p.T
    total = float(torch.linalg.eigvalsh(small).clamp(min=0).sqrt().sum())
    return total / math.sqrt(n * min(n, classes))
