"""Kernel mean matching: weights that bring the weighted kernel mean of the source close to the kernel mean of the target.

    min over w of  || 1/n sum_i w_i phi(x_i) - 1/m sum_j phi(y_j) ||^2     subject to  0 <= w_i <= B,  |mean(w) - 1| <= epsilon

that is, 1/2 w^T K w - kappa^T w with K_ij = k(x_i, x_j), kappa_i = n/m sum_j k(x_i, y_j), k(x, y) = exp(-||x - y||^2 / s).

Huang, Smola, Gretton, Borgwardt, Schoelkopf: Correcting Sample Selection Bias by Unlabeled Data. NIPS 2006.
Solved by FISTA (Beck, Teboulle, 2009) restarted where the objective rises (O'Donoghue, Candes, 2015).
"""

from __future__ import annotations

import math
import warnings
from typing import Literal

import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision, like
from da.instance.diagnostics import warn_if_uniform
from da.kernels import centred, gram_distances, resolve_bandwidth


def kmm(
    source: Array,
    target: Array,
    *,
    bound: float = 1000.0,
    epsilon: float | None = None,
    bandwidth: float | Literal["mean", "median"] = "median",
    n_iter: int = 20_000,
    tolerance: float = 1e-5,
) -> Array:
    """Weights (n,) for the rows of source (n, d) against target (m, d): every row gets one, 0 <= w <= bound, mean within epsilon of 1.

    bound:     B, the largest weight, >= 1.
    epsilon:   how far the mean weight may be from 1; None is the paper's (sqrt(n) - 1) / sqrt(n).
    bandwidth: s, a squared distance: a rule on the pooled rows (`da.kernels`) or a number > 0.
    n_iter:    the most iterations, of one product K w each. A warning says when they did not suffice, and what was reached.
    tolerance: how far the squared MMD may certainly be from its minimum (a duality gap; it is usually far closer).
               Single weights settle later than the MMD: for them to be those of the minimum to 1e-4, ask for 1e-10.

    Works in float64 with K (n, n) and k(x, y) (n, m) in memory; carries no gradient. Raises ValueError or TypeError on bad input;
    warns when the weights are uniform.
    """
    x, y = (z.detach() for z in check_two_samples(source, target))
    n, dtype = len(x), x.dtype
    epsilon = (math.sqrt(n) - 1) / math.sqrt(n) if epsilon is None else epsilon
    _check_options(bound, epsilon, n_iter, tolerance)
    x, y = x.double(), y.double()
    with full_precision(x):
        s = resolve_bandwidth(centred(torch.cat([x, y])), bandwidth)
        within = torch.exp(-gram_distances(x, x) / s)  # (n, n)
        across = torch.exp(-gram_distances(x, y) / s).sum(dim=1) * (n / len(y))  # (n,)
        polytope = Polytope(bound, n * (1 - epsilon), n * (1 + epsilon))
        weights = _fista(within, across, polytope, n_iter, tolerance)
    warn_if_uniform(weights, "kmm")
    return like(weights.to(dtype), source)


class Polytope:
    """{w : 0 <= w_i <= bound, least <= sum w <= most}, with its exact projection and its linear minimisation."""

    def __init__(self, bound: float, least: float, most: float) -> None:
        self.bound, self.least, self.most = bound, least, most

    def project(self, v: Tensor) -> Tensor:
        """The nearest point to v (n,): clamp(v - tau, 0, bound), with the shift tau that brings the sum to the bound it breaks."""
        w = v.clamp(0, self.bound)
        total = min(max(float(w.sum()), self.least), self.most)
        return w if total == float(w.sum()) else (v - self._shift(v, total)).clamp(0, self.bound)

    def _shift(self, v: Tensor, total: float) -> Tensor:
        """tau with sum clamp(v - tau, 0, bound) = total: the sum is piecewise linear in tau, with kinks at v - bound and v."""
        kinks, order = torch.sort(torch.cat([v - self.bound, v]))  # (2n,)
        slopes = torch.cat([-torch.ones_like(v), torch.ones_like(v)])[order].cumsum(0)  # right of each kink
        sums = len(v) * self.bound + (slopes[:-1] * kinks.diff()).cumsum(0)  # at the kinks but the first, decreasing
        after = int(torch.searchsorted(-sums, -total).clamp(max=len(sums) - 1)) + 1
        middle = (kinks[after - 1] + kinks[after]) / 2
        free, full = (v > middle) & (v - middle < self.bound), v - middle >= self.bound
        if not bool(free.any()):
            return middle
        return (v[free].sum() + self.bound * int(full.sum()) - total) / int(free.sum())

    def lowest(self, gradient: Tensor) -> Tensor:
        """The least of <gradient, v> over the polytope: mass goes to the smallest entries, to `least`, then on while they are negative."""
        ordered = gradient.sort().values
        before = self.bound * torch.arange(len(ordered), dtype=ordered.dtype, device=ordered.device)
        up_to = torch.where(ordered < 0, self.most, self.least)
        return (ordered * (up_to - before).clamp(0, self.bound)).sum()


def _fista(within: Tensor, across: Tensor, polytope: Polytope, n_iter: int, tolerance: float) -> Tensor:
    """The minimiser of 1/2 w^T K w - kappa^T w, from uniform weights. K w is kept, so that an iteration has one product."""
    n = len(across)
    step = 1 / within.sum(dim=1).max()  # K has no negative entry, so its largest row sum bounds its largest eigenvalue
    w = torch.ones_like(across)
    product = within @ w
    ahead, ahead_product, momentum = w, product, 1.0
    for i in range(n_iter + 1):
        if i % 10 == 0 or i == n_iter:
            gradient = product - across
            gap = float(2 * (gradient @ w - polytope.lowest(gradient)) / n**2)  # in squared MMD: 2 / n^2 times the objective
            if gap <= tolerance:
                return w
        new = polytope.project(ahead - step * (ahead_product - across))
        new_product = within @ new
        rose = new @ (new_product / 2 - across) > w @ (product / 2 - across)
        momentum = 1.0 if bool(rose) else momentum
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ratio = (momentum - 1) / following
        ahead, ahead_product = new + ratio * (new - w), new_product + ratio * (new_product - product)
        w, product, momentum = new, new_product, following
    warnings.warn(
        f"kmm: after {n_iter} iterations the squared MMD is within {gap:.1e} of its minimum, not {tolerance:.1e}: "
        "raise n_iter or tolerance, or narrow the bandwidth",
        stacklevel=3,
    )
    return w


def _check_options(bound: float, epsilon: float, n_iter: int, tolerance: float) -> None:
    if not (math.isfinite(bound) and bound >= 1):
        raise ValueError(f"bound must be a finite number >= 1, or uniform weights are out of reach; got {bound}")
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be a finite number >= 0; got {epsilon}")
    if n_iter < 1 or not tolerance > 0:
        raise ValueError(f"n_iter must be >= 1 and tolerance > 0; got {n_iter} and {tolerance}")
