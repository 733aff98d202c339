"""The report of `python -m da adapt`, section by section.

`da.adapt.report_text` writes the sections as Markdown and as one HTML page.
"""

from __future__ import annotations

import numpy as np

from da.adapt.adapting import Adapted
from da.adapt.estimate import LEVEL, earlier_models
from da.adapt.pictures import (
    before_and_after,
    picture_of_bars,
    picture_of_numbers,
)
from da.adapt.report_outcome import by_labels, predicted
from da.adapt.report_parts import CLASSES, Grid, Section
from da.adapt.report_table import candidate_rows
from da.adapt.sides import Side
from da.instance.diagnostics import effective_sample_size
from da.instance.discriminator import discriminator_weights
from da.shift.drift import moved_columns

LARGE_CHANGE = 0.2  # of the shares of classes, from which a warning is given
COLUMNS = 12  # columns that a table of moved columns shows


def report_of(adapted: Adapted, *, pictures: bool = True) -> list[Section]:
    """Write down everything that is known of an adaptation.

    Args:
        adapted: What came of adapting.
        pictures: Whether pictures are drawn. Default True.

    Returns:
        The sections, the answer first.
    """
    sections = [answer(adapted), compared(adapted), shifted(adapted, pictures)]
    sections += [tried(adapted), predicted(adapted, pictures), how_good(adapted)]
    if pictures:
        sections.append(domains(adapted))
    if adapted.prepared.target.labels is not None:
        sections.append(by_labels(adapted, pictures))
    return sections


def answer(adapted: Adapted) -> Section:
    """Keep the model, or take a row."""
    choice, model = adapted.choice, adapted.model
    if choice.keep:
        first = "Keep your model: no row is safely better than what the source alone gives."
        if not adapted.shift.shifted:
            first = "Keep your model: the target is like the source."
    else:
        first = f"Take the model of the row {model.row}."
    return Section("The answer", [f"**{first}**", *choice.reasons, _expected(adapted)])


def compared(adapted: Adapted) -> Section:
    """What was read."""
    prepared = adapted.prepared
    rows = [_side("source", side) for side in prepared.sources]
    rows.append(_side("target", prepared.target))
    classes = ", ".join(prepared.classes[:CLASSES]) or "none: labels are numbers"
    more = len(prepared.classes) - CLASSES
    lines = [
        f"Features: {prepared.features.description} ({prepared.source_x.shape[1]} columns).",
        f"Classes: {classes}{f' and {more} more' if more > 0 else ''}.",
        *prepared.notes,
        *(note for side in (*prepared.sources, prepared.target) for note in side.notes),
    ]
    return Section(
        "What was compared", lines, Grid(["side", "path", "kind", "samples", "labels"], rows)
    )


def shifted(adapted: Adapted, pictures: bool) -> Section:
    """Has the target shifted, and how."""
    shift, found = adapted.shift, adapted.label_shift
    verdict = "They differ" if shift.shifted else "They cannot be told apart"
    lines = [
        f"{verdict}: p = {shift.p_value:.3f} by an exact two-sample test of {shift.rows[0]} source "
        f"rows and {shift.rows[1]} target rows.",
        f"A linear classifier tells them apart with an A-distance of {shift.distance:.2f} "
        "(0: not at all, 2: always).",
    ]
    drawn = []
    if found is not None:
        explains = (
            "Other shares of the classes alone explain the shift."
            if found.plausible and shift.shifted
            else "Other shares of the classes alone do not explain the shift."
            if shift.shifted
            else ""
        )
        change = 0.5 * float(np.abs(found.target - found.source).sum())
        lines.append(
            f"Estimated change of the shares of classes: {100 * change:.0f} points. {explains}"
        )
        if absent := adapted.choice.absent:
            names = ", ".join(adapted.prepared.classes[k] for k in absent[:CLASSES])
            lines.append(f"Classes that the target seems to lack: {names}.")
        if shift.shifted and change > LARGE_CHANGE and not found.plausible:
            lines.append(
                "If the shares really differ so much, rows that make the domains alike can do harm "
                "alike, which no score sees. Label some target samples before you rely on them."
            )
        if pictures and len(found.source) <= CLASSES:
            series = {"source": 100 * found.source, "target, estimated": 100 * found.target}
            drawn.append(
                (
                    "Shares of classes. The target's are an estimate"
                    + ("." if found.plausible else ", and not to be relied on here."),
                    picture_of_bars(adapted.prepared.classes, series, "Shares of classes", "%"),
                )
            )
    return Section("Has it shifted?", lines, _moved(adapted), drawn)


def _moved(adapted: Adapted) -> Grid | None:
    """The columns that moved most, if columns have names."""
    names = adapted.prepared.features.columns
    if not names:
        return None
    found = moved_columns(
        adapted.prepared.source_x.astype(np.float64), adapted.prepared.target_x.astype(np.float64)
    )
    order = np.argsort(-found.distance, kind="stable")[:COLUMNS]
    rows = [
        [names[i], f"{found.shift[i]:+.2f}", f"{found.distance[i]:.2f}", f"{found.p_value[i]:.3f}"]
        for i in order
    ]
    return Grid(["column", "shift of the mean in sd", "largest difference", "p"], rows)


def tried(adapted: Adapted) -> Section:
    """The table of all rows and trials."""
    head, rows, marked = candidate_rows(adapted)
    trials = max(one.trial for one in adapted.tried.fitted) + 1
    lines = [
        f"{len(adapted.tried.fitted)} models, {trials} of each row. No target label was read for "
        "any of them, nor for the choice.",
        *_left_out(adapted),
    ]
    return Section("What was tried", lines, Grid(head, rows, marked), _weights(adapted))


def _left_out(adapted: Adapted) -> list[str]:
    """A line for each reason."""
    rows: dict[str, list[str]] = {}
    for row, why in adapted.tried.left_out.items():
        rows.setdefault(why, []).append(row)
    return [f"Left out: {', '.join(names)}, because {why}." for why, names in rows.items()]


def _weights(adapted: Adapted) -> list[tuple[str, bytes]]:
    """The weights of source rows, if they were tried."""
    if not any(one.row == "importance_weights" for one in adapted.tried.fitted):
        return []
    problem = adapted.problem
    weights = np.asarray(
        discriminator_weights(problem.x, problem.target, folds=5, random_state=problem.seed),
        dtype=np.float64,
    )
    count = effective_sample_size(weights)
    caption = (
        f"Weights of the row importance_weights: the {len(weights)} source rows count as "
        f"{count:.0f} equal ones."
    )
    series = {"source rows": np.log10(np.maximum(weights, 1e-4))}
    return [(caption, picture_of_numbers(series, "Weights of source rows", "log10 of the weight"))]


def how_good(adapted: Adapted) -> Section:
    """The estimated accuracy, and what it rests on."""
    if adapted.error is not None:
        lines = [
            _expected(adapted),
            "This bound is made of the error on held-out source rows, of how far the plausible "
            "rows' answers lie apart on the target, and of what two means differ by chance. An "
            "error that all rows share cannot be seen without labels. Measure some target samples.",
        ]
        return Section("How good will it be?", lines)
    earlier = earlier_models()
    lines = [
        _expected(adapted),
        "It is what the models of the other rows say of the chosen model's answers.",
        f"The interval is as wide as it must be to hold {100 * LEVEL:.0f} % of the true accuracies "
        f"of {len(earlier.task)} models on {len(set(earlier.task))} benchmark tasks whose labels "
        f"are known ({earlier.sources}). A target that is unlike them lies outside more often.",
    ]
    assert adapted.estimate is not None
    if not adapted.estimate.reliable:
        lines.append(f"Do not rely on it: {adapted.estimate.reason}.")
    return Section("How good will it be?", lines)


def domains(adapted: Adapted) -> Section:
    """The picture of both sides, before and after."""
    model = adapted.model
    return Section(
        "Before and after",
        ["If the model has adapted, source and target lie on each other in the second picture."],
        None,
        before_and_after(adapted.problem, model.held, model.target),
    )


def _expected(adapted: Adapted) -> str:
    if adapted.error is not None:
        whole, part = adapted.error
        return (
            f"The root mean squared error on the target is likely to be at least {whole:.3g} "
            f"(on held-out source rows: {part:.3g}). It may be several times that."
        )
    assert adapted.estimate is not None
    one = adapted.estimate
    return (
        f"Estimated accuracy on the target: {100 * one.accuracy:.1f} %, between "
        f"{100 * one.low:.1f} and {100 * one.high:.1f} % ({100 * LEVEL:.0f} % interval)."
    )


def _side(role: str, side: Side) -> list[str]:
    labels = "none"
    if side.labels is not None:
        numbers = side.labels.dtype.kind == "f"
        labels = "numbers" if numbers else f"{len(np.unique(side.labels))} classes"
        if role == "target":
            labels += ", for the report alone"
    return [role, side.path, side.kind, str(len(side)), labels]
