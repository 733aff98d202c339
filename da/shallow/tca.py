"""Transfer component analysis: a projection that brings the means of the domains together.

Take TCA if the source has no labels or they are not to be used. Take SSTCA if the labels of the
source and the neighbourhoods of the rows are to shape the projection.

    TCA     min_A  tr A^T (K M K + regularization I) A    subject to    A^T K H K A = I
    SSTCA   min_A  tr A^T (K (M + locality L) K + regularization I) A
                                                          subject to    A^T K H K_y H K A = I

The embedding is z = A^T k(x). N = n + m is the number of rows and H = I - 1 1^T / N.
M = e e^T / |e|^2 with e = 1/n for a source row and -1/m for a target row, so A^T K M K A is the
squared distance of the embedded means, scaled. L is the Laplacian of the graph of neighbours over
all rows. K_y = supervision y y^T + (1 - supervision) I, where (y y^T)_ij = 1 for two source rows of
one class, else 0.
"""

from __future__ import annotations

from math import isfinite
from typing import Self

import numpy as np
import torch
from torch import Tensor

from da.arrays.matrices import Array
from da.arrays.random_states import RandomState
from da.shallow.adapter import check_labels
from da.shallow.graph import graph_laplacian
from da.shallow.kernel_rows import Kernel, check_kernel
from da.shallow.krylov import Root
from da.shallow.pooled_rows import PooledRows
from da.shallow.spectral import directions, low_rank_root, oriented
from da.shallow.spectral_adapter import SpectralAdapter, check_spectral

NEIGHBOURS = 5  # of a row of SSTCA's graph, by default


class TCA(SpectralAdapter):
    """Project both domains so that their means meet and the variance stays; labels are not used.

    Use it before a classifier if the domains differ in location. It is the classical baseline of
    kernel adaptation.

        min_A  tr A^T (K M K + regularization I) A    subject to    A^T K H K A = I

    The embedding is z = A^T k(x). A^T K M K A is the squared distance of the embedded means.

    Args:
        n_components: Width of the embedding, >= 1. None: 100, or fewer if the rank of the data is
            lower.
        kernel: "linear", "rbf" (exp(-gamma ||x - y||^2)) or "primal" (A acts on the rows
            themselves).
        gamma: For "rbf", one over a squared length, > 0. None: one over the mean squared distance
            of the pooled rows.
        regularization: Weight of ||A||^2 beside M, whose norm is 1; > 0. Small values bring the
            means together. Large values leave PCA in the feature space.
        n_landmarks: For "rbf". None: the exact kernel, in O(N^2) memory for N pooled rows. A
            number: Nystroem's approximation by that many rows, in O(N n_landmarks) memory.
        random_state: Source of the draw of landmarks: None, an int, or a RandomState or Generator
            of NumPy. Each `fit` takes one number from such an object.

    Raises:
        ValueError: In `fit`, if a parameter is out of its range or `n_components` is above the
            rank.

    Example:
        >>> import numpy as np
        >>> from da.shallow import TCA
        >>> source = np.array([[0.0, -1.0], [0.0, 0.0], [0.0, 4.0]])
        >>> target = source + [9.0, 0.0]  # column 0 tells the domains apart, column 1 does not
        >>> adapter = TCA(n_components=1, kernel="primal", regularization=0.01).fit(source, target)
        >>> adapter.transform(target, domain="target").round(2).tolist()
        [[-1.0], [0.0], [4.0]]

    Paper:
        Pan, Tsang, Kwok, Yang: Domain adaptation via transfer component analysis. IEEE Transactions
            on Neural Networks 22, 2011.

    Differences:
        M has Frobenius norm 1, as in the recipe for TCA of Long et al. (ICCV 2013), whose tables
        this reproduces. Each column of A has norm 1 in place of A^T K H K A = I, also as in those
        tables. Kernel "primal" is an addition: the same problem with K = X^T. The landmarks are an
        addition too.
    """

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn A from source (n, d) and target (m, d); labels are not used."""
        x, y = self._rows(source, target)
        check_kernel(self.kernel, self.gamma, self.n_landmarks)
        check_spectral(self.n_components, self.regularization)
        rows = self._pooled(x, y, lambda z: z)
        gap = _scaled_gap(rows, len(x), len(y))  # (r, 1)
        found = rows.directions(low_rank_root(gap, self.regularization), self.n_components)
        self.components_ = found * rows.signs(found)
        return self


class SSTCA(SpectralAdapter):
    """Project as TCA does, keep neighbours near each other, and depend on the source's labels.

    Use it in place of TCA if the source has labels. It takes O(r^3) time for kernel rows of width
    r. For the exact rbf kernel r is the number N of pooled rows, so take landmarks for large N.

        min_A  tr A^T (K (M + locality L) K + regularization I) A
        subject to  A^T K H (supervision y y^T + (1 - supervision) I) H K A = I

    L is the Laplacian of the graph of neighbours, scaled to Frobenius norm 1 as M is.

    Args:
        n_components: Width of the embedding, >= 1. None: 100, or fewer if the rank is lower.
        kernel: "linear", "rbf" (exp(-gamma ||x - y||^2)) or "primal" (A acts on the rows
            themselves).
        gamma: For "rbf", one over a squared length, > 0. None: one over the mean squared distance
            of the pooled rows.
        regularization: Weight of ||A||^2 beside M, whose norm is 1; > 0.
        supervision: Share of the labels in K_y, in [0, 1]; default 0.5. With 0 the variance of TCA
            remains.
        locality: Weight of the Laplacian, >= 0; default 1.
        neighbours: Edges of a row of the graph, from 1 to n + m - 1. None (default): 5, or
            n + m - 1 if there are fewer rows. An edge weighs exp(-d^2 / s), s the mean squared
            distance over all edges.
        n_landmarks: For "rbf". None: the exact kernel. A number: Nystroem's approximation by that
            many rows.
        random_state: Source of the draw of landmarks: None, an int, or a RandomState or Generator
            of NumPy. Each `fit` takes one number from such an object.

    Raises:
        TypeError: In `fit`, if there are no labels.
        ValueError: In `fit`, if a parameter is out of its range, `n_components` is above the rank,
            or there is only one class.

    Example:
        >>> import numpy as np
        >>> from da.shallow import SSTCA
        >>> source = np.array([[-9.0, -1.0], [9.0, -1.0], [-9.0, 2.0], [9.0, 2.0]])
        >>> labels = np.array([0, 0, 1, 1])  # column 1 tells the classes apart, column 0 varies
        >>> adapter = SSTCA(n_components=1, kernel="primal", supervision=1.0, neighbours=1)
        >>> adapter.fit(source, source[:2], labels).transform(source).round(2).tolist()
        [[-1.0], [-1.0], [2.0], [2.0]]

    Paper:
        Pan, Tsang, Kwok, Yang: Domain adaptation via transfer component analysis. IEEE Transactions
            on Neural Networks 22, 2011.

    Differences:
        M and the Laplacian have Frobenius norm 1. The paper scales neither, and divides the
        locality term by N^2. Each column of A has norm 1, as in the tables of Long et al. (ICCV
        2013), in place of the constraint above. Kernel "primal" and the landmarks are additions.
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
        neighbours: int | None = None,
        n_landmarks: int | None = None,
        random_state: RandomState = 0,
    ) -> None:
        super().__init__(
            n_components=n_components,
            kernel=kernel,
            gamma=gamma,
            regularization=regularization,
            n_landmarks=n_landmarks,
            random_state=random_state,
        )
        self.supervision = supervision
        self.locality = locality
        self.neighbours = neighbours

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn A from source (n, d), target (m, d) and source_labels (n,)."""
        x, y = self._samples(source, target)
        self._check()
        _, codes = check_labels(source_labels, x)
        z = torch.cat([x, y])
        held = self._held(x, y, lambda z: z)
        rows, gap = held.rows, _scaled_gap(held, len(x), len(y))
        neighbours = min(NEIGHBOURS, len(z) - 1) if self.neighbours is None else self.neighbours
        laplacian = graph_laplacian(z, neighbours)
        smoothness = rows.T @ (laplacian @ rows)  # (r, r)
        penalty = gap @ gap.T + self.locality / laplacian.values().norm() * smoothness
        penalty.diagonal().add_(self.regularization)
        # In units of the penalty of each coordinate, so that small coordinates are not lost beside
        # large ones to rounding.
        unit = penalty.diagonal().rsqrt()  # (r,)
        root = dense_root(unit[:, None] * penalty * unit)
        factor = self._dependence(rows, codes) * unit
        found = unit[:, None] * directions(root, self.n_components, factor=factor)
        self.components_ = oriented(found / found.norm(dim=0), rows)
        return self

    def _dependence(self, rows: Tensor, codes: Tensor) -> Tensor:
        """D (c + k, r) with D^T D = R^T K_y R."""
        labels = torch.nn.functional.one_hot(codes).double()  # (n, c)
        by_class = labels.T @ rows[: len(codes)]  # (c, r)
        tall = len(rows) > rows.shape[1]
        rest = torch.linalg.qr(rows, mode="r").R if tall else rows
        parts = [self.supervision**0.5 * by_class, (1 - self.supervision) ** 0.5 * rest]
        return torch.cat(parts)

    def _check(self) -> None:
        check_kernel(self.kernel, self.gamma, self.n_landmarks)
        check_spectral(self.n_components, self.regularization)
        if not 0 <= self.supervision <= 1:
            raise ValueError(f"supervision must be in [0, 1]; got {self.supervision!r}")
        if not (self.locality >= 0 and isfinite(self.locality)):
            raise ValueError(f"locality must be a finite number >= 0; got {self.locality!r}")


def _scaled_gap(rows: PooledRows, n: int, m: int) -> Tensor:
    """R^T e / |e| (r, 1), with which M = e e^T / |e|^2 has norm 1."""
    return rows.gap() / (1 / n + 1 / m) ** 0.5


def dense_root(penalty: Tensor) -> Root:
    """Return x -> S^(-1/2) x for a positive definite S (r, r)."""
    values, vectors = torch.linalg.eigh(penalty)
    # A smaller eigenvalue is rounding, and may even be negative.
    values = values.clamp(min=float(values[-1]) * torch.finfo(values.dtype).eps)
    return lambda x: vectors @ ((vectors.T @ x) * values.rsqrt()[:, None])
