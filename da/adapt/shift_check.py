"""Has the target shifted, and how: what is asked before anything is adapted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from da.adapt.linear_models import softmax
from da.adapt.problem import Problem
from da.instance.calibration import calibrate
from da.instance.labelshift import bbse, mlls
from da.shift.findings import principal_components, proxy_a_distance
from da.shift.fused_test import mmd_fuse

MOST_ROWS = 400  # of each side in the test, whose time grows with their square
DIRECTIONS = 50  # principal components that the test sees
PERMUTATIONS = 499
LEVEL = 0.05
DISAGREE = 0.15  # total variation of two estimates of the shares from which neither is believed


@dataclass(frozen=True)
class LabelShift:
    """An estimate of the target's shares of classes.

    Attributes:
        source: The source's shares (k,).
        target: The estimated shares (k,), by maximum likelihood.
        other: The same by the confusion matrix; None if it cannot be inverted.
        p_value: Of the test that source rows drawn with the target's shares look like the target.
        plausible: Whether label shift alone explains the shift: the two estimates agree, and that
            test does not reject.
    """

    source: np.ndarray
    target: np.ndarray
    other: np.ndarray | None
    p_value: float
    plausible: bool


@dataclass(frozen=True)
class Shift:
    """What is known of the shift of the features.

    Attributes:
        p_value: Of the two-sample test. It is exact: without shift it is at most LEVEL in that
            share of cases.
        shifted: Whether it is at most LEVEL.
        distance: The proxy A-distance, in [0, 2]: 0 if a linear classifier cannot tell the domains
            apart.
        rows: How many rows of each side were tested.
    """

    p_value: float
    shifted: bool
    distance: float
    rows: tuple[int, int]


def check_shift(problem: Problem) -> Shift:
    """Test whether source and target features have one distribution.

    Args:
        problem: The problem.

    Returns:
        What the test and the classifier say.

    Example:
        >>> import numpy as np
        >>> from da.adapt.problem import make_problem
        >>> from da.adapt.shift_check import check_shift
        >>> rows = np.random.default_rng(0).normal(size=(80, 3))
        >>> y = np.arange(40) % 2
        >>> check_shift(make_problem(rows[:40], y, rows[40:] + 2, classes=2)).shifted
        True
    """
    x, y = some_rows(problem.x, problem.seed), some_rows(problem.target, problem.seed + 1)
    x, y = directions(x, y)
    p_value = mmd_fuse(x, y, permutations=PERMUTATIONS, random_state=problem.seed).p_value
    distance = proxy_a_distance(x, y)
    return Shift(p_value, p_value <= LEVEL, distance, (len(x), len(y)))


def check_label_shift(
    problem: Problem, held: np.ndarray, held_y: np.ndarray, target: np.ndarray
) -> LabelShift | None:
    """Estimate the target's shares of classes, and ask whether they explain the shift.

    Args:
        problem: The problem.
        held: Logits (v, k) of the source model on held-out source rows.
        held_y: Their classes (v,).
        target: Logits (m, k) of the source model on the target.

    Returns:
        The estimate; None for a regression, or if a class is missing among the held-out rows.
    """
    if problem.regression or len(np.unique(held_y)) < problem.classes:
        return None
    of_source, of_target = softmax(held.astype(np.float64)), softmax(target.astype(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calibration = calibrate(of_source, held_y)
        weights = np.asarray(mlls(held_y, calibration(of_target)))
        other = _by_confusion(of_source, held_y, of_target)
    shares = np.bincount(held_y, minlength=problem.classes) / len(held_y)
    estimate = weights * shares / (weights * shares).sum()
    p_value = _explained(problem, estimate)
    agree = other is not None and 0.5 * np.abs(other - estimate).sum() <= DISAGREE
    return LabelShift(shares, estimate, other, p_value, bool(agree and p_value > LEVEL))


def _by_confusion(
    of_source: np.ndarray, held_y: np.ndarray, of_target: np.ndarray
) -> np.ndarray | None:
    """The target's shares by `bbse`; None if the confusion matrix is singular."""
    try:
        weights = np.asarray(bbse(of_source, held_y, of_target))
    except ValueError:
        return None
    shares = weights * np.bincount(held_y, minlength=of_target.shape[1]) / len(held_y)
    return shares / shares.sum()


def _explained(problem: Problem, shares: np.ndarray) -> float:
    """The p-value of the target against source rows that are drawn with its estimated shares.

    Rows are drawn without replacement: as many as the rarest class allows, up to MOST_ROWS.
    """
    generator = np.random.default_rng(problem.seed)
    counts = np.bincount(problem.y, minlength=problem.classes)
    wanted = shares > 1e-3
    total = min(MOST_ROWS, int(np.min(counts[wanted] / shares[wanted])))
    drawn = [
        generator.choice(
            np.flatnonzero(problem.y == k), min(round(total * shares[k]), counts[k]), replace=False
        )
        for k in np.flatnonzero(wanted)
    ]
    rows = np.concatenate(drawn)
    if len(rows) < 10:
        return 0.0
    x, y = directions(problem.x[rows], some_rows(problem.target, problem.seed + 1))
    return mmd_fuse(x, y, permutations=PERMUTATIONS, random_state=problem.seed).p_value


def some_rows(rows: np.ndarray, seed: int) -> np.ndarray:
    """At most MOST_ROWS rows, drawn."""
    if len(rows) <= MOST_ROWS:
        return rows
    return rows[np.random.default_rng(seed).choice(len(rows), MOST_ROWS, replace=False)]


def directions(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both samples on the principal components of the pooled rows, which treats them alike."""
    centre, axes, _ = principal_components(x, y, most=DIRECTIONS)
    x, y = x - centre, y - centre
    return (x, y) if x.shape[1] <= DIRECTIONS else (x @ axes.T, y @ axes.T)
