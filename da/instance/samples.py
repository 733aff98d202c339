"""What the weight functions share: rows in an order of their own, centres drawn from them, and Gaussian kernels in few passes.

Rows are sorted before anything else, so that draws (centres, landmarks, folds) and rounding do not depend on the order they came in:
permuted rows get the permuted weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision, like
from da.kernels.bandwidths import resolve_bandwidth
from da.kernels.distances import centred

WIDTHS = tuple(
    2.0**power for power in range(-6, 3)
)  # of a bandwidth to choose, in medians of the pooled squared distances
TILE = 2**23  # entries of a block of distances: 64 MB in float64


@dataclass(frozen=True)
class Samples:
    """x (n, d) and y (m, d): source and target in float64 without gradient, each with its rows sorted; `order` (n,) are x's old places.

    dtype: the precision that they came in (the wider of the two).
    """

    x: Tensor
    y: Tensor
    order: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, source: Array, target: Array, *, least: int = 1) -> Samples:
        """Both samples checked (see `da.arrays.check_two_samples`) and sorted."""
        x, y = (z.detach() for z in check_two_samples(source, target, least=least))
        order = sorting(x)
        return cls(x[order].double(), y[sorting(y)].double(), order, x.dtype)

    def pooled(self) -> Tensor:
        """All rows, (n + m, d)."""
        return torch.cat([self.x, self.y])

    def bandwidth(self, rule: float | str = "median") -> float:
        """A squared distance by a rule of `da.kernels` on the pooled rows, or the number given."""
        with full_precision(self.x):
            return float(resolve_bandwidth(centred(self.pooled()), rule))

    def restore(self, weights: Tensor, source: Array) -> Array:
        """Weights (n,) of the sorted rows, in the order and kind of `source` and in the samples' precision."""
        placed = torch.empty_like(weights)
        placed[self.order] = weights
        return like(placed.to(self.dtype), source)


def sorting(x: Tensor) -> Tensor:
    """The permutation (n,) that sorts the rows of x (n, d) lexicographically; rows that coincide keep their order."""
    return torch.unique(x, dim=0, return_inverse=True)[1].argsort(stable=True)


def draw(n: int, k: int, random_state: int) -> Tensor:
    """min(k, n) different numbers below n, in random order: (k,) int64 on the CPU."""
    if k < 1:
        raise ValueError(f"the number of centres or landmarks must be >= 1; got {k}")
    return torch.randperm(n, generator=torch.Generator().manual_seed(random_state))[:k]


def draw_centres(rows: Tensor, k: int, random_state: int) -> Tensor:
    """min(k, n) rows of rows (n, d) without replacement, the same ones whatever the rows' order: (k, d)."""
    return rows[sorting(rows)][draw(len(rows), k, random_state).to(rows.device)]


def tiles(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows such that a block of (rows, width) has about TILE entries."""
    step = max(1, TILE // max(width, 1))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


class Gaussian:
    """k(x_i, y_j) = exp(-||x_i - y_j||^2 / s) between rows of x (n, d) and all of y (m, d), a block of rows at a time.

    With a_i = (x_i sqrt(2 / s), -|x_i|^2 / s, 1) and b_j = (y_j sqrt(2 / s), 1, -|y_j|^2 / s) the exponent is <a_i, b_j>: a matrix
    product, a clamp and an exponential in place.
    """

    def __init__(self, x: Tensor, y: Tensor, s: float) -> None:
        z = centred(torch.cat([x, y])) * (2 / s) ** 0.5
        squares, one = -z.square().sum(dim=1, keepdim=True) / 2, torch.ones_like(z[:, :1])
        self.left = torch.cat([z, squares, one], dim=1)[: len(x)]  # (n, d + 2)
        self.right = torch.cat([z, one, squares], dim=1)[len(x) :]  # (m, d + 2)

    def block(self, rows: slice, columns: slice = slice(None)) -> Tensor:
        """The kernel between these rows of x and these of y."""
        return (self.left[rows] @ self.right[columns].T).clamp_(max=0).exp_()
