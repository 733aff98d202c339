"""Energy distance: how far apart two samples are, from distances between their rows alone.

It is the MMD with the kernel -||x - y||. Take it if no bandwidth should be chosen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import capable, narrowed, widened
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.kernels.distances import centred


@checked
def energy_distance(source: Array, target: Array) -> Array:
    """Measure how far apart two samples are, from distances between their rows alone.

    It has no bandwidth to choose. Use it if the scale of the features is unknown or changes during
    training.

        2 mean||x - y|| - mean||x - x'|| - mean||y - y'||

    The means are over all pairs, pairs of a row with itself included (V-statistic). In one
    dimension the value is the square of `scipy.stats.energy_distance`.

    Args:
        source: Rows (n, d), floats, n >= 1.
        target: Rows (m, d), m >= 1, of the kind of `source`.

    Returns:
        A scalar >= 0 in the features' unit, of the kind of `source`; differentiable in both. A
        norm has no gradient at 0, so pairs of identical rows contribute 0 to the gradient.

    Raises:
        ValueError: Widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import energy_distance
        >>> float(energy_distance(np.array([[0.0]]), np.array([[3.0]])))
        6.0

    Paper:
        Szekely, Rizzo: Energy statistics: A class of statistics based on distances. Journal of
        Statistical Planning and Inference 143, 2013.

    Differences:
        None known.
    """
    x, y = check_two_samples(source, target)
    with full_precision(x):
        z = centred(torch.cat([x, y]))
        x, y = z[: len(x)], z[len(x) :]
        value = 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)
        return like(narrowed(value, z), source)


def _mean_distance(x: Tensor, y: Tensor) -> Tensor:
    """The mean of ||x_i - y_j|| over all pairs of rows of x (n, d) and y (m, d)."""
    # Differences, not matrix products: the distance of identical rows is then exactly 0, and not
    # the root of a rounding error.
    mode = "donot_use_mm_for_euclid_dist"
    return widened(torch.cdist(capable(x), capable(y), compute_mode=mode)).mean()
