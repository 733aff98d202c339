"""Positive-definite kernels: how alike two rows are, for each row of x and each row of y.

With d = ||x - y||^2 the squared distance and s the bandwidth:

    gaussian              exp(-d / s)
    laplacian             exp(-||x - y||_1 / s)
    rational_quadratic    (1 + d / (alpha s))^(-alpha)
    polynomial            (<x, y> / s + offset)^degree
    linear                <x, y>

The bandwidth divides d itself, so s = 2 sigma^2 in the other common notation. Each function takes
x (n, d) and y (m, d), tensors or arrays, and returns a matrix (n, m) of the same kind. If the same
object is given twice, the diagonal is exact.

These functions are the specification that the fast code in `da.ops` must match.
"""

from __future__ import annotations

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import capable, narrowed
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.kernels.bandwidths import check_bandwidth
from da.kernels.distances import gram_distances


@checked
def gaussian(x: Array, y: Array, *, bandwidth: float | Tensor) -> Array:
    """Compare rows by a bell curve of their distance: 1 if they are equal, near 0 if far apart.

    This is the usual choice if nothing is known about the data.

        exp(-||x_i - y_j||^2 / bandwidth)

    Args:
        x: Rows (n, d), floats, finite.
        y: Rows (m, d), of the kind of `x`.
        bandwidth: A squared length > 0; `mean_bandwidth` and `median_bandwidth` suggest one.

    Returns:
        The kernel matrix (n, m), of the kind of `x`; differentiable in both.

    Raises:
        ValueError: The bandwidth is not > 0, widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.kernels import gaussian
        >>> gaussian(np.array([[0.0]]), np.array([[0.0], [2.0]]), bandwidth=4.0).round(3)
        array([[1.   , 0.368]])
    """
    first, second = check_two_samples(x, y, names=("x", "y"))
    with full_precision(first):
        return like(torch.exp(-gram_distances(first, second) / check_bandwidth(bandwidth)), x)


@checked
def laplacian(x: Array, y: Array, *, bandwidth: float | Tensor) -> Array:
    """Compare rows by an exponential of the sum of their absolute differences.

    It falls more slowly than `gaussian` far away and faster nearby, so it sees finer structure.

        exp(-||x_i - y_j||_1 / bandwidth)

    Args:
        x: Rows (n, d), floats, finite.
        y: Rows (m, d), of the kind of `x`.
        bandwidth: A length > 0, not a squared one; the bandwidth rules with norm=1 suggest one.

    Returns:
        The kernel matrix (n, m), of the kind of `x`; differentiable once in both.

    Raises:
        ValueError: The bandwidth is not > 0, widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.kernels import laplacian
        >>> laplacian(np.array([[0.0, 0.0]]), np.array([[1.0, 3.0]]), bandwidth=4.0).round(3)
        array([[0.368]])
    """
    first, second = check_two_samples(x, y, names=("x", "y"))
    with full_precision(first):
        distances = narrowed(torch.cdist(capable(first), capable(second), p=1), first)
        return like(torch.exp(-distances / check_bandwidth(bandwidth)), x)


@checked
def rational_quadratic(
    x: Array, y: Array, *, bandwidth: float | Tensor, alpha: float = 1.0
) -> Array:
    """Compare rows by a power of their distance, which never falls to nearly 0 as `gaussian` does.

    It still tells rows apart that are many bandwidths away. It is a mixture of Gaussians of all
    widths, and becomes the Gaussian if alpha is large.

        (1 + ||x_i - y_j||^2 / (alpha bandwidth))^(-alpha)

    Args:
        x: Rows (n, d), floats, finite.
        y: Rows (m, d), of the kind of `x`.
        bandwidth: A squared length > 0; `mean_bandwidth` and `median_bandwidth` suggest one.
        alpha: The power > 0 of the tail. A smaller one falls more slowly.

    Returns:
        The kernel matrix (n, m), of the kind of `x`; differentiable in both.

    Raises:
        ValueError: The bandwidth or alpha is not > 0, widths or devices differ, or a value is not
            finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.kernels import rational_quadratic
        >>> rational_quadratic(np.array([[0.0]]), np.array([[0.0], [2.0]]), bandwidth=4.0)
        array([[1. , 0.5]])
    """
    first, second = check_two_samples(x, y, names=("x", "y"))
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0; got {alpha}")
    with full_precision(first):
        distances = gram_distances(first, second)
        return like((1 + distances / (alpha * check_bandwidth(bandwidth))) ** -alpha, x)


@checked
def polynomial(
    x: Array, y: Array, *, bandwidth: float | Tensor, degree: int = 3, offset: float = 1.0
) -> Array:
    """Compare rows by a power of their inner product, which sees moments up to that degree.

    Unlike `gaussian` it depends on where the origin is.

        (<x_i, y_j> / bandwidth + offset)^degree

    Args:
        x: Rows (n, d), floats, finite.
        y: Rows (m, d), of the kind of `x`.
        bandwidth: A squared length > 0, the unit of the inner products.
        degree: A whole number >= 1.
        offset: A number >= 0 without unit. With 0 only moments of exactly this degree count.

    Returns:
        The kernel matrix (n, m), of the kind of `x`; differentiable in both.

    Raises:
        ValueError: The bandwidth is not > 0, degree or offset is out of its range, widths or
            devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.kernels import polynomial
        >>> polynomial(np.array([[1.0]]), np.array([[2.0]]), bandwidth=1.0, degree=2)
        array([[9.]])
    """
    first, second = check_two_samples(x, y, names=("x", "y"))
    if degree < 1 or degree != int(degree) or not offset >= 0:
        raise ValueError(
            f"degree must be a whole number >= 1 and offset >= 0, or the kernel is not positive; "
            f"got degree {degree} and offset {offset}"
        )
    with full_precision(first):
        return like((first @ second.T / check_bandwidth(bandwidth) + offset) ** int(degree), x)


@checked
def linear(x: Array, y: Array) -> Array:
    """Compare rows by their inner product, which sees means alone.

        <x_i, y_j>

    Args:
        x: Rows (n, d), floats, finite.
        y: Rows (m, d), of the kind of `x`.

    Returns:
        The kernel matrix (n, m), of the kind of `x`; differentiable in both.

    Raises:
        ValueError: Widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.kernels import linear
        >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]))
        array([[11.,  2.]])
    """
    first, second = check_two_samples(x, y, names=("x", "y"))
    with full_precision(first):
        return like(first @ second.T, x)
