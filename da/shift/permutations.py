"""Permutation tests on a Gram matrix: the squared MMD of every relabelling of the pooled rows.

Use these functions to build another permutation test. All relabellings together cost one matrix
product. Let K (N, N) be the Gram matrix of the pooled rows, a (N,) the 0/1 indicator of the first
group, of n rows, and m = N - n. The sums of K over the three blocks are

    xx = a' K a        xy = a' K 1 - xx        yy = 1' K 1 - 2 a' K 1 + xx

so a relabelling costs one row of A K, with A (B, N). Everything is computed in float64. The
difference between two relabellings is small against the sums, and two equal statistics must not
differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from da.arrays.integers import whole_number
from da.kernels.distances import centred
from da.kernels.functions import gaussian, laplacian, linear, polynomial, rational_quadratic
from da.ops.mixture import Mixture

CELLS = 2**22  # entries of the largest temporary matrix: 32 MB of float64
DRAWN = 2**19  # random numbers at a time
# Statistics are equal if they differ by less than this times the largest kernel value. Rounding is
# a hundred times smaller.
TIE = 1e-10

_KERNELS: dict[str, Callable[..., Tensor]] = {
    "gaussian": gaussian,
    "laplacian": laplacian,
    "rational_quadratic": rational_quadratic,
    "polynomial": polynomial,
}


def gram_matrix(x: Tensor, mixture: Mixture) -> Tensor:
    """The kernel of all pairs of rows, with an exact diagonal.

    Args:
        x: Rows (N, d).
        mixture: The kernel and its bandwidths.

    Returns:
        The Gram matrix (N, N), in the precision of x.
    """
    if mixture.name == "linear":  # a shift of all rows changes no MMD
        z = centred(x)
        return linear(z, z)
    total = torch.zeros(len(x), len(x), dtype=x.dtype, device=x.device)
    for scale in mixture.scales:
        total += _KERNELS[mixture.name](x, x, bandwidth=scale)
    return total


def relabellings(n: int, m: int, permutations: int, *, generator: torch.Generator) -> Tensor:
    """Draw relabellings of n + m pooled rows: which rows are in the first group.

    Args:
        n: The rows of the first group.
        m: The rows of the second group.
        permutations: How many relabellings to draw, >= 1.
        generator: On the CPU, so that every device gets the same draws.

    Returns:
        Booleans (permutations + 1, n + m). The first row is the given labelling, rows 0 to n - 1.
        The others are independent uniform draws of n rows.

    Raises:
        WholeNumberError: `permutations` is no whole number >= 1.
    """
    permutations = whole_number(permutations, "permutations", least=1)
    members = torch.zeros(permutations + 1, n + m, dtype=torch.bool)
    members[0, :n] = True
    for chunk in members[1:].split(max(1, DRAWN // (n + m))):
        keys = torch.rand(chunk.shape, dtype=torch.float64, generator=generator)
        first = np.argpartition(keys.numpy(), n - 1, axis=1)[:, :n]
        chunk.scatter_(1, torch.from_numpy(first), True)
    return members


def relabelled_mmd2(gram: Tensor, members: Tensor, *, unbiased: bool) -> Tensor:
    """The squared MMD between each first group and the rest of the rows.

    Args:
        gram: A symmetric Gram matrix (N, N).
        members: The first groups (B, N), as from `relabellings`; each has n rows.
        unbiased: Leave out the diagonal of the two square blocks, as the U-statistic does. Then n
            and N - n must be at least 2.

    Returns:
        The statistics (B,) in float64.
    """
    total = gram.sum(dtype=torch.float64)
    if unbiased:
        diagonal = gram.diagonal().double()
    else:
        diagonal = gram.new_zeros(len(gram), dtype=torch.float64)
    gram = gram.double()
    n = int(members[0].sum())
    m = len(gram) - n
    pairs = (n * (n - 1), m * (m - 1)) if unbiased else (n * n, m * m)
    values = []
    for chunk in members.split(max(1, CELLS // len(gram))):
        a = chunk.double()  # (b, N)
        products = a @ gram  # (b, N)
        xx, x1 = (products * a).sum(dim=1), products.sum(dim=1)  # (b,) each
        own = a @ diagonal  # (b,): the first group's share of the diagonal
        yy = total - 2 * x1 + xx
        within = (xx - own) / pairs[0] + (yy - (diagonal.sum() - own)) / pairs[1]
        values.append(within - 2 * (x1 - xx) / (n * m))
    return torch.cat(values)


def permutation_p_value(statistics: Tensor, *, scale: float) -> float:
    """The p-value (1 + #{b: statistics_b >= statistics_0}) / (1 + B), which is never 0.

    Args:
        statistics: The observed statistic and the statistics of B relabellings: (1 + B,).
        scale: The largest value of the statistic's kernel. Statistics within `TIE` times it are
            ties, and ties count as larger.

    Returns:
        The p-value, in (0, 1].
    """
    observed, null = statistics[0], statistics[1:]
    return (1 + int((null >= observed - TIE * scale).sum())) / (1 + len(null))
