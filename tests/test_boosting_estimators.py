"""TrAdaBoost and its regressions in scikit-learn's pipelines and searches.

Oracles: scikit-learn's own checks, the functions on separate samples, whose oracles are in
test_boosting.py, and AdaBoost by hand for a target without a source.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_boosting import Stump

from da.instance import (
    TrAdaBoost,
    TrAdaBoostClassifier,
    TrAdaBoostR2,
    TrAdaBoostR2Regressor,
    TwoStageTrAdaBoostR2,
    TwoStageTrAdaBoostR2Regressor,
)
from da.shallow import ImportanceWeightedScore, SourceFolds

TWO = {"n_steps": 2, "n_estimators": 3, "folds": 2}
BOTH_KINDS = [
    (TrAdaBoostClassifier(n_estimators=5), TrAdaBoost(n_estimators=5)),
    (TrAdaBoostR2Regressor(n_estimators=5), TrAdaBoostR2(n_estimators=5)),
    (TwoStageTrAdaBoostR2Regressor(**TWO), TwoStageTrAdaBoostR2(**TWO)),
]


@pytest.mark.slow
@parametrize_with_checks([estimator for estimator, _ in BOTH_KINDS])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


def pooled(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of both domains, shuffled; half of the target's labels are missing."""
    rng = np.random.default_rng(seed)
    domain = rng.permutation(np.repeat([2, -1], [40, 20]))
    x = rng.normal(size=(60, 2)) + (domain < 0)[:, None]
    y = (x[:, 0] + 0.5 * (domain < 0) * x[:, 1] > 0.3).astype(float)
    y[np.flatnonzero(domain < 0)[::2]] = np.nan
    return x, y, domain


@pytest.mark.parametrize(("estimator", "method"), BOTH_KINDS)
@pytest.mark.parametrize("kind", ["array", "table"])
def test_the_pooled_rows_are_those_of_the_method(estimator, method, kind):
    x, y, domain = pooled()
    source, few = domain > 0, (domain < 0) & ~np.isnan(y)
    by_parts = method.fit(x[source], y[source], x[few], y[few])
    if kind == "table":
        whole = pd.DataFrame(x, columns=["a", "b"])
        labels = pd.Series(y, dtype=object).where(~np.isnan(y), None)
        fitted = sklearn.clone(estimator).fit(whole, labels, sample_domain=pd.Series(domain))
        np.testing.assert_array_equal(fitted.predict(whole), by_parts.predict(x))
        assert fitted.feature_names_in_.tolist() == ["a", "b"]
        return
    fitted = sklearn.clone(estimator).fit(x, y, sample_domain=domain)
    np.testing.assert_array_equal(fitted.predict(x), by_parts.predict(x))
    if isinstance(method, TrAdaBoost):
        np.testing.assert_array_equal(fitted.predict_proba(x), by_parts.predict_proba(x))
        np.testing.assert_array_equal(fitted.decision_function(x), by_parts.decision_function(x))
        assert fitted.classes_.tolist() == [0.0, 1.0]


def test_without_a_source_it_is_adaboost_by_hand():
    x, y, domain = pooled()
    x, y = x[domain > 0], y[domain > 0].astype(int)
    y[:4] = 1 - y[:4]
    fitted = TrAdaBoostClassifier(Stump(), n_estimators=4).fit(x, y)
    weights, votes, answers = np.full(len(x), 1 / len(x)), [], []
    for _ in range(4):
        answers.append(Stump().fit(x, y, weights).predict(x))
        error = weights[answers[-1] != y].sum()
        votes.append(np.log((1 - error) / error))
        weights[answers[-1] != y] *= np.exp(votes[-1])
        weights /= weights.sum()
    np.testing.assert_allclose(fitted.model_.target_weights_, weights, rtol=1e-9)
    signs = 2 * np.array(answers[1:]) - 1  # the rounds 2 to 4 of 4 vote
    np.testing.assert_array_equal(fitted.predict(x), (np.array(votes[1:]) @ signs >= 0).astype(int))


def test_without_a_source_and_better_than_chance_the_first_round_stays_alone():
    x, y = np.arange(8.0)[:, None], np.array([0.0, 1, 1, 0, 0, 1, 1, 0])
    mean = DummyRegressor()
    fitted = TrAdaBoostR2Regressor(mean, n_estimators=3).fit(x, y)  # every adjusted error is 1
    np.testing.assert_array_equal(fitted.predict(x), mean.fit(x, y).predict(x))
    with pytest.raises(ValueError, match="none of 3 rounds has an error below 1/2"):
        TrAdaBoostR2Regressor(mean, n_estimators=3).fit(x, y, sample_domain=[1, *[-1] * 7])


def test_it_is_chosen_in_a_search_over_a_pipeline():
    x, y, domain = pooled()
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), TrAdaBoostClassifier()),
            {"tradaboostclassifier__n_estimators": [2, 6]},
            cv=SourceFolds(2),
            scoring=ImportanceWeightedScore(),
        ).fit(x, y, sample_domain=domain)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(x).shape == (60,)


@pytest.mark.parametrize(
    ("estimator", "change", "error", "message"),
    [
        (TrAdaBoostClassifier(), {"domain": np.ones(60, int)}, ValueError, "target row with a"),
        (TrAdaBoostClassifier(), {"domain": -np.ones(60, int)}, ValueError, "one source row"),
        (TrAdaBoostClassifier(), {"domain": np.zeros(60, int)}, ValueError, "got 0 in row 0"),
        (TrAdaBoostClassifier(), {"domain": np.ones(3, int)}, ValueError, r"shape \(60,\)"),
        (
            TrAdaBoostClassifier(KNeighborsClassifier()),
            {},
            TypeError,
            "takes sample_weight.*KNeighborsClassifier",
        ),
        (TrAdaBoostR2Regressor(n_estimators=0), {}, ValueError, "n_estimators must be"),
        (
            TwoStageTrAdaBoostR2Regressor(LinearRegression(), folds=90),
            {},
            ValueError,
            "folds must be",
        ),
        (TrAdaBoostR2Regressor(), {"y": np.where(np.arange(60) == 1, np.inf, 1.0)}, ValueError,
         "Input y contains infinity"),
        (TrAdaBoostClassifier(LogisticRegression()), {"y": np.linspace(0, 1, 60)}, ValueError,
         "Unknown label type"),
    ],
)  # fmt: skip
def test_wrong_calls_are_told(estimator, change, error, message):
    x, y, domain = pooled()
    with pytest.raises(error, match=message):
        estimator.fit(x, change.get("y", y), sample_domain=change.get("domain", domain))
