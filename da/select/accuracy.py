"""An estimate of target accuracy without target labels: what it holds, and the checks of its input.

An estimator takes logits of held-out source rows with their labels, logits of target rows, and
sometimes weights or the logits of other models. It returns an `AccuracyEstimate`.

    accuracy_confidence     average confidence, difference of confidences, ATC
    accuracy_temperature    average confidence after temperature scaling
    accuracy_agreement      agreement of models: GDE, agreement with an ensemble
    accuracy_matrix         the matrix of predictions: nuclear norm, optimal transport (COT)
    accuracy_reweighted     source accuracy, reweighted for covariate shift or label shift
    accuracy_combined       one estimate from several, and an interval from earlier errors
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from da.arrays.arguments import check_fields
from da.arrays.matrices import as_matrix
from da.instance.class_arrays import integers_of

LEAST_ROWS = 50  # rows below which an estimate is not called reliable
REPETITIONS = 100  # of a bootstrap: the standard error is then within about 7 %

Values = Tensor | np.ndarray


@dataclass(frozen=True)
class AccuracyEstimate:
    """An estimate of a classifier's accuracy on the target, made without target labels.

    Attributes:
        accuracy: The estimate, a fraction in [0, 1].
        low: The lower end of the interval.
        high: The upper end of the interval.
        reliable: False if the estimator can see that its answer should not be trusted.
        reason: Why not; empty if `reliable`.

    Example:
        >>> from da.select import AccuracyEstimate
        >>> print(AccuracyEstimate(0.8, 0.7, 0.9, reliable=True, reason=""))
        80.0 % [70.0, 90.0]
        >>> print(AccuracyEstimate(0.8, 0.0, 1.0, reliable=False, reason="20 target rows"))
        80.0 % [0.0, 100.0], not reliable: 20 target rows
    """

    accuracy: float
    low: float
    high: float
    reliable: bool
    reason: str

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.low <= self.accuracy <= self.high <= 1:
            raise ValueError(
                "an estimate must have 0 <= low <= accuracy <= high <= 1; "
                f"got low {self.low}, accuracy {self.accuracy}, high {self.high}"
            )

    def __str__(self) -> str:
        """The estimate in percent, in one line."""
        text = f"{100 * self.accuracy:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return text if self.reliable else f"{text}, not reliable: {self.reason}"


class SourceRows(NamedTuple):
    """Held-out source rows, checked.

    Attributes:
        logits: Logits (v, classes) in float64 on the CPU.
        labels: Classes (v,), int64.
        correct: 1 if a row is predicted correctly, otherwise 0: (v,) float64.
    """

    logits: Tensor
    labels: Tensor
    correct: Tensor

    def take(self, rows: Tensor) -> SourceRows:
        """The rows at an index (k,), with repetitions."""
        return SourceRows(*(values[rows] for values in self))

    @property
    def accuracy(self) -> float:
        """The share of rows that are predicted correctly."""
        return float(self.correct.mean())


def checked_logits(logits: Values, name: str, classes: int | None = None) -> Tensor:
    """Check logits (n, classes) and return them in float64 on the CPU, without gradient.

    Raises:
        TypeError: They are neither a tensor nor an array of floats.
        ValueError: The shape is wrong, there are fewer than two classes, or the number of classes
            is not `classes`.
        NonFiniteError: A logit is NaN or infinite.
    """
    z = as_matrix(logits, name).detach().cpu().double()
    if z.shape[1] < 2:
        raise ValueError(f"{name} must have two or more columns, one a class; got {z.shape[1]}")
    if classes is not None and z.shape[1] != classes:
        raise ValueError(
            f"{name} must have {classes} columns, the classes of the other logits; "
            f"got shape {tuple(z.shape)}"
        )
    return z


def checked_source(source_logits: Values, source_labels: Values, classes: int) -> SourceRows:
    """Check logits (v, classes) and labels (v,) of held-out source rows.

    Raises:
        TypeError: The logits are no floats or the labels no integers.
        ValueError: Shapes do not fit, a value is not finite, or a label is not a class.
    """
    z = checked_logits(source_logits, "source_logits", classes)
    y = checked_labels(source_labels, classes)
    if len(y) != len(z):
        raise ValueError(f"source_labels must hold one class a row, {len(z)}; got {len(y)}")
    return SourceRows(z, y, (z.argmax(1) == y).double())


def checked_labels(source_labels: Values, classes: int) -> Tensor:
    """Check classes (v,) of source rows and return them as int64 on the CPU."""
    y = integers_of(source_labels, "source_labels")
    if int(y.max()) >= classes:
        raise ValueError(
            f"source_labels must be 0 to {classes - 1}, the columns of the logits; "
            f"got {int(y.max())}"
        )
    return y


def check_level(level: float) -> None:
    """Raise a ValueError unless the level of an interval is between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1; got {level}")


def doubts_about(target_logits: Tensor, source: SourceRows | None = None) -> list[str]:
    """List what speaks against any estimate from these rows: too few, or useless predictions."""
    found: list[str] = []
    classes = target_logits.shape[1]
    predicted = target_logits.argmax(1)
    if source is not None and len(source.labels) < LEAST_ROWS:
        found.append(f"{len(source.labels)} source validation rows, fewer than {LEAST_ROWS}")
    if len(target_logits) < LEAST_ROWS:
        found.append(f"{len(target_logits)} target rows, fewer than {LEAST_ROWS}")
    if bool((predicted == predicted[0]).all()):
        found.append(f"all target rows are predicted as class {int(predicted[0])}")
    if source is not None and source.accuracy <= 1 / classes:
        found.append(f"accuracy on the source is {source.accuracy:.2f}, no better than chance")
    return found


def estimate_of(
    accuracy: float, variance: float, level: float, doubts: Iterable[str] = ()
) -> AccuracyEstimate:
    """Make an estimate with a normal interval; accuracy and interval are cut to [0, 1].

    Args:
        accuracy: The estimate.
        variance: Its sampling variance.
        level: The level of the interval, in (0, 1).
        doubts: Why it is not reliable; none if it is.
    """
    check_level(level)
    half_width = float(norm.ppf((1 + level) / 2)) * math.sqrt(variance)
    middle = min(max(accuracy, 0.0), 1.0)
    low, high = (min(max(end, 0.0), 1.0) for end in (accuracy - half_width, accuracy + half_width))
    reason = "; ".join(doubts)
    return AccuracyEstimate(middle, min(low, middle), max(high, middle), not reason, reason)


def variance_of_mean(values: Tensor) -> float:
    """The sampling variance of the mean of n values in [0, 1].

    1 / n^2 is added, the square of what one row can change: n equal values are no proof that the
    next one is equal.
    """
    n = len(values)
    return float(values.var(correction=0)) / n + 1 / n**2


def bootstrap_variance(
    statistic: Callable[[Tensor, Tensor], float], source_rows: int, target_rows: int
) -> float:
    """The variance of an estimate when source rows and target rows are drawn with replacement.

    Args:
        statistic: (index of source rows (v,), index of target rows (n,)) -> the estimate.
        source_rows: v; 1 / v^2 is added, as in `variance_of_mean`.
        target_rows: n; 1 / n^2 is added.
    """
    generator = torch.Generator().manual_seed(0)  # equal input, equal interval
    draws = [
        statistic(
            torch.randint(source_rows, (source_rows,), generator=generator),
            torch.randint(target_rows, (target_rows,), generator=generator),
        )
        for _ in range(REPETITIONS)
    ]
    return float(np.var(draws, ddof=1)) + 1 / source_rows**2 + 1 / target_rows**2
