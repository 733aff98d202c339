"""MMD-FUSE: a two-sample test with many kernels at once, which sets no rows aside to choose one.

    FUSE = (1 / lambda) log mean_k exp(lambda MMD^2_k / sqrt(N_k)),        N_k = sum_{i != j} k(z_i, z_j)^2 / (n (n - 1))

is a soft maximum of the unbiased squared MMDs over the kernels k, each in units of its own size on the pooled rows z; n is the rows of
the smaller sample and lambda is sqrt(n (n - 1)). Kernels, with b from a grid of lengths for each norm:

    exp(-||x - y||^2 / (2 b^2))        exp(-sqrt(2) ||x - y||_1 / b)

Neither the grids nor N_k change when the pooled rows are relabelled, so the permutation test keeps its level for every n and m.

Biggs, Schrab, Gretton: MMD-FUSE: Learning and Combining Kernels for Two-Sample Testing Without Data Splitting. NeurIPS 2023. The authors'
released code computes with lambda = n (n - 1), which is all but the hard maximum; the level is the same for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision
from da.shift.mmd import MMDTest
from da.shift.permutations import permutation_p_value, relabelled_mmd2, relabellings


def mmd_fuse(
    source: Array,
    target: Array,
    *,
    permutations: int = 1000,
    bandwidths: int = 10,
    random_state: int = 0,
) -> MMDTest:
    """Test whether source (n, d) and target (m, d) come from one distribution, with Gaussian and Laplacian kernels of many bandwidths.

    The null hypothesis, what the rows must be, and the p-value are those of `da.shift.mmd.mmd_test`; the statistic is FUSE, without
    unit, about 0 under the null and at times negative.

    permutations:  B, the random relabellings; the least p-value is 1 / (1 + B).
    bandwidths:    b a kernel family, evenly from half the 5 % quantile of the pooled distances (between rows that differ) to twice their
                   95 % quantile. So 2 `bandwidths` kernels in all, one Gram matrix (n + m)^2 of float64 at a time.
    random_state:  seed of the relabellings; the same seed, the same result.

    Raises ValueError for n or m < 2, permutations < 1 and bandwidths < 2; TypeError for inputs that do not hold floats.
    """
    if isinstance(bandwidths, bool) or not isinstance(bandwidths, int):
        raise TypeError(f"bandwidths must be an integer; got {bandwidths!r}")
    if bandwidths < 2:
        raise ValueError(f"bandwidths must be at least 2; got {bandwidths}")
    x, y = check_two_samples(source, target, least=2)
    members = relabellings(
        len(x), len(y), permutations, generator=torch.Generator().manual_seed(random_state)
    ).to(x.device)
    n = min(len(x), len(y))
    ratios, scale = [], 0.0
    with torch.no_grad(), full_precision(x):
        for gram in _grams(torch.cat([x, y]).double(), bandwidths):
            size = math.sqrt(float(gram.fill_diagonal_(0).square().sum()) / (n * (n - 1)))
            ratios.append(relabelled_mmd2(gram, members, unbiased=True) / size)  # (1 + B,)
            scale = max(scale, 1 / size)  # a kernel is at most 1
        statistics = _soft_maximum(torch.stack(ratios), math.sqrt(n * (n - 1)))
    return MMDTest(
        float(statistics[0]),
        permutation_p_value(statistics, scale=scale),
        statistics[1:].cpu().numpy(),
    )


def _grams(pooled: Tensor, bandwidths: int) -> Iterator[Tensor]:
    """The Gram matrix (N, N) of every kernel, one after the other."""
    # By differences, not by a matrix product: rows that coincide are then at distance 0, which the quantiles leave out.
    distances = torch.cdist(pooled, pooled, compute_mode="donot_use_mm_for_euclid_dist")
    for length in _lengths(distances, bandwidths):
        yield torch.exp((distances / length).square_() / -2)
    distances = torch.cdist(pooled, pooled, p=1)
    for length in _lengths(distances, bandwidths):
        yield torch.exp(distances * (-math.sqrt(2) / length))


def _lengths(distances: Tensor, count: int) -> list[float]:
    """`count` lengths between half the 5 % and twice the 95 % quantile (lower ones) of the distances (N, N) that are not 0."""
    row, column = torch.triu_indices(
        len(distances), len(distances), offset=1, device=distances.device
    )
    above = distances[row, column]  # (N (N - 1) / 2,)
    positive = above[above > 0].sort().values
    if len(positive) == 0:  # all rows coincide, and every kernel is 1
        return [1.0] * count
    low, high = (
        float(positive[math.floor(quantile * (len(positive) - 1))]) for quantile in (0.05, 0.95)
    )
    return torch.linspace(low / 2, 2 * high, count, dtype=torch.float64).tolist()


def _soft_maximum(values: Tensor, sharpness: float) -> Tensor:
    """(1 / sharpness) log mean exp(sharpness values) over the first axis: (kernels, B) -> (B,)."""
    return (torch.logsumexp(sharpness * values, dim=0) - math.log(len(values))) / sharpness
