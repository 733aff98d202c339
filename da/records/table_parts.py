"""The parts of a table in words and grids, before they are set in a format.

A part is a sentence, or a `Block`: a title with a grid below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from da.records.best import Marks, marks
from da.records.budgets import budgets_of, trials_by_seed, unequal, words
from da.records.difference import Difference
from da.records.grids import Best
from da.records.paused import paused_step
from da.records.published import Published
from da.records.record import Record
from da.records.table import AVERAGE, Table
from da.records.trials import LAST, ORACLE, chosen, named_parts, varying_settings

MISSING = "-"
Gains = Mapping[tuple[str, str], Difference]


@dataclass(frozen=True)
class Style:
    """How a format names rows, and what its mark of the best cells looks like.

    Attributes:
        name: A row -> what the format calls it.
        legend: The mark, in a word.
    """

    name: Callable[[str], str]
    legend: str


class Block(NamedTuple):
    """A grid with its title; the first line of the grid is its heading."""

    title: str
    grid: list[list[str]]


Part = Block | str


def measured(table: Table, style: Style) -> list[Part]:
    """The table itself, what its marks mean, and the values of papers."""
    found = Marks(frozenset()) if table.unlabelled else marks(table)
    counted = len({frozenset(values) for values in table.measured.values()}) > 1
    grid = [["method", *table.columns]]
    for row in table.rows:
        cells = [_cell(table, row, column, counted) for column in table.columns]
        best = [(row, column) in found.cells for column in table.columns]
        shown = [Best(text) if mark else text for text, mark in zip(cells, best, strict=True)]
        grid.append([style.name(row), *shown])
    parts: list[Part] = [Block(_title(table, style, counted), grid)]
    if table.published:
        parts.append(_published(table))
    if table.unlabelled:
        parts.append(
            "There are no target labels: the table shows a score in place of accuracy, and there "
            "is no oracle. A higher score is better, as far as scores of different rows compare."
        )
    if found.cells:
        parts.append(_legend(table, style, found))
    return parts


def compared(table: Table, style: Style) -> list[Part]:
    """The differences to the baseline and their tests; none if there is nothing to compare."""
    others = [row for row in table.rows if row != table.baseline]
    if table.baseline not in table.rows or not others or table.unlabelled:
        return []
    gains = table.differences()
    grid = [["method", *table.columns]]
    for row in others:
        grid.append(
            [style.name(row), *(_gain(table, gains.get((row, task))) for task in table.columns)]
        )
    unit = " in percentage points" if table.metric.percent else ""
    title = f"Difference to {style.name(table.baseline)!r}{unit}, paired by seed, with its 95 % "
    return [Block(f"{title}t-interval.", grid), *_losses(table, gains, style), *_tests(gains)]


def footer(table: Table) -> list[Part]:
    """What a reader must know of the runs, in one line."""
    lines = []
    if table.lacking:
        lines.append(
            f"{table.lacking} runs were recorded before {table.metric.name} was: they have no cell."
        )
    lines += _recipes(table)
    trials = [run for runs in table.runs.values() for run in runs]
    if paused := sum(paused_step(run.result) is not None for run in trials):
        lines.append(f"{paused} of {len(trials)} trials have paused before their last step.")
    dirty, runs = table.uncommitted
    if dirty:
        lines.append(f"{dirty} of {runs} runs come from code that is in no commit.")
    return [" ".join(lines)] if lines else []


def column_head(table: Table) -> str:
    """Which mean a column over all tasks has, in words."""
    return f"average over {len(table.tasks)} tasks" if len(table.tasks) > 1 else table.tasks[0]


def number(table: Table, value: float | None, *, sign: bool = False) -> str:
    """A figure in the unit and with the digits of a table."""
    if value is None:
        return MISSING
    return f"{value:{'+' if sign else ''}.{table.metric.decimals}f}"


def _title(table: Table, style: Style, counted: bool) -> str:
    title = f"{table.experiment}: {table.metric.title}, {_rule(table)}"
    title += " (reads target labels: an upper bound)" if table.select == ORACLE else ""
    title += f"; {_over_seeds(table.seeds, alike=not counted)}."
    if table.baseline not in table.rows:
        title += f" No row of the baseline {style.name(table.baseline)!r} to compare with."
    if unequal(table.runs):
        found = [f"{style.name(row)} {words(own)}" for row, own in budgets_of(table.runs).items()]
        title += f" UNEQUAL BUDGETS: {'; '.join(found)}."
    return title


def _rule(table: Table) -> str:
    """By which rule the models are selected, of how many trials and steps."""
    plain = f"model selected by {table.select!r}"
    budgets = [budget for own in budgets_of(table.runs).values() for budget in own]
    if not budgets or (table.select in (LAST, ORACLE) and not table.trials):
        return plain
    if table.trials and table.select == LAST:
        return f"{plain}, which takes each row's own recipe from {words(budgets)}"
    if table.trials:
        return f"trial and step chosen by {table.select!r} from {words(budgets)}"
    return f"{plain} in {words(budgets)}"


def _published(table: Table) -> Block:
    """The values of papers, a row for each method; their average if it is over the same tasks."""
    rows: dict[tuple[str, str], dict[str, Published]] = {}
    for value in table.published:
        rows.setdefault((value.method, value.paper), {})[value.task] = value
    grid = [["method", *table.columns]]
    for (method, paper), found in rows.items():
        cells = {task: value.accuracy for task, value in found.items()}
        if len(cells) == len(table.tasks) > 1:
            mean = sum(map(float, cells.values())) / len(cells)
            digits = max(len(text.partition(".")[2]) for text in cells.values())
            cells[AVERAGE] = f"{mean:.{digits}f}"
        shown = [cells.get(column, MISSING) for column in table.columns]
        grid.append([f"published: {method} ({paper})", *shown])
    protocols = "; ".join(dict.fromkeys(value.protocol for value in table.published))
    return Block(
        f"Published accuracies. They are in no test and no average of ours: {protocols}.", grid
    )


def _legend(table: Table, style: Style, found: Marks) -> str:
    several = len(table.tasks) > 1
    but = f" but {style.name(ORACLE)!r}" if ORACLE in table.rows else ""
    said = f"{style.legend}: the best of a column{but}"
    if not found.tests:
        return f"{said}."
    return (
        f"{said}{f', in {AVERAGE!r} also' if several else ', and'} what is not significantly worse "
        f"(p > 0.05 in the paired t-test over {found.pairs} pairs of "
        f"{'task and seed' if several else 'one seed'}, by Holm's correction for {found.tests} "
        "tests)."
    )


def _losses(table: Table, gains: Gains, style: Style) -> list[Part]:
    """What became worse than the baseline, in a sentence."""
    found = {cell: gain for cell, gain in gains.items() if cell[1] != AVERAGE}
    if not found:
        return []
    smaller = table.metric.smaller_is_better
    worse = {cell: gain for cell, gain in found.items() if gain.worse(smaller_is_better=smaller)}
    certain = [
        f"{style.name(row)} on {task}" for (row, task), gain in worse.items() if gain.certain
    ]
    said = f"Negative transfer, significantly worse than {style.name(table.baseline)!r}: "
    said += f"{', '.join(certain) or 'none'}."
    if rest := len(worse) - len(certain):
        said += f" {rest} more of {len(found)} are worse, not significantly or by one seed alone."
    return [said]


def _tests(gains: Gains) -> list[Part]:
    """How the differences were tested; none if there is no test."""
    lines = []
    if tested := sum(gain.p_value is not None for gain in gains.values()):
        lines.append(
            f"Significant: p <= 0.05 in the paired t-test, by Holm's correction for {tested} tests "
            "in this table. Each interval is that of its difference alone."
        )
    if untested := sum(gain.untested for gain in gains.values()):
        lines.append(
            f"Not tested: {untested} with equal differences for all seeds; an interval of length 0 "
            "says nothing."
        )
    return [" ".join(lines)] if lines else []


def _recipes(table: Table) -> list[str]:
    """Which settings the trials differ in, and whether a row's average is over several recipes."""
    trials: set[str] = set()
    mixed: set[str] = set()
    for row in table.rows:
        taken: list[Record] = []
        for task in table.tasks:
            for runs in trials_by_seed(table.runs.get((row, task), ())).values():
                trials |= set(named_parts(runs, varying_settings(runs)))
                run = chosen(runs, table.select, table.metric)
                taken += [] if run is None else [run]
        mixed |= set(named_parts(taken, varying_settings(taken)))
    lines = []
    if trials:
        lines.append(f"Trials differ in {', '.join(sorted(trials))}.")
    if mixed and trials:
        lines.append("Those taken for a row differ between tasks or seeds: means mix recipes.")
    elif mixed:
        lines.append(f"Tasks of a row differ in {', '.join(sorted(mixed))}: averages mix them.")
    return lines


def _cell(table: Table, row: str, column: str, counted: bool) -> str:
    mean, deviation = table.mean(row, column), table.deviation(row, column)
    if mean is None:
        return MISSING
    text = number(table, mean)
    if deviation is not None:
        text += f" ± {number(table, deviation)}"
    return f"{text} ({len(table.values(row, column))})" if counted else text


def _gain(table: Table, gain: Difference | None) -> str:
    if gain is None:
        return MISSING
    metric = table.metric
    return gain.text(decimals=metric.decimals, smaller_is_better=metric.smaller_is_better)


def _over_seeds(seeds: Sequence[int], *, alike: bool) -> str:
    listed = ", ".join(map(str, seeds))
    if not alike:
        return (
            f"mean ± standard deviation over DIFFERENT seeds of {listed}, "
            "their number in parentheses"
        )
    if len(seeds) == 1:
        return f"one seed ({listed})"
    return f"mean ± standard deviation over {len(seeds)} seeds ({listed})"
