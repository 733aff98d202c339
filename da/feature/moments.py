"""Distances between the moments of two samples, beyond means and covariances.

    CMD     ||E x - E y|| / (b - a) + sum_{k=2}^K ||c_k(x) - c_k(y)|| / (b - a)^k
    HoMM    ||M_p(x) - M_p(y)||_F^2 / d^p

c_k(x) = E (x - E x)^k is taken for each feature on its own. M_p(x) is the expectation of the outer
power of order p of x - E x, with d^p entries. So CMD looks at every feature alone and at many
orders, and HoMM at all products of p features and at one order.

Means alone are `mmd2` with a linear kernel, covariances alone are `coral`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import narrowed, widened
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.arrays.stacking import stacking
from da.kernels.bandwidths import scale_free
from da.kernels.distances import centred


@checked
def cmd(
    source: Array,
    target: Array,
    *,
    moments: int = 5,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Array:
    """Measure how far apart the means and higher central moments of each feature are.

    It needs no kernel and costs O((n + m) d). Products of different features are not seen; for
    them see `homm`. It is meant for bounded features, such as those after a sigmoid or tanh.

        ||E x - E y|| / (b - a) + sum_{k=2}^K ||c_k(x) - c_k(y)|| / (b - a)^k
        c_k(x) = E (x - E x)^k for each feature on its own, with 1 / n

    Args:
        source: Rows (n, d), floats, n >= 1.
        target: Rows (m, d), m >= 1, of the kind of `source`.
        moments: The highest order K >= 1; default 5, the paper's.
        bounds: The interval (a, b) that features lie in, in their unit: (0, 1) after a sigmoid,
            (-1, 1) after tanh. Nothing is cut off. If features reach beyond it, as after ReLU, the
            highest moments outweigh the others. None takes for b - a the range of the feature that
            varies most over both samples. Then the value does not depend on the features' scale,
            and the gradient has no part along it.

    Returns:
        A scalar >= 0 without unit, of the kind of `source`; differentiable in both. The gradient
        of a norm is 0 if two moments are equal, and of unit size otherwise, however close they
        are. Moments are computed in float64.

    Raises:
        ValueError: `moments` is < 1, `bounds` are not a < b, widths or devices differ, or a value
            is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import cmd
        >>> source, target = np.array([[0.0], [1.0]]), np.array([[0.0], [0.0]])
        >>> float(cmd(source, target, moments=2))  # means 1/2 and 0, variances 1/4 and 0
        0.75

    Paper:
        Zellinger, Grubinger, Lughofer, Natschlaeger et al.: Central Moment Discrepancy (CMD) for
        Domain-Invariant Representation Learning. ICLR 2017.

    Differences:
        The bounds are not enforced. `bounds=None`, which takes them from the batch, is not in the
        paper.
    """
    whole_number(moments, "moments", least=1)
    x, y = check_two_samples(source, target)
    with full_precision(x):
        # A shift of both samples changes nothing, and far from 0 digits are lost.
        z = centred(widened(torch.cat(scale_free(x, y) if bounds is None else (x, y))))
        width = _width(z, bounds)
        first = _central_moments(z[: len(x)] / width, moments)
        second = _central_moments(z[len(x) :] / width, moments)
        value = torch.linalg.vector_norm(first - second, dim=1).sum()
    return like(narrowed(value, x), source)


@checked
def homm(source: Array, target: Array, *, order: int = 3, tanh: bool = False) -> Array:
    """Measure how far apart two samples are in one order of moments, over all products of features.

    Use it if covariances (`coral`, order 2) agree and the domains still differ: order 3 sees
    skewness, order 4 heavy tails.

        ||M_p(x) - M_p(y)||_F^2 / d^p,    M_p(x) = E (x - E x) (x) ... (x) (x - E x), p factors

    The tensor M_p of d^p entries is never formed. The inner product of two outer powers is
    <x, y>^p, so the rows' inner products are enough. This is exact at every order and width, and
    costs O((n + m)^2 d), in float64. Each sample is centred by its own mean.

    Args:
        source: Rows (n, d), floats, n >= 2.
        target: Rows (m, d), m >= 2, of the kind of `source`.
        order: The order p >= 2; default 3. The paper takes 3 and 4. Order 2 is 4 `coral`, with
            covariances over n in place of n - 1.
        tanh: True takes the tanh of the features first, as the authors' network does: it bounds
            products of many features. A shift of both samples then changes the value. Default
            False.

    Returns:
        A scalar >= 0 in the features' unit to the power 2 `order`, of the kind of `source`; twice
        differentiable in both. A mean over d^p entries is small for wide features, and sampling
        adds to it what grows with the features' size: with a large trade-off they shrink.

    Raises:
        ValueError: `order` is < 2 (the first central moment is 0), a sample has fewer than two
            rows, widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import homm
        >>> x = np.array([[0.0], [0.0], [3.0]])  # third central moment (-1 - 1 + 8) / 3 = 2
        >>> round(float(homm(x, -x)), 6)  # (2 - (-2))^2
        16.0

    Paper:
        Chen, Fu, Chen, Jin et al.: HoMM: Higher-Order Moment Matching for Unsupervised Domain
        Adaptation. AAAI 2020.

    Differences:
        The value is exact at every order and width. The paper forms the tensor if d and p are
        small, and otherwise draws some of its entries (300,000 in the authors' code), whose mean
        estimates the value here. The paper's clustering loss is not included. Each sample is
        centred by its own mean, as in the authors' code. The authors' features end in tanh, and
        they advise against ReLU; their code weighs the loss by 10,000 for digits (order 3) and by
        200 for photographs (order 4), at learning rates of 1e-4 and 3e-4. The row `homm` of the
        scripts takes the tanh of the features, order 3 and 200. With 10,000 the features of the
        embedded digits collapse at the scripts' learning rate of 3e-3.
    """
    note = "because for means there is mmd2 with kernel='linear'"
    whole_number(order, "order", least=2, note=note)
    x, y = check_two_samples(source, target, least=2)
    with full_precision(x):
        rows = (x.tanh(), y.tanh()) if tanh else (x, y)
        z = torch.cat([_about_its_mean(each) for each in rows])  # (n + m, d)
        of_source, of_target = z.new_full((len(x),), 1 / len(x)), z.new_full((len(y),), -1 / len(y))
        sign = torch.cat([of_source, of_target])  # (n + m,)
        value = sign @ (z @ z.T / x.shape[1]) ** order @ sign
    return like(narrowed(value, x), source)


def _width(z: Tensor, bounds: tuple[float, float] | None) -> float | Tensor:
    """b - a; without bounds the range of the feature of z (n + m, d) that varies most."""
    if bounds is None:
        ranges = z.detach().amax(dim=0) - z.detach().amin(dim=0)  # (d,)
        largest = ranges.max()
        if stacking():  # each member has its own, in a tensor
            return torch.where(largest > 0, largest, 1.0)
        return float(largest) or 1.0  # it is 0 if all rows are identical
    a, b = bounds
    if not (math.isfinite(a) and math.isfinite(b) and a < b):
        raise ValueError(f"bounds must be finite numbers a < b, or None; got {bounds!r}")
    return b - a


def _central_moments(x: Tensor, moments: int) -> Tensor:
    """The mean and the central moments 2 to `moments` of each column of x (n, d): (moments, d)."""
    mean = x.mean(dim=0)
    return torch.stack([mean, *(((x - mean) ** k).mean(dim=0) for k in range(2, moments + 1))])


def _about_its_mean(x: Tensor) -> Tensor:
    """x (n, d) minus its mean, in float64; the gradient passes through the mean."""
    z = centred(widened(x))
    return z - z.mean(dim=0)  # of size eps, but its gradient is not
