"""What moved between two samples: columns, classes, shares of classes, rows. For the reader of a two-sample test that has rejected.

Every p-value is for one column or one class; `holm` corrects many of them so that the chance of one false alarm among all stays at the
level. A class whose rows agree while its share does not is label shift; the reverse is a shift of the features given the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import chi2_contingency, ks_2samp

from da.arrays import Array, check_two_samples, full_precision, like
from da.kernels.bandwidths import median_bandwidth
from da.kernels.functions import gaussian
from da.shift.mmd import MMDTest, mmd_test

RESOLUTION = (
    5  # a corrected p-value can fall to 1 / RESOLUTION of the level, whatever the number of classes
)


class Columns(NamedTuple):
    """How each of d columns moved."""

    distance: np.ndarray  # (d,) Kolmogorov-Smirnov: the largest difference of the two distribution functions, in [0, 1]
    p_value: np.ndarray  # (d,) of that distance, corrected by `holm`
    shift: np.ndarray  # (d,) mean of the target less the source's, in standard deviations over both samples; 0 for a constant column


class ClassTest(NamedTuple):
    """The two-sample test of one class's rows."""

    label: str
    source_rows: int
    target_rows: int
    statistic: float  # the test's, about 0 where the class did not move
    p_value: float  # corrected by `holm` over the classes


class Proportions(NamedTuple):
    """The classes' shares on both sides."""

    p_value: float  # of equal shares, by Pearson's chi-square
    least_expected: float  # rows; the p-value is rough where this is below 5
    classes: np.ndarray  # (k,) that either side has, sorted
    counts: np.ndarray  # (2, k) rows of the source and of the target


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values (k,) corrected for being k: with ranks r from 0, the running maximum of (k - r) p_(r), at most 1.

    Rejecting those at most alpha keeps the chance of any false rejection at alpha, however the tests depend on each other. Holm: A Simple
    Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of Statistics 6, 1979. Raises ValueError outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p_values must be numbers in [0, 1], shape (k,); got {p_values!r}")
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]).clip(max=1)
    return corrected


def moved_columns(source: Array, target: Array) -> Columns:
    """The marginal distributions of source (n, d) and target (m, d), column by column. A change of their dependence alone is not seen.

    p-values are the asymptotic ones of the two-sided Kolmogorov-Smirnov test: on the safe side for columns with ties.
    Raises ValueError or TypeError where the inputs are no float matrices of one width.
    """
    x, y = (z.detach().cpu().double().numpy() for z in check_two_samples(source, target))
    found = ks_2samp(x, y, axis=0, method="asymp")
    pooled = np.concatenate([x, y])
    deviation = np.where(np.ptp(pooled, axis=0) > 0, pooled.std(axis=0), np.inf)
    shift = (y.mean(axis=0) - x.mean(axis=0)) / deviation
    return Columns(np.asarray(found.statistic), holm(np.asarray(found.pvalue).clip(0, 1)), shift)


def moved_classes(
    source: Array,
    target: Array,
    source_labels: np.ndarray,
    target_labels: np.ndarray,
    *,
    test: Callable[..., MMDTest] = mmd_test,
    permutations: int = 1000,
    alpha: float = 0.05,
    random_state: int = 0,
) -> list[ClassTest]:
    """A two-sample test of each class with two or more rows on both sides, in the order of the classes; none where there is none.

    source, target: (n, d) and (m, d); source_labels, target_labels: their classes (n,) and (m,), numbers or text.
    test: `mmd_test` or `mmd_fuse`, with `permutations` relabellings, or with 5 k / alpha for k classes where that is more: the least
        p-value of a class, k / (1 + permutations) after the correction, would else not reach the level alpha for many classes.
    random_state: seed of the relabellings.

    Raises ValueError where the labels do not fit the rows, and as the test.
    """
    x, y = check_two_samples(source, target)
    own, other = (
        _check_labels(source_labels, len(x), "source_labels"),
        _check_labels(target_labels, len(y), "target_labels"),
    )
    common = [
        label
        for label in np.intersect1d(own, other)
        if min((own == label).sum(), (other == label).sum()) > 1
    ]
    permutations = max(permutations, int(np.ceil(RESOLUTION * len(common) / alpha)))
    found = []
    for label in common:
        a, b = x[torch.from_numpy(own == label)], y[torch.from_numpy(other == label)]
        result = test(a, b, permutations=permutations, random_state=random_state)
        found.append(ClassTest(str(label), len(a), len(b), result.statistic, result.p_value))
    corrected = holm(np.array([line.p_value for line in found]))
    return [line._replace(p_value=float(p)) for line, p in zip(found, corrected, strict=True)]


def moved_proportions(source_labels: np.ndarray, target_labels: np.ndarray) -> Proportions:
    """Pearson's chi-square test of the hypothesis that the classes have the same shares among labels (n,) and (m,).

    Classes of one side alone count. With a single class there is nothing to test, and p is 1. Raises ValueError for no labels.
    """
    own, other = (
        _check_labels(source_labels, None, "source_labels"),
        _check_labels(target_labels, None, "target_labels"),
    )
    classes = np.union1d(own, other)
    counts = np.array(
        [[int((labels == label).sum()) for label in classes] for labels in (own, other)]
    )  # (2, k)
    if len(classes) == 1:
        return Proportions(1.0, float(counts.min()), classes, counts)
    test = chi2_contingency(counts, correction=False)
    return Proportions(float(test.pvalue), float(test.expected_freq.min()), classes, counts)


def witness(source: Array, target: Array) -> Array:
    """How much more a row z of the target (m, d) is like the target's rows than like the source's (n, d): (m,), in [-1, 1].

        w(z) = mean_j k(z, y_j) - mean_i k(z, x_i),        k(x, y) = exp(-||x - y||^2 / s), s the median squared distance

    The mean over j leaves z itself out. Rows with a large value are what is new. Gretton et al.: A Kernel Two-Sample Test. JMLR 13, 2012,
    section 2.3, there with z included and the other sign. Raises ValueError for m < 2, and as `da.kernels.gaussian`.
    """
    x, y = check_two_samples(source, target)
    if len(y) < 2:
        raise ValueError(f"target must have at least 2 rows; got {len(y)}")
    with torch.no_grad(), full_precision(x):
        bandwidth = float(median_bandwidth(torch.cat([x, y]))) or 1.0  # 0: all rows coincide
        near = (gaussian(y, y, bandwidth=bandwidth).sum(dim=1) - 1) / (len(y) - 1)  # (m,)
        return like(near - gaussian(y, x, bandwidth=bandwidth).mean(dim=1), source)


def _check_labels(labels: np.ndarray, rows: int | None, name: str) -> np.ndarray:
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) == 0 or rows not in (None, len(array)):
        raise ValueError(
            f"{name} must be one class a row, shape ({'n' if rows is None else rows},); got shape {array.shape}"
        )
    return array
