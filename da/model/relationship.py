"""The category relationship of Co-Tuning: which source classes a target class looks like.

The relationship p(y_s | y_t) is estimated from the source network's predictions on labelled target
samples. A calibrated source network gives better ones (`calibration_temperature`).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.choices import check_choice

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Approach = Literal["reverse", "direct"]

# The inverse L2 strengths of the reverse approach's logistic regression: the whole decades of the
# published code.
_STRENGTHS = [10.0**k for k in range(4, -5, -1)]
_FOLDS = 3


def calibration_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the temperature at which a network's probabilities fit held-out samples best.

    Co-Tuning divides the source network's logits by it before the network predicts the target. The
    samples must be held-out samples of the source.

        T = argmin over [0.01, 100] of the mean cross-entropy of softmax(logits / T)

    Args:
        logits: (n, k), n > 0.
        labels: Classes (n,) from 0.

    Returns:
        T.

    Raises:
        ValueError: The shapes are not these.

    Paper:
        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks. ICML 2017.

    Differences:
        T is kept within 0.01 and 100.
    """
    if logits.ndim != 2 or len(logits) == 0 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "logits and labels must be (n, k) and (n,), n > 0; "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    return _temperature(logits.detach().cpu().numpy().astype(np.float64), labels.cpu().numpy())


@checked
def category_relationship(
    source_probabilities: Tensor, labels: Tensor, *, approach: Approach = "reverse"
) -> Tensor:
    """Estimate which source classes each target class looks like, for `CoTuning`.

    It needs the source network's predictions on the labelled training samples of the target.

        direct     p(s | t) = mean of p_i(s) over the samples i of class t
        reverse    p(s | t) proportional to q(t | s) p(s),    p(s) = mean of p_i(s) over all samples

    q(t | s) = softmax_t(w_ts / T) is read off a multinomial logistic regression of labels on
    probabilities, without intercept, at a source class that is certain. Its L2 strength (one of
    nine) and the temperature T are those with the least cross-entropy on samples that were left
    out, in 3 folds, or in 2 if a class has only 2 samples.

    Args:
        source_probabilities: p_i (n, S), floats, from the pretrained network. Divide its logits by
            `da.model.relationship.calibration_temperature` first, if that is known.
        labels: Classes (n,) from 0, two or more. Each up to the last must occur, at least twice
            for "reverse" and once for "direct".
        approach: "reverse" (default, as in the published code) or "direct". The paper has both.

    Returns:
        p(s | t) (classes, S), each row of sum 1, of the dtype and device of the probabilities.

    Raises:
        ValueError: A row is not a distribution, a class has too few samples, there is only one
            class, or there is no such approach.

    Example:
        >>> import torch
        >>> from da.model import category_relationship
        >>> predictions = torch.tensor([[0.9, 0.1, 0.0], [0.7, 0.3, 0.0], [0.0, 0.2, 0.8]])
        >>> category_relationship(predictions, torch.tensor([0, 0, 1]), approach="direct")
        tensor([[0.8000, 0.2000, 0.0000],
                [0.0000, 0.2000, 0.8000]])

    Paper:
        You, Kou, Long, Wang: Co-Tuning for Transfer Learning. NeurIPS 2020.

    Differences:
        Strength and temperature are cross-validated. The published code splits off one validation
        set, takes the strength with the best accuracy there, and does not refit. It tries 17
        strengths, two in a decade; here there are nine, one in a decade. T has no bounds there.
        Rows are scaled to sum 1, as in that code; the paper divides by p(t).
    """
    check_choice("approach", approach, Approach)
    check_probabilities("source_probabilities", source_probabilities)
    counts = _class_counts(source_probabilities, labels, least=2 if approach == "reverse" else 1)
    if approach == "direct":
        of_class = functional.one_hot(labels, len(counts)).to(source_probabilities)  # (n, classes)
        return of_class.T @ source_probabilities / counts[:, None].to(source_probabilities)
    p, y = source_probabilities.detach().cpu().numpy().astype(np.float64), labels.cpu().numpy()
    p /= p.sum(1, keepdims=True)
    log_q = _log_target_given_source(p, y, folds=min(_FOLDS, int(counts.min())))  # (classes, S)
    marginal = torch.from_numpy(p.mean(0))
    return (torch.from_numpy(log_q) + marginal.log()).softmax(1).to(source_probabilities)


def check_probabilities(name: str, value: Tensor) -> None:
    """Raise ValueError unless each row of the argument `name` is a distribution (to 0.01)."""
    if (
        value.ndim != 2
        or not value.is_floating_point()
        or not (value >= 0).all()
        or not ((value.sum(1) - 1).abs() < 1e-2).all()
    ):
        raise ValueError(
            f"{name} must be floats (rows, source classes), >= 0, each row of sum 1; "
            f"got {value.dtype} {tuple(value.shape)}: pass probabilities, not logits"
        )


def _log_target_given_source(p: np.ndarray, y: np.ndarray, folds: int) -> np.ndarray:
    """log q(t | s), (classes, S)."""
    from sklearn.exceptions import ConvergenceWarning  # here: scikit-learn is slow to import

    best, least = (0.0, 1.0), np.inf  # strength and temperature, and their cross-entropy
    with warnings.catch_warnings():
        # An unfinished fit needs no warning: it is judged on samples that were left out.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in _STRENGTHS:
            left_out = _left_out_scores(p, y, strength, folds)
            temperature = _temperature(left_out, y)
            value = _cross_entropy(left_out / temperature, y)
            if value < least:
                best, least = (strength, temperature), value
        weights = _regression(best[0]).fit(p, y).coef_
    return log_softmax(_two_sided(weights.T).T / best[1], axis=0)


def _regression(strength: float) -> LogisticRegression:
    """The logistic regression of labels on source probabilities."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, fit_intercept=False, max_iter=1000)


def _left_out_scores(p: np.ndarray, y: np.ndarray, strength: float, folds: int) -> np.ndarray:
    """Scores (n, classes) of each sample by a regression that did not see it."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    scores = cross_val_predict(
        _regression(strength), p, y, cv=StratifiedKFold(folds), method="decision_function"
    )
    return _two_sided(scores)


def _two_sided(scores: np.ndarray) -> np.ndarray:
    """Scores (n, classes) from those of scikit-learn.

    For two classes scikit-learn gives one column, the second class against the first.
    """
    scores = scores.reshape(len(scores), -1)
    return np.hstack([-scores / 2, scores / 2]) if scores.shape[1] == 1 else scores


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of logits (n, classes) for labels (n,)."""
    return -float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The best temperature. In log T the cross-entropy has one minimum: it is convex in 1 / T."""
    found = minimize_scalar(
        lambda t: _cross_entropy(logits / np.exp(t), labels),
        bounds=(np.log(0.01), np.log(100)),
        method="bounded",
    )
    return float(np.exp(found.x))


def _class_counts(probabilities: Tensor, labels: Tensor, *, least: int) -> Tensor:
    """Samples of each class (classes,), checked to be at least `least`."""
    if (
        labels.shape != probabilities.shape[:1]
        or len(labels) == 0
        or labels.is_floating_point()
        or labels.min() < 0
    ):
        raise ValueError(
            f"labels must be integers (n,) from 0, one for each of {len(probabilities)} rows; "
            f"got {labels.dtype} {tuple(labels.shape)}"
        )
    counts = labels.bincount()
    if len(counts) < 2 or counts.min() < least:
        raise ValueError(
            f"labels must hold two or more classes, each at least {least} times; "
            f"got counts {counts.tolist()}"
        )
    return counts
