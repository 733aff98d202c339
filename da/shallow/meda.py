"""MEDA: a kernel classifier that fits the source, aligns the domains and is smooth on a graph.

Take it for a few thousand rows with a labelled source. Its memory grows with the square of their
number.

    minimise over beta (N, C):    ||S (Y - K beta)||_F^2 + eta tr(beta^T K beta)
                                  + lambda tr(beta^T K M K beta) + rho tr(beta^T K L K beta)
    so                            ((S + lambda M + rho L) K + eta I) beta = S Y

    N      n + m rows in the common space x -> x G^(1/2) / ||x G^(1/2)||, see `GFK`
    K      exp(-d / 2), d the squared distance
    S, Y   the diagonal of ones for source rows; their labels as indicators
    L      I - D^(-1/2) W D^(-1/2), W the cosines of each row with itself and its p nearest rows,
           D the row sums of W
    M      ((1 - mu) C M_0 + mu sum_c M_c) / ||.||_F as in `da.shallow.joint_adapter`

The target's pseudo-labels in M are those of the nearest source row at first. mu is estimated in
each round from A-distances, without target labels.
"""

from __future__ import annotations

from typing import Literal, Self, final

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from da.arrays.checked_classes import CheckedEstimator
from da.arrays.integers import whole_number, whole_number_or_none
from da.arrays.matrices import Array, check_two_samples, like
from da.kernels.functions import gaussian
from da.shallow.a_distance import balance_estimator
from da.shallow.adapter import check_labels, nearest, rows_of_width, warn_if_unlike_scales
from da.shallow.geodesic_flow import flow_root
from da.shallow.graph import normalized_laplacian
from da.shallow.jda import check_balance
from da.shallow.principal_axes import axes_of_both
from da.shallow.spectral import class_gaps, domain_gap, scaled


@final
class MEDA(CheckedEstimator, ClassifierMixin, BaseEstimator):
    """Classify the target by a kernel classifier on geodesic-flow features, aligned and smooth.

    Use it if the source has labels and the rows number a few thousand at most: memory is
    O((n + m)^2). After `fit`, `pseudo_labels_` (m,) holds the labels of the target rows, `balance_`
    the last mu, and `n_iter_` the rounds made.

        minimise over beta:  ||S (Y - K beta)||_F^2 + eta tr(beta^T K beta)
                             + lambda tr(beta^T K M K beta) + rho tr(beta^T K L K beta)

    The defaults are the paper's. They have no unit.

    Args:
        n_components: Size of the subspaces of `GFK`, at most the rank of the centred rows of either
            domain. None (default): 20, or the lower rank if that is less.
        n_neighbors: p, the neighbours of a row in the graph, from 1 to n + m - 1. None (default):
            10, or n + m - 1 if there are fewer rows.
        regularization: eta, the weight of the norm of the classifier, > 0; default 0.1.
        alignment: lambda, the weight of the alignment of the domains, >= 0; default 10.
        smoothness: rho, the weight of the smoothness on the graph, >= 0; default 1.
        n_iter: The most rounds of pseudo-labels, >= 1; default 10. They end early if the labels
            repeat.
        balance: mu, the weight of the class differences in the alignment, in [0, 1]. "auto", the
            default: estimated in each round.
        classifier: A scikit-learn classifier that gives the first pseudo-labels from the rows as
            given. None: the nearest neighbour in the common space.

    Raises:
        TypeError: In `fit`, if there are no labels.
        ValueError: In `fit`, if a parameter is out of its range or there is only one class.

    Example:
        >>> import numpy as np
        >>> from da.shallow import MEDA
        >>> source = np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 2.0]])
        >>> labels = np.array(["right", "right", "up", "up"])
        >>> target = np.array([[2.0, 1.0], [4.0, 1.8], [-1.0, 2.0], [-1.8, 4.0]])  # turned
        >>> model = MEDA(n_components=2, n_neighbors=1).fit(source, target, labels)
        >>> model.predict(target).tolist()
        ['right', 'right', 'up', 'up']

    Paper:
        Wang, Feng, Chen, Yu et al.: Visual domain adaptation with manifold embedded distribution
            alignment. ACM MM 2018, equations 4 to 16.

    Differences:
        Three things differ from the authors' code. The classifiers behind mu judge rows that they
        have not seen. Both domains count the same in their error, see `da.shallow.a_distance`. A
        class that no target row has is left out of M. Two things are additions to the paper: the
        first labels may come from any classifier, and `predict_proba` gives probabilities.
    """

    def __init__(
        self,
        *,
        n_components: int | None = None,
        n_neighbors: int | None = None,
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
        """Learn the classifier from both samples and the labels of the source.

        Args:
            source: Rows (n, d), floats.
            target: Rows (m, d), floats.
            source_labels: Classes (n,) of the source rows, integers or strings.

        Returns:
            The classifier itself.

        Raises:
            TypeError: There are no labels, or a sample does not hold floats.
            ValueError: A parameter is out of its range, or there is only one class.
        """
        x, y = check_two_samples(source, target)
        warn_if_unlike_scales(x.detach(), y.detach())
        axes = axes_of_both(x.detach().double(), y.detach().double(), self.n_components, default=20)
        self._root, self.n_features_in_ = flow_root(*axes)[0], x.shape[1]
        z = torch.cat([self._features(x), self._features(y)])  # (N, 2 k)
        self.classes_, codes = check_labels(source_labels, x)
        self._check(len(z))
        self._rows, self._as_tensor = normalize(z, dim=1), isinstance(source_labels, Tensor)
        guess = self._rounds(z, codes, self._first_guess(x, y, codes))
        self.pseudo_labels_ = self._named(guess)
        return self

    def _first_guess(self, x: Tensor, y: Tensor, codes: Tensor) -> Tensor:
        """The first pseudo-labels (m,), as codes."""
        if self.classifier is None:
            return codes[nearest(self._rows[: len(x)], self._rows[len(x) :])]
        model = clone(self.classifier).fit(x.detach().cpu().numpy(), codes.cpu().numpy())
        answers = np.asarray(model.predict(y.detach().cpu().numpy()), dtype=np.int64)
        return torch.from_numpy(answers).to(codes.device)

    def _rounds(self, z: Tensor, codes: Tensor, guess: Tensor) -> Tensor:
        """Solve for beta at most n_iter times; return the last labels (m,) of the target rows."""
        n, classes = len(codes), len(self.classes_)
        kernel = gaussian(self._rows, self._rows, bandwidth=2.0)  # (N, N)
        factors = self._factors(kernel, n)
        labels = torch.cat([one_hot(codes, classes).to(z), z.new_zeros(len(z) - n, classes)])  # S Y
        free = torch.linalg.lu_solve(*factors, labels)  # beta without M
        estimate = balance_estimator(z[:n], z[n:], codes) if isinstance(self.balance, str) else None
        for count in range(1, self.n_iter + 1):
            self.n_iter_ = count
            self.balance_ = estimate(guess) if estimate else float(self.balance)
            gaps = self._gaps(z, codes, guess)  # (N, q)
            # (B + E E^T K) beta = S Y with few columns in E: Woodbury's formula.
            solved, across = torch.linalg.lu_solve(*factors, gaps), kernel @ gaps  # (N, q) each
            inner = torch.eye(gaps.shape[1]).to(z) + across.T @ solved
            self._beta = free - solved @ torch.linalg.solve(inner, across.T @ free)
            previous, guess = guess, (kernel[n:] @ self._beta).argmax(1)
            if torch.equal(previous, guess):
                break
        return guess

    def _factors(self, kernel: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """The LU factors of B = (S + rho L) K + eta I, (N, N)."""
        laplacian = normalized_laplacian(self._rows, self._neighbours(len(self._rows)))
        fixed = (self.smoothness * laplacian) @ kernel
        fixed[:n] += kernel[:n]
        fixed.diagonal().add_(self.regularization)
        return torch.linalg.lu_factor(fixed)

    def _gaps(self, z: Tensor, codes: Tensor, guess: Tensor) -> Tensor:
        """E (N, q) with E E^T = lambda M."""
        n, classes = len(codes), len(self.classes_)
        marginal = (classes * (1 - self.balance_)) ** 0.5 * domain_gap(n, len(guess), z)
        conditional = self.balance_**0.5 * class_gaps(codes, guess, classes)
        return self.alignment**0.5 * scaled(torch.cat([marginal, conditional], 1))

    def decision_function(self, x: Array) -> Array:
        """Return the classifier's values k(x, rows) beta for rows of either domain.

        Args:
            x: Rows (k, d), floats.

        Returns:
            Values (k, C) in the order of `classes_`, near the indicators that were fitted.

        Raises:
            ValueError: `fit` was not called, or the width is not that of `fit`.
        """
        if not hasattr(self, "_beta"):
            raise ValueError(
                "MEDA must be fitted before predict: call fit(source, target, source_labels) first"
            )
        rows = normalize(self._features(x), dim=1)
        return like(gaussian(rows, self._rows, bandwidth=2.0) @ self._beta, x)

    def predict(self, x: Array) -> Tensor | np.ndarray:
        """Return the class of the greatest `decision_function` for each row of x (k, d).

        Returns:
            Labels (k,), of the kind given to `fit`.
        """
        return self._named(torch.as_tensor(self.decision_function(x)).argmax(1))

    def predict_proba(self, x: Array) -> np.ndarray:
        """Return the probabilities nearest to `decision_function`, for rows x (k, d).

        The paper has no probabilities.

        Returns:
            Probabilities (k, C) in the order of `classes_`.
        """
        return nearest_probabilities(torch.as_tensor(self.decision_function(x))).cpu().numpy()

    def _features(self, x: Array) -> Tensor:
        """x G^(1/2) up to a rotation, which changes nothing here: (k, 2 n_components)."""
        return rows_of_width(x, self.n_features_in_).detach().double() @ self._root

    def _named(self, codes: Tensor) -> Tensor | np.ndarray:
        labels = self.classes_[codes.cpu().numpy()]
        return torch.from_numpy(labels).to(codes.device) if self._as_tensor else labels

    def _neighbours(self, rows: int) -> int:
        """The neighbours of a row in the graph of so many rows."""
        note = "one less than the rows"
        given = whole_number_or_none(
            self.n_neighbors, "n_neighbors", least=1, most=rows - 1, note=note
        )
        return min(10, rows - 1) if given is None else given

    def _check(self, rows: int) -> None:
        whole_number(self.n_iter, "n_iter", least=1)
        self._neighbours(rows)
        if not 0 < self.regularization < float("inf"):
            raise ValueError(
                f"regularization must be a finite number > 0; got {self.regularization}"
            )
        for name in ("alignment", "smoothness"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a finite number >= 0; got {getattr(self, name)}")
        check_balance(self.balance)


def nearest_probabilities(values: Tensor) -> Tensor:
    """Find the probabilities nearest to given values, by Euclidean distance.

    They are max(values - t, 0) with a threshold t for each row, so that each row sums to 1.

    Args:
        values: Values (k, C).

    Returns:
        Probabilities (k, C).
    """
    falling = values.sort(1, descending=True).values
    thresholds = (falling.cumsum(1) - 1) / torch.arange(1, values.shape[1] + 1).to(values)
    last = (falling > thresholds).sum(1, keepdim=True) - 1
    return (values - thresholds.gather(1, last)).clamp(min=0)
