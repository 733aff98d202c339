"""Reverse validation.

Oracles: the fits by hand with scikit-learn, made-up domains with a known answer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from da.arrays.matrices import NonFiniteError
from da.instance.discriminator import discriminator_weights
from da.select.reverse import reverse_validation
from da.shallow.coral import CORAL
from da.shallow.easytl import EasyTL
from da.shallow.estimators import DomainAdaptationClassifier, DomainAdaptationRegressor
from da.shallow.jda import JDA
from da.shallow.meda import MEDA
from da.shallow.transport import LinearMongeMap, OTMap

GENERATOR = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2], 20)
CENTRES = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
SOURCE = CENTRES[LABELS] + GENERATOR.normal(size=(60, 2))
ROTATION = np.array([[0.8, -0.6], [0.6, 0.8]])
TARGET = (CENTRES[LABELS] + GENERATOR.normal(size=(60, 2))) @ ROTATION.T + 1


def test_it_is_the_four_steps_by_hand() -> None:
    noisy = SOURCE + 3 * GENERATOR.normal(size=SOURCE.shape)
    accuracies = []
    folds = StratifiedKFold(4, shuffle=True, random_state=7)
    for kept, held in folds.split(noisy, LABELS):
        forth = LogisticRegression(max_iter=1000).fit(noisy[kept], LABELS[kept])
        back = LogisticRegression(max_iter=1000).fit(TARGET, forth.predict(TARGET))
        accuracies.append(back.score(noisy[held], LABELS[held]))
    model = DomainAdaptationClassifier()
    found = reverse_validation(model, noisy, LABELS, TARGET, n_splits=4, random_state=7)
    assert found == pytest.approx(np.mean(accuracies), rel=1e-12) and 0 < found < 1


def test_of_a_regression_it_is_minus_the_squared_error() -> None:
    answers = SOURCE @ [1.0, -2.0] + GENERATOR.normal(size=60)
    errors = []
    for kept, held in KFold(5, shuffle=True, random_state=0).split(SOURCE):
        forth = Ridge().fit(SOURCE[kept], answers[kept])
        back = Ridge().fit(TARGET, forth.predict(TARGET))
        errors.append(np.square(back.predict(SOURCE[held]) - answers[held]).mean())
    found = reverse_validation(DomainAdaptationRegressor(), SOURCE, answers, TARGET)
    assert found == pytest.approx(-np.mean(errors), rel=1e-9)


@pytest.mark.parametrize(
    "estimator",
    [
        DomainAdaptationClassifier(CORAL()),
        DomainAdaptationClassifier(LinearMongeMap()),
        DomainAdaptationClassifier(OTMap(), estimator=KNeighborsClassifier(3)),
        DomainAdaptationClassifier(JDA(n_components=2), estimator=KNeighborsClassifier(3)),
        DomainAdaptationClassifier(weigher=discriminator_weights),
        EasyTL(),
        MEDA(n_components=1, n_iter=2),
    ],
    ids=["coral", "monge", "transport", "jda", "weigher", "easytl", "meda"],
)
def test_every_kind_of_shallow_method_can_be_judged(estimator: BaseEstimator) -> None:
    judged = partial(reverse_validation, estimator, n_splits=2)
    assert 0.5 < judged(SOURCE, LABELS, TARGET) <= 1
    tensors = [torch.from_numpy(x) for x in (SOURCE, LABELS, TARGET)]
    assert judged(*tensors) == judged(SOURCE, LABELS, TARGET)
    names = np.array(["a", "b", "c"])[LABELS]
    assert judged(SOURCE, names, TARGET) == judged(SOURCE, LABELS, TARGET)


def test_a_method_that_adapts_scores_above_one_that_does_not() -> None:
    far = np.array([[4.0, 0.0], [0.0, 0.1]])
    stretched = SOURCE @ far + 30
    plain = reverse_validation(DomainAdaptationClassifier(), SOURCE, LABELS, stretched)
    monge = DomainAdaptationClassifier(LinearMongeMap())
    adapted = reverse_validation(monge, SOURCE, LABELS, stretched)
    assert adapted > 0.9 > plain


def test_equal_pseudo_labels_name_their_class_for_every_row() -> None:
    """All target rows lie in class 2; a third of each held-out part is of this class."""
    target = SOURCE[LABELS == 2]
    found = reverse_validation(DomainAdaptationClassifier(), SOURCE, LABELS, target)
    assert found == pytest.approx(1 / 3)


def test_an_error_that_undoes_itself_is_not_seen() -> None:
    """The limit that its docstring names: the target's classes are swapped, the score is 1."""
    x = np.array([[-5.0], [5.0]]).repeat(20, 0) + GENERATOR.normal(size=(40, 1))
    swapped_target, y = x.copy(), np.repeat([0, 1], 20)  # in truth, its labels are 1 - y
    assert reverse_validation(DomainAdaptationClassifier(), x, y, swapped_target) == 1


@pytest.mark.parametrize(
    "source, labels, target, error, message",
    [
        (SOURCE * np.nan, LABELS, TARGET, NonFiniteError, "^source must be finite"),
        (SOURCE, LABELS, TARGET * np.inf, NonFiniteError, "^target must be finite"),
        (SOURCE[:, 0], LABELS, TARGET, ValueError, r"^source must have shape \(n, d\)"),
        (SOURCE, LABELS, TARGET[:0], ValueError, r"^target must have shape \(n, d\)"),
        (SOURCE, LABELS[1:], TARGET, ValueError, r"^source_labels must .*\(60,\); got \(59,\)$"),
        (SOURCE, LABELS, TARGET[:, :1], ValueError, "^source and target must have equal widths"),
    ],
)
def test_bad_input_is_one_clear_error(
    source: Any, labels: Any, target: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        reverse_validation(DomainAdaptationClassifier(), source, labels, target)
