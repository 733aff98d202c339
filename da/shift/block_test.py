"""A two-sample test for millions of rows, on sums of random features over blocks of rows."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, check_two_samples
from da.arrays.random_states import RandomState, seed_of
from da.kernels.bandwidths import MEDIAN_ROWS, check_bandwidth, resolve_bandwidth
from da.kernels.distances import centred
from da.kernels.moderate_scale import moderate
from da.shift.blocks import LEAST_BLOCKS, block_sums
from da.shift.mmd import MMDTest

FEWEST = 16  # blocks that the smaller sample is cut into if it has that many rows
MOST = 1024  # blocks that count: their Gram matrix must stay small


@checked
def block_mmd_test(
    source: Array,
    target: Array,
    *,
    permutations: int = 1000,
    blocks: int = 256,
    bandwidth: float | Literal["median"] = "median",
    bandwidths: int = 5,
    features: int = 192,
    random_state: RandomState = 0,
) -> MMDTest:
    """Test whether two samples of up to millions of rows come from one distribution.

    It is for samples for which `mmd_test` and `mmd_fuse` are too slow or too large: its time is
    linear in the rows, and beside the rows it needs some tens of megabytes. It looks at several
    bandwidths at once. On a few thousand rows `mmd_fuse` finds fine differences more often.
    `block_sums` is the same test for rows that may not be brought together.

    Rows are summed to random features over blocks of equally many consecutive rows, and blocks are
    relabelled. If all rows are independent, P(p <= alpha) <= alpha holds for every n, m and alpha,
    as in `mmd_test`. Up to `blocks` rows in all, a block is one row.

        p = (1 + number of relabellings with a statistic at least as large) / (1 + permutations)

    Rows after the last whole block do not count: of each sample fewer than one block, about
    (n + m) / blocks rows. The smaller sample is cut into at least 16 blocks, so a block has fewer
    rows if one sample is much larger; of the larger one at most about 1,000 blocks count.

    Args:
        source: Rows (n, d), floats, n >= 2.
        target: Rows (m, d), floats, m >= 2.
        permutations: The number B of random relabellings of the blocks, >= 1. The least p-value is
            1 / (1 + B). Default 1000.
        blocks: The blocks of both samples together, from 4 to 1,024. Default 256.
        bandwidth: s, a squared distance > 0, or the "median" (default) of the squared distances of
            1,000 random pooled rows. The kernels are exp(-||x - y||^2 / s_k).
        bandwidths: The number of s_k: s times 1/16, 1/4, 1, 4, 16 for five; see `block_sums`.
            Default 5.
        features: The random features of each bandwidth, even. More cost time; their statistic
            depends less on the draw. Default 192.
        random_state: Source of those 1,000 rows, the frequencies and the relabellings: None, an
            int, or a RandomState or Generator of NumPy. Each call takes one number from such an
            object. Default 0.

    Returns:
        The statistic, its p-value, and the statistics of the relabellings. The statistic is the
        largest squared MMD over the bandwidths in units of its standard deviation.

    Raises:
        ValueError: A sample has fewer than 2 rows, widths or devices differ, a value is not
            finite, or an option is out of range.
        TypeError: The inputs are not two float arrays or two float tensors.

    Example:
        >>> import numpy as np
        >>> from da.shift import block_mmd_test
        >>> rows = np.random.default_rng(0).normal(size=(20_000, 3))
        >>> block_mmd_test(rows[:10_000], rows[10_000:]).p_value > 0.05
        True
        >>> block_mmd_test(rows[:10_000], rows[10_000:] + 0.1).p_value < 0.01
        True

    Paper:
        Domingo-Enrich, Dwivedi, Mackey: Compress Then Test: Powerful Kernel Testing in Near-linear
        Time. AISTATS 2023 (blocks that are relabelled).
        Rahimi, Recht: Random Features for Large-Scale Kernel Machines. NIPS 2007.

    Differences:
        A block is not compressed to few rows but summed to random features. Bandwidths are
        aggregated by the largest standardised statistic, not by adjusted quantiles.
    """
    if isinstance(bandwidth, str) and bandwidth != "median":
        raise ValueError(f"bandwidth must be 'median' or a number > 0; got {bandwidth!r}")
    blocks = whole_number(blocks, "blocks", least=2 * LEAST_BLOCKS, most=MOST)
    x, y = check_two_samples(source, target, least=2)
    generator = torch.Generator().manual_seed(seed_of(random_state))
    seeds = [int(torch.randint(2**31, (), generator=generator)) for _ in range(2)]
    if bandwidth == "median":
        x, y = moderate(x, y)
        scale = _median(x, y, generator)
    else:
        scale = float(check_bandwidth(bandwidth))
    smaller = min(len(x), len(y))
    size = max(1, min((len(x) + len(y)) // blocks, smaller // min(FEWEST, blocks // 2)))
    most = size * max(MOST - smaller // size, LEAST_BLOCKS)  # rows of the larger sample
    sums = block_sums(
        x[:most],
        y[:most],
        bandwidth=scale,
        block_rows=size,
        bandwidths=bandwidths,
        features=features,
        random_state=seeds[0],
    )
    return sums.test(permutations=permutations, random_state=seeds[1])


def _median(x: Tensor, y: Tensor, generator: torch.Generator) -> float:
    """The median squared distance of random rows of both samples pooled, 1 if they coincide.

    Which rows these are must not depend on the sample that a row belongs to, or the level would not
    be exact.
    """
    count = min(MEDIAN_ROWS, len(x) + len(y))
    chosen = torch.randperm(len(x) + len(y), generator=generator)[:count].to(x.device)
    own, other = chosen[chosen < len(x)], chosen[chosen >= len(x)] - len(x)
    return float(resolve_bandwidth(centred(torch.cat([x[own], y[other]])), "median"))
