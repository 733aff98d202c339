"""Landmarks: source rows that carry the weight when source and target are matched in kernel mean.

Use them to choose source rows at several scales while every class keeps its share.

    min over w >= 0 of  || 1/n sum_i w_i phi(x_i) - 1/m sum_j phi(y_j) ||^2
    subject to  sum of w over class c = n_c, for every class c of n_c rows

with k(x, y) = exp(-||x - y||^2 / s) and s a multiple of the median squared distance. A wide kernel
matches averages, with few rows. With a narrow kernel every row is isolated, so the weight is spread
over many rows, even rows far from the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.callers import warn_caller
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, NonFiniteError, check_two_samples, full_precision, like
from da.instance.selection import Selection, class_numbers, index_like
from da.kernels.bandwidths import resolve_bandwidth
from da.kernels.distances import centred, gram_distances

SCALES = tuple(2.0**q for q in range(-6, 7))


@checked
def landmarks(
    source: Array,
    source_labels: Tensor | np.ndarray,
    target: Array,
    *,
    scales: Sequence[float] = SCALES,
    threshold: float = 0.1,
    n_iter: int = 5000,
    tolerance: float = 1e-5,
) -> tuple[Selection, ...]:
    """Choose source rows whose kernel mean is that of the target, once for each of several scales.

    Every class keeps its share of the weight. It computes in float64, with kernels (n, n) and
    (n, m) in memory.

        min over w >= 0 of  || 1/n sum_i w_i phi(x_i) - 1/m sum_j phi(y_j) ||^2
        subject to  sum of w over class c = n_c, for every class c of n_c rows

    phi is the feature map of the kernel exp(-||x - y||^2 / s).

    Args:
        source: Rows (n, d), floats.
        source_labels: Classes (n,), integers or strings.
        target: Rows (m, d), floats.
        scales: The bandwidths s, as multiples > 0 of the median squared distance of the pooled
            rows. Default 2^-6, 2^-5, ..., 2^6, as in the paper.
        threshold: A row is a landmark if its weight is above this, in [0, 1). The mean weight of
            every class is 1. Default 0.1.
        n_iter: The most iterations for a scale, >= 1. Default 5000.
        tolerance: The squared MMD is certainly within this of its minimum (a duality gap), > 0.
            Default 1e-5.

    Returns:
        A selection for each scale; its `scores` are the weights (n,), without gradient.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or an option is out of range.
        TypeError: The inputs are not two float arrays or two float tensors, or the labels are no
            classes.

    Warns:
        UserWarning: `n_iter` iterations did not reach `tolerance`.

    Example:
        In both classes one row lies at the target and one far away:

        >>> import numpy as np
        >>> from da.instance import landmarks
        >>> source = np.array([[0.0], [9.0], [1.0], [9.0]])
        >>> labels = np.array([0, 0, 1, 1])
        >>> (found,) = landmarks(source, labels, np.array([[0.0], [1.0]]), scales=[1.0])
        >>> found.index, found.scores.round(1)
        (array([0, 2]), array([2., 0., 2., 0.]))

    Paper:
        Gong, Grauman, Sha: Connecting the Dots with Landmarks: Discriminatively Learning
        Domain-Invariant Features for Unsupervised Domain Adaptation. ICML 2013.

    Differences:
        Distances are Euclidean. The paper takes them after a geodesic flow kernel: for that, pass
        rows mapped by one.
        This is the landmark step alone, without the auxiliary tasks that the paper builds on it.
        The binary problem is relaxed to a quadratic programme, as in the paper. It is solved by
        accelerated projected gradient.
    """
    x, y = (z.detach() for z in check_two_samples(source, target))
    _check_options(scales, threshold, n_iter, tolerance)
    dtype, groups = x.dtype, class_numbers(source_labels, len(x)).to(x.device)
    x, y = x.double(), y.double()
    with full_precision(x):
        median = resolve_bandwidth(centred(torch.cat([x, y])), "median")
        distances = gram_distances(x, x), gram_distances(x, y)
        found = []
        for scale in scales:
            within, across = (torch.exp(-d / (scale * median)) for d in distances)
            linear = across.mean(1) * len(x)
            weights = balanced_weights(within, linear, groups, n_iter=n_iter, tolerance=tolerance)
            index = (weights > threshold).nonzero().flatten()
            reason = (
                f"{len(index)} of {len(x)} source rows: a weight above {threshold:g} "
                f"at {scale:g} times the median squared distance"
            )
            scores = like(weights.to(dtype), source)
            found.append(Selection(index_like(index, source), scores, reason))
    return tuple(found)


@checked
def balanced_weights(
    within: Tensor, across: Tensor, groups: Tensor, *, n_iter: int, tolerance: float
) -> Tensor:
    """Solve a quadratic programme over weights whose mean is 1 in every group.

    `landmarks` uses it; use it yourself for a kernel of your own.

        min over w >= 0 of  1/2 w^T within w - across^T w
        subject to  mean of w = 1 in each group

    Args:
        within: The kernel between source rows (n, n), without negative entries, float64.
        across: The linear term (n,); for a kernel mean, n times the mean kernel to the target.
        groups: The group (n,) of each row, integers from 0.
        n_iter: The most iterations, >= 1.
        tolerance: It ends once 2 / n^2 times the objective is within this of its minimum.

    Returns:
        The weights (n,).

    Raises:
        ValueError: The shapes do not fit, or a value is not finite or negative.

    Warns:
        UserWarning: `n_iter` iterations did not reach `tolerance`.

    Example:
        Two groups of two rows. With an identity kernel the weights are the allowed point nearest
        to `across`:

        >>> import torch
        >>> from da.instance import balanced_weights
        >>> across, groups = torch.tensor([3.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 1, 1])
        >>> balanced_weights(torch.eye(4), across, groups, n_iter=100, tolerance=1e-6)
        tensor([2., 0., 1., 1.])

    Paper:
        Gong, Grauman, Sha: Connecting the Dots with Landmarks: Discriminatively Learning
        Domain-Invariant Features for Unsupervised Domain Adaptation. ICML 2013.

    Differences:
        Solved by FISTA (Beck, Teboulle, 2009), restarted if the step turns back (O'Donoghue,
        Candes, 2015).
    """
    whole_number(n_iter, "n_iter", least=1)
    n = groups.numel()
    if groups.ndim != 1 or n == 0 or groups.is_floating_point() or int(groups.min()) < 0:
        raise ValueError(f"groups must be integers (n,) from 0, n >= 1; got {tuple(groups.shape)}")
    if within.shape != (n, n) or not within.is_floating_point() or bool((within < 0).any()):
        raise ValueError(
            f"within must be floats ({n}, {n}), none negative; got {within.dtype}, "
            f"{tuple(within.shape)}"
        )
    if across.shape != (n,) or not bool(across.isfinite().all()):
        raise ValueError(f"across must be ({n},) and finite; got shape {tuple(across.shape)}")
    if not bool(within.isfinite().all()):
        raise NonFiniteError("within must be finite; got NaN or infinity")
    groups, across = groups.unique(return_inverse=True)[1], across.to(within.dtype)
    return _solved(within, across, groups, n_iter, tolerance)


def _solved(
    within: Tensor, across: Tensor, groups: Tensor, n_iter: int, tolerance: float
) -> Tensor:
    """`balanced_weights` of checked arguments."""
    members = [(groups == c).nonzero().flatten() for c in range(int(groups.max()) + 1)]
    step = 1 / _curvature(within, groups)
    w = ahead = torch.ones_like(across)
    momentum = 1.0
    for i in range(n_iter + 1):
        if i % 10 == 0 or i == n_iter:
            gap = _gap(w, within @ w - across, members)
            if gap <= tolerance:
                return w
        v = ahead - step * (within @ ahead - across)
        new = torch.empty_like(w)
        for rows in members:
            new[rows] = _onto_simplex(v[rows])
        if (ahead - new) @ (new - w) > 0:  # the step turns back
            momentum = 1.0
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * (new - w)
        w, momentum = new, following
    warn_caller(
        f"landmarks: after {n_iter} iterations the squared MMD is within {gap:.1e} of its minimum, "
        f"not {tolerance:.1e}: raise n_iter or tolerance, or leave out the largest scales",
    )
    return w


def _gap(w: Tensor, gradient: Tensor, members: list[Tensor]) -> float:
    """How far 2 / n^2 times the objective is above its minimum at most."""
    lowest = sum(len(rows) * gradient[rows].min() for rows in members)
    return float(2 * (gradient @ w - lowest) / len(w) ** 2)


def _curvature(within: Tensor, groups: Tensor) -> Tensor:
    """A bound on the largest eigenvalue of `within` (n, n), among vectors of sum 0 in each group.

    All differences of allowed weights are such vectors.
    """
    q = torch.nn.functional.one_hot(groups).to(within)
    q = q / q.sum(0).sqrt()  # (n, groups), orthonormal
    part = q @ (q.T @ within)
    rest = within - part - part.T + (part @ q) @ q.T
    return torch.minimum(within.sum(1).max(), rest.norm().clamp(min=1e-12))


def _onto_simplex(v: Tensor) -> Tensor:
    """The nearest point to v (n,) with entries >= 0 and sum n: max(v - tau, 0)."""
    ordered = v.sort(descending=True).values
    counts = torch.arange(1, len(v) + 1, dtype=v.dtype, device=v.device)
    taus = (ordered.cumsum(0) - len(v)) / counts
    return (v - taus[int((ordered > taus).sum()) - 1]).clamp(min=0)


def _check_options(
    scales: Sequence[float], threshold: float, n_iter: int, tolerance: float
) -> None:
    """Check the numbers given to `landmarks`."""
    if not scales or not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError(f"scales must be one or more numbers > 0; got {scales}")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be from 0 to below 1, the mean weight; got {threshold}")
    whole_number(n_iter, "n_iter", least=1)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be > 0; got {tolerance}")
