"""Transfer joint matching: transfer component analysis that also chooses, by row sparsity of A, which source samples take part.

    min_A  tr A^T K M K A + regularization (2 |A_s|_{2,1} + |A_t|_F^2)    subject to    A^T K H K A = I          z = A^T k(x)

A (N, p) has a row a_i for each of the N = n + m samples, A_s the source's, |A_s|_{2,1} the sum of their norms; M and H as in
da.shallow.tca. Solved in rounds by (K M K + regularization G) a = phi K H K a with G diagonal: 1 / |a_i| of the last round for source rows
(1 in the first), 1 for target rows. No N x N matrix is needed: with K = F F^T, F (N, r), and the thin QR decomposition G^(-1/2) F = O T,

    a = G^(-1/2) O b    and    (T F^T M F T^T + regularization I) b = phi T F^T H F T^T b.

G^(-1) is |a_i| itself, so that a source sample whose row reaches 0 drops out, without a division.

Long, Wang, Ding, Sun, Yu. Transfer joint matching for unsupervised domain adaptation. CVPR 2014. Unlike its
equations, and as its published accuracies want it: each column of A has norm 1 (see da.shallow.spectral), not A^T K H K A = I, and the
l2,1 norm counts twice, which makes G 1 / |a_i| and not half of that.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from da.arrays import Array
from da.shallow.adapter import Domain
from da.shallow.kernel_rows import Kernel, KernelRows, check_kernel, inverse_root, kernel_features
from da.shallow.spectral import directions, domain_gap, low_rank_root, oriented, scaled
from da.shallow.tca import SpectralAdapter, check_rounds, check_spectral


class TJM(SpectralAdapter):
    """Transfer joint matching, without labels.

    n_components: dimensions of the embedding; None for 100, or fewer where the data's rank is lower.
    kernel: "linear" or "rbf"; "primal" has no row of A for each sample. regularization: > 0, beside M of norm 1.
    n_iter: rounds. normalise: whether rows have norm 1 before the kernel. gamma, n_landmarks and random_state are `SpectralAdapter`'s.
    `fit` keeps `instance_norms_` (n,), |a_i| of the source samples: near 0 for those that do not take part.
    It raises as `Adapter.fit`, and ValueError for a parameter out of range or an n_components above the rank.
    """

    def __init__(
        self,
        *,
        n_components: int | None = 20,
        kernel: Kernel = "linear",
        gamma: float | None = None,
        regularization: float = 1.0,
        n_iter: int = 10,
        normalise: bool = True,
        n_landmarks: int | None = None,
        random_state: int = 0,
    ) -> None:
        super().__init__(
            n_components=n_components, kernel=kernel, gamma=gamma, regularization=regularization,
            n_landmarks=n_landmarks, random_state=random_state,
        )  # fmt: skip
        self.n_iter = n_iter
        self.normalise = normalise

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns from source (n, d) and target (m, d); labels are not looked at."""
        x, y = self._samples(source, target)
        check_kernel(self.kernel, self.gamma, self.n_landmarks, allowed=("linear", "rbf"))
        check_spectral(self.n_components, self.regularization)
        check_rounds(self.n_iter)
        z = self._normalised(torch.cat([x, y]))
        features = self._features(z)
        rows = features(z)  # F (N, r)
        gap = rows.T @ scaled(domain_gap(len(x), len(y), rows))  # (r, 1)
        centred = rows - rows.mean(0)
        spread = centred.T @ centred  # F^T H F (r, r)
        inverse = torch.ones_like(rows[:, :1])  # the diagonal of G^(-1)
        for _ in range(self.n_iter):
            o, t = torch.linalg.qr(inverse.sqrt() * rows)
            b = directions(
                low_rank_root(t @ gap, self.regularization),
                self.n_components,
                gram=t @ spread @ t.T,
            )
            a = inverse.sqrt() * (o @ b)  # (N, p)
            norms = a.norm(dim=0)
            inverse[: len(x)] = (a / norms)[: len(x)].norm(dim=1, keepdim=True)
        self.instance_norms_ = inverse[: len(x), 0].clone()
        self.lift_, self.components_ = features, oriented(t.T @ (b / norms), centred)
        return self

    def _features(self, z: Tensor) -> KernelRows:
        """F with K = F F^T."""
        features = kernel_features(
            z,
            kernel=self.kernel,
            gamma=self.gamma,
            n_landmarks=self.n_landmarks,
            random_state=self.random_state,
        )
        if self.kernel == "rbf" and self.n_landmarks is None:
            return features.times(inverse_root(features(z)))
        if (
            self.kernel == "linear" and len(z) < z.shape[1]
        ):  # an orthonormal basis of the rows' span, which is narrower than they are
            return features.times(z.T @ inverse_root(z @ z.T))
        return features

    def _normalised(self, x: Tensor) -> Tensor:
        return normalize(x, dim=1) if self.normalise else x

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return super()._map(self._normalised(x), domain)
