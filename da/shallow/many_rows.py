"""Means and scatter matrices of many rows, block by block, in place of decompositions of the rows.

A decomposition of rows (N, d) keeps small directions to full precision. It takes several times as
long as their Gram matrix, and copies of all rows. From `MANY` rows on, and if they are much more
than the columns, the adapters take the Gram matrix. Directions of a standard deviation below about
1e-7 of the largest are then lost to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from da.kernels.distances import centred

MANY = 20_000  # rows from which sums take the place of a decomposition
TALL = 10  # how many times the columns the rows must be for it
BLOCK = 2048  # rows at a time


class Sums(NamedTuple):
    """What is kept of rows (n, r).

    Attributes:
        rows: n.
        mean: Their mean (r,).
        scatter: sum_i (x_i - mean) (x_i - mean)^T, (r, r).
    """

    rows: int
    mean: Tensor
    scatter: Tensor

    @property
    def gram(self) -> Tensor:
        """sum_i x_i x_i^T, (r, r)."""
        return self.scatter + self.rows * torch.outer(self.mean, self.mean)

    def __add__(self, other: object) -> Sums:
        """The sums of both samples' rows together."""
        if not isinstance(other, Sums):
            return NotImplemented
        rows, gap = self.rows + other.rows, self.mean - other.mean
        share = self.rows * other.rows / rows
        return Sums(
            rows,
            (self.rows * self.mean + other.rows * other.mean) / rows,
            self.scatter + other.scatter + share * torch.outer(gap, gap),
        )


def has_many_rows(rows: int, columns: int) -> bool:
    """Whether the adapters take sums of these rows, and no decomposition."""
    return rows >= MANY and rows >= TALL * columns


def sums_of(x: Tensor, features: Callable[[Tensor], Tensor] | None = None) -> Sums:
    """Sum the rows of x, or their features, in float64.

    Args:
        x: Rows (n, d) in float32 or float64.
        features: Maps rows (t, d) to (t, r). Default None: the rows themselves.

    Returns:
        Number, mean and scatter matrix.
    """
    blocks = _blocks(x, features)
    first = next(blocks)
    origin = first.double().mean(dim=0)  # near the mean, so that the subtraction keeps its digits
    room = torch.empty(first.shape, dtype=torch.float64, device=x.device)  # for every block
    total, scatter = torch.zeros_like(origin), torch.zeros_like(torch.outer(origin, origin))
    for block in chain([first], blocks):
        moved = torch.sub(block, origin, out=room[: len(block)])
        total += moved.sum(dim=0)
        scatter += _square(moved)
    shift = total / len(x)
    return Sums(len(x), origin + shift, scatter - len(x) * torch.outer(shift, shift))


def mean_of(x: Tensor) -> Tensor:
    """The mean (d,) of rows x (n, d) in float64; without a copy of them."""
    total = sum((block.double().sum(dim=0) for block in x.split(BLOCK)), start=x.new_zeros(()))
    return total / len(x)


def scatter_of(x: Tensor) -> Tensor:
    """sum_i (x_i - mean) (x_i - mean)^T of rows x (n, d), in float64; no copy if they are many."""
    if has_many_rows(*x.shape):
        return sums_of(x).scatter
    z = centred(x.double())
    return z.T @ z


def furthest_signs(samples: tuple[Tensor, ...], embed: Callable[[Tensor], Tensor]) -> Tensor:
    """Find the sign of the coordinate that is furthest from 0, for each direction.

    Args:
        samples: Rows (n, d) each.
        embed: Maps rows (t, d) to their coordinates (t, p), in a precision of its own.

    Returns:
        Signs (p,), 1 or -1, in that precision.
    """
    high = low = torch.zeros((), device=samples[0].device)
    for x in samples:
        for block in x.split(BLOCK):
            places = embed(block)
            high = torch.maximum(high, places.amax(dim=0))
            low = torch.minimum(low, places.amin(dim=0))
    return torch.where(high >= -low, 1.0, -1.0).to(high)


def root_of(scatter: Tensor) -> Tensor:
    """T (r, r) with T^T T = scatter, for a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(scatter)
    return values.clamp(min=0).sqrt()[:, None] * vectors.T


def _blocks(x: Tensor, features: Callable[[Tensor], Tensor] | None) -> Iterator[Tensor]:
    blocks = iter(x.split(BLOCK))
    return blocks if features is None else map(features, blocks)


def _square(block: Tensor) -> Tensor:
    """block^T block, (r, r)."""
    if block.device.type != "cpu":
        return block.T @ block
    rows = block.numpy()  # NumPy computes one half of a symmetric product alone, torch computes all
    return torch.from_numpy(rows.T @ rows)
