"""Subspace methods: the rows of each domain lie near a linear subspace, and the two are joined.

Take them if there are more columns than matter. They need no labels.

    PrincipalComponents    one subspace of the rows of both domains: the baseline, no adaptation
    SubspaceAlignment      source -> (x - mean_s) P_s P_s^T P_t,    target -> (x - mean_t) P_t
    GFK                    x -> x G^(1/2),    G = integral over t in [0, 1] of Phi(t) Phi(t)^T

P_s and P_t (d, k) hold the principal axes of the source and of the target, as orthonormal columns.
Phi is the geodesic from P_s to P_t.
"""

from __future__ import annotations

from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from da.arrays.matrices import Array
from da.shallow.adapter import Adapter, Domain
from da.shallow.geodesic_flow import flow_root
from da.shallow.many_rows import mean_of
from da.shallow.principal_axes import principal_axes, subspace_disagreement


@final
class PrincipalComponents(Adapter):
    """Project the rows of both domains onto their common principal axes: x -> (x - mean) P.

    It adapts nothing. Use it as the baseline beside the adapted subspaces. Nothing is drawn: the
    singular value decomposition is a full one.

    Args:
        n_components: Width k of the result, at most the rank of the centred rows. None: 100, or
            the rank if that is less.

    Raises:
        ValueError: In `fit`, if `n_components` is out of its range.
    """

    def __init__(self, *, n_components: int | None = None) -> None:
        self.n_components = n_components

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn the axes (d, k) from source (n, d) and target (m, d); labels are not used."""
        pooled = torch.cat(self._rows(source, target))
        most = 100 if self.n_components is None else None
        self.axes_ = principal_axes(pooled, self.n_components, "pooled rows")[:, :most]
        self.mean_ = mean_of(pooled)
        return self

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return (x - self.mean_) @ self.axes_


@final
class SubspaceAlignment(Adapter):
    """Turn the source's principal axes onto the target's.

    Use it as a fast adapter without labels. Each domain is centred by its own mean.

        source -> (x - mean_s) P_s P_s^T P_t,    target -> (x - mean_t) P_t

    P_s and P_t (d, k) hold the principal axes.

    Args:
        n_components: Width k, at most the rank of the centred rows of either domain. None: by
            `subspace_disagreement`. `fit` keeps it as `n_components_`.

    Raises:
        ValueError: In `fit`, if `n_components` is out of its range.

    Example:
        >>> import numpy as np
        >>> from da.shallow import SubspaceAlignment
        >>> source = np.array([[-2.0, -2.0], [0.0, 0.0], [3.0, 3.0]])  # along (1, 1)
        >>> target = np.array([[5.0, 1.0], [7.0, 1.0], [10.0, 1.0]])  # along (1, 0)
        >>> adapter = SubspaceAlignment(n_components=1).fit(source, target)
        >>> adapter.transform(source).round(2).tolist()
        [[-2.33], [-0.33], [2.67]]
        >>> adapter.transform(target, domain="target").round(2).tolist()
        [[-2.33], [-0.33], [2.67]]

    Paper:
        Fernando, Habrard, Sebban, Tuytelaars: Unsupervised visual domain adaptation using subspace
            alignment. ICCV 2013, equations 1 to 3.

    Differences:
        The size is given or found by subspace disagreement. The paper bounds it by a stability
        theorem and cross-validates. Each domain is centred by its own mean, as in the paper, whose
        rows are standardised.
    """

    def __init__(self, *, n_components: int | None = None) -> None:
        self.n_components = n_components

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn both subspaces from source (n, d) and target (m, d); labels are not used."""
        x, y = self._rows(source, target)
        k = subspace_disagreement(x, y) if self.n_components is None else self.n_components
        self.n_components_ = k
        source_axes = principal_axes(x, k, "source")  # (d, k)
        target_axes = principal_axes(y, k, "target")  # (d, k)
        aligned = source_axes @ (source_axes.T @ target_axes)  # (d, k)
        self.means_ = {"source": mean_of(x), "target": mean_of(y)}
        self.maps_ = {"source": aligned, "target": target_axes}
        return self

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return (x - self.means_[domain]) @ self.maps_[domain]


@final
class GFK(Adapter):
    """Compare rows by all subspaces on the way from the source's subspace to the target's.

    Use it before a nearest-neighbour or kernel classifier, without labels. Both domains have the
    same map, so that <z, z'> = x^T G x' and Euclidean neighbours of z are the kernel's.

        x -> x G^(1/2),    G = integral over t in [0, 1] of Phi(t) Phi(t)^T

    Phi(t) is the subspace at t on the geodesic from the k principal axes of the source to those of
    the target. The axes are found on centred rows, but the map subtracts nothing, as in the paper.
    `fit` keeps `basis_` and `root_`, both (d, 2 k), with G^(1/2) = root basis^T. No (d, d) matrix
    is made. If two or more principal angles are pi/2 there are several geodesics, and G belongs to
    one of them.

    Args:
        n_components: Size k of the subspaces, at most the rank of the centred rows of either
            domain. None: by `subspace_disagreement`. `fit` keeps it as `n_components_`.

    Raises:
        ValueError: In `fit`, if `n_components` is out of its range.

    Example:
        >>> import numpy as np
        >>> from da.shallow import GFK
        >>> source = np.array([[-1.0, 0.0, 5.0], [1.0, 0.0, 5.0]])
        >>> target = np.array([[-2.0, 0.0, 7.0], [2.0, 0.0, 7.0]])
        >>> adapter = GFK(n_components=1).fit(source, target)
        >>> (adapter.transform(source).round(2) + 0.0).tolist()  # both span the first column
        [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]

    Paper:
        Gong, Shi, Sha, Grauman: Geodesic flow kernel for unsupervised domain adaptation. CVPR 2012,
            equations 4 to 8.

    Differences:
        G is the integral itself. The paper's matrix has no factor 1/2 and is twice this one. The
        subspace disagreement stops at 0.995; the paper takes 1, which rounding never reaches. It
        tries at most half as many axes as there are columns.
    """

    def __init__(self, *, n_components: int | None = None) -> None:
        self.n_components = n_components

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn G from source (n, d) and target (m, d); labels are not used."""
        x, y = self._rows(source, target)
        k = subspace_disagreement(x, y) if self.n_components is None else self.n_components
        self.n_components_ = k
        source_axes = principal_axes(x, k, "source")  # (d, k)
        target_axes = principal_axes(y, k, "target")  # (d, k)
        self.root_, self.basis_ = flow_root(source_axes, target_axes)
        return self

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return (x @ self.root_) @ self.basis_.T
