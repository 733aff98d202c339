"""What the weight functions share: checked and sorted samples, random centres, Gaussian kernels.

Use it when you write a new weight function. `Samples.of` sorts the rows of both samples. Then
random draws (centres, landmarks, folds) and rounding do not depend on the order of the given rows:
permuted rows get the permuted weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from da.arrays.classes import class_values
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.kernels.bandwidths import resolve_bandwidth
from da.kernels.distances import centred

# Candidate bandwidths, as multiples of the median of the pooled squared distances.
WIDTHS = tuple(2.0**power for power in range(-6, 3))
BLOCK = 2048  # rows at a time
TILE = 2**23  # entries of one block of distances: 64 MB in float64


@dataclass(frozen=True)
class Samples:
    """Source and target, in float64 unless asked otherwise, without gradient, with rows sorted.

    Attributes:
        x: Source rows (n, d), sorted.
        y: Target rows (m, d), sorted.
        order: The place (n,) that each row of `x` had before sorting.
        dtype: The precision of the given samples (the wider one if they differ).
    """

    x: Tensor
    y: Tensor
    order: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, source: Array, target: Array, *, least: int = 1, widen: bool = True) -> Samples:
        """Check both samples and sort their rows.

        Args:
            source: Rows (n, d).
            target: Rows (m, d).
            least: The fewest rows that each sample must have. Default 1.
            widen: Whether the rows become float64. False keeps their own precision, for a function
                that widens a block of rows at a time, as `distances_to` does. Default True.

        Returns:
            The sorted samples.

        Raises:
            ValueError: As `da.arrays.check_two_samples`.
            TypeError: As `da.arrays.check_two_samples`.
        """
        x, y = (z.detach() for z in check_two_samples(source, target, least=least))
        order, other = sorting(x), sorting(y)
        if not widen:
            return cls(x[order], y[other], order, x.dtype)
        return cls(_arranged(x, order), _arranged(y, other), order, x.dtype)

    def pooled(self) -> Tensor:
        """All rows (n + m, d), the source's first."""
        return torch.cat([self.x, self.y])

    def bandwidth(self, rule: float | str = "median") -> float:
        """The bandwidth, a squared distance: `rule` itself if it is a number, else its value.

        The rules are in `da.kernels`; they are taken on the pooled rows.
        """
        if not isinstance(rule, str):
            return float(resolve_bandwidth(self.x[:1].double(), rule))
        with full_precision(self.x):
            return float(resolve_bandwidth(centred(self.pooled().double()), rule))

    def restore(self, weights: Tensor, source: Array) -> Array:
        """Undo the sorting: weights (n,) in the row order, kind and precision of `source`."""
        placed = torch.empty_like(weights)
        placed[self.order] = weights
        return like(placed.to(self.dtype), source)


def class_labels(labels: Tensor | np.ndarray, name: str, rows: int) -> np.ndarray:
    """Check that `labels` holds one class a row and return it as an array on the CPU.

    Args:
        labels: Classes (rows,): integers, strings, or floats that hold whole numbers.
        name: What error messages call the argument.
        rows: How many labels there must be.

    Returns:
        The classes (rows,).

    Raises:
        TypeError: The labels are no classes.
        ValueError: The shape is not (rows,).
    """
    values = class_values(labels, name)
    if values.shape != (rows,):
        raise ValueError(f"{name} must hold one label a row, shape ({rows},); got {values.shape}")
    return values


def sorting(x: Tensor) -> Tensor:
    """The permutation (n,) that sorts the rows of x (n, d); equal rows keep their order."""
    order = x[:, 0].argsort(stable=True)
    values = x[order, 0]
    starts = torch.ones_like(values, dtype=torch.bool)  # where a row differs from the one before
    starts[1:] = values[1:] != values[:-1]
    for column in range(1, x.shape[1]):
        # Rows that are equal so far still need an order: few of them, if values are many.
        group = starts.cumsum(dim=0)
        place = (group.bincount()[group] > 1).nonzero()[:, 0]
        if not len(place):
            break
        values = x[order[place], column]
        by_value = values.argsort(stable=True)
        again = by_value[group[place][by_value].argsort(stable=True)]
        order[place] = order[place][again]
        starts[place[1:]] |= values[again][1:] != values[again][:-1]
    return order


def _arranged(x: Tensor, order: Tensor) -> Tensor:
    """x[order] in float64, without a copy in its own precision."""
    found = x.new_empty(x.shape, dtype=torch.float64)
    for rows, places in zip(found.split(BLOCK), order.split(BLOCK), strict=True):
        rows.copy_(x[places])
    return found


def draw(n: int, k: int, seed: int) -> Tensor:
    """Draw min(k, n) different numbers from 0 to n - 1, in random order: int64 on the CPU."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:k]


def draw_centres(rows: Tensor, k: int, seed: int) -> Tensor:
    """Draw min(k, n) of n rows without replacement; their order does not change the draw."""
    return rows[sorting(rows)[draw(len(rows), k, seed).to(rows.device)]]


def distances_to(centres: Tensor, x: Tensor) -> Tensor:
    """Squared distances (n, b) in float64 from rows x (n, d) to centres (b, d), no copy of x."""
    centres = centres.double()
    origin = centres.mean(dim=0)  # what all rows are shifted by, so that squares stay small
    moved = centres - origin
    squares = moved.square().sum(dim=1)
    distances = centres.new_empty(len(x), len(centres))
    for rows, out in zip(x.split(BLOCK), distances.split(BLOCK), strict=True):
        z = rows - origin
        torch.addmm(squares, z, moved.T, alpha=-2, out=out)
        out.add_(z.square_().sum(dim=1, keepdim=True)).clamp_(min=0)
    return distances


def tiles(n: int, width: int) -> Iterator[slice]:
    """Cut n rows into slices; a block of one slice by `width` columns has about TILE entries."""
    step = max(1, TILE // max(width, 1))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


class Gaussian:
    """The two factors of the Gaussian kernel's exponent, for blocks of rows of x and of y.

        k(x_i, y_j) = exp(-||x_i - y_j||^2 / s)

    The exponent is the product <a_i, b_j> of two longer rows:

        a_i = (x_i sqrt(2 / s), -|x_i|^2 / s, 1)        b_j = (y_j sqrt(2 / s), 1, -|y_j|^2 / s)

    So a block costs a matrix product, a clamp and an exponential in place.

    Args:
        x: Rows (n, d).
        y: Rows (m, d).
        s: The bandwidth, a squared distance > 0.
    """

    def __init__(self, x: Tensor, y: Tensor, s: float) -> None:
        z = centred(torch.cat([x, y])) * (2 / s) ** 0.5
        squares, one = -z.square().sum(dim=1, keepdim=True) / 2, torch.ones_like(z[:, :1])
        self.left = torch.cat([z, squares, one], dim=1)[: len(x)]  # (n, d + 2)
        self.right = torch.cat([z, one, squares], dim=1)[len(x) :]  # (m, d + 2)
