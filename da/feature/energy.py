"""Energy distance: MMD with the kernel -||x - y||, free of any bandwidth.

    E = 2 E||x - y|| - E||x - x'|| - E||y - y'||

Szekely, Rizzo: Energy statistics: A class of statistics based on distances. Journal of Statistical Planning and Inference 143, 2013.
"""

from __future__ import annotations

import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision, like
from da.kernels.distances import centred


def energy_distance(source: Array, target: Array) -> Array:
    """2 mean||x - y|| - mean||x - x'|| - mean||y - y'|| of source (n, d) and target (m, d): a scalar >= 0, in features' units.

    The V-statistic: means over all pairs, i = j included; it is the square of `scipy.stats.energy_distance`. Where rows coincide
    the norm has no gradient and 0 is used. Raises ValueError on unequal widths or bad values, TypeError for inputs not of floats.
    """
    x, y = check_two_samples(source, target)
    with full_precision(x):
        z = centred(torch.cat([x, y]))
        x, y = z[: len(x)], z[len(x) :]
        value = 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)
        return like(value.to(z.dtype), source)


def _mean_distance(x: Tensor, y: Tensor) -> Tensor:
    # By differences, not by matrix products: coincident rows are then at distance 0 and not at the root of a rounding error.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").mean(dtype=torch.float64)
