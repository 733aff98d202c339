"""MMD-FUSE: a two-sample test with many kernels at once, which sets no rows aside to choose one.

Use it if you do not know at what scale two samples might differ.

    FUSE = (1 / lambda) log mean_k exp(lambda MMD^2_k / sqrt(N_k))
    N_k = sum_{i != j} k(z_i, z_j)^2 / (n (n - 1))

It is a soft maximum of the unbiased squared MMDs over the kernels k, each in units of its own size
on the pooled rows z. n is the number of rows of the smaller sample, and lambda is sqrt(n (n - 1)).
The kernels, with b from a grid of lengths for each norm, are

    exp(-||x - y||^2 / (2 b^2))        exp(-sqrt(2) ||x - y||_1 / b)

Neither the grids nor N_k change if the pooled rows are relabelled, so the permutation test keeps
its level for every n and m.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, check_two_samples, full_precision
from da.arrays.random_states import RandomState, seed_of
from da.kernels.distances import centred
from da.kernels.moderate_scale import moderate
from da.shift.fused_sums import Kernel, fewer_kernels, pair_quantiles, relabelled_sums
from da.shift.mmd import MMDTest
from da.shift.permutations import permutation_p_value, relabellings


@checked
def mmd_fuse(
    source: Array,
    target: Array,
    *,
    permutations: int = 1000,
    bandwidths: int = 10,
    random_state: RandomState = 0,
) -> MMDTest:
    """Test whether two samples come from one distribution, with kernels of many bandwidths at once.

    It finds fine and coarse differences without a choice of kernel. It is slower than `mmd_test`.
    What the rows must be and how p is computed is described there. The statistic is a soft maximum
    over Gaussian and Laplacian kernels (see the module). It has no unit, is about 0 if nothing has
    changed, and may be negative. At most the distances of all pairs are in memory at once,
    (n + m)^2 / 2 numbers of float32; for more than about 20,000 rows use `block_mmd_test`.

    Kernel values are rounded to multiples of 2^-16, which makes float32 sums exact. Bandwidths in
    between are interpolated from others within 2^-16. Neither depends on the labelling.

    Args:
        source: Rows (n, d), floats, n >= 2.
        target: Rows (m, d), floats, m >= 2.
        permutations: The number B of random relabellings, >= 1. The least p-value is 1 / (1 + B).
            Default 1000.
        bandwidths: The number of bandwidths for each of the two kernel families, >= 2. They are
            evenly spaced, from half the 5 % quantile to twice the 95 % quantile of the distances
            between different pooled rows. Default 10.
        random_state: Source of the relabellings; see `mmd_test`. Default 0.

    Returns:
        The statistic, its p-value, and the statistics of the relabellings.

    Raises:
        ValueError: A sample has fewer than 2 rows, widths or devices differ, a value is not
            finite, or an option is out of range.
        TypeError: The inputs are not two float arrays or two float tensors.

    Example:
        >>> import numpy as np
        >>> from da.shift import mmd_fuse
        >>> x = np.arange(8.0)[:, None]
        >>> mmd_fuse(x, x, permutations=99).p_value
        1.0
        >>> mmd_fuse(x, x + 20, permutations=99).p_value
        0.01

    Paper:
        Biggs, Schrab, Gretton: MMD-FUSE: Learning and Combining Kernels for Two-Sample Testing
        Without Data Splitting. NeurIPS 2023.

    Differences:
        lambda is the paper's sqrt(n (n - 1)). The authors' released code computes with
        lambda = n (n - 1), which is nearly the hard maximum. The level is the same for both.
    """
    bandwidths = whole_number(bandwidths, "bandwidths", least=2)
    x, y = check_two_samples(source, target, least=2)
    generator = torch.Generator().manual_seed(seed_of(random_state))
    n = min(len(x), len(y))
    ratios: list[Tensor] = []
    scale = 0.0
    with torch.no_grad(), full_precision(x):
        pooled = centred(*moderate(torch.cat([x, y]).double()))
        plans = {norm: _kernels(pooled, norm, bandwidths) for norm in KERNELS}
        # After the quantiles, which need the most memory.
        members = relabellings(len(x), len(y), permutations, generator=generator).to(x.device)
        for norm, (kernels, chosen, weights) in plans.items():
            values, squares = relabelled_sums(pooled, norm, kernels, chosen, members)
            sizes = [math.sqrt(2 * each / (n * (n - 1))) for each in squares]
            every = weights.to(values.device).T @ values  # (kernels, 1 + B)
            ratios += [value / size for value, size in zip(every, sizes, strict=True)]
            scale = max(scale, *(1 / size for size in sizes))  # a kernel is at most 1
        statistics = _soft_maximum(torch.stack(ratios), math.sqrt(n * (n - 1)))
    p_value = permutation_p_value(statistics, scale=scale)
    return MMDTest(float(statistics[0]), p_value, statistics[1:].cpu().numpy())


def _kernels(
    pooled: Tensor, norm: float, bandwidths: int
) -> tuple[list[Kernel], list[int], Tensor]:
    """The kernels of a norm, those that stand for all, and their weights; see `fewer_kernels`."""
    low, high = pair_quantiles(pooled, norm, (0.05, 0.95)) or (
        2.0,
        0.5,
    )  # all rows coincide: every length is 1, and every kernel
    lengths = torch.linspace(low / 2, 2 * high, bandwidths, dtype=torch.float64).tolist()
    kernels: list[Kernel] = [partial(KERNELS[norm], length=length) for length in lengths]
    return kernels, *fewer_kernels(kernels, lengths)


def _gaussian(distances: Tensor, *, length: float) -> Tensor:
    return (distances / length).square_().mul_(-0.5).exp_()


def _laplacian(distances: Tensor, *, length: float) -> Tensor:
    return (distances * (-math.sqrt(2) / length)).exp_()


KERNELS = {2.0: _gaussian, 1.0: _laplacian}  # the kernel of each norm's distances


def _soft_maximum(values: Tensor, sharpness: float) -> Tensor:
    """(1 / sharpness) log mean exp(sharpness values) over the first axis: (kernels, B) -> (B,)."""
    return (torch.logsumexp(sharpness * values, dim=0) - math.log(len(values))) / sharpness
