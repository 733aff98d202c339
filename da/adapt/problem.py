"""What every candidate gets: source rows to learn from, source rows held out, target rows.

A target label has no place here. Rows are scaled once, in the way that the saved model repeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from da.arrays.choices import check_choice

Scale = Literal["rows", "columns", "none"]
PARTS = 5  # of the source; each is held out once, or only one if rows are many
MANY = 500


@dataclass(frozen=True)
class Problem:
    """The rows that candidates learn from and are judged on.

    Attributes:
        x: Source rows (n, d), scaled, float32. They are all of the source.
        y: Their classes (n,) int64, or numbers (n,) float64.
        domains: The source that each row comes from, (n,) integers from 0.
        fold: The part in which a source row is held out when a candidate is judged on the source,
            (n,) integers from 0; -1: never.
        target: Target rows (m, d), scaled, float32.
        classes: How many classes there are; 0 for a regression.
        seed: The seed of everything that is drawn.
        scale: What was done to the rows.
        centre: What was subtracted from each column, (d,); zeros unless `scale` is "columns".
        spread: What each column was divided by, (d,); ones unless `scale` is "columns".

    Example:
        >>> import numpy as np
        >>> from da.adapt.problem import make_problem
        >>> rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
        >>> problem = make_problem(rows, np.arange(40) % 2, rows + 1, classes=2)
        >>> len(problem.parts), problem.held.sum(), problem.target.shape
        (5, np.int64(40), (40, 3))
    """

    x: np.ndarray
    y: np.ndarray
    domains: np.ndarray
    fold: np.ndarray
    target: np.ndarray
    classes: int
    seed: int
    scale: Scale
    centre: np.ndarray
    spread: np.ndarray

    @property
    def regression(self) -> bool:
        """Whether labels are numbers."""
        return self.classes == 0

    @property
    def held(self) -> np.ndarray:
        """The source rows that are held out in some part, (n,) bool."""
        return self.fold >= 0

    @property
    def parts(self) -> list[np.ndarray]:
        """The source rows of each part, (n,) bool."""
        return [self.fold == k for k in range(int(self.fold.max()) + 1)]

    @property
    def first_kept(self) -> np.ndarray:
        """The source rows that the first part does not hold out, (n,) bool."""
        return self.fold != 0

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """Scale other feature rows (k, d) as these were."""
        return scaled(rows, self.scale, self.centre, self.spread)


def make_problem(
    source: np.ndarray,
    labels: np.ndarray,
    target: np.ndarray,
    *,
    classes: int,
    domains: np.ndarray | None = None,
    scale: Scale = "none",
    seed: int = 0,
) -> Problem:
    """Scale the rows and hold some source rows out.

    Args:
        source: Source rows (n, d), floats.
        labels: Their classes (n,), integers from 0, or numbers.
        target: Target rows (m, d).
        classes: How many classes there are; 0: the labels are numbers.
        domains: The source of each row, (n,) integers; None: one source.
        scale: "rows": each row to the 2-norm sqrt(d); "columns": by mean and standard deviation of
            the source's columns; "none" (default).
        seed: The seed of the rows that are held out, and of candidates.

    Returns:
        The problem.

    Raises:
        ValueError: The scale is none of the three words.

    Example:
        >>> import numpy as np
        >>> from da.adapt.problem import make_problem
        >>> rows = np.eye(4, dtype=np.float32)
        >>> make_problem(rows, np.arange(4) % 2, rows, classes=2, scale="rows").x.sum(axis=1)
        array([2., 2., 2., 2.], dtype=float32)
    """
    check_choice("scale", scale, Scale)
    width = source.shape[1]
    centre, spread = np.zeros(width, np.float32), np.ones(width, np.float32)
    if scale == "columns":
        centre = source.mean(axis=0, dtype=np.float64).astype(np.float32)
        deviation = source.std(axis=0, dtype=np.float64)
        spread = np.where(deviation > 1e-12, deviation, 1.0).astype(np.float32)
    return Problem(
        x=scaled(source, scale, centre, spread),
        y=labels.astype(np.int64 if classes else np.float64),
        domains=np.zeros(len(source), np.int64) if domains is None else domains,
        fold=folds(labels, classes, seed),
        target=scaled(target, scale, centre, spread),
        classes=classes,
        seed=seed,
        scale=scale,
        centre=centre,
        spread=spread,
    )


def scaled(rows: np.ndarray, scale: Scale, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Scale rows (k, d) in float32.

    Args:
        rows: The rows.
        scale: As in `make_problem`.
        centre: Subtracted from columns.
        spread: Divides columns.
    """
    rows = np.asarray(rows, np.float32)
    if scale == "columns":
        return (rows - centre) / spread
    if scale == "rows":
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows * (np.sqrt(rows.shape[1]) / np.maximum(norms, 1e-12)).astype(np.float32)
    return rows


def folds(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Cut the source into five parts of equal shares of classes; of a large one hold out a part.

    Args:
        labels: Classes or numbers (n,).
        classes: How many classes; 0 for numbers.
        seed: The seed of the draw.

    Returns:
        The part of each row, (n,) integers from 0. With MANY rows or more only part 0 is held out,
        and other rows have -1. A class's only row has -1.

    Example:
        >>> import numpy as np
        >>> from da.adapt.problem import folds
        >>> np.bincount(folds(np.repeat([0, 1], 50), 2, 0))
        array([20, 20, 20, 20, 20])
    """
    generator = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels == k) for k in range(classes)] or [np.arange(len(labels))]
    fold = np.full(len(labels), -1)
    start = 0
    for rows in groups:
        if len(rows) > 1:
            fold[generator.permutation(rows)] = (start + np.arange(len(rows))) % PARTS
            start += len(rows)
    return fold if len(labels) < MANY else np.where(fold == 0, 0, -1)
