"""Nearest-neighbour weights: how many target rows have a source row as their nearest one.

Use them as a quick weighting without a bandwidth.

    w_i = (number of target rows in the Voronoi cell of x_i + lambda) / mean over the source
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, full_precision
from da.instance.diagnostics import warn_if_uniform
from da.instance.samples import Samples, tiles


@checked
def neighbour_weights(source: Array, target: Array, *, smoothing: float = 1.0) -> Array:
    """Weight each source row by the number of target rows that are nearest to it.

    It has no bandwidth to choose and takes O(n m d) time. Single weights are noisy: cells differ in
    size by chance even if the densities agree. Averages over many rows are steadier.

        w_i = (number of target rows in the Voronoi cell of x_i + lambda) / mean over the source

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), floats.
        smoothing: lambda, in target rows, finite and >= 0: it is added to every row's count. With
            0, source rows that are nearest to no target row get weight 0. Default 1.

    Returns:
        Weights (n,) of mean 1, of the kind of `source`, without gradient.

    Raises:
        ValueError: Widths or devices differ, a value is not finite, or `smoothing` is out of range.
        TypeError: The inputs are not two float arrays or two float tensors.

    Warns:
        UserWarning: The weights are uniform.

    Example:
        Three of the four target rows are nearest to the first source row:

        >>> import numpy as np
        >>> from da.instance import neighbour_weights
        >>> source = np.array([[0.0], [5.0]])
        >>> target = np.array([[0.0], [0.1], [0.2], [5.0]])
        >>> neighbour_weights(source, target, smoothing=0)
        array([1.5, 0.5])

    Paper:
        Loog: Nearest Neighbor-Based Importance Weighting. IEEE Workshop on Machine Learning for
        Signal Processing, 2012 (lambda = 1, Laplace smoothing).

    Differences:
        Source rows that coincide share one cell: its count is divided evenly among them.
        A target row at equal distance from several source rows counts for the first of them in
        lexicographic order. The order of the given rows does not matter.
    """
    if not (math.isfinite(smoothing) and smoothing >= 0):
        raise ValueError(f"smoothing must be a finite number >= 0; got {smoothing}")
    samples = Samples.of(source, target)
    with full_precision(samples.x):
        distinct, place, copies = torch.unique(
            samples.x, dim=0, return_inverse=True, return_counts=True
        )
        nearest = _nearest(distinct, samples.y)
        counts = torch.bincount(nearest, minlength=len(distinct)).to(samples.x) / copies
        smoothed = counts[place] + smoothing
        weights = samples.restore(smoothed / smoothed.mean(), source)
    warn_if_uniform(weights, "neighbour_weights")
    return weights


def _nearest(known: Tensor, rows: Tensor) -> Tensor:
    """The row of known (n, d) nearest to each of rows (m, d), (m,) int64."""
    middle = known[0]
    known, rows = known - middle, rows - middle  # a far offset then costs no digits
    squares = known.square().sum(dim=1)  # (n,)
    return torch.cat(
        [
            (squares - 2 * rows[part] @ known.T).argmin(dim=1)
            for part in tiles(len(rows), len(known))
        ]
    )
