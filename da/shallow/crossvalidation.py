"""Choose among estimators if the target has no labels: folds of the source, and a weighted score.

A loss on held-out source rows, weighted by the ratio of the densities, estimates the loss on the
target. This needs p(y | x) to be the same in both domains.

    E_target loss = E_source w(x) loss,    w = p_target / p_source

Use both classes in a search, under `sklearn.set_config(enable_metadata_routing=True)`:

    search = GridSearchCV(model, grid, cv=SourceFolds(), scoring=ImportanceWeightedScore(kmm))
    search.fit(X, y, sample_domain=sample_domain)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.metrics import accuracy_score, mean_squared_error
from sklearn.model_selection import BaseCrossValidator, KFold, StratifiedKFold
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

from da.arrays.random_states import RandomState, seed_of
from da.shallow.sample_domain import Weigher, checked_weights, is_source, labels_of


@final
class SourceFolds(BaseCrossValidator):
    """Cut the source rows into parts; every target row is in every training set and every test set.

    Pass it as `cv` to a search or to `cross_val_score`. This leaks nothing, because target labels
    are never read. `ImportanceWeightedScore` needs the target rows to compute weights. If y holds
    classes, every part keeps their frequencies.

    Args:
        n_splits: How many parts, >= 2; default 5.
        random_state: Source of the cut, as scikit-learn takes it: None, an int, or a RandomState or
            Generator of NumPy; default 0. Each `split` takes one number from such an object, so two
            splits differ.

    Raises:
        ValueError: In `split`, if `sample_domain` is missing.

    Example:
        >>> import numpy as np
        >>> from da.shallow import SourceFolds
        >>> X = np.zeros((5, 1))
        >>> folds = SourceFolds(2).split(X, sample_domain=[1, 1, 1, 1, -1])
        >>> for train, test in folds:
        ...     print(len(train), len(test), 4 in train, 4 in test)
        3 3 True True
        3 3 True True

    Paper:
        Sugiyama, Krauledat, Mueller: Covariate shift adaptation by importance weighted cross
            validation. JMLR 8, 2007.

    Differences:
        None known.
    """

    __metadata_request__split = {"sample_domain": True}

    def __init__(self, n_splits: int = 5, *, random_state: RandomState = 0) -> None:
        self.n_splits = n_splits
        self.random_state = random_state

    def split(
        self, X: Any, y: Any = None, groups: Any = None, sample_domain: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows to train on and the rows to test on.

        Args:
            X: Rows (n, d).
            y: Labels (n,); the labels of target rows are not read.
            groups: Not used; scikit-learn passes it.
            sample_domain: Integers (n,), > 0 for source rows and < 0 for target rows.

        Yields:
            The positions of the training rows and of the test rows, each in rising order.

        Raises:
            ValueError: `sample_domain` is missing.
        """
        if sample_domain is None:
            raise ValueError(
                "SourceFolds must be given sample_domain: call "
                "set_config(enable_metadata_routing=True), then fit(X, y, sample_domain=...) of a "
                "search, or pass params={'sample_domain': ...} to cross_val_score"
            )
        check_consistent_length(X, sample_domain)
        source = is_source(sample_domain, len(sample_domain))
        rows, target = np.flatnonzero(source), np.flatnonzero(~source)
        labels = np.zeros(len(rows)) if y is None else labels_of(y, source)
        holds_classes = y is not None and type_of_target(labels) in ("binary", "multiclass")
        kind = StratifiedKFold if holds_classes else KFold
        folds = kind(self.n_splits, shuffle=True, random_state=seed_of(self.random_state))
        for train, test in folds.split(rows, labels):
            yield _with(target, rows[train]), _with(target, rows[test])

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, sample_domain: Any = None
    ) -> int:
        """Return the number of parts."""
        return self.n_splits


def _with(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The positions of both, in rising order."""
    return np.sort(np.concatenate([source, target]))


@final
@dataclass(frozen=True)
class ImportanceWeightedScore:
    """Score an estimator on held-out source rows, weighted so that they stand in for the target.

    Pass it as `scoring` to a search, with `cv=SourceFolds()`. It needs no target labels. For a
    classifier the score is the weighted accuracy, for a regressor minus the weighted mean squared
    error.

        sum_i w_i score_i / sum_i w_i    over the source rows of the test set

    Attributes:
        weigher: A function (source (n, d), target (m, d)) -> weights (n,), such as those of
            `da.instance`. It sees the rows of the test set as the search got them, before any
            pipeline. None, the default: all rows weigh the same, and the score is that on the
            source.

    Raises:
        ValueError: In a call, if `sample_domain` is missing, if no row is a source row, or if there
            is a weigher and no row is a target row.
        TypeError: In a call, if the estimator is neither a classifier nor a regressor.

    Example:
        >>> import numpy as np
        >>> from da.shallow import DomainAdaptationClassifier, ImportanceWeightedScore
        >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0], [1.5]])
        >>> y, sample_domain = np.array([0, 0, 1, 1, 0]), np.array([1, 1, 1, 1, -1])
        >>> model = DomainAdaptationClassifier().fit(X, y, sample_domain=sample_domain)
        >>> wrong = np.array([1, 0, 1, 1, 0])  # the first source row has the wrong label
        >>> ImportanceWeightedScore()(model, X, wrong, sample_domain=sample_domain)
        0.75
        >>> def near_the_target(source, target):
        ...     return np.exp(-abs(source - target.mean())).ravel()
        >>> score = ImportanceWeightedScore(near_the_target)
        >>> round(score(model, X, wrong, sample_domain=sample_domain), 2)
        0.98

    Paper:
        Sugiyama, Krauledat, Mueller: Covariate shift adaptation by importance weighted cross
            validation. JMLR 8, 2007.

    Differences:
        The mean is divided by the sum of the weights. The paper divides by their count. So an
        accuracy stays between 0 and 1.
    """

    weigher: Weigher | None = None

    def __call__(
        self, estimator: BaseEstimator, X: Any, y: Any, sample_domain: Any = None
    ) -> float:
        """Score a fitted estimator.

        Args:
            estimator: A fitted classifier or regressor whose `predict` takes `sample_domain`.
            X: Rows (n, d) of the test set.
            y: Labels (n,); the labels of target rows are not read.
            sample_domain: Integers (n,), > 0 for source rows and < 0 for target rows.

        Returns:
            The score; greater is better.

        Raises:
            ValueError: `sample_domain` is missing, or source or target rows are.
            TypeError: `estimator` is neither a classifier nor a regressor.
        """
        if sample_domain is None:
            raise ValueError(
                "ImportanceWeightedScore must be given sample_domain: call "
                "set_config(enable_metadata_routing=True), and pass it to fit of the search"
            )
        source = is_source(sample_domain, len(y))
        weights = self._weights(X, source)
        held = _safe_indexing(X, np.flatnonzero(source))
        labels = labels_of(y, source)
        answers = estimator.predict(held, sample_domain=np.asarray(sample_domain)[source])
        if is_classifier(estimator):
            return float(accuracy_score(labels, answers, sample_weight=weights))
        if is_regressor(estimator):
            return -float(mean_squared_error(labels, answers, sample_weight=weights))
        raise TypeError(
            f"estimator must be a classifier or a regressor; got {type(estimator).__name__}"
        )

    def _weights(self, X: Any, source: np.ndarray) -> np.ndarray | None:
        """The weights of the source rows, or None without a weigher."""
        if not source.any() or (self.weigher is not None and source.all()):
            raise ValueError(
                "the test set must have source rows and, for a weigher, target rows; got "
                f"{source.sum()} source rows and {(~source).sum()} target rows: take "
                "cv=SourceFolds()"
            )
        if self.weigher is None:
            return None
        first, second = (
            check_array(_safe_indexing(X, np.flatnonzero(part)), dtype=[np.float64, np.float32])
            for part in (source, ~source)
        )
        return checked_weights(self.weigher, first, second)

    def get_metadata_routing(self) -> MetadataRequest:
        """Tell scikit-learn that the score needs `sample_domain`."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_domain", alias=True)
        return request
