"""KLIEP: the density ratio as a mixture of Gaussians, fitted by maximum likelihood.

Use it if you want a smooth ratio and a bandwidth chosen by held-out likelihood.

    w(x) = sum_l alpha_l k(x, c_l)        k(x, c) = exp(-||x - c||^2 / s)
    max over alpha >= 0 of  1/m sum_j log w(y_j)     subject to  1/n sum_i w(x_i) = 1

With beta_l = alpha_l b_l and b_l = 1/n sum_i k(x_i, c_l), beta lies on the simplex, and the problem
is that of the proportions of a mixture. Its optimum has a certificate: if g (b,) is the gradient,
the maximum is at most max_l g_l - 1 away.
"""

from __future__ import annotations

import math

import torch
from scipy.optimize import nnls
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.callers import warn_caller
from da.arrays.integers import whole_number, whole_number_or_none
from da.arrays.matrices import Array, full_precision
from da.arrays.random_states import RandomState, seed_of
from da.instance.diagnostics import warn_if_uniform
from da.instance.samples import WIDTHS, Samples, distances_to, draw

HALVINGS = 8  # lengths of the Newton step that are tried: 1, 1/2, ..., 1/128
DAMPING = 1e-8  # of the curvature's mean diagonal entry, added to the diagonal
FOLDS = 5  # by default
ROUGH = 1e-3  # nats: while bandwidths are compared, likelihoods need not be more exact
SOME = 10_000  # rows to which many rows' shares are fitted first, for a start
SMALLEST_SHARE = 1e-12  # no share becomes 0, so that a later step can raise it again


@checked
def kliep(
    source: Array,
    target: Array,
    *,
    n_centres: int = 100,
    bandwidth: float | None = None,
    folds: int | None = None,
    random_state: RandomState = 0,
    tolerance: float = 1e-6,
    n_iter: int = 1000,
) -> Array:
    """Weight source rows by a density ratio that is a mixture of Gaussians around target rows.

    Among such ratios it takes the one that brings the weighted source closest to the target in
    Kullback-Leibler divergence. It chooses its bandwidth by held-out likelihood. It computes in
    float64.

        w(x) = sum_l alpha_l exp(-||x - c_l||^2 / s)
        max over alpha >= 0 of  1/m sum_j log w(y_j)     subject to  1/n sum_i w(x_i) = 1

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), floats.
        n_centres: The number of centres c_l, >= 1. They are target rows, drawn without
            replacement; all of them if the target has no more. Default 100.
        bandwidth: s, a squared distance > 0. None (default) chooses among 2^-6, 2^-5, ..., 2^2
            times the median squared distance of the pooled rows. It takes the one under which
            held-out target rows have the highest likelihood.
        folds: The parts that the target is cut into for that choice, 2 to m. None (default): 5, or
            m if the target has fewer rows.
        random_state: Source of centres and folds, neither of which depends on the order of the
            rows: None, an int, or a RandomState or Generator of NumPy. Each call takes one number
            from such an object. Default 0.
        tolerance: The mean log-likelihood is certainly within this of its maximum, in nats, > 0.
            Default 1e-6.
        n_iter: The most Newton steps, >= 1. Default 1000.

    Returns:
        Weights (n,) of mean 1, of the kind of `source`, without gradient.

    Raises:
        ValueError: Widths or devices differ, a value is not finite, or an option is out of range.
        TypeError: The inputs are not two float arrays or two float tensors.

    Warns:
        UserWarning: The weights are uniform, or `n_iter` steps did not reach `tolerance`.

    Example:
        Half of the source lies at 0, three quarters of the target do:

        >>> import numpy as np
        >>> from da.instance import kliep
        >>> source = np.array([[0.0], [0.0], [5.0], [5.0]])
        >>> target = np.array([[0.0], [0.0], [0.0], [5.0]])
        >>> kliep(source, target, bandwidth=1.0).round(2)
        array([1.5, 1.5, 0.5, 0.5])

    Paper:
        Sugiyama, Suzuki, Nakajima, Kashima, et al.: Direct Importance Estimation for Covariate
        Shift Adaptation. Annals of the Institute of Statistical Mathematics 60, 2008.

    Differences:
        Solved by Newton steps within beta >= 0, in place of the paper's projected gradient ascent.
        Held-out rows are not centres while they are scored: each fold is scored by a fit around
        centres of the other folds.
    """
    samples = Samples.of(source, target, widen=False)
    x, y = samples.x, samples.y
    _check_options(n_centres, n_iter, tolerance)
    folds = _fold_count(folds, len(y)) if bandwidth is None else 1
    seed = seed_of(random_state)
    with full_precision(x):
        place = draw(len(y), n_centres, seed).to(x.device)  # (b,): the centres' rows
        centres = y[place]
        from_source = distances_to(centres, x)  # (n, b)
        from_target = distances_to(centres, y)  # (m, b)
        if bandwidth is None:
            part = (draw(len(y), len(y), seed + 1) % folds).to(x.device)  # (m,)
            s = _likeliest(samples.bandwidth(), from_source, from_target, part, place)
        else:
            s = samples.bandwidth(bandwidth)
        at_target, logs = log_basis(from_source, from_target, s)
        start = _start(at_target, seed + 2)
        shares = mixture_shares(at_target, start, tolerance=tolerance, n_iter=n_iter)
        # In place: new memory of that size would cost more time than the exponentials.
        at_source = from_source.div_(-s).sub_(logs).exp_()
        weights = samples.restore(at_source @ shares, source)
    warn_if_uniform(weights, "kliep")
    return weights


def _check_options(n_centres: int, n_iter: int, tolerance: float) -> None:
    """Check the numbers given to `kliep`."""
    whole_number(n_centres, "n_centres", least=1)
    whole_number(n_iter, "n_iter", least=1)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be > 0; got {tolerance}")


def _fold_count(folds: int | None, m: int) -> int:
    """The number of folds that m target rows are cut into, to choose the bandwidth."""
    if m < 2:
        raise ValueError(f"target must have at least 2 rows to choose a bandwidth; got {m}")
    note = "the target's rows: or give a bandwidth"
    folds = whole_number_or_none(folds, "folds", least=2, most=m, note=note)
    return min(FOLDS, m) if folds is None else folds


def _likeliest(
    median: float, from_source: Tensor, from_target: Tensor, part: Tensor, place: Tensor
) -> float:
    """The bandwidth under which held-out target rows are likeliest."""

    def likelihood(s: float) -> float:
        at_target, _ = log_basis(from_source, from_target, s)
        return held_out_likelihood(at_target, part, part[place])

    return max([factor * median for factor in WIDTHS], key=likelihood)


def _start(at_target: Tensor, seed: int) -> Tensor | None:
    """Shares (b,) fitted to some of many rows, from which few steps are left on all of them."""
    if len(at_target) < 2 * SOME:
        return None
    some = draw(len(at_target), SOME, seed).to(at_target.device)
    return mixture_shares(at_target[some], tolerance=ROUGH)


def log_basis(from_source: Tensor, from_target: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """The logarithms of the normalised kernels, from squared distances to the centres.

    Args:
        from_source: Squared distances (n, b) of source rows to centres.
        from_target: Squared distances (m, b) of target rows to centres.
        s: The bandwidth, a squared distance > 0.

    Returns:
        log(k(y_j, c_l) / b_l) (m, b), and log b_l (b,).
    """
    logs = torch.logsumexp(from_source / -s, dim=0) - math.log(len(from_source))
    return (from_target / -s).sub_(logs), logs


def held_out_likelihood(at_target: Tensor, part: Tensor, part_of_centre: Tensor) -> float:
    """The mean log w of held-out target rows, by which a bandwidth is chosen.

    A fold's rows are scored by the fit to the other folds, around centres of the other folds. (A
    held-out row that is a centre itself would favour the narrowest bandwidth.)

    Args:
        at_target: log(k(y_j, c_l) / b_l) (m, b), see `log_basis`.
        part: The fold (m,) of each target row.
        part_of_centre: The fold (b,) of each centre.

    Returns:
        The mean over folds of a fold's mean log w, in nats.
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
    """The shares of a mixture's components under which the rows have the highest likelihood.

        max over beta of  mean_j log sum_l beta_l exp(log_densities_jl)

    The Lagrangian mean_j log(...) - sum_l beta_l has its maximum at a beta of sum 1 without a
    constraint on the sum. Each step is a Newton step within beta >= 0, or, if that is no better, a
    step of expectation maximisation, which never lowers the likelihood.

    Args:
        log_densities: The log density (m, b) of each row under each component.
        start: Shares (b,) of sum 1 to start from. None (default) starts from equal shares.
        tolerance: The mean log-likelihood is certainly within this of its maximum, in nats.
        n_iter: The most steps. Default 1000.

    Returns:
        The shares (b,), > 0, of sum 1.
    """
    # A factor for each row does not move the maximum.
    densities = (log_densities - log_densities.amax(dim=1, keepdim=True)).exp_()
    m, b = densities.shape
    shares = densities.new_full((b,), 1 / b) if start is None else start
    for _ in range(n_iter):
        inverse = 1 / (densities @ shares)  # (m,)
        gradient = densities.T @ inverse / m  # (b,); its mean under the shares is 1
        gap = float(gradient.max()) - 1
        if gap <= tolerance:
            return shares
        shares = _ascend(densities, shares, inverse, gradient)
    warn_caller(
        f"kliep: after {n_iter} steps the mean log-likelihood is within {gap:.1e} of its maximum, "
        f"not {tolerance:.1e}: raise n_iter or tolerance",
    )
    return shares


def _ascend(densities: Tensor, shares: Tensor, inverse: Tensor, gradient: Tensor) -> Tensor:
    """The shares after a step from `shares` (b,) with sum 1."""

    def likelihood(shares: Tensor) -> float:
        return float((densities @ shares).log().mean())

    best = normalised(shares * gradient)  # the step of expectation maximisation
    reached = likelihood(best)
    direction = _newton(densities, shares, inverse, gradient) - shares
    for halving in range(HALVINGS):
        new = normalised(shares + direction / 2**halving)
        if likelihood(new) > reached:
            return new
    return best


def _newton(densities: Tensor, shares: Tensor, inverse: Tensor, gradient: Tensor) -> Tensor:
    """The shares >= 0 (b,) that maximise the second-order expansion of the Lagrangian.

    With the curvature H and the gradient g the expansion is (2 g - 1)^T beta - 1/2 beta^T H beta,
    since H shares = g: a least-squares problem. Components without weight and without a reason to
    get some (g <= 1) are left out.
    """
    free = (shares > 2 * SMALLEST_SHARE) | (gradient > 1)
    weighted = densities[:, free] * inverse[:, None]
    curvature = weighted.T @ weighted / len(inverse)
    # Centres close to each other are hardly told apart: without damping H may be singular.
    damping = DAMPING * float(curvature.diagonal().mean())
    curvature.diagonal().add_(damping)
    root = torch.linalg.cholesky(curvature)  # H = root root^T
    linear = 2 * gradient[free] - 1 + damping * shares[free]
    right = torch.linalg.solve_triangular(root, linear[:, None], upper=False)[:, 0]
    solution, _ = nnls(root.T.cpu().numpy(), right.cpu().numpy(), maxiter=100 * len(right))
    new = torch.zeros_like(shares)
    new[free] = torch.from_numpy(solution).to(shares)
    return new


def normalised(shares: Tensor) -> Tensor:
    """The shares (b,) raised to at least SMALLEST_SHARE and scaled to sum 1."""
    shares = shares.clamp(min=SMALLEST_SHARE)
    return shares / shares.sum()
