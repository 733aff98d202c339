"""Do scores that were known before training rank the candidates as training does?

A run that started from a candidate (a source domain, a backbone) holds its scores by name among the
`facts` of its result. For each score, target and seed, the scores of the candidates are compared
with the accuracies that they reached, by the weighted Kendall tau: 1 for the same order, -1 for the
opposite, 0 for none. An exchange at the top, where the choice is made, counts more than one at the
bottom: a pair has the weight 1 / (1 + r) + 1 / (1 + s), r and s being the ranks of its two from 0.

Where runs hold energy and lda, there is a score etran of both, each scaled to [0, 1] over the
candidates of a target and seed:

    etran = 0.15 scaled energy + 0.85 scaled lda,    scaled = (value - least) / (largest - least)

Vigna: A Weighted Correlation Index for Rankings with Ties. WWW 2015.
Gholami, Akbari, Wang, Kamranian, Zhang: ETran: Energy-Based Transferability Estimation. ICCV 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from da.records.cells import Metric, check_alike
from da.records.grids import aligned
from da.records.record import Record
from da.records.table import Table
from da.records.table_text import MISSING

SCORES = (
    *("h_score", "regularized_h_score", "logme", "transrate", "sfda", "gbc", "parc", "nleep"),
    *("energy", "lda", "etran", "leep", "nce"),
)
ETRAN = {"energy": 0.15, "lda": 0.85}  # the weights of its two scores in the authors' code
DIGITS = 9  # to which scores are compared: a difference by rounding is none


class Point(NamedTuple):
    """One score of one candidate for a target, and what fine-tuning reached from the candidate.

    Attributes:
        score: The name of the score.
        target: The target.
        candidate: The source domain or backbone.
        seed: The seed of the run.
        value: The score.
        accuracy: In [0, 1].
    """

    score: str
    target: str
    candidate: str
    seed: int
    value: float
    accuracy: float


def ranking(records: Sequence[Record]) -> Table:
    """Measure how well each transferability score ranks the candidates of each target.

    Args:
        records: Finished runs of one experiment; those without scores are left out.

    Returns:
        A table of weighted taus: a row for each score, a column for each target. A cell has no
        value for a seed if all scores or all accuracies are equal, or if a candidate is alone.

    Raises:
        ValueError: No run has a score, a score is not finite, or the runs of a cell differ in more
            than their seed.

    Example:
        >>> import tempfile
        >>> from da.records import Run, ranking, read_runs
        >>> folder = tempfile.mkdtemp()
        >>> for method, score, accuracy in [("a", 1.0, 0.5), ("b", 2.0, 0.7), ("c", 3.0, 0.9)]:
        ...     run = Run.start(folder, {}, experiment="toy", method=method, source="s", target="t",
        ...                     seed=0, wandb="disabled")
        ...     selected = {"last": {"step": 1, "target_accuracy": accuracy}}
        ...     run.finish({"selected": selected, "facts": {"logme": score}})
        >>> ranking(read_runs(folder)).mean("logme", "t")
        1.0
    """
    found = points(records)
    if not found:
        raise ValueError(
            "there is no run with a transferability score: check the folder of runs and the name "
            "of the experiment"
        )
    taus: dict[tuple[str, str], dict[int, float]] = {}
    for cell in dict.fromkeys((point.score, point.target, point.seed) for point in found):
        candidates = [p for p in found if (p.score, p.target, p.seed) == cell]
        tau = _tau([(point.value, point.accuracy) for point in candidates])
        if tau is not None:
            score, target, seed = cell
            taus.setdefault((score, target), {})[seed] = tau
    return Table(
        experiment=records[0].result["experiment"],
        select="last",
        baseline="",
        rows=tuple(name for name in SCORES if any(point.score == name for point in found)),
        tasks=tuple(sorted({point.target for point in found})),
        seeds=tuple(sorted({point.seed for point in found})),
        measured=taus,
        metric=Metric("weighted_tau"),
    )


def points(records: Sequence[Record]) -> list[Point]:
    """Each score of each run that has any, and etran of energy and lda.

    Raises as `ranking`; no score at all is no error.
    """
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
            assert accuracy is not None  # the accuracy is in every record
            for score, value in run.result["facts"].items():
                if value is None:
                    raise ValueError(f"{run.directory}: {score} is not finite and cannot be ranked")
                found.append(Point(score, target, candidate, run.result["seed"], value, accuracy))
    return found + _etran(found)


def _etran(found: Sequence[Point]) -> list[Point]:
    """The score etran of the candidates that have its two parts."""
    parts: dict[tuple[str, int], dict[str, dict[str, Point]]] = {}
    for point in found:
        if point.score in ETRAN:
            cell = parts.setdefault((point.target, point.seed), {})
            cell.setdefault(point.candidate, {})[point.score] = point
    both = []
    for cell in parts.values():
        whole = [scores for scores in cell.values() if len(scores) == len(ETRAN)]
        sums = np.zeros(len(whole))
        for name, weight in ETRAN.items():
            sums += weight * _scaled([scores[name].value for scores in whole])
        for scores, value in zip(whole, sums, strict=True):
            both.append(scores["lda"]._replace(score="etran", value=float(value)))
    return both


def _scaled(values: Sequence[float]) -> np.ndarray:
    """Values moved and scaled to [0, 1]; 0 if all are equal."""
    own = np.array(values) - min(values, default=0.0)
    return own / (own.max(initial=0.0) or 1.0)


def report(records: Sequence[Record]) -> str:
    """What a script that ranks candidates prints under its table; empty if no run has a score."""
    return f"\n\n{written(ranking(records))}" if points(records) else ""


def written(table: Table, grid: Callable[[Sequence[Sequence[str]]], str] = aligned) -> str:
    """A `ranking` as text: a line for each score.

    Args:
        table: From `ranking`.
        grid: How to lay out cells: a function of `da.records.grids`.
    """
    lines = [
        [score, *(_cell(table, score, task) for task in table.columns)] for score in table.rows
    ]
    several = "one seed"
    if len(table.seeds) > 1:
        several = f"mean ± standard deviation over {len(table.seeds)} seeds"
    text = (
        f"{table.experiment}: weighted Kendall tau of score and accuracy reached, over the "
        f"candidates of a target; {several}."
    )
    counts = [len(table.values(score, task)) for score in table.rows for task in table.tasks]
    if min(counts) < len(table.seeds):
        text += (
            " In parentheses the number of seeds that have one, if not all: a score that is the "
            "same for all candidates ranks none."
        )
    return f"{text}\n\n{grid([['score', *table.columns], *lines])}"


def _cell(table: Table, score: str, column: str) -> str:
    mean, deviation = table.mean(score, column), table.deviation(score, column)
    if mean is None:
        return MISSING
    text = f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"
    count = len(table.values(score, column))
    return text if count == len(table.seeds) else f"{text} ({count})"


def _tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    from scipy.stats import weightedtau  # half a second of import, which reading does without

    values, accuracies = np.array(pairs).T  # (candidates,)
    rounded = [float(f"{value:.{DIGITS}g}") for value in values]
    if len(set(rounded)) < 2 or len(set(accuracies)) < 2:
        return None
    return float(weightedtau(rounded, accuracies).statistic)
