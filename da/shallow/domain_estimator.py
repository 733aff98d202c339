"""What the domain-adaptation classifier and regressor share.

`fit` separates the source rows from the target rows, adapts them, weighs the source rows and hands
them to the wrapped estimator. `da.shallow.estimators` holds the two classes for users.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from da.arrays.checked_classes import CheckedEstimator
from da.arrays.sample_domain import is_source, labelled_rows, labels_of, pooled_rows
from da.shallow.adapter import Adapter, Domain
from da.shallow.estimator_checks import check_parts
from da.shallow.source_mixture import SourceWeights, similarity_weights, validation_weights
from da.shallow.weigher import Weigher, checked_weights

Labelled = tuple[Any, np.ndarray]  # rows, which may be sparse, and their labels


def estimator_has(method: str) -> Callable[[DomainAdaptationEstimator], bool]:
    """Make a check for `available_if`: does the wrapped estimator have the method?

    The check raises AttributeError, which names the method, if the estimator does not have it.
    """

    def check(self: DomainAdaptationEstimator) -> bool:
        getattr(self.estimator_ if hasattr(self, "estimator_") else self._chosen(), method)
        return True

    return check


class DomainAdaptationEstimator(CheckedEstimator, BaseEstimator, ABC):
    """The common part of the classifier and the regressor: adapt, weigh, then fit an estimator.

    Args:
        adapter: An `Adapter`, or None for rows as they are.
        weigher: A function (source, target) -> weights (n,), or None for equal weights.
        estimator: A scikit-learn estimator, or None for the default of the subclass.
        target_weight: How many source rows a labelled target row counts as, or None: target labels
            are never read.
        source_weights: How the rows of several sources are weighed.
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
        *,
        target_weight: float | None = None,
        source_weights: SourceWeights = "equal",
    ) -> None:
        self.adapter = adapter
        self.weigher = weigher
        self.estimator = estimator
        self.target_weight = target_weight
        self.source_weights = source_weights

    def fit(self, X: Any, y: Any, sample_domain: Any = None) -> Self:
        """Adapt the rows, weigh the source rows, and fit the estimator to them.

        Weights are computed from the adapted source rows and the adapted target rows.

        Args:
            X: Rows (n, d) of both domains.
            y: Labels (n,). The entries of target rows are ignored; they may be NaN or None. If
                `target_weight` is a number, those that are neither are learned from.
            sample_domain: Integers (n,), > 0 for source rows, one number for each source, and < 0
                for target rows. None: every row is a source row.

        Returns:
            The estimator itself.

        Raises:
            ValueError: There are no source rows; or an adapter, a weigher or `source_weights` finds
                no target rows, or what needs labelled ones finds none. A domain is 0 or
                `sample_domain` has another length. The wrapped estimator would ignore the weights.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        X = self._rows(X, reset=True, y=y)
        chosen = _source_rows(sample_domain, X.shape[0], otherwise=True)
        check_parts(self, self._chosen(), chosen)
        few = self._labelled_target(y, chosen)
        labels = self._labels(labels_of(y, chosen | few))
        own, other = labels[chosen[chosen | few]], labels[few[chosen | few]]
        self._check_target_labels(own, other)
        source, target = X[chosen], X[~chosen]
        self.adapter_, self.weights_ = None, None
        self.source_weights_: dict[int, float] | None = None
        if self.adapter is not None:
            self.adapter_ = clone(self.adapter).fit(source, target, self._labels_to_adapt(own))
            source = self.adapter_.transform(source, domain="source")
            target = self.adapter_.transform(target, domain="target")
        if self.weigher is not None:
            self.weights_ = checked_weights(self.weigher, source, target)
        known = target[few[~chosen]]
        if self.source_weights != "equal":
            domains = np.ones(len(own)) if sample_domain is None else np.asarray(sample_domain)
            self._weigh_sources(domains[chosen], (source, own), target, (known, other))
        self._fit_estimator((source, own), (known, other))
        return self

    def _labelled_target(self, y: Any, chosen: np.ndarray) -> np.ndarray:
        """Which target rows are learned from (n,): on request those that have a label."""
        if self.target_weight is None:
            return np.zeros(len(chosen), dtype=bool)
        few = labelled_rows(y, ~chosen)
        if not few.any():
            raise ValueError(
                "target_weight must have target rows with a label to weigh; got none: mark rows "
                "without one by NaN or None in y, or leave target_weight out"
            )
        kinds = {labels_of(y, rows).dtype.kind in "US" for rows in (chosen, few)}
        if len(kinds) > 1:
            raise ValueError("y must hold words in both domains, or numbers in both; got both")
        return few

    def _weigh_sources(
        self, domains: np.ndarray, own: Labelled, target: Any, known: Labelled
    ) -> None:
        """Find the weight of each source, and multiply it into the weights of its rows."""
        rows, labels = own
        numbers, place, counts = np.unique(domains, return_inverse=True, return_counts=True)
        parts = [place == s for s in range(len(numbers))]
        if self.source_weights == "similarity":
            weights = similarity_weights([rows[part] for part in parts], target)
        else:
            models = [
                self._learned(
                    rows[part], labels[part], None if self.weights_ is None else self.weights_[part]
                )
                for part in parts
            ]
            answers = [self._answers_of(model, known[0]) for model in models]
            weights = validation_weights(answers, self._truth(known[1]))
        self.source_weights_ = dict(zip(numbers.tolist(), weights.tolist(), strict=True))
        each = (weights / counts)[place]  # the rows of a source share its weight
        each = each if self.weights_ is None else each * self.weights_
        self.weights_ = each / each.mean()

    def _fit_estimator(self, own: Labelled, known: Labelled) -> None:
        """Fit the estimator to source rows, and to labelled target rows if there are any."""
        (rows, labels), (few, others), weights = own, known, self.weights_
        if len(others):
            sparse = scipy.sparse.issparse(rows)
            rows = scipy.sparse.vstack([rows, few]).tocsr() if sparse else np.vstack([rows, few])
            labels = np.concatenate([labels, others])
        if len(others) and (weights is not None or self.target_weight != 1):
            ones = np.ones(len(own[1])) if weights is None else weights
            weights = np.concatenate([ones, np.full(len(others), float(self.target_weight or 0))])
        self.estimator_ = self._learned(rows, labels, weights)

    def _learned(self, rows: Any, labels: np.ndarray, weights: np.ndarray | None) -> BaseEstimator:
        """A clone of the estimator, fitted."""
        model = clone(self._chosen())
        if weights is None:
            return model.fit(rows, labels)
        return model.fit(rows, labels, sample_weight=weights)

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

    def _rows(self, X: Any, *, reset: bool, y: Any = None) -> Any:
        """Check X, which may be sparse; an adapter or a weigher makes dense rows of it."""
        return pooled_rows(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan" if self._takes_missing() else True,
            reset=reset,
        )

    def _takes_missing(self) -> bool:
        """Whether NaN may come: only the estimator sees the rows, and it or its first step can."""
        if self.adapter is not None or self.weigher is not None:
            return False
        first = self._chosen()
        while isinstance(first, Pipeline) and len(first):
            first = first[0]
        return self.source_weights != "similarity" and bool(get_tags(first).input_tags.allow_nan)

    def _chosen(self) -> BaseEstimator:
        """The estimator given, or the default."""
        return self._default() if self.estimator is None else self.estimator

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        reads_dense = self.adapter is not None  # the estimator gets what the adapter made
        tags.input_tags.sparse = reads_dense or get_tags(self._chosen()).input_tags.sparse
        tags.input_tags.allow_nan = self._takes_missing()
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
    def _check_target_labels(self, own: np.ndarray, other: np.ndarray) -> None:
        """Check the labels of target rows against those of source rows."""

    @abstractmethod
    def _answers_of(self, model: Any, rows: Any) -> np.ndarray:
        """What a model of one source answers to rows: (k, outputs)."""

    @abstractmethod
    def _truth(self, labels: np.ndarray) -> np.ndarray:
        """What the right answers would be: (k, outputs)."""

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
