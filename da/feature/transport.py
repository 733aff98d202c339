"""Optimal transport between two samples: differentiable discrepancies, and maps that carry source rows over to the target.

    OT_e(x, y) = min_P <P, C> + e KL(P | 1/n 1/m),    C_ij = ||x_i - y_j||^2,    P of marginals 1/n and 1/m
    Sinkhorn divergence   S_e = OT_e(x, y) - OT_e(x, x) / 2 - OT_e(y, y) / 2
    sliced Wasserstein    E_t W_p^p(<x, t>, <y, t>),  t uniform on the unit sphere

S_e goes from the squared Wasserstein distance at e -> 0 to ||E x - E y||^2 at e -> infinity; OT_e by itself is not 0 between a sample and
itself, and its minimum is a shrunken sample.

    OTMap           x_i -> sum_j P_ij y_j / sum_j P_ij                 where its mass goes on average, P a plan of `da.shallow.plans`
    LinearMongeMap  x -> m_t + (x - m_s) A                             of Gaussians with the samples' means and covariances

Genevay, Peyre, Cuturi: Learning Generative Models with Sinkhorn Divergences. AISTATS 2018 (there without the KL term in the value).
Feydy, Sejourne, Vialard, Amari, Trouve, Peyre: Interpolating between Optimal Transport and MMD using Sinkhorn Divergences. AISTATS 2019.
Bonneel, Rabin, Peyre, Pfister: Sliced and Radon Wasserstein Barycenters of Measures. JMIV 51, 2015.
Lee, Batra, Baig, Ulbricht: Sliced Wasserstein Discrepancy for Unsupervised Domain Adaptation. CVPR 2019 (there between two classifiers).
Courty, Flamary, Tuia, Rakotomamonjy: Optimal Transport for Domain Adaptation. TPAMI 39, 2017.
Ferradans, Papadakis, Peyre, Aujol: Regularized Discrete Optimal Transport. SIAM J. Imaging Sciences 7, 2014 (rows not in the sample).
Flamary, Lounici, Ferrari: Concentration Bounds for Linear Monge Mapping Estimation and Optimal Transport Domain Adaptation. 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from da.arrays import Array, check_two_samples, full_precision, like
from da.kernels.bandwidths import resolve_bandwidth
from da.kernels.distances import centred, gram_distances

RELATIVE = 0.1  # regularisation in units of the mean squared distance


def sinkhorn_divergence(
    source: Array,
    target: Array,
    *,
    regularization: float | None = None,
    iterations: int = 200,
    tolerance: float = 1e-4,
) -> Array:
    """Sinkhorn divergence of source (n, d) and target (m, d): a scalar, in features' units^2, >= 0 once the potentials have converged.

    regularization: e, a squared length > 0. None: a tenth of the mean squared distance between the pooled rows, without gradient; the
                    plan then does not depend on the features' scale.
    iterations:     the most updates of the potentials, >= 1. The smaller e is beside the squared distances, the more it takes; where
                    they do not suffice, value and gradient are those at the potentials reached.
    tolerance:      the updates end earlier once none moves a potential by more than this part of e; without unit.

    The value is mean f + mean g of the potentials, and its gradient that of the last update alone, the earlier ones held fixed: exact
    where they have converged (envelope theorem), and memory does not grow with the iterations. It can be differentiated once, not
    twice. Both potentials move at once and halfway to their best (Feydy et al.), so that the three terms of equal samples are equal after
    every update, and the value 0; logarithms of sums keep far rows from overflow. In float64; matrices of (n, m), (n, n) and (m, m).

    Raises ValueError for arguments out of their range, else as every discrepancy.
    """
    _check_positive(regularization, iterations, tolerance)
    x, y = check_two_samples(source, target)
    with full_precision(x):
        z = centred(torch.cat([x, y]).double())
        first, second = z[: len(x)], z[len(x) :]
        e = (
            RELATIVE * float(resolve_bandwidth(z.detach(), "mean"))
            if regularization is None
            else float(regularization)
        )
        across, within, beyond = (
            _regularized_cost(gram_distances(a, b), e, iterations, tolerance)
            for a, b in ((first, second), (first, first), (second, second))
        )
        value = across - (within + beyond) / 2
    return like(value.to(x.dtype), source)


def sliced_wasserstein(
    source: Array, target: Array, *, projections: int = 128, p: float = 2.0, random_state: int = 0
) -> Array:
    """Sliced Wasserstein distance to the power p of source (n, d) and target (m, d): a scalar >= 0, in features' units^p.

    projections:  how many directions on the unit sphere the expectation is a mean over.
    p:            exponent >= 1 of the distances on the line. No root is taken: the value for p = 2 is a squared distance.
    random_state: seed of the directions; the same seed, the same directions, on every device. A constant one, as it stands here in
                  training, aligns along these directions alone: `FreshDraws` gives every step its own.

    Exact on every direction, also for n != m: the two quantile functions are steps, and their difference is summed over the pieces
    where both are constant. In float64. Raises ValueError for projections < 1 and p < 1, else as every discrepancy.
    """
    if isinstance(projections, bool) or not isinstance(projections, int) or projections < 1:
        raise ValueError(f"projections must be a whole number >= 1; got {projections!r}")
    if not (math.isfinite(p) and p >= 1):
        raise ValueError(f"p must be a finite number >= 1; got {p}")
    x, y = check_two_samples(source, target)
    with full_precision(x):
        z = centred(torch.cat([x, y]).double())
        line = z @ _directions(x.shape[1], projections, random_state).to(
            z.device
        )  # (n + m, projections)
        row, column, weight = (part.to(z.device) for part in _common_steps(len(x), len(y)))
        gap = (
            line[: len(x)].sort(dim=0).values[row] - line[len(x) :].sort(dim=0).values[column]
        )  # (steps, projections)
        value = (weight @ gap.abs() ** p).mean()
    return like(value.to(x.dtype), source)


class FreshDraws(nn.Module):
    """A discrepancy with a `random_state`, seeded anew at every call: with 0, 1, 2, and so on. `Align(network, FreshDraws(f))`.

    The count is a buffer: a run that is resumed goes on where it stopped, and several processes draw alike.
    """

    draws: Tensor

    def __init__(self, discrepancy: Callable[..., Tensor]) -> None:
        super().__init__()
        self.discrepancy = discrepancy
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """The discrepancy at the next seed."""
        value = self.discrepancy(source, target, random_state=int(self.draws))
        self.draws += 1
        return value


def _check_positive(regularization: float | None, iterations: int, tolerance: float) -> None:
    if regularization is not None and not (math.isfinite(regularization) and regularization > 0):
        raise ValueError(
            f"regularization must be a finite number > 0, or None for a tenth of the mean squared distance; got {regularization}"
        )
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"iterations must be a whole number >= 1; got {iterations!r}")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be a finite number >= 0; got {tolerance}")


def _regularized_cost(cost: Tensor, e: float, iterations: int, tolerance: float) -> Tensor:
    """OT_e for the costs (n, m) by its dual, mean f + mean g; its derivative by `cost` is the plan, no row or column left out."""
    with torch.no_grad():
        f, g = _potentials(cost, e, iterations - 1, tolerance)
    f, g = _halfway(f, g, cost, e)
    return f.mean() + g.mean()


def _potentials(cost: Tensor, e: float, iterations: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """f (n,) and g (m,) after at most `iterations` updates from 0."""
    f, g = cost.new_zeros(cost.shape[0]), cost.new_zeros(cost.shape[1])
    for _ in range(iterations):
        before = f, g
        f, g = _halfway(f, g, cost, e)
        if max((f - before[0]).abs().max(), (g - before[1]).abs().max()) <= tolerance * e:
            break
    return f, g


def _halfway(f: Tensor, g: Tensor, cost: Tensor, e: float) -> tuple[Tensor, Tensor]:
    """Both potentials halfway from where they are to the best against the other."""
    best_f = -e * _log_mean_exp((g - cost) / e, dim=1)  # (n,)
    best_g = -e * _log_mean_exp((f[:, None] - cost) / e, dim=0)  # (m,)
    return (f + best_f) / 2, (g + best_g) / 2


def _log_mean_exp(x: Tensor, dim: int) -> Tensor:
    # The largest goes first, or the gradient's weights, exp(x - result), no longer sum to 1 where x is so large that result rounds to it.
    largest = x.detach().amax(dim=dim, keepdim=True)
    return torch.logsumexp(x - largest, dim=dim) + (largest.squeeze(dim) - math.log(x.shape[dim]))


def _directions(d: int, count: int, random_state: int) -> Tensor:
    """`count` unit vectors, uniform on the sphere: (d, count)."""
    normal = torch.randn(
        d, count, generator=torch.Generator().manual_seed(random_state), dtype=torch.float64
    )
    return normal / torch.linalg.vector_norm(normal, dim=0)


def _common_steps(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pieces of [0, 1] on which the quantile functions of n and of m rows are both constant: sorted row of each, and the lengths."""
    edges = torch.cat(
        [torch.arange(n + 1) * m, torch.arange(1, m) * n]
    ).unique()  # in units of 1 / (n m), so that equal ones are equal
    return edges[:-1] // m, edges[:-1] // n, edges.diff().double() / (n * m)
