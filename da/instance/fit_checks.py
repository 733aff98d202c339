"""The distance between a weighted source and the target, and its law if the weights are right.

Two checks use it: `check_label_shift` and `check_density_ratio`.

    gap = || sum_i a_i phi(x_i) - mean_j phi(z_j) ||^2        a_i the weights, of sum 1

is the squared MMD between the weighted source and the target. If the weights are right, target rows
are like source rows drawn with probabilities a_i. So the law of the gap is had by drawing both
samples from the source, again and again.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from da.arrays.callers import warn_caller
from da.kernels.bandwidths import median_bandwidth
from da.kernels.distances import gram_distances

MOST_ROWS = 2000  # of each domain; more are drawn at random
TIE = 1e-12  # gaps are equal if they differ by less: rounding is smaller
MULTIPLIERS = (0.25, 1.0, 4.0)  # of the median squared distance

OnMisfit = Literal["warn", "raise", "ignore"]


def check_misfit_options(on_misfit: OnMisfit, **levels: float) -> None:
    """Raise a ValueError if there is no such reaction, or a level is not in (0, 1)."""
    if on_misfit not in get_args(OnMisfit):
        raise ValueError(f"on_misfit must be 'warn', 'raise' or 'ignore'; got {on_misfit!r}")
    for name, value in levels.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must be in (0, 1); got {value}")


def tell(name: str, told: str, on_misfit: OnMisfit, error: type[Exception]) -> None:
    """Warn the caller of the function `name`, raise the error, or do nothing."""
    if on_misfit == "raise":
        raise error(told)
    if on_misfit == "warn":
        warn_caller(f"{name}: {told}")


def standardised(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Both samples with columns of mean 0 and deviation 1 over both; constant columns become 0."""
    pooled = torch.cat([x, z]).double()
    pooled = pooled - pooled.mean(0)
    spread = pooled.square().mean(0).sqrt()
    pooled = pooled / torch.where(spread > 1e-12 * spread.max(), spread, torch.inf)
    return pooled[: len(x)], pooled[len(x) :]


def kernel_matrix(pooled: Tensor) -> Tensor:
    """Gaussian kernels of three bandwidths about the median, averaged: (N, N)."""
    distances = gram_distances(pooled, pooled)
    scale = float(median_bandwidth(pooled)) or 1.0
    kernels = [torch.exp(distances / (-scale * factor)) for factor in MULTIPLIERS]
    return torch.stack(kernels).mean(0)


def gaps(kernel: Tensor, contrasts: Tensor) -> Tensor:
    """v' K v for each row of contrasts (B, N): (B,)."""
    return ((contrasts @ kernel) * contrasts).sum(1)


def weighted_gap(kernel: Tensor, weights: Tensor) -> float:
    """The gap between a weighted source and the target.

    Args:
        kernel: Of the source's and then the target's rows (n + m, n + m).
        weights: Of the source's rows (n,), >= 0, not all 0.
    """
    m = len(kernel) - len(weights)
    equal = torch.full((m,), -1 / m, dtype=torch.float64)
    contrast = torch.cat([weights.double() / weights.sum(), equal])
    return float(gaps(kernel, contrast[None]))


def counts_of(chosen: Tensor, rows: int) -> Tensor:
    """How often each of the rows was drawn: (B, draws) -> (B, rows), in float64."""
    counts = torch.zeros(len(chosen), rows, dtype=torch.float64)
    return counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=torch.float64))


def p_value_of(gap: float, null: Tensor) -> float:
    """The share of draws with a gap at least as large, the observed one among them."""
    return (1 + int((null >= gap - TIE).sum())) / (1 + len(null))


def some_rows(rows: int, generator: torch.Generator) -> Tensor:
    """Positions of all rows, or of `MOST_ROWS` random ones."""
    if rows <= MOST_ROWS:
        return torch.arange(rows)
    return torch.randperm(rows, generator=generator)[:MOST_ROWS].sort().values
