"""Which rows are of the source and which of the target; and choosing among estimators where the target has no labels.

    sample_domain (n,)   integers: > 0 a source row, < 0 a target row. What y holds for target rows is never read

    importance-weighted risk  E_target loss = E_source w(x) loss,     w = p_target / p_source

so a loss on held-out source rows, weighted, stands for that on the target, as long as p(y | x) is one and the same in both.

    search = GridSearchCV(model, grid, cv=SourceFolds(), scoring=ImportanceWeightedScore(kmm))
    search.fit(X, y, sample_domain=sample_domain)                 # under sklearn.set_config(enable_metadata_routing=True)

Sugiyama, Krauledat, Mueller: Covariate Shift Adaptation by Importance Weighted Cross Validation. JMLR 8, 2007.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.metrics import accuracy_score, mean_squared_error
from sklearn.model_selection import BaseCrossValidator, KFold, StratifiedKFold
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length, column_or_1d

Weigher = Callable[
    [np.ndarray, np.ndarray], np.ndarray
]  # (source (n, d), target (m, d)) -> weights (n,)


def is_source(sample_domain: Any, rows: int) -> np.ndarray:
    """Which rows are of the source (rows,). Raises TypeError unless sample_domain holds integers, ValueError for zeros and other shapes."""
    domains = np.asarray(sample_domain)
    if domains.shape != (rows,):
        raise ValueError(
            f"sample_domain must have one entry a row, shape ({rows},); got shape {domains.shape}"
        )
    if domains.dtype.kind not in "iu":
        raise TypeError(
            f"sample_domain must hold integers, > 0 for source and < 0 for target rows; got {domains.dtype}"
        )
    if (domains == 0).any():
        raise ValueError(
            f"sample_domain must be > 0 for source and < 0 for target rows; got 0 in row {int(np.argmin(np.abs(domains)))}"
        )
    return domains > 0


def labels_of(y: Any, chosen: np.ndarray) -> np.ndarray:
    """The labels of the chosen rows (n,) alone, as an array (k,); those of others, of whatever kind, leave no trace."""
    y = y if hasattr(y, "__getitem__") else np.asarray(y)
    values = column_or_1d(np.asarray(_safe_indexing(y, np.flatnonzero(chosen))), warn=True)
    return (
        np.array(values.tolist()) if values.dtype == object else values
    )  # beside None and strings even numbers come as objects


def checked_weights(weigher: Weigher, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """weigher(source (n, d), target (m, d)) in float64. Raises ValueError unless it is (n,), finite, >= 0 and not all 0."""
    weights = np.asarray(weigher(source, target), dtype=np.float64)
    if (
        weights.shape != (len(source),)
        or not (np.isfinite(weights) & (weights >= 0)).all()
        or not weights.any()
    ):
        raise ValueError(
            f"weigher must return one finite weight >= 0 a source row, not all 0: shape ({len(source)},); got shape {weights.shape}: "
            f"{weights.ravel()[:5].tolist()} ..."
        )
    return weights


@final
class SourceFolds(BaseCrossValidator):
    """Cuts the source rows into n_splits parts; every target row is in every training set and in every test set.

    As no label of a target row is ever read, that gives nothing away, and `ImportanceWeightedScore` needs them to weigh the rest. Parts
    keep the frequencies of the classes where y holds classes. n_splits: >= 2; random_state: the seed of the cut.
    """

    __metadata_request__split = {"sample_domain": True}

    def __init__(self, n_splits: int = 5, *, random_state: int = 0) -> None:
        self.n_splits = n_splits
        self.random_state = random_state

    def split(
        self, X: Any, y: Any = None, groups: Any = None, sample_domain: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the rows to train on and to test on. Raises ValueError without sample_domain: unless routed, it does not arrive."""
        if sample_domain is None:
            raise ValueError(
                "SourceFolds must be given sample_domain: set_config(enable_metadata_routing=True), then fit(X, y, sample_domain=...) of a "
                "search, or params={'sample_domain': ...} of cross_val_score"
            )
        check_consistent_length(X, sample_domain)
        source = is_source(sample_domain, len(sample_domain))
        rows, target = np.flatnonzero(source), np.flatnonzero(~source)
        labels = np.zeros(len(rows)) if y is None else labels_of(y, source)
        classes = y is not None and type_of_target(labels) in ("binary", "multiclass")
        folds = (StratifiedKFold if classes else KFold)(
            self.n_splits, shuffle=True, random_state=self.random_state
        )
        for train, test in folds.split(rows, labels):
            yield (
                np.sort(np.concatenate([rows[train], target])),
                np.sort(np.concatenate([rows[test], target])),
            )

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, sample_domain: Any = None
    ) -> int:
        """How many parts the source is cut into."""
        return self.n_splits


@final
@dataclass(frozen=True)
class ImportanceWeightedScore:
    """A scorer: weighted accuracy (for regressors: minus the weighted mean squared error) on the source rows of the test set.

    weigher: a function (source, target) -> weights (n,) of `da.instance`, which sees the test set's rows as they come to the search,
        before any pipeline. None: all weigh alike, and the score is that on the source.

    The mean is divided by the sum of the weights, not by their count as in the paper: an accuracy stays within 0 and 1.
    Raises ValueError without sample_domain, without source rows and, for a weigher, without target rows: take cv=SourceFolds().
    """

    weigher: Weigher | None = None

    def __call__(
        self, estimator: BaseEstimator, X: Any, y: Any, sample_domain: Any = None
    ) -> float:
        """The score of a fitted estimator whose predict takes sample_domain; the labels of target rows are not read."""
        if sample_domain is None:
            raise ValueError(
                "ImportanceWeightedScore must be given sample_domain: set_config(enable_metadata_routing=True), and pass it"
            )
        source = is_source(sample_domain, len(y))
        if not source.any() or (self.weigher is not None and source.all()):
            raise ValueError(
                f"the test set must have source rows and, for a weigher, target rows; got {source.sum()} and {(~source).sum()}: "
                "take cv=SourceFolds()"
            )
        held = _safe_indexing(X, np.flatnonzero(source))
        weights = None
        if self.weigher is not None:
            rows = (
                check_array(_safe_indexing(X, np.flatnonzero(part)), dtype=[np.float64, np.float32])
                for part in (source, ~source)
            )
            weights = checked_weights(self.weigher, *rows)
        labels, answers = (
            labels_of(y, source),
            estimator.predict(held, sample_domain=np.asarray(sample_domain)[source]),
        )
        if is_classifier(estimator):
            return float(accuracy_score(labels, answers, sample_weight=weights))
        if is_regressor(estimator):
            return -float(mean_squared_error(labels, answers, sample_weight=weights))
        raise TypeError(
            f"estimator must be a classifier or a regressor; got {type(estimator).__name__}"
        )

    def get_metadata_routing(self) -> MetadataRequest:
        """That the score is to be given sample_domain: scikit-learn asks."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_domain", alias=True)
        return request
