"""What the domain-adaptation classifier and regressor share.

`fit` separates the source rows from the target rows, adapts them, weighs the source rows and hands
them to the wrapped estimator. `da.shallow.estimators` holds the two classes for users.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    has_fit_parameter,
    validate_data,
)

from da.arrays.sample_domain import is_source, labels_of
from da.shallow.adapter import Adapter, Domain
from da.shallow.weigher import Weigher, checked_weights


def estimator_has(method: str) -> Callable[[DomainAdaptationEstimator], bool]:
    """Make a check for `available_if`: does the wrapped estimator have the method?

    The check raises AttributeError, which names the method, if the estimator does not have it.
    """

    def check(self: DomainAdaptationEstimator) -> bool:
        getattr(self.estimator_ if hasattr(self, "estimator_") else self._chosen(), method)
        return True

    return check


class DomainAdaptationEstimator(BaseEstimator, ABC):
    """The common part of the classifier and the regressor: adapt, weigh, then fit an estimator.

    Args:
        adapter: An `Adapter`, or None for rows as they are.
        weigher: A function (source, target) -> weights (n,), or None for equal weights.
        estimator: A scikit-learn estimator, or None for the default of the subclass.
    """

    __metadata_request__fit = {"sample_domain": True}
    __metadata_request__predict = {"sample_domain": True}
    __metadata_request__predict_proba = {"sample_domain": True}
    __metadata_request__decision_function = {"sample_domain": True}
    __metadata_request__score = {"sample_domain": True}

    def __init__(
        self,
        adapter: Adapter | None = None,
        weigher: Weigher | None = None,
        estimator: BaseEstimator | None = None,
    ) -> None:
        self.adapter = adapter
        self.weigher = weigher
        self.estimator = estimator

    def fit(self, X: Any, y: Any, sample_domain: Any = None) -> Self:
        """Adapt the rows, weigh the source rows, and fit the estimator to them.

        The weights are computed from the adapted source rows and the adapted target rows. Several
        sources are pooled.

        Args:
            X: Rows (n, d) of both domains.
            y: Labels (n,). The entries of target rows are ignored; they may be NaN or None.
            sample_domain: Integers (n,), > 0 for source rows and < 0 for target rows. None: every
                row is a source row.

        Returns:
            The estimator itself.

        Raises:
            ValueError: There are no source rows, or an adapter or weigher finds no target rows. A
                domain is 0 or `sample_domain` has another length. The wrapped estimator would
                ignore the weights.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        X = self._rows(X, reset=True)
        check_consistent_length(X, y)
        chosen = _source_rows(sample_domain, X.shape[0], otherwise=True)
        self._check_parts(chosen)
        labels = self._labels(labels_of(y, chosen))
        source, target = X[chosen], X[~chosen]
        self.adapter_, self.weights_ = None, None
        if self.adapter is not None:
            self.adapter_ = clone(self.adapter).fit(source, target, self._labels_to_adapt(labels))
            source = self.adapter_.transform(source, domain="source")
            target = self.adapter_.transform(target, domain="target")
        self.estimator_ = clone(self._chosen())
        if self.weigher is None:
            self.estimator_.fit(source, labels)
        else:
            self.weights_ = checked_weights(self.weigher, source, target)
            self.estimator_.fit(source, labels, sample_weight=self.weights_)
        return self

    def predict(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Predict, each row adapted by the map of its domain.

        Args:
            X: Rows (k, d).
            sample_domain: Integers (k,), > 0 for source rows and < 0 for target rows. None: every
                row is a target row.

        Returns:
            The answers of the estimator (k,).
        """
        return self._answer("predict", X, sample_domain)

    def _answer(self, method: str, X: Any, sample_domain: Any) -> np.ndarray:
        """Call a method of the fitted estimator on adapted rows."""
        check_is_fitted(self, "estimator_")
        X = self._rows(X, reset=False)
        chosen = _source_rows(sample_domain, X.shape[0], otherwise=False)
        if self.adapter_ is not None:
            X = _adapted(self.adapter_, X, chosen)
        return getattr(self.estimator_, method)(X)

    def _rows(self, X: Any, *, reset: bool) -> Any:
        """Check X, which may be sparse; an adapter or a weigher makes dense rows of it."""
        return validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            reset=reset,
        )

    def _check_parts(self, chosen: np.ndarray) -> None:
        """Check that the rows which the parts need are there, and that weights will be used."""
        if not chosen.any():
            raise ValueError(
                "sample_domain must be > 0 for at least one row, a source row; all "
                f"{len(chosen)} are target rows"
            )
        named = [name for name in ("adapter", "weigher") if getattr(self, name) is not None]
        if named and chosen.all():
            raise ValueError(
                f"{' and '.join(named)} must see target rows, and of n_samples = {len(chosen)} "
                "none is: pass fit(X, y, sample_domain=...), integers > 0 for source rows and < 0 "
                "for target rows; a pipeline or a search passes it by scikit-learn's metadata "
                "routing"
            )
        estimator = self._chosen()
        if self.weigher is not None and not has_fit_parameter(estimator, "sample_weight"):
            raise ValueError(
                "estimator must take sample_weight in fit, or the weigher's weights would be "
                f"ignored; {type(estimator).__name__} does not. If it is a pipeline, put its first "
                "steps before this estimator instead"
            )

    def _chosen(self) -> BaseEstimator:
        """The estimator given, or the default."""
        return self._default() if self.estimator is None else self.estimator

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        reads_dense = self.adapter is not None  # the estimator gets what the adapter made
        tags.input_tags.sparse = reads_dense or get_tags(self._chosen()).input_tags.sparse
        return tags

    def _to_score(
        self, X: Any, y: Any, sample_weight: Any, sample_domain: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The labels, answers and weights of the rows that count in a score."""
        answers = self.predict(X, sample_domain)
        check_consistent_length(answers, y, sample_weight)
        chosen = _source_rows(sample_domain, len(answers), otherwise=True)
        if not chosen.any():
            raise ValueError(
                "sample_domain leaves no source row to score: to score labelled target rows, "
                "leave it out"
            )
        weights = None if sample_weight is None else np.asarray(sample_weight)[chosen]
        return labels_of(y, chosen), answers[chosen], weights

    @abstractmethod
    def _default(self) -> BaseEstimator:
        """The estimator to use if none is given."""

    @abstractmethod
    def _labels(self, y: np.ndarray) -> np.ndarray:
        """The checked labels of the source rows."""

    @abstractmethod
    def _labels_to_adapt(self, labels: np.ndarray) -> np.ndarray | None:
        """The labels that the adapter gets."""


def _source_rows(sample_domain: Any, rows: int, *, otherwise: bool) -> np.ndarray:
    """Which rows are source rows (rows,); without sample_domain all of them are `otherwise`."""
    if sample_domain is None:
        return np.full(rows, otherwise)
    return is_source(sample_domain, rows)


def _adapted(adapter: Adapter, X: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Each row of X (k, d) mapped as its domain asks, in the order given."""
    parts: list[tuple[Domain, np.ndarray]] = [("source", source), ("target", ~source)]
    positions, mapped = [], []
    for domain, mask in parts:
        if mask.any():
            positions.append(np.flatnonzero(mask))
            mapped.append(adapter.transform(X[mask], domain=domain))
    order = np.argsort(np.concatenate(positions))
    return np.concatenate(mapped)[order]
