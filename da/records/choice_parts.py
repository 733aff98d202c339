"""What choosing without target labels costs, in the grids and sentences below a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from da.records.choice import (
    BASELINES,
    Cost,
    RowChoice,
    by_oracle,
    candidates,
    correlations,
    cost,
    favoured,
    highest,
    mean_of,
    mean_scores,
    regrets_of,
)
from da.records.table import Table
from da.records.table_parts import MISSING, Block, Part, Style, column_head, number
from da.records.trials import LAST, ORACLE, scores_of


def of_the_score(table: Table, style: Style) -> list[Part]:
    """Of a table by a score: what the rules reach side by side, the regret, the rank correlation.

    Other tables have nothing here.
    """
    table = scored_rows(table)
    oracle = by_oracle(table)
    if table.select in (LAST, ORACLE) or table.unlabelled or oracle is None:
        return []
    found = cost(table, table.select, oracle)
    return [_side_by_side(table, style, oracle), *_correlation(table, found)]


def of_the_rows(table: Table, style: Style) -> list[Part]:
    """Which row a score would choose; of a table by no score, what each score would give."""
    scored = scored_rows(table)
    if not scored.scores:
        said = "No row has a label-free score, so nothing can be chosen without target labels."
        return [said] if len(table.rows) > 1 else []
    parts = _of_scored_rows(scored, style)
    if without := [style.name(row) for row in table.rows if row not in scored.rows]:
        parts.append(f"Rows without a score, which no score can choose: {', '.join(without)}.")
    return parts


def scored_rows(table: Table) -> Table:
    """The rows of which every run has chosen a step by a score, alone."""
    without = {row for (row, _), runs in table.runs.items() for r in runs if not scores_of([r])}
    kept = tuple(row for row in table.rows if row not in without)
    if kept == table.rows:
        return table
    measured = {cell: own for cell, own in table.measured.items() if cell[0] in kept}
    runs = {cell: own for cell, own in table.runs.items() if cell[0] in kept}
    return replace(table, rows=kept, measured=measured, runs=runs)


def _of_scored_rows(table: Table, style: Style) -> list[Part]:
    """The same of a table in which every run has a score."""
    if table.unlabelled:
        return _unlabelled(table, style)
    oracle = by_oracle(table)
    if table.select not in (LAST, ORACLE):
        found = cost(table, table.select, oracle)
        return [*_guard(table, style, found), *_favours(table, style, [table.select])]
    costs = [cost(table, score, oracle) for score in table.scores]
    return [_summary(table, style, costs), *_favours(table, style, table.scores)]


def _side_by_side(table: Table, style: Style, oracle: Table) -> Block:
    """A line a row: last, chosen, oracle, regret; with trials also their rank correlation."""
    *_, column = table.columns
    last, several = table.by_rule(LAST), len(table.tasks) > 1
    found = candidates(table, table.select)
    head = ["method", "last", "chosen", "oracle", "regret"]
    head += ["regret of the worst task"] * several + ["Spearman over trials"] * table.trials
    grid = [head]
    columns: list[list[float | None]] = []
    for row in table.rows:
        regrets = regrets_of(table, oracle, row)
        by_task = [
            mean_of([v for (t, _), v in regrets.items() if t == task]) for task in table.tasks
        ]
        figures = [rule.mean(row, column) for rule in (last, table, oracle)]
        figures.append(mean_of(list(regrets.values())))
        figures += [max((v for v in by_task if v is not None), default=None)] * several
        within = correlations([each for each in found if each.method == row])
        columns.append([*figures, *[mean_of(list(within.values()))] * table.trials])
        grid.append([style.name(row), *_numbers(table, columns[-1])])
    means = [mean_of([v for v in own if v is not None]) for own in zip(*columns, strict=True)]
    if len(table.rows) > 1:
        grid.append(["mean of rows", *_numbers(table, means)])
    return Block(
        f"Side by side, {column_head(table)}: the last step{_own_recipe(table)}, the choice by "
        f"{table.select!r}, and the oracle's, which reads target labels. Regret: how much the "
        "choice is worse than the oracle's.",
        grid,
    )


def _numbers(table: Table, values: Sequence[float | None]) -> list[str]:
    """Figures in the table's digits; a rank correlation at the end, if there are trials, in two."""
    shown = [number(table, value) for value in values]
    if table.trials:
        shown[-1] = _rank(values[-1])
    return shown


def _own_recipe(table: Table) -> str:
    return " of each row's own recipe" if table.trials else ""


def _correlation(table: Table, found: Cost) -> list[Part]:
    """The rank correlation of score and figure in a sentence."""
    if not found.correlations:
        return []
    values = found.correlations
    (task, seed), lowest = min(values.items(), key=lambda entry: entry[1])
    said = (
        f"Rank correlation (Spearman) of {found.score!r} with {table.metric.name} among "
        f"{_candidates(table)} of a task and seed: {_rank(found.correlation)}"
    )
    if len(values) > 1:
        said += f" in the mean of {len(values)}, lowest {_rank(lowest)} ({task}, seed {seed})"
    return [f"{said}."]


def _candidates(table: Table) -> str:
    return "the rows and trials" if table.trials else "the rows"


def _guard(table: Table, style: Style, found: Cost) -> list[Part]:
    """Which row the score would choose for each task, and what that loses."""
    if not found.rows:
        return []
    kept = _kept_rows(table, style)
    grid = [["task", "row chosen", "its figure", "best row", "its figure", "loss"]]
    grid[0] += [f"keeps {kept}"] if kept else []
    for each in found.rows:
        figures = [style.name(each.row), number(table, each.figure)]
        figures += [style.name(each.best), number(table, each.best_figure)]
        answer = ["yes" if each.kept else "no"] if kept else []
        grid.append([each.task, *figures, number(table, each.loss), *answer])
    title = f"Which row would {found.score!r} choose for a task, by its mean over seeds?"
    said = f"Mean loss of choosing the row: {number(table, _mean_loss(found.rows))}"
    worst = max(found.rows, key=lambda each: each.loss)
    said += f"; largest {number(table, worst.loss)} ({worst.task})."
    if kept:
        said += f" It would keep {kept} on {_count(found.rows)}."
    return [Block(title, grid), said]


def _summary(table: Table, style: Style, costs: Sequence[Cost]) -> Block:
    """A line a score: what it would choose and what that costs."""
    kept = _kept_rows(table, style)
    choice = "trial and step" if table.trials else "step"
    head = ["score", f"{choice} chosen", "regret", "row chosen", "loss"]
    grid = [[*head, *([f"keeps {kept}"] if kept else []), "Spearman"]]
    for each in costs:
        rows = mean_of([choice.figure for choice in each.rows])
        cells = [each.chosen, each.regret, rows, _mean_loss(each.rows)]
        count = [_count(each.rows) if each.rows else MISSING] if kept else []
        shown = [number(table, value) for value in cells]
        grid.append([each.score, *shown, *count, _rank(each.correlation)])
    return Block(
        f"By a score instead of {table.select!r}: mean of all cells at the chosen {choice}, and "
        "its regret (oracle less chosen); mean of the row chosen for each task, and its loss to "
        f"the best row; rank correlation (Spearman) with {table.metric.name} among "
        f"{_candidates(table)} of a task and seed. --select SCORE shows each task.",
        grid,
    )


def _unlabelled(table: Table, style: Style) -> list[Part]:
    """Of runs without target labels: every score of every row, and the rows that they choose."""
    scores = table.scores
    parts: list[Part] = []
    if len(scores) > 1:
        found = {score: mean_scores(table, score) for score in scores}
        grid = [["method", *scores]]
        for row in table.rows:
            own = [[found[s].get((row, task)) for task in table.tasks] for s in scores]
            means = [None if None in v else mean_of([x for x in v if x is not None]) for v in own]
            grid.append([style.name(row), *(_digits(mean, 3) for mean in means)])
        parts.append(Block(f"Every score at its own step, {column_head(table)}.", grid))
    if len(table.rows) > 1:
        grid = [["task", *scores]]
        means_of = [mean_scores(replace(table, select=score), score) for score in scores]
        for task in table.tasks:
            of_task = [{m: v for (m, t), v in own.items() if t == task} for own in means_of]
            rows = [highest({m: own[m] for m in table.rows if m in own}) for own in of_task]
            grid.append([task, *(MISSING if row is None else style.name(row) for row in rows)])
        parts.append(Block("Which row would each score choose for a task?", grid))
    return [*parts, *_favours(table, style, scores)]


def _favours(table: Table, style: Style, scores: Sequence[str]) -> list[Part]:
    """Where the scores of different rows do not compare."""
    raised: dict[str, list[str]] = {}
    for score in scores:
        rows = ", ".join(map(style.name, favoured(score, table.rows)))
        raised.setdefault(rows, []).append(score)
    named = [f"{', '.join(own)} by {rows}" for rows, own in raised.items() if rows]
    if not named or len(table.rows) < 2:
        return []
    return [f"A score is too high in rows whose training raises it: {'; '.join(named)}."]


def _kept_rows(table: Table, style: Style) -> str:
    rows = [row for row in table.rows if row in (*BASELINES, table.baseline)]
    return " or ".join(map(style.name, rows)) if len(rows) < len(table.rows) else ""


def _count(rows: Sequence[RowChoice]) -> str:
    return f"{sum(each.kept for each in rows)} of {len(rows)} tasks"


def _mean_loss(rows: Sequence[RowChoice]) -> float | None:
    return mean_of([each.loss for each in rows])


def _rank(value: float | None) -> str:
    return _digits(value, 2)


def _digits(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"
