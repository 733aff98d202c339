"""Kernel mean matching: weights that bring the weighted source close to the target in kernel mean.

Use it if you want bounded weights and no density estimate. `kmm` sets the problem up;
`da.instance.quadratic_programme` solves it.

    min over w of  || 1/n sum_i w_i phi(x_i) - 1/m sum_j phi(y_j) ||^2
    subject to  0 <= w_i <= B,  |mean(w) - 1| <= epsilon

In terms of kernels that is

    min over w of  1/2 w^T K w - kappa^T w
    K_ij = k(x_i, x_j)        kappa_i = n/m sum_j k(x_i, y_j)        k(x, y) = exp(-||x - y||^2 / s)
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number, whole_number_or_none
from da.arrays.matrices import Array, NonFiniteError, full_precision
from da.arrays.random_states import RandomState, seed_of
from da.instance.diagnostics import warn_if_uniform
from da.instance.quadratic_programme import Polytope, Quadratic, minimiser
from da.instance.samples import BLOCK, Gaussian, Samples, distances_to, draw_centres

TILE = 100  # rows of a kernel at a time
NULL = 1e-10  # eigenvalues of the landmarks' kernel below this share of the largest count as 0


@checked
def kmm(
    source: Array,
    target: Array,
    *,
    bound: float = 1000.0,
    epsilon: float | None = None,
    bandwidth: float | Literal["mean", "median"] = "median",
    n_landmarks: int | None = None,
    random_state: RandomState = 0,
    n_iter: int = 20_000,
    tolerance: float = 1e-4,
) -> Array:
    """Weight source rows so that their weighted kernel mean matches the kernel mean of the target.

    It estimates no density and bounds every weight. Every source row gets a weight. It computes in
    float64 and holds the kernel (n, n) in memory, with up to a third of it again; with landmarks it
    holds up to twice (n, n_landmarks).

        min over w of  || 1/n sum_i w_i phi(x_i) - 1/m sum_j phi(y_j) ||^2
        subject to  0 <= w_i <= bound,  |mean(w) - 1| <= epsilon

    phi is the feature map of the kernel exp(-||x - y||^2 / s).

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), floats.
        bound: The largest weight, >= 1. Default 1000.
        epsilon: How far the mean weight may be from 1, >= 0. None (default) is the paper's
            (sqrt(n) - 1) / sqrt(n).
        bandwidth: s, a squared distance: a number > 0, or the "mean" or "median" (default) of the
            pooled rows' squared distances (see `da.kernels`).
        n_landmarks: None (default): exact. An integer >= 1: a Nystroem approximation with that
            many rows of both samples, in O((n + m) d) time a landmark. It matches the parts of
            phi(x) and phi(y) in the span of the kernel functions at these rows.
        random_state: Source of the landmarks: None, an int, or a RandomState or Generator of NumPy.
            Each call takes one number from such an object. Default 0.
        n_iter: The most iterations, of one product with the kernel each. Default 20,000.
        tolerance: The squared MMD is certainly within this of its minimum (a duality gap; the MMD
            is usually far closer). Single weights settle later than the MMD: for weights within
            1e-4 of the minimum's, ask for 1e-10. Default 1e-4.

    Returns:
        Weights (n,), 0 <= w <= bound, of mean within epsilon of 1, of the kind of `source`,
        without gradient.

    Raises:
        ValueError: Widths or devices differ, a value is not finite, or an option is out of range.
        TypeError: The inputs are not two float arrays or two float tensors.

    Warns:
        UserWarning: The weights are uniform, or `n_iter` iterations did not reach `tolerance`.

    Example:
        Half of the source lies at 0, three quarters of the target do:

        >>> import numpy as np
        >>> from da.instance import kmm
        >>> source = np.array([[0.0], [0.0], [5.0], [5.0]])
        >>> target = np.array([[0.0], [0.0], [0.0], [5.0]])
        >>> kmm(source, target, tolerance=1e-10).round(2)
        array([1.5, 1.5, 0.5, 0.5])

    Paper:
        Huang, Smola, Gretton, Borgwardt, et al.: Correcting Sample Selection Bias by Unlabeled
        Data. NIPS 2006.
        Williams, Seeger: Using the Nystroem Method to Speed Up Kernel Machines. NIPS 2000
        (landmarks).

    Differences:
        Solved by accelerated projected gradient (FISTA: Beck, Teboulle, 2009), restarted if the
        objective rises (O'Donoghue, Candes, 2015).
        In part it is solved among the rows with weight alone, as support vector machines are
        (Joachims, 1999). The duality gap that ends it is that of all rows.
        Nystroem landmarks are offered for many rows.
    """
    samples = Samples.of(source, target, widen=n_landmarks is None)
    n = len(samples.x)
    epsilon = (math.sqrt(n) - 1) / math.sqrt(n) if epsilon is None else epsilon
    _check_options(bound, epsilon, n_landmarks, n_iter, tolerance)
    seed = seed_of(random_state)
    bound, epsilon = float(bound), float(epsilon)  # no product of them overflows as an integer
    polytope = Polytope(bound, n * (1 - epsilon), n * (1 + epsilon))
    with full_precision(samples.x):
        s = samples.bandwidth(bandwidth)
        if n_landmarks is None:
            problem = _exact(samples.x, samples.y, s)
        else:
            landmarks = draw_centres(samples.pooled(), n_landmarks, seed)
            problem = _projected(samples.x, samples.y, landmarks, s)
        if not problem.across.isfinite().all():
            raise NonFiniteError(
                "source, target and bandwidth must give a finite kernel; got "
                f"bandwidth {s:.3g} and values up to "
                f"{max(float(z.abs().max()) for z in (samples.x, samples.y)):.3g}"
            )
        weights = samples.restore(minimiser(problem, polytope, n_iter, tolerance), source)
    warn_if_uniform(weights, "kmm")
    return weights


def _exact(x: Tensor, y: Tensor, s: float) -> Quadratic:
    """The problem with the whole kernel in memory."""
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
    """Write the kernel of the k rows from `start` on to `out` (k, m), and return it.

    Memory that is new for each block would cost more time than the products.
    """
    rows = kernel.left[start : start + len(out)]
    return torch.mm(rows, kernel.right.T, out=out).clamp_(max=0).exp_()


def _projected(x: Tensor, y: Tensor, landmarks: Tensor, s: float) -> Quadratic:
    """The problem with phi projected onto the span of the kernel functions at r landmarks z.

    K = F F^T with F = k(x, z) k(z, z)^(-1/2).
    """
    gram = _kernel(landmarks, landmarks, s).fill_diagonal_(1)  # (r, r)
    values, vectors = torch.linalg.eigh(gram)
    kept = values > NULL * values[-1]
    whitening = vectors[:, kept] / values[kept].sqrt()  # (r, p)
    total = sum(_kernel(rows, landmarks, s).sum(dim=0) for rows in y.split(BLOCK))
    mean = total / len(y) @ whitening  # (p,)
    features = whitening.new_empty(len(x), whitening.shape[1])  # (n, p)
    for rows, out in zip(x.split(BLOCK), features.split(BLOCK), strict=True):
        torch.mm(_kernel(rows, landmarks, s), whitening, out=out)
    return Quadratic(features, len(x) * (features @ mean), landmarks=True)


def _kernel(rows: Tensor, landmarks: Tensor, s: float) -> Tensor:
    """The kernel (k, r) between rows and landmarks, in float64."""
    return distances_to(landmarks, rows).div_(-s).exp_()


def _check_options(
    bound: float, epsilon: float, n_landmarks: int | None, n_iter: int, tolerance: float
) -> None:
    """Check the numbers given to `kmm`."""
    if not (math.isfinite(bound) and bound >= 1):
        raise ValueError(
            f"bound must be a finite number >= 1, else no weights have mean 1; got {bound}"
        )
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be a finite number >= 0; got {epsilon}")
    whole_number_or_none(n_landmarks, "n_landmarks", least=1)
    whole_number(n_iter, "n_iter", least=1)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be > 0; got {tolerance}")
