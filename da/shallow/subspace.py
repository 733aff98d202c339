"""Subspace methods: each domain's rows live near a linear subspace, and the two subspaces are joined.

    PrincipalComponents    one subspace of both domains' rows together: the baseline, no adaptation
    SubspaceAlignment      source -> (x - mean_s) P_s P_s^T P_t,    target -> (x - mean_t) P_t
    GFK                    x -> x G^(1/2),   G = integral over t in [0, 1] of Phi(t) Phi(t)^T, Phi the geodesic from P_s to P_t

P_s, P_t (d, k) hold the principal axes of the source and of the target, as orthonormal columns.

Fernando, Habrard, Sebban, Tuytelaars: Unsupervised Visual Domain Adaptation Using Subspace Alignment. ICCV 2013, equations 1 to 3.
Gong, Shi, Sha, Grauman: Geodesic Flow Kernel for Unsupervised Domain Adaptation. CVPR 2012, equations 4 to 7.
"""

from __future__ import annotations

from numbers import Integral
from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, like
from da.kernels.distances import centred
from da.shallow.adapter import Adapter, Domain


@final
class PrincipalComponents(Adapter):
    """Principal components of the rows of both domains together, x -> (x - mean) P: the baseline beside the adapted subspaces.

    n_components: the width k of the result, at most the rank of the centred rows (ValueError).
        None for 100, or n + m - 1 or d where that is less. Computed by a full SVD, nothing is drawn.
    """

    def __init__(self, *, n_components: int | None = None) -> None:
        self.n_components = n_components

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns the axes (d, k) from source (n, d) and target (m, d) together; labels are not used."""
        pooled = torch.cat(self._samples(source, target))
        k = (
            min(100, len(pooled) - 1, pooled.shape[1])
            if self.n_components is None
            else self.n_components
        )
        self.axes_ = principal_axes(pooled, k, "pooled rows")
        self.mean_ = pooled.mean(0)
        return self

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return (x - self.mean_) @ self.axes_


@final
class SubspaceAlignment(Adapter):
    """Subspace alignment: source rows x -> (x - mean_s) P_s P_s^T P_t, target rows x -> (x - mean_t) P_t, both (k,).

    Each domain is centred by its own mean, as in the paper, where the rows are standardised.
    n_components: k, at most the rank of either domain's centred rows (ValueError). None: by `subspace_disagreement`; the paper bounds k
        by a stability theorem and cross-validates. Kept as `n_components_`.
    Fernando et al., ICCV 2013.
    """

    def __init__(self, *, n_components: int | None = None) -> None:
        self.n_components = n_components

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns both subspaces from source (n, d) and target (m, d); labels are not used."""
        x, y = self._samples(source, target)
        self.n_components_ = (
            subspace_disagreement(x, y) if self.n_components is None else self.n_components
        )
        source_axes, target_axes = (
            principal_axes(x, self.n_components_, "source"),
            principal_axes(y, self.n_components_, "target"),
        )
        self.means_ = {"source": x.mean(0), "target": y.mean(0)}
        self.maps_ = {
            "source": source_axes @ (source_axes.T @ target_axes),
            "target": target_axes,
        }  # (d, k) each
        return self

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return (x - self.means_[domain]) @ self.maps_[domain]


@final
class GFK(Adapter):
    """Geodesic flow kernel: x -> x G^(1/2) for both domains, so that <z, z'> = x^T G x' and Euclidean neighbours are the kernel's.

    G (d, d) integrates the projections onto all subspaces on the geodesic from the source's k principal axes to the target's. As in
    the paper only the axes are found on centred rows; the map subtracts nothing. `basis_` and `root_`, both (d, 2 k), hold
    G^(1/2) = root basis^T; no (d, d) matrix is made. The paper's G has no factor 1/2: it is twice ours.

    n_components: k, at most the rank of either domain's centred rows (ValueError). None: by `subspace_disagreement`. Kept as
        `n_components_`.
    Where two or more principal angles are pi/2 there are several geodesics, and G is that of one of them.
    Gong et al., CVPR 2012.
    """

    def __init__(self, *, n_components: int | None = None) -> None:
        self.n_components = n_components

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns G from source (n, d) and target (m, d); labels are not used."""
        x, y = self._samples(source, target)
        self.n_components_ = (
            subspace_disagreement(x, y) if self.n_components is None else self.n_components
        )
        first, second = (
            principal_axes(x, self.n_components_, "source"),
            principal_axes(y, self.n_components_, "target"),
        )
        self.root_, self.basis_ = flow_root(first, second)
        return self

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return (x @ self.root_) @ self.basis_.T


def geodesic_flow_kernel(source_axes: Array, target_axes: Array) -> Array:
    """G = integral over t in [0, 1] of Phi(t) Phi(t)^T, (d, d): Phi(0), Phi(1) span the columns source_axes, target_axes (d, k).

    Symmetric, eigenvalues in [0, 1], rank at most 2 k, trace k. Raises ValueError for columns that are not orthonormal or of another shape.
    """
    first, second = check_two_samples(
        source_axes, target_axes, names=("source_axes", "target_axes")
    )
    for name, axes in (("source_axes", first), ("target_axes", second)):
        gap = float(
            (axes.T @ axes - torch.eye(axes.shape[1], dtype=axes.dtype, device=axes.device))
            .abs()
            .max()
        )
        if axes.shape != first.shape or not gap < axes.shape[0] * 4 * torch.finfo(axes.dtype).eps:
            raise ValueError(
                f"{name} must have orthonormal columns, of the shape of source_axes; got {tuple(axes.shape)}, {gap:.1e} away"
            )
    root, _ = flow_root(first.double(), second.double())
    return like((root @ root.T).to(first.dtype), source_axes)


def flow_root(source_axes: Tensor, target_axes: Tensor) -> tuple[Tensor, Tensor]:
    """root and basis, both (d, 2 k), with G^(1/2) = root basis^T, G = root root^T and the basis' columns orthonormal or 0.

    With a_i in the source's subspace, c_i orthogonal to it and angles theta_i: Phi_i(t) = a_i cos(t theta_i) + c_i sin(t theta_i), and
    G = sum_i [a_i c_i] (I + [[s, r], [r, -s]]) / 2 [a_i c_i]^T with s = sin(2 theta) / (2 theta), r = sin(theta)^2 / theta.
    """
    left, cosine, right = torch.linalg.svd(source_axes.T @ target_axes)
    a = source_axes @ left  # (d, k)
    residual = target_axes @ right.T - a * cosine  # (d, k): c_i sin(theta_i)
    residual = residual - source_axes @ (
        source_axes.T @ residual
    )  # once more: small residuals keep their direction
    sine = torch.linalg.vector_norm(residual, dim=0)
    c = residual / sine.clamp(min=torch.finfo(sine.dtype).tiny)
    theta = torch.atan2(sine, cosine)  # acos would lose half of the digits near 0
    # The square root of a 2 x 2 matrix M of trace 1 is (M + q I) / sqrt(1 + 2 q), q^2 = det M.
    gap = _one_minus_sinc(2 * theta)  # 1 - s, which is of the order of theta^2
    mixed = theta.sin() * torch.sinc(theta / torch.pi) / 2  # r / 2
    q = (gap * (2 - gap) / 4 - mixed.square()).clamp(min=0).sqrt()
    scale = (1 + 2 * q).rsqrt()
    aa, ac, cc = (1 - gap / 2 + q) * scale, mixed * scale, (gap / 2 + q) * scale  # (k,) each
    return torch.cat([a * aa + c * ac, a * ac + c * cc], dim=1), torch.cat([a, c], dim=1)


def _one_minus_sinc(x: Tensor) -> Tensor:
    """1 - sin(x) / x to full relative precision: by its series below 0.1, where the difference would cancel."""
    u = x.square()
    series = u / 6 * (1 - u / 20 * (1 - u / 42 * (1 - u / 72)))
    return torch.where(x < 0.1, series, 1 - torch.sinc(x / torch.pi))


def principal_axes(x: Tensor, k: int, name: str) -> Tensor:
    """The k directions of greatest variance of rows x (n, d): orthonormal columns (d, k), the row furthest out positive.

    Raises ValueError, which calls the rows `name`, for k below 1 or above the rank of the centred rows: further axes would be arbitrary.
    """
    axes = _all_axes(x)
    if axes.shape[1] == 0:
        raise ValueError(f"the {name} must vary: their rows are all the same and span no subspace")
    if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= axes.shape[1]:
        raise ValueError(
            f"n_components must be a whole number from 1 to {axes.shape[1]}, the rank of the centred {name}; got {k!r}"
        )
    return axes[:, :k]


def _all_axes(x: Tensor) -> Tensor:
    """The principal axes of rows x (n, d) by falling variance: (d, rank)."""
    left, values, axes = torch.linalg.svd(centred(x), full_matrices=False)
    rank = int((values > values[0] * max(x.shape) * torch.finfo(x.dtype).eps).sum())
    furthest = left.gather(
        0, left.abs().argmax(0, keepdim=True)
    )  # by the projections left * values
    return (axes.T * furthest.sign())[:, :rank]


def subspace_disagreement(source: Tensor, target: Tensor) -> int:
    """The k at which source (n, d) and target (m, d) disagree with their union: the least k with D(k) >= 0.995, or the greatest tried.

    D(k) = (sin alpha_k + sin beta_k) / 2, the greatest principal angles between the k axes of source or target and those of both together.
    The paper takes D(k) = 1, which rounding never reaches. Tried is k up to half the width and the least of the three ranks.
    Gong et al., CVPR 2012, equation 8.
    """
    first, second, both = (
        _all_axes(rows) for rows in (source, target, torch.cat([source, target]))
    )
    most = min(first.shape[1], second.shape[1], max(1, source.shape[1] // 2))
    if most < 1:
        raise ValueError("source and target must vary: rows that are all the same span no subspace")
    for k in range(1, most + 1):
        cosines = torch.stack(
            [torch.linalg.svdvals(axes[:, :k].T @ both[:, :k])[-1] for axes in (first, second)]
        )
        if float((1 - cosines.square()).clamp(min=0).sqrt().mean()) >= 0.995:
            return k
    return most
