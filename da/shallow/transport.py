"""TODO da.recipes.shallow.transport."""

from __future__ import annotations

import math
from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision
from da.kernels.distances import centred, gram_distances
from da.shallow.adapter import Adapter, Domain, check_labels
from da.shallow.plans import class_plan, entropic_plan, exact_plan


@final
class OTMap(Adapter):
    """Source rows to the mean of the target rows that their mass goes to under a transport plan; target rows stay where they are.

    regularization:       e >= 0, weight of the entropy, in units of the mean squared distance between a source and a target row: the map
        does not depend on the features' scale. 0 is the exact plan; the larger it is, the nearer are all images to the target's mean.
    class_regularization: eta >= 0, weight of the group lasso that feeds a target row from few classes, in the same units. Above 0 it
        needs source_labels, and an e > 0.
    n_iter, tolerance:    the most iterations for e > 0, and by which part of itself the mass at a target row may be off (without unit).

    A row unlike all in `fit` moves by as much as the nearest source row did; rows that are equal have one image, the mean of theirs.
    Matrices of (n, m) in memory. Warns where n_iter does not suffice; raises ValueError for arguments out of their range.
    Deviation from Courty et al.: the cost is divided by its mean, and the group lasso is minimised as `da.shallow.plans` says.
    """

    def __init__(
        self,
        *,
        regularization: float = 0.1,
        class_regularization: float = 0.0,
        n_iter: int = 1000,
        tolerance: float = 1e-4,
    ) -> None:
        self.regularization = regularization
        self.class_regularization = class_regularization
        self.n_iter = n_iter
        self.tolerance = tolerance

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns the image of each row of source (n, d) among target (m, d); labels (n,) count for class_regularization > 0 alone."""
        x, y = self._samples(source, target)
        self._check_parameters()
        codes = (
            check_labels(source_labels, x)[1]
            if self.class_regularization > 0
            else torch.zeros_like(x[:, 0], dtype=torch.int64)
        )
        # The rows are put in an order of their own: where several plans are best, the choice is then not that of the order given.
        order = _rank(torch.cat([x, codes[:, None]], dim=1)).argsort()
        x, codes, y = x[order], codes[order], y[_rank(y).argsort()]
        with full_precision(x):
            plan = self._plan(gram_distances(x, y), codes)  # (n, m)
            images = plan @ y / plan.sum(dim=1, keepdim=True)  # (n, d)
        self.source_, row, count = torch.unique(x, dim=0, return_inverse=True, return_counts=True)
        self.images_ = torch.zeros_like(self.source_).index_add_(0, row, images) / count[:, None]
        return self

    def _plan(self, cost: Tensor, codes: Tensor) -> Tensor:
        mean = cost.mean()
        cost = cost / torch.where(mean > 0, mean, 1.0)  # all rows equal: any plan does
        e, eta = float(self.regularization), float(self.class_regularization)
        if eta > 0:
            return class_plan(cost, codes, e, eta, iterations=self.n_iter, tolerance=self.tolerance)
        return (
            entropic_plan(cost, e, iterations=self.n_iter, tolerance=self.tolerance)
            if e > 0
            else exact_plan(cost)
        )

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        if domain == "target":
            return x
        # Distances by differences, not by products: a row of `fit` is then nearest to itself, however near others are.
        exact = "donot_use_mm_for_euclid_dist"
        row = torch.cat(
            [
                torch.cdist(part, self.source_, compute_mode=exact).argmin(dim=1)
                for part in x.split(1024)
            ]
        )
        return x + (self.images_ - self.source_)[row]

    def _check_parameters(self) -> None:
        for name in ("regularization", "class_regularization"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number >= 0; got {value}")
        if self.class_regularization > 0 and not self.regularization > 0:
            raise ValueError(
                f"class_regularization > 0 needs regularization > 0; got {self.class_regularization} and {self.regularization}"
            )
        if isinstance(self.n_iter, bool) or not isinstance(self.n_iter, int) or self.n_iter < 1:
            raise ValueError(f"n_iter must be a whole number >= 1; got {self.n_iter!r}")
        if not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise ValueError(f"tolerance must be a finite number > 0; got {self.tolerance}")


@final
class LinearMongeMap(Adapter):
    """The optimal map between two Gaussians, m_t + (x - m_s) A: source rows get the target's mean and covariance; target rows stay.

        A = C_s^(-1/2) (C_s^(1/2) C_t C_s^(1/2))^(1/2) C_s^(-1/2),     symmetric, positive definite, and A C_s A = C_t

    regularization: r > 0, added to the diagonals of both covariances in units of the mean variance of a column over both samples; without
        unit itself. Where a sample does not vary, along directions beyond its n - 1, it is what the map sees: A then stretches by
        sqrt(1 + l / r) for a target's variance l in those units. Columns that vary far less than others are to be standardised before.

    Covariances with 1/n, as in Flamary et al. Raises ValueError for fewer than two rows and for r <= 0.
    """

    def __init__(self, *, regularization: float = 1e-3) -> None:
        self.regularization = regularization

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns `map_` A (d, d) and the means from source (n, d) and target (m, d); labels are not used."""
        x, y = self._samples(source, target)
        if not (math.isfinite(self.regularization) and self.regularization > 0):
            raise ValueError(
                f"regularization must be a finite number > 0; got {self.regularization}"
            )
        check_two_samples(x, y, least=2)
        with full_precision(x):
            self.source_mean_, self.target_mean_ = x.mean(dim=0), y.mean(dim=0)
            within, beyond = (z.T @ z / len(z) for z in (centred(x), centred(y)))  # (d, d)
            variance = float(within.trace() + beyond.trace()) / (2 * x.shape[1])
            ridge = (
                self.regularization
                * (variance or 1.0)
                * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            )
            root, inverse = _power(within + ridge, 0.5), _power(within + ridge, -0.5)
            self.map_ = inverse @ _power(root @ (beyond + ridge) @ root, 0.5) @ inverse
        return self

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return x if domain == "target" else self.target_mean_ + (x - self.source_mean_) @ self.map_


def _rank(rows: Tensor) -> Tensor:
    """Each row's place (n,) in the lexicographic order of the distinct rows."""
    return torch.unique(rows, dim=0, return_inverse=True)[1]


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """`matrix` (d, d), symmetric and positive definite, to a power."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=torch.finfo(values.dtype).tiny) ** exponent @ vectors.T
