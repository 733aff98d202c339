"""Kernels, distances and bandwidth rules, written to be read: faster code must match them.

`functions` holds the positive-definite kernels, `bandwidths` the rules that set their width, and
`distances` what both are made of. Each takes tensors or arrays.
"""

from da.kernels.bandwidths import (
    check_bandwidth,
    mean_bandwidth,
    median_bandwidth,
    resolve_bandwidth,
    scale_free,
)
from da.kernels.distances import (
    centred,
    covariance,
    gram_distances,
    squared_distances,
    squared_norms,
)
from da.kernels.functions import gaussian, laplacian, linear, polynomial, rational_quadratic

__all__ = [
    "centred",
    "check_bandwidth",
    "covariance",
    "gaussian",
    "gram_distances",
    "laplacian",
    "linear",
    "mean_bandwidth",
    "median_bandwidth",
    "polynomial",
    "rational_quadratic",
    "resolve_bandwidth",
    "scale_free",
    "squared_distances",
    "squared_norms",
]
