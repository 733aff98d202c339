"""Permutation tests on a Gram matrix: the squared MMD of every relabelling of the pooled rows from one matrix product.

With K (N, N) the Gram matrix of the pooled rows, a (N,) the 0/1 indicator of the first group, of n rows, and m = N - n,

    xx = a' K a,    xy = a' K 1 - xx,    yy = 1' K 1 - 2 a' K 1 + xx            the sums of K over the three blocks

so that a relabelling costs one row of A K, A (B, N). Everything is computed in float64: what distinguishes two relabellings is small
against the sums, and two that are equal in truth must not differ by their rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from da.kernels.distances import centred
from da.kernels.functions import gaussian, laplacian, linear, polynomial, rational_quadratic
from da.ops.mixture import Mixture

CELLS = 2**22  # entries of the largest temporary matrix: 32 MB of float64
TIE = 1e-10  # statistics closer than this times the largest kernel value are equal: rounding is a hundred times smaller

_KERNELS: dict[str, Callable[..., Tensor]] = {
    "gaussian": gaussian, "laplacian": laplacian, "rational_quadratic": rational_quadratic, "polynomial": polynomial,
}  # fmt: skip


def gram_matrix(x: Tensor, mixture: Mixture) -> Tensor:
    """The kernel of all pairs of rows of x (N, d): (N, N), in the precision of x, an exact diagonal."""
    if mixture.name == "linear":  # a shift of all rows changes no MMD
        z = centred(x)
        return linear(z, z)
    total = torch.zeros(len(x), len(x), dtype=x.dtype, device=x.device)
    for scale in mixture.scales:
        total += _KERNELS[mixture.name](x, x, bandwidth=scale)
    return total


def relabellings(n: int, m: int, permutations: int, *, generator: torch.Generator) -> Tensor:
    """Who is in the first group, bool (permutations + 1, n + m): first the rows 0 to n - 1, then independent uniform draws of n rows.

    generator: on the CPU, so that every device sees the same draws. Raises TypeError or ValueError on `permutations`.
    """
    if isinstance(permutations, bool) or not isinstance(permutations, int):
        raise TypeError(f"permutations must be an integer; got {permutations!r}")
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1; got {permutations}")
    members = torch.zeros(permutations + 1, n + m, dtype=torch.bool)
    members[0, :n] = True
    for chunk in members[1:].split(max(1, CELLS // (n + m))):
        keys = torch.rand(chunk.shape, dtype=torch.float64, generator=generator)
        chunk.scatter_(1, keys.argsort(dim=1)[:, :n], True)
    return members


def relabelled_mmd2(gram: Tensor, members: Tensor, *, unbiased: bool) -> Tensor:
    """Squared MMD between each group and the rest, float64 (B,), for a symmetric gram (N, N) and members (B, N) of equal row sums n.

    unbiased: leave the diagonal of the two square blocks out, as the U-statistic does; needs n and N - n of at least 2.
    """
    total = gram.sum(dtype=torch.float64)
    diagonal = (
        gram.diagonal().double() if unbiased else gram.new_zeros(len(gram), dtype=torch.float64)
    )
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
        values.append(
            (xx - own) / pairs[0]
            + (yy - (diagonal.sum() - own)) / pairs[1]
            - 2 * (x1 - xx) / (n * m)
        )
    return torch.cat(values)


def permutation_p_value(statistics: Tensor, *, scale: float) -> float:
    """(1 + #{b: statistics_b >= statistics_0}) / (1 + B) for statistics (1 + B,), the observed one first: never 0.

    Ties count as larger, within `TIE` times scale, the largest value that the statistic's kernel takes.
    """
    observed, null = statistics[0], statistics[1:]
    return (1 + int((null >= observed - TIE * scale).sum())) / (1 + len(null))
