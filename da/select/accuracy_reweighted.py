"""Estimated accuracy by counting held-out source rows as often as the target has their like.

importance_weighted_accuracy    covariate shift: p(x) differs, p(y | x) does not
label_shift_accuracy            label shift: p(y) differs, p(x | y) does not
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, normalised_weights
from da.instance.diagnostics import effective_sample_size
from da.instance.labelshift import bbse
from da.select.accuracy import (
    LEAST_ROWS,
    AccuracyEstimate,
    SourceRows,
    check_level,
    checked_logits,
    checked_source,
    doubts_about,
    estimate_of,
    variance_of_mean,
)


@checked
def importance_weighted_accuracy(
    source_logits: Array, source_labels: Array, source_weights: Array, *, level: float = 0.9
) -> AccuracyEstimate:
    """Estimate target accuracy by the weighted accuracy on held-out source rows.

    It holds under covariate shift: the target's rows are of the kinds that the source has, only
    in other numbers, and the weights are the density ratio. It cannot know anything of target rows
    that are like no source row.

        sum_j w_j 1[argmax z_j = y_j] / sum_j w_j

    Args:
        source_logits: Logits z (v, classes) of source rows that were not trained on.
        source_labels: Their classes y (v,), integers from 0.
        source_weights: The density ratio target / source at these rows (v,), >= 0, up to a factor,
            as from `da.instance.ulsif` or `da.instance.discriminator_weights` on features.
        level: The level of the interval, in (0, 1). Default 0.9.

    Returns:
        The estimate. Its interval is that of sampling error of the rows for the weights as given.
        It is not reliable if the weights rest on fewer than 50 rows (the effective sample size).

    Raises:
        TypeError: The logits are not floats or the labels not integers.
        ValueError: Shapes do not fit, a value is not finite, a label is no class, weights are
            negative or all 0, or `level` is out of range.

    Example:
        Half of the source rows are right, and the target has three times as many of their kind:

        >>> import torch
        >>> from da.select import importance_weighted_accuracy
        >>> logits, labels = torch.tensor([[1.0, 0.0]]).repeat(200, 1), torch.arange(200) % 2
        >>> weights = torch.tensor([1.5, 0.5]).repeat(100)
        >>> round(importance_weighted_accuracy(logits, labels, weights).accuracy, 3)
        0.75

    Paper:
        Sugiyama, Krauledat, Mueller: Covariate Shift Adaptation by Importance Weighted Cross
        Validation. JMLR 8, 2007.

    Differences:
        The weights are divided by their sum, which keeps the estimate within [0, 1]. The paper
        divides by the number of rows. The interval is added here, by the delta method.
    """
    z = checked_logits(source_logits, "source_logits")
    source = checked_source(source_logits, source_labels, z.shape[1])
    given = normalised_weights(source_weights, len(z), name="source_weights")
    weights = torch.as_tensor(given).cpu().double()
    share = weights / weights.sum()  # (v,)
    accuracy = float(share @ source.correct)
    variance = float((share * (source.correct - accuracy)).square().sum() + share.max().square())
    doubts = []
    rows = effective_sample_size(weights)
    if rows < LEAST_ROWS:
        doubts.append(
            f"the weights rest on {rows:.0f} of {len(weights)} source rows, fewer than {LEAST_ROWS}"
        )
    return estimate_of(accuracy, variance, level, doubts)


@checked
def label_shift_accuracy(
    source_logits: Array, source_labels: Array, target_logits: Array, *, level: float = 0.9
) -> AccuracyEstimate:
    """Estimate target accuracy by the recall of each class, weighted by the target's frequencies.

    It holds under label shift: each class looks as in the source, only its frequency differs. The
    target's frequencies q are estimated from the confusion matrix of held-out source rows.

        sum_k q_k recall_k
        q with  sum_k q_k P_source(predicted i | is k) = P_target(predicted i)  for all i

    Args:
        source_logits: Logits (v, classes) of source rows that were not trained on.
        source_labels: Their classes (v,), integers from 0; each class must occur.
        target_logits: Logits (n, classes) of target rows.
        level: The level of the interval, in (0, 1). Default 0.9.

    Returns:
        The estimate. Its interval is that of sampling error alone, by the delta method. If the
        confusion matrix is singular, nothing can be known of the target's frequencies: the estimate
        is the source's accuracy, from 0 to 1, and not reliable. It is not reliable either if the
        matrix is nearly singular.

    Raises:
        TypeError: Logits are not floats or labels not integers.
        ValueError: Shapes do not fit, a logit is not finite, a label is no class, a class has no
            label, or `level` is out of range.

    Example:
        Class 0 has recall 1 and class 1 only 1/2. Class 1 is predicted for 3/8 of the target, so
        3/4 of it are of class 1:

        >>> import torch
        >>> from da.select import label_shift_accuracy
        >>> logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).repeat(50, 1)
        >>> labels = torch.tensor([0, 0, 1, 1]).repeat(50)
        >>> predicted_one = (torch.arange(200) % 8 < 3).float()
        >>> target = torch.stack([1 - predicted_one, predicted_one], 1)
        >>> round(label_shift_accuracy(logits, labels, target).accuracy, 3)
        0.625

    Paper:
        Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black Box Predictors.
        ICML 2018 (the frequencies).

    Differences:
        The paper estimates frequencies and trains again; the accuracy that follows from them, and
        its interval, are added here. Frequencies are kept >= 0, see `da.instance.bbse`.
    """
    check_level(level)
    target = checked_logits(target_logits, "target_logits")
    source = checked_source(source_logits, source_labels, target.shape[1])
    weights, doubt = _class_weights(source, target)
    doubts = doubts_about(target, source)
    if doubt:
        doubts.append(doubt)
    if weights is None:
        return AccuracyEstimate(source.accuracy, 0.0, 1.0, False, "; ".join(doubts))
    variance = _label_shift_variance(source, target.argmax(1), weights)
    return estimate_of(_reweighted_recall(source, weights), variance, level, doubts)


def _class_weights(source: SourceRows, target: Tensor) -> tuple[Tensor | None, str]:
    """The target's class frequencies divided by the source's (classes,), and a doubt about them.

    They are None if the confusion matrix is singular.
    """
    answers = torch.eye(target.shape[1], dtype=torch.float64)
    predicted, of_target = answers[source.logits.argmax(1)], answers[target.argmax(1)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            weights = bbse(predicted, source.labels, of_target)
        except ValueError as error:
            if "singular" not in str(error):
                raise
            return None, "the confusion matrix of the source is singular"
    return weights, "the confusion matrix of the source is nearly singular" if caught else ""


def _reweighted_recall(source: SourceRows, weights: Tensor) -> float:
    """sum_k w_k p_k recall_k with p the source's class frequencies."""
    return float((weights[source.labels] * source.correct).mean())


def _label_shift_variance(source: SourceRows, answers: Tensor, weights: Tensor) -> float:
    """The sampling variance, by the delta method.

    The estimate is recall^T C^-1 mu, with C_ik = P_source(predicted i | is k) and mu the shares of
    the target's `answers` (n,). With g = C^-T recall, a target row adds g of its answer; a source
    row of class k adds q_k (correct - g of its answer).
    """
    classes, predicted = len(weights), source.logits.argmax(1)
    confusion = torch.zeros(classes, classes, dtype=torch.float64)
    counts = torch.bincount(source.labels, minlength=classes).double()  # (classes,)
    share = 1 / counts[source.labels]
    confusion.index_put_((predicted, source.labels), share, accumulate=True)
    gain = torch.linalg.solve(confusion.T, confusion.diagonal())  # g, (classes,)
    frequencies = weights * counts / len(predicted)  # q, (classes,)
    added = source.correct - gain[predicted]  # (v,)
    of_source = sum(
        float(frequencies[k]) ** 2 * variance_of_mean(added[source.labels == k])
        for k in range(classes)
    )
    return of_source + variance_of_mean(gain[answers])
