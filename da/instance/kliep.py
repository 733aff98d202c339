"""KLIEP: the density ratio, as a mixture of Gaussians around target rows, that brings the source closest to the target in Kullback-Leibler.

    w(x) = sum_l alpha_l k(x, c_l)        max over alpha >= 0 of  1/m sum_j log w(y_j)     subject to  1/n sum_i w(x_i) = 1

with k(x, c) = exp(-||x - c||^2 / s). With beta_l = alpha_l b_l, b_l = 1/n sum_i k(x_i, c_l), beta lies on the simplex and the problem is
that of the proportions of a mixture, whose optimum has a certificate: with the gradient g (b,), the maximum is at most max_l g_l - 1 away.

Sugiyama, Suzuki, Nakajima, Kashima, von Buenau, Kawanabe: Direct Importance Estimation for Covariate Shift Adaptation.
Annals of the Institute of Statistical Mathematics 60, 2008. Solved by Newton steps within beta >= 0 in place of their projected ascent.
"""

from __future__ import annotations

import math
import warnings

import torch
from scipy.optimize import nnls
from torch import Tensor

from da.arrays import Array, full_precision
from da.instance.diagnostics import warn_if_uniform
from da.instance.samples import WIDTHS, Samples, draw
from da.kernels.distances import gram_distances

HALVINGS = 8
DAMPING = 1e-8
ROUGH = 1e-3  # nats: bandwidths whose scores differ by less are as good as each other
SMALLEST_SHARE = (
    1e-12  # a centre that a step would drop keeps this, so that a later one can take it up again
)


def kliep(
    source: Array,
    target: Array,
    *,
    n_centres: int = 100,
    bandwidth: float | None = None,
    folds: int = 5,
    random_state: int = 0,
    tolerance: float = 1e-6,
    n_iter: int = 1000,
) -> Array:
    """Weights (n,) of mean 1 for the rows of source (n, d) against target (m, d).

    n_centres: centres c_l, rows of the target drawn without replacement; all rows where it has no more.
    bandwidth: s, a squared distance > 0. None takes the one of 2^-6, 2^-5, ..., 2^2 times the median over the pooled rows under which
               held-out target rows are likeliest: the target is cut into `folds` (2 to m), each scored by a fit to the others
               around centres among them.
    random_state: of centres and folds, neither of which depends on the order of the rows.
    tolerance: how far, in nats, the mean log-likelihood may certainly be from its maximum.
    n_iter:    the most Newton steps. A warning says when they did not suffice, and what was reached.

    Works in float64; carries no gradient. Raises ValueError or TypeError on bad input; warns when the weights are uniform.
    """
    samples = Samples.of(source, target)
    x, y = samples.x, samples.y
    if n_iter < 1 or not tolerance > 0:
        raise ValueError(f"n_iter must be >= 1 and tolerance > 0; got {n_iter} and {tolerance}")
    if bandwidth is None and not 2 <= folds <= len(y):
        raise ValueError(
            f"folds must be from 2 to the target's rows, {len(y)}; got {folds}: or give a bandwidth"
        )
    with full_precision(x):
        place = draw(len(y), n_centres, random_state).to(x.device)  # (b,): the centres' rows
        centres = y[place]
        from_source, from_target = (
            gram_distances(x, centres),
            gram_distances(y, centres),
        )  # (n, b), (m, b)
        if bandwidth is None:
            part = (draw(len(y), len(y), random_state + 1) % folds).to(x.device)  # (m,)
            median = samples.bandwidth()
            widths = [factor * median for factor in WIDTHS]
            s = max(
                widths,
                key=lambda s: held_out_likelihood(
                    log_basis(from_source, from_target, s)[0], part, part[place]
                ),
            )
        else:
            s = samples.bandwidth(bandwidth)
        at_target, logs = log_basis(from_source, from_target, s)
        shares = mixture_shares(at_target, tolerance=tolerance, n_iter=n_iter)
        weights = samples.restore((-from_source / s - logs).exp() @ shares, source)
    warn_if_uniform(weights, "kliep")
    return weights


def log_basis(from_source: Tensor, from_target: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """log(k(y_j, c_l) / b_l), (m, b), and log b_l, (b,), of the squared distances of source (n, b) and target (m, b) to the centres."""
    logs = torch.logsumexp(-from_source / s, dim=0) - math.log(len(from_source))
    return -from_target / s - logs, logs


def held_out_likelihood(at_target: Tensor, part: Tensor, part_of_centre: Tensor) -> float:
    """The mean over folds of the mean log w of a fold's target rows under the fit to the others, around centres among the others.

    at_target (m, b), the rows' folds (m,), the centres' folds (b,): a row that is a centre itself would praise the narrowest bandwidth.
    """
    start = mixture_shares(at_target, tolerance=ROUGH)
    scores = []
    for fold in part.unique():
        others, held, centres = part != fold, part == fold, part_of_centre != fold
        if not bool(centres.any()):
            continue
        inner = at_target[:, centres]
        shares = mixture_shares(inner[others], normalised(start[centres]), tolerance=ROUGH)
        scores.append(torch.logsumexp(inner[held] + shares.log(), dim=1).mean())
    return float(torch.stack(scores).mean())


def mixture_shares(
    log_densities: Tensor, start: Tensor | None = None, *, tolerance: float, n_iter: int = 1000
) -> Tensor:
    """beta (b,) > 0 of sum 1 that maximises mean_j log sum_l beta_l exp(log_densities_jl), log_densities (m, b); to within `tolerance`.

    The Lagrangian mean_j log(...) - sum_l beta_l has its maximum at a beta of sum 1, without asking for it. Each step is the better of a
    Newton step within beta >= 0 and of one of expectation maximisation, which never descends.
    """
    densities = (
        log_densities - log_densities.max(dim=1, keepdim=True).values
    ).exp()  # a factor for each row changes no maximiser
    m, b = densities.shape
    shares = densities.new_full((b,), 1 / b) if start is None else start
    for _ in range(n_iter):
        inverse = 1 / (densities @ shares)  # (m,)
        gradient = (
            densities.T @ inverse / m
        )  # (b,): of the log-likelihood; its mean under the shares is 1
        gap = float(gradient.max()) - 1
        if gap <= tolerance:
            return shares
        shares = _ascend(densities, shares, inverse, gradient)
    warnings.warn(
        f"kliep: after {n_iter} steps the mean log-likelihood is within {gap:.1e} of its maximum, not {tolerance:.1e}",
        stacklevel=3,
    )
    return shares


def _ascend(densities: Tensor, shares: Tensor, inverse: Tensor, gradient: Tensor) -> Tensor:
    """The shares after a step from `shares` (b,) with sum 1."""

    def likelihood(shares: Tensor) -> float:
        return float((densities @ shares).log().mean())

    best = normalised(shares * gradient)
    reached, direction = likelihood(best), _newton(densities, shares, inverse, gradient) - shares
    for halving in range(HALVINGS):
        new = normalised(shares + direction / 2**halving)
        if likelihood(new) > reached:
            return new
    return best


def _newton(densities: Tensor, shares: Tensor, inverse: Tensor, gradient: Tensor) -> Tensor:
    """The shares >= 0 (b,) that maximise the Lagrangian's second-order expansion about `shares`: a least-squares problem in b unknowns.

    With H the curvature and g the gradient the expansion is (2 g - 1)^T beta - 1/2 beta^T H beta, as H shares = g. Centres that are
    neither in use nor should be stay out.
    """
    free = (shares > 2 * SMALLEST_SHARE) | (gradient > 1)
    weighted = densities[:, free] * inverse[:, None]
    curvature = weighted.T @ weighted / len(inverse)
    damping = DAMPING * float(
        curvature.diagonal().mean()
    )  # centres close to each other are hardly told apart
    curvature.diagonal().add_(damping)
    root = torch.linalg.cholesky(curvature)  # H = root root^T
    linear = 2 * gradient[free] - 1 + damping * shares[free]
    right = torch.linalg.solve_triangular(root, linear[:, None], upper=False)[:, 0]
    solution, _ = nnls(root.T.cpu().numpy(), right.cpu().numpy(), maxiter=100 * len(right))
    new = torch.zeros_like(shares)
    new[free] = torch.from_numpy(solution).to(shares)
    return new


def normalised(shares: Tensor) -> Tensor:
    """The shares (b,) with none below the smallest, and of sum 1."""
    shares = shares.clamp(min=SMALLEST_SHARE)
    return shares / shares.sum()
