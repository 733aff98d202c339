"""One estimate of accuracy from several, and an interval from the errors of earlier estimates.

The interval of a single estimator is that of sampling error. Under shift its assumption fails, and
then the interval is far too narrow. Two things widen it: the disagreement of estimators with
different assumptions, and their errors on earlier tasks whose target labels were known.

    estimates = {
        "transport": confidence_optimal_transport(source_labels, target_logits),
        "seeds": generalised_disagreement(target_logits_of_seeds),
        "methods": ensemble_accuracy(target_logits, logits_of_other_methods, judge="members"),
    }
    estimate = combined_estimate(estimates)
    estimate = calibrated_interval(estimate, earlier_estimates, earlier_accuracies)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from da.arrays.arguments import checked
from da.select.accuracy import AccuracyEstimate, check_level

WIDEST = 0.2  # a range of estimates from which on their median is not called reliable


@checked
def combined_estimate(estimates: Mapping[str, AccuracyEstimate]) -> AccuracyEstimate:
    """Combine estimates of one accuracy: their median, in an interval that holds all of theirs.

    Combine estimators with different assumptions, such as `confidence_optimal_transport`,
    `generalised_disagreement` and `ensemble_accuracy` with the judge "members". Estimates that are
    not reliable are left out, unless none is reliable.

        median of the estimates,  from the least low end to the largest high end

    Args:
        estimates: The estimates by the name of their estimator, one or more.

    Returns:
        The estimate. Its interval has no level: it says what the estimators leave open. Give it
        one by `calibrated_interval`. It is not reliable if no estimate is, or if the estimates
        differ by more than 0.2.

    Raises:
        TypeError: A value is no AccuracyEstimate.
        ValueError: There are no estimates.

    Example:
        >>> from da.select import AccuracyEstimate, combined_estimate
        >>> estimates = {
        ...     "confidence": AccuracyEstimate(0.9, 0.85, 0.95, True, ""),
        ...     "agreement": AccuracyEstimate(0.8, 0.75, 0.85, True, ""),
        ...     "label shift": AccuracyEstimate(0.2, 0.0, 1.0, False, "singular"),
        ... }
        >>> print(combined_estimate(estimates))
        85.0 % [75.0, 95.0]
    """
    if not estimates:
        raise ValueError("estimates must hold one or more estimates; got none")
    for name, one in estimates.items():
        if not isinstance(one, AccuracyEstimate):
            raise TypeError(f"estimates must hold AccuracyEstimate; got {one!r} as {name!r}")
    usable = {name: one for name, one in estimates.items() if one.reliable}
    doubts = [] if usable else [f"{name}: {one.reason}" for name, one in estimates.items()]
    used = usable or estimates
    values = {name: one.accuracy for name, one in used.items()}
    least, most = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    if values[most] - values[least] > WIDEST:
        doubts.append(
            f"the estimators disagree: {least} says {100 * values[least]:.1f} %, "
            f"{most} {100 * values[most]:.1f} %"
        )
    low, high = min(one.low for one in used.values()), max(one.high for one in used.values())
    middle = float(np.median(list(values.values())))
    return AccuracyEstimate(middle, low, high, not doubts, "; ".join(doubts))


@checked
def calibrated_interval(
    estimate: AccuracyEstimate,
    earlier_estimates: Sequence[AccuracyEstimate],
    earlier_accuracies: Sequence[float] | np.ndarray,
    *,
    level: float = 0.9,
) -> AccuracyEstimate:
    """Give an estimate an interval that would have held often enough for earlier estimates.

    The earlier estimates were made by the same estimator on tasks with target labels. Both ends of
    the interval are moved by one length: the least one by which the earlier intervals would have
    held the share `level` of the true accuracies. If the new task is like one drawn from the
    earlier ones, the interval holds the truth with a probability of at least `level`.

        s_i = max(low_i - truth_i, truth_i - high_i)
        [low - q, high + q]        q the ceil((m + 1) level)-th smallest of the m values s_i

    Estimates on one target have errors in common. So m should count tasks, not only methods.

    Args:
        estimate: The new estimate.
        earlier_estimates: m earlier estimates with their intervals.
        earlier_accuracies: The true accuracies (m,) of the same models, fractions in [0, 1].
        level: The level of the interval, in (0, 1). Default 0.9.

    Returns:
        The estimate with the new interval, which is cut to [0, 1] and contains the estimate. If m
        is too small for the level, it is [0, 1] and not reliable: m must be at least
        level / (1 - level), which is 9 for 0.9.

    Raises:
        ValueError: The lengths differ, an accuracy is not in [0, 1], or `level` is out of range.

    Example:
        Of nine earlier intervals the worst missed the truth by 0.1:

        >>> from da.select import AccuracyEstimate, calibrated_interval
        >>> earlier = [AccuracyEstimate(0.8, 0.75, 0.85, True, "")] * 9
        >>> truths = [0.8] * 8 + [0.65]
        >>> estimate = AccuracyEstimate(0.7, 0.6, 0.75, True, "")
        >>> print(calibrated_interval(estimate, earlier, truths))
        70.0 % [50.0, 85.0]

    Paper:
        Romano, Patterson, Candes: Conformalized Quantile Regression. NeurIPS 2019.

    Differences:
        The ends are those of the estimator, not quantiles of a regression.
    """
    check_level(level)
    truths = np.asarray(earlier_accuracies, dtype=float)
    m = len(earlier_estimates)
    if truths.shape != (m,):
        raise ValueError(
            f"earlier_accuracies must hold one accuracy an earlier estimate, {m}; "
            f"got shape {truths.shape}"
        )
    if not bool(((truths >= 0) & (truths <= 1)).all()):
        raise ValueError(f"earlier_accuracies must be fractions in [0, 1]; got {truths.tolist()}")
    rank = math.ceil((m + 1) * level - 1e-9)
    if rank > m:
        few = f"{m} earlier estimates are too few for the level {level}"
        reason = "; ".join(filter(None, (estimate.reason, few)))
        return AccuracyEstimate(estimate.accuracy, 0.0, 1.0, False, reason)
    lows = np.array([one.low for one in earlier_estimates])
    highs = np.array([one.high for one in earlier_estimates])
    misses = np.maximum(lows - truths, truths - highs)  # (m,); negative if the interval holds
    length = float(np.sort(misses)[rank - 1])
    low = min(max(estimate.low - length, 0.0), estimate.accuracy)
    high = max(min(estimate.high + length, 1.0), estimate.accuracy)
    return AccuracyEstimate(estimate.accuracy, low, high, estimate.reliable, estimate.reason)
