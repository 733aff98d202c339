"""Reverse validation: adapt to the target, then back, and look at the source again.

It judges any shallow method by refitting, without a target label.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_regressor
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples
from da.arrays.random_states import RandomState
from da.shallow.crossvalidation import SourceFolds


@checked
def reverse_validation(
    estimator: BaseEstimator,
    source: Array,
    source_labels: Tensor | np.ndarray,
    target: Array,
    *,
    n_splits: int = 5,
    random_state: RandomState = 0,
) -> float:
    """Score a shallow method by adapting to the target and back, and testing on held-out source.

    The estimator is fitted to a part of the source and adapted to the target. It labels the target.
    A second estimator takes these labels as truth and is adapted back, to the same part of the
    source without its labels. If the first step went wrong, the second cannot find the source's
    classes again. The result is its accuracy on held-out source rows, averaged over the parts.

        labels of source part -> pseudo-labels of target -> predictions of held-out source rows

    It misleads if an error undoes itself: two classes that are swapped on the way there and swapped
    again on the way back score 1. It costs two fits for each part.

    Open-set targets: it misleads, as unknown samples get labels that take part in the way back.
    Partial-set targets: it misleads, as classes that the target lacks are lost on the way back,
    and rightly so.

    Args:
        estimator: An estimator that is cloned for each fit: `DomainAdaptationClassifier` and
            `DomainAdaptationRegressor`, whose `fit(X, y, sample_domain=...)` takes pooled rows, or
            a classifier whose `fit(source, target, source_labels)` takes both samples, as `EasyTL`
            and `MEDA`.
        source: Rows (n, d), floats.
        source_labels: Labels (n,) of the source.
        target: Rows (m, d), of the kind of `source`.
        n_splits: The number of parts that the source is cut into, >= 2. Default 5.
        random_state: Source of the cut, as in `SourceFolds`. Default 0.

    Returns:
        The mean accuracy, in [0, 1]; for a regressor minus the mean squared error. Higher is
        better.

    Raises:
        TypeError: A sample does not hold floats.
        ValueError: Shapes do not fit, a value is not finite, or a part lacks rows.

    Example:
        >>> import numpy as np
        >>> from da.select import reverse_validation
        >>> from da.shallow import CORAL, DomainAdaptationClassifier
        >>> source = np.random.default_rng(0).normal(size=(40, 2))
        >>> labels = (source[:, 0] > 0).astype(int)
        >>> source[:, 0] += 4 * labels
        >>> reverse_validation(DomainAdaptationClassifier(CORAL()), source, labels, source + 1)
        1.0

    Paper:
        Zhong, Fan, Yang, Verscheure, Ren: Cross Validation Framework to Choose Amongst Models and
        Datasets for Transfer Learning. ECML PKDD 2010.
        Bruzzone, Marconcini: Domain Adaptation Problems: A DASVM Classification Technique and a
        Circular Validation Strategy. TPAMI 32(5), 2010.

    Differences:
        All target rows take part; Zhong et al. hold out some of them. The source rows that are
        judged are in neither fit; in circular validation they are in both. If all pseudo-labels are
        equal, the way back is not fitted: it would name that class for every row.
    """
    x, y = (rows.detach().cpu().numpy() for rows in check_two_samples(source, target))
    labels = source_labels.detach().cpu().numpy() if isinstance(source_labels, Tensor) else None
    labels = np.asarray(source_labels) if labels is None else labels
    if labels.shape != (len(x),):
        raise ValueError(
            f"source_labels must hold one label for each row of source, ({len(x)},); "
            f"got {labels.shape}"
        )
    folds = SourceFolds(n_splits, random_state=random_state)
    domains = np.ones(len(x), dtype=int)  # the target takes part in every fit, and not in the cut
    parts = folds.split(x, labels, sample_domain=domains)
    return float(
        np.mean([_there_and_back(estimator, x, labels, y, kept, held) for kept, held in parts])
    )


def _there_and_back(
    estimator: BaseEstimator,
    x: np.ndarray,
    labels: np.ndarray,
    y: np.ndarray,
    kept: np.ndarray,
    held: np.ndarray,
) -> float:
    """The score on the held-out source rows."""
    pseudo = _adapted_answers(estimator, x[kept], labels[kept], y, y)
    if is_regressor(estimator):
        back = _adapted_answers(estimator, y, pseudo, x[kept], x[held])
        return -float(np.square(back - labels[held]).mean())
    if (pseudo == pseudo[0]).all():
        return float((labels[held] == pseudo[0]).mean())
    back = _adapted_answers(estimator, y, pseudo, x[kept], x[held])
    return float((back == labels[held]).mean())


def _adapted_answers(
    estimator: Any, source: np.ndarray, labels: np.ndarray, target: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """Fit a clone from labelled source to target, and predict rows of the target domain."""
    model = clone(estimator)
    if "sample_domain" in inspect.signature(model.fit).parameters:
        unread = np.repeat(labels[:1], len(target))
        domains = np.repeat([1, -1], [len(source), len(target)])
        rows = np.concatenate([source, target])
        model.fit(rows, np.concatenate([labels, unread]), sample_domain=domains)
    else:
        model.fit(source, target, labels)
    answers = model.predict(asked)
    return answers.cpu().numpy() if isinstance(answers, Tensor) else np.asarray(answers)
