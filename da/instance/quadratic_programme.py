"""The quadratic programme of kernel mean matching, and its solver.

    min over w of  1/2 w^T K w - across^T w
    subject to  0 <= w_i <= bound,  least <= sum w <= most

`minimiser` solves it by FISTA (Beck, Teboulle, 2009), an accelerated projected gradient, restarted
if the objective rises (O'Donoghue, Candes, 2015). Once half of the weights are 0, the others are
settled among themselves, as support vector machines are (Joachims, 1999). A duality gap over all
rows ends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from da.arrays.callers import warn_caller

CHECKED = 10  # iterations between two looks at the duality gap
POWER = 6  # power iterations for the step size; backtracking corrects it


class Quadratic(NamedTuple):
    """The objective 1/2 w^T K w - across^T w.

    Attributes:
        factor: K (n, n), or with landmarks F (n, p) with K = F F^T.
        across: The linear term (n,).
        landmarks: Whether `factor` is F.
    """

    factor: Tensor
    across: Tensor
    landmarks: bool

    def product(self, w: Tensor) -> Tensor:
        """K w (n,)."""
        return self.factor @ (self.factor.T @ w if self.landmarks else w)

    def among(self, rows: Tensor) -> Quadratic:
        """The objective if all rows but `rows` (k,) have weight 0."""
        factor = self.factor[rows] if self.landmarks else self.factor[rows[:, None], rows]
        return Quadratic(factor, self.across[rows], self.landmarks)


class Polytope:
    """The allowed weights {w : 0 <= w_i <= bound, least <= sum w <= most}.

    Args:
        bound: The largest weight.
        least: The least sum.
        most: The largest sum.
    """

    def __init__(self, bound: float, least: float, most: float) -> None:
        self.bound, self.least, self.most = bound, least, most

    def project(self, v: Tensor, stiffness: float = 0.0, total: float = 0.0) -> Tensor:
        """The allowed w of least 1/2 ||w - v||^2 + stiffness/2 (sum w - total)^2.

        It is clamp(v - tau, 0, bound). The shift tau is the one that the stiffness asks for. If the
        sum is then not allowed, tau brings it to the nearest sum that is.

        Args:
            v: A point (n,).
            stiffness: >= 0. With 0 (default) the result is the allowed point nearest to v.
            total: The sum that the stiffness pulls to. Default 0.

        Returns:
            The projection (n,).
        """
        shifted = v - self._shift(v, total, 1 / stiffness) if stiffness else v
        w = shifted.clamp(0, self.bound)
        within = min(max(float(w.sum()), self.least), self.most)
        if within == float(w.sum()):
            return w
        return (v - self._shift(v, within, 0.0)).clamp(0, self.bound)

    def _shift(self, v: Tensor, total: float, give: float) -> Tensor:
        """tau with sum clamp(v - tau, 0, bound) = total + give tau.

        The left side is piecewise linear in tau, with kinks at v - bound and v.
        """
        kinks, order = torch.sort(torch.cat([v - self.bound, v]))  # (2n,)
        changes = torch.cat([-torch.ones_like(v), torch.ones_like(v)])[order]
        slopes = changes.cumsum(0)  # right of each kink
        fallen = torch.cat([slopes.new_zeros(1), (slopes[:-1] * kinks.diff()).cumsum(0)])
        excess = len(v) * self.bound + fallen - total - give * kinks  # at the kinks, decreasing
        after = int((excess > 0).sum())  # the kink that follows tau
        ends = torch.cat([kinks[:1] - 1, kinks, kinks[-1:] + 1])
        middle = (ends[after] + ends[after + 1]) / 2
        free, full = (v > middle) & (v - middle < self.bound), v - middle >= self.bound
        slope = int(free.sum()) + give
        return (v[free].sum() + self.bound * int(full.sum()) - total) / slope if slope else middle

    def lowest(self, gradient: Tensor) -> Tensor:
        """The least <gradient, v> over the allowed v.

        The smallest entries get weight first, until the sum is `least`, then on while they are
        negative and the sum is below `most`.
        """
        ordered = gradient.sort().values
        before = self.bound * torch.arange(len(ordered), dtype=ordered.dtype, device=ordered.device)
        up_to = torch.where(ordered < 0, self.most, self.least)
        return (ordered * (up_to - before).clamp(0, self.bound)).sum()


def minimiser(problem: Quadratic, polytope: Polytope, n_iter: int, tolerance: float) -> Tensor:
    """Solve the programme from uniform weights.

    The squared MMD is 2 / n^2 times the objective, plus a constant.

    Args:
        problem: The objective.
        polytope: The allowed weights.
        n_iter: The most iterations. A warning says if they did not reach the tolerance.
        tolerance: How far the squared MMD may be from its minimum.

    Returns:
        The weights (n,).
    """
    scale = 2 / len(problem.across) ** 2
    start, steps = torch.ones_like(problem.across), iter(range(n_iter))
    w, gap = _settled(problem, start, polytope, steps, tolerance / scale)
    if gap * scale > tolerance:
        warn_caller(
            f"kmm: after {n_iter} iterations the squared MMD is within {gap * scale:.1e} of its "
            f"minimum, not {tolerance:.1e}: raise n_iter or tolerance, or narrow the bandwidth",
        )
    return w


def _settled(
    problem: Quadratic, w: Tensor, polytope: Polytope, steps: Iterator[int], tolerance: float
) -> tuple[Tensor, float]:
    """The minimiser and its gap, from w.

    Most weights are 0 at the minimum, and soon on the way. So once half of them are 0, the others
    are settled among themselves, down to a hundredth of the gap if that is soon reached. It costs a
    quarter of the time or less. Then all rows take part again, and longer if that helped little.
    """
    patience, before, row_sums = CHECKED, math.inf, problem.product(torch.ones_like(w))
    mean = float(row_sums.mean()) / len(w)  # c
    metric = mean, _curvature(problem.product, row_sums, mean)
    while True:
        w, gap, halved = _fista(problem, w, polytope, steps, tolerance, patience, metric)
        if not halved:
            return w, gap
        rows = w.nonzero()[:, 0]
        few, goal = islice(steps, 20 * patience), max(tolerance / 2, gap / 100)
        w[rows], _ = _settled(problem.among(rows), w[rows], polytope, few, goal)
        if gap > before / 2:
            patience = 2 * patience
        before = gap


def _fista(
    problem: Quadratic,
    w: Tensor,
    polytope: Polytope,
    steps: Iterator[int],
    tolerance: float,
    patience: int,
    metric: tuple[float, float],
) -> tuple[Tensor, float, bool]:
    """w nearer to the minimiser, its gap, and whether half of it is 0.

    If half of w is 0 after at least `patience` iterations, w is handed back early. K w is kept, so
    an iteration costs one product.

    K is nearly its mean c plus something much smaller. So steps are measured by c 1 1^T + L I with
    metric = (c, L): L, and with it the number of iterations, is smaller than for a multiple of I.
    """
    mean, curvature = metric
    across, product = problem.across, problem.product(w)
    ahead, ahead_product, momentum, i = w, product, 1.0, 0
    while True:
        last = next(steps, None) is None
        if i % CHECKED == 0 or last:
            gap = _gap(polytope, w, product - across)
            if gap <= tolerance or last:
                return w, gap, False
            if i >= patience and 0 < 2 * int((w > 0).sum()) <= len(w):
                return w, gap, True
        while True:
            goal = ahead - (ahead_product - across) / curvature
            new = polytope.project(goal, mean / curvature, float(ahead.sum()))
            new_product, moved = problem.product(new), new - ahead
            change = float(moved @ (new_product - ahead_product))
            bound = float(curvature * moved @ moved + mean * moved.sum() ** 2)
            if change <= 1.000001 * bound:
                break
            curvature, momentum = 1.5 * curvature, 1.0  # the estimate was too low
        rose = new @ (new_product / 2 - across) > w @ (product / 2 - across)
        momentum = 1.0 if bool(rose) else momentum
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ratio = (momentum - 1) / following
        ahead = new + ratio * (new - w)
        ahead_product = new_product + ratio * (new_product - product)
        w, product, momentum, i = new, new_product, following, i + 1


def _gap(polytope: Polytope, w: Tensor, gradient: Tensor) -> float:
    """An upper bound on how far the objective is above its minimum."""
    return float(gradient @ w - polytope.lowest(gradient))


def _curvature(product_with: Callable[[Tensor], Tensor], row_sums: Tensor, mean: float) -> float:
    """About the largest eigenvalue of K - c 1 1^T, > 0, by power iterations from its row sums."""
    v, value = row_sums - row_sums.mean(), 0.0
    for _ in range(POWER):
        length = float(v.norm())
        if not length > 1e-12 * mean * len(v):
            break
        v = v / length
        v, before = product_with(v) - mean * v.sum(), v
        value = float(before @ v)
    return max(1.05 * value, float(row_sums.max()) / len(v))
