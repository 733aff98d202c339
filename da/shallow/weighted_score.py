"""A score on held-out source rows, weighted so that they stand in for the target.

A loss on source rows, weighted by the ratio of the densities, estimates the loss on the target.
This needs p(y | x) to be the same in both domains.

    E_target loss = E_source w(x) loss,    w = p_target / p_source

Use it in a search, under `sklearn.set_config(enable_metadata_routing=True)`. error_score="raise"
shows the first error; scikit-learn's own default turns it into NaN and a warning:

    search = GridSearchCV(
        model, grid, cv=SourceFolds(), scoring=ImportanceWeightedScore(kmm), error_score="raise"
    )
    search.fit(X, y, sample_domain=sample_domain)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from sklearn import metrics
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.metadata_routing import MetadataRequest, get_routing_for_object

from da.arrays.arguments import check_fields
from da.arrays.sample_domain import is_source, labels_of
from da.shallow.weigher import Weigher, checked_weights

Metric = Literal[
    "auto", "accuracy", "balanced_accuracy", "roc_auc", "log_loss",
    "mean_squared_error", "mean_absolute_error", "r2",
]  # fmt: skip
# Each is a function (labels, answers, sample_weight=) of which more is better.
_OF_ANSWERS: dict[str, Callable[..., float]] = {
    "accuracy": metrics.accuracy_score,
    "balanced_accuracy": metrics.balanced_accuracy_score,
    "mean_squared_error": lambda *args, **weights: -metrics.mean_squared_error(*args, **weights),
    "mean_absolute_error": lambda *args, **weights: -metrics.mean_absolute_error(*args, **weights),
    "r2": metrics.r2_score,
}
_OF_NUMBERS = ("mean_squared_error", "mean_absolute_error", "r2")


@final
@dataclass(frozen=True)
class ImportanceWeightedScore:
    """Score an estimator on held-out source rows, weighted so that they stand in for the target.

    Pass it as `scoring` to a search, with `cv=SourceFolds()`. It needs no target labels.

        sum_i w_i score_i / sum_i w_i    over the source rows of the test set

    Attributes:
        weigher: A function (source (n, d), target (m, d)) -> weights (n,), such as those of
            `da.instance`. It sees the rows of the test set; those of a scikit-learn Pipeline as its
            last step sees them, so after imputing, encoding and scaling. None, the default: all
            rows weigh the same, and the score is that on the source.
        metric: What is weighted; more is better, so losses are negative. "auto" (default) is
            "accuracy" for a classifier and "mean_squared_error" for a regressor. "roc_auc" (of each
            class against the rest, if there are more than two) and "log_loss" read `predict_proba`;
            "balanced_accuracy", "mean_absolute_error" and "r2" the answers.

    Raises:
        ValueError: There is no such metric. In a call, if `sample_domain` is missing, if no row is
            a source row, if there is a weigher and no row is a target row, or if the metric does
            not belong to the estimator.
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
    metric: Metric = "auto"

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(
        self, estimator: BaseEstimator, X: Any, y: Any, sample_domain: Any = None
    ) -> float:
        """Score a fitted estimator.

        Args:
            estimator: A fitted classifier or regressor. It gets `sample_domain` if it asks for it.
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
        metric = self._metric_of(estimator)
        weights = self._weights(estimator, X, source)
        held = _safe_indexing(X, np.flatnonzero(source))
        labels = labels_of(y, source)
        domains = np.asarray(sample_domain)[source]
        if metric in _OF_ANSWERS:
            answers = _ask(estimator, "predict", held, domains)
            return float(_OF_ANSWERS[metric](labels, answers, sample_weight=weights))
        probabilities = _ask(estimator, "predict_proba", held, domains)
        classes = estimator.classes_
        if metric == "log_loss":
            loss = metrics.log_loss(labels, probabilities, sample_weight=weights, labels=classes)
            return -float(loss)
        if len(classes) == 2:
            return float(metrics.roc_auc_score(labels, probabilities[:, 1], sample_weight=weights))
        return float(
            metrics.roc_auc_score(
                labels, probabilities, sample_weight=weights, multi_class="ovr", labels=classes
            )
        )

    def _metric_of(self, estimator: BaseEstimator) -> str:
        """The metric's name, which must belong to the estimator."""
        if not (is_classifier(estimator) or is_regressor(estimator)):
            raise TypeError(
                f"estimator must be a classifier or a regressor; got {type(estimator).__name__}"
            )
        if self.metric == "auto":
            return "accuracy" if is_classifier(estimator) else "mean_squared_error"
        if (self.metric in _OF_NUMBERS) == is_classifier(estimator):
            kind = "classifier" if is_classifier(estimator) else "regressor"
            raise ValueError(f"metric {self.metric!r} is none of a {kind}: take another")
        return self.metric

    def _weights(self, estimator: BaseEstimator, X: Any, source: np.ndarray) -> np.ndarray | None:
        """The weights of the source rows, or None without a weigher."""
        if not source.any() or (self.weigher is not None and source.all()):
            raise ValueError(
                "the test set must have source rows and, for a weigher, target rows; got "
                f"{source.sum()} source rows and {(~source).sum()} target rows: take "
                "cv=SourceFolds()"
            )
        if self.weigher is None:
            return None
        if isinstance(estimator, Pipeline) and len(estimator) > 1:
            X = estimator[:-1].transform(X)
        first, second = (
            check_array(
                _safe_indexing(X, np.flatnonzero(part)),
                accept_sparse="csr",
                dtype=[np.float64, np.float32],
                input_name="the rows to weigh",
            )
            for part in (source, ~source)
        )
        return checked_weights(self.weigher, first, second)

    def get_metadata_routing(self) -> MetadataRequest:
        """Tell scikit-learn that the score needs `sample_domain`."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_domain", alias=True)
        return request


def _ask(estimator: BaseEstimator, method: str, rows: Any, domains: np.ndarray) -> np.ndarray:
    """The answers of an estimator, which learns the domains of the rows if it asks for them."""
    asked = get_routing_for_object(estimator).consumes(method, ["sample_domain"])
    own = getattr(estimator, method)
    return np.asarray(own(rows, sample_domain=domains) if asked else own(rows))
