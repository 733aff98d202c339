"""A permutation test of the maximum mean discrepancy: do two samples come from one distribution?

Use `mmd_test` for a quick answer with one kernel. `da.shift.mmd_fuse` tests with many kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples, full_precision
from da.arrays.random_states import RandomState, seed_of
from da.kernels.moderate_scale import moderate
from da.ops.mixture import Bandwidth, KernelName, check_kernel, mixture_of
from da.shift.permutations import gram_matrix, permutation_p_value, relabelled_mmd2, relabellings


@dataclass(frozen=True, eq=False)
class MMDTest:
    """What a permutation test found.

    Attributes:
        statistic: The statistic of the given samples.
        p_value: The p-value, in (0, 1].
        null: The statistics (permutations,) of the relabelled samples.

    Example:
        >>> import numpy as np
        >>> from da.shift import mmd_test
        >>> x = np.arange(8.0)[:, None]
        >>> found = mmd_test(x, x + 20, permutations=99)
        >>> found.p_value, bool(found.statistic > found.null.max())
        (0.01, True)
    """

    statistic: float
    p_value: float
    null: np.ndarray


@checked
def mmd_test(
    source: Array,
    target: Array,
    *,
    permutations: int = 1000,
    estimator: Literal["biased", "unbiased"] = "unbiased",
    kernel: KernelName = "gaussian",
    bandwidth: Bandwidth = "median",
    multipliers: Sequence[float] = (1.0,),
    random_state: RandomState = 0,
) -> MMDTest:
    """Test whether two samples come from one distribution, with one kernel.

    It is fast and needs no choice. `mmd_fuse` finds fine differences more often. It computes in
    float64 and holds a matrix of (n + m)^2 entries in memory.

    The rows must be independent, or at least exchangeable if nothing has changed. Frames of one
    film are not, nor are several views of one image. Then P(p <= alpha) <= alpha holds for every n,
    m and alpha, because neither kernel nor bandwidth depends on the sample that a row belongs to.

        p = (1 + number of relabellings with a statistic at least as large) / (1 + permutations)

    Ties count as larger, so p is 1 for identical samples.

    Args:
        source: Rows (n, d), floats, n >= 2.
        target: Rows (m, d), floats, m >= 2.
        permutations: The number of random relabellings of the pooled rows, >= 1. The least
            p-value is 1 / (1 + permutations). Default 1000.
        estimator: "unbiased" (default, U-statistic) or "biased" (V-statistic); see
            `da.feature.mmd2`.
        kernel: "gaussian" (default), "laplacian", "rational_quadratic", "polynomial" or "linear";
            see `da.kernels`.
        bandwidth: A number > 0, or the "mean" or "median" (default) of the pooled rows' distances
            (squared ones, except for the Laplacian). Beyond 1,000 rows the median is that of 1,000
            random rows.
        multipliers: The kernels' bandwidths as multiples > 0 of the bandwidth; the kernels are
            summed. Default (1.0,).
        random_state: Source of the relabellings and of those 1,000 rows: None, an int, or a
            RandomState or Generator of NumPy. Each call takes one number from such an object. The
            same seed gives the same result on every device. Default 0.

    Returns:
        The statistic (the squared MMD), its p-value, and the statistics of the relabellings.

    Raises:
        ValueError: A sample has fewer than 2 rows, widths or devices differ, a value is not
            finite, or an option is out of range.
        TypeError: The inputs are not two float arrays or two float tensors.

    Example:
        >>> import numpy as np
        >>> from da.shift import mmd_test
        >>> x = np.arange(8.0)[:, None]
        >>> mmd_test(x, x, permutations=99).p_value
        1.0
        >>> mmd_test(x, x + 20, permutations=99).p_value
        0.01

    Paper:
        Gretton, Borgwardt, Rasch, Schoelkopf, et al.: A Kernel Two-Sample Test. JMLR 13, 2012.

    Differences:
        The p-value is never 0: the observed statistic counts among the relabellings.
    """
    if estimator not in ("biased", "unbiased"):
        raise ValueError(f"estimator must be 'biased' or 'unbiased'; got {estimator!r}")
    check_kernel(kernel)
    x, y = check_two_samples(source, target, least=2)
    generator = torch.Generator().manual_seed(seed_of(random_state))
    members = relabellings(len(x), len(y), permutations, generator=generator).to(x.device)
    with torch.no_grad(), full_precision(x):
        z = torch.cat([x, y]).double()
        if isinstance(bandwidth, str) and kernel != "linear":
            (z,) = moderate(z)
        # A median may be taken over some rows only. Which ones must not depend on their sample, or
        # the level would not be exact.
        shuffled = z[torch.randperm(len(z), generator=generator).to(z.device)]
        mixture = mixture_of(kernel, shuffled, bandwidth, multipliers)
        gram = gram_matrix(z, mixture)  # (n + m, n + m)
        statistics = relabelled_mmd2(gram, members, unbiased=estimator == "unbiased").cpu()
    p_value = permutation_p_value(statistics, scale=float(gram.abs().max()))
    return MMDTest(float(statistics[0]), p_value, statistics[1:].numpy())
