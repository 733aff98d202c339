"""Correlation alignment: the distance between the covariances of two samples.

    CORAL = ||C_s - C_t||_F^2 / (4 d^2)

It sees second moments alone: a shift of the mean leaves it where it was.

Sun, Saenko: Deep CORAL: Correlation Alignment for Deep Domain Adaptation. ECCV workshops 2016, equations 1 to 3.
"""

from __future__ import annotations

from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision, like
from da.kernels import centred


def coral(source: Array, target: Array) -> Array:
    """||C_s - C_t||_F^2 / (4 d^2) of source (n, d) and target (m, d), covariances with n - 1: a scalar >= 0, in features' units^4.

    Raises ValueError for fewer than two rows or unequal widths, TypeError for inputs not of floats.
    """
    x, y = check_two_samples(source, target, least=2)
    with full_precision(x):
        difference = _covariance(x) - _covariance(y)  # (d, d)
        return like(difference.square().sum() / (4 * x.shape[1] ** 2), source)


def _covariance(x: Tensor) -> Tensor:
    z = centred(x)
    z = z - z.mean(dim=0)  # of size eps: it lets the gradient (and its own gradient) pass through the mean
    return z.T @ z / (len(x) - 1)
