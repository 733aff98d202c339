"""How good the chosen model is on the target, estimated without its labels."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from da.adapt.fitted import Fitted
from da.select.accuracy import AccuracyEstimate
from da.select.accuracy_agreement import ensemble_accuracy
from da.select.accuracy_combined import calibrated_interval, combined_estimate
from da.select.accuracy_matrix import confidence_optimal_transport

EARLIER = "earlier_estimates.json"
LEVEL = 0.9


def estimate_accuracy(model: Fitted, others: Sequence[Fitted]) -> AccuracyEstimate:
    """Estimate a classifier's accuracy on the target.

    The estimate is the middle of two: what its confidence says once its answers are moved to the
    source's shares of classes, and how often the models of other rows agree with it. The interval
    is as wide as it must be to hold the truth on the benchmark tasks on which this command was
    tried, in nine of ten cases.

    Args:
        model: The classifier.
        others: Models of other rows, one each.

    Returns:
        The estimate.
    """
    return with_earlier(raw_estimate(model, others))


def raw_estimate(model: Fitted, others: Sequence[Fitted]) -> AccuracyEstimate:
    """The same without the interval from earlier tasks.

    Args:
        model: The classifier.
        others: Models of other rows, one each.
    """
    found = {"transport": confidence_optimal_transport(model.held_y, model.target)}
    if others:
        logits = [one.target for one in others]
        found["members"] = ensemble_accuracy(model.target, logits, judge="members")
    return combined_estimate(found)


def with_earlier(estimate: AccuracyEstimate) -> AccuracyEstimate:
    """Widen an interval by the errors on earlier tasks, if they are at hand."""
    earlier, truths = earlier_tasks()
    return calibrated_interval(estimate, earlier, truths, level=LEVEL) if truths else estimate


def earlier_tasks() -> tuple[list[AccuracyEstimate], list[float]]:
    """Read the estimates of benchmark tasks, and the accuracies that were measured there."""
    path = files("da.adapt") / EARLIER
    if not path.is_file():
        return [], []
    tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    made = [AccuracyEstimate(t["estimate"], t["low"], t["high"], True, "") for t in tasks]
    return made, [float(t["accuracy"]) for t in tasks]


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
