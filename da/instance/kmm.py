"""Kernel mean matching: weights that bring the weighted kernel mean of the source close to the kernel mean of the target.

    min over w of  || 1/n sum_i w_i phi(x_i) - 1/m sum_j phi(y_j) ||^2     subject to  0 <= w_i <= B,  |mean(w) - 1| <= epsilon

that is, 1/2 w^T K w - kappa^T w with K_ij = k(x_i, x_j), kappa_i = n/m sum_j k(x_i, y_j), k(x, y) = exp(-||x - y||^2 / s).

Huang, Smola, Gretton, Borgwardt, Schoelkopf: Correcting Sample Selection Bias by Unlabeled Data. NIPS 2006.
Solved by FISTA (Beck, Teboulle, 2009) restarted where the objective rises (O'Donoghue, Candes, 2015), in part among the rows with
weight alone, as support vector machines are (Joachims, 1999); the duality gap that ends it is that of all rows.
For large n by the Nystroem method (Williams, Seeger: Using the Nystroem Method to Speed Up Kernel Machines. NIPS 2000).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from da.arrays import Array, full_precision
from da.instance.diagnostics import warn_if_uniform
from da.instance.samples import Gaussian, Samples, draw_centres, tiles

TILE = 100  # rows of a kernel at a time
CHECKED = 10  # iterations from one look at the gap to the next
POWER = 6  # iterations for the step size, which backtracking corrects
NULL = 1e-10  # eigenvalues of the landmarks' kernel below this share of the largest count as 0


def kmm(
    source: Array,
    target: Array,
    *,
    bound: float = 1000.0,
    epsilon: float | None = None,
    bandwidth: float | Literal["mean", "median"] = "median",
    n_landmarks: int | None = None,
    random_state: int = 0,
    n_iter: int = 20_000,
    tolerance: float = 1e-4,
) -> Array:
    """Weights (n,) for the rows of source (n, d) against target (m, d): every row gets one, 0 <= w <= bound, mean within epsilon of 1.

    bound:     B, the largest weight, >= 1.
    epsilon:   how far the mean weight may be from 1; None is the paper's (sqrt(n) - 1) / sqrt(n).
    bandwidth: s, a squared distance: a rule on the pooled rows (`da.kernels`) or a number > 0.
    n_landmarks: None solves the problem as it stands. A number >= 1 solves it for the parts of phi(x) and phi(y) within the span of
               so many kernel functions, at rows drawn from both samples together (by `random_state`): O((n + m) d) time per landmark.
    n_iter:    the most iterations, of one product K w each. A warning says when they did not suffice, and what was reached.
    tolerance: how far the squared MMD may certainly be from its minimum (a duality gap; it is usually far closer).
               Single weights settle later than the MMD: for them to be those of the minimum to 1e-4, ask for 1e-10.

    Works in float64; K (n, n) is in memory with up to a third of it again, or with landmarks (n, n_landmarks) up to twice. Carries no
    gradient. Raises ValueError or TypeError on bad input; warns when the weights are uniform.
    """
    samples = Samples.of(source, target)
    n = len(samples.x)
    epsilon = (math.sqrt(n) - 1) / math.sqrt(n) if epsilon is None else epsilon
    _check_options(bound, epsilon, n_landmarks, n_iter, tolerance)
    polytope = Polytope(bound, n * (1 - epsilon), n * (1 + epsilon))
    with full_precision(samples.x):
        s = samples.bandwidth(bandwidth)
        if n_landmarks is None:
            problem = _exact(samples.x, samples.y, s)
        else:
            problem = _projected(
                samples.x, samples.y, draw_centres(samples.pooled(), n_landmarks, random_state), s
            )
        weights = samples.restore(_minimiser(problem, polytope, n_iter, tolerance), source)
    warn_if_uniform(weights, "kmm")
    return weights


class Quadratic(NamedTuple):
    """1/2 w^T K w - across^T w, with K = factor (n, n), or with landmarks factor factor^T, factor (n, p)."""

    factor: Tensor
    across: Tensor  # (n,)
    landmarks: bool

    def product(self, w: Tensor) -> Tensor:
        """K w (n,)."""
        return self.factor @ (self.factor.T @ w if self.landmarks else w)

    def among(self, rows: Tensor) -> Quadratic:
        """The same where all rows but these (k,) have weight 0."""
        return Quadratic(
            self.factor[rows] if self.landmarks else self.factor[rows[:, None], rows],
            self.across[rows],
            self.landmarks,
        )


def _exact(x: Tensor, y: Tensor, s: float) -> Quadratic:
    n, m = len(x), len(y)
    within, kernel = x.new_empty(n, n), Gaussian(x, x, s)
    for start in range(0, n, TILE):
        _fill(within[start : start + TILE], kernel, start)
    within.fill_diagonal_(1)
    kernel, buffer, sums = Gaussian(x, y, s), x.new_empty(min(TILE, n), m), []
    for start in range(0, n, TILE):
        sums.append(_fill(buffer[: n - start], kernel, start).sum(dim=1))
    return Quadratic(within, torch.cat(sums) * (n / m), landmarks=False)


def _fill(out: Tensor, kernel: Gaussian, start: int) -> Tensor:
    """k between the rows that begin at `start` and all of y, in `out` (k, m): memory that is new each time costs more than the products."""
    return (
        torch.mm(kernel.left[start : start + len(out)], kernel.right.T, out=out)
        .clamp_(max=0)
        .exp_()
    )


def _projected(x: Tensor, y: Tensor, landmarks: Tensor, s: float) -> Quadratic:
    """With phi projected onto the span of the kernel functions at the landmarks z: K = F F^T, F = k(x, z) k(z, z)^(-1/2)."""
    values, vectors = torch.linalg.eigh(
        Gaussian(landmarks, landmarks, s).block(slice(None)).fill_diagonal_(1)
    )
    kept = values > NULL * values[-1]
    whitening = vectors[:, kept] / values[kept].sqrt()  # (r, p)
    kernel = Gaussian(y, landmarks, s)
    mean = (
        sum(kernel.block(rows).sum(dim=0) for rows in tiles(len(y), len(landmarks)))
        / len(y)
        @ whitening
    )  # (p,)
    kernel = Gaussian(x, landmarks, s)
    features = torch.cat(
        [kernel.block(rows) @ whitening for rows in tiles(len(x), len(landmarks))]
    )  # (n, p)
    return Quadratic(features, len(x) * (features @ mean), landmarks=True)


class Polytope:
    """{w : 0 <= w_i <= bound, least <= sum w <= most}, with its exact projection and its linear minimisation."""

    def __init__(self, bound: float, least: float, most: float) -> None:
        self.bound, self.least, self.most = bound, least, most

    def project(self, v: Tensor, stiffness: float = 0.0, total: float = 0.0) -> Tensor:
        """The w of least 1/2 ||w - v||^2 + stiffness/2 (sum w - total)^2, v (n,); without stiffness the nearest point to v.

        It is clamp(v - tau, 0, bound), with the shift tau that the stiffness asks for, or that brings the sum to the bound it breaks.
        """
        w = (v - self._shift(v, total, 1 / stiffness) if stiffness else v).clamp(0, self.bound)
        within = min(max(float(w.sum()), self.least), self.most)
        return (
            w
            if within == float(w.sum())
            else (v - self._shift(v, within, 0.0)).clamp(0, self.bound)
        )

    def _shift(self, v: Tensor, total: float, give: float) -> Tensor:
        """tau with sum clamp(v - tau, 0, bound) = total + give tau: the left side is piecewise linear, with kinks at v - bound and v."""
        kinks, order = torch.sort(torch.cat([v - self.bound, v]))  # (2n,)
        slopes = torch.cat([-torch.ones_like(v), torch.ones_like(v)])[order].cumsum(
            0
        )  # right of each kink
        fallen = torch.cat([slopes.new_zeros(1), (slopes[:-1] * kinks.diff()).cumsum(0)])
        excess = len(v) * self.bound + fallen - total - give * kinks  # at the kinks, decreasing
        after = int((excess > 0).sum())  # the kink that follows tau
        ends = torch.cat([kinks[:1] - 1, kinks, kinks[-1:] + 1])
        middle = (ends[after] + ends[after + 1]) / 2
        free, full = (v > middle) & (v - middle < self.bound), v - middle >= self.bound
        slope = int(free.sum()) + give
        return (v[free].sum() + self.bound * int(full.sum()) - total) / slope if slope else middle

    def lowest(self, gradient: Tensor) -> Tensor:
        """The least of <gradient, v> over the polytope: mass goes to the smallest entries, to `least`, then on while they are negative."""
        ordered = gradient.sort().values
        before = self.bound * torch.arange(len(ordered), dtype=ordered.dtype, device=ordered.device)
        up_to = torch.where(ordered < 0, self.most, self.least)
        return (ordered * (up_to - before).clamp(0, self.bound)).sum()


def _minimiser(problem: Quadratic, polytope: Polytope, n_iter: int, tolerance: float) -> Tensor:
    """The w that kmm gives. The squared MMD is 2 / n^2 times the objective, and a constant."""
    scale = 2 / len(problem.across) ** 2
    w, gap = _settled(
        problem, torch.ones_like(problem.across), polytope, iter(range(n_iter)), tolerance / scale
    )
    if gap * scale > tolerance:
        warnings.warn(
            f"kmm: after {n_iter} iterations the squared MMD is within {gap * scale:.1e} of its minimum, not {tolerance:.1e}: "
            "raise n_iter or tolerance, or narrow the bandwidth",
            stacklevel=3,
        )
    return w


def _settled(
    problem: Quadratic, w: Tensor, polytope: Polytope, steps: Iterator[int], tolerance: float
) -> tuple[Tensor, float]:
    """The minimiser and its gap, from w.

    Most weights are 0 at the minimum and soon on the way. So once half of them are, the others are settled among themselves, which
    costs a quarter of the time or less, to a hundredth of the gap if soon reached; then all rows have their say again, for longer
    where that helped little.
    """
    patience, before, row_sums = CHECKED, math.inf, problem.product(torch.ones_like(w))
    mean = float(row_sums.mean()) / len(w)  # c
    metric = mean, _curvature(problem.product, row_sums, mean)
    while True:
        w, gap, halved = _fista(problem, w, polytope, steps, tolerance, patience, metric)
        if not halved:
            return w, gap
        rows = w.nonzero()[:, 0]
        few = islice(steps, 20 * patience)
        w[rows] = _settled(
            problem.among(rows), w[rows], polytope, few, max(tolerance / 2, gap / 100)
        )[0]
        patience, before = (2 * patience if gap > before / 2 else patience), gap


def _fista(
    problem: Quadratic,
    w: Tensor,
    polytope: Polytope,
    steps: Iterator[int],
    tolerance: float,
    patience: int,
    metric: tuple[float, float],
) -> tuple[Tensor, float, bool]:
    """w nearer to the minimiser, its gap, and whether it is handed back because half of it is 0: not before `patience` iterations.

    K w is kept, so that an iteration has one product. K is nearly its mean c plus something much smaller, so steps are measured by
    c 1 1^T + L I, metric = (c, L): L, and the iterations, are fewer than those of a multiple of I.
    """
    mean, curvature = metric
    product = problem.product(w)
    ahead, ahead_product, momentum, i = w, product, 1.0, 0
    while True:
        last = next(steps, None) is None
        if i % CHECKED == 0 or last:
            gap = _gap(polytope, w, product - problem.across)
            if gap <= tolerance or last:
                return w, gap, False
            if i >= patience and 0 < 2 * int((w > 0).sum()) <= len(w):
                return w, gap, True
        while True:
            new = polytope.project(
                ahead - (ahead_product - problem.across) / curvature,
                mean / curvature,
                float(ahead.sum()),
            )
            new_product, moved = problem.product(new), new - ahead
            if float(moved @ (new_product - ahead_product)) <= 1.000001 * float(
                curvature * moved @ moved + mean * moved.sum() ** 2
            ):
                break
            curvature, momentum = 1.5 * curvature, 1.0  # the estimate was too low
        rose = new @ (new_product / 2 - problem.across) > w @ (product / 2 - problem.across)
        momentum = 1.0 if bool(rose) else momentum
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ratio = (momentum - 1) / following
        ahead, ahead_product = (
            new + ratio * (new - w),
            new_product + ratio * (new_product - product),
        )
        w, product, momentum, i = new, new_product, following, i + 1


def _gap(polytope: Polytope, w: Tensor, gradient: Tensor) -> float:
    """How far the objective is above its minimum at most."""
    return float(gradient @ w - polytope.lowest(gradient))


def _curvature(product_with: Callable[[Tensor], Tensor], row_sums: Tensor, mean: float) -> float:
    """About the largest eigenvalue of K - c 1 1^T, by a few power iterations from its row sums; > 0."""
    v, value = row_sums - row_sums.mean(), 0.0
    for _ in range(POWER):
        length = float(v.norm())
        if not length > 1e-12 * mean * len(v):
            break
        v = v / length
        v, before = product_with(v) - mean * v.sum(), v
        value = float(before @ v)
    return max(1.05 * value, float(row_sums.max()) / len(v))


def _check_options(
    bound: float, epsilon: float, n_landmarks: int | None, n_iter: int, tolerance: float
) -> None:
    if not (math.isfinite(bound) and bound >= 1):
        raise ValueError(
            f"bound must be a finite number >= 1, or uniform weights are out of reach; got {bound}"
        )
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be a finite number >= 0; got {epsilon}")
    if n_landmarks is not None and n_landmarks < 1:
        raise ValueError(f"n_landmarks must be None or >= 1; got {n_landmarks}")
    if n_iter < 1 or not tolerance > 0:
        raise ValueError(f"n_iter must be >= 1 and tolerance > 0; got {n_iter} and {tolerance}")
