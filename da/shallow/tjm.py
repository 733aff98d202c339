"""Transfer joint matching: TCA that also chooses which source samples take part.

Take it if some source rows are unlike the target and should count less. Labels are not used.

    min_A  tr A^T K M K A + regularization (2 |A_s|_{2,1} + |A_t|_F^2)
    subject to  A^T K H K A = I,    z = A^T k(x)

A (N, p) has a row a_i for each of the N = n + m samples. A_s holds the rows of the source, and
|A_s|_{2,1} is the sum of their norms. M and H are those of `da.shallow.tca`. The problem is solved
in rounds by

    (K M K + regularization G) a = phi K H K a

G is diagonal: 1 / |a_i| of the last round for source rows (1 in the first), 1 for target rows.
No N x N matrix is needed. With K = F F^T, F (N, r), and the thin QR decomposition
G^(-1/2) F = O T,

    a = G^(-1/2) O b    and    (T F^T M F T^T + regularization I) b = phi T F^T H F T^T b

G^(-1) is |a_i| itself, so a source sample drops out without a division if its row reaches 0.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from da.arrays.matrices import Array
from da.arrays.random_states import RandomState, seed_of
from da.shallow.adapter import Domain
from da.shallow.kernel_rows import Kernel, KernelRows, check_kernel, inverse_root, kernel_features
from da.shallow.spectral import directions, domain_gap, low_rank_root, oriented, scaled
from da.shallow.spectral_adapter import SpectralAdapter, check_rounds, check_spectral

COMPONENTS = 20  # by default, or fewer if the rank is lower


class TJM(SpectralAdapter):
    """Bring the domains' means together and weigh down source samples that do not fit.

    Use it in place of `TCA` if some source rows have no counterpart in the target. Labels are not
    used. After `fit`, `instance_norms_` (n,) holds |a_i| of the source samples: it is near 0 for
    those that do not take part.

        min_A  tr A^T K M K A + regularization (2 |A_s|_{2,1} + |A_t|_F^2)
        subject to  A^T K H K A = I

    Args:
        n_components: Width of the embedding, >= 1. None (default): 20, or fewer if the rank of the
            data is lower.
        kernel: "linear" or "rbf" (exp(-gamma ||x - y||^2)). "primal" is not possible: its A has no
            row for each sample.
        gamma: For "rbf", one over a squared length, > 0. None: one over the mean squared distance
            of the pooled rows.
        regularization: Weight of the norms of A beside M, whose norm is 1; > 0.
        n_iter: Rounds, >= 1; default 10.
        normalise: Whether rows have norm 1 before the kernel.
        n_landmarks: For "rbf". None: the exact kernel. A number: Nystroem's approximation by that
            many rows.
        random_state: Source of the draw of landmarks: None, an int, or a RandomState or Generator
            of NumPy. Each `fit` takes one number from such an object.

    Raises:
        ValueError: In `fit`, if a parameter is out of its range or `n_components` is above the
            rank.

    Example:
        >>> import numpy as np
        >>> from da.shallow import TJM
        >>> source = np.array([[0.0, -1.0], [0.0, 0.0], [0.0, 4.0]])
        >>> target = source + [9.0, 0.0]  # column 0 tells the domains apart, column 1 does not
        >>> adapter = TJM(n_components=1, regularization=0.01, normalise=False).fit(source, target)
        >>> z_source = adapter.transform(source)
        >>> z_target = adapter.transform(target, domain="target")
        >>> bool(abs(z_source - z_target).max() < 0.01 * abs(z_source).max())
        True
        >>> adapter.instance_norms_.round(decimals=1).tolist()  # the third row carries it all
        [0.0, 0.0, 0.4]

    Paper:
        Long, Wang, Ding, Sun et al.: Transfer joint matching for unsupervised domain adaptation.
            CVPR 2014.

    Differences:
        Each column of A has norm 1 in place of A^T K H K A = I. The l2,1 norm counts twice, so G is
        1 / |a_i| and not half of that. The published accuracies need both. M has Frobenius norm 1.
        The landmarks are an addition.
    """

    def __init__(
        self,
        *,
        n_components: int | None = None,
        kernel: Kernel = "linear",
        gamma: float | None = None,
        regularization: float = 1.0,
        n_iter: int = 10,
        normalise: bool = True,
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
        self.n_iter = n_iter
        self.normalise = normalise

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn A from source (n, d) and target (m, d); labels are not used."""
        x, y = self._samples(source, target)
        check_kernel(self.kernel, self.gamma, self.n_landmarks, allowed=("linear", "rbf"))
        check_spectral(self.n_components, self.regularization)
        check_rounds(self.n_iter)
        z = self._normalised(torch.cat([x, y]))
        features = self._features(z)
        rows = features(z)  # F (N, r)
        gap = rows.T @ scaled(domain_gap(len(x), len(y), rows))  # (r, 1)
        centred = rows - rows.mean(0)
        spread = torch.linalg.qr(centred, mode="r").R  # its Gram matrix is F^T H F (r, r)
        inverse = torch.ones_like(rows[:, :1])  # the diagonal of G^(-1)
        for _ in range(self.n_iter):
            o, t = torch.linalg.qr(inverse.sqrt() * rows)
            root = low_rank_root(t @ gap, self.regularization)
            b = directions(root, self.n_components, factor=spread @ t.T, default=COMPONENTS)
            a = inverse.sqrt() * (o @ b)  # (N, p)
            norms = a.norm(dim=0)
            inverse[: len(x)] = (a / norms)[: len(x)].norm(dim=1, keepdim=True)
        self.instance_norms_ = inverse[: len(x), 0].clone()
        self.lift_ = features
        self.components_ = oriented(t.T @ (b / norms), centred)
        return self

    def _features(self, z: Tensor) -> KernelRows:
        """A map to rows F with K = F F^T."""
        features = kernel_features(
            z,
            kernel=self.kernel,
            gamma=self.gamma,
            n_landmarks=self.n_landmarks,
            random_state=seed_of(self.random_state),
        )
        if self.kernel == "rbf" and self.n_landmarks is None:
            return features.times(inverse_root(features(z)))
        if self.kernel == "linear" and len(z) < z.shape[1]:
            # Fewer rows than columns: an orthonormal basis of the span of the rows is narrower.
            return features.times(z.T @ inverse_root(z @ z.T))
        return features

    def _normalised(self, x: Tensor) -> Tensor:
        return normalize(x, dim=1) if self.normalise else x

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return super()._map(self._normalised(x), domain)
