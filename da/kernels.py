"""Positive-definite kernels and bandwidth rules, written to be read: the specification that faster code must match.

With d = ||x - y||^2 the squared distance, the bandwidth s divides d itself (so s = 2 sigma^2 in the other common notation):

    gaussian              exp(-d / s)
    laplacian             exp(-||x - y||_1 / s)
    rational_quadratic    (1 + d / (alpha s))^(-alpha)         the Gaussian in the limit of large alpha
    polynomial            (<x, y> / s + offset)^degree
    linear                <x, y>

Each takes x (n, d) and y (m, d), tensors or arrays, and returns (n, m) of the same kind. `kernel(x, x)`, the same object
twice, has an exact diagonal.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from da.arrays import Array, as_matrix, check_two_samples, full_precision, like

MEDIAN_ROWS = 1000
Norm = Literal[1, 2]


def centred(x: Tensor) -> Tensor:
    """`x` (n, d) less its mean row, which carries no gradient: for quantities that a shift of all rows leaves alone.

    The first row goes first: rows that coincide become exact zeros, and a far offset does not spoil the mean.
    """
    x = x - x[0].detach()
    return x.sub_(x.detach().mean(dim=0))


def squared_norms(x: Tensor) -> Tensor:
    """|x_i|^2 for the rows of x (n, d), (n,), without a temporary of the size of x."""
    return torch.linalg.vector_norm(x, dim=1).square_()


def squared_distances(x: Array, y: Array) -> Array:
    """||x_i - y_j||^2, (n, m), by one matrix product on centred rows: |x|^2 + |y|^2 - 2 x y^T, not below 0.

    Centring keeps what the subtraction cancels small. The error is of the order of 4 eps max|z|^2, z the centred rows.
    Raises TypeError or ValueError on inputs that are not two finite float matrices of equal width.
    """
    first, second = check_two_samples(x, y, names=("x", "y"))
    with full_precision(first):
        return like(gram_distances(first, second), x)


def gaussian(x: Array, y: Array, *, bandwidth: float | Tensor) -> Array:
    """exp(-||x - y||^2 / bandwidth), (n, m). bandwidth: a squared length, > 0 (ValueError otherwise)."""
    first, second = check_two_samples(x, y, names=("x", "y"))
    with full_precision(first):
        return like(torch.exp(-gram_distances(first, second) / check_bandwidth(bandwidth)), x)


def laplacian(x: Array, y: Array, *, bandwidth: float | Tensor) -> Array:
    """exp(-||x - y||_1 / bandwidth), (n, m). bandwidth: a length, > 0 (ValueError otherwise)."""
    first, second = check_two_samples(x, y, names=("x", "y"))
    with full_precision(first):
        return like(torch.exp(-torch.cdist(first, second, p=1) / check_bandwidth(bandwidth)), x)


def rational_quadratic(
    x: Array, y: Array, *, bandwidth: float | Tensor, alpha: float = 1.0
) -> Array:
    """(1 + ||x - y||^2 / (alpha bandwidth))^(-alpha), (n, m). bandwidth: a squared length; alpha: the tail's power; both > 0."""
    first, second = check_two_samples(x, y, names=("x", "y"))
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0; got {alpha}")
    with full_precision(first):
        return like(
            (1 + gram_distances(first, second) / (alpha * check_bandwidth(bandwidth))) ** -alpha, x
        )


def polynomial(
    x: Array, y: Array, *, bandwidth: float | Tensor, degree: int = 3, offset: float = 1.0
) -> Array:
    """(<x, y> / bandwidth + offset)^degree, (n, m). bandwidth: a squared length, > 0; degree >= 1; offset >= 0, without unit."""
    first, second = check_two_samples(x, y, names=("x", "y"))
    if degree < 1 or degree != int(degree) or not offset >= 0:
        raise ValueError(
            f"degree must be a whole number >= 1 and offset >= 0, or the kernel is not positive; got {degree} and {offset}"
        )
    with full_precision(first):
        return like((first @ second.T / check_bandwidth(bandwidth) + offset) ** int(degree), x)


def linear(x: Array, y: Array) -> Array:
    """<x, y>, (n, m)."""
    first, second = check_two_samples(x, y, names=("x", "y"))
    with full_precision(first):
        return like(first @ second.T, x)


def mean_bandwidth(x: Array, *, norm: Norm = 2) -> Array:
    """The mean distance over the N (N - 1) ordered pairs i != j of x (N, d): a scalar without gradient.

    It is 0 exactly when all rows coincide.

    norm: 2: of ||x_i - x_j||^2, in O(N d): 2 sum|z|^2 / (N - 1), z the centred rows.
        1: of ||x_i - x_j||_1 (for the Laplacian), in O(N log N d): the sum over pairs of a sorted column is sum_k (2 k - N + 1) x_(k).
    Raises ValueError for fewer than two rows.
    """
    tensor = as_matrix(x, "x").detach()
    _count_pairs_of(tensor)
    with full_precision(tensor):
        return like(_mean_distance(centred(tensor), norm), x)


def median_bandwidth(x: Array, *, norm: Norm = 2) -> Array:
    """The median distance over the pairs of x (N, d) that do not coincide: a scalar without gradient.

    norm: 2: of ||x_i - x_j||^2; 1: of ||x_i - x_j||_1. Beyond 1,000 rows, 1,000 evenly spaced ones stand for all (the same
    ones every time). Pairs that coincide are left out, or duplicated rows could make it 0; it is 0 only when all rows coincide.
    Raises ValueError for fewer than two rows.
    """
    tensor = as_matrix(x, "x").detach()
    n = _count_pairs_of(tensor)
    if n > MEDIAN_ROWS:
        tensor = tensor[
            torch.linspace(0, n - 1, MEDIAN_ROWS, dtype=torch.float64, device=tensor.device).long()
        ]
    with full_precision(tensor):
        distances = torch.pdist(tensor - tensor[0], p=norm)
        positive = distances[distances > 0]
        value = (
            (positive.square() if norm == 2 else positive).quantile(0.5)
            if len(positive)
            else tensor.new_zeros(())
        )
    return like(value, x)


def resolve_bandwidth(z: Tensor, bandwidth: float | str, *, norm: Norm = 2) -> float | Tensor:
    """The bandwidth for rows z (N, d), checked and `centred`: by the rule "mean" or "median", or the number given, which must be > 0.

    A rule's 0 (all rows coincide) becomes 1: every squared distance is 0 then, and every kernel 1, whatever the bandwidth.
    """
    if not isinstance(bandwidth, str):
        return check_bandwidth(bandwidth)
    if bandwidth not in ("mean", "median"):
        raise ValueError(f"bandwidth must be 'mean', 'median' or a number > 0; got {bandwidth!r}")
    _count_pairs_of(z)
    with full_precision(z):
        value = _mean_distance(z, norm) if bandwidth == "mean" else median_bandwidth(z, norm=norm)
    return torch.where(value > 0, value, torch.ones_like(value))


def check_bandwidth(bandwidth: float | Tensor) -> float | Tensor:
    """`bandwidth`, or a ValueError where it is not a finite number > 0."""
    value = float(bandwidth)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"bandwidth must be a finite number > 0; got {value}: 0 from a bandwidth rule means that all rows coincide"
        )
    return bandwidth


def gram_distances(x: Tensor, y: Tensor) -> Tensor:
    """`squared_distances` for tensors that are checked already, with autocast off."""
    if y is x:
        x = y = centred(x)
        diagonal = True
    else:
        z = centred(torch.cat([x, y]))
        x, y, diagonal = z[: len(x)], z[len(x) :], False
    products = x @ y.T  # (n, m)
    distances = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * products
    distances = distances.clamp(min=0)
    return distances.fill_diagonal_(0) if diagonal else distances


def _count_pairs_of(x: Tensor) -> int:
    if len(x) < 2:
        raise ValueError(
            f"a bandwidth rule needs at least two rows; got {len(x)}: give the bandwidth as a number"
        )
    return len(x)


def _mean_distance(z: Tensor, norm: Norm) -> Tensor:
    """The mean over ordered pairs of rows of z (N, d), which are centred, in the precision of z."""
    n = len(z)
    if norm == 1:
        rank = torch.arange(n, dtype=z.dtype, device=z.device)
        total = 2 * ((2 * rank - n + 1) @ z.sort(dim=0).values).sum(dtype=torch.float64) / n
    else:
        total = 2 * squared_norms(z).sum(dtype=torch.float64)
    return (total / (n - 1)).clamp(min=0).to(z.dtype)


def covariance(x: Tensor) -> Tensor:
    """The covariance (d, d) of rows x (n, d), with n - 1; twice differentiable."""
    z = centred(x)
    z = z - z.mean(
        dim=0
    )  # of size eps: it lets the gradient (and its own gradient) pass through the mean
    return z.T @ z / (len(x) - 1)
