"""What moved between two labelled samples: which classes, and the shares of the classes.

Use it if both samples have labels. If the rows of a class agree but its share does not, that is
label shift. If its share agrees but its rows do not, the features have shifted given the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import chi2_contingency

from da.arrays.arguments import checked
from da.arrays.classes import class_values
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, check_two_samples
from da.arrays.random_states import RandomState, seed_of
from da.data.class_names import composed_labels
from da.records.multiple_tests import holm
from da.shift.mmd import MMDTest, mmd_test

RESOLUTION = 5  # corrected p-values can fall to 1 / RESOLUTION of the level, for any class count


class ClassTest(NamedTuple):
    """The two-sample test of one class's rows, as found by `moved_classes`.

    Attributes:
        label: The class.
        source_rows: Its rows in the source.
        target_rows: Its rows in the target.
        statistic: The test's statistic, about 0 if the class did not move.
        p_value: The p-value, corrected by `holm` over the classes.

    Example:
        >>> import numpy as np
        >>> from da.shift import moved_classes
        >>> x, labels = np.arange(6.0)[:, None], np.zeros(6, dtype=int)
        >>> (line,) = moved_classes(x, x, labels, labels, permutations=99)
        >>> line.label, line.source_rows, line.p_value
        ('0', 6, 1.0)
    """

    label: str
    source_rows: int
    target_rows: int
    statistic: float
    p_value: float


class Proportions(NamedTuple):
    """The classes' shares on both sides, as found by `moved_proportions`.

    Attributes:
        p_value: Of the hypothesis of equal shares, by Pearson's chi-square test.
        least_expected: The least expected count, in rows. The p-value is rough if this is below 5.
        classes: The k classes that either side has, sorted.
        counts: The rows (2, k) of each class, of the source and of the target.

    Example:
        >>> import numpy as np
        >>> from da.shift import moved_proportions
        >>> moved_proportions(np.array(["a", "a", "b"]), np.array(["b", "c"])).counts
        array([[2, 1, 0],
               [0, 1, 1]])
    """

    p_value: float
    least_expected: float
    classes: np.ndarray
    counts: np.ndarray


@checked
def moved_classes(
    source: Array,
    target: Array,
    source_labels: np.ndarray,
    target_labels: np.ndarray,
    *,
    test: Callable[..., MMDTest] = mmd_test,
    permutations: int = 1000,
    alpha: float = 0.05,
    random_state: RandomState = 0,
) -> list[ClassTest]:
    """Test each class for a change of its rows.

    Only classes with two or more rows on both sides are tested.

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), floats.
        source_labels: The source's classes (n,), numbers or text.
        target_labels: The target's classes (m,).
        test: `mmd_test` (default) or `mmd_fuse`.
        permutations: The relabellings of each test, or 5 k / alpha for k classes if that is more.
            After the correction the least p-value of a class is k / (1 + permutations). With many
            classes it could not reach alpha otherwise. Default 1000.
        alpha: The level at which the p-values will be judged. Default 0.05.
        random_state: Source of the relabellings; see `mmd_test`. All classes share one seed.
            Default 0.

    Returns:
        A test for each class, in the order of the classes; empty if no class can be tested.

    Raises:
        ValueError: The labels do not fit the rows, or as `test`.
        TypeError: As `test`.

    Example:
        Class "b" has moved, class "a" has not:

        >>> import numpy as np
        >>> from da.shift import moved_classes
        >>> x, labels = np.arange(20.0)[:, None], np.repeat(["a", "b"], 10)
        >>> y = x + np.where(labels == "b", 50.0, 0.0)[:, None]
        >>> [(line.label, line.p_value < 0.05) for line in moved_classes(x, y, labels, labels)]
        [('a', False), ('b', True)]

    Paper:
        Gretton, Borgwardt, Rasch, Schoelkopf, et al.: A Kernel Two-Sample Test. JMLR 13, 2012
        (the default test).
        Holm: A Simple Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of
        Statistics 6, 1979 (the correction).

    Differences:
        The tests get more relabellings if the correction needs them.
    """
    x, y = check_two_samples(source, target)
    own = _check_labels(source_labels, len(x), "source_labels")
    other = _check_labels(target_labels, len(y), "target_labels")
    common = [
        label
        for label in np.intersect1d(own, other)
        if min((own == label).sum(), (other == label).sum()) > 1
    ]
    permutations = whole_number(permutations, "permutations", least=1)
    seed = seed_of(random_state)
    permutations = max(permutations, int(np.ceil(RESOLUTION * len(common) / alpha)))
    found = []
    for label in common:
        a, b = x[torch.from_numpy(own == label)], y[torch.from_numpy(other == label)]
        result = test(a, b, permutations=permutations, random_state=seed)
        found.append(ClassTest(str(label), len(a), len(b), result.statistic, result.p_value))
    corrected = holm(np.array([line.p_value for line in found]))
    return [line._replace(p_value=float(p)) for line, p in zip(found, corrected, strict=True)]


@checked
def moved_proportions(source_labels: np.ndarray, target_labels: np.ndarray) -> Proportions:
    """Test whether the classes have the same shares on both sides, by Pearson's chi-square test.

    Classes that only one side has count, too. With a single class there is nothing to test, and p
    is 1.

    Args:
        source_labels: The source's classes (n,), n >= 1, numbers or text.
        target_labels: The target's classes (m,), m >= 1.

    Returns:
        The p-value, the classes and their counts.

    Raises:
        ValueError: A side has no labels or a wrong shape.

    Example:
        A quarter of the source is of class 1, three quarters of the target are:

        >>> import numpy as np
        >>> from da.shift import moved_proportions
        >>> found = moved_proportions(np.repeat([0, 1], [60, 20]), np.repeat([0, 1], [20, 60]))
        >>> found.p_value < 0.05, found.least_expected
        (True, 40.0)

    Paper:
        Pearson: On the Criterion that a Given System of Deviations from the Probable in the Case
        of a Correlated System of Variables is Such that it Can Be Reasonably Supposed to Have
        Arisen from Random Sampling. Philosophical Magazine 50, 1900.

    Differences:
        None known. There is no continuity correction.
    """
    own = _check_labels(source_labels, None, "source_labels")
    other = _check_labels(target_labels, None, "target_labels")
    classes = np.union1d(own, other)
    counts = np.array(
        [[int((labels == label).sum()) for label in classes] for labels in (own, other)]
    )  # (2, k)
    if len(classes) == 1:
        return Proportions(1.0, float(counts.min()), classes, counts)
    test = chi2_contingency(counts, correction=False)
    return Proportions(float(test.pvalue), float(test.expected_freq.min()), classes, counts)


def _check_labels(labels: np.ndarray, rows: int | None, name: str) -> np.ndarray:
    """The labels as an array (rows,); any number of rows >= 1 if `rows` is None."""
    array = class_values(labels, name)
    if array.ndim != 1 or len(array) == 0 or rows not in (None, len(array)):
        expected = "n" if rows is None else rows
        raise ValueError(
            f"{name} must be one class a row, shape ({expected},); got shape {array.shape}"
        )
    return composed_labels(array)
