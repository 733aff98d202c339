"""Nearest-neighbour weights: how many target rows have a source row as their nearest.

    w_i = (number of target rows in the Voronoi cell of x_i + lambda) / mean over the source

Loog: Nearest Neighbor-Based Importance Weighting. IEEE Workshop on Machine Learning for Signal Processing, 2012 (lambda = 1, Laplace's).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da.arrays import Array, full_precision
from da.instance.diagnostics import warn_if_uniform
from da.instance.samples import Samples, tiles


def neighbour_weights(source: Array, target: Array, *, smoothing: float = 1.0) -> Array:
    """Weights (n,) of mean 1 for the rows of source (n, d) against target (m, d).

    smoothing: lambda, in target rows, finite and >= 0, added to every row's count; 0 drops the source rows that are nobody's nearest.

    A single weight is noisy, as cells differ in size by chance also where the densities do not; averages over many rows are less so.
    Source rows that coincide share their cell's count evenly. A target row as near to several others counts for the first of them in
    lexicographic order, whatever the order of the rows given. O(n m d) time. Carries no gradient.
    Raises ValueError or TypeError on bad input; warns when the weights are uniform.
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
    """The row of known (n, d) nearest to each of rows (m, d), (m,) int64; centred together, so that a far offset costs no digits."""
    middle = known[0]
    known, rows = known - middle, rows - middle
    squares = known.square().sum(dim=1)  # (n,)
    return torch.cat(
        [
            (squares - 2 * rows[part] @ known.T).argmin(dim=1)
            for part in tiles(len(rows), len(known))
        ]
    )
