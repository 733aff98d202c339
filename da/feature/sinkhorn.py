"""Sinkhorn divergence: optimal transport between two samples, smoothed so that it is cheap.

    OT_e(x, y) = min_P <P, C> + e KL(P | 1/n 1/m),    C_ij = ||x_i - y_j||^2
    S_e(x, y)  = OT_e(x, y) - OT_e(x, x) / 2 - OT_e(y, y) / 2

P is a plan with row sums 1/n and column sums 1/m. OT_e by itself is not 0 between a sample and
itself, and a sample that minimises it is shrunken. The two other terms of S_e correct this.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import narrowed, widened
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.kernels.bandwidths import resolve_bandwidth
from da.kernels.distances import centred, gram_distances

RELATIVE = 0.1  # the default regularization, in units of the mean squared distance


@checked
def sinkhorn_divergence(
    source: Array,
    target: Array,
    *,
    regularization: float | None = None,
    iterations: int = 200,
    tolerance: float = 1e-4,
) -> Array:
    """Measure how far apart two samples are by what it costs to move one onto the other.

    Use it if the samples may lie far apart: unlike a kernel of fixed width it still pulls then. It
    needs matrices of (n, m), (n, n) and (m, m), in float64.

        S_e = OT_e(x, y) - OT_e(x, x) / 2 - OT_e(y, y) / 2
        OT_e(x, y) = min_P sum_ij P_ij ||x_i - y_j||^2 + e KL(P | 1/n 1/m)

    S_e is the squared Wasserstein distance for e -> 0 and ||mean x - mean y||^2 for e -> infinity.

    Both potentials move at once, halfway to their best. So the three terms of two equal samples
    are equal after every update, and the value is 0.

    Args:
        source: Rows (n, d), floats, n >= 1.
        target: Rows (m, d), m >= 1, of the kind of `source`.
        regularization: e, a squared length > 0. Default None: a tenth of the mean squared distance
            between the pooled rows, without gradient. The plan then does not depend on the
            features' scale.
        iterations: The most updates of the potentials, >= 1; default 200. A smaller e needs more.
            If they do not suffice, value and gradient are those at the potentials reached.
        tolerance: A share >= 0 of e; default 1e-4. The updates end once none moves a potential by
            more.

    Returns:
        A scalar in the features' unit squared, of the kind of `source`; >= 0 once the potentials
        have converged. The gradient is that of the last update alone, with the earlier ones held
        fixed. It is exact once they have converged (envelope theorem), and memory does not grow
        with the iterations. It can be differentiated once, not twice.

    Raises:
        ValueError: An option is out of its range, widths or devices differ, or a value is not
            finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import sinkhorn_divergence
        >>> source = np.array([[0.0, 0.0], [1.0, 0.0]])
        >>> round(float(sinkhorn_divergence(source, source + [3, 4])), 4)  # a shift of length 5
        25.0

    Paper:
        Feydy, Sejourne, Vialard, Amari et al.: Interpolating between Optimal Transport and MMD
        using Sinkhorn Divergences. AISTATS 2019.
        Genevay, Peyre, Cuturi: Learning Generative Models with Sinkhorn Divergences. AISTATS 2018.

    Differences:
        The default regularization is a tenth of the mean squared distance. Genevay et al. leave
        the KL term out of the value; here, as in Feydy et al., it is part of it.
    """
    _check_positive(regularization, iterations, tolerance)
    x, y = check_two_samples(source, target)
    with full_precision(x):
        z = centred(widened(torch.cat([x, y])))
        first, second = z[: len(x)], z[len(x) :]
        if regularization is None:
            e = RELATIVE * float(resolve_bandwidth(z.detach(), "mean"))
        else:
            e = float(regularization)
        across = _regularized_cost(gram_distances(first, second), e, iterations, tolerance)
        within_x = _regularized_cost(gram_distances(first, first), e, iterations, tolerance)
        within_y = _regularized_cost(gram_distances(second, second), e, iterations, tolerance)
        value = across - (within_x + within_y) / 2
    return like(narrowed(value, x), source)


def _check_positive(regularization: float | None, iterations: int, tolerance: float) -> None:
    """Raise an error for an option of `sinkhorn_divergence` that is out of its range."""
    if regularization is not None and not (math.isfinite(regularization) and regularization > 0):
        raise ValueError(
            f"regularization must be a finite number > 0, or None for a tenth of the mean squared "
            f"distance; got {regularization}"
        )
    whole_number(iterations, "iterations", least=1)
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be a finite number >= 0; got {tolerance}")


def _regularized_cost(cost: Tensor, e: float, iterations: int, tolerance: float) -> Tensor:
    """OT_e for the costs (n, m) by its dual, mean f + mean g; its derivative by `cost` is P."""
    with torch.no_grad():
        f, g = _potentials(cost, e, iterations - 1, tolerance)
    f, g = _halfway(f, g, cost, e)
    return f.mean() + g.mean()


def _potentials(cost: Tensor, e: float, iterations: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """f (n,) and g (m,) after at most `iterations` updates from 0."""
    f, g = cost.new_zeros(cost.shape[0]), cost.new_zeros(cost.shape[1])
    for _ in range(iterations):
        old_f, old_g = f, g
        f, g = _halfway(f, g, cost, e)
        if max((f - old_f).abs().max(), (g - old_g).abs().max()) <= tolerance * e:
            break
    return f, g


def _halfway(f: Tensor, g: Tensor, cost: Tensor, e: float) -> tuple[Tensor, Tensor]:
    """Both potentials halfway from where they are to the best against the other."""
    best_f = -e * _log_mean_exp((g - cost) / e, dim=1)  # (n,)
    best_g = -e * _log_mean_exp((f[:, None] - cost) / e, dim=0)  # (m,)
    return (f + best_f) / 2, (g + best_g) / 2


def _log_mean_exp(x: Tensor, dim: int) -> Tensor:
    """log mean exp(x) along a dimension, without overflow."""
    # The largest value is subtracted first. Otherwise the gradient's weights exp(x - result) do not
    # sum to 1 if x is so large that the result rounds to it.
    largest = x.detach().amax(dim=dim, keepdim=True)
    return torch.logsumexp(x - largest, dim=dim) + (largest.squeeze(dim) - math.log(x.shape[dim]))
