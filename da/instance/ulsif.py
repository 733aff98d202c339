"""uLSIF and RuLSIF: the density ratio by least squares, in closed form.

    w(x) = sum_l theta_l k(x, c_l),   k(x, c) = exp(-||x - c||^2 / s)
    min over theta of  1/2 E_a[w(x)^2] - E_target[w(x)] + lambda/2 |theta|^2       E_a = a E_target + (1 - a) E_source
    theta = (H + lambda I)^-1 h,   H = a/m sum_j k(y_j) k(y_j)^T + (1 - a)/n sum_i k(x_i) k(x_i)^T,   h = 1/m sum_j k(y_j)

then what is negative in theta becomes 0. a = 0 estimates p_t / p_s, a > 0 the relative ratio p_t / (a p_t + (1 - a) p_s), at most 1 / a.

Kanamori, Hido, Sugiyama: A Least-squares Approach to Direct Importance Estimation. JMLR 10, 2009 (uLSIF).
Yamada, Suzuki, Kanamori, Hachiya, Sugiyama: Relative Density-Ratio Estimation for Robust Distribution Comparison.
Neural Computation 25, 2013 (RuLSIF).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from da.arrays import Array, full_precision
from da.instance.diagnostics import warn_if_uniform
from da.instance.samples import WIDTHS, Samples, draw, draw_centres
from da.kernels.distances import gram_distances

REGULARIZATIONS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
LEFT_OUT = 2000  # pairs of rows, at most: more would not change a score that is a mean over them


def ulsif(
    source: Array,
    target: Array,
    *,
    n_centres: int = 100,
    bandwidth: float | None = None,
    regularization: float | None = None,
    random_state: int = 0,
) -> Array:
    """Weights (n,) of mean 1 for the rows of source (n, d) against target (m, d): unconstrained least-squares importance fitting.

    n_centres: centres c_l, rows of the target drawn without replacement; all rows where it has no more.
    bandwidth: s, a squared distance > 0. None chooses of 2^-6, 2^-5, ..., 2^2 times the median over the pooled rows.
    regularization: lambda > 0, without unit, as k has none. None chooses of 1e-4, 1e-3, ..., 10. Both choices are those of the
               least leave-one-out score (`leave_one_out_scores`), with at most 2,000 pairs of rows left out in turn.
    random_state: of centres and pairs, neither of which depends on the order of the rows.

    Works in float64; carries no gradient. Raises ValueError or TypeError on bad input; warns when the weights are uniform.
    """
    weights = _weights(source, target, n_centres, bandwidth, regularization, 0.0, random_state)
    warn_if_uniform(weights, "ulsif")
    return weights


def rulsif(
    source: Array,
    target: Array,
    *,
    alpha: float = 0.1,
    n_centres: int = 100,
    bandwidth: float | None = None,
    regularization: float | None = None,
    random_state: int = 0,
) -> Array:
    """Weights (n,) of mean 1, in proportion to the relative ratio p_t / (alpha p_t + (1 - alpha) p_s): flatter, and so steadier.

    alpha: the target's share a in the denominator, in [0, 1); 0 is `ulsif`, whose arguments the others are.
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must be in [0, 1); got {alpha}")
    weights = _weights(source, target, n_centres, bandwidth, regularization, alpha, random_state)
    warn_if_uniform(weights, "rulsif")
    return weights


def _weights(
    source: Array,
    target: Array,
    n_centres: int,
    bandwidth: float | None,
    regularization: float | None,
    alpha: float,
    random_state: int,
) -> Array:
    if regularization is not None and not (math.isfinite(regularization) and regularization > 0):
        raise ValueError(f"regularization must be a finite number > 0; got {regularization}")
    chosen = bandwidth is None or regularization is None
    samples = Samples.of(source, target, least=2 if chosen else 1)
    x, y = samples.x, samples.y
    with full_precision(x):
        centres = draw_centres(y, n_centres, random_state)
        from_source, from_target = (
            gram_distances(x, centres),
            gram_distances(y, centres),
        )  # (n, b), (m, b)
        median = samples.bandwidth() if bandwidth is None else 0.0
        widths = (
            [factor * median for factor in WIDTHS]
            if bandwidth is None
            else [samples.bandwidth(bandwidth)]
        )
        strengths = REGULARIZATIONS if regularization is None else (regularization,)
        s, strength = widths[0], strengths[0]
        if chosen:
            pairs = _pairs(len(x), len(y), random_state).to(x.device)
            s, strength = _choose(from_source, from_target, widths, strengths, alpha, pairs)
        at_source = (-from_source / s).exp()
        weights = at_source @ coefficients(
            at_source, (-from_target / s).exp(), regularization=strength, alpha=alpha
        )
        if not float(weights.sum()) > 0:
            raise ValueError(
                f"no source row is within reach of the target at the bandwidth {s:.3g}: "
                "give a larger bandwidth, or accept that no source row is like the target"
            )
        return samples.restore(weights / weights.mean(), source)


def coefficients(
    at_source: Tensor, at_target: Tensor, *, regularization: float, alpha: float = 0.0
) -> Tensor:
    """theta (b,) >= 0 of the kernels at source (n, b) and target (m, b)."""
    h = at_target.mean(dim=0)
    curvature = _curvature(
        at_source, at_target, alpha / len(at_target), (1 - alpha) / len(at_source)
    )
    return torch.linalg.solve(_regularised(curvature, regularization), h).clamp(min=0)


def leave_one_out_scores(
    at_source: Tensor,
    at_target: Tensor,
    pairs: Tensor,
    *,
    regularizations: Sequence[float],
    alpha: float = 0.0,
) -> list[float]:
    """For each lambda the mean over pairs (i, j) of  a/2 w(y_j)^2 + (1 - a)/2 w(x_i)^2 - w(y_j),  w fitted without x_i and y_j.

    at_source (n, b), at_target (m, b): the kernels; pairs (k, 2): row numbers. Without x_i and y_j, H changes by U C U^T with
    U = [k(y_j), k(x_i)] and C diagonal, and the inverse follows from a 2 x 2 system (Woodbury): no refit, the same value.
    """
    n, m = len(at_source), len(at_target)
    shares = at_source.new_tensor(
        [alpha / (m - 1), (1 - alpha) / (n - 1)]
    )  # of a row in H without the pair: C
    curvature = _curvature(at_source, at_target, float(shares[0]), float(shares[1]))
    left = torch.stack([at_target[pairs[:, 1]], at_source[pairs[:, 0]]], dim=1)  # (k, 2, b): U^T
    h = (m * at_target.mean(dim=0) - left[:, 0]) / (m - 1)  # (k, b)
    risk = left.new_tensor([alpha / 2, (1 - alpha) / 2])
    scores = []
    for regularization in regularizations:
        inverse = torch.linalg.inv(_regularised(curvature, regularization))  # (b, b)
        solved = left @ inverse  # (k, 2, b)
        system = torch.eye(2).to(left) - shares * (solved @ left.mT)  # (k, 2, 2): I - U^T A^-1 U C
        right = torch.linalg.solve(system, (solved @ h[:, :, None])[:, :, 0])  # (k, 2)
        theta = (h @ inverse + ((shares * right)[:, None] @ solved)[:, 0]).clamp(min=0)  # (k, b)
        values = (left @ theta[:, :, None])[:, :, 0]  # (k, 2): w(y_j), w(x_i)
        scores.append(float((values.square() @ risk - values[:, 0]).mean()))
    return scores


def _curvature(
    at_source: Tensor, at_target: Tensor, target_share: float, source_share: float
) -> Tensor:
    """H, (b, b), where each row counts by its domain's share."""
    h = source_share * (at_source.T @ at_source)
    return h + target_share * (at_target.T @ at_target) if target_share else h


def _regularised(h: Tensor, regularization: float) -> Tensor:
    return h + regularization * torch.eye(len(h)).to(h)


def _pairs(n: int, m: int, random_state: int) -> Tensor:
    """(k, 2): a source row and a target row each, no row twice."""
    k = min(n, m, LEFT_OUT)
    return torch.stack([draw(n, k, random_state), draw(m, k, random_state + 1)], dim=1)


def _choose(
    from_source: Tensor,
    from_target: Tensor,
    widths: list[float],
    strengths: tuple[float, ...],
    alpha: float,
    pairs: Tensor,
) -> tuple[float, float]:
    """The bandwidth and the regularisation of least leave-one-out score."""
    best = (math.inf, widths[0], strengths[0])
    for s in widths:
        at_source, at_target = (-from_source / s).exp(), (-from_target / s).exp()
        scores = leave_one_out_scores(
            at_source, at_target, pairs, regularizations=strengths, alpha=alpha
        )
        best = min(
            best, *((score, s, strength) for score, strength in zip(scores, strengths, strict=True))
        )
    return best[1], best[2]
