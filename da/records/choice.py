"""What a choice by a score costs: its regret, its rank correlation, and the row that it would keep.

    regret = figure of the oracle's trial and step less figure of the chosen ones

The oracle reads target labels, so a regret can only be known where labels exist.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from da.records.budgets import trials_by_seed
from da.records.table import Table
from da.records.trials import ORACLE, chosen, score_value

BASELINES = ("none", "adabn")  # rows that adapt nothing, or batch statistics alone
FEWEST = 3  # candidates that a rank correlation needs
# Rows whose loss raises a score, or nearly so: there the score is high for its own sake.
_CONFUSION = ("bnm", "cdan_mcc", "cdan_mcc_sdat", "mcc")
_LABELS = ("adamatch", "atdoc", "fixmatch", "mic", "pseudo_labels")
FAVOURED = {
    "information_maximisation": (*_CONFUSION, "entropy", "shot"),
    "entropy": (*_CONFUSION, *_LABELS, "entropy", "shot", "tent"),
    "nuclear_norm": (*_CONFUSION, "daln"),
    "mano": (*_CONFUSION, *_LABELS, "entropy", "shot", "tent"),
}


class Candidate(NamedTuple):
    """A trial at the step that a score picked.

    Attributes:
        method: Its row.
        task: Its task.
        seed: Its seed.
        score: The value of the score; minus infinity if it was not finite.
        figure: Its figure as the table shows it; the sign of an error is changed.
    """

    method: str
    task: str
    seed: int
    score: float
    figure: float


class RowChoice(NamedTuple):
    """The row that a score would choose on one task.

    Attributes:
        task: The task.
        row: The row with the highest mean score over seeds.
        figure: Its mean.
        best: The row with the best mean.
        best_figure: The mean of that row.
        loss: By how much the chosen row is worse, never negative.
        kept: Whether the chosen row is a baseline.
    """

    task: str
    row: str
    figure: float
    best: str
    best_figure: float
    loss: float
    kept: bool


@dataclass(frozen=True)
class Cost:
    """What choosing by one score costs over a whole table.

    Attributes:
        score: Its name.
        chosen: Mean figure of the trials and steps that it chose, over all cells.
        regret: Mean regret to the oracle over all cells; None without an oracle.
        rows: What it would choose on each task.
        correlations: (task, seed) -> rank correlation of score and figure.
    """

    score: str
    chosen: float | None
    regret: float | None
    rows: tuple[RowChoice, ...]
    correlations: dict[tuple[str, int], float]

    @property
    def correlation(self) -> float | None:
        """The mean of the rank correlations; None if there is none."""
        return mean_of(list(self.correlations.values()))


def cost(table: Table, score: str, oracle: Table | None) -> Cost:
    """Measure what choosing by a score costs.

    Args:
        table: A table that was made from runs, whatever its own rule of selection.
        score: A score that all runs have.
        oracle: The same by target labels; None if the runs have no such choice.
    """
    by_score = table.by_rule(score)
    found = candidates(table, score)
    regrets = [value for row in table.rows for value in regrets_of(by_score, oracle, row).values()]
    means = [by_score.mean(row, task) for row in table.rows for task in table.tasks]
    return Cost(
        score,
        mean_of([mean for mean in means if mean is not None]),
        mean_of(regrets),
        row_choices(by_score, score),
        correlations(found),
    )


def regrets_of(by_score: Table, oracle: Table | None, row: str) -> dict[tuple[str, int], float]:
    """(task, seed) -> by how much the choice is worse than the oracle's, in the unit shown.

    Args:
        by_score: A table whose trials and steps a score chose.
        oracle: The same by target labels; None has no regrets.
        row: The row.
    """
    if oracle is None:
        return {}
    best, own = oracle.pairs(row), by_score.pairs(row)
    sign = -1 if by_score.metric.smaller_is_better else 1
    return {key: sign * (best[key] - own[key]) for key in own.keys() & best.keys()}


def by_oracle(table: Table) -> Table | None:
    """A table's runs by target labels; None if not all runs have such a choice."""
    return table.by_rule(ORACLE) if table.has_rule(ORACLE) else None


def candidates(table: Table, score: str) -> list[Candidate]:
    """Every trial of a table with its score and its figure, at the step that the score picked.

    Row `oracle` is left out, because nobody who chooses has it.
    """
    sign = -1 if table.metric.smaller_is_better else 1
    found, contenders = [], table.contenders
    for (method, task), runs in table.runs.items():
        for run in runs if method in contenders else ():
            figure, value = table.metric.read(run, score), score_value(run, score)
            if figure is None or value is None:
                continue
            shown = sign * table.metric.factor * figure
            found.append(Candidate(method, task, run.result["seed"], _ranked(value), shown))
    return found


def correlations(found: Sequence[Candidate]) -> dict[tuple[str, int], float]:
    """Rank correlation (Spearman) of score and figure among the candidates of a task and seed.

    Args:
        found: Candidates of any tasks and seeds.

    Returns:
        (task, seed) -> correlation, 1 if the score puts all candidates in the order of the figure.
        Fewer than three candidates, or equal ones alone, have none.
    """
    groups: dict[tuple[str, int], list[Candidate]] = {}
    for each in found:
        groups.setdefault((each.task, each.seed), []).append(each)
    pairs = {
        key: rank_correlation([c.score for c in own], [c.figure for c in own])
        for key, own in groups.items()
    }
    return {key: value for key, value in pairs.items() if value is not None}


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None for fewer than three pairs, or if all of one are equal.

    Example:
        >>> from da.records.choice import rank_correlation
        >>> rank_correlation([1, 2, 3], [0.1, 0.7, 0.9])
        1.0
    """
    if len(first) < FEWEST or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    from scipy.stats import spearmanr  # half a second of import, which reading does without

    return round(float(spearmanr(first, second).statistic), 12)


def row_choices(by_score: Table, score: str) -> tuple[RowChoice, ...]:
    """Which row a score would choose on each task, by its mean over seeds.

    Args:
        by_score: A table whose trials and steps the score chose.
        score: The score.

    Returns:
        A choice for each task where at least two rows have a figure and a score.
    """
    sign = -1 if by_score.metric.smaller_is_better else 1
    kept = {*BASELINES, by_score.baseline}
    scores = mean_scores(by_score, score)
    found = []
    for task in by_score.tasks:
        means = {m: v for m in by_score.contenders if (v := by_score.mean(m, task)) is not None}
        row = highest({m: scores[m, task] for m in means if (m, task) in scores})
        if row is None:
            continue
        best = max(means, key=lambda method: sign * means[method])
        loss = sign * (means[best] - means[row])
        found.append(RowChoice(task, row, means[row], best, means[best], loss, row in kept))
    return tuple(found)


def mean_scores(table: Table, score: str) -> dict[tuple[str, str], float]:
    """(method, task) -> mean over seeds of a score, of the trials that the table's rule takes.

    The score is read at the step that it picks itself.

    Args:
        table: The table.
        score: The score. A cell is left out if one of its runs has no value.
    """
    found = {}
    for cell, runs in table.runs.items():
        taken = [chosen(own, table.select, table.metric) for own in trials_by_seed(runs).values()]
        values = [score_value(run, score) for run in taken if run is not None]
        known = [_ranked(value) for value in values if value is not None]
        if known and len(known) == len(taken):
            found[cell] = float(np.mean(known))
    return found


def highest(scores: Mapping[str, float]) -> str | None:
    """The row with the highest score, of equal ones the first; None if there is no choice."""
    return max(scores, key=scores.__getitem__) if len(scores) > 1 else None


def favoured(score: str, rows: Sequence[str]) -> list[str]:
    """The rows that are trained to raise a score, or nearly so."""
    return [row for row in rows if row in FAVOURED.get(score, ())]


def mean_of(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return float(np.mean(values)) if len(values) else None


def _ranked(value: float) -> float:
    """A score that is not finite is worse than every other."""
    return value if math.isfinite(value) else -math.inf
