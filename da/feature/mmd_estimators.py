"""The three estimators of a squared MMD, for one layer of features or several.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),    k(x, y) = prod_l k_l(x^l, y^l)

    biased      each E is a mean over all pairs, pairs i = j included (V-statistic)
    unbiased    pairs i = j are left out (U-statistic)
    linear      a mean over pairs of neighbouring rows, in time O(n d)

`mmd2` and `joint_mmd2` check their input and then call these functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from da.arrays.devices import narrowed, widened
from da.arrays.matrices import full_precision
from da.kernels.bandwidths import Norm, scale_free
from da.kernels.moderate_scale import moderate
from da.ops.discrepancy import Backend, kernel_discrepancy
from da.ops.discrepancy_sums import pool
from da.ops.mixture import Bandwidth, KernelName, Mixture, mixture_of, of_distance

Estimator = Literal["biased", "unbiased", "linear"]
MULTIPLIERS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0)


def check_estimator(estimator: str) -> None:
    """Raise a ValueError if there is no estimator of this name."""
    if estimator not in ("biased", "unbiased", "linear"):
        raise ValueError(f"estimator must be 'biased', 'unbiased' or 'linear'; got {estimator!r}")


@dataclass(frozen=True)
class Layer:
    """One layer of both samples with its kernel, as the estimators take it."""

    x: Tensor  # (n, d)
    y: Tensor  # (m, d)
    pooled: Tensor  # (n + m, d), see `da.ops.discrepancy_sums.pool`
    mixture: Mixture


def layer_of(
    x: Tensor, y: Tensor, kernel: KernelName, bandwidth: Bandwidth, multipliers: Sequence[float]
) -> Layer:
    """Choose the kernel of one layer, and let its bandwidth follow the rows' scale.

    With a bandwidth by a rule the value does not depend on the common scale of all rows.
    `scale_free` gives it the gradient that says so. With a number nothing is changed.

    Args:
        x: Rows (n, d), checked.
        y: Rows (m, d).
        kernel: As in `mmd2`.
        bandwidth: As in `mmd2`.
        multipliers: As in `mmd2`.

    Returns:
        The layer.

    Raises:
        ValueError: A bandwidth or a multiplier is out of its range.
    """
    if isinstance(bandwidth, str) and kernel != "linear":
        x, y = moderate(x, y)
    pooled = pool(x, y, kernel)
    mixture = mixture_of(kernel, pooled, bandwidth, multipliers)
    if isinstance(bandwidth, str) and kernel != "linear":
        norm: Norm = 1 if kernel == "laplacian" else 2
        x, y = scale_free(x, y, norm=norm, about_origin=not of_distance(kernel))
    return Layer(x, y, pooled, mixture)


def quadratic_estimate(
    layers: Sequence[Layer], weights: Tensor | None, unbiased: bool, backend: Backend
) -> Tensor:
    """Compute the biased or the unbiased estimate.

    Args:
        layers: One or more, of the same rows.
        weights: One weight >= 0 for each source row, (n,); None: equal weights.
        unbiased: Whether pairs i = j are left out.
        backend: As in `mmd2`.

    Returns:
        A scalar in the precision of the layers. Sums are in float64.

    Raises:
        ValueError: "unbiased", and all weight is on one row.
    """
    x, y, mixtures = [z.x for z in layers], [z.y for z in layers], [z.mixture for z in layers]
    a, b, c = _coefficients(len(x[0]), len(y[0]), weights, unbiased)
    u = v = None
    if weights is not None:
        u, v = weights[:, None], y[0].new_ones(len(y[0]), 1)
    pooled = [z.pooled for z in layers]
    value = kernel_discrepancy(
        x, y, mixtures, u, v, coefficients=(a, b, c), backend=backend, pooled=pooled
    )
    if unbiased:
        own_x, own_y = _own_pairs(mixtures, x), _own_pairs(mixtures, y)
        if weights is not None:
            own_x = weights.square() * own_x
        value = value - a * widened(own_x).sum() - b * widened(own_y).sum()
    return narrowed(value, x[0])


def linear_estimate(layers: Sequence[Layer]) -> Tensor:
    """Compute the linear estimate: the mean of h over rows 2i (index 1) and 2i + 1 (index 2).

        h = k(x1, x2) + k(y1, y2) - k(x1, y2) - k(x2, y1)

    Args:
        layers: One or more, of the same rows, n >= 2.

    Returns:
        A scalar in the precision of the layers.

    Raises:
        ValueError: The numbers of rows differ.
    """
    x, y, mixtures = [z.x for z in layers], [z.y for z in layers], [z.mixture for z in layers]
    n = len(x[0])
    if n != len(y[0]):
        raise ValueError(
            f"estimator 'linear' needs n = m; got {n} and {len(y[0])}: use 'unbiased', or crop one "
            f"sample"
        )
    even, odd = slice(0, 2 * (n // 2), 2), slice(1, None, 2)  # the last row of an odd n is left out
    x1, x2 = [z[even] for z in x], [z[odd] for z in x]
    y1, y2 = [z[even] for z in y], [z[odd] for z in y]
    within = _product(mixtures, x1, x2) + _product(mixtures, y1, y2)
    h = within - _product(mixtures, x1, y2) - _product(mixtures, x2, y1)  # (n // 2,)
    return narrowed(widened(h).mean(), x[0])


def _coefficients(
    n: int, m: int, weights: Tensor | None, unbiased: bool
) -> tuple[float, float, float]:
    """The factors of the sums over pairs (x, x), (y, y) and (x, y) that make them means."""
    total, squares = float(n), float(n)
    if weights is not None:
        total = float(widened(weights).sum())
        squares = float(widened(weights).square().sum())
    across = 1 / (total * m)
    if not unbiased:
        return 1 / total**2, 1 / m**2, across
    if total**2 - squares <= 1e-12 * total**2:
        raise ValueError(
            "source_weights: all weight is on one row, but 'unbiased' needs two rows; use 'biased'"
        )
    return 1 / (total**2 - squares), 1 / (m**2 - m), across


def _own_pairs(mixtures: Sequence[Mixture], x: Sequence[Tensor]) -> Tensor:
    """prod_l k_l(x^l_i, x^l_i), (n,)."""
    if all(of_distance(k.name) for k in mixtures):  # each kernel of each row with itself is 1
        return x[0].new_full((len(x[0]),), math.prod(len(k.scales) for k in mixtures))
    return _product(mixtures, x, x)


def _product(mixtures: Sequence[Mixture], x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """prod_l k_l(x^l_i, y^l_i), (n,)."""
    with full_precision(x[0]):
        kernels = [k.rowwise(a, b) for k, a, b in zip(mixtures, x, y, strict=True)]
        return torch.stack(kernels).prod(dim=0)
