"""AdaBoost.R2 with frozen source weights, and the weights of two-stage TrAdaBoost.R2.

`da.instance.boosting_regression` is built from these functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import brentq
from sklearn.base import BaseEstimator

from da.instance.transfer_boosting import learn, log_odds

EXACT = 1e-12  # an adjusted error up to this is rounding


def adaboost_r2(
    x: np.ndarray, y: np.ndarray, n: int, weights: np.ndarray, base: BaseEstimator, rounds: int
) -> tuple[list[Any], np.ndarray]:
    """Run AdaBoost.R2 from given weights, without changing those of the first n rows.

        eps_t = sum_i w_i e_i / sum_i w_i
        target   w_i <- w_i beta_t^(1 - e_i), then scaled to their former sum

    It ends before a round with eps_t >= 1/2, as the paper says, or after one with eps_t = 0, which
    no round can better. A first round with eps_t >= 1/2 is kept alone.

    Args:
        x: Rows (n + m, d), the source's first.
        y: Numbers (n + m,).
        n: The number of source rows.
        weights: Weights (n + m,) to start from.
        base: A scikit-learn regressor whose fit takes sample_weight.
        rounds: The most rounds.

    Returns:
        The hypotheses, and their votes ln(1 / beta_t).
    """
    weights = weights / weights.sum()
    hypotheses: list[Any] = []
    votes: list[float] = []
    for _ in range(rounds):
        hypothesis = learn(base, x, y, weights)
        errors = adjusted_errors(hypothesis.predict(x), y)
        error = float(weights @ errors)
        if error >= 0.5 and hypotheses:
            break
        hypotheses.append(hypothesis)
        votes.append(log_odds(error) if error < 0.5 else 1.0)
        if error >= 0.5 or error == 0:
            break
        target = weights[n:] * np.exp(-votes[-1] * (1 - errors[n:]))
        weights = np.concatenate([weights[:n], target * (weights[n:].sum() / target.sum())])
    return hypotheses, np.array(votes)


def adjusted_errors(predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|y_i - h(x_i)| / max_j |y_j - h(x_j)| (n,), in [0, 1]; all 0 if every prediction is exact."""
    residuals = np.abs(predictions - y)
    return residuals / residuals.max() if residuals.max() > 0 else residuals


def towards_target(weights: np.ndarray, errors: np.ndarray, n: int, share: float) -> np.ndarray:
    """Move weight from the source's rows to the target's.

    The first n weights are multiplied by beta^e_i, with the beta in [0, 1] that gives the target
    its share.

    Args:
        weights: Weights (n + m,), the source's first.
        errors: Adjusted errors e (n + m,), in [0, 1].
        n: The number of source rows.
        share: The target's share of the sum afterwards, in (0, 1].

    Returns:
        Weights (n + m,) of sum 1.
    """
    source, target = weights[:n], weights[n:]
    goal = target.sum() * (1 - share) / share  # the source's sum, if the target's stays
    met = errors[:n] <= EXACT
    exact = source[met].sum()
    if goal <= exact or exact == source.sum():  # beta = 0 is not enough
        source = np.where(met, source, 0) * (goal / exact if exact > 0 else 0)
    elif goal < source.sum():
        source = source * np.exp(_log_beta(source, errors[:n], goal) * errors[:n])
    weights = np.concatenate([source, target])
    return weights / weights.sum()


def _log_beta(source: np.ndarray, errors: np.ndarray, goal: float) -> float:
    """The logarithm of the beta with sum_i source_i beta^errors_i = goal."""

    def excess(log_beta: float) -> float:
        return float(source @ np.exp(log_beta * errors)) - goal

    low = -1.0
    while excess(low) > 0:
        low *= 2
    return brentq(excess, low, 0.0)


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted median of each column.

    Args:
        values: Numbers (t, k).
        weights: The weight (t,) of each row, >= 0.

    Returns:
        For each column the least value (k,) up to which half of the weight is gathered.
    """
    order = np.argsort(values, axis=0, kind="stable")
    gathered = np.cumsum(weights[order], axis=0)  # (t, k)
    first = (gathered >= gathered[-1] / 2 * (1 - 1e-12)).argmax(axis=0)
    place = np.take_along_axis(order, first[None], axis=0)
    return np.take_along_axis(values, place, axis=0)[0]
