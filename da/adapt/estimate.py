"""How good the chosen model is on the target, estimated without its labels.

    estimate     members: what the models of other rows say of the model's answers
    interval     estimate -+ q (1 - estimate + 0.02)

q is the share by which the estimated error was wrong at most on nine of ten earlier models, see
`EARLIER`. So a model that the others agree with has a narrow interval, and a doubtful one a wide
one.

The estimator and the form of the interval were chosen with target labels in view: on the digits, on
Office-31, and on thirteen tasks of this command. q comes from the digits, Office-31 and
Office-Caltech10 alone; there its intervals hold 90 % of the true accuracies if each task is left
out in turn. On the thirteen tasks, which q has not seen, they held 86 % with an earlier q that was
3 % smaller.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from da.adapt.fitted import Fitted
from da.select.accuracy import AccuracyEstimate
from da.select.accuracy_agreement import ensemble_accuracy
from da.select.accuracy_matrix import confidence_optimal_transport

EARLIER = "earlier_estimates.json"  # made by experiments/earlier_estimates.py
LEVEL = 0.9
LEAST = 0.02  # of an estimated error, so that no interval is empty
DISAGREE = 0.2  # between two estimators, from which on neither is called reliable


class Earlier(NamedTuple):
    """Estimates on earlier tasks whose target labels are known.

    Attributes:
        task: The task (n,) of each model.
        estimate: The estimated accuracy (n,).
        accuracy: The true one (n,).
        sources: What they are from, in words.
    """

    task: np.ndarray
    estimate: np.ndarray
    accuracy: np.ndarray
    sources: str


def estimate_accuracy(model: Fitted, others: Sequence[Fitted]) -> AccuracyEstimate:
    """Estimate a classifier's accuracy on the target, with an interval of level 0.9.

    Args:
        model: The classifier.
        others: Models of other rows, one each.

    Returns:
        The estimate. It is not reliable if no other row was tried, or if the model's own confidence
        says something else: once its answers are moved to the source's shares of classes.
    """
    confident = confidence_optimal_transport(model.held_y, model.target).accuracy
    if not others:
        reason = "no other row was tried, so nothing but the model's confidence is known"
        return AccuracyEstimate(confident, 0.0, 1.0, False, reason)
    logits = [one.target for one in others]
    said = ensemble_accuracy(model.target, logits, judge="members").accuracy
    reach = error_factor(earlier_models()) * (1 - said + LEAST)
    low, high = max(said - reach, 0.0), min(said + reach, 1.0)
    doubt = ""
    if abs(confident - said) > DISAGREE:
        doubt = (
            f"the other rows' models say {100 * said:.1f} %, the model's confidence "
            f"{100 * confident:.1f} %"
        )
    return AccuracyEstimate(said, low, high, not doubt, doubt)


def error_factor(earlier: Earlier, *, level: float = LEVEL) -> float:
    """Find the least q whose intervals hold a share of earlier accuracies; each task counts alike.

        |accuracy - estimate| <= q (1 - estimate + 0.02)

    Args:
        earlier: The earlier models.
        level: The share. Default 0.9.

    Returns:
        q.

    Example:
        Four models of one task, whose errors are 0 to 3 tenths of the estimated error 0.5:

        >>> import numpy as np
        >>> from da.adapt.estimate import Earlier, error_factor
        >>> off = 0.52 * np.array([0.0, 0.1, 0.2, 0.3])
        >>> earlier = Earlier(np.array(["a"] * 4), np.full(4, 0.5), 0.5 + off, "")
        >>> round(error_factor(earlier, level=0.75), 3)
        0.2

    Paper:
        Papadopoulos, Gammerman, Vovk: Normalized Nonconformity Measures for Regression Conformal
        Prediction. AIA 2008.

    Differences:
        No correction for the number of earlier models: they are not independent within a task.
    """
    misses = np.abs(earlier.accuracy - earlier.estimate) / (1 - earlier.estimate + LEAST)
    _, number, counts = np.unique(earlier.task, return_inverse=True, return_counts=True)
    weights = 1 / counts[number]
    order = np.argsort(misses, kind="stable")
    held = np.cumsum(weights[order]) / weights.sum()
    return float(misses[order][np.searchsorted(held, level - 1e-12)])


@cache
def earlier_models() -> Earlier:
    """Read the estimates on benchmark tasks that come with the package."""
    content = json.loads((files("da.adapt") / EARLIER).read_text(encoding="utf-8"))
    models = content["models"]
    task, estimate, accuracy = (
        np.array([one[name] for one in models]) for name in ("task", "estimate", "accuracy")
    )
    return Earlier(task, estimate, accuracy, content["sources"])


def least_error(
    model: Fitted, others: Sequence[Fitted], source_y: np.ndarray
) -> tuple[float, float]:
    """Say what the root mean squared error of a regression on the target is at least likely to be.

    Three errors are added. An error that all models share is not seen, so the true one is often
    larger.

        sqrt(mse of held-out source rows                         what the model cannot explain
             + mean squared distance to the median of models     what they do not agree on
             + var(y) (1 / n + 1 / m))                           what two means differ by chance

    Args:
        model: The regression.
        others: Models of other rows whose answers are plausible.
        source_y: The source's numbers (n,).

    Returns:
        That error, and its part from the source.
    """
    source = model.source_risk
    middle = np.median([one.target for one in (model, *others)], axis=0)
    distance = float(np.square(model.target - middle).mean())
    chance = float(source_y.var()) * (1 / len(source_y) + 1 / len(model.target))
    return math.sqrt(source + distance + chance), math.sqrt(source)
