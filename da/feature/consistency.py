"""Losses that teach with confident predictions: with hard labels or with probabilities.

| loss | what teaches | what learns |
|---|---|---|
| `pseudo_label_loss` | the most probable class of a row | the same prediction |
| `hard_consistency` | the most probable class of an easy view | the prediction on a hard view |
| `soft_consistency` | the probabilities of a teacher | the prediction of the student |
| `weighted_consistency` | the most probable class of a teacher | the student, as sure rows say |

Each is a mean over all rows. A row counts as 0 if the prediction that teaches is less sure than a
threshold, so few sure rows make a small loss and not a mean of few rows. No gradient reaches what
teaches. Nothing here corrects a prediction that is confidently wrong.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.feature.views import check_fraction


def hard_consistency(logits: Array, teaching_logits: Array, *, threshold: float = 0.95) -> Array:
    """Teach predictions with the most probable classes of other predictions on the same rows.

        1/n sum_i [max_k q_ik >= threshold] CE(p_i, argmax_k q_ik)
        p = softmax(logits), q = softmax(teaching_logits)

    Args:
        logits: What learns, (n, K), floats.
        teaching_logits: What teaches, (n, K), of the same rows; no gradient reaches it.
        threshold: Least confidence of a label, in [0, 1]; default 0.95. 0 takes every row, 1 only
            rows whose probability rounds to 1.

    Returns:
        A scalar >= 0 in nats, of the kind of `logits`; differentiable in `logits`.

    Raises:
        ValueError: threshold is not in [0, 1], shapes or devices differ, or a value is not finite.
        TypeError: The input does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.feature.consistency import hard_consistency
        >>> unsure, sure = np.zeros((1, 2)), np.array([[9.0, 0.0]])
        >>> round(float(hard_consistency(unsure, sure)), 3)  # log 2
        0.693
        >>> float(hard_consistency(sure, unsure))  # what teaches is below the threshold
        0.0

    Paper:
        Sohn, Berthelot, Li, Zhang et al.: FixMatch: Simplifying Semi-Supervised Learning with
        Consistency and Confidence. NeurIPS 2020, equation 4.

    Differences:
        None known.
    """
    check_fraction("threshold", threshold)
    learning, teaching = _pair(logits, teaching_logits)
    with full_precision(learning):
        confidence, labels = teaching.detach().softmax(dim=1).max(dim=1)  # (n,), (n,)
        losses = functional.cross_entropy(learning, labels, reduction="none")  # (n,)
        return like((losses * (confidence >= threshold)).mean(), logits)


def pseudo_label_loss(logits: Array, *, threshold: float = 0.9) -> Array:
    """Teach confident predictions with their own most probable classes.

    This is `hard_consistency` of predictions with themselves. The label is held constant, so a row
    that counts has the gradient of cross-entropy: its class grows at the cost of all others.

        1/n sum_i [max_k p_ik >= threshold] (-log max_k p_ik),    p = softmax(logits)

    Args:
        logits: Rows (n, K), floats.
        threshold: Least confidence of a label, in [0, 1]; default 0.9.

    Returns:
        A scalar in nats, from 0 to the smaller of log(1 / threshold) and log K, of the kind of
        `logits`; differentiable.

    Raises:
        ValueError: threshold is not in [0, 1], or a value is not finite.
        TypeError: The input does not hold floats.

    Paper:
        Lee: Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
        Networks. ICML 2013 workshop.

    Differences:
        The paper has no threshold; 0 gives its loss.
    """
    return hard_consistency(logits, logits, threshold=threshold)


def soft_consistency(logits: Array, teaching_logits: Array, *, threshold: float = 0.968) -> Array:
    """Teach predictions with the probabilities of other predictions on the same rows.

        1/(n K) sum_ik [max_l q_il >= threshold] (p_ik - q_ik)^2
        p = softmax(logits), q = softmax(teaching_logits)

    Args:
        logits: What learns (the student), (n, K), floats.
        teaching_logits: What teaches (the teacher), (n, K), of the same rows; no gradient reaches
            it.
        threshold: Least confidence of a row that counts, in [0, 1]; default 0.968.

    Returns:
        A scalar in [0, 2 / K], of the kind of `logits`; differentiable in `logits`.

    Raises:
        ValueError: threshold is not in [0, 1], shapes or devices differ, or a value is not finite.
        TypeError: The input does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.feature.consistency import soft_consistency
        >>> student, teacher = np.zeros((1, 2)), np.array([[99.0, 0.0]])
        >>> round(float(soft_consistency(student, teacher)), 3)  # ((1/2)^2 + (1/2)^2) / 2
        0.25

    Paper:
        French, Mackiewicz, Fisher: Self-ensembling for visual domain adaptation. ICLR 2018.

    Differences:
        None known. The mean is over classes too, as in the authors' code.
    """
    check_fraction("threshold", threshold)
    learning, teaching = _pair(logits, teaching_logits)
    with full_precision(learning):
        q = teaching.detach().softmax(dim=1)  # (n, K)
        squares = (learning.softmax(dim=1) - q).square().mean(dim=1)  # (n,)
        return like((squares * (q.amax(dim=1) >= threshold)).mean(), logits)


def weighted_consistency(logits: Array, teaching_logits: Array, *, threshold: float = 0.0) -> Array:
    """Teach predictions with the most probable classes of others, each as sure as these are.

        1/n sum_i [max_k q_ik >= threshold] max_k q_ik CE(p_i, argmax_k q_ik)
        p = softmax(logits), q = softmax(teaching_logits)

    Args:
        logits: What learns (the student), (n, K), floats.
        teaching_logits: What teaches (the teacher), (n, K), of the same rows; no gradient reaches
            it.
        threshold: Least confidence of a row that counts, in [0, 1]; default 0.

    Returns:
        A scalar >= 0 in nats, of the kind of `logits`; differentiable in `logits`.

    Raises:
        ValueError: threshold is not in [0, 1], shapes or devices differ, or a value is not finite.
        TypeError: The input does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.feature.consistency import weighted_consistency
        >>> unsure = np.zeros((1, 2))
        >>> round(float(weighted_consistency(unsure, unsure)), 3)  # half of log 2
        0.347

    Paper:
        Hoyer, Dai, Wang, Van Gool: MIC: Masked Image Consistency for Context-Enhanced Domain
        Adaptation. CVPR 2023, equations 6 and 7.

    Differences:
        The paper has no threshold.
    """
    check_fraction("threshold", threshold)
    learning, teaching = _pair(logits, teaching_logits)
    with full_precision(learning):
        confidence, labels = teaching.detach().softmax(dim=1).max(dim=1)  # (n,), (n,)
        losses = functional.cross_entropy(learning, labels, reduction="none")  # (n,)
        return like((confidence * losses * (confidence >= threshold)).mean(), logits)


def _pair(logits: Array, teaching_logits: Array) -> tuple[Tensor, Tensor]:
    """Both checked, as tensors (n, K) of the same rows."""
    learning, teaching = check_two_samples(
        logits, teaching_logits, names=("logits", "teaching_logits")
    )
    if len(learning) != len(teaching):
        raise ValueError(
            "logits and teaching_logits must be of the same rows; "
            f"got {len(learning)} and {len(teaching)}"
        )
    return learning, teaching
