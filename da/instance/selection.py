"""Source rows chosen, not weighted: how many, which, and by what rule.

`select_by_likeness` keeps the rows to which a weight function gives most weight. `landmarks` keeps the rows on which the weights rest
that bring the kernel mean of the source to that of the target while every class keeps its share, at several widths of the kernel:

    min over w >= 0 of  || 1/n sum_i w_i phi(x_i) - 1/m sum_j phi(y_j) ||^2     subject to  sum of w over class c = n_c for every c

with k(x, y) = exp(-||x - y||^2 / s), s a multiple of the median squared distance. A wide kernel matches averages with few rows. To a
narrow one every row is alone: it spreads the weight over many, even far from the target.

Gong, Grauman, Sha: Connecting the Dots with Landmarks: Discriminatively Learning Domain-Invariant Features for Unsupervised Domain
Adaptation. ICML 2013. There distances are taken after a geodesic flow kernel: for that, pass rows mapped by one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision, like
from da.instance.discriminator import discriminator_weights
from da.kernels.bandwidths import resolve_bandwidth
from da.kernels.distances import centred, gram_distances

SCALES = tuple(2.0**q for q in range(-6, 7))


@dataclass(frozen=True)
class Selection:
    """Rows chosen of n: `index` (k,) int64, increasing; `scores` (n,), higher for likelier; `reason`, the rule with its numbers."""

    index: Any
    scores: Any
    reason: str


def select_by_likeness(
    source: Array,
    target: Array,
    *,
    fraction: float | None = None,
    threshold: float | None = None,
    source_labels: Tensor | np.ndarray | None = None,
    weights: Callable[[Array, Array], Array] = discriminator_weights,
) -> Selection:
    """The rows of source (n, d) that are likest to target (m, d) by `weights`, a function (source, target) -> (n,) of mean 1.

    fraction:      keep this share of the rows, in (0, 1], the nearest whole number and at least one; of rows that tie, the first ones.
    threshold:     keep the rows of at least this weight, 1 being the mean. One of the two must be given.
    source_labels: (n,); with them the fraction is taken of every class, so that none is lost. Not with a threshold.

    Raises ValueError or TypeError on bad input, and for a threshold that no row reaches.
    """
    x, _ = check_two_samples(source, target)
    _check_rule(fraction, threshold, source_labels)
    scores = weights(source, target)
    values = torch.as_tensor(scores).double()
    if values.shape != (len(x),) or not bool(values.isfinite().all()):
        raise ValueError(
            f"weights must give one finite number a source row, shape ({len(x)},); got shape {tuple(values.shape)}"
        )
    if threshold is not None:
        chosen, rule = values >= threshold, f"at least {threshold:g}"
    elif fraction is not None:
        groups = (
            torch.zeros(len(x), dtype=torch.int64)
            if source_labels is None
            else _groups(source_labels, len(x))
        )
        chosen, rule = (
            _highest(values, groups.to(values.device), fraction),
            f"the highest {fraction:g}",
        )
        rule += "" if source_labels is None else " of each class"
    index = chosen.nonzero().flatten()
    if len(index) == 0:
        raise ValueError(
            f"threshold: no source row has a weight of {threshold:g}; the largest is {float(values.max()):.3g}"
        )
    name = getattr(
        getattr(weights, "func", weights), "__name__", type(weights).__name__
    )  # of a functools.partial its function's
    return Selection(
        _index(index, source), scores, f"{len(index)} of {len(x)} source rows: {rule} by {name}"
    )


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
    """The landmarks among source (n, d) with classes source_labels (n,) for target (m, d): a Selection for each of `scales`.

    scales:    of the bandwidth, in medians of the squared distance between pooled rows; the paper's 2^-6 ... 2^6.
    threshold: a row is a landmark if its weight w_i is above; the mean of w is 1 in every class.
    n_iter:    the most iterations for a scale; a warning says when they did not suffice.
    tolerance: how far the squared MMD may certainly be from its minimum (a duality gap).

    `scores` are the weights (n,). The paper's binary problem is relaxed to a quadratic programme, as there, and solved by accelerated
    projected gradient, in float64 with (n, n) and (n, m) kernels in memory; carries no gradient. Raises ValueError or TypeError on
    bad input.
    """
    x, y = (z.detach() for z in check_two_samples(source, target))
    _check_options(scales, threshold, n_iter, tolerance)
    dtype, groups = x.dtype, _groups(source_labels, len(x)).to(x.device)
    x, y = x.double(), y.double()
    with full_precision(x):
        median = resolve_bandwidth(centred(torch.cat([x, y])), "median")
        distances = gram_distances(x, x), gram_distances(x, y)
        found = []
        for scale in scales:
            within, across = (torch.exp(-d / (scale * median)) for d in distances)
            weights = balanced_weights(
                within, across.mean(1) * len(x), groups, n_iter=n_iter, tolerance=tolerance
            )
            index = (weights > threshold).nonzero().flatten()
            reason = f"{len(index)} of {len(x)} source rows: a weight above {threshold:g} at {scale:g} times the median squared distance"
            found.append(Selection(_index(index, source), like(weights.to(dtype), source), reason))
    return tuple(found)


def balanced_weights(
    within: Tensor, across: Tensor, groups: Tensor, *, n_iter: int, tolerance: float
) -> Tensor:
    """The w >= 0 (n,) of least 1/2 w^T within w - across^T w whose mean is 1 in each group: FISTA, restarted where the objective rises.

    within (n, n), with no negative entry; across (n,); groups (n,) integers from 0. Ends once 2 / n^2 times the objective is
    within `tolerance` of its minimum.
    """
    members = [(groups == c).nonzero().flatten() for c in range(int(groups.max()) + 1)]
    step = 1 / _curvature(within, groups)
    w = ahead = torch.ones_like(across)
    momentum = 1.0
    for i in range(n_iter + 1):
        if i % 10 == 0 or i == n_iter:
            gradient = within @ w - across
            lowest = sum(len(rows) * gradient[rows].min() for rows in members)
            gap = float(2 * (gradient @ w - lowest) / len(w) ** 2)
            if gap <= tolerance:
                return w
        v = ahead - step * (within @ ahead - across)
        new = torch.empty_like(w)
        for rows in members:
            new[rows] = _onto_simplex(v[rows])
        if (ahead - new) @ (new - w) > 0:  # the step turns back (O'Donoghue, Candes, 2015)
            momentum = 1.0
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * (new - w)
        w, momentum = new, following
    warnings.warn(
        f"landmarks: after {n_iter} iterations the squared MMD is within {gap:.1e} of its minimum, not {tolerance:.1e}: raise n_iter or "
        "tolerance, or leave out the largest scales",
        stacklevel=3,
    )
    return w


def _curvature(within: Tensor, groups: Tensor) -> Tensor:
    """A bound on the largest eigenvalue of `within` (n, n) among vectors of sum 0 in each group, as all differences of weights are."""
    q = torch.nn.functional.one_hot(groups).to(within)
    q = q / q.sum(0).sqrt()  # (n, groups), orthonormal
    part = q @ (q.T @ within)
    rest = within - part - part.T + (part @ q) @ q.T
    return torch.minimum(within.sum(1).max(), rest.norm().clamp(min=1e-12))


def _onto_simplex(v: Tensor) -> Tensor:
    """The nearest point to v (n,) with entries >= 0 and sum n: max(v - tau, 0)."""
    ordered = v.sort(descending=True).values
    taus = (ordered.cumsum(0) - len(v)) / torch.arange(
        1, len(v) + 1, dtype=v.dtype, device=v.device
    )
    return (v - taus[int((ordered > taus).sum()) - 1]).clamp(min=0)


def _highest(values: Tensor, groups: Tensor, fraction: float) -> Tensor:
    """Which rows are among the highest of their group, (n,) bool."""
    chosen = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    for c in range(int(groups.max()) + 1):
        rows = (groups == c).nonzero().flatten()
        count = max(1, round(fraction * len(rows)))
        chosen[rows[values[rows].argsort(descending=True, stable=True)[:count]]] = True
    return chosen


def _groups(labels: Tensor | np.ndarray, rows: int) -> Tensor:
    """The place (n,) of each row's class among the classes in order."""
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.dtype.kind not in "iubUSO":
        raise TypeError(
            f"source_labels must hold classes, as integers or strings; got {values.dtype}"
        )
    if values.shape != (rows,):
        raise ValueError(
            f"source_labels must hold one label a row, shape ({rows},); got {values.shape}"
        )
    return torch.from_numpy(np.unique(values, return_inverse=True)[1].astype(np.int64))


def _check_rule(
    fraction: float | None, threshold: float | None, source_labels: Tensor | np.ndarray | None
) -> None:
    if (fraction is None) == (threshold is None):
        raise ValueError(
            f"pass either fraction or threshold; got fraction={fraction} and threshold={threshold}"
        )
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1; got {fraction}")
    if threshold is not None and source_labels is not None:
        raise ValueError(
            "source_labels go with fraction, not with threshold, which may leave a class without rows"
        )


def _check_options(
    scales: Sequence[float], threshold: float, n_iter: int, tolerance: float
) -> None:
    if not scales or not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError(f"scales must be one or more numbers > 0; got {scales}")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be from 0 to below 1, the mean weight; got {threshold}")
    if n_iter < 1 or not tolerance > 0:
        raise ValueError(f"n_iter must be >= 1 and tolerance > 0; got {n_iter} and {tolerance}")


def _index(index: Tensor, reference: Tensor | np.ndarray) -> Tensor | np.ndarray:
    return index if isinstance(reference, Tensor) else index.cpu().numpy()
