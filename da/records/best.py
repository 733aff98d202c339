"""Which cells of a table are marked: the best, and what is not significantly worse than the best.

The last column decides over all that was measured: a row is compared with the best row by the
paired t-test over the tasks and seeds that both have, and the p-values of all rows are corrected
together by Holm's method. A row that shares a single seed with the best row is not compared. Of a
table of several tasks, a column of one task has too few seeds for tests: only its best is marked.
The row `oracle` has read target labels: it is never marked, and no row is compared with it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from da.records.difference import EQUAL, corrected, paired_difference

if TYPE_CHECKING:
    from da.records.table import Table


class Marks(NamedTuple):
    """The marked cells of a table.

    Attributes:
        cells: (method, column) of each.
        tests: The number of tests in the last column; 0 if there is one seed, or one row.
        pairs: The largest number of pairs of a test.
    """

    cells: frozenset[tuple[str, str]]
    tests: int = 0
    pairs: int = 0


def marks(table: Table) -> Marks:
    """The best cell of every column, and in the last what is not significantly worse than it.

    Args:
        table: Any; with a single row nothing is marked.

    Returns:
        The cells.
    """
    found = {
        (method, column)
        for column in table.columns
        for method in _best(table, column)
        if len(table.contenders) > 1
    }
    *_, last = table.columns
    leaders = [method for method in table.contenders if (method, last) in found]
    if not leaders:
        return Marks(frozenset(found))
    base = table.pairs(leaders[0])
    rivals = [m for m in table.contenders if m not in leaders and table.mean(m, last) is not None]
    gains = {}
    for row in rivals:
        own = table.pairs(row)
        gain = paired_difference(own, base)
        if gain is not None and len({seed for _, seed in own.keys() & base.keys()}) > 1:
            gains[row] = gain
    gains = corrected(gains)
    # Without a p-value all pairs differ equally, which no chance does.
    equal = {row for row, gain in gains.items() if gain.p_value is not None and not gain.certain}
    tests = sum(gain.p_value is not None for gain in gains.values())
    most = max((gain.seeds for gain in gains.values()), default=0)
    return Marks(frozenset(found | {(row, last) for row in equal}), tests, most)


def _best(table: Table, column: str) -> list[str]:
    """The rows with the best mean of a column; several only if they are equal."""
    means = {row: mean for row in table.contenders if (mean := table.mean(row, column)) is not None}
    if not means:
        return []
    best = min(means.values()) if table.metric.smaller_is_better else max(means.values())
    return [row for row, mean in means.items() if math.isclose(mean, best, abs_tol=EQUAL)]
