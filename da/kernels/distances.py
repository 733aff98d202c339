"""Squared distances and covariances of rows, computed so that float32 keeps its digits.

All of them centre the rows first. A shift of all rows changes none of these quantities, and small
numbers lose less when they are subtracted:

    ||x - y||^2 = ||x||^2 + ||y||^2 - 2 <x, y>

`squared_distances` checks its input. The other functions take tensors that are checked already.
"""

from __future__ import annotations

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.arrays.stacking import stacking


@checked
def squared_distances(x: Array, y: Array) -> Array:
    """Measure the squared Euclidean distance between each row of x and each row of y.

    It costs one matrix product. Rounding leaves an error of about 4 eps max|z|^2, with z the
    centred rows and eps the precision of the numbers. If `y` is the same object as `x`, the
    diagonal is exactly 0.

        ||x_i - y_j||^2

    Args:
        x: Rows (n, d), floats, finite.
        y: Rows (m, d), of the kind of `x`.

    Returns:
        Distances (n, m), each >= 0, of the kind of `x`; differentiable in both.

    Raises:
        ValueError: Widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.kernels import squared_distances
        >>> squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]))
        array([[25.,  1.]])
    """
    first, second = check_two_samples(x, y, names=("x", "y"))
    with full_precision(first):
        return like(gram_distances(first, second), x)


@checked
def gram_distances(x: Tensor, y: Tensor) -> Tensor:
    """Compute `squared_distances` of tensors that are checked already, with autocast off.

    Args:
        x: Rows (n, d), float32 or float64.
        y: Rows (m, d), of the same precision. The same object as `x` gives an exact diagonal.

    Returns:
        Squared distances (n, m), each >= 0.

    Example:
        >>> import torch
        >>> from da.kernels import gram_distances
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> gram_distances(x, x).tolist()
        [[0.0, 4.0], [4.0, 0.0]]
    """
    same = y is x
    if same:
        x = y = centred(x)
    else:
        z = centred(torch.cat([x, y]))
        x, y = z[: len(x)], z[len(x) :]
    products = x @ y.T  # (n, m)
    distances = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * products
    distances = distances.clamp(min=0)
    if same and stacking():  # members of many have no diagonal in place
        return distances.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 0)
    return distances.fill_diagonal_(0) if same else distances


@checked
def centred(x: Tensor) -> Tensor:
    """Subtract the mean row, for quantities that do not change if all rows are shifted.

    The first row is subtracted first. So identical rows become exactly 0, and rows far from the
    origin do not spoil the mean. No gradient passes through what is subtracted.

    Args:
        x: Rows (n, d), n >= 1.

    Returns:
        The shifted rows (n, d).

    Example:
        >>> import torch
        >>> from da.kernels import centred
        >>> centred(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    x = x - x[0].detach()
    return x.sub_(x.detach().mean(dim=0))


@checked
def squared_norms(x: Tensor) -> Tensor:
    """Compute the squared length of each row, without a temporary of the size of x.

    Args:
        x: Rows (n, d).

    Returns:
        ||x_i||^2, (n,).

    Example:
        >>> import torch
        >>> from da.kernels import squared_norms
        >>> squared_norms(torch.tensor([[3.0, 4.0], [0.0, 1.0]])).tolist()
        [25.0, 1.0]
    """
    return torch.linalg.vector_norm(x, dim=1).square()


@checked
def covariance(x: Tensor) -> Tensor:
    """Compute the covariance matrix of rows, differentiable twice.

        sum_i (x_i - mean) (x_i - mean)^T / (n - 1)

    Args:
        x: Rows (n, d), n >= 2.

    Returns:
        The covariance (d, d).

    Example:
        >>> import torch
        >>> from da.kernels import covariance
        >>> covariance(torch.tensor([[0.0, 0.0], [2.0, 4.0]])).tolist()
        [[2.0, 4.0], [4.0, 8.0]]
    """
    z = centred(x)
    # The mean left over is of size eps. Its gradient, and the gradient's own, must pass.
    z = z - z.mean(dim=0)
    return z.T @ z / (len(x) - 1)
