"""Correlation alignment: the distance between the covariances of two samples, and the linear map that closes it.

    coral       ||C_s - C_t||_F^2 / (4 d^2)                      a loss
    CORAL       x -> x A,  A = (C_s + r I)^(-1/2) (C_t + r I)^(1/2)      source rows get the target's covariance

Both see second moments alone: a shift of the mean leaves them where they were.

Sun, Saenko: Deep CORAL: Correlation Alignment for Deep Domain Adaptation. ECCV workshops 2016, equations 1 to 3.
Sun, Feng, Saenko: Return of Frustratingly Easy Domain Adaptation. AAAI 2016, algorithm 1.
"""

from __future__ import annotations

from da.arrays import Array, check_two_samples, full_precision, like
from da.kernels.distances import covariance


def coral(source: Array, target: Array) -> Array:
    """||C_s - C_t||_F^2 / (4 d^2) of source (n, d) and target (m, d), covariances with n - 1: a scalar >= 0, in features' units^4.

    Raises ValueError for fewer than two rows or unequal widths, TypeError for inputs not of floats.
    """
    x, y = check_two_samples(source, target, least=2)
    with full_precision(x):
        difference = covariance(x) - covariance(y)  # (d, d)
        return like(difference.square().sum() / (4 * x.shape[1] ** 2), source)
