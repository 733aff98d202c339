"""Scores of a model from held-out, labelled source rows, plain or weighted for the target.

    source_risk                 mean loss on the source rows
    source_accuracy             share of the source rows that are right
    importance_weighted_risk    mean loss, weighted to stand for the target (IWV)
    deep_embedded_risk          the same, with a control variate (DEV)

As every score they are higher for a network that should be better: the risks are minus the loss.
The loss of a row is the cross-entropy if the labels are integers, and the squared error if they are
floats. So the risks are for classification and for regression. The weights come from
`da.select.source_weights`.

Open-set and partial-set targets: none of them sees an unknown class, or a class that is missing in
the target, unless the features tell. See each function.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.devices import widened
from da.arrays.matrices import as_matrix, normalised_weights
from da.arrays.numbers import as_numbers
from da.instance.class_arrays import integers_of
from da.train.label_free_certainty import class_logits


@checked
def source_risk(logits: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """Score a network by minus its mean loss on held-out source rows.

    It says whether a network still does its task on the source, and nothing about the target. Use
    it as a gate, see `best_candidate`: a network that is much worse than others on the source is
    seldom good on the target.

        mean_i log softmax(z_i)_{y_i}    integer labels, in nats
        -mean_i (z_i - y_i)^2            float labels, in their unit squared

    Open-set targets: it sees no unknown sample. Partial-set targets: it holds as well as otherwise,
    and classes that the target lacks count too.

    Args:
        logits: Logits (v, classes), or predictions (v, 1), of source rows that were not trained on.
        labels: Their classes (v,), integers from 0; or their numbers (v,), floats.

    Returns:
        Minus the mean loss, <= 0; higher is better.

    Raises:
        TypeError: An input is of another kind.
        ValueError: Shapes do not fit, a value is not finite, or a label is no class of the logits.

    Example:
        >>> import torch
        >>> from da.select import source_risk
        >>> round(source_risk(torch.zeros(3, 2), torch.tensor([0, 1, 1])), 3)  # -log 2
        -0.693
        >>> source_risk(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0]))  # of 0 and 4
        -2.0

    Paper:
        Musgrave, Belongie, Lim: Three New Validators and a Large-Scale Benchmark Ranking for
        Unsupervised Domain Adaptation. arXiv 2208.07360, 2022 (compares it with other scores).

    Differences:
        The sign: the paper minimises the loss.
    """
    return -float(row_losses(logits, labels).mean())


@checked
def source_accuracy(logits: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """Count how many held-out source rows are right.

    Use it as `source_risk`. It is coarser: many networks have the same accuracy.

    Open-set and partial-set targets: as `source_risk`.

    Args:
        logits: Logits (v, classes) of source rows that were not trained on.
        labels: Their classes (v,), integers from 0.

    Returns:
        A fraction in [0, 1]; higher is better.

    Raises:
        TypeError: An input is of another kind.
        ValueError: Shapes do not fit, a value is not finite, or a label is no class of the logits.

    Example:
        >>> import torch
        >>> from da.select import source_accuracy
        >>> source_accuracy(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
        0.5
    """
    z, y = _classification(logits, labels)
    return float(widened(z.argmax(1) == y).mean())


@checked
def importance_weighted_risk(
    logits: Tensor | np.ndarray, labels: Tensor | np.ndarray, weights: Tensor | np.ndarray
) -> float:
    """Score a network by minus its loss on held-out source rows, weighted as the target has them.

    Each row counts as often as the target has its like. This holds under covariate shift, if p(y |
    x) is the same in both domains and every target row has its like in the source. If the domains
    lie far apart, a few rows have all the weight, and the score is little more than chance; look at
    `da.instance.effective_sample_size(weights)`.

        -sum_i w_i loss_i / sum_i w_i

    Open-set targets: it does not hold, as no source row stands for an unknown sample. Partial-set
    targets: it holds if the weights of the missing classes are near 0.

    Args:
        logits: As in `source_risk`.
        labels: As in `source_risk`.
        weights: The density ratio target / source at the rows (v,), >= 0, not all 0, up to a
            factor, as from `density_ratio`.

    Returns:
        Minus the weighted mean loss, <= 0; higher is better.

    Raises:
        TypeError: An input is of another kind.
        ValueError: Shapes do not fit, a value is not finite, a label is no class of the logits, or
            a weight is negative.

    Example:
        >>> import torch
        >>> from da.select import importance_weighted_risk
        >>> predictions, answers = torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0])
        >>> importance_weighted_risk(predictions, answers, torch.tensor([3.0, 1.0]))
        -1.0

    Paper:
        Sugiyama, Krauledat, Mueller: Covariate shift adaptation by importance weighted cross
        validation. JMLR 8, 2007.

    Differences:
        The sign: the paper minimises the loss. The sum is divided by the sum of the weights. The
        paper divides by the number of rows. One held-out part takes the place of cross-validation.
    """
    losses = row_losses(logits, labels)
    w = _row_weights(weights, losses)
    return -float((w * losses).sum() / w.sum())


@checked
def deep_embedded_risk(
    logits: Tensor | np.ndarray, labels: Tensor | np.ndarray, weights: Tensor | np.ndarray
) -> float:
    """Score a network by minus its weighted loss on held-out source rows, with less variance.

    The weights have mean 1 if they are the true density ratio. So the mean of the weights less 1
    can be added, times any factor, without bias. The factor here takes away most variance (a
    control variate). It holds where `importance_weighted_risk` does.

        -(mean_i w_i loss_i + eta (mean_i w_i - 1)),    eta = -cov(w loss, w) / var(w)

    It fails if weights are large. If a logistic regression separates the features of the domains,
    the weights are far from mean 1, and the correction is larger than the risk. The score can then
    be above 0, as no loss can be, and no order of networks follows from it.

    Open-set targets: it does not hold, as no source row stands for an unknown sample. Partial-set
    targets: it holds if the weights of the missing classes are near 0.

    Args:
        logits: As in `source_risk`.
        labels: As in `source_risk`.
        weights: The density ratio target / source at the rows (v,), >= 0, not all 0, as from
            `density_ratio`. Its scale matters: weights of mean exactly 1 leave nothing to correct.

    Returns:
        Minus the risk; higher is better. It can be above 0.

    Raises:
        TypeError: An input is of another kind.
        ValueError: Shapes do not fit, a value is not finite, a label is no class of the logits, a
            weight is negative, or there is one row.

    Example:
        The loss is 2 in every row, so the control variate takes away all variance:

        >>> import torch
        >>> from da.select import deep_embedded_risk
        >>> predictions, answers = torch.full((3, 1), 2**0.5), torch.zeros(3)
        >>> round(deep_embedded_risk(predictions, answers, torch.tensor([1.0, 2.0, 6.0])), 3)
        -2.0

    Paper:
        You, Wang, Long, Jordan: Towards Accurate Model Selection in Deep Unsupervised Domain
        Adaptation. ICML 2019.

    Differences:
        The sign: the paper minimises the risk. Equal weights have no variance, and eta is 0 then.
        The weights come from a logistic regression, see `density_ratio`; in the paper from a
        network with one hidden layer.
    """
    losses = row_losses(logits, labels)
    w = _row_weights(weights, losses)
    if len(w) < 2:
        raise ValueError("logits must have two or more rows, to estimate a variance; got 1")
    weighted = w * losses
    covariance = torch.cov(torch.stack([weighted, w]))
    eta = float(-covariance[0, 1] / covariance[1, 1]) if bool((w != w[0]).any()) else 0.0
    return -float(weighted.mean() + eta * (w.mean() - 1))


def row_losses(logits: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> Tensor:
    """Compute the loss of each row: cross-entropy for integer labels, squared error for floats.

    Args:
        logits: As in `source_risk`.
        labels: As in `source_risk`.

    Returns:
        The losses (v,), float64, on the CPU.
    """
    given = as_numbers(labels, "labels")
    if not given.is_floating_point():
        return functional.cross_entropy(*_classification(logits, labels), reduction="none")
    z = widened(as_matrix(logits, "logits").detach()).cpu()
    if z.shape[1] != 1 or given.shape != (len(z),):
        raise ValueError(
            "logits must be predictions (v, 1) and labels (v,) if the labels are floats; got "
            f"{tuple(z.shape)} and {tuple(given.shape)}: classes are integers, labels.long()"
        )
    answers = widened(as_matrix(labels.reshape(-1, 1), "labels").detach()).cpu()
    return (z - answers).square().squeeze(1)


def _classification(
    logits: Tensor | np.ndarray, labels: Tensor | np.ndarray
) -> tuple[Tensor, Tensor]:
    """Checked logits (v, classes) and classes (v,) on the CPU."""
    z, y = class_logits(logits).cpu(), integers_of(labels, "labels")
    if len(y) != len(z):
        raise ValueError(f"labels must hold one class for each row, {len(z)}; got {len(y)}")
    if int(y.max()) >= z.shape[1]:
        raise ValueError(
            f"labels must be 0 to {z.shape[1] - 1}, the columns of the logits; got {int(y.max())}"
        )
    return z, y


def _row_weights(weights: Tensor | np.ndarray, losses: Tensor) -> Tensor:
    """Weights (v,) as they were given, checked, float64, on the CPU."""
    given = widened(as_numbers(weights, "weights").detach()).cpu()
    normalised_weights(given, len(losses))
    return given
