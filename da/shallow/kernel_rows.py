"""Kernels as rows: what a method that solves for A in z = A^T k(x) needs of a kernel is a map x (k, d) -> rows (k, r), and no more.

Over the pooled rows X (N, d) of both samples, K_ij = k(x_i, x_j), such a method seeks A (N, p) with unit columns and embeds K A.

    linear     K = X X^T = U S^2 U^T. What A has outside of U's range only costs, so A = U B, with |b| = |a|, and K A = (U S^2) B:
               rows of width r = rank X, and no N x N matrix where d < N
    rbf        exp(-gamma |x - y|^2): the rows of K itself; or, with landmarks L, Nystroem's K = C W^+ C^T of rank at most |L|,
               C = k(X, L) and W = k(L, L), which is the linear kernel on C W^(-1/2)
    primal     A (d, p) acts on x itself: the rows are x
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from da.kernels.bandwidths import mean_bandwidth

Kernel = Literal["linear", "rbf", "primal"]
TILE = 256  # rows at a time: memory that is new each time costs more than the product
WIDE_TILE = 2048  # of a Gram matrix, which each tile adds to
_CUT = 1e-10  # of the largest eigenvalue: below it, an inverse would blow rounding up
_ROUNDING = 1e-14  # of the largest eigenvalue: what lies below is 0


@dataclass(frozen=True)
class KernelRows:
    """x (k, d) -> (k, r): x or k(x, landmarks), times `projection` if there is one."""

    landmarks: Tensor | None = None  # (l, d)
    gamma: float = 1.0  # one over a squared length
    projection: Tensor | None = None  # (d or l, r)

    def __call__(self, x: Tensor) -> Tensor:
        last = (
            self.projection
            if self.projection is not None
            else x
            if self.landmarks is None
            else self.landmarks.T
        )
        rows = x.new_empty(
            len(x), last.shape[1]
        )  # filled in place: the tiles together would double it
        for part, tile in zip(rows.split(TILE), x.split(TILE), strict=True):
            self._tile(tile, part)
        return rows

    def gram(self, x: Tensor) -> Tensor:
        """R^T R (r, r) of the rows R of x, which are not kept."""
        return sum((rows.T @ rows for rows in map(self, x.split(WIDE_TILE))), start=x.new_zeros(()))

    def times(self, projection: Tensor) -> KernelRows:
        """These rows times `projection` (r, s)."""
        return KernelRows(
            self.landmarks,
            self.gamma,
            projection if self.projection is None else self.projection @ projection,
        )

    def _tile(self, x: Tensor, out: Tensor) -> None:
        if self.landmarks is not None and self.projection is None:
            _gaussian(x, self.landmarks, self.gamma, out=out)
            return
        rows = x if self.landmarks is None else _gaussian(x, self.landmarks, self.gamma)
        out.copy_(rows if self.projection is None else rows @ self.projection)


def kernel_rows(
    x: Tensor, *, kernel: Kernel, gamma: float | None, n_landmarks: int | None, random_state: int
) -> KernelRows:
    """The map to rows for the pooled samples x (N, d), as the module says. gamma None: one over the mean squared distance of rows.

    Landmarks are drawn among the rows of x in an order that does not depend on the order given.
    """
    if kernel == "primal":
        return KernelRows()
    features = kernel_features(
        x, kernel=kernel, gamma=gamma, n_landmarks=n_landmarks, random_state=random_state
    )
    if kernel == "rbf" and n_landmarks is None:
        return features
    return features.times(_dual(features, x))


def kernel_features(
    x: Tensor, *, kernel: Kernel, gamma: float | None, n_landmarks: int | None, random_state: int
) -> KernelRows:
    """x for the linear kernel; Nystroem's C W^(-1/2) for rbf with landmarks, K for rbf without."""
    if kernel != "rbf":
        return KernelRows()
    gamma = _default_gamma(x) if gamma is None else gamma
    if n_landmarks is None:
        return KernelRows(x, gamma)
    features = KernelRows(_draw(x, n_landmarks, random_state), gamma)
    assert features.landmarks is not None
    return features.times(inverse_root(features(features.landmarks)))


def inverse_root(gram: Tensor) -> Tensor:
    """Columns T (l, r) with T T^T the pseudo-inverse of gram (l, l), positive semi-definite of rank r."""
    values, vectors = torch.linalg.eigh(gram)
    keep = values > _CUT * values[-1]
    return vectors[:, keep] / values[keep].sqrt()


def _dual(features: KernelRows, x: Tensor) -> Tensor:
    """V S (r, s) of the features F = U S V^T of x, so that F V S = U S^2: from the smaller of F^T F and F F^T."""
    rows = features(x) if features.projection is None and len(x) < x.shape[1] else None
    if rows is not None:
        values, u = torch.linalg.eigh(rows @ rows.T)
        return rows.T @ u[:, values > _ROUNDING * values[-1]]
    values, v = torch.linalg.eigh(features.gram(x))
    keep = values > _ROUNDING * values[-1]
    return v[:, keep] * values[keep].sqrt()


def _gaussian(x: Tensor, y: Tensor, gamma: float, out: Tensor | None = None) -> Tensor:
    """exp(-gamma |x_i - y_j|^2), (k, l), in the memory of the result; centred, for what the subtraction cancels."""
    origin = y.mean(0)
    x, y = x - origin, y - origin
    distances = torch.addmm(y.square().sum(1).expand(len(x), -1), x, y.T, alpha=-2, out=out)
    distances += x.square().sum(1, keepdim=True)
    return distances.clamp_(min=0).mul_(-gamma).exp_()


def _default_gamma(x: Tensor) -> float:
    mean = float(mean_bandwidth(x)) if len(x) > 1 else 0.0
    return 1 / mean if mean > 0 else 1.0  # all rows coincide: the kernel is 1 whatever gamma


def _draw(x: Tensor, count: int, random_state: int) -> Tensor:
    """`count` of the rows x (N, d), all of them where there are no more."""
    generator = torch.Generator().manual_seed(random_state)
    axis = torch.randn(x.shape[1], generator=generator, dtype=torch.float64).to(x.device)
    order = (x * axis).sum(dim=1).argsort()  # equal rows alone have equal places
    return x[order[torch.randperm(len(x), generator=generator)[:count].to(x.device)]]


def check_kernel(
    kernel: str,
    gamma: float | None,
    n_landmarks: int | None,
    *,
    allowed: tuple[str, ...] = get_args(Kernel),
) -> None:
    """Raises ValueError for a kernel that is not `allowed`, a gamma that is not > 0, and landmarks that the kernel has no use for."""
    if kernel not in allowed:
        raise ValueError(f"kernel must be {' or '.join(map(repr, allowed))}; got {kernel!r}")
    if gamma is not None and not 0 < gamma < float("inf"):
        raise ValueError(f"gamma must be None or a finite number > 0; got {gamma!r}")
    if n_landmarks is not None and (
        kernel != "rbf"
        or isinstance(n_landmarks, bool)
        or n_landmarks != int(n_landmarks)
        or n_landmarks < 1
    ):
        raise ValueError(
            f"n_landmarks must be None, or a whole number >= 1 with kernel='rbf'; got {n_landmarks!r} with {kernel!r}"
        )
