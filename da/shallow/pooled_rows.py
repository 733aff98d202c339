"""The kernel rows of both samples as the spectral adapters ask for them: held, or made anew.

TCA, JDA and BDA need four answers of the rows R (N, r) of both samples, centred: differences of
means, a factor of R^T R, the embedded rows R A, and the sign of the row furthest from 0. Few rows
are held in memory. Of many rows only sums are kept, and what else is asked for is made block by
block from the samples, in their precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import chain

import torch
from torch import Tensor

from da.shallow.kernel_rows import KernelRows, dual_of_gram
from da.shallow.krylov import Root
from da.shallow.many_rows import BLOCK, furthest_signs, root_of, sums_of
from da.shallow.spectral import directions, factor_of, signs_of

Prepared = Callable[[Tensor], Tensor]  # rows of a sample -> the rows that the kernel takes


class PooledRows(ABC):
    """What the spectral adapters ask of the centred kernel rows R (N, r) of both samples.

    Attributes:
        lift: The map from a prepared row to its kernel row, before centring.
        mean: The mean (r,) that was subtracted.
        factor: T (k, r) with T^T T = R^T R, or None for rows that are too wide for it.
    """

    lift: KernelRows
    mean: Tensor
    factor: Tensor | None

    @abstractmethod
    def gap(self) -> Tensor:
        """The mean of the source's rows minus that of the target's (r, 1)."""

    @abstractmethod
    def gaps(self, columns: Tensor) -> Tensor:
        """R^T E (r, q) for columns E (N, q) of sum 0, such as those of `class_gaps`."""

    @abstractmethod
    def embedded(self, a: Tensor) -> Tensor:
        """R A (N, p) for directions A (r, p)."""

    @abstractmethod
    def signs(self, a: Tensor) -> Tensor:
        """Signs (p,), so that the embedded row furthest from 0 becomes positive."""

    def directions(self, root: Root, count: int | None) -> Tensor:
        """Solve the eigenproblem of `da.shallow.spectral` for these rows: A (r, p)."""
        return directions(root, count, factor=self.factor)


class HeldRows(PooledRows):
    """Few rows, in memory.

    Args:
        lift: The map to kernel rows.
        z: Prepared rows (N, d), the source's first.
        n: Rows of the source.
    """

    def __init__(self, lift: KernelRows, z: Tensor, n: int) -> None:
        self.lift, self.n = lift, n
        self.rows = lift(z)
        self.mean = self.rows.mean(0)
        self.rows -= self.mean
        self.factor = factor_of(self.rows)

    def gap(self) -> Tensor:
        """As in `PooledRows`."""
        source, target = self.rows[: self.n], self.rows[self.n :]
        return (source.mean(0) - target.mean(0))[:, None]

    def gaps(self, columns: Tensor) -> Tensor:
        """As in `PooledRows`."""
        return self.rows.T @ columns

    def embedded(self, a: Tensor) -> Tensor:
        """As in `PooledRows`."""
        return self.rows @ a

    def signs(self, a: Tensor) -> Tensor:
        """As in `PooledRows`."""
        return signs_of(self.embedded(a))

    def directions(self, root: Root, count: int | None) -> Tensor:
        """As in `PooledRows`."""
        return directions(root, count, factor=self.factor, centred_rows=self.rows)


class SummedRows(PooledRows):
    """Many rows, of which sums are kept.

    Args:
        x: Source rows (n, d), in float32 or float64.
        y: Target rows (m, d).
        features: Features of the kernel, see `kernel_features`.
        primal: Whether A acts on the features themselves.
        prepared: What is done to rows before the kernel, for instance a division by their norms.
    """

    def __init__(
        self, x: Tensor, y: Tensor, features: KernelRows, *, primal: bool, prepared: Prepared
    ) -> None:
        self.samples, self.features, self.prepared = (x, y), features, prepared
        first, second = (sums_of(each, self._featured) for each in self.samples)
        both = first + second
        self.feature_mean, self.lift = both.mean, features
        self.factor, gap = root_of(both.scatter), (first.mean - second.mean)[:, None]
        self.projection = None if primal else dual_of_gram(both.gram)  # (f, r)
        if self.projection is not None:
            self.lift = features.times(self.projection)
            self.factor = self.factor @ self.projection
        self.mean, self._gap = self._in_rows(both.mean), self._in_rows(gap)

    def gap(self) -> Tensor:
        """As in `PooledRows`."""
        return self._gap

    def gaps(self, columns: Tensor) -> Tensor:
        """As in `PooledRows`."""
        found = torch.zeros_like(self.feature_mean)[:, None]
        for block, part in zip(self._blocks(), self._split(columns), strict=True):
            found = found + (self._featured(block) - self.feature_mean).T @ part
        return self._in_rows(found)

    def embedded(self, a: Tensor) -> Tensor:
        """As in `PooledRows`."""
        embed, rows = self._embedding(a), sum(map(len, self.samples))
        z = self.samples[0].new_empty(rows, a.shape[1])
        for out, block in zip(self._split(z), self._blocks(), strict=True):
            out.copy_(embed(block))
        return z

    def signs(self, a: Tensor) -> Tensor:
        """As in `PooledRows`."""
        return furthest_signs(self.samples, self._embedding(a)).to(a)

    def _embedding(self, a: Tensor) -> Prepared:
        """Rows of a sample -> their coordinates along A, centred."""
        along = a if self.projection is None else self.projection @ a  # (f, p)
        if self.features.landmarks is None:  # the features are the rows
            return lambda x: (self.prepared(x) - self.feature_mean.to(x)) @ along.to(x)
        lift, offset = self.features.times(along), self.feature_mean @ along
        return lambda x: lift(self.prepared(x).double()) - offset

    def _featured(self, x: Tensor) -> Tensor:
        rows = self.prepared(x)
        return rows if self.features.landmarks is None else self.features(rows.double())

    def _in_rows(self, features: Tensor) -> Tensor:
        return features if self.projection is None else self.projection.T @ features

    def _blocks(self) -> Iterator[Tensor]:
        return chain.from_iterable(each.split(BLOCK) for each in self.samples)

    def _split(self, rows: Tensor) -> Iterator[Tensor]:
        """Rows (N, k) in the blocks of the samples."""
        own = rows.split([len(each) for each in self.samples])
        return chain.from_iterable(each.split(BLOCK) for each in own)
