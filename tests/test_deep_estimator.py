"""A network as a scikit-learn classifier.

Oracles: scikit-learn's own checks, its logistic regression, a shift whose answer is known.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from da.recipes import DeepAdaptationClassifier, DeepMethod
from da.recipes.methods import METHODS
from da.shallow import ImportanceWeightedScore, SourceFolds

RNG = np.random.default_rng(0)
DOMAIN = RNG.permutation(np.repeat([1, -1], 100))
PLAIN = RNG.standard_normal((200, 2))
Y = np.where(PLAIN[:, 0] > 0, "mug", "bike")
X = PLAIN + np.where(DOMAIN > 0, 0.0, 3.0)[:, None] * np.array([1.0, 0.0])
GARBAGE = np.where(DOMAIN > 0, Y, None)


@pytest.mark.slow  # sixty fits
@parametrize_with_checks([DeepAdaptationClassifier("none", steps=60, learning_rate=0.03)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("method", ["adabn", "dann"])
def test_a_shift_of_three_is_undone(method: str):
    model = DeepAdaptationClassifier(method, steps=60, batch_size=32)
    model.fit(X, GARBAGE, sample_domain=DOMAIN)
    target = DOMAIN < 0
    alone = LogisticRegression().fit(X[~target], Y[~target])
    assert alone.score(X[target], Y[target]) < 0.6 and model.score(X[target], Y[target]) > 0.9
    assert model.score(X, GARBAGE, sample_domain=DOMAIN) > 0.9  # the source, by its statistics
    p = model.predict_proba(X[target])
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    assert model.classes_.tolist() == ["bike", "mug"]
    assert (model.predict(X[target]) == np.where(p[:, 1] > 0.5, "mug", "bike")).all()


def test_labels_of_the_target_are_not_read_and_the_seed_decides():
    options = {"steps": 3, "hidden": 8, "batch_size": 16}
    models = [
        DeepAdaptationClassifier("mmd", random_state=seed, **options).fit(
            X, y, sample_domain=DOMAIN
        )
        for seed, y in ((0, Y), (0, GARBAGE), (1, Y))
    ]
    first, second, other = (model.predict_proba(X) for model in models)
    assert np.array_equal(first, second) and not np.allclose(first, other)


@pytest.mark.parametrize("method", get_args(DeepMethod))
def test_every_row_that_takes_vectors_can_be_named(method: str):
    model = DeepAdaptationClassifier(method, steps=2, hidden=8, batch_size=16)
    assert np.isfinite(model.fit(X, Y, sample_domain=DOMAIN).predict_proba(X)).all()


def test_the_names_are_those_of_the_tables():
    assert set(get_args(DeepMethod)) == set(METHODS) - {
        "fixmatch",
        "adamatch",
        "mean_teacher",
        "mic",
    }


def test_a_search_over_a_table_with_gaps():
    table = pd.DataFrame(X, columns=["a", "b"])
    table.loc[::9, "b"] = np.nan
    network = DeepAdaptationClassifier(steps=2, hidden=4, batch_size=8)
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            make_pipeline(SimpleImputer(), network),
            {"deepadaptationclassifier__method": ["none", "coral"]},
            cv=SourceFolds(2),
            scoring=ImportanceWeightedScore(lambda source, target: np.ones(len(source))),
            error_score="raise",
        )
        search.fit(table, GARBAGE, sample_domain=DOMAIN)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"method": "fixmatch"}, {}, "method must be one of none, adabn, .*; got 'fixmatch'"),
        ({"hidden": 0}, {}, "hidden must be"),
        ({"batch_size": 1}, {}, "batch_size must be"),
        ({"steps": 0}, {}, "steps must be"),
        ({"learning_rate": -1.0}, {}, "learning_rate must be"),
        ({"trade_off": -1.0}, {}, "trade_off must"),
        ({}, {"sample_domain": None}, "method 'mmd' must see at least 2 target rows; got 0"),
        ({}, {"sample_domain": np.full(200, -1)}, "at least 2 source rows; got n_samples = 0"),
        ({}, {"y": np.full(200, "mug")}, "y must have at least two classes; got 1 class"),
    ],
)
def test_what_is_refused(options: dict, arguments: dict, message: str):
    model = DeepAdaptationClassifier(**{"steps": 2, "hidden": 4} | options)
    with pytest.raises(ValueError, match=message):
        model.fit(X, **{"y": Y, "sample_domain": DOMAIN} | arguments)
