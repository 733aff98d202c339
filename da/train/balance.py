"""How large the terms of a loss were beside the task's: says at the end of a run if one was lost.

A trade-off that does not fit the features leaves a method without effect, or the task without.
Neither shows in the accuracy of one run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from da.records.files import read_metrics
from da.records.run import Run

TASK = "loss/task"
VANISHES, DOMINATES = 0.01, 100.0  # of the task loss, on average over a run
CONSTANT = 1e-3  # of a term's largest value, by which it varies at most if only by rounding


def logged(run: Run) -> list[dict[str, float]]:
    """The lines that a run has logged so far, also before an interruption."""
    return read_metrics(run.directory / "metrics.jsonl")


def sizes_beside_the_task(lines: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Compare the terms of a loss, trade-offs included, with the task's over a whole run.

        mean |term| / mean |task| over the logged steps

    A term that has one value at all steps is left out: such a value, as that of `afn`, tells
    nothing of what the term does.

    Args:
        lines: The logged metrics, from which "loss/<name>" are taken.

    Returns:
        The ratio of each other term by its name; nothing if there was no task loss, or if it was 0.

    Example:
        >>> from da.train.balance import sizes_beside_the_task
        >>> sizes_beside_the_task([{"loss/task": 2.0, "loss/align": -0.5}, {"loss/task": 0.0}])
        {'align': 0.5}
    """
    found: dict[str, list[float]] = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith("loss/") and math.isfinite(value):
                found.setdefault(name, []).append(abs(value))
    means = {
        name: sum(values) / len(values)
        for name, values in found.items()
        if len(values) == 1 or name == TASK or max(values) - min(values) > CONSTANT * max(values)
    }
    task = means.pop(TASK, 0.0)
    return {name.removeprefix("loss/"): mean / task for name, mean in means.items() if task > 0}


def imbalance(lines: Iterable[Mapping[str, float]]) -> str:
    """Say which terms were below a hundredth of the task loss, or above a hundred times it.

    Args:
        lines: The logged metrics; see `sizes_beside_the_task`.

    Returns:
        One line; empty if no term is so small or so large.

    Example:
        >>> from da.train.balance import imbalance
        >>> imbalance([{"loss/task": 1.0, "loss/align": 0.0004, "loss/domain": 3.0}])
        'on average align was 0.0004 times the task loss: a larger trade-off lets it count'
        >>> imbalance([{"loss/task": 1.0, "loss/domain": 3.0}])
        ''
    """
    said = []
    for name, size in sizes_beside_the_task(lines).items():
        if size < VANISHES:
            advice = "a larger trade-off lets it count"
        elif size > DOMINATES:
            advice = "a smaller trade-off lets the task count"
        else:
            continue
        factor = f"{size:.1g}" if size < 1 else f"{size:,.0f}"
        said.append(f"{name} was {factor} times the task loss: {advice}")
    return f"on average {'; '.join(said)}" if said else ""
