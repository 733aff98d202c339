"""scikit-learn estimators that learn from labelled source rows and unlabelled target rows.

    model = DomainAdaptationClassifier(adapter=OTMap(), estimator=KNeighborsClassifier(1))
    model.fit(X, y, sample_domain=sample_domain).predict(X_target)

`sample_domain` is > 0 for source rows and < 0 for target rows. Under
`sklearn.set_config(enable_metadata_routing=True)` the estimators work in pipelines, searches and
cross-validation. They request `sample_domain` by default, so it only has to be passed.
`SourceFolds` and `ImportanceWeightedScore` choose among them without target labels.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import assert_all_finite
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from da.shallow.domain_estimator import DomainAdaptationEstimator, estimator_has


@final
class DomainAdaptationClassifier(ClassifierMixin, DomainAdaptationEstimator):
    """Train a classifier on source rows, adapted or weighted towards unlabelled target rows.

    Use it to put an adapter, a weigher or both before any scikit-learn classifier. It works in
    pipelines, searches and cross-validation. After `fit` it has `classes_`, `estimator_`,
    `n_features_in_`, `feature_names_in_` for data frames, and `adapter_` and `weights_` (n_source,)
    or None. `da.instance.effective_sample_size(model.weights_)` says on how many rows the
    classifier rests.

    Args:
        adapter: An `Adapter` of `da.shallow`, cloned, then fitted to both domains and the labels of
            the source. None, the default: rows as they are.
        weigher: A function (source (n, d), target (m, d)) -> weights (n,) of `da.instance`, or
            `functools.partial` of one. None, the default: all rows weigh the same.
        estimator: A scikit-learn classifier, cloned. None, the default:
            `LogisticRegression(max_iter=1000)`. NaN in X is left to it if it takes NaN and there is
            no adapter, weigher or similarity.
        target_weight: None, the default: labels of target rows are never read. A number > 0: target
            rows with a label (neither NaN nor None in y) are learned from too, and each counts as
            so many source rows.
        source_weights: "equal" (default) pools several sources (numbers > 0 in `sample_domain`) as
            they are. "similarity" weighs each by `similarity_weights`, without labels.
            "validation" weighs each by `validation_weights` on the labelled target rows. The
            weights are in `source_weights_`, by number.

    Raises:
        ValueError: In `fit`, if source or target rows are missing, a domain is 0, or the estimator
            would ignore the weights.

    Example:
        >>> import numpy as np
        >>> from da.shallow import CORAL, DomainAdaptationClassifier
        >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0], [-40.0], [40.0]])
        >>> y = np.array([0, 0, 1, 1, -99, -99])  # the entries of target rows are not read
        >>> sample_domain = np.array([1, 1, 1, 1, -1, -1])
        >>> model = DomainAdaptationClassifier(adapter=CORAL())
        >>> model.fit(X, y, sample_domain=sample_domain).predict([[-30.0], [20.0]]).tolist()
        [0, 1]

        A label of the target, where the classes lie the other way round:

        >>> few = np.array([0, 0, 1, 1, 1, np.nan])
        >>> model = DomainAdaptationClassifier(target_weight=10.0)
        >>> model.fit(X, few, sample_domain=sample_domain).predict([[-40.0], [40.0]]).tolist()
        [1.0, 0.0]
    """

    def _default(self) -> BaseEstimator:
        return LogisticRegression(max_iter=1000)

    def _labels(self, y: np.ndarray) -> np.ndarray:
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        return y

    def _labels_to_adapt(self, labels: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.classes_, labels)

    def _check_target_labels(self, own: np.ndarray, other: np.ndarray) -> None:
        if new := np.setdiff1d(other, own).tolist():
            raise ValueError(
                f"target rows must have classes that source rows have; got {new[:5]}: mark rows "
                "without a label by NaN or None in y"
            )

    def _answers_of(self, model: Any, rows: Any) -> np.ndarray:
        """Probabilities in the order of `classes_`, or 1 for the answer of a model without them."""
        found = np.zeros((rows.shape[0], len(self.classes_)))
        if hasattr(model, "predict_proba"):
            found[:, np.searchsorted(self.classes_, model.classes_)] = model.predict_proba(rows)
            return found
        return self._truth(model.predict(rows))

    def _truth(self, labels: np.ndarray) -> np.ndarray:
        return (labels[:, None] == self.classes_).astype(np.float64)

    @available_if(estimator_has("predict_proba"))
    def predict_proba(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Return probabilities (k, classes), ordered as `classes_`; arguments as in `predict`."""
        return self._answer("predict_proba", X, sample_domain)

    @available_if(estimator_has("decision_function"))
    def decision_function(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Return scores, (k,) for two classes, else (k, classes); arguments as in `predict`."""
        return self._answer("decision_function", X, sample_domain)

    def score(self, X: Any, y: Any, sample_weight: Any = None, sample_domain: Any = None) -> float:
        """Compute the accuracy.

        Args:
            X: Rows (k, d).
            y: Labels (k,). Target labels are ignored if `sample_domain` is given.
            sample_weight: Weights (k,), or None for equal ones.
            sample_domain: Integers (k,): the accuracy is that of the source rows alone. None: all
                rows are target rows, and all count.

        Returns:
            The accuracy, a fraction in [0, 1].

        Raises:
            ValueError: `sample_domain` marks no source row.
        """
        y, answers, weight = self._to_score(X, y, sample_weight, sample_domain)
        return float(accuracy_score(y, answers, sample_weight=weight))


@final
class DomainAdaptationRegressor(RegressorMixin, DomainAdaptationEstimator):
    """Train a regression on source rows, adapted or weighted towards unlabelled target rows.

    Use it as `DomainAdaptationClassifier`, if the answers are numbers. After `fit` it has
    `estimator_`, `n_features_in_`, `feature_names_in_` for data frames, and `adapter_` and
    `weights_` (n_source,) or None. `da.instance.effective_sample_size(model.weights_)` says on how
    many rows the regression rests.

    Args:
        adapter: An `Adapter` of `da.shallow` that needs no classes, cloned and fitted to both
            domains. None, the default: rows as they are.
        weigher: A function (source (n, d), target (m, d)) -> weights (n,) of `da.instance`, or
            `functools.partial` of one. None, the default: all rows weigh the same.
        estimator: A scikit-learn regressor, cloned. None, the default: `Ridge()`. NaN in X is left
            to it if it takes NaN and there is no adapter, weigher or similarity.
        target_weight: None, the default: labels of target rows are never read. A number > 0: target
            rows with a label (neither NaN nor None in y) are learned from too, and each counts as
            so many source rows.
        source_weights: "equal" (default) pools several sources (numbers > 0 in `sample_domain`) as
            they are. "similarity" weighs each by `similarity_weights`, without labels.
            "validation" weighs each by `validation_weights` on the labelled target rows. The
            weights are in `source_weights_`, by number.

    Raises:
        ValueError: In `fit`, if source or target rows are missing, a domain is 0, an answer is not
            finite, or the estimator would ignore the weights.

    Example:
        >>> import numpy as np
        >>> from da.shallow import DomainAdaptationRegressor, LinearMongeMap
        >>> X = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
        >>> y = np.array([0.0, 5.0, 10.0, np.nan, np.nan, np.nan])
        >>> sample_domain = np.array([1, 1, 1, -1, -1, -1])
        >>> model = DomainAdaptationRegressor(adapter=LinearMongeMap())
        >>> model.fit(X, y, sample_domain=sample_domain).predict([[11.0]]).round(2).tolist()
        [5.0]
    """

    def _default(self) -> BaseEstimator:
        return Ridge()

    def _labels(self, y: np.ndarray) -> np.ndarray:
        y = y.astype(np.float64, copy=False)
        assert_all_finite(y, input_name="y")
        return y

    def _labels_to_adapt(self, labels: np.ndarray) -> None:
        return None

    def _check_target_labels(self, own: np.ndarray, other: np.ndarray) -> None:
        return None

    def _answers_of(self, model: Any, rows: Any) -> np.ndarray:
        return np.asarray(model.predict(rows), dtype=np.float64)[:, None]

    def _truth(self, labels: np.ndarray) -> np.ndarray:
        return labels[:, None]

    def score(self, X: Any, y: Any, sample_weight: Any = None, sample_domain: Any = None) -> float:
        """Compute R^2, the coefficient of determination.

        Args:
            X: Rows (k, d).
            y: Answers (k,). Those of target rows are ignored if `sample_domain` is given.
            sample_weight: Weights (k,), or None for equal ones.
            sample_domain: Integers (k,): R^2 is that of the source rows alone. None: all rows are
                target rows, and all count.

        Returns:
            R^2, at most 1.

        Raises:
            ValueError: `sample_domain` marks no source row.
        """
        y, answers, weight = self._to_score(X, y, sample_weight, sample_domain)
        return float(r2_score(y, answers, sample_weight=weight))
