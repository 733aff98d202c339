"""scikit-learn estimators that learn from labelled source rows and unlabelled target rows.

    model = DomainAdaptationClassifier(adapter=OTMap(), estimator=KNeighborsClassifier(1))
    model.fit(X, y, sample_domain=sample_domain).predict(X_target)           # sample_domain > 0: source, < 0: target

Under `sklearn.set_config(enable_metadata_routing=True)` they work in pipelines, searches and cross-validation: they request sample_domain
by default, so that it is only to be handed over. `da.shallow.crossvalidation` chooses among them without target labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import Tags, assert_all_finite, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    has_fit_parameter,
    validate_data,
)

from da.shallow.adapter import Adapter
from da.shallow.crossvalidation import Weigher, checked_weights, is_source, labels_of


def _estimator_has(method: str) -> Callable[[_DomainAdaptation], bool]:
    """Whether the estimator that is, or is to be, fitted has the method: AttributeError names it where it has not."""

    def check(self: _DomainAdaptation) -> bool:
        getattr(self.estimator_ if hasattr(self, "estimator_") else self._chosen(), method)
        return True

    return check


class _DomainAdaptation(BaseEstimator, ABC):
    """What the classifier and the regressor share: rows are told apart, adapted, weighed, and handed to the estimator."""

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
        """Learns from rows X (n, d), their labels y (n,) and their domains (n,): integers > 0 for source rows, < 0 for target rows.

        What y holds for target rows is never read: NaN, None or anything else may stand there. Several sources are pooled. Without
        sample_domain every row is source. The estimator sees the adapted source rows; the weights are those of them, against the adapted
        target rows.

        Raises ValueError for an adapter or weigher without target rows, without source rows, for domains of 0 or of another length, and
        for weights that the estimator would ignore; TypeError for sparse X where the adapter or weigher needs it dense.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        X = self._rows(X, reset=True)
        check_consistent_length(X, y)
        chosen = (
            np.ones(X.shape[0], dtype=bool)
            if sample_domain is None
            else is_source(sample_domain, X.shape[0])
        )
        self._check_parts(chosen)
        labels = self._labels(labels_of(y, chosen))
        source, target = X[chosen], X[~chosen]
        self.adapter_, self.weights_ = None, None
        if self.adapter is not None:
            self.adapter_ = clone(self.adapter).fit(source, target, self._labels_to_adapt(labels))
            source, target = (
                self.adapter_.transform(source, domain="source"),
                self.adapter_.transform(target, domain="target"),
            )
        self.estimator_ = clone(self._chosen())
        if self.weigher is None:
            self.estimator_.fit(source, labels)
        else:
            self.weights_ = checked_weights(self.weigher, source, target)
            self.estimator_.fit(source, labels, sample_weight=self.weights_)
        return self

    def predict(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """The estimator's answers (k,) for rows X (k, d), each adapted as of its domain; without sample_domain all are target rows."""
        return self._answer("predict", X, sample_domain)

    def _answer(self, method: str, X: Any, sample_domain: Any) -> np.ndarray:
        check_is_fitted(self, "estimator_")
        X = self._rows(X, reset=False)
        rows = X.shape[0]
        chosen = (
            np.zeros(rows, dtype=bool) if sample_domain is None else is_source(sample_domain, rows)
        )
        if self.adapter_ is not None:
            parts = [
                (mask, domain)
                for mask, domain in ((chosen, "source"), (~chosen, "target"))
                if mask.any()
            ]
            adapted = np.concatenate(
                [self.adapter_.transform(X[mask], domain=domain) for mask, domain in parts]
            )
            X = adapted[np.argsort(np.concatenate([np.flatnonzero(mask) for mask, _ in parts]))]
        return getattr(self.estimator_, method)(X)

    def _rows(self, X: Any, *, reset: bool) -> Any:
        dense = self.adapter is not None or self.weigher is not None
        return validate_data(
            self,
            X,
            accept_sparse=False if dense else "csr",
            dtype=[np.float64, np.float32],
            reset=reset,
        )

    def _check_parts(self, chosen: np.ndarray) -> None:
        """That there are the rows that the parts need, and that weights will be used."""
        if not chosen.any():
            raise ValueError(
                f"sample_domain must be > 0 for at least one row, a source row; all {len(chosen)} are target rows"
            )
        named = [name for name in ("adapter", "weigher") if getattr(self, name) is not None]
        if named and chosen.all():
            raise ValueError(
                f"{' and '.join(named)} must see target rows, and of n_samples = {len(chosen)} none is: pass fit(X, y, sample_domain=...), "
                "integers > 0 for source rows and < 0 for target rows (through a pipeline or a search by scikit-learn's metadata routing)"
            )
        estimator = self._chosen()
        if self.weigher is not None and not has_fit_parameter(estimator, "sample_weight"):
            raise ValueError(
                f"estimator must take sample_weight in fit, or the weigher's weights would be ignored; {type(estimator).__name__} does "
                "not. Where it is a pipeline, put its first steps before this estimator instead"
            )

    def _chosen(self) -> BaseEstimator:
        return self._default() if self.estimator is None else self.estimator

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = (
            self.adapter is None
            and self.weigher is None
            and get_tags(self._chosen()).input_tags.sparse
        )
        return tags

    def _to_score(
        self, X: Any, y: Any, sample_weight: Any, sample_domain: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Labels, answers and weights of the rows that count."""
        answers = self.predict(X, sample_domain)
        check_consistent_length(answers, y, sample_weight)
        chosen = (
            np.ones(len(answers), dtype=bool)
            if sample_domain is None
            else is_source(sample_domain, len(answers))
        )
        if not chosen.any():
            raise ValueError(
                "sample_domain leaves no source row to score: to score labelled target rows, leave it out"
            )
        return (
            labels_of(y, chosen),
            answers[chosen],
            None if sample_weight is None else np.asarray(sample_weight)[chosen],
        )

    @abstractmethod
    def _default(self) -> BaseEstimator:
        """The estimator that stands for None."""

    @abstractmethod
    def _labels(self, y: np.ndarray) -> np.ndarray:
        """The source rows' labels, checked."""

    @abstractmethod
    def _labels_to_adapt(self, labels: np.ndarray) -> np.ndarray | None:
        """What of them the adapter is given."""


@final
class DomainAdaptationClassifier(ClassifierMixin, _DomainAdaptation):
    """A classifier trained on source rows that are adapted, or weighted, or both, towards target rows whose labels are not known.

    adapter:   an `Adapter` of `da.feature`, cloned and fitted to both domains and the source's labels; None: rows as they are.
    weigher:   a function (source, target) -> weights (n,) of `da.instance`, or `functools.partial` of one; None: all rows weigh alike.
    estimator: a scikit-learn classifier, cloned; None: `LogisticRegression(max_iter=1000)`.

    Fitted: `classes_`, `estimator_`, `n_features_in_`, `feature_names_in_` for data frames, `adapter_` and `weights_` (n_source,) or
    None; their `effective_sample_size` says on how many rows the classifier rests.
    """

    def _default(self) -> BaseEstimator:
        return LogisticRegression(max_iter=1000)

    def _labels(self, y: np.ndarray) -> np.ndarray:
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        return y

    def _labels_to_adapt(self, labels: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.classes_, labels)

    @available_if(_estimator_has("predict_proba"))
    def predict_proba(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Probabilities (k, classes) in the order of `classes_`; rows as in `predict`."""
        return self._answer("predict_proba", X, sample_domain)

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """The estimator's scores, (k,) for two classes, else (k, classes); rows as in `predict`."""
        return self._answer("decision_function", X, sample_domain)

    def score(self, X: Any, y: Any, sample_weight: Any = None, sample_domain: Any = None) -> float:
        """Accuracy on rows X (k, d) with labels y (k,), taken as target rows; with sample_domain, on the source rows among them alone.

        For beside a target row there may stand anything in y: with sample_domain it is never read. Raises ValueError for target rows alone.
        """
        y, answers, weight = self._to_score(X, y, sample_weight, sample_domain)
        return float(accuracy_score(y, answers, sample_weight=weight))


@final
class DomainAdaptationRegressor(RegressorMixin, _DomainAdaptation):
    """A regression trained on source rows that are adapted, or weighted, or both, towards target rows whose answers are not known.

    adapter:   an `Adapter` of `da.feature` that needs no classes, cloned and fitted to both domains; None: rows as they are.
    weigher:   a function (source, target) -> weights (n,) of `da.instance`, or `functools.partial` of one; None: all rows weigh alike.
    estimator: a scikit-learn regressor, cloned; None: `Ridge()`.

    Fitted: `estimator_`, `n_features_in_`, `feature_names_in_` for data frames, `adapter_` and `weights_` (n_source,) or None;
    their `effective_sample_size` says on how many rows the regression rests.
    """

    def _default(self) -> BaseEstimator:
        return Ridge()

    def _labels(self, y: np.ndarray) -> np.ndarray:
        y = y.astype(np.float64, copy=False)
        assert_all_finite(y, input_name="y")
        return y

    def _labels_to_adapt(self, labels: np.ndarray) -> None:
        return None

    def score(self, X: Any, y: Any, sample_weight: Any = None, sample_domain: Any = None) -> float:
        """R^2 on rows X (k, d) with answers y (k,), taken as target rows; with sample_domain, on the source rows among them alone.

        For beside a target row there may stand anything in y: with sample_domain it is never read. Raises ValueError for target rows alone.
        """
        y, answers, weight = self._to_score(X, y, sample_weight, sample_domain)
        return float(r2_score(y, answers, sample_weight=weight))
