"""Tables of how well scores choose, and how well accuracies are estimated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import mean

from made.csv_tables import RECORDS, Row, by, grid, read

from da.records import Record, read_runs

CHOICES = ("trial", "method", "both")


KINDS = ("joint", "domain")  # of batch statistics


def selection_study() -> str:
    """What a label-free choice costs on all tasks of the digits, and where it was confirmed."""
    return _choices("selection_study_digits")


def selection_study_office31() -> str:
    """The same on frozen features of Office-31."""
    return _choices("selection_study_office31")


def selection_study_office_caltech() -> str:
    """The same on frozen features of Office-Caltech10."""
    return _choices("selection_study_office_caltech")


def selection_study_partial() -> str:
    """What each rule loses on the trials of the partial set."""
    return _choices("selection_study_partial")


def _choices(name: str) -> str:
    lines: dict[str, list[str]] = {}
    for half in ("decide", "confirm", "all"):
        for row in read(name):
            if row["half"] == half:
                lines.setdefault(row["rule"], []).append(f"{float(row['regret']):.1f}")
            if row["half"] == half == "all":
                worst = f"{float(row['worst']):.1f} ({row['worst_task'].removeprefix('clean>')})"
                lines[row["rule"]] += [worst, f"{float(row['correlation']):.2f}"]
    words = [f"{choice}, {half}" for half in ("decide", "confirm") for choice in CHOICES]
    words += [f"{choice}{word}" for choice in CHOICES for word in ("", ", worst task", ", rank")]
    best = sorted(lines, key=lambda rule: sum(map(float, lines[rule][:3])))
    cells = [[rule, *(cell.replace("nan", "-") for cell in lines[rule])] for rule in best]
    return grid(["rule", *words], cells)


def batch_statistics() -> str:
    """Usual recipes with joint and with each domain's own statistics, as a score sees them.

    Pairs of runs count that differ in nothing else.
    """
    found: dict[str, dict[str, Record]] = {}
    for folder in ("trials", "statistics"):
        for run in read_runs(RECORDS / folder, experiment="digits_mmd"):
            row = dict(run.config["row"])
            statistics = row.pop("batch_statistics")
            on = [run.result["method"], run.task, run.result["seed"]]
            rest = {**run.config, "row": row, "on": on}
            found.setdefault(json.dumps(rest, sort_keys=True), {})[statistics] = run
    pairs: dict[str, list[dict[str, Record]]] = {}
    for pair in found.values():
        if len(pair) == 2:
            pairs.setdefault(pair["joint"].result["method"], []).append(pair)
    lines = []
    for method, own in pairs.items():
        ends = {kind: [pair[kind].result["selected"]["last"] for pair in own] for kind in KINDS}
        scores = [mean(end["information_maximisation"] for end in ends[kind]) for kind in KINDS]
        accuracies = [100 * mean(end["target_accuracy"] for end in ends[kind]) for kind in KINDS]
        cells = [*(f"{x:.2f}" for x in scores), KINDS[scores[1] > scores[0]]]
        cells += [f"{x:.1f}" for x in accuracies]
        lines.append([f"`{method}`", str(len(own)), *cells])
    words = ("score, joint", "score, own", "taken", "accuracy, joint", "accuracy, own")
    return grid(["row", "targets", *words], sorted(lines))


def accuracy_study() -> str:
    """Errors of estimated accuracies and their intervals, on the digits."""
    return _estimates("accuracy_study_digits")


def accuracy_study_office31() -> str:
    """The same on Office-31, on features of a frozen network."""
    return _estimates("accuracy_study_office31")


def accuracy_study_office_caltech() -> str:
    """The same on Office-Caltech10."""
    return _estimates("accuracy_study_office_caltech")


def _estimates(name: str) -> str:
    lines = []
    for (estimator,), rows in by(read(name), "estimator").items():
        errors = [100 * (float(row["estimate"]) - float(row["accuracy"])) for row in rows]
        cells = [estimator, f"{mean(map(abs, errors)):.1f}", f"{mean(errors):.1f}"]
        for kind in ("", "calibrated_"):
            held, width = _intervals(rows, f"{kind}low", f"{kind}high")
            cells += [f"{100 * held:.0f} %", f"{100 * width:.1f}"]
        reliable = mean(row["reliable"] == "True" for row in rows)
        lines.append([*cells, f"{100 * reliable:.0f} %"])
    head = ["estimator", "mean error", "bias", "own interval covers", "its width"]
    head += ["calibrated interval covers", "its width", "called reliable"]
    return grid(head, lines)


def _intervals(rows: Sequence[Row], low: str, high: str) -> tuple[float, float]:
    """How many intervals hold the accuracy, and how wide they are."""
    ends = [[float(row[key]) for key in (low, "accuracy", high)] for row in rows]
    return mean(a <= t <= b for a, t, b in ends), mean(b - a for a, _, b in ends)
