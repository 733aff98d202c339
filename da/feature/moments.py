"""Distances between the moments of two samples, beyond the mean (MMD with a linear kernel) and the covariance (CORAL).

    CMD    ||E x - E y|| / (b - a) + sum_{k=2}^K ||c_k(x) - c_k(y)|| / (b - a)^k,    c_k(x) = E (x - E x)^k for each feature on its own
    HoMM   ||E (x - E x)^{(x) p} - E (y - E y)^{(x) p}||_F^2 / d^p,                   (x) p the outer power of order p: d^p entries

CMD looks at every feature alone and at many orders; HoMM at all products of p features, at one order.

Zellinger, Grubinger, Lughofer, Natschlaeger, Saminger-Platz: Central Moment Discrepancy (CMD) for Domain-Invariant Representation
Learning. ICLR 2017.
Chen, Fu, Chen, Jin, Cheng, Jin, Hua: HoMM: Higher-Order Moment Matching for Unsupervised Domain Adaptation. AAAI 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision, like
from da.kernels.distances import centred


def cmd(
    source: Array,
    target: Array,
    *,
    moments: int = 5,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Array:
    """Central moment discrepancy of source (n, d) and target (m, d): a scalar >= 0, without unit.

    moments: K >= 1, the highest order; 5 in the paper.
    bounds:  (a, b), where the features lie, in their unit, as sigmoid puts them in (0, 1) and tanh in (-1, 1). Nothing is cut off: of
             features that reach beyond (ReLU), the highest moments outweigh the rest. None: b - a is the range of the feature whose
             range over both samples is widest; it carries no gradient, and the value does not depend on the features' scale.

    Moments in float64, with 1/n. The gradient of a norm is 0 where moments are equal and of unit size wherever they are not, however
    close. Raises ValueError for moments < 1 and bounds that are not a < b, else as every discrepancy.
    """
    if isinstance(moments, bool) or not isinstance(moments, int) or moments < 1:
        raise ValueError(f"moments must be a whole number >= 1; got {moments!r}")
    x, y = check_two_samples(source, target)
    with full_precision(x):
        z = centred(
            torch.cat([x, y]).double()
        )  # one shift of both samples changes nothing, and far from 0 digits are lost
        width = _width(z, bounds)
        first, second = (
            _central_moments(z[: len(x)] / width, moments),
            _central_moments(z[len(x) :] / width, moments),
        )
        value = torch.linalg.vector_norm(first - second, dim=1).sum()
    return like(value.to(x.dtype), source)


def homm(source: Array, target: Array, *, order: int = 3) -> Array:
    """Squared distance of the central moment tensors of source (n, d) and target (m, d): a scalar >= 0, in features' units^(2 order).

    order: p >= 2; 3 and 4 in the paper. Order 2 is CORAL but for its factors: 4 coral for covariances with 1/n.

    Exact at every order and width: the inner product of the outer powers of x and y is <x, y>^p, so the rows' inner products are enough, in
    O((n + m)^2 d), and the tensor of d^p entries is never formed. The paper forms it where d and p are small and else draws N of its
    entries (300,000 in the authors' code), whose mean estimates the value here. As in that code, each sample is centred by its own
    mean. A mean over all d^p entries is small in wide layers: there it is weighted by 200. In float64.

    Raises ValueError for fewer than two rows or order < 2 (the first central moment is 0), else as every discrepancy.
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 2:
        raise ValueError(
            f"order must be a whole number >= 2 (for means, mmd2 with kernel='linear'); got {order!r}"
        )
    x, y = check_two_samples(source, target, least=2)
    with full_precision(x):
        z = torch.cat([_about_its_mean(x), _about_its_mean(y)])  # (n + m, d)
        sign = torch.cat([z.new_full((len(x),), 1 / len(x)), z.new_full((len(y),), -1 / len(y))])
        value = sign @ (z @ z.T / x.shape[1]) ** order @ sign
    return like(value.to(x.dtype), source)


def _width(z: Tensor, bounds: tuple[float, float] | None) -> float:
    if bounds is None:
        return (
            float((z.detach().amax(dim=0) - z.detach().amin(dim=0)).max()) or 1.0
        )  # 0: all rows coincide
    a, b = bounds
    if not (math.isfinite(a) and math.isfinite(b) and a < b):
        raise ValueError(f"bounds must be finite numbers a < b, or None; got {bounds!r}")
    return b - a


def _central_moments(x: Tensor, moments: int) -> Tensor:
    """Mean and central moments of order 2 to `moments` of each column of x (n, d): (moments, d)."""
    mean = x.mean(dim=0)
    return torch.stack([mean, *(((x - mean) ** k).mean(dim=0) for k in range(2, moments + 1))])


def _about_its_mean(x: Tensor) -> Tensor:
    z = centred(x.double())
    return z - z.mean(dim=0)  # of size eps: it lets the gradient pass through the mean
