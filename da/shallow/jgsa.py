"""JGSA: one linear map for each domain, so that both the distributions and the subspaces meet.

Take it if one common map is not enough, for instance if the domains are turned against each other.

    maximise  tr(W^T S_max W) / tr(W^T S_min W),    W = [A; B] (2 d, k)

    S_max = [ beta S_b      0      ]
            [    0       mu S_t    ]

    S_min = M + [ beta S_w + lambda I      - lambda I      ]
                [     - lambda I        (lambda + mu) I    ]

S_b and S_w are the scatters of the source between and within its classes. S_t is the scatter of
the target about its mean. lambda ||A - B||^2 keeps the maps near each other. mu ||B||^2 keeps B
bounded.

M = E E^T is the MMD between the mapped domains, as a whole and by classes. The columns of E are
[mean_s; -mean_t] sqrt(C) and [mean_s^c; -mean_t^c] for the C classes. The target's classes are
those of the nearest source row under the last maps. S_min is positive definite. With
S_min - M = P P^T and S_max = R R^T the solution is

    W = P^-T F U,    F = (I + P^-1 E E^T P^-T)^(-1/2)

U holds the k leading left singular vectors of F P^-1 R. A round then costs products and an
eigenproblem of the size of R^T R. P^-1 R is made once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import numpy as np
import torch
from torch import Tensor
from torch.linalg import solve_triangular

from da.arrays.integers import whole_number, whole_number_or_none
from da.arrays.matrices import Array
from da.kernels.distances import centred
from da.shallow.adapter import Adapter, Domain, check_labels, nearest
from da.shallow.spectral import class_gaps, domain_gap, leading_eigenvectors, low_rank_root


@final
class JGSA(Adapter):
    """Learn coupled linear maps, one for each domain, that align distributions and subspaces.

    Use it if the source has labels and one map for both domains is not enough. The target's labels
    are guessed in rounds. After `fit`, `pseudo_labels_` (m,) holds the labels of the nearest source
    rows in the common space.

        source -> x A,  target -> x B    with [A; B] as the module describes

    The weights `subspace`, `variance` and `discrimination` count beside each other and beside the
    MMD, which is scaled. Give rows of norm 1: the published accuracies rest on them.

    Args:
        n_components: Width k of the common space, >= 1. None: 30, or m - 1, d or the rank of S_max
            if that is less. The rank is judged up to rounding in each round.
        n_iter: Rounds of labelling the target and solving again, >= 1; default 10. The first labels
            are those of the nearest source rows as given.
        subspace: lambda, the weight of ||A - B||^2, > 0; default 1.
        variance: mu, the weight of the target's scatter and of ||B||^2, > 0; default 1.
        discrimination: beta, the weight of the source's class scatters, >= 0; default 0.1. These
            three defaults are the paper's values for objects.

    Raises:
        TypeError: In `fit`, if there are no labels.
        ValueError: In `fit`, if a parameter is out of its range, `n_components` is above the rank
            of S_max, or there is only one class.

    Example:
        >>> import numpy as np
        >>> from da.shallow import JGSA
        >>> source = np.array([[0.0, -1.0], [0.0, -2.0], [2.0, 1.0], [2.0, 2.0]])
        >>> labels = np.array([0, 0, 1, 1])
        >>> target = source + [9.0, 0.0]  # so far off that each nearest source row has label 1
        >>> JGSA(n_components=1).fit(source, target, labels).pseudo_labels_.tolist()
        [0, 0, 1, 1]

    Paper:
        Zhang, Li, Ogunbona: Joint geometrical and statistical alignment for visual domain
            adaptation. CVPR 2017, equations 3 to 12.

    Differences:
        The maps are linear (the paper's primal form); the kernel form is not offered. A class that
        no target row is given is left out of M; the authors' code keeps its source mean. The matrix
        of the MMD is divided by the Frobenius norm of its marginal part, as in the authors' code.
        The columns of [A; B] have norm 1, on which the published accuracies rest.
    """

    needs_labels = True

    def __init__(
        self,
        *,
        n_components: int | None = None,
        n_iter: int = 10,
        subspace: float = 1.0,
        variance: float = 1.0,
        discrimination: float = 0.1,
    ) -> None:
        self.n_components = n_components
        self.n_iter = n_iter
        self.subspace = subspace
        self.variance = variance
        self.discrimination = discrimination

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn A and B from source (n, d), its labels (n,) and target (m, d)."""
        x, y = self._samples(source, target)
        self._check()
        self.classes_, codes = check_labels(source_labels, x)
        guess = self._rounds(x, y, codes)
        found = self.classes_[guess.cpu().numpy()]
        as_tensor = isinstance(source_labels, Tensor)
        self.pseudo_labels_ = torch.from_numpy(found).to(x.device) if as_tensor else found
        return self

    def _rounds(self, x: Tensor, y: Tensor, codes: Tensor) -> Tensor:
        """Solve n_iter times; return the pseudo-labels (m,) of the last maps, as codes."""
        classes, n, d = len(self.classes_), *x.shape
        marginal = classes**0.5 * domain_gap(n, len(y), x)  # (n + m, 1)
        # Divided by this, the marginal part of M has Frobenius norm 1.
        size = (classes * (1 / n + 1 / len(y))) ** 0.5
        least = self._least(x, codes)
        whitened = least.solve(self._greatest(x, y, codes))  # P^-1 R
        guess = codes[nearest(x, y)]
        for _ in range(self.n_iter):
            gaps = torch.cat([marginal, class_gaps(codes, guess, classes)], 1) / size  # (n + m, q)
            means = torch.cat([x.T @ gaps[:n], y.T @ gaps[n:]])  # E (2 d, q)
            root = low_rank_root(least.solve(means), 1.0)  # F
            vectors = leading_left(root(whitened), self.n_components, min(30, len(y) - 1, d))
            maps = least.solve_transposed(root(vectors))  # (2 d, k)
            maps = maps / maps.norm(dim=0)
            z = torch.cat([x @ maps[:d], y @ maps[d:]])  # (n + m, k)
            guess = codes[nearest(z[:n], z[n:])]
        # The row furthest out is positive, whatever signs the solver gave.
        maps = maps * z.gather(0, z.abs().argmax(0, keepdim=True)).sign()
        self.maps_ = {"source": maps[:d], "target": maps[d:]}
        return guess

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return x @ self.maps_[domain]

    def _check(self) -> None:
        whole_number_or_none(self.n_components, "n_components", least=1)
        whole_number(self.n_iter, "n_iter", least=1)
        for name, least in (("subspace", "> 0"), ("variance", "> 0"), ("discrimination", ">= 0")):
            value = getattr(self, name)
            if not (0 < value < float("inf") or (value == 0 and least == ">= 0")):
                raise ValueError(f"{name} must be a finite number {least}; got {value}")

    def _greatest(self, x: Tensor, y: Tensor, codes: Tensor) -> Tensor:
        """R (2 d, C + min(m, d)) with S_max = R R^T."""
        classes = len(self.classes_)
        centres = class_means(x, codes, classes)  # (C, d)
        counts = codes.bincount(minlength=classes)
        between = (self.discrimination * counts).sqrt() * (centres - x.mean(0)).T  # (d, C)
        spread = torch.linalg.qr(centred(y), mode="r").R.T  # (d, min(m, d))
        return torch.block_diag(between, self.variance**0.5 * spread)

    def _least(self, x: Tensor, codes: Tensor) -> _Root:
        """P with P P^T = S_min - M."""
        within = x - class_means(x, codes, len(self.classes_))[codes]
        identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        total = self.subspace + self.variance
        ridge = (self.subspace * self.variance / total) ** 0.5 * identity
        # By QR and not from S_w itself, whose squares lose small columns beside large ones.
        stacked = torch.cat([self.discrimination**0.5 * within, ridge])  # (n + d, d)
        lower = torch.linalg.qr(stacked, mode="r").R.T
        return _Root(lower, self.subspace / total**0.5, total**0.5)


@dataclass(frozen=True)
class _Root:
    """P (2 d, 2 d) with P P^T = S_min - M, in blocks.

    P = [ L   - near I ]        L L^T = beta S_w + lambda mu / (lambda + mu) I
        [ 0     size I ]        size = sqrt(lambda + mu),  near = lambda / size
    """

    lower: Tensor  # L (d, d)
    near: float
    size: float

    def solve(self, v: Tensor) -> Tensor:
        """P^-1 v for v (2 d, k)."""
        first, second = v.split(len(self.lower))
        second = second / self.size
        first = solve_triangular(self.lower, first + self.near * second, upper=False)
        return torch.cat([first, second])

    def solve_transposed(self, v: Tensor) -> Tensor:
        """P^-T v for v (2 d, k)."""
        first, second = v.split(len(self.lower))
        first = solve_triangular(self.lower.T, first, upper=True)
        return torch.cat([first, (second + self.near * first) / self.size])


def class_means(x: Tensor, codes: Tensor, classes: int) -> Tensor:
    """Compute the mean row of each class.

    Args:
        x: Rows (n, d).
        codes: Classes (n,), in 0..classes-1; every class occurs.
        classes: How many classes C there are.

    Returns:
        Means (C, d).
    """
    return torch.stack([x[codes == c].mean(0) for c in range(classes)])


def leading_left(matrix: Tensor, k: int | None, most: int) -> Tensor:
    """Find the leading left singular vectors of a matrix, up to their lengths.

    Args:
        matrix: (D, r).
        k: How many. None: `most`, or fewer if the rank is lower.
        most: How many at most if `k` is None.

    Returns:
        Vectors (D, k), not of norm 1.

    Raises:
        ValueError: `k` is above the rank. The message speaks of S_max.
    """
    tall = matrix.shape[1] < len(matrix)
    gram = matrix.T @ matrix if tall else matrix @ matrix.T
    values, vectors = leading_eigenvectors(gram, min(max(1, most if k is None else k), len(gram)))
    rank = int((values > 1e-12 * values[0]).sum())
    if k is not None and rank < k:
        raise ValueError(
            f"n_components must be at most {rank}, the rank of the scatters in S_max; got {k}"
        )
    if rank == 0:
        raise ValueError(
            "source or target must vary: the source's class means are the same, and so are all "
            "rows of the target"
        )
    vectors = vectors[:, :rank]
    return matrix @ vectors if tall else vectors
