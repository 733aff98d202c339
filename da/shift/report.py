"""A drift report in words, and as a dict for JSON."""

from __future__ import annotations

import math
from typing import Any

from da.records.table_text import aligned
from da.shift.class_drift import ClassTest, Proportions
from da.shift.column_findings import Column
from da.shift.findings import SHIFTS, Findings
from da.shift.loss_change import LossChange, Part

SHOWN = 10  # columns and classes


def report(found: Findings, *, alpha: float, loss: LossChange | None = None) -> str:
    """Write what was found.

    Args:
        found: The findings.
        alpha: The level.
        loss: Why a source model loses more on the target, if both sides have labels.

    Returns:
        The text, of several lines.
    """
    lines = [*_verdict(found, alpha), *_column_lines(found.columns, alpha)]
    if found.strangers:
        lines += ["", f"Samples of the target least like the source: {', '.join(found.strangers)}"]
    if found.proportions is not None:
        lines += _class_lines(found.classes, found.proportions, alpha)
    if loss is not None:
        lines += loss_lines(loss)
    return "\n".join(lines)


def as_dict(found: Findings, *, alpha: float, loss: LossChange | None = None) -> dict[str, Any]:
    """What `report` says, for JSON.

    Args:
        found: The findings.
        alpha: The level.
        loss: As in `report`.

    Returns:
        Numbers and names alone.
    """
    whole: dict[str, Any] = {
        "shift": found.differs,
        "p_value": found.p_value,
        "alpha": alpha,
        "test": {"statistic": found.test.statistic, "p_value": found.test.p_value},
        "a_distance": found.a_distance,
        "found_shift": _finite(found.found_shift),
        "columns": [
            column._asdict() | {"shift": _finite(column.shift)} for column in found.columns
        ],
        "classes": [line._asdict() for line in found.classes],
        "least_like_the_source": found.strangers,
    }
    if found.proportions is not None:
        shares = found.proportions
        whole["class_counts"] = {
            name: {"source": int(own), "target": int(other)}
            for name, own, other in zip(shares.classes, *shares.counts, strict=True)
        }
    if loss is not None:
        whole["loss_change"] = {
            name: value._asdict() if isinstance(value, Part) else value
            for name, value in loss._asdict().items()
        }
    return whole


def _finite(value: float | None) -> float | None:
    """JSON has neither infinity nor NaN."""
    return value if value is not None and math.isfinite(value) else None


def loss_lines(loss: LossChange) -> list[str]:
    """Lines on why a source model loses more on the target."""
    cells = [["the error's change", "points", "95 % interval", "share"]]
    parts = {
        "covariate shift (other samples)": loss.covariate,
        "label shift (other shares of classes)": loss.label,
        "the rest (other answers for the same samples)": loss.rest,
        "in all": loss.change,
    }
    certain = loss.change.low > 0 or loss.change.high < 0
    for name, part in parts.items():
        share = f"{100 * part.change / loss.change.change:.0f} %" if certain else ""
        interval = f"{100 * part.low:+.1f} to {100 * part.high:+.1f}"
        cells.append([name, f"{100 * part.change:+.1f}", interval, share])
    told = f"from {100 * loss.source:.1f} % to {100 * loss.target:.1f} %"
    return [
        "",
        f"A model of the source has an error that goes {told}. What explains it:",
        aligned(cells),
        *([] if certain else ["The change is within what chance explains."]),
    ]


def _verdict(found: Findings, alpha: float) -> list[str]:
    p = f"p = {found.p_value:.4g}"
    apart = f"A linear classifier tells the two apart: A-distance {found.a_distance:.2f} of 2."
    own = (
        f"All columns together: p = {found.test.p_value:.4g}, {len(found.test.null)} relabellings."
    )
    if found.differs:
        return [f"The data have shifted ({p} <= {alpha:g}).", own, apart]
    return [
        f"No shift was found ({p} > {alpha:g}); that is no proof that there is none.",
        own,
        apart,
        *_sensitivity(found),
    ]


def _sensitivity(found: Findings) -> list[str]:
    """How large a shift of the same rows the test would have found."""
    axis = "standard deviations along the direction of largest variance"
    if found.found_shift is None:
        return []
    if math.isinf(found.found_shift):
        return [f"A target that is moved by {SHIFTS[-1]:g} {axis} would not be found either."]
    below = [shift for shift in SHIFTS if shift < found.found_shift]
    missed = f", by {below[-1]:g} not" if below else ""
    return [f"A target that is moved by {found.found_shift:g} {axis} would be found{missed}."]


def _column_lines(columns: list[Column], alpha: float) -> list[str]:
    """How many columns differ, and a table of those furthest apart."""
    moved = sum(column.p_value <= alpha for column in columns)
    cells = [["column", "of", "distance", "p", ""]]
    # Equal p-values are common, many of them 1.
    for c in sorted(columns, key=lambda c: (c.p_value, -c.distance))[:SHOWN]:
        cells.append([c.name, c.kind, f"{c.distance:.3f}", f"{c.p_value:.2g}", c.says])
    return [
        "",
        f"{moved} of {len(columns)} tests of single columns find a difference (p by Holm). First:",
        aligned(cells),
    ]


def _class_lines(classes: list[ClassTest], shares: Proportions, alpha: float) -> list[str]:
    """Whether the classes' shares differ, and a table of the tests within classes."""
    verdict = "differ" if shares.p_value <= alpha else "do not differ noticeably"
    rough = ""
    if shares.least_expected < 5:
        rough = f"; rough, expected counts go down to {shares.least_expected:.1f}"
    lines = [
        "",
        f"The shares of the classes {verdict} (chi-square, p = {shares.p_value:.2g}{rough}).",
    ]
    for side, other in (("source", shares.counts[1]), ("target", shares.counts[0])):
        if (other == 0).any():
            lines.append(f"Only the {side} has: {', '.join(shares.classes[other == 0])}")
    if not classes:
        return lines
    moved = sum(line.p_value <= alpha for line in classes)
    lines.append(f"The samples of {moved} of {len(classes)} classes differ (p by Holm). First:")
    cells = [["class", "in source", "in target", "statistic", "p"]]
    for c in sorted(classes, key=lambda line: (line.p_value, -line.statistic))[:SHOWN]:
        counts = [str(c.source_rows), str(c.target_rows)]
        cells.append([c.label, *counts, f"{c.statistic:.4g}", f"{c.p_value:.2g}"])
    return [*lines, aligned(cells)]
