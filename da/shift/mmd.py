"""A permutation test of the maximum mean discrepancy.

Gretton, Borgwardt, Rasch, Schoelkopf, Smola: A Kernel Two-Sample Test. JMLR 13, 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from da.arrays import Array, check_two_samples, full_precision
from da.ops.mixture import Bandwidth, KernelName, check_kernel, mixture_of
from da.shift.permutations import gram_matrix, permutation_p_value, relabelled_mmd2, relabellings


@dataclass(frozen=True, eq=False)
class MMDTest:
    """What a permutation test found: the statistic, its p-value in (0, 1], and the statistics of the relabellings, (permutations,)."""

    statistic: float
    p_value: float
    null: np.ndarray


def mmd_test(
    source: Array,
    target: Array,
    *,
    permutations: int = 1000,
    estimator: Literal["biased", "unbiased"] = "unbiased",
    kernel: KernelName = "gaussian",
    bandwidth: Bandwidth = "median",
    multipliers: Sequence[float] = (1.0,),
    random_state: int = 0,
) -> MMDTest:
    """Permutation test of the null hypothesis that the rows of source (n, d) and target (m, d) are draws from one distribution.

    The rows must be independent, or at least exchangeable under the null: frames of one film, or several views of one image, are not.
    Then P(p <= alpha) <= alpha for every n, m and alpha, since neither kernel nor bandwidth depends on which sample a row is of.
    p = (1 + relabellings with a statistic at least as large, ties counted) / (1 + permutations): never 0, 1 for identical samples.

    permutations: random relabellings of the pooled rows; the smallest p is 1 / (1 + permutations).
    estimator, kernel, bandwidth, multipliers: as in `mmd2`; beyond 1,000 rows the median is that of 1,000 random ones.
    random_state: seed of the relabellings (and of those rows); the same seed, the same result, on every device.

    In float64, memory O((n + m)^2). Raises ValueError for n or m < 2 and arguments out of range, TypeError for inputs without floats.
    """
    if estimator not in ("biased", "unbiased"):
        raise ValueError(f"estimator must be 'biased' or 'unbiased'; got {estimator!r}")
    check_kernel(kernel)
    x, y = check_two_samples(source, target, least=2)
    generator = torch.Generator().manual_seed(random_state)
    members = relabellings(len(x), len(y), permutations, generator=generator).to(x.device)
    with torch.no_grad(), full_precision(x):
        z = torch.cat([x, y]).double()
        # The rows of a median over some: which ones must not depend on their sample, or the level would not be exact.
        shuffled = z[torch.randperm(len(z), generator=generator).to(z.device)]
        gram = gram_matrix(
            z, mixture_of(kernel, shuffled, bandwidth, multipliers)
        )  # (n + m, n + m)
        statistics = relabelled_mmd2(gram, members, unbiased=estimator == "unbiased").cpu()
    p_value = permutation_p_value(statistics, scale=float(gram.abs().max()))
    return MMDTest(float(statistics[0]), p_value, statistics[1:].numpy())
