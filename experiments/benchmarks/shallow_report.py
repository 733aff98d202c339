"""What `shallow.py` prints: the table, and the bars that da's shallow methods must meet."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

SURF = "1123+958x800"
Case = tuple[str, str, str]  # method, problem, contestant
HEADING = [
    *("method", "problem", "contestant", "rounds", "s", "s of wall time", "times da"),
    *("lowest to highest", "extra MB", "reached", ""),
]


class Bar(NamedTuple):
    """A promise about one contestant.

    `column` is a column of the CSV, which is at most `limit`, or the name of a peer, which takes at
    least `limit` times as long.
    """

    method: str
    problem: str
    contestant: str
    column: str
    limit: float

    @property
    def of_a_peer(self) -> bool:
        return self.column not in ("process_seconds", "extra_mb")


LARGE = (
    ("TCA", "da, landmarks"),
    ("KMM", "da, landmarks"),
    ("KLIEP", "da"),
    ("KLIEP", "da, bandwidth chosen"),
    ("CORAL", "da"),
)
BARS = (
    Bar("JDA", SURF, "da", "process_seconds", 4.3),
    Bar("JDA", SURF, "da", "by the book", 3),
    *(Bar("TCA", "3000x100", name, "skada", 50) for name in ("da", "da, landmarks")),
    *(Bar("KMM", "10000x100", name, "skada", 10) for name in ("da", "da, landmarks")),
    *(Bar(method, "30000x100", name, "process_seconds", 10) for method, name in LARGE),
    *(Bar(method, "30000x100", name, "extra_mb", 1000) for method, name in LARGE),
)


def case_of(row: dict[str, Any]) -> Case:
    """Method, problem and contestant of a row."""
    return row["method"], row["problem"], row["contestant"]


def seconds(
    rows: list[dict[str, Any]], column: str = "process_seconds"
) -> dict[Case, dict[int, float]]:
    """The time of each round of each case."""
    found: dict[Case, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if column in row:
            found[case_of(row)][row["round"]] = row[column]
    return found


def ratio(times: dict[int, float], others: dict[int, float]) -> np.ndarray:
    """times / others, of the rounds that have both."""
    return np.array([times[number] / others[number] for number in times.keys() & others.keys()])


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A line for each method, problem and contestant, under a heading: medians over rounds."""
    process, wall = seconds(rows), seconds(rows, "wall_seconds")
    lines = [HEADING]
    for case in dict.fromkeys(map(case_of, rows)):
        own = [row for row in rows if case_of(row) == case]
        times = [""] * 5
        if case in process:
            # da's own contestant is the first of a problem.
            first = next(process[other] for other in process if other[:2] == case[:2])
            times = _times(process[case], wall[case], first)
        memory = [f"{row['extra_mb']:.0f}" for row in own if "extra_mb" in row]
        judged = [f"{row['reached']:.4g}" for row in own if row.get("reached") is not None]
        notes = [row["note"] for row in own if row.get("note")]
        lines.append([*case, *times, *(memory or [""]), *(judged or [""]), (notes or [""])[0][:60]])
    return lines


def _times(process: dict[int, float], wall: dict[int, float], first: dict[int, float]) -> list[str]:
    """Rounds, medians of both times, and the ratio to da's with its range."""
    ratios = ratio(process, first)
    medians = [f"{np.median(list(times.values())):.3g}" for times in (process, wall)]
    spread = f"{min(ratios):.3g} to {max(ratios):.3g}"
    return [str(len(ratios)), *medians, f"{np.median(ratios):.3g}", spread]


def verdicts(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A line for each bar: the promise, the measured number, and whether it is met."""
    process = seconds(rows)
    memory = {case_of(row): row["extra_mb"] for row in rows if "extra_mb" in row}
    lines = [["bar", "", "measured", ""]]
    for bar in BARS:
        values = _values(bar, process, memory)
        value = float(np.median(values)) if len(values) else None
        words = f"{bar.method}, {bar.problem}, {bar.contestant}: {bar.column}"
        limit = f"at most {bar.limit:.3g}"
        met = value is not None and value <= bar.limit
        if bar.of_a_peer:
            words, limit = f"{words} takes", f"at least {bar.limit:g} times as long"
            met = value is not None and value >= bar.limit
        verdict = "not measured" if value is None else "met" if met else "MISSED"
        lines.append([words, limit, "" if value is None else f"{value:.3g}", verdict])
    return lines


def _values(
    bar: Bar, process: dict[Case, dict[int, float]], memory: dict[Case, float]
) -> np.ndarray:
    """The numbers that a bar is about, one a round."""
    case = (bar.method, bar.problem, bar.contestant)
    own = process.get(case, {})
    if bar.of_a_peer:
        return ratio(process.get((bar.method, bar.problem, bar.column), {}), own)
    if bar.column == "process_seconds":
        return np.array(list(own.values()))
    return np.array([memory[case]] if case in memory else [])
