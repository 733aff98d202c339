"""What was found about two samples, as text.

experiments/two_sample.py prints `described` before the tests and `report` after them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from da.records.grids import aligned
from da.shift.categories import Categories
from da.shift.class_drift import ClassTest, Proportions
from da.shift.findings import SHIFTS, Findings, Options
from da.shift.inputs import Sample, column_names, sample_name
from da.shift.picture import BARS


def report(options: Options, source: Sample, target: Sample, found: Findings) -> str:
    """Write the findings as text.

    Args:
        options: The test's name and level.
        source: The reference sample.
        target: The other sample.
        found: The findings.

    Returns:
        The text, of several lines.
    """
    lines = _verdict(options, source, target, found)
    if found.monitor is not None:
        lines.append(
            f"All {len(source.every)} and {len(target.every)} rows, random features, no p-value: "
            f"squared MMD {found.monitor:.4g}"
        )
    lines += _column_lines(options, source, target, found)
    if found.categories is not None:
        lines += _category_lines(options, source.word_names, found.categories)
    if found.differs:
        lines += ["", f"Rows of the target least like the source: {', '.join(found.strangers)}"]
    if found.proportions is not None:
        lines += _class_lines(options, found.classes, found.proportions)
    return "\n".join(lines)


def described(options: Options, source: Sample, target: Sample) -> str:
    """Describe what is compared, with a warning if one column dominates the distances.

    Args:
        options: The inputs' names, and whether columns are standardised.
        source: The reference sample.
        target: The other sample.

    Returns:
        The text, of several lines.
    """
    lines = [
        f"{name}: {sample_name(options, name)}, {_size(sample)}"
        for name, sample in (("source", source), ("target", target))
    ]
    if options.standardise:
        lines.append("columns: divided by their standard deviation over both samples")
    else:
        lines.append("columns: as they are")
    variance = np.concatenate([source.x, target.x]).astype(np.float64).var(axis=0)
    if len(variance) > 2 and variance.max() > 0.5 * variance.sum():
        name = column_names(source, target)[int(variance.argmax())]
        share = variance.max() / variance.sum()
        lines.append(
            f"warning: {name} makes {100 * share:.0f} % of the variance, so the distances depend "
            "on little else; consider --standardise"
        )
    return "\n".join(lines)


def _verdict(options: Options, source: Sample, target: Sample, found: Findings) -> list[str]:
    """The lines about the test of all columns together."""
    test, p = found.test, f"p = {found.test.p_value:.4g}"
    lines = [f"{options.test}: statistic {test.statistic:.4g}, {p}, {len(test.null)} relabellings"]
    if found.differs:
        return [*lines, f"The two samples differ ({p} <= {options.alpha:g})."]
    lines += [
        f"No difference was found ({p} > {options.alpha:g}); that is no proof that there is none.",
        _sensitivity(source, target, found),
    ]
    if (found.columns.p_value <= options.alpha).any():
        lines.append(
            "Single columns do differ, though (below). The test does not see them beside many "
            "other columns or columns of larger numbers."
        )
    return lines


def _sensitivity(source: Sample, target: Sample, found: Findings) -> str:
    """How large a shift of the same rows the test would have found."""
    rows = f"With these {len(source.x)} and {len(target.x)} rows"
    axis = "standard deviations along the direction of largest variance"
    if found.found_shift is None:
        return f"{rows}, a target that is moved by {SHIFTS[-1]:g} {axis} is not found either."
    below = [shift for shift in SHIFTS if shift < found.found_shift]
    missed = f", by {below[-1]:g} it is not" if below else ""
    return f"{rows}, a target that is moved by {found.found_shift:g} {axis} is found{missed}."


def _column_lines(options: Options, source: Sample, target: Sample, found: Findings) -> list[str]:
    """How many columns differ, and a table of those furthest apart."""
    names, columns = column_names(source, target), found.columns
    moved = int((columns.p_value <= options.alpha).sum())
    cells = [["column", "distance", "p", "mean's shift in deviations"]]
    for i in np.argsort(-columns.distance, kind="stable")[:BARS]:
        numbers = columns.distance[i], columns.p_value[i], columns.shift[i]
        cells.append([names[i], f"{numbers[0]:.3f}", f"{numbers[1]:.2g}", f"{numbers[2]:+.2f}"])
    return [
        "",
        f"{moved} of {len(names)} columns differ (Kolmogorov-Smirnov, p by Holm). "
        "The furthest apart:",
        aligned(cells),
    ]


def _category_lines(options: Options, names: Sequence[str], categories: Categories) -> list[str]:
    """How many columns of categories differ, and a table of those furthest apart."""
    moved = int((categories.p_value <= options.alpha).sum())
    cells = [["column", "distance", "p", "only in the target"]]
    for i in np.argsort(-categories.distance, kind="stable")[:BARS]:
        rough = " (rough)" if categories.least_expected[i] < 5 else ""
        new = [name or "(empty)" for name in categories.new[i]]
        more = ", ..." if len(new) > 5 else ""
        numbers = f"{categories.distance[i]:.3f}", f"{categories.p_value[i]:.2g}{rough}"
        cells.append([names[i], *numbers, ", ".join(new[:5]) + more])
    return [
        "",
        f"{moved} of {len(names)} columns of categories differ in all rows (chi-square, p by "
        "Holm; the distance is the total variation). The furthest apart:",
        aligned(cells),
    ]


def _class_lines(options: Options, classes: list[ClassTest], shares: Proportions) -> list[str]:
    """Whether the classes' shares differ, and a table of the tests within classes."""
    verdict = "differ" if shares.p_value <= options.alpha else "do not differ noticeably"
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
    moved = sum(line.p_value <= options.alpha for line in classes)
    lines.append(
        f"Within their class the rows differ in {moved} of {len(classes)} common classes "
        "(p by Holm)."
    )
    if not classes:
        return lines
    cells = [["class", "source rows", "target rows", "statistic", "p"]]
    for c in sorted(classes, key=lambda line: -line.statistic):
        counts = [str(c.source_rows), str(c.target_rows)]
        cells.append([c.label, *counts, f"{c.statistic:.4g}", f"{c.p_value:.2g}"])
    return [*lines, aligned(cells)]


def _size(sample: Sample) -> str:
    """Rows, columns and classes of a sample."""
    rows = f"{sample.total} rows"
    if len(sample.x) < sample.total:
        rows = f"{len(sample.x)} of {sample.total} rows, chosen at random (--max-rows)"
    labels = "no labels"
    if sample.every_label is not None:
        labels = f"{len(np.unique(sample.every_label))} classes"
    return f"{rows}, {sample.x.shape[1]} columns, {labels}"
