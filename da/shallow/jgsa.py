"""JGSA: two coupled maps, A for the source and B for the target, that bring both the distributions and the subspaces together.

    maximise  tr(W^T S_max W) / tr(W^T S_min W),   W = [A; B] (2 d, k)

    S_max = [ beta S_b      0      ]     S_b, S_w: the scatter of the source between and within its classes
            [    0       mu S_t    ]     S_t: the scatter of the target about its mean
    S_min = M + [ beta S_w + lambda I      - lambda I      ]     lambda ||A - B||^2 keeps the maps near each other,
                [     - lambda I        (lambda + mu) I    ]     mu ||B||^2 keeps B bounded

M = E E^T is the MMD between the mapped domains, marginal and class by class: columns [mean_s; -mean_t] sqrt(C) and [mean_s^c; -mean_t^c],
the target's classes guessed by 1-NN from the last maps. S_min is positive definite. With S_min - M = P P^T and S_max = R R^T,

    W = P^-T F U,   F = (I + P^-1 E E^T P^-T)^(-1/2),   U the k leading left singular vectors of F P^-1 R

so that a round costs products and an eigenproblem of the size of R^T R; P^-1 R is made once.

Zhang, Li, Ogunbona: Joint Geometrical and Statistical Alignment for Visual Domain Adaptation. CVPR 2017, equations 3 to 12 (primal).
"""

from __future__ import annotations

from numbers import Integral
from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from da.arrays import Array
from da.kernels.distances import centred
from da.shallow.adapter import Adapter, Domain, check_labels, nearest
from da.shallow.spectral import class_gaps, domain_gap, leading_eigenvectors, low_rank_root


@final
class JGSA(Adapter):
    """Joint geometrical and statistical alignment with linear maps: source rows x -> x A, target rows x -> x B, both (k,).

    n_components: k; None for 30, or m - 1 or d where that is less.
    n_iter: rounds of labelling the target by 1-NN and solving again; the first labels are 1-NN's on the rows as given.
    subspace: lambda, the weight of ||A - B||^2, > 0. variance: mu, the weight of the target's scatter and of ||B||^2, > 0.
    discrimination: beta, the weight of the source's class scatter, >= 0. The paper's values for objects. All weigh against each other and
        against the MMD, whose matrix is divided by the Frobenius norm of its marginal part, as in the authors' code.
    A class that no target row is given is left out of M (the authors' code keeps its source mean). Columns of [A; B] have norm 1, on which
    the published accuracies stand, and so do they on input rows of norm 1. `pseudo_labels_` (m,): 1-NN's in the common space.
    Zhang et al., CVPR 2017.
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
        """Learns A and B from source (n, d), its labels (n,) and target (m, d). Raises ValueError for parameters out of their range."""
        x, y = self._samples(source, target)
        self._check()
        self.classes_, codes = check_labels(source_labels, x)
        guess = self._rounds(x, y, codes)
        found = self.classes_[guess.cpu().numpy()]
        self.pseudo_labels_ = (
            torch.from_numpy(found).to(x.device) if isinstance(source_labels, Tensor) else found
        )
        return self

    def _rounds(self, x: Tensor, y: Tensor, codes: Tensor) -> Tensor:
        """Solves n_iter times; the pseudo-labels (m,) of the last maps, as codes."""
        classes, n = len(self.classes_), len(x)
        k = min(30, len(y) - 1, x.shape[1]) if self.n_components is None else self.n_components
        marginal = classes**0.5 * domain_gap(n, len(y), x)  # (n + m, 1)
        size = (
            classes * (1 / n + 1 / len(y))
        ) ** 0.5  # so that the marginal part of M has Frobenius norm 1
        lower = torch.linalg.cholesky(self._least(x, codes))  # P with P P^T = S_min - M
        whitened = torch.linalg.solve_triangular(
            lower, self._greatest(x, y, codes), upper=False
        )  # P^-1 R
        guess = codes[nearest(x, y)]
        for _ in range(self.n_iter):
            gaps = torch.cat([marginal, class_gaps(codes, guess, classes)], 1) / size  # (n + m, q)
            means = torch.cat([x.T @ gaps[:n], y.T @ gaps[n:]])  # E (2 d, q)
            root = low_rank_root(
                torch.linalg.solve_triangular(lower, means, upper=False), 1.0
            )  # (I + P^-1 E E^T P^-T)^(-1/2)
            left = root(leading_left(root(whitened), k))
            maps = torch.linalg.solve_triangular(lower.T, left, upper=True)  # (2 d, k)
            maps = maps / maps.norm(dim=0)
            z = torch.cat([x @ maps[: x.shape[1]], y @ maps[x.shape[1] :]])  # (n + m, k)
            guess = codes[nearest(z[:n], z[n:])]
        maps = (
            maps * z.gather(0, z.abs().argmax(0, keepdim=True)).sign()
        )  # the row furthest out is positive, whatever the solver gave
        self.maps_ = {"source": maps[: x.shape[1]], "target": maps[x.shape[1] :]}
        return guess

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return x @ self.maps_[domain]

    def _check(self) -> None:
        for name in ("n_components", "n_iter"):
            value = getattr(self, name)
            if value is None and name == "n_components":
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1; got {value!r}")
        for name, least in (("subspace", "> 0"), ("variance", "> 0"), ("discrimination", ">= 0")):
            value = getattr(self, name)
            if not (0 < value < float("inf") or (value == 0 and least == ">= 0")):
                raise ValueError(f"{name} must be a finite number {least}; got {value}")

    def _greatest(self, x: Tensor, y: Tensor, codes: Tensor) -> Tensor:
        """R (2 d, C + min(m, d)) with S_max = R R^T."""
        centres, counts = (
            class_means(x, codes, len(self.classes_)),
            codes.bincount(minlength=len(self.classes_)),
        )
        between = (self.discrimination * counts).sqrt() * (centres - x.mean(0)).T  # (d, C)
        return torch.block_diag(
            between, self.variance**0.5 * torch.linalg.qr(centred(y), mode="r").R.T
        )

    def _least(self, x: Tensor, codes: Tensor) -> Tensor:
        """S_min without M: (2 d, 2 d)."""
        within = x - class_means(x, codes, len(self.classes_))[codes]
        identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        near = self.subspace * identity
        first = self.discrimination * within.T @ within + near
        return torch.cat(
            [torch.cat([first, -near], 1), torch.cat([-near, near + self.variance * identity], 1)]
        )


def class_means(x: Tensor, codes: Tensor, classes: int) -> Tensor:
    """The mean row of each class, (C, d), of rows x (n, d) with codes (n,) of which every one occurs."""
    return torch.stack([x[codes == c].mean(0) for c in range(classes)])


def leading_left(matrix: Tensor, k: int) -> Tensor:
    """The k leading left singular vectors of a matrix (D, r), up to their lengths: (D, k). Raises ValueError, for S_max, above its rank."""
    tall = matrix.shape[1] < len(matrix)
    gram = matrix.T @ matrix if tall else matrix @ matrix.T
    values, vectors = leading_eigenvectors(gram, min(k, len(gram)))
    rank = int((values > 1e-12 * values[0]).sum())
    if rank < k:
        raise ValueError(
            f"n_components must be at most {rank}, the rank of the scatters to be kept; got {k}"
        )
    return matrix @ vectors if tall else vectors
