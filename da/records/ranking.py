"""Do scores that were known before training rank the candidates as training does? From finished run records.

    python -m da.records.ranking runs --experiment rank_sources

A run that started from a candidate (a source domain, a backbone) has its scores by name among its result's `facts`. For each score,
target and seed, the candidates' scores are set against the accuracies that they reached, by the weighted Kendall tau of Vigna (WWW 2015):
1 for the same order, -1 for the opposite, 0 for none, and an exchange at the top, where the choice is made, counts more than one at the
bottom (a pair has the weight 1 / (1 + r) + 1 / (1 + s) for the ranks r, s of its two from 0).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import tyro

from da.records.cells import Metric, check_alike
from da.records.grids import aligned, piped, replace_marked
from da.records.run import Record
from da.records.table import AVERAGE, MISSING, Table, load

SCORES = ("h_score", "regularized_h_score", "logme", "transrate", "leep", "nce")
GRIDS = {"text": aligned, "markdown": piped}
DIGITS = 9  # to which scores are compared: what differs by rounding is equal


class Point(NamedTuple):
    """A candidate for a target: one of its scores, and the accuracy in [0, 1] that fine-tuning reached from it."""

    score: str
    target: str
    candidate: str
    seed: int
    value: float
    accuracy: float


def ranking(records: Sequence[Record]) -> Table:
    """The weighted tau of each score (rows) for each target (columns) and seed, over the runs of one experiment that have scores.

    Where all scores or all accuracies are equal, or a candidate is alone, there is no tau, and the cell stays empty.

    Raises ValueError where no run has a score, one is not finite, or the runs of a cell differ in more than their seed.
    """
    found = points(records)
    if not found:
        raise ValueError(
            "there is no run with a transferability score: check --runs-dir and --experiment"
        )
    taus: dict[tuple[str, str], dict[int, float]] = {}
    for score, target, seed in dict.fromkeys((p.score, p.target, p.seed) for p in found):
        tau = _tau(
            [
                (p.value, p.accuracy)
                for p in found
                if (p.score, p.target, p.seed) == (score, target, seed)
            ]
        )
        if tau is not None:
            taus.setdefault((score, target), {})[seed] = tau
    targets, seeds = sorted({p.target for p in found}), sorted({p.seed for p in found})
    rows = tuple(name for name in SCORES if any(p.score == name for p in found))
    return Table(
        records[0].result["experiment"],
        "last",
        "",
        rows,
        tuple(targets),
        tuple(seeds),
        taus,
        Metric("weighted_tau"),
    )


def points(records: Sequence[Record]) -> list[Point]:
    """Each score of each run that has any. Raises as `ranking`, but for no score at all."""
    cells: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.result.get("facts"):
            cells.setdefault((record.result["method"], record.result["target"]), []).append(record)
    if len({run.result["experiment"] for runs in cells.values() for run in runs}) > 1:
        raise ValueError("the runs are of several experiments: name one with --experiment")
    found = []
    for (candidate, target), runs in cells.items():
        check_alike((candidate, target), runs)
        for run in runs:
            accuracy = Metric().read(run, "last")
            for score, value in run.result["facts"].items():
                if value is None:
                    raise ValueError(f"{run.directory}: {score} is not finite and cannot be ranked")
                found.append(Point(score, target, candidate, run.result["seed"], value, accuracy))
    return found


def report(records: Sequence[Record]) -> str:
    """What a script that ranks candidates prints under its table of accuracies; nothing where no run has a score."""
    return f"\n\n{written(ranking(records))}" if points(records) else ""


def written(table: Table, grid: Callable[[Sequence[Sequence[str]]], str] = aligned) -> str:
    """A `ranking` as text: a line for each score, in the form that `grid` (of da.records.grids) gives."""
    columns = [*table.tasks, AVERAGE] if len(table.tasks) > 1 else list(table.tasks)
    lines = [[score, *(_cell(table, score, column) for column in columns)] for score in table.rows]
    several = (
        f"; mean ± standard deviation over {len(table.seeds)} seeds"
        if len(table.seeds) > 1
        else "; one seed"
    )
    text = f"{table.experiment}: weighted Kendall tau of score and accuracy reached, over the candidates of a target{several}."
    if any(
        len(table.values(score, target)) < len(table.seeds)
        for score in table.rows
        for target in table.tasks
    ):
        text += " In parentheses the number of seeds that have one, if not all: a score that is the same for all candidates ranks none."
    return f"{text}\n\n{grid([['score', *columns], *lines])}"


def _cell(table: Table, score: str, column: str) -> str:
    values, mean, deviation = (
        table.values(score, column),
        table.mean(score, column),
        table.deviation(score, column),
    )
    if mean is None:
        return MISSING
    text = f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"
    return text if len(values) == len(table.seeds) else f"{text} ({len(values)})"


def _tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    values, accuracies = np.array(pairs).T  # (candidates,)
    rounded = [float(f"{value:.{DIGITS}g}") for value in values]
    if len(set(rounded)) < 2 or len(set(accuracies)) < 2:
        return None
    from scipy.stats import (
        weightedtau,
    )  # half a second of import, which reading records does without

    return float(weightedtau(rounded, accuracies).statistic)


@dataclass(frozen=True)
class Options:
    """Print how well each score ranks the candidates, from finished runs, or put it into a README."""

    runs_dir: Annotated[Path, tyro.conf.Positional]
    """Folder of runs."""
    experiment: str = "rank_sources"
    """Experiment to show."""
    format: Literal["text", "markdown"] = "text"
    """How to print it."""
    readme: Path | None = None
    """File to update instead, between <!-- table: NAME --> and <!-- /table -->."""
    name: str | None = None
    """NAME of the marks in the file; the experiment's and _tau without it."""
    check: bool = False
    """Change nothing; fail where the file differs from the runs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: see `python -m da.records.ranking --help`."""
    options = tyro.cli(Options, args=arguments, prog="python -m da.records.ranking")
    try:
        table = ranking(load(options.runs_dir, options.experiment))
        if options.readme is None:
            print(written(table, GRIDS[options.format]))
        else:
            name = options.name or f"{options.experiment}_tau"
            command = (
                f"python -m da.records.ranking {options.runs_dir} --experiment {options.experiment}"
            )
            content = f"{written(table, piped)}\n\n`{command}`"
            same = replace_marked(
                options.readme,
                f"<!-- table: {name} -->",
                "<!-- /table -->",
                content,
                check=options.check,
            )
            if options.check and not same:
                sys.exit(
                    f"{options.readme}: the table {name!r} differs from the runs; run without --check to update it"
                )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
