"""Several configurations of one method on one task with one seed are its trials; a rule takes one.

A label-free score takes the trial whose score is highest at the step that the score picks within
the trial. "oracle" does the same by the figure of the table, which reads target labels. "last" has
nothing to choose by: it takes the row's own recipe, unless that has paused before its last step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from da.records.cells import Metric, differing_settings, selection_of
from da.records.paused import paused_step
from da.records.record import Record

LAST, ORACLE = "last", "oracle"
DEFAULT_SCORE = "information_maximisation"  # wherever no other score is named


def scores_of(runs: Sequence[Record]) -> tuple[str, ...]:
    """The scores by which every one of the runs has chosen a step, by name.

    Args:
        runs: Finished runs.

    Returns:
        The names of their selections but "last" and "oracle".

    Example:
        >>> from da.records.trials import scores_of
        >>> scores_of([])
        ()
    """
    common = [set(run.result.get("selected", {})) for run in runs]
    return tuple(sorted(set.intersection(*common) - {LAST, ORACLE})) if common else ()


def rule_of(run: Record, select: str) -> str:
    """The rule by which the figure of a run is read.

    A run that has nothing but its end, as those of shallow methods, has that under every rule.

    Args:
        run: A finished run.
        select: The rule that is asked for.
    """
    return LAST if set(run.result.get("selected", {})) == {LAST} else select


def score_value(run: Record, score: str) -> float | None:
    """The value of a score at the step that the score picked.

    Args:
        run: A finished run with a selection by the score.
        score: The name of the score.

    Returns:
        The value from the result, or from the metrics of that step if the result has none; NaN if
        it was not finite; None if neither has it.
    """
    selection = run.result["selected"][score]
    if score in selection:
        return math.nan if selection[score] is None else float(selection[score])
    at_step = [line for line in run.metrics() if line["step"] == selection["step"]]
    values = [line[score] for line in at_step if score in line]
    return values[-1] if values else None


def chosen(trials: Sequence[Record], select: str, metric: Metric) -> Record | None:
    """The trial that a rule takes, of the trials of one method, task and seed.

    Args:
        trials: At least one. Of equal trials the first counts.
        select: The rule: "last", "oracle" or the name of a score.
        metric: The figure of the table, which "oracle" chooses by.

    Returns:
        The trial; None if the rule is "last" and no trial has the row's own recipe, or the one that
        has it has paused.

    Raises:
        ValueError: A trial lacks what the rule chooses by; the message names its folder.
    """
    if len(trials) == 1:
        return trials[0]
    if select == LAST:
        return own_recipe(trials)
    sign = -1.0 if select == ORACLE and metric.smaller_is_better else 1.0
    values = [sign * _judged(run, select, metric) for run in trials]
    # A trial without a finite value is the last resort.
    ranked = [value if math.isfinite(value) else -math.inf for value in values]
    return trials[ranked.index(max(ranked))]


def own_recipe(trials: Sequence[Record]) -> Record | None:
    """The trial whose settings have their defaults wherever the trials differ.

    None if there is none, or if it has paused before its last step.
    """
    varying = varying_settings(trials)
    for run in trials:
        if all(key not in run.config or key in (run.defaults or ()) for key in varying):
            return run if paused_step(run.result) is None else None
    return None


def own_recipes(runs: Sequence[Record]) -> list[Record]:
    """Of the trials of every method, task and seed the one with the row's own recipe, if any.

    Example:
        >>> from da.records.trials import own_recipes
        >>> own_recipes([])
        []
    """
    trials: dict[tuple[Any, ...], list[Record]] = {}
    for run in runs:
        trials.setdefault((run.result["method"], run.task, run.result["seed"]), []).append(run)
    return [own for own in map(own_recipe, trials.values()) if own is not None]


def varying_settings(runs: Sequence[Record]) -> tuple[str, ...]:
    """The settings in which at least one run differs from the first, by name.

    Example:
        >>> from da.records.trials import varying_settings
        >>> varying_settings([])
        ()
    """
    return tuple(sorted({key for run in runs[1:] for key in differing_settings(runs[0], run)}))


def named_parts(runs: Sequence[Record], settings: Sequence[str]) -> tuple[str, ...]:
    """The settings, and of those that hold several options ("row") the ones that vary.

    Args:
        runs: The runs.
        settings: Names of settings in which the runs differ.

    Returns:
        The names; an option of a setting as "row.hidden".
    """
    names: list[str] = []
    for key in settings:
        held = [run.config[key] for run in runs if key in run.config]
        if not all(isinstance(value, Mapping) for value in held):
            names.append(key)
            continue
        options = sorted({option for value in held for option in value})
        absent = object()
        for option in options:
            found = [value.get(option, absent) for value in held]
            if any(value != found[0] for value in found) or len(held) < len(runs):
                names.append(f"{key}.{option}")
    return tuple(names)


def check_distinct(cell: tuple[str, str], trials: Sequence[Record]) -> None:
    """Raise a ValueError if two trials of one seed have one configuration.

    Args:
        cell: Method and task.
        trials: The trials of one seed.
    """
    for first, second in combinations(trials, 2):
        if not differing_settings(first, second):
            raise ValueError(
                f"two runs of {cell[0]} on {cell[1]} differ in nothing but their folders: "
                f"{first.directory} and {second.directory}; move one away"
            )


def _judged(run: Record, select: str, metric: Metric) -> float:
    if select == ORACLE:
        value = metric.read(run, select)
    else:
        selection_of(run, select)
        value = score_value(run, select)
    if value is None:
        what = metric.name if select == ORACLE else f"value of {select!r} at the step it chose"
        raise ValueError(f"{run.directory} has no {what}, so no trial can be chosen by it")
    return value
