"""Which methods differ in rank? A critical-difference diagram, from records of finished runs.

    python paper_figures/critical_difference.py
    python paper_figures/critical_difference.py --methods none adabn coral mmd dann --select oracle

Each task and seed ranks the methods, 1 for the best; equal accuracies share a rank. The axis has
the average ranks. A bar joins methods that do not differ by Nemenyi's test at 5 %: their average
ranks lie within the critical difference

    CD = q sqrt(k (k + 1) / (6 n))        k methods, n tasks and seeds

with q the studentised range over sqrt(2). Friedman's test says whether any methods differ (Demsar,
JMLR 2006). Seeds of one task are not independent, so the tests are too sure of themselves if tasks
are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from da.records import Table, display_name

LEVEL = 0.05
LINE = 0.15  # inches between two names


@dataclass(frozen=True)
class Options(style.TableOptions):
    """Draw average ranks and which of them do not differ."""

    width: style.Width = "double"
    """Printed width: one column (3.3 inches) or two (6.9)."""


class Ranks(NamedTuple):
    """The methods from the best average rank to the worst."""

    methods: list[str]
    ranks: np.ndarray  # (methods,) ascending
    blocks: int  # tasks and seeds
    p_value: float  # of Friedman's test
    difference: float  # the critical one


def rank(table: Table) -> Ranks:
    """Rank the methods over the tasks and seeds that all of them have.

    Raises:
        ValueError: There are fewer than three methods, or fewer than two common tasks and seeds.
    """
    pairs = {row: table.pairs(row) for row in table.rows}
    common = sorted(set.intersection(*(set(own) for own in pairs.values())))
    if len(pairs) < 3 or len(common) < 2:
        raise ValueError(
            "a diagram of critical differences needs at least three methods and two tasks or seeds "
            f"that all of them have; got {len(pairs)} methods and {len(common)} common tasks and "
            "seeds: choose others with --methods"
        )
    sign = 1 if table.metric.smaller_is_better else -1
    figures = np.array([[own[block] for own in pairs.values()] for block in common])
    ranks = stats.rankdata(sign * figures, axis=1).mean(axis=0)  # (methods,)
    p_value = float(stats.friedmanchisquare(*figures.T).pvalue)
    order = np.argsort(ranks, kind="stable")
    methods = [list(pairs)[place] for place in order]
    difference = critical_difference(len(pairs), len(common))
    return Ranks(methods, ranks[order], len(common), p_value, difference)


def critical_difference(methods: int, blocks: int) -> float:
    """By how much average ranks must differ, by Nemenyi's test."""
    q = stats.studentized_range.ppf(1 - LEVEL, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * blocks)))


def cliques(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """First and last place of each largest group of ascending ranks within the difference."""
    found: list[tuple[int, int]] = []
    for first, low in enumerate(ranks):
        last = max(place for place, high in enumerate(ranks) if high - low <= difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def draw(table: Table, found: Ranks, *, width: style.Width) -> Figure:
    """Draw the axis of ranks, the names on both of its sides, and the bars below it."""
    groups = cliques(found.ranks, found.difference)
    half = -(-len(found.methods) // 2)
    depth = LINE * 0.55 * len(groups) + 0.1
    head = 0.75 if width == "double" else 1.0
    height = head + depth + LINE * half + 0.1
    figure, axes = pyplot.subplots(figsize=(style.INCHES[width], height))
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1)
    # Data units: ranks along the axis, inches downwards.
    count = len(found.methods)
    before, after = (_inches(names) for names in (found.methods[:half], found.methods[half:]))
    unit = (count - 1) / (style.INCHES[width] - before - after)  # ranks an inch
    axes.set(xlim=(1 - unit * before, count + unit * after), ylim=(height - head, -head))
    axes.set_axis_off()
    _axis(axes, count, found.difference)
    for place, (first, last) in enumerate(groups):
        y, reach = 0.1 + 0.55 * LINE * place, 0.006 * count
        ends = (found.ranks[first] - reach, found.ranks[last] + reach)
        axes.plot(ends, (y, y), color="black", linewidth=2.2, solid_capstyle="butt", zorder=3)
    for place, (method, value) in enumerate(zip(found.methods, found.ranks, strict=True)):
        left = place < half
        y = depth + 0.1 + LINE * (place if left else count - 1 - place)
        _name(axes, method, value, y=y, count=count, left=left, bold=method == table.baseline)
    title = _title(table, found, width)
    axes.text(0.01, 1 - 0.05 / height, title, va="top", transform=axes.transAxes)
    return figure


def _inches(methods: Sequence[str]) -> float:
    """The room that names beside the axis need."""
    return 0.5 + 0.048 * max(len(display_name(method)) for method in methods)


def _axis(axes: Axes, count: int, difference: float) -> None:
    """Draw the ranks from 1 to `count`, and the length of the critical difference above them."""
    look = {"color": "black", "linewidth": 0.7}
    axes.plot([1, count], [0, 0], **look)
    for tick in range(1, count + 1):
        named = tick in (1, count) or (tick % 5 == 0 and count - tick > 1) or count <= 10
        axes.plot([tick, tick], [0, -0.06 if named else -0.03], **look)
        if named:
            axes.text(tick, -0.08, str(tick), ha="center", va="bottom", fontsize=6.5)
    shown = min(difference, count - 1)
    axes.plot([1, 1 + shown], [-0.3, -0.3], **look)
    for end in (1, 1 + shown):
        axes.plot([end, end], [-0.33, -0.27], **look)
    text = f"CD {difference:.2f}" + " (longer than the axis)" * (difference > count - 1)
    axes.text(1 + shown, -0.3, f"  {text}", va="center", fontsize=6.5)


def _name(
    axes: Axes, method: str, value: float, *, y: float, count: int, left: bool, bold: bool
) -> None:
    """Write a method and its average rank beside the axis, with a line to its place on it."""
    end = 0.6 if left else count + 0.4
    colour = style.GREY if bold else "black"
    axes.plot([value, value, end], [0, y, y], color=colour, linewidth=0.6)
    text = (
        f"{display_name(method)}  {value:.1f}" if left else f"{value:.1f}  {display_name(method)}"
    )
    weight = "bold" if bold else "normal"
    place = {"ha": "right" if left else "left", "va": "center", "fontsize": 6.5}
    axes.text(end + (-0.1 if left else 0.1), y, text, fontweight=weight, **place)


def _title(table: Table, found: Ranks, width: style.Width) -> str:
    """What was ranked, and what Friedman's test says."""
    digits = f"{found.p_value:.1g}" if found.p_value < 0.01 else f"{found.p_value:.2f}"
    said = "the methods differ" if found.p_value <= LEVEL else "no method differs"
    parts = (
        f"{table.experiment}: average rank over {found.blocks} tasks and seeds,",
        f"model {style.selected(table)}.",
        f"Friedman: {said} (p = {digits}).",
    )
    return " ".join(parts) if width == "double" else "\n".join(parts)


def make(options: Options) -> style.Drawing:
    """The figure of the records that the flags name."""
    table = options.table()
    found = rank(table)
    shared = (found.blocks, found.p_value, found.difference)
    rows = [(m, r, *shared) for m, r in zip(found.methods, found.ranks.tolist(), strict=True)]
    columns = ("method", "average_rank", "blocks", "friedman_p", "critical_difference")
    figure = draw(table, found, width=options.width)
    name = f"{table.experiment}_critical_difference"
    return style.Drawing(figure, name, style.csv_text(columns, rows))


if __name__ == "__main__":
    style.main(Options, make)
