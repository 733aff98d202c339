"""Maximum mean discrepancy between two samples, squared.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),        k(x, y) = sum_a exp(-||x - y||^2 / (a s))

with s the bandwidth and a the multipliers. The kernels are summed, not averaged: five kernels make values of up to 10.
No gradient passes through the bandwidth.

Gretton, Borgwardt, Rasch, Schoelkopf, Smola: A Kernel Two-Sample Test. JMLR 13, 2012.
Long, Cao, Wang, Jordan: Learning Transferable Features with Deep Adaptation Networks. ICML 2015 (several kernels, linear estimator).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision, like
from da.kernels import centred, gram_distances, resolve_bandwidth

Estimator = Literal["biased", "unbiased", "linear"]
MULTIPLIERS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0)


def mmd2(
    source: Array,
    target: Array,
    *,
    estimator: Estimator = "biased",
    bandwidth: float | Literal["mean", "median"] = "mean",
    multipliers: Sequence[float] = MULTIPLIERS,
) -> Array:
    """Squared MMD of source (n, d) and target (m, d): a scalar, differentiable in both.

    estimator:   "biased" (V-statistic): means over all pairs, i = j included; never negative, positive even where the distributions agree.
                 "unbiased" (U-statistic): i != j only; zero on average where the distributions agree, so there it is often negative.
                 "linear": the mean over the quadruples of rows 2i and 2i + 1 (Gretton et al., section 6); unbiased, in O(n d), of a larger
                 variance; can be negative; needs n = m; depends on the order of the rows and leaves out the last row of an odd n.
    bandwidth:   s, a squared distance: the mean or median of the pooled rows' squared distances (`da.kernels`), or a number > 0.
    multipliers: the factors a of the summed kernels, each > 0.

    Where all rows coincide the value and the gradient are 0. Half precision is raised to float32, also under autocast.
    Raises ValueError for n or m < 2 (unbiased, linear), n != m (linear) and any argument out of its range; TypeError for
    inputs that do not hold floats.
    """
    if estimator not in ("biased", "unbiased", "linear"):
        raise ValueError(f"estimator must be 'biased', 'unbiased' or 'linear'; got {estimator!r}")
    x, y = check_two_samples(source, target, least=1 if estimator == "biased" else 2)
    if estimator == "linear" and len(x) != len(y):
        raise ValueError(f"estimator 'linear' needs n = m; got {len(x)} and {len(y)}: use 'unbiased', or crop one sample")
    with full_precision(x):
        scales = _scales(torch.cat([x, y]).detach(), bandwidth, multipliers)
        dtype = x.dtype
        if _float32_distances_fail(x, y, scales):
            x, y = x.double(), y.double()
        value = _linear(x, y, scales) if estimator == "linear" else _quadratic(x, y, scales, unbiased=estimator == "unbiased")
    return like(value.to(dtype), source)


def _quadratic(x: Tensor, y: Tensor, scales: Tensor, *, unbiased: bool) -> Tensor:
    """The three block means, each block centred on its own rows; the float64 sums keep what the subtraction leaves."""
    n, m = len(x), len(y)
    xx = _kernel_sum(gram_distances(x, x), scales).sum(dtype=torch.float64)  # over (n, n)
    yy = _kernel_sum(gram_distances(y, y), scales).sum(dtype=torch.float64)  # over (m, m)
    xy = _kernel_sum(gram_distances(x, y), scales).sum(dtype=torch.float64)  # over (n, m)
    if not unbiased:
        return xx / n**2 + yy / m**2 - 2 * xy / (n * m)
    on_diagonal = len(scales)  # k(x, x): each kernel is 1 there
    return (xx - n * on_diagonal) / (n * (n - 1)) + (yy - m * on_diagonal) / (m * (m - 1)) - 2 * xy / (n * m)


def _linear(x: Tensor, y: Tensor, scales: Tensor) -> Tensor:
    """Mean of h = k(x1, x2) + k(y1, y2) - k(x1, y2) - k(x2, y1) over the pairs of even rows (1) and odd rows (2)."""
    x1, x2, y1, y2 = x[:-1:2], x[1::2], y[:-1:2], y[1::2]  # each (n // 2, d)
    pairs = ((x1, x2, 1), (y1, y2, 1), (x1, y2, -1), (x2, y1, -1))
    h = sum(sign * _kernel_sum((a - b).square().sum(dim=1), scales).double() for a, b, sign in pairs)  # (n // 2,)
    assert isinstance(h, Tensor)
    return h.mean()


def _kernel_sum(distances: Tensor, scales: Tensor) -> Tensor:
    scales = scales.to(distances.dtype)
    total = torch.exp(-distances / scales[0])
    for scale in scales[1:]:
        total = total + torch.exp(-distances / scale)
    return total


def _scales(pooled: Tensor, bandwidth: float | str, multipliers: Sequence[float]) -> Tensor:
    """a s for each multiplier, (k,)."""
    factors = torch.tensor(tuple(multipliers), dtype=pooled.dtype, device=pooled.device)
    if factors.ndim != 1 or len(factors) == 0 or not bool(((factors > 0) & factors.isfinite()).all()):
        raise ValueError(f"multipliers must be one or more finite numbers > 0; got {tuple(multipliers)}")
    return factors * resolve_bandwidth(pooled, bandwidth)


def _float32_distances_fail(x: Tensor, y: Tensor, scales: Tensor) -> bool:
    """Whether float32's error in a distance, 4 eps max|z|^2, could move a kernel by more than 1e-4: far rows, a narrow kernel."""
    if x.dtype == torch.float64:
        return False
    largest = centred(torch.cat([x, y]).detach()).square().sum(dim=1).max()
    return bool(4 * torch.finfo(x.dtype).eps * largest > 1e-4 * scales.min())
