"""Folds of the source and importance-weighted scores.

Oracles: set arithmetic, loops over rows, risks on the target in closed form.
"""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from da.arrays.sample_domain import is_source, labels_of
from da.instance.discriminator import discriminator_weights
from da.shallow.crossvalidation import SourceFolds
from da.shallow.estimators import DomainAdaptationClassifier, DomainAdaptationRegressor
from da.shallow.transport import OTMap
from da.shallow.weighted_score import ImportanceWeightedScore

RNG = np.random.default_rng(0)
DOMAIN = RNG.permutation(np.r_[np.ones(60, dtype=int), np.full(20, 2), -np.ones(45, dtype=int)])
X = RNG.standard_normal((125, 3)) + np.where(DOMAIN > 0, 0.0, 1.0)[:, None]
Y = np.where(X[:, 0] + 0.3 * RNG.standard_normal(125) > 0.8, "mug", "bike")
GARBAGE = Y.astype(object)
GARBAGE[DOMAIN < 0] = None
SOURCE, TARGET = set(np.flatnonzero(DOMAIN > 0)), set(np.flatnonzero(DOMAIN < 0))


def exponential(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """A weigher that needs no fit: e to the power of the first column."""
    return np.exp(source[:, 0])


@pytest.mark.parametrize(
    "y",
    [Y, GARBAGE, np.where(DOMAIN > 0, X[:, 0], np.nan), None],
    ids=["all", "garbage", "numbers", "none"],
)
@pytest.mark.parametrize("n_splits", [2, 5])
def test_source_rows_are_cut_and_target_rows_stay(y, n_splits):
    cv = SourceFolds(n_splits, random_state=3)
    folds = list(cv.split(X, y, sample_domain=DOMAIN))
    assert len(folds) == cv.get_n_splits() == n_splits
    held = [set(test) - TARGET for _, test in folds]
    assert set.union(*held) == SOURCE and sum(map(len, held)) == len(SOURCE)
    for (train, test), out in zip(folds, held, strict=True):
        assert set(train) == (SOURCE - out) | TARGET and set(test) == out | TARGET
        assert len(train) == len(set(train)) and len(test) == len(set(test))
        assert abs(len(out) - 80 / n_splits) <= 1
        if y is Y or y is GARBAGE:
            assert abs(sum(Y[list(out)] == "mug") - sum(Y[list(SOURCE)] == "mug") / n_splits) <= 1


def test_folds_repeat_themselves_and_what_they_refuse():
    first, second, other = (
        list(SourceFolds(random_state=s).split(X, Y, sample_domain=DOMAIN)) for s in (0, 0, 1)
    )
    assert all(
        np.array_equal(a, b)
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    )
    assert not all(np.array_equal(one[1], two[1]) for one, two in zip(first, other, strict=True))
    with pytest.raises(ValueError, match="must be given sample_domain"):
        next(SourceFolds().split(X, Y))
    with pytest.raises(ValueError, match="inconsistent numbers"):
        next(SourceFolds().split(X, Y, sample_domain=DOMAIN[:-1]))
    with pytest.raises(ValueError, match="n_splits"):
        next(SourceFolds(81).split(X, sample_domain=DOMAIN))


def test_the_score_is_the_weighted_share_of_right_answers():
    model = DomainAdaptationClassifier(OTMap()).fit(X, GARBAGE, sample_domain=DOMAIN)
    answers = model.predict(X, sample_domain=DOMAIN)
    total = sum(np.exp(X[i, 0]) for i in SOURCE)
    right = sum(np.exp(X[i, 0]) * (answers[i] == Y[i]) for i in SOURCE) / total
    scored = ImportanceWeightedScore(exponential)(model, X, GARBAGE, sample_domain=DOMAIN)
    assert scored == pytest.approx(right)
    plain = sum(answers[i] == Y[i] for i in SOURCE) / len(SOURCE)
    lists = X.tolist(), GARBAGE.tolist()
    scored = ImportanceWeightedScore()(model, *lists, sample_domain=DOMAIN)
    assert scored == pytest.approx(plain)
    weights = discriminator_weights(X[DOMAIN > 0], X[DOMAIN < 0])
    scored = ImportanceWeightedScore(discriminator_weights)(model, X, GARBAGE, sample_domain=DOMAIN)
    assert scored == pytest.approx(np.average((answers == Y)[DOMAIN > 0], weights=weights))


def test_for_regressions_it_is_minus_the_weighted_squared_error():
    z = X[:, 1] ** 2
    model = DomainAdaptationRegressor().fit(
        X, np.where(DOMAIN > 0, z, np.nan), sample_domain=DOMAIN
    )
    total = sum(np.exp(X[i, 0]) for i in SOURCE)
    squares = (np.exp(X[i, 0]) * (model.predict(X[i : i + 1])[0] - z[i]) ** 2 for i in SOURCE)
    error = sum(squares) / total
    scored = ImportanceWeightedScore(exponential)(
        model, X, np.where(DOMAIN > 0, z, np.nan), sample_domain=DOMAIN
    )
    assert scored == pytest.approx(-error)


def test_what_the_score_refuses():
    model = DomainAdaptationClassifier().fit(X, Y, sample_domain=DOMAIN)
    with pytest.raises(ValueError, match="must be given sample_domain"):
        ImportanceWeightedScore()(model, X, Y)
    with pytest.raises(ValueError, match="take cv=SourceFolds"):
        ImportanceWeightedScore()(model, X, Y, sample_domain=np.full(125, -1))
    with pytest.raises(ValueError, match="take cv=SourceFolds"):
        ImportanceWeightedScore(exponential)(model, X, Y, sample_domain=np.full(125, 1))
    with pytest.raises(ValueError, match="metric must be one of auto, .*; got 'f1'"):
        ImportanceWeightedScore(metric="f1")
    with pytest.raises(ValueError, match="metric 'r2' is none of a classifier"):
        ImportanceWeightedScore(metric="r2")(model, X, Y, sample_domain=DOMAIN)
    with pytest.raises(TypeError, match="must be a classifier or a regressor; got KMeans"):
        ImportanceWeightedScore()(KMeans(2).fit(X), X, Y, sample_domain=DOMAIN)
    with pytest.raises(ValueError, match="the weights that weigher returns must be"):
        ImportanceWeightedScore(lambda source, target: -np.ones(len(source)))(
            model, X, Y, sample_domain=DOMAIN
        )


def test_weighted_folds_estimate_the_risk_on_the_target_and_choose_by_it():
    """y = x, source N(0, 1), target N(1.5, 1/4), and constants c as models.

    The risk is 1/4 + (1.5 - c)^2 on the target and 1 + c^2 on the source.
    """
    rng = np.random.default_rng(1)
    x = np.r_[rng.standard_normal(4000), 1.5 + 0.5 * rng.standard_normal(40)][:, None]
    y = np.r_[x[:4000, 0], np.full(40, np.nan)]
    domain = np.r_[np.ones(4000, dtype=int), -np.ones(40, dtype=int)]

    def ratio(source, target):
        return 2 * np.exp(source[:, 0] ** 2 / 2 - 2 * (source[:, 0] - 1.5) ** 2)

    constants = [0.0, 1.0, 1.5, 2.5]
    grid = {"estimator": [DummyRegressor(strategy="constant", constant=c) for c in constants]}
    found = {}
    with sklearn.config_context(enable_metadata_routing=True):
        for weigher in (None, ratio):
            search = GridSearchCV(
                DomainAdaptationRegressor(),
                grid,
                cv=SourceFolds(3),
                scoring=ImportanceWeightedScore(weigher),
            )
            search.fit(x, y, sample_domain=domain)
            found[weigher] = (
                -search.cv_results_["mean_test_score"],
                search.best_params_["estimator"].constant,
            )
    assert found[None][1] == 0.0 and found[ratio][1] == 1.5
    np.testing.assert_allclose(found[None][0], [1 + c**2 for c in constants], rtol=0.08)
    np.testing.assert_allclose(
        found[ratio][0], [0.25 + (1.5 - c) ** 2 for c in constants], rtol=0.08
    )


def test_a_search_over_a_pipeline_and_its_adapter_reads_no_target_label():
    pipeline = make_pipeline(
        StandardScaler(), DomainAdaptationClassifier(OTMap(), estimator=LogisticRegression())
    )
    grid = {
        "domainadaptationclassifier__adapter__regularization": [0.05, 0.5],
        "domainadaptationclassifier__estimator": [LogisticRegression(), DummyClassifier()],
    }
    cv, scoring = SourceFolds(3), ImportanceWeightedScore(exponential)
    with sklearn.config_context(enable_metadata_routing=True):
        search, clean = (
            GridSearchCV(pipeline, grid, cv=cv, scoring=scoring, error_score="raise").fit(
                X, y, sample_domain=DOMAIN
            )
            for y in (GARBAGE, Y)
        )
        scores = cross_val_score(
            search.best_estimator_,
            X,
            GARBAGE,
            cv=cv,
            scoring=scoring,
            params={"sample_domain": DOMAIN},
        )
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], clean.cv_results_["mean_test_score"]
    )
    assert isinstance(
        search.best_params_["domainadaptationclassifier__estimator"], LogisticRegression
    )
    by_hand = []
    for train, test in cv.split(X, Y, sample_domain=DOMAIN):
        fitted = DomainAdaptationClassifier(
            search.best_estimator_[-1].adapter, estimator=LogisticRegression()
        )
        scaler = StandardScaler().fit(X[train])
        fitted.fit(scaler.transform(X[train]), Y[train], sample_domain=DOMAIN[train])
        held = test[DOMAIN[test] > 0]
        right = fitted.predict(scaler.transform(X[held]), sample_domain=DOMAIN[held]) == Y[held]
        # The weigher sees the rows as the last step of the pipeline does.
        weights = np.exp(scaler.transform(X[held])[:, 0])
        by_hand.append(np.average(right, weights=weights))
    np.testing.assert_allclose(scores, by_hand)


def test_without_routing_the_way_is_shown():
    with pytest.raises(ValueError, match="enable_metadata_routing=True"):
        cross_val_score(
            DomainAdaptationClassifier(), X, Y, cv=SourceFolds(3), params={"sample_domain": DOMAIN}
        )
    with pytest.raises(ValueError, match="enable_metadata_routing=True"):
        cross_val_score(
            DomainAdaptationClassifier(),
            X,
            Y,
            cv=3,
            scoring=ImportanceWeightedScore(),
            params={"sample_domain": DOMAIN},
            error_score="raise",
        )


def test_folds_and_scores_can_be_copied():
    scorer = clone(
        GridSearchCV(
            LogisticRegression(),
            {},
            scoring=ImportanceWeightedScore(exponential),
            cv=SourceFolds(4),
        )
    ).scoring
    assert scorer == pickle.loads(pickle.dumps(scorer)) == ImportanceWeightedScore(exponential)
    assert repr(SourceFolds(4)) == "SourceFolds(n_splits=4, random_state=0)"


def test_rows_and_labels_told_apart():
    assert is_source([3, -1, 1], 3).tolist() == [True, False, True]
    chosen = np.array([True, False, True])
    for y in (
        ["a", object(), "b"],
        np.array(["a", None, "b"], dtype=object),
        ("a", 1.5, "b"),
        np.array([["a"], ["x"], ["b"]])[:, 0],
    ):
        assert labels_of(y, chosen).tolist() == ["a", "b"]
    assert labels_of([1, "garbage", 2], chosen).dtype.kind == "i"
    assert labels_of(np.array([1, None, 2], dtype=object), chosen).dtype.kind == "i"


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "roc_auc", "log_loss"])
def test_a_weight_of_two_is_a_row_that_stands_there_twice(metric: str, classes: int):
    rng = np.random.default_rng(classes)
    rows = rng.standard_normal((90, 2))
    labels = np.array(["ash", "beech", "oak"])[np.digitize(rows[:, 0], [0, 1][: classes - 1])]
    rows += rng.standard_normal((90, 2))
    model = LogisticRegression().fit(rows, labels)
    counts = rng.integers(1, 4, 60)
    domain = np.r_[np.ones(60, int), -np.ones(30, int)]
    scored = ImportanceWeightedScore(lambda source, target: counts * 1.0, metric=metric)
    found = scored(model, rows, labels, sample_domain=domain)
    many, answers = np.repeat(rows[:60], counts, axis=0), np.repeat(labels[:60], counts)
    p = model.predict_proba(many)
    expected = {
        "accuracy": lambda: accuracy_score(answers, model.predict(many)),
        "balanced_accuracy": lambda: balanced_accuracy_score(answers, model.predict(many)),
        "log_loss": lambda: -log_loss(answers, p, labels=model.classes_),
        "roc_auc": lambda: roc_auc_score(
            answers, p[:, 1] if classes == 2 else p, multi_class="ovr", labels=model.classes_
        ),
    }[metric]()
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["mean_squared_error", "mean_absolute_error", "r2"])
def test_weighted_scores_of_numbers(metric: str):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 1))
    y = rows[:, 0] + rng.standard_normal(50)
    model, domain = Ridge().fit(rows, y), np.r_[np.ones(40, int), -np.ones(10, int)]
    found = ImportanceWeightedScore(exponential, metric=metric)(
        model, rows, y, sample_domain=domain
    )
    w = np.exp(rows[:40, 0])
    w, errors = w / w.sum(), (model.predict(rows) - y)[:40]
    centred = y[:40] - w @ y[:40]
    expected = {
        "mean_squared_error": -(w @ errors**2),
        "mean_absolute_error": -(w @ abs(errors)),
        "r2": 1 - (w @ errors**2) / (w @ centred**2),
    }[metric]
    assert found == pytest.approx(expected)


def test_rows_with_gaps_and_words_are_weighed_as_the_last_step_sees_them():
    """The middle of the gap is 0 and "b" is 1, so the weights of the last step are known."""
    table = pd.DataFrame({"x": [-1.0, np.nan, 1.0, 0.0], "z": ["a", "b", "b", "a"]})
    y, domain = np.array([0, 1, 1, 0]), np.array([1, 1, 1, -1])
    columns = ColumnTransformer(
        [("x", SimpleImputer(), ["x"]), ("z", OneHotEncoder(drop="first"), ["z"])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(table, y)
    seen = []

    def weigher(source, target):
        seen.extend([source, target])
        return 1 + source[:, 0] ** 2

    scored = ImportanceWeightedScore(weigher)(model, table, [0, 1, 0, -9], sample_domain=domain)
    assert [rows.tolist() for rows in seen] == [[[-1, 0], [0, 1], [1, 1]], [[0, 0]]]
    assert scored == pytest.approx(3 / 5)  # the third row is wrong, and weighs 2 of 2 + 1 + 2
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            make_pipeline(columns, LogisticRegression()),
            {"logisticregression__C": [0.1, 1.0]},
            cv=SourceFolds(2),
            scoring=ImportanceWeightedScore(weigher),
            error_score="raise",
        )
        rows = pd.concat([table] * 6, ignore_index=True)
        search.fit(rows, np.tile(y, 6), sample_domain=np.tile(domain, 6))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
