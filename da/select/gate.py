"""Choose among candidates by a score, once those that fail on the source are left out."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

from da.arrays.arguments import checked

Name = TypeVar("Name", bound=Hashable)

TOLERANCE = 0.05  # nats


@checked
def within_gate(source_risks: Mapping[Name, float], *, tolerance: float = TOLERANCE) -> list[Name]:
    """List the candidates that are about as good on the source as the best of them.

    A label-free score can be fooled by a network that has forgotten its task. Such a network is
    worse on held-out source rows too.

    Args:
        source_risks: Minus the cross-entropy on held-out source rows by candidate, from
            `source_risk`: higher is better.
        tolerance: How much worse than the best is allowed, in nats, finite, >= 0. Default 0.05.

    Returns:
        The candidates within the tolerance, in their order; at least one.

    Raises:
        ValueError: There is no candidate, a risk is not finite, or the tolerance is negative.

    Example:
        >>> from da.select import within_gate
        >>> within_gate({"a": -0.10, "b": -0.12, "c": -0.90})
        ['a', 'b']
    """
    _check("source_risks", source_risks)
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0; got {tolerance}")
    least = max(source_risks.values()) - tolerance
    return [name for name, risk in source_risks.items() if risk >= least]


@checked
def best_candidate(
    scores: Mapping[Name, float],
    source_risks: Mapping[Name, float] | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> Name:
    """Choose the candidate with the highest score among those that pass the gate of the source.

    Open-set and partial-set targets: the gate holds as well as otherwise. Whether the score does,
    its own function says.

    Args:
        scores: A score by candidate; higher is better.
        source_risks: Minus the cross-entropy on held-out source rows of the same candidates, from
            `source_risk`: higher is better. Default None: no gate.
        tolerance: How much worse than the best is allowed, in nats, finite, >= 0. Default 0.05.

    Returns:
        The name of the candidate; of equal scores the first.

    Raises:
        ValueError: There is no candidate, a value is not finite, the two mappings name different
            candidates, or the tolerance is negative.

    Example:
        >>> from da.select import best_candidate
        >>> scores = {"a": 1.0, "b": 1.1, "c": 2.0}
        >>> best_candidate(scores), best_candidate(scores, {"a": -0.10, "b": -0.12, "c": -0.90})
        ('c', 'b')
    """
    _check("scores", scores)
    if source_risks is None:
        return max(scores, key=scores.__getitem__)
    if scores.keys() != source_risks.keys():
        different = sorted(map(str, scores.keys() ^ source_risks.keys()))
        raise ValueError(
            "scores and source_risks must name the same candidates; only one of them has "
            f"{', '.join(different[:5])}"
        )
    kept = set(within_gate(source_risks, tolerance=tolerance))
    return max((name for name in scores if name in kept), key=scores.__getitem__)


def _check(name: str, values: Mapping[Name, float]) -> None:
    """Raise a ValueError unless there are values, all finite."""
    if not values:
        raise ValueError(f"{name} must name at least one candidate; got none")
    broken = [candidate for candidate, value in values.items() if not math.isfinite(value)]
    if broken:
        raise ValueError(f"{name} must be finite; got {values[broken[0]]} for {broken[0]!r}")
