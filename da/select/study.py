"""What a label-free choice costs, over many tasks: regret, worst task, and rank correlation.

    regret of a group = figure of its best candidate less figure of the chosen one

Only this measurement reads target labels; no rule does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from da.select.candidates import CHOICES, Candidate, Rule, groups


@dataclass(frozen=True)
class Cost:
    """What one rule costs in one kind of choice.

    Attributes:
        rule: Its name.
        choice: "trial", "method" or "both"; see `da.select.candidates.groups`.
        regret: Mean over the groups, in percentage points.
        worst: The largest mean regret of a task.
        worst_task: That task.
        correlation: Mean rank correlation (Spearman) of value and figure; NaN if no group has one.
        groups: How many groups.
    """

    rule: str
    choice: str
    regret: float
    worst: float
    worst_task: str
    correlation: float
    groups: int


def cost(
    name: str, rule: Rule, candidates: Sequence[Candidate], choice: str, tasks: Iterable[str]
) -> Cost:
    """Measure one rule in one kind of choice on some tasks.

    Args:
        name: The rule's name.
        rule: A group of candidates -> one value each; the highest is taken, the first of equals.
        candidates: All candidates.
        choice: "trial", "method" or "both".
        tasks: The tasks that count.

    Returns:
        The cost.

    Raises:
        ValueError: There is no group of two or more candidates on these tasks.
    """
    wanted = set(tasks)
    regrets: dict[str, list[float]] = {}
    correlations = []
    for task, group in _groups_on(wanted, candidates, choice):
        values = np.asarray(rule(group))
        figures = np.array([candidate.figure for candidate in group])
        regrets.setdefault(task, []).append(float(figures.max() - figures[values.argmax()]))
        if len(group) > 2 and np.ptp(values) > 0 and np.ptp(figures) > 0:
            from scipy.stats import spearmanr

            correlations.append(float(spearmanr(values, figures).statistic))
    if not regrets:
        raise ValueError(
            f"no task of {', '.join(sorted(wanted))} has two candidates to choose from"
        )
    return _over_tasks(name, choice, regrets, correlations)


def costs(
    rules: Mapping[str, Rule], candidates: Sequence[Candidate], tasks: Iterable[str]
) -> list[Cost]:
    """Measure every rule in every kind of choice; the least regret over all comes first.

    The last three are those of chance.
    """
    counted = tuple(tasks)
    found = [
        cost(name, rule, candidates, choice, counted)
        for name, rule in rules.items()
        for choice in CHOICES
    ]
    total: dict[str, float] = {}
    for each in found:
        total[each.rule] = total.get(each.rule, 0.0) + each.regret
    found.sort(key=lambda each: (total[each.rule], each.rule))
    return found + [by_chance(candidates, choice, counted) for choice in CHOICES]


def by_chance(candidates: Sequence[Candidate], choice: str, tasks: Iterable[str]) -> Cost:
    """What it costs to take any candidate of a group with equal chances: the mean over all of them.

    Args:
        candidates: All candidates.
        choice: "trial", "method" or "both".
        tasks: The tasks that count.
    """
    regrets: dict[str, list[float]] = {}
    for task, group in _groups_on(set(tasks), candidates, choice):
        figures = [candidate.figure for candidate in group]
        regrets.setdefault(task, []).append(max(figures) - float(np.mean(figures)))
    return _over_tasks("any, by chance", choice, regrets, [])


def _groups_on(
    tasks: set[str], candidates: Sequence[Candidate], choice: str
) -> Iterator[tuple[str, list[Candidate]]]:
    """(task, group) of these tasks; a single candidate leaves nothing to choose."""
    for (task, *_), group in groups(candidates, choice).items():
        if task in tasks and len(group) > 1:
            yield task, group


def _over_tasks(
    name: str, choice: str, regrets: Mapping[str, list[float]], correlations: Sequence[float]
) -> Cost:
    by_task = {task: float(np.mean(found)) for task, found in regrets.items()}
    every = [value for found in regrets.values() for value in found]
    worst = max(by_task, key=lambda task: by_task[task])
    correlation = float(np.mean(correlations)) if correlations else float("nan")
    return Cost(name, choice, float(np.mean(every)), by_task[worst], worst, correlation, len(every))
