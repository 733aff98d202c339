"""Transfer component analysis: a projection in a feature space that brings the two means together and keeps the variance.

    TCA     min_A  tr A^T (K M K + regularization I) A   subject to   A^T K H K A = I                    z = A^T k(x)
    SSTCA   min_A  tr A^T (K (M + locality L) K + regularization I) A   subject to   A^T K H K_y H K A = I

With N = n + m rows, M = e e^T / |e|^2, e = 1/n for a source row and -1/m for a target row, so that A^T K M K A is the squared distance
of the embedded means, scaled; H = I - 1 1^T / N. In SSTCA, L is the Laplacian of the graph of neighbours over all rows and
K_y = supervision y y^T + (1 - supervision) I, where (y y^T)_ij = 1 for two source rows of one class, else 0.

    embedded = TCA(n_components=100).fit(source, target).transform(target)

Pan, Tsang, Kwok, Yang. Domain adaptation via transfer component analysis. IEEE Transactions on Neural Networks 2011. Deviations: M has
Frobenius norm 1, as in the tables of Long et al. (ICCV 2013), whose recipe for TCA this is; each column of A has norm 1 (see
da.shallow.spectral); kernel "primal" is the same with K = X^T.
"""

from __future__ import annotations

from abc import ABC
from math import isfinite
from typing import Self

import numpy as np
import torch
from torch import Tensor

from da.arrays import Array
from da.shallow.adapter import Adapter, Domain, check_labels
from da.shallow.graph import graph_laplacian
from da.shallow.kernel_rows import Kernel, KernelRows, check_kernel, kernel_rows
from da.shallow.spectral import (
    Root,
    directions,
    domain_gap,
    gram_of,
    low_rank_root,
    oriented,
    scaled,
)


class SpectralAdapter(Adapter, ABC):
    """z = A^T k(x), for both domains, rows seen in `fit` or not. `lift_` is k on rows, `components_` (r, p) is A.

    n_components: dimensions of the embedding; None for 100, or fewer where the data's rank is lower.
    kernel: "linear", "rbf" (exp(-gamma d^2); gamma None: one over the mean squared distance) or "primal" (K = X^T).
    regularization: > 0, beside M of norm 1; small ones bring the means together, large ones leave PCA in the feature space.
    n_landmarks: None for the exact rbf kernel, O(N^2) memory; else Nystroem's approximation by so many rows, O(N n_landmarks),
    drawn with `random_state`.
    """

    lift_: KernelRows
    components_: Tensor

    def __init__(
        self,
        *,
        n_components: int | None = None,
        kernel: Kernel = "linear",
        gamma: float | None = None,
        regularization: float = 1.0,
        n_landmarks: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.regularization = regularization
        self.n_landmarks = n_landmarks
        self.random_state = random_state

    def _lifted(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Chooses `lift_` for rows z (N, d); gives k of them, centred (N, r), and the mean that was taken off (r,)."""
        self.lift_ = kernel_rows(
            z,
            kernel=self.kernel,
            gamma=self.gamma,
            n_landmarks=self.n_landmarks,
            random_state=self.random_state,
        )
        rows = self.lift_(z)
        mean = rows.mean(0)
        rows -= mean
        return rows, mean

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return self.lift_(x) @ self.components_


class TCA(SpectralAdapter):
    """Transfer component analysis, without labels. The parameters are `SpectralAdapter`'s.

    `fit` raises as `Adapter.fit`, and ValueError for a parameter out of range or an n_components above the rank.
    """

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns from source (n, d) and target (m, d); labels are not looked at."""
        x, y = self._samples(source, target)
        check_kernel(self.kernel, self.gamma, self.n_landmarks)
        check_spectral(self.n_components, self.regularization)
        rows, _ = self._lifted(torch.cat([x, y]))
        root = low_rank_root(rows.T @ scaled(domain_gap(len(x), len(y), rows)), self.regularization)
        self.components_ = oriented(
            directions(root, self.n_components, gram=gram_of(rows), centred_rows=rows), rows
        )
        return self


class SSTCA(SpectralAdapter):
    """Semi-supervised transfer component analysis: dependence on the source's labels, and neighbours that stay neighbours.

    supervision: in [0, 1], the share of the label kernel in K_y; 0 leaves TCA's variance.
    locality: >= 0, the weight of the Laplacian, of Frobenius norm 1 as M is (the paper scales neither, and divides this one by N^2).
    neighbours: edges of a row of the graph; their weight is exp(-d^2 / s), s the mean squared distance over all edges.
    The other parameters are `SpectralAdapter`'s. O(r^3) time for
    rows of width r: N for the exact rbf kernel, so take landmarks for large N.

    `fit` raises as `TCA`, TypeError without labels, ValueError for labels of one class.
    """

    needs_labels = True

    def __init__(
        self,
        *,
        n_components: int | None = None,
        kernel: Kernel = "linear",
        gamma: float | None = None,
        regularization: float = 1.0,
        supervision: float = 0.5,
        locality: float = 1.0,
        neighbours: int = 5,
        n_landmarks: int | None = None,
        random_state: int = 0,
    ) -> None:
        super().__init__(
            n_components=n_components, kernel=kernel, gamma=gamma, regularization=regularization,
            n_landmarks=n_landmarks, random_state=random_state,
        )  # fmt: skip
        self.supervision = supervision
        self.locality = locality
        self.neighbours = neighbours

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns from source (n, d), target (m, d) and source_labels (n,)."""
        x, y = self._samples(source, target)
        self._check()
        _, codes = check_labels(source_labels, x)
        z = torch.cat([x, y])
        rows, _ = self._lifted(z)
        gap = rows.T @ scaled(domain_gap(len(x), len(y), rows))  # (r, 1)
        laplacian = graph_laplacian(z, self.neighbours)
        smoothness = rows.T @ (laplacian @ rows)  # (r, r)
        penalty = gap @ gap.T + self.locality / laplacian.values().norm() * smoothness
        penalty.diagonal().add_(self.regularization)
        by_class = rows[: len(x)].T @ torch.nn.functional.one_hot(codes).double()  # (r, c)
        dependence = (
            self.supervision * by_class @ by_class.T + (1 - self.supervision) * rows.T @ rows
        )
        self.components_ = oriented(
            directions(dense_root(penalty), self.n_components, gram=dependence), rows
        )
        return self

    def _check(self) -> None:
        check_kernel(self.kernel, self.gamma, self.n_landmarks)
        check_spectral(self.n_components, self.regularization)
        if not 0 <= self.supervision <= 1:
            raise ValueError(f"supervision must be in [0, 1]; got {self.supervision!r}")
        if not (self.locality >= 0 and isfinite(self.locality)):
            raise ValueError(f"locality must be a finite number >= 0; got {self.locality!r}")


def dense_root(penalty: Tensor) -> Root:
    """S^(-1/2) for S (r, r), positive definite."""
    values, vectors = torch.linalg.eigh(penalty)
    return lambda x: vectors @ ((vectors.T @ x) * values.rsqrt()[:, None])


def check_spectral(n_components: int | None, regularization: float) -> None:
    """Raises ValueError for an n_components that is not None or a whole number >= 1, and a regularization that is not > 0."""
    if n_components is not None and (
        isinstance(n_components, bool) or n_components != int(n_components) or n_components < 1
    ):
        raise ValueError(f"n_components must be None or a whole number >= 1; got {n_components!r}")
    if not (regularization > 0 and isfinite(regularization)):
        raise ValueError(f"regularization must be a finite number > 0; got {regularization!r}")


def check_rounds(n_iter: int) -> None:
    """Raises ValueError for a number of rounds that is not a whole one >= 1."""
    if isinstance(n_iter, bool) or n_iter != int(n_iter) or n_iter < 1:
        raise ValueError(f"n_iter must be a whole number of rounds, >= 1; got {n_iter!r}")
