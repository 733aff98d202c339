"""TrAdaBoost and its regressions for pipelines and searches: pooled rows and their domains.

    model = TrAdaBoostClassifier().fit(X, y, sample_domain=sample_domain)

`sample_domain` is > 0 for source rows and < 0 for target rows, as for the estimators of
`da.shallow`. Target rows whose entry of y is NaN or None have no label and are left out, so one
table serves methods with and without target labels. The methods themselves are in
`da.instance.boosting` and `da.instance.boosting_regression`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from da.arrays.naming import naming
from da.arrays.random_states import RandomState
from da.arrays.sample_domain import is_source, labelled_rows, labels_of, pooled_rows
from da.instance.boosting import TrAdaBoost
from da.instance.boosting_regression import TrAdaBoostR2, TwoStageTrAdaBoostR2

Model = TrAdaBoost | TrAdaBoostR2 | TwoStageTrAdaBoostR2


class _PooledBoosting(BaseEstimator, ABC):
    """What the three estimators share: separate the rows, then boost.

    Attributes:
        model_: After `fit`, the fitted `TrAdaBoost`, `TrAdaBoostR2` or `TwoStageTrAdaBoostR2`.
        n_features_in_: After `fit`, the width d of the rows.
    """

    __metadata_request__fit = {"sample_domain": True}
    _least = 2  # rows without which nothing can be learned

    def fit(self, X: Any, y: Any, sample_domain: Any = None) -> Self:
        """Learn from source rows and from target rows that have a label.

        Args:
            X: Rows (n, d) of both domains.
            y: Labels (n,). Target rows whose entry is NaN or None are left out.
            sample_domain: Integers (n,), > 0 for source rows and < 0 for target rows. None: every
                row is a labelled target row, which is boosting without a source.

        Returns:
            The estimator itself.

        Raises:
            ValueError: There is no source row or no labelled target row, a domain is 0, or
                `sample_domain` has another length. As the method itself otherwise.
            TypeError: The wrapped estimator takes no sample_weight.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        X = pooled_rows(self, X, y, dtype=np.float64, ensure_min_samples=self._least)
        if sample_domain is None:
            source, few = np.zeros(len(X), dtype=bool), np.ones(len(X), dtype=bool)
        else:
            source, few = _separated(sample_domain, y, len(X))
        # Both in one array, so that their labels get one type.
        labels = self._checked(labels_of(y, source | few))
        own, other = labels[source[source | few]], labels[few[source | few]]
        rows = np.concatenate([X[source], X[few]])
        self.model_ = self._model().learn_rows(rows, np.concatenate([own, other]), len(own))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict for rows X (k, d) of the target: (k,)."""
        return np.asarray(self._fitted().predict(self._asked(X)))

    def _asked(self, X: Any) -> np.ndarray:
        """Rows to answer, checked against those of `fit`."""
        return pooled_rows(self, X, dtype=np.float64, reset=False)

    def _fitted(self) -> Any:
        check_is_fitted(self, "model_")
        return self.model_

    @abstractmethod
    def _model(self) -> Model:
        """The method with the options of this estimator."""

    @abstractmethod
    def _checked(self, labels: np.ndarray) -> np.ndarray:
        """The labels, checked."""


@final
class TrAdaBoostClassifier(ClassifierMixin, _PooledBoosting):
    """`TrAdaBoost` as a scikit-learn classifier, for pipelines, searches and cross-validation.

    Use it if a few target rows have labels and many source rows do. Source rows that disagree with
    the target lose weight round after round.

    Args:
        estimator: A scikit-learn classifier whose fit takes sample_weight, cloned for each round.
            None (default) is a logistic regression.
        n_estimators: The number of rounds, >= 1. Default 100.

    Attributes:
        classes_: After `fit`, the classes, sorted.
        model_: After `fit`, the `TrAdaBoost`, with weights and errors of its rounds.

    Example:
        >>> import numpy as np
        >>> from da.instance import TrAdaBoostClassifier
        >>> X = np.array([[0.0], [1.0], [4.0], [5.0], [0.0], [1.0], [4.0], [5.0]])
        >>> y = np.array([0, 0, 0, 0, 0, np.nan, 1, 1])  # the source knows no 1 at all
        >>> domain = np.array([1, 1, 1, 1, -1, -1, -1, -1])
        >>> model = TrAdaBoostClassifier(n_estimators=10).fit(X, y, sample_domain=domain)
        >>> model.predict([[0.5], [4.5]]).tolist()
        [0.0, 1.0]

    Paper:
        Dai, Yang, Xue, Yu: Boosting for Transfer Learning. ICML 2007 (Algorithm 1).

    Differences:
        Those of `TrAdaBoost`.
    """

    def __init__(self, estimator: BaseEstimator | None = None, *, n_estimators: int = 100) -> None:
        self.estimator, self.n_estimators = estimator, n_estimators

    def _model(self) -> TrAdaBoost:
        return TrAdaBoost(self.estimator, n_estimators=self.n_estimators)

    def _checked(self, labels: np.ndarray) -> np.ndarray:
        with naming("y"):
            check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return each class's share of the votes (k, classes), in the order of `classes_`."""
        return np.asarray(self._fitted().predict_proba(self._asked(X)))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the votes beyond an equal share, (k,) for two classes, else (k, classes)."""
        return np.asarray(self._fitted().decision_function(self._asked(X)))


class _PooledRegression(RegressorMixin, _PooledBoosting, ABC):
    """What both regressions share."""

    def _checked(self, labels: np.ndarray) -> np.ndarray:
        with naming("y"):
            labels = labels.astype(np.float64, copy=False)
            assert_all_finite(labels, input_name="y")
        return labels


@final
class TrAdaBoostR2Regressor(_PooledRegression):
    """`TrAdaBoostR2` as a scikit-learn regressor, for pipelines, searches and cross-validation.

    Args:
        estimator: A scikit-learn regressor whose fit takes sample_weight, cloned for each round.
            None (default) is a tree of depth 3.
        n_estimators: The number of rounds, >= 1. Default 100.

    Attributes:
        model_: After `fit`, the `TrAdaBoostR2`, with weights and errors of its rounds.

    Example:
        >>> import numpy as np
        >>> from da.instance import TrAdaBoostR2Regressor
        >>> X = np.array([[0.0], [1.0], [2.0], [3.0], [0.0], [1.0], [2.0], [3.0]])
        >>> y = np.array([0, 0, 9, 9, 0, 0, 1, 1])
        >>> model = TrAdaBoostR2Regressor(n_estimators=20)
        >>> model.fit(X, y, sample_domain=[1, 1, 1, 1, -1, -1, -1, -1]).predict(X[4:]).round(1)
        array([0., 0., 1., 1.])

    Paper:
        Pardoe, Stone: Boosting for Regression Transfer. ICML 2010 (TrAdaBoost.R2).

    Differences:
        Those of `TrAdaBoostR2`.
    """

    def __init__(self, estimator: BaseEstimator | None = None, *, n_estimators: int = 100) -> None:
        self.estimator, self.n_estimators = estimator, n_estimators

    def _model(self) -> TrAdaBoostR2:
        return TrAdaBoostR2(self.estimator, n_estimators=self.n_estimators)


@final
class TwoStageTrAdaBoostR2Regressor(_PooledRegression):
    """`TwoStageTrAdaBoostR2` as a scikit-learn regressor, for pipelines and searches.

    It chooses by cross-validation on the labelled target rows how much the source counts.

    Args:
        estimator: A scikit-learn regressor whose fit takes sample_weight. None (default) is a tree
            of depth 3.
        n_steps: Steps of the first stage, >= 2. Default 10.
        n_estimators: The most rounds in each step, >= 1. Default 30.
        folds: Parts that the target's rows are cut into. None (default): 5, or fewer if there are
            fewer rows.
        random_state: Source of the folds and of the default estimator. Default 0.

    Attributes:
        model_: After `fit`, the `TwoStageTrAdaBoostR2`, with the chosen step.

    Example:
        >>> import numpy as np
        >>> from da.instance import TwoStageTrAdaBoostR2Regressor
        >>> X = np.array([[0.0], [1.0], [0.0], [0.0], [1.0], [1.0]])
        >>> y, domain = np.array([9.0, -9.0, 0.0, 0.0, 1.0, 1.0]), np.array([1, 1, -1, -1, -1, -1])
        >>> model = TwoStageTrAdaBoostR2Regressor(n_steps=3, n_estimators=3, folds=2)
        >>> model.fit(X, y, sample_domain=domain).predict(X[2:])
        array([0., 0., 1., 1.])

    Paper:
        Pardoe, Stone: Boosting for Regression Transfer. ICML 2010 (two-stage TrAdaBoost.R2).

    Differences:
        Those of `TwoStageTrAdaBoostR2`.
    """

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        n_steps: int = 10,
        n_estimators: int = 30,
        folds: int | None = None,
        random_state: RandomState = 0,
    ) -> None:
        self.estimator, self.n_steps, self.n_estimators = estimator, n_steps, n_estimators
        self.folds, self.random_state = folds, random_state

    def _model(self) -> TwoStageTrAdaBoostR2:
        return TwoStageTrAdaBoostR2(
            self.estimator,
            n_steps=self.n_steps,
            n_estimators=self.n_estimators,
            folds=self.folds,
            random_state=self.random_state,
        )


def _separated(sample_domain: Any, y: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are the source's (rows,), and which are the target's and have a label."""
    source = is_source(sample_domain, rows)
    few = labelled_rows(y, ~source)
    for found, what in ((source, "one source row"), (few, "one target row with a label")):
        if not found.any():
            raise ValueError(
                f"sample_domain and y must have at least {what} (> 0 is source, < 0 is target, NaN "
                f"or None in y is no label); got none among n_samples = {rows}"
            )
    return source, few
