"""A `Table` as text: aligned for a terminal, in Markdown, in LaTeX, or as CSV."""

from __future__ import annotations

import csv
import io

from da.records.budgets import budget_of, trials_by_seed, words
from da.records.choice import by_oracle, mean_of, regrets_of
from da.records.choice_parts import of_the_rows, of_the_score
from da.records.display_names import display_name
from da.records.grids import aligned, booktabs, latex, piped
from da.records.table import AVERAGE, Table
from da.records.table_parts import MISSING, Block, Part, Style, compared, footer, measured
from da.records.trials import LAST

__all__ = ["MISSING", "to_csv", "to_latex", "to_markdown", "to_text"]

CSV_COLUMNS = (
    *("experiment", "select", "metric", "method", "task", "seeds", "mean", "std"),
    *("baseline", "difference", "low", "high", "budget", "last", "oracle", "regret"),
)
TERMINAL = Style(name=str, legend="*")  # the rows' own names, because those are typed
PAGE = Style(name=display_name, legend="Bold")


def to_text(table: Table) -> str:
    """The table for a terminal, in aligned columns; a star is at the best cells."""
    parts = _parts(table, TERMINAL)
    return "\n\n".join(
        part if isinstance(part, str) else f"{part.title}\n\n{aligned(part.grid)}" for part in parts
    )


def to_markdown(table: Table) -> str:
    """The table in Markdown, with the names of methods for rows; the best cells are bold."""
    parts = _parts(table, PAGE)
    return "\n\n".join(
        part if isinstance(part, str) else f"{part.title}\n\n{piped(part.grid)}" for part in parts
    )


def to_latex(table: Table) -> str:
    r"""The table in LaTeX, for \usepackage{booktabs}; the best cells are bold.

    Each grid is a table environment with its title as the caption. The sentences stand between
    them as text.
    """
    return "\n\n".join(
        latex(part) if isinstance(part, str) else _environment(part) for part in _parts(table, PAGE)
    )


def to_csv(table: Table) -> str:
    """One line a cell, unrounded, in the unit that is shown.

    A line holds the number of seeds, mean and standard deviation, the difference to the baseline
    with its interval, the budget in words, what the last step and the oracle reach, and the regret.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    oracle = by_oracle(table)
    last = table.by_rule(LAST) if table.has_rule(LAST) else None
    for method in table.rows:
        regrets = regrets_of(table, oracle, method)
        for task in table.columns:
            gain = table.difference(method, task) if method != table.baseline else None
            numbers = (gain.mean, gain.low, gain.high) if gain else (None, None, None)
            count = len(table.values(method, task))
            cell = (count, table.mean(method, task), table.deviation(method, task))
            names = (table.experiment, table.select, table.metric.name, method, task)
            rules = [rule.mean(method, task) if rule else None for rule in (last, oracle)]
            own = mean_of([v for (t, _), v in regrets.items() if task in (t, AVERAGE)])
            budget = _budget(table, method, task)
            writer.writerow([*names, *cell, table.baseline, *numbers, budget, *rules, own])
    return text.getvalue()


def _parts(table: Table, style: Style) -> list[Part]:
    return [
        *measured(table, style),
        *of_the_score(table, style),
        *compared(table, style),
        *of_the_rows(table, style),
        *footer(table),
    ]


def _environment(block: Block) -> str:
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{latex(block.title)}}}"]
    return "\n".join([*lines, booktabs(block.grid), r"\end{table}"])


def _budget(table: Table, method: str, task: str) -> str:
    """Trials and steps of a cell in words; nothing for an average, or if there are no runs."""
    runs = table.runs.get((method, task), ())
    return words([budget_of(own) for own in trials_by_seed(runs).values()]) if runs else ""
