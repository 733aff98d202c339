"""Everything that is asked of two samples, and the answers.

`find` asks whether they differ; in which columns, classes and rows; how well a classifier tells
them apart; and, if nothing was found, how large a shift would have been found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from da.arrays.choices import check_choice
from da.records.multiple_tests import holm
from da.shallow.a_distance import a_distance
from da.shift.class_drift import ClassTest, Proportions, moved_classes, moved_proportions
from da.shift.column_findings import Column, of_array, of_labels, of_table
from da.shift.drift import witness
from da.shift.fused_test import mmd_fuse
from da.shift.mmd import MMDTest, mmd_test

Test = Literal["mmd_fuse", "mmd_test"]
TESTS: dict[str, Callable[..., MMDTest]] = {"mmd_fuse": mmd_fuse, "mmd_test": mmd_test}
SHIFTS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # tried if nothing was found, in deviations
MANY_VALUES = 0.5  # different values a row, from which a column is moved
COMPONENTS = 10  # principal components
STRANGERS = 5  # target rows that are named because they are least like the source


@dataclass(frozen=True, eq=False)
class Sample:
    """One side of a drift report.

    Attributes:
        x: The features (n, d) of the rows that are tested. They must be made without regard to
            which side a row is of, or the level of the test is not exact.
        rows: What each of these rows is called.
        labels: Their classes (n,) as text, or None.
        table: The columns of all rows, of numbers or categories with gaps; None: the columns of x.
        every_label: The classes or numbers of all rows; None: no labels.
    """

    x: np.ndarray
    rows: Sequence[str]
    labels: np.ndarray | None = None
    table: pd.DataFrame | None = None
    every_label: np.ndarray | None = None


class Findings(NamedTuple):
    """Everything that is reported.

    Attributes:
        p_value: Of the hypothesis that nothing differs, from all families of tests together.
        differs: Whether it is at most alpha.
        test: The test of all columns together.
        columns: Columns, gaps and shares of classes, with p-values corrected over all of them.
        classes: The tests of the rows of each class; empty without labels.
        proportions: The classes' shares; None without classes on both sides.
        a_distance: The proxy A-distance, in [0, 2].
        found_shift: If nothing was found, the shift in standard deviations that would have been
            found, infinity if no shift of `SHIFTS` would. None if a shift was found, or if no
            column has many values.
        strangers: The names of the target rows least like the source.
    """

    p_value: float
    differs: bool
    test: MMDTest
    columns: list[Column]
    classes: list[ClassTest]
    proportions: Proportions | None
    a_distance: float
    found_shift: float | None
    strangers: list[str]


def find(
    source: Sample,
    target: Sample,
    *,
    test: Test = "mmd_fuse",
    permutations: int = 1000,
    alpha: float = 0.05,
    seed: int = 0,
) -> Findings:
    """Run all tests and say whether the samples differ.

    There are up to three families: all columns together, single columns, and the rows within each
    class. The p-value is the least of the families' times their number (Bonferroni), so samples
    that do not differ are reported to differ in at most a share alpha of cases.

    Args:
        source: The reference sample.
        target: The sample that may have drifted.
        test: "mmd_fuse" (default), with kernels of many bandwidths, or "mmd_test", which is faster.
        permutations: Relabellings of the test. Default 1000.
        alpha: The level. Default 0.05.
        seed: Of the relabellings. Default 0.

    Returns:
        The answers.

    Raises:
        ValueError: An option is out of range.

    Example:
        >>> import numpy as np
        >>> from da.shift.findings import Sample, find
        >>> rows = np.random.default_rng(0).normal(size=(100, 2))
        >>> names = [str(row) for row in range(50)]
        >>> source, target = Sample(rows[:50], names), Sample(rows[50:] + [0, 3], names)
        >>> found = find(source, target, test="mmd_test", permutations=199)
        >>> found.differs, [column.p_value < 0.05 for column in found.columns]
        (True, [False, True])
    """
    check_choice("test", test, Test)
    if not 2 / (1 + permutations) <= alpha < 1:
        raise ValueError(
            "alpha must lie between 2 / (1 + permutations), below which nothing can be found, and "
            f"1; got {alpha} with {permutations} permutations"
        )
    run = TESTS[test]
    whole = run(source.x, target.x, permutations=permutations, random_state=seed)
    columns = _columns(source, target)
    classes = _classes(source, target, run, permutations, alpha, seed)
    families = [[whole.p_value], [c.p_value for c in columns], [c.p_value for c in classes]]
    tested = [min(family) for family in families if family]
    p_value = min(1.0, len(tested) * min(tested))
    differs = p_value <= alpha
    order = np.argsort(-witness(source.x, target.x), kind="stable")[:STRANGERS]
    return Findings(
        p_value=p_value,
        differs=differs,
        test=whole,
        columns=columns,
        classes=classes,
        proportions=_proportions(source, target),
        a_distance=proxy_a_distance(source.x, target.x),
        found_shift=None if differs else found_shift(source, target, run, alpha, seed),
        strangers=[target.rows[row] for row in order] if differs else [],
    )


def proxy_a_distance(source: np.ndarray, target: np.ndarray) -> float:
    """Measure how well a linear classifier tells two samples apart: 0 not at all, 2 always.

    Args:
        source: Rows (n, d), n > 1.
        target: Rows (m, d), m > 1.
    """
    x, y = (torch.from_numpy(np.asarray(rows, np.float64)) for rows in (source, target))
    return a_distance(x, y)


def found_shift(
    source: Sample, target: Sample, run: Callable[..., MMDTest], alpha: float, seed: int
) -> float | None:
    """Find the least of `SHIFTS` that the test would have found.

    The target's rows are moved along the first principal component of the columns with many
    values. A category that is moved by a little would be found at once, and say nothing.

    Args:
        source: The reference sample.
        target: The sample that is moved.
        run: The test.
        alpha: The level.
        seed: Of the relabellings.

    Returns:
        The shift in standard deviations along that component, infinity if none is found, None if
        no column has many values.
    """
    pooled = np.concatenate([source.x, target.x])
    many = [len(np.unique(column)) > MANY_VALUES * len(pooled) for column in pooled.T]
    if not any(many):
        return None
    _, axes, deviation = principal_components(source.x[:, many], target.x[:, many])
    direction = np.zeros(len(many))
    direction[many] = deviation[0] * axes[0]
    permutations = max(199, int(np.ceil(5 / alpha)))
    low, high = 0, len(SHIFTS)
    while low < high:  # a larger shift is found more easily
        middle = (low + high) // 2
        moved = target.x + SHIFTS[middle] * direction
        x = source.x.astype(moved.dtype)
        p_value = run(x, moved, permutations=permutations, random_state=seed).p_value
        low, high = (low, middle) if p_value <= alpha else (middle + 1, high)
    return SHIFTS[low] if low < len(SHIFTS) else math.inf


def principal_components(
    source: np.ndarray, target: np.ndarray, *, most: int = COMPONENTS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The principal components of the rows (n, d) and (m, d) of both samples.

    Args:
        source: Rows (n, d).
        target: Rows (m, d).
        most: How many directions at most. Default 10.

    Returns:
        The mean (d,), the first k directions (k, d), and the standard deviations (k,) along them.
    """
    pooled = np.concatenate([source, target]).astype(np.float64)
    centre = pooled.mean(axis=0)
    _, singular, axes = np.linalg.svd(pooled - centre, full_matrices=False)
    return centre, axes[:most], singular[:most] / np.sqrt(len(pooled))


def _columns(source: Sample, target: Sample) -> list[Column]:
    """Columns, gaps and labels, corrected together."""
    if source.table is None or target.table is None:
        columns = of_array(source.x, target.x)
    else:
        columns = of_table(source.table, target.table)
    if source.every_label is not None and target.every_label is not None:
        columns.append(of_labels(source.every_label, target.every_label))
    corrected = holm(np.array([column.p_value for column in columns]))
    return [c._replace(p_value=float(p)) for c, p in zip(columns, corrected, strict=True)]


def _classes(
    source: Sample,
    target: Sample,
    run: Callable[..., MMDTest],
    permutations: int,
    alpha: float,
    seed: int,
) -> list[ClassTest]:
    if source.labels is None or target.labels is None:
        return []
    return moved_classes(
        source.x,
        target.x,
        source.labels,
        target.labels,
        test=run,
        permutations=permutations,
        alpha=alpha / 3,  # of the three families
        random_state=seed,
    )


def _proportions(source: Sample, target: Sample) -> Proportions | None:
    labels = source.every_label, target.every_label
    if any(each is None or each.dtype.kind != "U" for each in labels):
        return None
    return moved_proportions(labels[0], labels[1])  # type: ignore[arg-type]
