"""Weights from two kernel density estimates, one of the target and one of the source.

Use them for data of one or two columns. In more columns a density estimate is poor.

    w(x) = [1/m sum_j k(x, y_j)] / [1/n sum_i k(x, x_i)]
    k(x, y) = exp(-1/2 sum_c (x_c - y_c)^2 / h_c^2)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, full_precision
from da.instance.diagnostics import warn_if_uniform
from da.instance.samples import Samples, tiles
from da.kernels.bandwidths import check_bandwidth
from da.kernels.distances import centred, gram_distances


@checked
def density_weights(source: Array, target: Array, *, bandwidth: float | None = None) -> Array:
    """Weight source rows by the ratio of two kernel density estimates, target over source.

    It suits data of few columns: the error of a density estimate grows quickly with the number of
    columns. The time is O(n (n + m) d). It computes in log space, so no weight overflows.

        w(x) = [1/m sum_j k(x, y_j)] / [1/n sum_i k(x, x_i)]
        k(x, y) = exp(-1/2 sum_c (x_c - y_c)^2 / h_c^2)

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), floats.
        bandwidth: h as a multiple, > 0, of each column's standard deviation. The variance of a
            column is the mean of its variances within source and target; a column that is
            constant in both has standard deviation 1. None (default) is Silverman's rule for a
            sample of the smaller size N: (4 / ((d + 2) N))^(1 / (d + 4)).

    Returns:
        Weights (n,) of mean 1, of the kind of `source`, without gradient.

    Raises:
        ValueError: Widths or devices differ, a value is not finite, or `bandwidth` is not > 0.
        TypeError: The inputs are not two float arrays or two float tensors.

    Warns:
        UserWarning: The weights are uniform.

    Example:
        Half of the source lies at 0, three quarters of the target do:

        >>> import numpy as np
        >>> from da.instance import density_weights
        >>> source = np.array([[0.0], [0.0], [5.0], [5.0]])
        >>> target = np.array([[0.0], [0.0], [0.0], [5.0]])
        >>> density_weights(source, target, bandwidth=0.1).round(2)
        array([1.5, 1.5, 0.5, 0.5])

    Paper:
        Silverman: Density Estimation for Statistics and Data Analysis. 1986 (the rule of thumb,
        section 4.3.2).

    Differences:
        Both estimates have equal bandwidths in both domains, so the ratio is one of densities
        smoothed by the same amount.
        A source row's own kernel counts in the estimate of the source, which keeps every weight
        finite.
    """
    samples = Samples.of(source, target)
    x, y = samples.x, samples.y
    if bandwidth is None:
        factor = silverman(min(len(x), len(y)), x.shape[1])
    else:
        factor = float(check_bandwidth(bandwidth))
    with full_precision(x):
        variance = (x.var(dim=0, correction=0) + y.var(dim=0, correction=0)) / 2  # (d,)
        widths = factor * torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()
        z = centred(samples.pooled()) / widths
        x, y = z[: len(x)], z[len(x) :]
        logs = _log_sums(x, y) - _log_sums(x, x)
        weights = samples.restore(logs.softmax(dim=0) * len(x), source)
    warn_if_uniform(weights, "density_weights")
    return weights


def silverman(n: int, d: int) -> float:
    """Silverman's bandwidth for n rows of d columns of standard deviation 1.

    (4 / ((d + 2) n))^(1 / (d + 4)), without unit.
    """
    return math.pow(4 / ((d + 2) * n), 1 / (d + 4))


def _log_sums(x: Tensor, y: Tensor) -> Tensor:
    """log sum_j exp(-||x_i - y_j||^2 / 2), (n,)."""
    return torch.cat(
        [torch.logsumexp(-gram_distances(x[rows], y) / 2, dim=1) for rows in tiles(len(x), len(y))]
    )
