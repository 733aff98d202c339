"""The bandwidth of a kernel: by a rule on the data, or a number that is checked.

A kernel sees differences of about the size of its bandwidth. A rule sets it to a typical distance
between the rows: their mean distance, or their median. Neither carries a gradient. `scale_free`
gives a loss the gradient that belongs to a bandwidth by a rule.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import capable, narrowed, wide_type, widened
from da.arrays.matrices import Array, as_matrix, full_precision, like
from da.arrays.stacking import stacking
from da.kernels.distances import centred, squared_norms

MEDIAN_ROWS = 1000
Norm = Literal[1, 2]


@checked
def mean_bandwidth(x: Array, *, norm: Norm = 2) -> Array:
    """Set a bandwidth to the mean distance between two different rows.

    It is cheap, because no pair of rows is looked at. Outliers pull it up; `median_bandwidth` does
    not follow them. The mean is over the n (n - 1) ordered pairs i != j:

        norm 2    mean ||x_i - x_j||^2 = 2 sum_i ||z_i||^2 / (n - 1), z the centred rows
        norm 1    mean ||x_i - x_j||_1, from sum_k (2 k - n + 1) x_(k) of each sorted column

    Args:
        x: Rows (n, d), floats, n >= 2. Pool source and target first, to compare them.
        norm: 2 for squared Euclidean distances, in time O(n d). 1 for the distances of
            `laplacian`, in time O(n log n d).

    Returns:
        A scalar >= 0 without gradient, of the kind of `x`: a squared length (norm 2) or a length
        (norm 1). It is 0 exactly if all rows are identical.

    Raises:
        ValueError: There are fewer than two rows, or a value is not finite.
        TypeError: The input does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.kernels import mean_bandwidth
        >>> round(float(mean_bandwidth(np.array([[0.0], [1.0], [2.0]]))), 6)  # of 1, 1 and 4
        2.0
    """
    tensor = as_matrix(x, "x").detach()
    _check_pairs(tensor)
    with full_precision(tensor):
        return like(_mean_distance(centred(tensor), norm), x)


@checked
def median_bandwidth(x: Array, *, norm: Norm = 2) -> Array:
    """Set a bandwidth to the median distance between two different rows.

    This is the "median heuristic". Use it if the data has outliers, which pull `mean_bandwidth` up.

    Pairs of identical rows are left out, or duplicates could make the median 0. Beyond 1,000 rows,
    1,000 evenly spaced ones are used, the same ones every time.

    Args:
        x: Rows (n, d), floats, n >= 2. Pool source and target first, to compare them.
        norm: 2 for squared Euclidean distances, 1 for the distances of `laplacian`.

    Returns:
        A scalar >= 0 without gradient, of the kind of `x`: a squared length (norm 2) or a length
        (norm 1). It is 0 only if all rows are identical.

    Raises:
        ValueError: There are fewer than two rows, or a value is not finite.
        TypeError: The input does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.kernels import median_bandwidth
        >>> float(median_bandwidth(np.array([[0.0], [1.0], [3.0]])))  # of 1, 4 and 9
        4.0
    """
    tensor = as_matrix(x, "x").detach()
    _check_pairs(tensor)
    n = len(tensor)
    if n > MEDIAN_ROWS:
        evenly = torch.linspace(0, n - 1, MEDIAN_ROWS, dtype=wide_type("cpu"))
        tensor = tensor[evenly.long().to(tensor.device)]
    with full_precision(tensor):
        distances = torch.pdist(capable(tensor - tensor[0]), p=norm)
        positive = distances[distances > 0]
        if len(positive) == 0:
            return like(tensor.new_zeros(()), x)
        lengths = positive.square() if norm == 2 else positive
        return like(narrowed(lengths.quantile(0.5), tensor), x)


@checked
def resolve_bandwidth(z: Tensor, bandwidth: float | str, *, norm: Norm = 2) -> float | Tensor:
    """Turn what a caller gave as bandwidth, a rule or a number, into the bandwidth.

    A rule gives 0 if all rows are identical. Then 1 is taken in its place: every distance is 0, so
    every kernel is 1, whatever the bandwidth.

    Args:
        z: Rows (n, d), checked and `centred`.
        bandwidth: "mean" or "median", a rule on `z`; or a number > 0, which is returned as it is.
        norm: The distances that the rule looks at; see `mean_bandwidth`.

    Returns:
        The bandwidth, > 0. A rule's is a scalar tensor without gradient.

    Raises:
        ValueError: Another rule, a number that is not finite and > 0, or a rule on a single row.

    Example:
        >>> import torch
        >>> from da.kernels import resolve_bandwidth
        >>> z = torch.tensor([[-1.0], [0.0], [1.0]])
        >>> float(resolve_bandwidth(z, "mean")), resolve_bandwidth(z, 0.5)
        (2.0, 0.5)
    """
    if not isinstance(bandwidth, str):
        return check_bandwidth(bandwidth)
    if bandwidth not in ("mean", "median"):
        raise ValueError(f"bandwidth must be 'mean', 'median' or a number > 0; got {bandwidth!r}")
    _check_pairs(z, "z")
    with full_precision(z):
        value = _mean_distance(z, norm) if bandwidth == "mean" else median_bandwidth(z, norm=norm)
    return torch.where(value > 0, value, torch.ones_like(value))


@checked
def scale_free(
    x: Tensor, y: Tensor, *, norm: Norm = 2, about_origin: bool = False
) -> tuple[Tensor, Tensor]:
    """Take the part along the common scale out of the gradient of two samples.

    Use it on the input of a loss whose bandwidth follows the rows by a rule. Such a loss does not
    change if all rows are made smaller, so its gradient must not make them smaller. With the
    bandwidth held constant it would: then the loss of one distribution with itself falls as its
    rows shrink, because the pairs i = i cannot come closer. Nothing stops that, since the
    bandwidth follows.

        x -> x + (r - 1) (x - c),    r = (m_0 / m)^(1 / norm) = 1

    m is the mean distance of the pooled rows, c their mean, and m_0 the number m, a constant. The
    values stay the same to the last digit. If the bandwidth is the mean distance, the gradient is
    the exact derivative of the loss, bandwidth included.

    Args:
        x: Rows (n, d), checked.
        y: Rows (m, d), of the same precision.
        norm: 2 for kernels of squared distances and of products, 1 for the Laplacian.
        about_origin: Whether rows shrink towards 0 (c = 0), as a kernel of products needs it, and
            not towards their mean.

    Returns:
        Rows (n, d) and (m, d), equal to `x` and `y`. If all rows are identical, there is no scale,
        and they are returned as they are.

    Example:
        >>> import torch
        >>> from da.kernels import scale_free
        >>> x, y = torch.tensor([[0.0], [1.0]], requires_grad=True), torch.tensor([[3.0]])
        >>> free, other = scale_free(x, y)
        >>> length = torch.cat([free, other]).var()  # depends on the scale and on nothing else
        >>> [round(g, 6) + 0.0 for g in torch.autograd.grad(length, x)[0].flatten().tolist()]
        [0.0, 0.0]
    """
    differentiated = stacking() or x.requires_grad or y.requires_grad
    if not (torch.is_grad_enabled() and differentiated):
        return x, y
    with full_precision(x):
        pooled = torch.cat([x, y])
        z = centred(pooled)
        z = z - z.mean(dim=0)  # of size eps, but its gradient's own gradient is not
        spread = z.square().sum() if norm == 2 else _mean_distance(z, norm)
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        ratio = spread.detach() / spread  # 1
        growth = (ratio.sqrt() if norm == 2 else ratio) - 1  # 0
        pooled = pooled + growth * (pooled if about_origin else z)
        return pooled[: len(x)], pooled[len(x) :]


@checked
def check_bandwidth(bandwidth: float | Tensor) -> float | Tensor:
    """Return `bandwidth`, or raise an error if no kernel can have it.

    Args:
        bandwidth: A number or a scalar tensor.

    Returns:
        The same object.

    Raises:
        ValueError: It is not a finite number > 0.

    Example:
        >>> from da.kernels import check_bandwidth
        >>> check_bandwidth(2.0)
        2.0
    """
    if stacking() and isinstance(bandwidth, Tensor):  # of many members, from a rule
        return bandwidth
    if isinstance(bandwidth, Tensor) and bandwidth.numel() != 1:
        raise ValueError(f"bandwidth must be one number > 0; got {tuple(bandwidth.shape)} of them")
    value = float(bandwidth)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"bandwidth must be a finite number > 0; got {value}: a bandwidth rule gives 0 if all "
            f"rows are identical"
        )
    return bandwidth


def _check_pairs(x: Tensor, name: str = "x") -> None:
    """Raise an error if x has fewer than two rows."""
    if len(x) < 2:
        raise ValueError(
            f"{name} must have at least two rows; got {len(x)}: a bandwidth rule looks at "
            f"pairs, so give the bandwidth as a number"
        )


def _mean_distance(z: Tensor, norm: Norm) -> Tensor:
    """The mean over ordered pairs of rows of z (n, d), which are centred, in the precision of z."""
    n = len(z)
    if norm == 1:
        rank = torch.arange(n, dtype=z.dtype, device=z.device)
        sorted_columns = z.sort(dim=0).values  # (n, d)
        total = 2 * widened((2 * rank - n + 1) @ sorted_columns).sum() / n
    else:
        total = 2 * widened(squared_norms(z)).sum()
    return narrowed((total / (n - 1)).clamp(min=0), z)
