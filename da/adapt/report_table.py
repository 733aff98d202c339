"""The table of all candidates, for the report and for table.csv."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from da.adapt.adapting import Adapted, true_figures
from da.adapt.chosen import judges_of
from da.adapt.estimate import estimate_accuracy, least_error
from da.records.files import replacing

PERCENT = 100


def candidate_rows(adapted: Adapted) -> tuple[list[str], list[list[str]], list[int]]:
    """The table as text: a line for each row and trial, the chosen one marked.

    Args:
        adapted: What came of adapting.

    Returns:
        Head, lines, and the numbers of the marked lines.
    """
    regression = adapted.problem.regression
    head = ["row", "trial", "source error" if regression else "source accuracy %"]
    head += ["spread as source, p", "distance"] if regression else ["information", "agreement %"]
    head += ["rmse at least" if regression else "estimated accuracy %", "seconds", "note"]
    labelled = adapted.prepared.target.labels is not None
    if labelled:
        head.append("true rmse" if regression else "true accuracy %")
    lines, marked = [], []
    for number, one in enumerate(adapted.tried.fitted):
        scores = adapted.choice.scores[one.name]
        others = [other for other in adapted.choice.stands if other.row != one.row]
        if regression:
            middle = [f"{math.sqrt(one.source_risk):.4g}", f"{scores.plausible:.3f}"]
            middle += [
                _root(scores.agreement),
                f"{least_error(one, others, adapted.problem.y)[0]:.4g}",
            ]
        else:
            judges = judges_of(adapted.choice.stands, (one.row,))
            estimate = estimate_accuracy(one, judges).accuracy
            middle = [_percent(one.source_accuracy), f"{scores.information:.3f}"]
            middle += [_percent(scores.agreement), _percent(estimate)]
        line = [one.row, str(one.trial), *middle, f"{one.seconds:.1f}", _note(adapted, number)]
        if labelled:
            true = true_figures(adapted, one)
            line.append(f"{true['rmse']:.4g}" if regression else _percent(true["accuracy"]))
        lines.append(line)
        if one is adapted.model:
            marked.append(number)
    return head, lines, marked


def write_table(adapted: Adapted, path: Path) -> None:
    """Write table.csv, whole or not at all.

    Args:
        adapted: What came of adapting.
        path: The file.

    Raises:
        OSError: The file cannot be written.
    """
    head, lines, _ = candidate_rows(adapted)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *lines])
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _note(adapted: Adapted, number: int) -> str:
    one = adapted.tried.fitted[number]
    notes = []
    if one is adapted.model:
        notes.append("chosen")
    elif one is adapted.choice.proposed:
        notes.append("proposed")
    if not adapted.choice.scores[one.name].passes:
        notes.append("worse on the source")
    return ", ".join(notes)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{PERCENT * value:.1f}"


def _root(agreement: float) -> str:
    return "-" if math.isnan(agreement) else f"{math.sqrt(max(-agreement, 0.0)):.3g}"
