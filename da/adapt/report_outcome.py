"""The sections of a report on the predictions, and on what the target's labels say of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from da.adapt.adapting import Adapted, true_figures
from da.adapt.pictures import (
    picture_of_confusion,
    picture_of_numbers,
    picture_of_samples,
    short,
)
from da.adapt.report_parts import CLASSES, Grid, Section
from da.adapt.sides import Side

SHOWN = 6  # samples of a kind


def predicted(adapted: Adapted, pictures: bool) -> Section:
    """What the model says of the target."""
    share = float(adapted.unsure.mean())
    lines = [
        f"{len(adapted.unsure)} samples are in predictions.csv; {100 * share:.1f} % are marked "
        "unsure: the model or the models of the other rows are in doubt."
    ]
    if not adapted.prepared.classes:
        drawn = []
        if pictures:
            series = {"source, known": adapted.problem.y, "target, predicted": adapted.numbers}
            drawn = [("Numbers.", picture_of_numbers(series, "Numbers", "value"))]
        return Section("Predictions", lines, None, drawn)
    counts = np.bincount(adapted.predicted, minlength=len(adapted.prepared.classes))
    rows = [
        [name, str(count), f"{100 * count / max(counts.sum(), 1):.1f} %"]
        for name, count in zip(adapted.prepared.classes, counts, strict=True)
    ]
    drawn = _certain(adapted) if pictures else []
    return Section("Predictions", lines, Grid(["class", "predicted", "share"], rows), drawn)


def _certain(adapted: Adapted) -> list[tuple[str, bytes]]:
    """The most and least certain photographs of the target, and some of the source."""
    target = adapted.prepared.target
    if target.kind != "photographs":
        return []
    certainty = adapted.probabilities.max(axis=1)
    order = np.argsort(certainty, kind="stable")
    names = np.array(adapted.prepared.classes)[adapted.predicted]
    found = []
    for title, rows in (
        ("Least certain target samples", order[:SHOWN]),
        ("Most certain target samples", order[::-1][:SHOWN]),
    ):
        captions = [f"{short(names[i], 13)} {100 * certainty[i]:.0f} %" for i in rows]
        found.append((f"{title}.", picture_of_samples(_files(target, rows), captions)))
    source = adapted.prepared.sources[0]
    assert source.labels is not None
    rows = np.linspace(0, len(source) - 1, min(SHOWN, len(source))).astype(int)
    captions = [str(source.labels[i]) for i in rows]
    found.append(("Some source samples.", picture_of_samples(_files(source, rows), captions)))
    return found


def _files(side: Side, rows: Sequence[int] | np.ndarray) -> list[Path]:
    return [Path(str(side.content[int(i)])) for i in rows]  # type: ignore[index]


def by_labels(adapted: Adapted, pictures: bool) -> Section:
    """What the target's labels say, which served for nothing else."""
    lines = [
        "The target's labels were read for this section and for the table's last column, and for "
        "nothing else."
    ]
    own = adapted.choice.own
    labels = adapted.prepared.target.labels
    assert labels is not None
    if adapted.problem.regression:
        chosen, source = true_figures(adapted, adapted.model), true_figures(adapted, own)
        lines.append(
            f"Root mean squared error: {chosen['rmse']:.4g}; the source's own model "
            f"{source['rmse']:.4g}."
        )
        return Section("By the target's labels", lines)
    chosen, source = true_figures(adapted, adapted.model), true_figures(adapted, own)
    lines.append(
        f"Accuracy: {100 * chosen['accuracy']:.1f} %; the source's own model "
        f"{100 * source['accuracy']:.1f} %."
    )
    unknown = sorted(set(labels.tolist()) - set(adapted.prepared.classes))
    if unknown:
        lines.append(
            "Classes that the source lacks, for which no answer can be right: "
            f"{', '.join(unknown[:10])}."
        )
    drawn = []
    if pictures and len(adapted.prepared.classes) <= CLASSES:
        caption = "Confusion matrix of the chosen model."
        drawn = [(caption, picture_of_confusion(_confusion(adapted), adapted.prepared.classes))]
    return Section("By the target's labels", lines, None, drawn)


def _confusion(adapted: Adapted) -> np.ndarray:
    """Counts (k, k): true class by predicted class, of rows whose class the source has."""
    number = {name: i for i, name in enumerate(adapted.prepared.classes)}
    counts = np.zeros((len(number), len(number)), int)
    labels = adapted.prepared.target.labels
    assert labels is not None
    for label, guess in zip(labels.tolist(), adapted.predicted.tolist(), strict=True):
        if label in number:
            counts[number[label], guess] += 1
    return counts
