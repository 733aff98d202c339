"""What was found about two samples, as text."""

from __future__ import annotations

import numpy as np

from da.records.grids import aligned
from da.shift.findings import SHIFTS, Findings, Options
from da.shift.inputs import Sample, column_names, sample_name
from da.shift.picture import BARS


def report(options: Options, source: Sample, target: Sample, found: Findings) -> str:
    """What is printed."""
    test, p = found.test, f"p = {found.test.p_value:.4g}"
    lines = [f"{options.test}: statistic {test.statistic:.4g}, {p}, {len(test.null)} relabellings"]
    if found.differs:
        lines.append(f"The two samples differ ({p} <= {options.alpha:g}).")
    else:
        lines.append(
            f"No difference was found ({p} > {options.alpha:g}); that is no proof that there is none."
        )
        lines.append(_sensitivity(source, target, found))
        if (found.columns.p_value <= options.alpha).any():
            lines.append(
                "Single columns do differ, though (below): beside many others, or columns of larger numbers, the test does not see them."
            )
    if found.monitor is not None:
        lines.append(
            f"All {len(source.every)} and {len(target.every)} rows, random features, no p-value: squared MMD {found.monitor:.4g}"
        )
    names, columns = column_names(source, target), found.columns
    order = np.argsort(-columns.distance, kind="stable")[:BARS]
    cells = [
        [
            names[i],
            f"{columns.distance[i]:.3f}",
            f"{columns.p_value[i]:.2g}",
            f"{columns.shift[i]:+.2f}",
        ]
        for i in order
    ]
    moved = int((columns.p_value <= options.alpha).sum())
    lines += [
        "",
        f"{moved} of {len(names)} columns differ (Kolmogorov-Smirnov, p by Holm). The furthest apart:",
    ]
    lines += [aligned([["column", "distance", "p", "mean's shift in deviations"], *cells])]
    if found.differs:
        lines += ["", f"Rows of the target least like the source: {', '.join(found.strangers)}"]
    return "\n".join(lines + (_class_lines(options, found) if found.proportions else []))


def _sensitivity(source: Sample, target: Sample, found: Findings) -> str:
    """How large a shift of the same rows the test would have found."""
    rows = f"With these {len(source.x)} and {len(target.x)} rows"
    axis = "standard deviations along the direction of largest variance"
    if found.found_shift is None:
        return f"{rows}, a target that is moved by {SHIFTS[-1]:g} {axis} is not found either."
    below = [shift for shift in SHIFTS if shift < found.found_shift]
    missed = f", by {below[-1]:g} it is not" if below else ""
    return f"{rows}, a target that is moved by {found.found_shift:g} {axis} is found{missed}."


def _class_lines(options: Options, found: Findings) -> list[str]:
    assert found.proportions is not None
    shares, moved = (
        found.proportions,
        [line for line in found.classes if line.p_value <= options.alpha],
    )
    verdict = "differ" if shares.p_value <= options.alpha else "do not differ noticeably"
    rough = (
        f"; rough, expected counts go down to {shares.least_expected:.1f}"
        if shares.least_expected < 5
        else ""
    )
    lines = [
        "",
        f"The shares of the classes {verdict} (chi-square, p = {shares.p_value:.2g}{rough}).",
    ]
    for side, other in (("source", shares.counts[1]), ("target", shares.counts[0])):
        if (other == 0).any():
            lines.append(f"Only the {side} has: {', '.join(shares.classes[other == 0])}")
    lines.append(
        f"Within their class the rows differ in {len(moved)} of {len(found.classes)} common classes (p by Holm)."
    )
    order = sorted(found.classes, key=lambda line: -line.statistic)
    cells = [
        [c.label, str(c.source_rows), str(c.target_rows), f"{c.statistic:.4g}", f"{c.p_value:.2g}"]
        for c in order
    ]
    return (
        [*lines, aligned([["class", "source rows", "target rows", "statistic", "p"], *cells])]
        if cells
        else lines
    )


def described(options: Options, source: Sample, target: Sample) -> str:
    """What is compared: rows, columns, and a warning where one column rules the distances."""
    lines = []
    for name, sample in (("source", source), ("target", target)):
        labels = (
            "no labels"
            if sample.every_label is None
            else f"{len(np.unique(sample.every_label))} classes"
        )
        rows = (
            f"{len(sample.x)} of {sample.total} rows, chosen at random (--max-rows)"
            if len(sample.x) < sample.total
            else f"{sample.total} rows"
        )
        lines.append(
            f"{name}: {sample_name(options, name)}, {rows}, {sample.x.shape[1]} columns, {labels}"
        )
    variance = np.concatenate([source.x, target.x]).astype(np.float64).var(axis=0)
    lines.append(
        "columns: divided by their standard deviation over both samples"
        if options.standardise
        else "columns: as they are"
    )
    if len(variance) > 2 and variance.max() > 0.5 * variance.sum():
        name, share = (
            column_names(source, target)[int(variance.argmax())],
            variance.max() / variance.sum(),
        )
        lines.append(
            f"warning: {name} makes {100 * share:.0f} % of the variance, so that the distances see little else; consider --standardise"
        )
    return "\n".join(lines)
