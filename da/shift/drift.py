"""What moved between two samples: which columns, and which rows are new.

Use it after a two-sample test has rejected. `da.shift.class_drift` looks at classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import ks_2samp

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.kernels.bandwidths import median_bandwidth
from da.kernels.functions import gaussian
from da.kernels.moderate_scale import moderate
from da.records.multiple_tests import holm


class Columns(NamedTuple):
    """How each of d columns moved, as found by `moved_columns`.

    Attributes:
        distance: The Kolmogorov-Smirnov distance (d,): the largest difference of the two
            distribution functions, in [0, 1].
        p_value: The p-value (d,) of that distance, corrected by `holm`.
        shift: The target's mean less the source's (d,), in standard deviations over both samples; 0
            for a constant column.

    Example:
        >>> import numpy as np
        >>> from da.shift import moved_columns
        >>> source, target = np.zeros((3, 2)), np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
        >>> found = moved_columns(source, target)
        >>> found.distance, found.shift
        (array([0., 1.]), array([0., 2.]))
    """

    distance: np.ndarray
    p_value: np.ndarray
    shift: np.ndarray


@checked
def moved_columns(source: Array, target: Array) -> Columns:
    """Test each column for a change of its distribution.

    It does not see a change of the dependence between columns alone. The p-values are the
    asymptotic ones of the two-sided Kolmogorov-Smirnov test, corrected by `holm`. For columns with
    ties they are too large, which is the safe side.

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), floats.

    Returns:
        Distance, corrected p-value and shift of the mean for each column.

    Raises:
        ValueError: Widths or devices differ, or a value is not finite.
        TypeError: The inputs are not two float arrays or two float tensors.

    Example:
        Only the second column has moved:

        >>> import numpy as np
        >>> from da.shift import moved_columns
        >>> source = np.random.default_rng(0).normal(size=(100, 3))
        >>> found = moved_columns(source, source + [0, 2, 0])
        >>> found.p_value < 0.05
        array([False,  True, False])

    Paper:
        Smirnov: Table for Estimating the Goodness of Fit of Empirical Distributions. Annals of
        Mathematical Statistics 19, 1948.

    Differences:
        The p-values are asymptotic, and corrected for the number of columns.
    """
    x, y = (z.detach().cpu().double().numpy() for z in check_two_samples(source, target))
    found = ks_2samp(x, y, axis=0, method="asymp")
    pooled = np.concatenate([x, y])
    deviation = np.where(np.ptp(pooled, axis=0) > 0, pooled.std(axis=0), np.inf)
    shift = (y.mean(axis=0) - x.mean(axis=0)) / deviation
    return Columns(np.asarray(found.statistic), holm(np.asarray(found.pvalue).clip(0, 1)), shift)


@checked
def witness(source: Array, target: Array) -> Array:
    """Score target rows by how much more they are like the target than like the source.

    Rows with a large value are what is new in the target.

        w(z) = mean_j k(z, y_j) - mean_i k(z, x_i)        k(x, y) = exp(-||x - y||^2 / s)

    s is the median squared distance of the pooled rows. The mean over j leaves z itself out.

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), floats, m >= 2.

    Returns:
        The value (m,) of each target row, in [-1, 1], of the kind of `source`, without gradient.

    Raises:
        ValueError: The target has fewer than 2 rows, widths or devices differ, or a value is not
            finite.
        TypeError: The inputs are not two float arrays or two float tensors.

    Example:
        The last two target rows are new:

        >>> import numpy as np
        >>> from da.shift import witness
        >>> source = np.array([[0.0], [1.0], [2.0]])
        >>> target = np.array([[0.0], [1.0], [8.0], [9.0]])
        >>> witness(source, target) > 0
        array([False, False,  True,  True])

    Paper:
        Gretton, Borgwardt, Rasch, Schoelkopf, et al.: A Kernel Two-Sample Test. JMLR 13, 2012
        (section 2.3).

    Differences:
        The row's own kernel is left out of the target's mean.
        The sign is the other one: large values are like the target.
    """
    x, y = check_two_samples(source, target)
    if len(y) < 2:
        raise ValueError(f"target must have at least 2 rows; got {len(y)}")
    with torch.no_grad(), full_precision(x):
        x, y = moderate(x, y)
        bandwidth = float(median_bandwidth(torch.cat([x, y]))) or 1.0  # 0: all rows coincide
        near = (gaussian(y, y, bandwidth=bandwidth).sum(dim=1) - 1) / (len(y) - 1)  # (m,)
        return like(near - gaussian(y, x, bandwidth=bandwidth).mean(dim=1), source)
