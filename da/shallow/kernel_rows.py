"""Kernels as rows of numbers, so that kernel methods need no N x N matrix unless the kernel asks.

TCA, JDA, BDA, TJM and SSTCA look for A in z = A^T k(x). All that they need of a kernel is a map
x (k, d) -> rows (k, r). `kernel_rows` chooses it.

Over the pooled rows X (N, d) of both samples, K_ij = k(x_i, x_j), such a method seeks A (N, p) with
unit columns and embeds K A.

    linear     K = X X^T = U S^2 U^T. The part of A outside the range of U only costs, so A = U B
               with |b| = |a|, and K A = (U S^2) B. The rows U S^2 have width r = rank X. No N x N
               matrix is made if d < N.
    rbf        exp(-gamma |x - y|^2). The rows are the rows of K. With landmarks L, Nystroem's
               approximation K = C W^+ C^T has rank at most |L|, with C = k(X, L) and W = k(L, L).
               It is the linear kernel on C W^(-1/2).
    primal     A (d, p) acts on x itself. The rows are x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from da.arrays.integers import is_whole
from da.kernels.bandwidths import mean_bandwidth

Kernel = Literal["linear", "rbf", "primal"]
TILE = 256  # rows at a time: allocating more at once takes longer than the product
WIDE_TILE = 2048  # rows at a time for a Gram matrix: each tile is one addition to it
_CUT = 1e-10  # inverses leave out eigenvalues below this part of the largest: rounding would grow
_ROUNDING = 1e-14  # an eigenvalue below this part of the largest counts as 0


@dataclass(frozen=True)
class KernelRows:
    """A map x (k, d) -> (k, r): x or k(x, landmarks), times `projection` if there is one.

    Attributes:
        landmarks: Rows (l, d) that the rbf kernel compares with. None: no kernel, x itself.
        gamma: One over a squared length, for the rbf kernel.
        projection: A matrix (d or l, r), or None.
    """

    landmarks: Tensor | None = None
    gamma: float = 1.0
    projection: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Map x (k, d) to its rows (k, r)."""
        x = x.detach()  # what is written in place passes no gradient
        rows = x.new_empty(len(x), self._width(x))
        # Filled in place: a list of tiles and their concatenation would need twice the memory.
        for part, tile in zip(rows.split(TILE), x.split(TILE), strict=True):
            self._fill(part, tile)
        return rows

    def gram(self, x: Tensor) -> Tensor:
        """R^T R (r, r) of the rows R of x, which are not kept."""
        return sum((rows.T @ rows for rows in map(self, x.split(WIDE_TILE))), start=x.new_zeros(()))

    def times(self, projection: Tensor) -> KernelRows:
        """These rows times `projection` (r, s)."""
        if self.projection is not None:
            projection = self.projection @ projection
        return KernelRows(self.landmarks, self.gamma, projection)

    def _width(self, x: Tensor) -> int:
        if self.projection is not None:
            return self.projection.shape[1]
        return x.shape[1] if self.landmarks is None else len(self.landmarks)

    def _fill(self, out: Tensor, x: Tensor) -> None:
        """Write the rows of x (t, d) into out (t, r)."""
        if self.landmarks is not None and self.projection is None:
            _gaussian(x, self.landmarks, self.gamma, out=out)
            return
        rows = x if self.landmarks is None else _gaussian(x, self.landmarks, self.gamma)
        if self.projection is None:
            out.copy_(rows)
        else:
            torch.mm(rows, self.projection, out=out)


def kernel_rows(
    x: Tensor, *, kernel: Kernel, gamma: float | None, n_landmarks: int | None, random_state: int
) -> KernelRows:
    """Choose the map to rows for the pooled samples, as the module describes.

    Args:
        x: Pooled rows (N, d) of both samples.
        kernel: "linear", "rbf" or "primal".
        gamma: One over a squared length. None: one over the mean squared distance of the rows.
        n_landmarks: How many landmarks. None: the exact kernel.
        random_state: Seed of the draw of landmarks, which does not depend on the order of the rows.

    Returns:
        The map, for rows of either sample and for new rows.
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
    """Choose features of the kernel, from the same arguments as `kernel_rows`.

    Returns:
        x itself for "linear", Nystroem's C W^(-1/2) for "rbf" with landmarks, and K for "rbf"
        without landmarks.
    """
    if kernel != "rbf":
        return KernelRows()
    gamma = _default_gamma(x) if gamma is None else gamma
    if n_landmarks is None:
        return KernelRows(x, gamma)
    features = KernelRows(_draw(x, n_landmarks, random_state), gamma)
    assert features.landmarks is not None
    return features.times(inverse_root(features(features.landmarks)))


def inverse_root(gram: Tensor) -> Tensor:
    """Find T (l, r) such that T T^T is the pseudo-inverse of a Gram matrix.

    Args:
        gram: Positive semi-definite (l, l), of rank r.

    Returns:
        T (l, r).
    """
    values, vectors = torch.linalg.eigh(gram)
    keep = values > _CUT * values[-1]
    return vectors[:, keep] / values[keep].sqrt()


def _dual(features: KernelRows, x: Tensor) -> Tensor:
    """V S (r, s) of the features F = U S V^T of x, so that F V S = U S^2.

    It comes from F^T F or from F F^T, whichever is smaller.
    """
    if features.projection is None and len(x) < x.shape[1]:
        rows = features(x)
        values, u = torch.linalg.eigh(rows @ rows.T)
        return rows.T @ u[:, _above_rounding(values)]
    return dual_of_gram(features.gram(x))


def dual_of_gram(gram: Tensor) -> Tensor:
    """V S (f, r) of a Gram matrix V S^2 V^T (f, f) of features, of rank r."""
    values, v = torch.linalg.eigh(gram)
    keep = _above_rounding(values)
    return v[:, keep] * values[keep].sqrt()


def _above_rounding(values: Tensor) -> Tensor:
    """Which eigenvalues (r,) of a Gram matrix, rising, are more than rounding."""
    if not bool(values.isfinite().all()):
        raise torch.linalg.LinAlgError("the Gram matrix overflows")
    return values > _ROUNDING * values[-1]


def _gaussian(x: Tensor, y: Tensor, gamma: float, out: Tensor | None = None) -> Tensor:
    """exp(-gamma |x_i - y_j|^2), (k, l), without further memory of that size.

    Both are centred first, so that the subtraction of squares loses fewer digits.
    """
    origin = y.mean(0)
    x, y = x - origin, y - origin
    distances = torch.addmm(y.square().sum(1).expand(len(x), -1), x, y.T, alpha=-2, out=out)
    distances += x.square().sum(1, keepdim=True)
    return distances.clamp_(min=0).mul_(-gamma).exp_()


def _default_gamma(x: Tensor) -> float:
    """One over the mean squared distance of rows x (N, d)."""
    mean = float(mean_bandwidth(x)) if len(x) > 1 else 0.0
    return 1 / mean if mean > 0 else 1.0  # if all rows coincide, the kernel is 1 for every gamma


def _draw(x: Tensor, count: int, random_state: int) -> Tensor:
    """Draw `count` of the rows x (N, d), or all of them if there are no more.

    The rows are sorted along a random axis first: the draw does not depend on their order.
    """
    generator = torch.Generator().manual_seed(random_state)
    axis = torch.randn(x.shape[1], generator=generator, dtype=torch.float64).to(x.device)
    places = [(part * axis).sum(dim=1) for part in x.split(WIDE_TILE)]
    order = torch.cat(places).argsort()  # only equal rows have equal places
    chosen = torch.randperm(len(x), generator=generator)[:count].to(x.device)
    return x[order[chosen]]


def check_kernel(
    kernel: str,
    gamma: float | None,
    n_landmarks: int | None,
    *,
    allowed: tuple[str, ...] = get_args(Kernel),
) -> None:
    """Check the parameters of a kernel.

    Args:
        kernel: Must be one of `allowed`.
        gamma: Must be None or a finite number > 0.
        n_landmarks: Must be None, or a whole number >= 1 with kernel "rbf".
        allowed: The kernels that the method offers.

    Raises:
        ValueError: A parameter is out of its range.
    """
    if kernel not in allowed:
        raise ValueError(f"kernel must be {' or '.join(map(repr, allowed))}; got {kernel!r}")
    if gamma is not None and not 0 < gamma < float("inf"):
        raise ValueError(f"gamma must be None or a finite number > 0; got {gamma!r}")
    possible = kernel == "rbf" and is_whole(n_landmarks) and (n_landmarks or 0) >= 1
    if n_landmarks is not None and not possible:
        raise ValueError(
            "n_landmarks must be None, or a whole number >= 1 with kernel='rbf'; "
            f"got {n_landmarks!r} with {kernel!r}"
        )
