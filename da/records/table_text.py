"""A `Table` as text: aligned for a terminal, in Markdown, or as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence

from da.records.difference import Difference
from da.records.grids import aligned, piped
from da.records.table import AVERAGE, Table

MISSING = "-"
CSV_COLUMNS = (
    *("experiment", "select", "metric", "method", "task", "seeds", "mean", "std"),
    *("baseline", "difference", "low", "high"),
)
Grid = Callable[[Sequence[Sequence[str]]], str]
Gains = Mapping[tuple[str, str], Difference]


def to_text(table: Table) -> str:
    """The table for a terminal, in aligned columns."""
    return _written(table, aligned)


def to_markdown(table: Table) -> str:
    """The table in Markdown."""
    return _written(table, piped)


def to_csv(table: Table) -> str:
    """One line a cell, unrounded, in the unit that is shown.

    A line holds the number of seeds, mean and standard deviation, and the difference to the
    baseline with its interval.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for method in table.rows:
        for task in table.columns:
            gain = table.difference(method, task) if method != table.baseline else None
            numbers = (gain.mean, gain.low, gain.high) if gain else (None, None, None)
            count = len(table.values(method, task))
            cell = (count, table.mean(method, task), table.deviation(method, task))
            names = (table.experiment, table.select, table.metric.name, method, task)
            writer.writerow([*names, *cell, table.baseline, *numbers])
    return text.getvalue()


def _written(table: Table, grid: Grid) -> str:
    gains = table.differences()
    parts = [f"{title}\n\n{grid(cells)}" for title, cells in _parts(table, gains)]
    return "\n\n".join([*parts, *_losses(table, gains), *_tests(gains), *_footer(table)])


def _parts(table: Table, found: Gains) -> list[tuple[str, list[list[str]]]]:
    """Title and grid of the table and, if there is something to compare, of the differences."""
    header = ["method", *table.columns]
    sets = {frozenset(values) for values in table.measured.values()}
    counted = len(sets) > 1  # several sets of seeds: some runs are missing
    grid = [header]
    for method in table.rows:
        grid.append([method, *(_cell(table, method, task, counted) for task in table.columns)])
    title = f"{table.experiment}: {table.metric.title}, model selected by {table.select!r}"
    title += " (reads target labels: an upper bound)" if table.select == "oracle" else ""
    title += f"; {_over_seeds(table.seeds, alike=not counted)}."
    others = [method for method in table.rows if method != table.baseline]
    if table.baseline not in table.rows:
        return [(f"{title} No row of the baseline {table.baseline!r} to compare with.", grid)]
    if not others:
        return [(title, grid)]
    gains = [header]
    for method in others:
        differences = (found.get((method, task)) for task in table.columns)
        gains.append([method, *(_gain(table, difference) for difference in differences)])
    unit = " in percentage points" if table.metric.percent else ""
    words = f"Difference to {table.baseline!r}{unit}, paired by seed, with its 95 % t-interval."
    return [(title, grid), (words, gains)]


def _losses(table: Table, gains: Gains) -> list[str]:
    """What became worse than the baseline, in a sentence; none if there is nothing to compare."""
    found = {cell: gain for cell, gain in gains.items() if cell[1] != AVERAGE}
    if not found:
        return []
    smaller = table.metric.smaller_is_better
    worse = {cell: gain for cell, gain in found.items() if gain.worse(smaller_is_better=smaller)}
    certain = [f"{method} on {task}" for (method, task), gain in worse.items() if gain.certain]
    said = f"Negative transfer, significantly worse than {table.baseline!r}: "
    said += f"{', '.join(certain) or 'none'}."
    if rest := len(worse) - len(certain):
        said += f" {rest} more of {len(found)} are worse, not significantly or by one seed alone."
    return [said]


def _tests(gains: Gains) -> list[str]:
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


def _footer(table: Table) -> list[str]:
    """What a reader must know of the runs."""
    lines = []
    if table.lacking:
        lines.append(
            f"{table.lacking} runs were recorded before {table.metric.name} was: they have no cell."
        )
    dirty, runs = table.uncommitted
    if dirty:
        lines.append(f"{dirty} of {runs} runs come from code that is in no commit.")
    return [" ".join(lines)] if lines else []


def _cell(table: Table, method: str, task: str, counted: bool) -> str:
    mean, deviation = table.mean(method, task), table.deviation(method, task)
    if mean is None:
        return MISSING
    digits = table.metric.decimals
    text = f"{mean:.{digits}f}"
    if deviation is not None:
        text += f" ± {deviation:.{digits}f}"
    return f"{text} ({len(table.values(method, task))})" if counted else text


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
