"""Weights from two kernel density estimates, of the target and of the source: the ratio of what each says of a source row.

    w(x) = [1/m sum_j k(x, y_j)] / [1/n sum_i k(x, x_i)]        k(x, y) = exp(-1/2 sum_c (x_c - y_c)^2 / h_c^2)

Both estimates have the same bandwidths h, a multiple of each column's standard deviation within the domains, so that the ratio is one of
densities blurred alike. A row's own kernel counts in the source's, which keeps every weight finite.

Silverman: Density Estimation for Statistics and Data Analysis. 1986 (the rule of thumb, section 4.3.2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da.arrays import Array, full_precision
from da.instance.diagnostics import warn_if_uniform
from da.instance.samples import Samples, tiles
from da.kernels.bandwidths import check_bandwidth
from da.kernels.distances import centred, gram_distances


def density_weights(source: Array, target: Array, *, bandwidth: float | None = None) -> Array:
    """Weights (n,) of mean 1 for the rows of source (n, d) against target (m, d).

    bandwidth: h as a multiple, > 0, of each column's standard deviation (of the variances within source and target, averaged; 1 for a
               column constant in both). None is Silverman's rule for a sample of the smaller size N: (4 / ((d + 2) N))^(1 / (d + 4)).

    A density estimate needs few columns: its error in more than a handful is known. O(n (n + m) d) time, in log space, so that no
    weight overflows. Carries no gradient. Raises ValueError or TypeError on bad input; warns when the weights are uniform.
    """
    samples = Samples.of(source, target)
    x, y = samples.x, samples.y
    factor = (
        silverman(min(len(x), len(y)), x.shape[1])
        if bandwidth is None
        else float(check_bandwidth(bandwidth))
    )
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
    """Silverman's bandwidth for n rows of d columns with standard deviation 1: (4 / ((d + 2) n))^(1 / (d + 4))."""
    return math.pow(4 / ((d + 2) * n), 1 / (d + 4))


def _log_sums(x: Tensor, y: Tensor) -> Tensor:
    """log sum_j exp(-||x_i - y_j||^2 / 2), (n,)."""
    return torch.cat(
        [torch.logsumexp(-gram_distances(x[rows], y) / 2, dim=1) for rows in tiles(len(x), len(y))]
    )
