"""Optimal transport maps: each source row moves to where its mass goes in the target.

Take `OTMap` for samples of any shape and up to a few thousand rows. Take `LinearMongeMap` if a
change of mean and covariance says it all, or if there are many rows. `da.shallow.plans` holds the
transport plans. The losses of the same kind for networks are in `da.feature.transport`.
"""

from __future__ import annotations

import math
from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from da.arrays.choices import check_choice
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, full_precision
from da.shallow.adapter import Adapter, Domain, check_labels
from da.shallow.many_rows import mean_of, scatter_of
from da.shallow.plans import class_plan, entropic_plan, exact_plan
from da.shallow.transport_costs import (
    LabelKind,
    Metric,
    label_columns,
    metric_costs,
    with_labels,
)


@final
class OTMap(Adapter):
    """Move each source row to the mean of the target rows that its mass goes to.

    Use it if the target is a moved and bent version of the source. Target rows stay where they are.
    A row that was not in `fit` moves by as much as the nearest source row did, by Euclidean
    distance. Matrices of (n, m) are held in memory. If some target rows have labels, `fit` takes
    them: mass then goes to rows of the same class, or of a similar number.

        x_i -> sum_j P_ij y_j / sum_j P_ij

    P is the transport plan of `da.shallow.plans`. It warns if `n_iter` does not suffice.

    Args:
        regularization: e >= 0, the weight of the entropy, in units of the mean cost of a pair of a
            source row and a target row. So the map does not depend on the scale of the features. 0
            is the exact plan. A large e moves all images to the mean of the target. Below 0.02 it
            is reached in steps from large e; the iterations still needed grow as 1 / e.
        class_regularization: eta >= 0, the weight of the group lasso that feeds a target row from
            few classes, in the same unit; default 0. Above 0 it needs `source_labels` and e > 0.
        n_iter: The most iterations for e > 0, >= 1; default 1000.
        tolerance: By which part of itself the mass at a target row may be off, > 0, without unit;
            default 1e-4.
        metric: The cost of moving a source row to a target row: "sqeuclidean" (default),
            "euclidean", "cityblock", "chebyshev" or "cosine", as in SciPy. The image is the mean of
            the target rows for each of them.
        labels: What the labels are if `fit` gets those of target rows: "classes" or "numbers". None
            (default): numbers if the source's labels are floats that are not all whole, else
            classes.

    Raises:
        TypeError: In `fit`, if labels are needed and there are none.
        ValueError: In `fit`, if a parameter is out of its range or labels do not fit.

    Warns:
        UserWarning: In `fit`, if `n_iter` iterations do not reach `tolerance`.

    Example:
        >>> import numpy as np
        >>> from da.shallow import OTMap
        >>> source, target = np.array([[-1.0], [1.0]]), np.array([[2.0], [-2.0]])
        >>> adapter = OTMap(regularization=0.05).fit(source, target)
        >>> adapter.transform(source).round(2).tolist()
        [[-2.0], [2.0]]
        >>> adapter.transform(np.array([[1.5]])).round(2).tolist()  # moves as the source row at 1
        [[2.5]]

    Paper:
        Courty, Flamary, Tuia, Rakotomamonjy: Optimal transport for domain adaptation. TPAMI 39,
            2017.
        Cuturi: Sinkhorn distances: Lightspeed computation of optimal transport. NIPS 2013 (the
            entropic plan).
        Ferradans, Papadakis, Peyre, Aujol: Regularized discrete optimal transport. SIAM Journal on
            Imaging Sciences 7, 2014 (rows that were not in the sample).
        Lu, Freund, Nesterov: Relatively smooth convex optimization by first-order methods, and
            applications. SIAM Journal on Optimization 28, 2018 (the steps for the group lasso).

    Differences:
        The cost is divided by its mean. A pair of different classes costs 10 times the largest
        cost, as in POT's `EMDTransport`. The squared differences of numbers are divided by their
        mean and added to the cost; that is an addition. The group lasso is minimised by mirror
        steps, see `da.shallow.plans`; Courty et al. use a conditional gradient. Equal source rows
        have one image, the mean of theirs.
    """

    def __init__(
        self,
        *,
        regularization: float = 0.1,
        class_regularization: float = 0.0,
        n_iter: int = 1000,
        tolerance: float = 1e-4,
        metric: Metric = "sqeuclidean",
        labels: LabelKind | None = None,
    ) -> None:
        self.regularization = regularization
        self.class_regularization = class_regularization
        self.n_iter = n_iter
        self.tolerance = tolerance
        self.metric = metric
        self.labels = labels

    def fit(
        self,
        source: Array,
        target: Array,
        source_labels: Tensor | np.ndarray | None = None,
        target_labels: Tensor | np.ndarray | None = None,
    ) -> Self:
        """Learn the image of each row of source among the target.

        Args:
            source: Rows (n, d), floats.
            target: Rows (m, d), floats.
            source_labels: Labels (n,). They are used only if `class_regularization` > 0, or with
                `target_labels`.
            target_labels: Labels (m,) of some target rows. NaN or None marks a row without a label,
                and so does -1 among integer classes. Default None: there are no such labels.

        Returns:
            The adapter itself.

        Raises:
            TypeError: Labels are needed and missing, or of a wrong type.
            ValueError: A parameter is out of its range, there is not one label per row, or a label
                of the target is no class of the source.
        """
        x, y = self._samples(source, target)
        self._check_parameters()
        own, other, kind = self._label_columns(source_labels, target_labels, x, y)
        # The rows are sorted: if several plans are best, the choice then does not depend on the
        # order in which the rows came. NaN has no place in an order.
        order = _rank(torch.cat([x, own[:, None]], dim=1)).argsort()
        filled = other.nan_to_num(torch.finfo(other.dtype).max)[:, None]
        target_order = _rank(torch.cat([y, filled], dim=1)).argsort()
        x, own, y, other = x[order], own[order], y[target_order], other[target_order]
        with full_precision(x):
            cost = metric_costs(x, y, self.metric)
            mean = cost.mean()
            cost = cost / torch.where(mean > 0, mean, 1.0)  # of equal rows any plan will do
            plan = self._plan(with_labels(cost, own, other, kind), own)  # (n, m)
            images = plan @ y / plan.sum(dim=1, keepdim=True)  # (n, d)
        self.source_, row, count = torch.unique(x, dim=0, return_inverse=True, return_counts=True)
        self.images_ = torch.zeros_like(self.source_).index_add_(0, row, images) / count[:, None]
        return self

    def _label_columns(
        self,
        source_labels: Tensor | np.ndarray | None,
        target_labels: Tensor | np.ndarray | None,
        x: Tensor,
        y: Tensor,
    ) -> tuple[Tensor, Tensor, LabelKind]:
        """The columns of labels that count, see `label_columns`; 0 and NaN if none do."""
        if target_labels is not None:
            columns = label_columns(source_labels, target_labels, x, y, self.labels)
            if columns[2] == "numbers" and self.class_regularization > 0:
                raise ValueError(
                    "class_regularization must be 0 for labels that are numbers; "
                    f"got {self.class_regularization}"
                )
            return columns
        own = torch.zeros_like(x[:, 0])
        if self.class_regularization > 0:
            own = check_labels(source_labels, x)[1].to(x)
        return own, torch.full_like(y[:, 0], torch.nan), "classes"

    def _plan(self, cost: Tensor, codes: Tensor) -> Tensor:
        """The plan (n, m) for costs (n, m) in units of the mean distance."""
        e, eta = float(self.regularization), float(self.class_regularization)
        if eta > 0:
            return class_plan(cost, codes, e, eta, iterations=self.n_iter, tolerance=self.tolerance)
        if e > 0:
            return entropic_plan(cost, e, iterations=self.n_iter, tolerance=self.tolerance)
        return exact_plan(cost)

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        if domain == "target":
            return x
        # Distances by differences, not by products: a row of `fit` is then nearest to itself,
        # however near others are.
        exact = "donot_use_mm_for_euclid_dist"
        parts = [
            torch.cdist(part, self.source_, compute_mode=exact).argmin(dim=1)
            for part in x.split(1024)
        ]
        row = torch.cat(parts)
        return x + (self.images_ - self.source_)[row]

    def _check_parameters(self) -> None:
        for name in ("regularization", "class_regularization"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number >= 0; got {value}")
        check_choice("metric", self.metric, Metric)
        if self.class_regularization > 0 and not self.regularization > 0:
            raise ValueError(
                "class_regularization > 0 needs regularization > 0; got "
                f"{self.class_regularization} and {self.regularization}"
            )
        whole_number(self.n_iter, "n_iter", least=1)
        if not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise ValueError(f"tolerance must be a finite number > 0; got {self.tolerance}")


@final
class LinearMongeMap(Adapter):
    """Move source rows so that they get the mean and the covariance of the target.

    Use it if a change of location, scale and correlation tells the domains apart. It is fast and
    needs no labels. Target rows stay where they are. It is the optimal map between two Gaussians:

        x -> m_t + (x - m_s) A
        A = C_s^(-1/2) (C_s^(1/2) C_t C_s^(1/2))^(1/2) C_s^(-1/2)

    A is symmetric and positive definite, and A C_s A = C_t. `fit` keeps it as `map_`. Covariances
    are divided by n. Standardise columns that vary far less than others first.

    Args:
        regularization: r > 0, added to the diagonals of both covariances, in units of the mean
            variance of a column over both samples; it has no unit itself. A sample does not vary
            beyond its n - 1 directions. There the ridge alone decides: A stretches by
            sqrt(1 + l / r) for a variance l of the target in those units. Default 1e-3.

    Raises:
        ValueError: In `fit`, if `regularization` is not a finite number > 0 or a sample has fewer
            than two rows.

    Example:
        >>> import numpy as np
        >>> from da.shallow import LinearMongeMap
        >>> source, target = np.array([[-1.0], [1.0]]), np.array([[7.0], [13.0]])
        >>> adapter = LinearMongeMap(regularization=1e-6).fit(source, target)
        >>> adapter.transform(np.array([[-1.0], [0.0], [1.0]])).round(2).tolist()
        [[7.0], [10.0], [13.0]]

    Paper:
        Flamary, Lounici, Ferrari: Concentration bounds for linear Monge mapping estimation and
            optimal transport domain adaptation. arXiv 1905.10155, 2019.

    Differences:
        A ridge of 1e-3 of the mean variance is added to both covariances. The covariances are
        divided by n, as in the paper.
    """

    def __init__(self, *, regularization: float = 1e-3) -> None:
        self.regularization = regularization

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn A and both means from source (n, d) and target (m, d); labels are not used."""
        x, y = self._rows(source, target, least=2)
        if not (math.isfinite(self.regularization) and self.regularization > 0):
            raise ValueError(
                f"regularization must be a finite number > 0; got {self.regularization}"
            )
        with full_precision(x):
            self.source_mean_, self.target_mean_ = mean_of(x), mean_of(y)
            first, second = scatter_of(x) / len(x), scatter_of(y) / len(y)  # C_s, C_t (d, d)
            variance = float(first.trace() + second.trace()) / (2 * x.shape[1])
            identity = torch.eye(x.shape[1], dtype=first.dtype, device=x.device)
            ridge = self.regularization * (variance or 1.0) * identity
            root, inverse = _power(first + ridge, 0.5), _power(first + ridge, -0.5)
            self.map_ = inverse @ _power(root @ (second + ridge) @ root, 0.5) @ inverse
        return self

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return x if domain == "target" else self.target_mean_ + (x - self.source_mean_) @ self.map_


def _rank(rows: Tensor) -> Tensor:
    """Each row's place (n,) in the lexicographic order of the distinct rows."""
    return torch.unique(rows, dim=0, return_inverse=True)[1]


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A symmetric positive definite matrix (d, d) to a power."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=torch.finfo(values.dtype).tiny) ** exponent @ vectors.T
