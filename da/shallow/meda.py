"""MEDA: a kernel classifier on geodesic-flow features that fits the source, aligns the domains and is smooth on a graph of all rows.

    minimise over beta (N, C):   ||S (Y - K beta)||_F^2 + eta tr(beta^T K beta) + lambda tr(beta^T K M K beta) + rho tr(beta^T K L K beta)
    so                           ((S + lambda M + rho L) K + eta I) beta = S Y

N = n + m rows in the common space x -> x G^(1/2) / ||x G^(1/2)|| (`GFK`), K = exp(-d / 2), S the diagonal of ones for source rows, Y their
labels as indicators. L = I - D^(-1/2) W D^(-1/2), W the cosines of each row with its p nearest, itself besides, and D its row sums.
M = ((1 - mu) C M_0 + mu sum_c M_c) / ||.||_F as in `da.shallow.jda`, with pseudo-labels for the target, at first those of 1-NN.
mu is estimated in each round from A-distances, without target labels.

Wang, Feng, Chen, Yu, Huang, Yu: Visual Domain Adaptation with Manifold Embedded Distribution Alignment. ACM MM 2018, equations 4 to 16.
"""

from __future__ import annotations

from numbers import Integral
from typing import Literal, Self, final

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from da.arrays import Array, as_matrix, check_two_samples, like
from da.kernels.functions import gaussian
from da.shallow.adapter import check_labels, nearest
from da.shallow.jda import balance_estimator
from da.shallow.spectral import class_gaps, domain_gap, scaled
from da.shallow.subspace import GFK

_TIE = 1e-12  # cosines that differ by less are equal: all of them edges or none, so that the order of rows does not matter


@final
class MEDA(ClassifierMixin, BaseEstimator):
    """Manifold embedded distribution alignment, a classifier. The defaults are the paper's, without units.

    n_components: of `GFK`; None for 20, or n - 1, m - 1 or d where that is less.
    n_neighbors: p of the graph. regularization: eta > 0. alignment: lambda >= 0. smoothness: rho >= 0.
    n_iter: rounds of pseudo-labels, at most; they end early where the labels repeat. balance: mu in [0, 1], or "auto".
    classifier: any scikit-learn classifier, which gives the first pseudo-labels from the rows as given; None for 1-NN in the common space.
    Keeps `pseudo_labels_` (m,), the target rows' labels, `balance_`, the last mu, and `n_iter_`. Memory O((n + m)^2).
    Other than in the authors' code: mu's classifiers judge rows that they have not seen, and both domains count alike
    (`da.shallow.jda.a_distance`); a class that no target row has got is left out of M. Wang et al., ACM MM 2018.
    """

    def __init__(
        self,
        *,
        n_components: int | None = None,
        n_neighbors: int = 10,
        regularization: float = 0.1,
        alignment: float = 10.0,
        smoothness: float = 1.0,
        n_iter: int = 10,
        balance: float | Literal["auto"] = "auto",
        classifier: ClassifierMixin | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.regularization = regularization
        self.alignment = alignment
        self.smoothness = smoothness
        self.n_iter = n_iter
        self.balance = balance
        self.classifier = classifier

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns from source (n, d), its labels (n,) and target (m, d). Raises ValueError for parameters out of their range."""
        x, y = check_two_samples(source, target)
        k = (
            min(20, len(x) - 1, len(y) - 1, x.shape[1])
            if self.n_components is None
            else self.n_components
        )
        self._flow = GFK(n_components=k).fit(x.detach(), y.detach())
        z = torch.cat([self._features(x), self._features(y)])  # (N, 2 k)
        self.classes_, codes = check_labels(source_labels, x)
        self._check(len(z))
        self._rows, self._as_tensor = normalize(z, dim=1), isinstance(source_labels, Tensor)
        guess = self._rounds(z, codes, self._first_guess(x, y, codes))
        self.pseudo_labels_ = self._named(guess)
        self.n_features_in_ = x.shape[1]
        return self

    def _first_guess(self, x: Tensor, y: Tensor, codes: Tensor) -> Tensor:
        if self.classifier is None:
            return codes[nearest(self._rows[: len(x)], self._rows[len(x) :])]
        model = clone(self.classifier).fit(x.detach().cpu().numpy(), codes.cpu().numpy())
        return torch.from_numpy(
            np.asarray(model.predict(y.detach().cpu().numpy()), dtype=np.int64)
        ).to(codes.device)

    def _rounds(self, z: Tensor, codes: Tensor, guess: Tensor) -> Tensor:
        """Solves for beta at most n_iter times; the last labels of the target rows (m,), as codes."""
        n, classes = len(codes), len(self.classes_)
        kernel = gaussian(self._rows, self._rows, bandwidth=2.0)  # (N, N)
        factors = self._factors(kernel, n)
        labels = torch.cat([one_hot(codes, classes).to(z), z.new_zeros(len(z) - n, classes)])  # S Y
        free = torch.linalg.lu_solve(*factors, labels)  # beta without M
        estimate = balance_estimator(z[:n], z[n:], codes) if isinstance(self.balance, str) else None
        for count in range(1, self.n_iter + 1):
            self.n_iter_, self.balance_ = (
                count,
                estimate(guess) if estimate else float(self.balance),
            )
            gaps = self._gaps(z, codes, guess)  # (N, q)
            # (B + E E^T K) beta = S Y with few columns in E: Woodbury's formula
            solved, across = torch.linalg.lu_solve(*factors, gaps), kernel @ gaps  # (N, q) each
            inner = torch.eye(gaps.shape[1]).to(z) + across.T @ solved
            self._beta = free - solved @ torch.linalg.solve(inner, across.T @ free)
            previous, guess = guess, (kernel[n:] @ self._beta).argmax(1)
            if torch.equal(previous, guess):
                break
        return guess

    def _factors(self, kernel: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """The LU factors of B = (S + rho L) K + eta I, (N, N)."""
        fixed = (self.smoothness * normalized_laplacian(self._rows, self.n_neighbors)) @ kernel
        fixed[:n] += kernel[:n]
        fixed.diagonal().add_(self.regularization)
        return torch.linalg.lu_factor(fixed)

    def _gaps(self, z: Tensor, codes: Tensor, guess: Tensor) -> Tensor:
        """E (N, q) with E E^T = lambda M."""
        n, classes = len(codes), len(self.classes_)
        marginal = (classes * (1 - self.balance_)) ** 0.5 * domain_gap(n, len(guess), z)
        return self.alignment**0.5 * scaled(
            torch.cat([marginal, self.balance_**0.5 * class_gaps(codes, guess, classes)], 1)
        )

    def decision_function(self, x: Array) -> Array:
        """k(x, rows) beta for rows x (k, d) of either domain, (k, C): near the indicators of `classes_` to which it was fitted."""
        if not hasattr(self, "_beta"):
            raise ValueError(
                "MEDA must be fitted before predict: call fit(source, target, source_labels) first"
            )
        rows = normalize(self._features(x), dim=1)
        return like(gaussian(rows, self._rows, bandwidth=2.0) @ self._beta, x)

    def predict(self, x: Array) -> Tensor | np.ndarray:
        """The class of greatest `decision_function` for rows x (k, d): (k,), labels of the kind given to `fit`."""
        return self._named(torch.as_tensor(self.decision_function(x)).argmax(1))

    def predict_proba(self, x: Array) -> np.ndarray:
        """Probabilities (k, C) of `classes_`: the nearest to `decision_function` in the Euclidean sense. The paper has none."""
        return nearest_probabilities(torch.as_tensor(self.decision_function(x))).cpu().numpy()

    def _features(self, x: Array) -> Tensor:
        """x G^(1/2) up to a rotation, which nothing here sees: (k, 2 n_components)."""
        rows = as_matrix(x, "x").detach().double()
        if rows.shape[1] != self._flow.n_features_in_:
            raise ValueError(
                f"x must have {self._flow.n_features_in_} columns as in fit; got shape {tuple(rows.shape)}"
            )
        return rows @ self._flow.root_

    def _named(self, codes: Tensor) -> Tensor | np.ndarray:
        labels = self.classes_[codes.cpu().numpy()]
        return torch.from_numpy(labels).to(codes.device) if self._as_tensor else labels

    def _check(self, rows: int) -> None:
        for name, least in (("n_iter", 1), ("n_neighbors", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}")
        if self.n_neighbors >= rows:
            raise ValueError(
                f"n_neighbors must be below the number of rows, {rows}; got {self.n_neighbors}"
            )
        if not 0 < self.regularization < float("inf"):
            raise ValueError(
                f"regularization must be a finite number > 0; got {self.regularization}"
            )
        for name in ("alignment", "smoothness"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a finite number >= 0; got {getattr(self, name)}")
        if self.balance != "auto" and (isinstance(self.balance, str) or not 0 <= self.balance <= 1):
            raise ValueError(f"balance must be 'auto' or in [0, 1]; got {self.balance!r}")


def nearest_probabilities(values: Tensor) -> Tensor:
    """The probabilities p (k, C), p >= 0 with sum 1 a row, nearest to values (k, C): values - t, not below 0, with a t for each row."""
    falling = values.sort(1, descending=True).values
    thresholds = (falling.cumsum(1) - 1) / torch.arange(1, values.shape[1] + 1).to(values)
    last = (falling > thresholds).sum(1, keepdim=True) - 1
    return (values - thresholds.gather(1, last)).clamp(min=0)


def normalized_laplacian(rows: Tensor, neighbours: int) -> Tensor:
    """L = I - D^(-1/2) W D^(-1/2), (N, N), of rows (N, d) of norm 1 (or 0): W_ij their cosine, at least 0, where j is i or among the
    `neighbours` nearest of i, or i among those of j, else 0; D the diagonal of W's row sums."""
    cosines = rows @ rows.T
    cosines.fill_diagonal_(1)
    near = cosines >= cosines.topk(neighbours + 1, dim=1).values[:, -1:] - _TIE
    weights = torch.where(near | near.T, cosines.clamp(min=0), 0.0)
    scale = weights.sum(1).rsqrt()
    laplacian = weights.mul_(-scale[:, None]).mul_(scale)
    laplacian.diagonal().add_(1)
    return laplacian
