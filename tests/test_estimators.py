"""The scikit-learn estimators.

Oracles: scikit-learn's own checks, the same steps done by hand, linear regression under covariate
shift in closed form.
"""

from __future__ import annotations

import pickle
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import sklearn
import torch
from scipy.spatial.distance import cdist, pdist
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import _num_samples

from da.instance.discriminator import discriminator_weights
from da.instance.mean_matching import kmm
from da.shallow.adapter import Adapter
from da.shallow.coral import CORAL
from da.shallow.crossvalidation import SourceFolds
from da.shallow.estimators import DomainAdaptationClassifier, DomainAdaptationRegressor
from da.shallow.transport import LinearMongeMap, OTMap
from da.shallow.weighted_score import ImportanceWeightedScore


class Shift(Adapter):
    """Moves source rows by the difference of the means."""

    def __init__(self, *, factor: float = 1.0) -> None:
        self.factor = factor

    def fit(self, source, target, source_labels=None):
        x, y = self._samples(source, target)
        self.labels_, self.shift_ = source_labels, self.factor * (y.mean(dim=0) - x.mean(dim=0))
        return self

    def _map(self, x, domain):
        return x + self.shift_ if domain == "source" else x


coarse_kmm = partial(kmm, tolerance=1e-3)
halves = partial(discriminator_weights, folds=2)


def third_is_target(X: Any) -> np.ndarray:
    return np.where(np.arange(_num_samples(X)) % 3 == 2, -1, 1)


class ThirdIsTargetClassifier(DomainAdaptationClassifier):
    """Chooses the domains itself, for scikit-learn's checks, which pass none."""

    def fit(self, X, y):
        return super().fit(X, y, sample_domain=third_is_target(X))


class ThirdIsTargetRegressor(DomainAdaptationRegressor):
    def fit(self, X, y):
        return super().fit(X, y, sample_domain=third_is_target(X))


@parametrize_with_checks(
    [
        DomainAdaptationClassifier(),
        DomainAdaptationRegressor(),
        ThirdIsTargetClassifier(CORAL()),
        ThirdIsTargetRegressor(LinearMongeMap()),
    ]
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


def shifted(n: int = 60, m: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two classes apart along the first axis, in shuffled rows of two domains 4 apart along it.

    It returns X, the class of every row and the domains.
    """
    rng = np.random.default_rng(seed)
    domain = rng.permutation(np.r_[np.ones(n, dtype=int), -np.ones(m, dtype=int)])
    y = rng.integers(0, 2, n + m)
    X = rng.standard_normal((n + m, 3)) * 0.5
    X[:, 0] += 2.0 * y + np.where(domain > 0, 0.0, 4.0)
    return X, y, domain


X, Y, DOMAIN = shifted()
SOURCE = DOMAIN > 0


def garbage(kind: str, y: np.ndarray = Y) -> Any:
    """Labels whose entries for target rows are no labels."""
    if kind == "list":
        return [int(v) if s else object() for v, s in zip(y, SOURCE, strict=True)]
    if kind in ("nan", "infinity"):
        return np.where(SOURCE, y, np.nan if kind == "nan" else np.inf)
    mixed = y.astype(object)
    mixed[~SOURCE] = {"none": None, "words": "unknown"}[kind]
    return mixed


@pytest.mark.parametrize("kind", ["list", "nan", "infinity", "none", "words"])
@pytest.mark.parametrize(
    "adapter, weigher", [(None, None), (Shift(), None), (None, coarse_kmm), (OTMap(), halves)]
)
def test_whatever_stands_beside_target_rows_the_result_is_one(kind, adapter, weigher):
    for model in (
        DomainAdaptationClassifier(adapter, weigher),
        DomainAdaptationRegressor(adapter, weigher),
    ):
        clean = clone(model).fit(X, Y, sample_domain=DOMAIN)
        fitted = clone(model).fit(X, garbage(kind), sample_domain=DOMAIN)
        np.testing.assert_array_equal(fitted.predict(X), clean.predict(X))
        np.testing.assert_array_equal(fitted.estimator_.coef_, clean.estimator_.coef_)


def test_target_labels_of_classes_of_their_own_bring_no_class():
    fitted = DomainAdaptationClassifier().fit(X, np.where(SOURCE, Y, 7 + Y), sample_domain=DOMAIN)
    assert fitted.classes_.tolist() == [0, 1]


def test_the_adapter_s_rows_are_what_the_estimator_learns_from():
    fitted = DomainAdaptationClassifier(Shift()).fit(X, Y, sample_domain=DOMAIN)
    shift = X[~SOURCE].mean(axis=0) - X[SOURCE].mean(axis=0)
    by_hand = LogisticRegression(max_iter=1000).fit(X[SOURCE] + shift, Y[SOURCE])
    np.testing.assert_allclose(fitted.predict_proba(X), by_hand.predict_proba(X), atol=1e-9)
    each = by_hand.predict_proba(np.where(SOURCE[:, None], X + shift, X))
    np.testing.assert_allclose(fitted.predict_proba(X, sample_domain=DOMAIN), each, atol=1e-9)
    np.testing.assert_array_equal(fitted.predict(X, sample_domain=DOMAIN), each.argmax(axis=1))
    np.testing.assert_allclose(fitted.decision_function(X), by_hand.decision_function(X), atol=1e-7)
    np.testing.assert_array_equal(fitted.adapter_.labels_, Y[SOURCE])
    assert not hasattr(fitted.adapter, "shift_")  # the one given is cloned


def test_a_regression_gives_the_adapter_no_labels():
    fitted = DomainAdaptationRegressor(Shift()).fit(X, X[:, 1], sample_domain=DOMAIN)
    assert fitted.adapter_.labels_ is None
    shift = X[~SOURCE].mean(axis=0) - X[SOURCE].mean(axis=0)
    np.testing.assert_allclose(
        fitted.predict(X), Ridge().fit(X[SOURCE] + shift, X[SOURCE, 1]).predict(X), atol=1e-9
    )
    with pytest.raises(TypeError, match="source_labels must be given"):
        DomainAdaptationRegressor(OTMap(class_regularization=0.1)).fit(X, Y, sample_domain=DOMAIN)


def test_what_the_source_alone_gets_wrong_the_adapter_mends():
    scores = [
        DomainAdaptationClassifier(a).fit(X, Y, sample_domain=DOMAIN).score(X[~SOURCE], Y[~SOURCE])
        for a in (None, Shift())
    ]
    assert scores[0] < 0.7 and scores[1] > 0.9


@pytest.mark.parametrize("adapter", [None, Shift(factor=0.5)])
def test_the_weights_are_those_of_the_weigher_on_adapted_rows(adapter):
    weigher = partial(discriminator_weights, folds=3)
    fitted = DomainAdaptationClassifier(adapter, weigher).fit(X, Y, sample_domain=DOMAIN)
    rows = (
        X[SOURCE]
        if adapter is None
        else X[SOURCE] + 0.5 * (X[~SOURCE].mean(axis=0) - X[SOURCE].mean(axis=0))
    )
    weights = weigher(rows, X[~SOURCE])
    np.testing.assert_allclose(fitted.weights_, weights, rtol=1e-6)
    by_hand = LogisticRegression(max_iter=1000).fit(rows, Y[SOURCE], sample_weight=weights)
    np.testing.assert_allclose(fitted.predict_proba(X), by_hand.predict_proba(X), atol=1e-6)
    unweighted = LogisticRegression(max_iter=1000).fit(rows, Y[SOURCE])
    assert np.abs(by_hand.coef_ - unweighted.coef_).max() > 1e-3  # the weights matter


def test_weighted_by_the_density_ratio_a_line_is_the_best_one_on_the_target():
    """y = x^2, source N(0, 1), target N(1, 1/4).

    The least squares line has slope 2 E x = 2 on the target and 0 on the source.
    """
    rng = np.random.default_rng(0)
    x = np.r_[rng.standard_normal(20000), 1 + 0.5 * rng.standard_normal(50)][:, None]
    domain = np.r_[np.full(20000, 3), np.full(50, -2)]

    def ratio(source, target):
        return 2 * np.exp(source[:, 0] ** 2 / 2 - 2 * (source[:, 0] - 1) ** 2)

    plain, weighted = (
        DomainAdaptationRegressor(None, w, LinearRegression()).fit(x, x[:, 0] ** 2, domain)
        for w in (None, ratio)
    )
    assert plain.estimator_.coef_[0] == pytest.approx(0.0, abs=0.1)
    assert weighted.estimator_.coef_[0] == pytest.approx(2.0, abs=0.1)
    assert (
        weighted.score(x[-50:], x[-50:, 0] ** 2) > 0.7 > 0.0 > plain.score(x[-50:], x[-50:, 0] ** 2)
    )


@pytest.mark.parametrize(
    "estimator",
    [
        KNeighborsClassifier(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        GridSearchCV(LinearSVC(), {"C": [1.0]}),
    ],
)
def test_weights_that_would_be_ignored_are_an_error(estimator):
    with pytest.raises(
        ValueError, match=f"must take sample_weight.*{type(estimator).__name__} does not"
    ):
        DomainAdaptationClassifier(weigher=kmm, estimator=estimator).fit(X, Y, sample_domain=DOMAIN)
    DomainAdaptationClassifier(Shift(), estimator=estimator).fit(
        X, Y, sample_domain=DOMAIN
    ).predict(X)


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf, 0.0])
def test_a_weigher_s_mistakes_are_named(wrong):
    for weights in (np.full(SOURCE.sum(), wrong), np.ones(3), np.ones((SOURCE.sum(), 1))):
        with pytest.raises(
            ValueError, match="the weights that weigher returns must be .*finite, >= 0"
        ):
            DomainAdaptationClassifier(weigher=lambda s, t, w=weights: w).fit(
                X, Y, sample_domain=DOMAIN
            )


@pytest.mark.parametrize(
    "adapter, weigher, named",
    [(Shift(), None, "adapter"), (None, kmm, "weigher"), (Shift(), kmm, "adapter and weigher")],
)
def test_without_target_rows_what_needs_them_says_so(adapter, weigher, named):
    for domain in (None, np.ones(len(X), dtype=int)):
        for kind in (DomainAdaptationClassifier, DomainAdaptationRegressor):
            with pytest.raises(ValueError, match=f"^{named} must see target rows"):
                kind(adapter, weigher).fit(X, Y, sample_domain=domain)
    plain = DomainAdaptationClassifier().fit(X, Y)  # every row is source
    np.testing.assert_array_equal(
        plain.predict_proba(X), LogisticRegression(max_iter=1000).fit(X, Y).predict_proba(X)
    )


@pytest.mark.parametrize(
    "domain, error, message",
    [
        (-np.ones(100, dtype=int), ValueError, "at least one row, a source row"),
        (np.where(SOURCE, 1, 0), ValueError, "got 0 in row"),
        (DOMAIN[:-1], ValueError, r"shape \(100,\)"),
        (DOMAIN[:, None], ValueError, r"shape \(100,\)"),
        (np.where(SOURCE, 1.0, np.nan), TypeError, "integers"),
        (np.where(SOURCE, 1.0, -0.5), TypeError, "integers"),
        (np.where(SOURCE, 1.0, 0.0), ValueError, "got 0 in row"),
        (np.where(SOURCE, 1, None), TypeError, "integers"),
        (SOURCE, TypeError, "integers"),
        (np.where(SOURCE, "source", "target"), TypeError, "integers"),
    ],
)
def test_domains_that_are_none_are_refused(domain, error, message):
    with pytest.raises(error, match=message):
        DomainAdaptationClassifier(Shift()).fit(X, Y, sample_domain=domain)
    if "at least" not in message:
        with pytest.raises(error, match=message):
            DomainAdaptationClassifier(Shift()).fit(X, Y, sample_domain=DOMAIN).predict(
                X, sample_domain=domain
            )


@pytest.mark.parametrize("kind", [float, np.float32, np.int8, object])
def test_domains_may_be_whole_numbers_of_any_type(kind):
    expected = DomainAdaptationClassifier(Shift()).fit(X, Y, sample_domain=DOMAIN)
    found = DomainAdaptationClassifier(Shift()).fit(X, Y, sample_domain=DOMAIN.astype(kind))
    np.testing.assert_array_equal(
        found.predict(X, sample_domain=DOMAIN.astype(kind)),
        expected.predict(X, sample_domain=DOMAIN),
    )


def test_several_sources_are_one_and_lists_do():
    several = np.where(SOURCE, np.arange(len(X)) % 4 + 1, -5)
    fitted = DomainAdaptationClassifier(Shift()).fit(
        X.tolist(), Y.tolist(), sample_domain=several.tolist()
    )
    expected = DomainAdaptationClassifier(Shift()).fit(X, Y, sample_domain=DOMAIN)
    np.testing.assert_array_equal(fitted.predict_proba(X.tolist()), expected.predict_proba(X))


@pytest.mark.parametrize(
    "names",
    [
        np.array(["mug", "bike"]),
        np.array([True, False]),
        np.array([-3, 11]),
        np.array(["x", 2], dtype=object),
    ],
)
def test_labels_of_every_kind_come_back(names):
    fitted = DomainAdaptationClassifier(OTMap(class_regularization=0.05)).fit(
        X, names[Y].tolist(), sample_domain=DOMAIN
    )
    assert set(fitted.predict(X).tolist()) <= {
        str(v) if names.dtype == object else v for v in names.tolist()
    }
    np.testing.assert_array_equal(
        fitted.classes_[fitted.predict_proba(X).argmax(axis=1)], fitted.predict(X)
    )
    expected = (
        DomainAdaptationClassifier(OTMap(class_regularization=0.05))
        .fit(X, Y, sample_domain=DOMAIN)
        .predict(X)
    )
    np.testing.assert_array_equal(fitted.predict(X), np.array(names.tolist())[expected])


def test_continuous_labels_are_no_classes_and_missing_ones_no_numbers():
    with pytest.raises(ValueError, match="Unknown label type"):
        DomainAdaptationClassifier().fit(X, X[:, 0], sample_domain=DOMAIN)
    with pytest.raises(ValueError, match="y contains NaN"):
        DomainAdaptationRegressor().fit(X, np.where(SOURCE, np.nan, 1.0), sample_domain=DOMAIN)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        DomainAdaptationClassifier().fit(X, Y[:-1], sample_domain=DOMAIN)
    with pytest.raises(ValueError, match="NaN"):
        DomainAdaptationClassifier().fit(np.where(X > 3, np.nan, X), Y, sample_domain=DOMAIN)


def test_methods_are_those_of_the_estimator():
    for estimator, has in (
        (None, (True, True)),
        (LinearSVC(), (False, True)),
        (RandomForestClassifier(5), (True, False)),
    ):
        for model in (
            DomainAdaptationClassifier(estimator=estimator),
            DomainAdaptationClassifier(estimator=estimator).fit(X, Y),
        ):
            assert (hasattr(model, "predict_proba"), hasattr(model, "decision_function")) == has
    assert not hasattr(DomainAdaptationRegressor(), "predict_proba")


def test_score_reads_no_label_of_a_target_row_that_it_is_told_of():
    fitted = DomainAdaptationClassifier(Shift()).fit(X, Y, sample_domain=DOMAIN)
    expected = (fitted.predict(X, sample_domain=DOMAIN) == Y)[SOURCE]
    weight = np.arange(1.0, 101.0)
    for kind in ("none", "nan", "words"):
        assert fitted.score(X, garbage(kind), sample_domain=DOMAIN) == pytest.approx(
            expected.mean()
        )
        assert fitted.score(X, garbage(kind), weight, DOMAIN) == pytest.approx(
            np.average(expected, weights=weight[SOURCE])
        )
    assert fitted.score(X, Y) == pytest.approx((fitted.predict(X) == Y).mean())
    with pytest.raises(ValueError, match="no source row to score"):
        fitted.score(X[~SOURCE], Y[~SOURCE], sample_domain=DOMAIN[~SOURCE])
    line = DomainAdaptationRegressor(Shift()).fit(X, X[:, 0], sample_domain=DOMAIN)
    error = (line.predict(X, sample_domain=DOMAIN) - X[:, 0])[SOURCE]
    assert line.score(X, garbage("nan", X[:, 0]), sample_domain=DOMAIN) == pytest.approx(
        1 - (error**2).mean() / X[SOURCE, 0].var()
    )


def test_parameters_copies_and_files():
    model = DomainAdaptationClassifier(OTMap(), partial(kmm, bound=5.0), LogisticRegression())
    assert model.get_params()["adapter__regularization"] == 0.1
    model.set_params(adapter__regularization=0.3, estimator__C=0.5)
    assert model.adapter.regularization == 0.3 and clone(model).estimator.C == 0.5
    model.fit(X, Y, sample_domain=DOMAIN)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(model)).predict_proba(X), model.predict_proba(X)
    )
    # Nothing is left of the former parts.
    again = model.set_params(adapter=None, weigher=None).fit(X, Y, sample_domain=DOMAIN)
    expected = LogisticRegression(C=0.5).fit(X[SOURCE], Y[SOURCE])
    np.testing.assert_allclose(again.predict_proba(X), expected.predict_proba(X))
    assert again.weights_ is None and again.adapter_ is None


@pytest.mark.parametrize("adapter", [Shift(), CORAL(), OTMap(regularization=0.0), LinearMongeMap()])
def test_the_order_of_the_rows_does_not_matter(adapter):
    order = np.random.default_rng(4).permutation(len(X))
    fitted, permuted = (
        DomainAdaptationClassifier(adapter, coarse_kmm).fit(X[i], Y[i], sample_domain=DOMAIN[i])
        for i in (np.arange(len(X)), order)
    )
    for domain in (None, DOMAIN):
        expected = fitted.predict_proba(X, sample_domain=domain)
        got = permuted.predict_proba(
            X[order], sample_domain=None if domain is None else domain[order]
        )
        # The weights and the regression come from iterations, so they agree roughly.
        np.testing.assert_allclose(got, expected[order], atol=1e-3)


@pytest.mark.parametrize("parts", [{}, {"adapter": Shift()}, {"weigher": kmm}])
def test_sparse_rows_are_those_of_the_dense_matrix(parts: dict):
    sparse = scipy.sparse.csr_array(X)
    fitted = DomainAdaptationClassifier(**parts).fit(sparse, Y, sample_domain=DOMAIN)
    dense = DomainAdaptationClassifier(**parts).fit(X, Y, sample_domain=DOMAIN)
    np.testing.assert_allclose(fitted.predict_proba(sparse), dense.predict_proba(X), atol=1e-4)


def test_single_precision_whole_numbers_and_tensors():
    single = DomainAdaptationClassifier(Shift()).fit(X.astype("f"), Y, sample_domain=DOMAIN)
    assert single.adapter_.transform(X.astype("f")).dtype == np.float32
    np.testing.assert_allclose(
        single.decision_function(X.astype("f"))[:5], single.decision_function(X)[:5], atol=1e-3
    )
    whole = np.rint(3 * X).astype(int)
    fitted = DomainAdaptationClassifier(Shift()).fit(whole, Y, sample_domain=DOMAIN)
    floats = DomainAdaptationClassifier(Shift()).fit(whole.astype(float), Y, sample_domain=DOMAIN)
    tensors = DomainAdaptationClassifier(Shift()).fit(
        torch.from_numpy(whole).double(), torch.from_numpy(Y), torch.from_numpy(DOMAIN)
    )
    np.testing.assert_array_equal(fitted.predict_proba(whole), floats.predict_proba(whole))
    np.testing.assert_array_equal(tensors.predict_proba(whole), floats.predict_proba(whole))


def test_data_frames_keep_the_names_of_their_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["height", "width", "depth"], index=np.arange(500, 600))
    labels = pandas.Series(garbage("none", np.array(["mug", "bike"])[Y]), index=frame.index)
    domain = pandas.Series(DOMAIN, index=frame.index)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = DomainAdaptationClassifier(Shift(), coarse_kmm).fit(
            frame, labels, sample_domain=domain
        )
        answers = fitted.predict(frame, sample_domain=domain)
    assert (
        fitted.feature_names_in_.tolist() == ["height", "width", "depth"]
        and fitted.n_features_in_ == 3
    )
    plain = DomainAdaptationClassifier(Shift(), coarse_kmm).fit(
        X, np.array(["mug", "bike"])[Y], sample_domain=DOMAIN
    )
    np.testing.assert_array_equal(answers, plain.predict(X, sample_domain=DOMAIN))
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[["width", "height", "depth"]])


def test_in_a_pipeline_with_and_without_routing():
    scaled = StandardScaler().fit_transform(X)
    expected = DomainAdaptationClassifier(Shift()).fit(scaled, Y, sample_domain=DOMAIN)
    pipeline = make_pipeline(StandardScaler(), DomainAdaptationClassifier(Shift()))
    plain = clone(pipeline).fit(X, Y, domainadaptationclassifier__sample_domain=DOMAIN)
    np.testing.assert_array_equal(plain.predict_proba(X), expected.predict_proba(scaled))
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(pipeline).fit(X, garbage("nan"), sample_domain=DOMAIN)
        np.testing.assert_array_equal(
            routed.predict(X, sample_domain=DOMAIN), expected.predict(scaled, sample_domain=DOMAIN)
        )
        assert routed.score(X, garbage("nan"), sample_domain=DOMAIN) == expected.score(
            scaled, Y, sample_domain=DOMAIN
        )
        with pytest.raises(ValueError, match="adapter must see target rows"):
            clone(pipeline).fit(X, Y)


def test_in_cross_validation_each_part_is_scored_on_its_source_rows():
    model, cv = DomainAdaptationClassifier(Shift()), KFold(4)
    expected = []
    for train, test in cv.split(X):
        fitted = clone(model).fit(X[train], Y[train], sample_domain=DOMAIN[train])
        source = test[SOURCE[test]]
        expected.append(
            (fitted.predict(X[source], sample_domain=DOMAIN[source]) == Y[source]).mean()
        )
    with sklearn.config_context(enable_metadata_routing=True):
        for request in (model, clone(model).set_fit_request(sample_domain=True)):
            scores = cross_val_score(
                request, X, garbage("nan"), cv=cv, params={"sample_domain": DOMAIN}
            )
            np.testing.assert_allclose(scores, expected)


def test_a_search_reaches_the_parameters_of_the_parts():
    grid = {
        "adapter": [None, Shift(factor=-1.0), Shift()],
        "estimator": [DummyClassifier(), LogisticRegression()],
    }
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(DomainAdaptationClassifier(), grid, cv=KFold(3)).fit(
            X, garbage("nan"), sample_domain=DOMAIN
        )
    assert isinstance(search.best_params_["estimator"], LogisticRegression)
    assert (
        search.predict(X).shape == (100,)
        and np.isfinite(search.cv_results_["mean_test_score"]).all()
    )


FEW = np.where(SOURCE, Y, np.nan).astype(float)
FEW[np.flatnonzero(~SOURCE)[:6]] = Y[~SOURCE][:6]
KNOWN = ~SOURCE & ~np.isnan(FEW)


@pytest.mark.parametrize("kind", ["nan", "none"])
@pytest.mark.parametrize("weight", [1.0, 7.5])
def test_labelled_target_rows_are_learned_from_on_request(kind, weight):
    y = FEW if kind == "nan" else np.where(np.isnan(FEW), None, FEW.astype(object))
    fitted = DomainAdaptationClassifier(Shift(), target_weight=weight).fit(X, y, DOMAIN)
    shift = X[~SOURCE].mean(axis=0) - X[SOURCE].mean(axis=0)
    by_hand = LogisticRegression(max_iter=1000).fit(
        np.vstack([X[SOURCE] + shift, X[KNOWN]]),
        np.r_[Y[SOURCE], Y[KNOWN]],
        sample_weight=np.r_[np.ones(SOURCE.sum()), np.full(KNOWN.sum(), weight)],
    )
    np.testing.assert_allclose(fitted.predict_proba(X), by_hand.predict_proba(X), atol=1e-6)
    np.testing.assert_array_equal(fitted.adapter_.labels_, Y[SOURCE])
    numbers = DomainAdaptationRegressor(target_weight=weight).fit(X, y, DOMAIN)
    line = Ridge().fit(
        np.vstack([X[SOURCE], X[KNOWN]]),
        np.r_[Y[SOURCE], Y[KNOWN]],
        sample_weight=np.r_[np.ones(SOURCE.sum()), np.full(KNOWN.sum(), weight)],
    )
    np.testing.assert_allclose(numbers.predict(X), line.predict(X), atol=1e-9)


def test_by_default_labels_of_target_rows_are_not_read_even_if_there_are_some():
    plain = DomainAdaptationClassifier().fit(X, FEW, DOMAIN)
    other = np.where(KNOWN, 1 - FEW, FEW)
    np.testing.assert_array_equal(
        plain.predict_proba(X), DomainAdaptationClassifier().fit(X, other, DOMAIN).predict_proba(X)
    )
    asked = DomainAdaptationClassifier(target_weight=1e6)
    for labels in (FEW, other):  # so heavy that these rows decide
        np.testing.assert_array_equal(
            clone(asked).fit(X, labels, DOMAIN).predict(X[KNOWN]), labels[KNOWN]
        )


def test_sparse_rows_and_labelled_target_rows():
    sparse = scipy.sparse.csr_array(X)
    dense, thin = (
        DomainAdaptationClassifier(target_weight=3.0).fit(rows, FEW, DOMAIN).predict_proba(rows)
        for rows in (X, sparse)
    )
    np.testing.assert_allclose(thin, dense, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [
        ({"target_weight": 0.0}, FEW, "target_weight must be a finite number > 0.*got 0.0"),
        ({"target_weight": 1.0}, np.where(SOURCE, Y, np.nan), "rows with a label.*got none"),
        ({"target_weight": 1.0}, np.where(SOURCE, Y, -99), r"classes that source rows have.*-99"),
        (
            {"target_weight": 1.0},
            np.where(KNOWN, "one", np.where(SOURCE, Y.astype(object), None)),
            "words in both domains, or numbers in both",
        ),
        ({"source_weights": "validation"}, FEW, "'validation' needs labelled target rows"),
        ({"source_weights": "likeness"}, FEW, "source_weights must be .*'likeness'"),
        (
            {"source_weights": "similarity", "estimator": KNeighborsClassifier()},
            FEW,
            "must take sample_weight.*KNeighborsClassifier does not",
        ),
    ],
)
def test_wrong_uses_of_few_labels_and_several_sources_are_told(options, y, message):
    with pytest.raises(ValueError, match=message):
        DomainAdaptationClassifier(**options).fit(X, y, DOMAIN)


def three_sources(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sources 1, 2, 3 at 0, 3 and 6, and a target of which two thirds are at 0, the rest at 3."""
    rng = np.random.default_rng(seed)
    domain = np.repeat([1, 2, 3, -1], [50, 80, 70, 90])
    places = np.repeat([0.0, 3.0, 6.0, 0.0, 3.0], [50, 80, 70, 60, 30])
    x = places[:, None] + 0.3 * rng.standard_normal((290, 2))
    return x, (x[:, 0] - places + 0.1 * rng.standard_normal(290) > 0).astype(int), domain


def by_grid(gaps: np.ndarray, steps: int = 200) -> np.ndarray:
    """The best weights of three sources on a grid of the simplex."""
    grid = [(a, b, steps - a - b) for a in range(steps + 1) for b in range(steps + 1 - a)]
    w = np.array(grid) / steps
    return w[np.einsum("ks,st,kt->k", w, gaps, w).argmin()]


def test_sources_are_weighed_by_their_likeness_to_the_target():
    x, y, domain = three_sources()
    fitted = DomainAdaptationClassifier(source_weights="similarity").fit(x, y, domain)
    weights = np.array([fitted.source_weights_[number] for number in (1, 2, 3)])
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3, 0], atol=0.03)
    parts = [x[domain == number] for number in (1, 2, 3, -1)]
    pooled = np.concatenate(parts)
    bandwidth = np.median(pdist(pooled, "sqeuclidean"))
    means = np.array([[np.exp(-cdist(a, b, "sqeuclidean") / bandwidth).mean() for b in parts]
                      for a in parts])  # fmt: skip
    shift = np.array([[1, 0, 0, -1], [0, 1, 0, -1], [0, 0, 1, -1]])
    np.testing.assert_allclose(weights, by_grid(shift @ means @ shift.T), atol=0.01)
    each = np.array([fitted.weights_[domain[domain > 0] == number].sum() for number in (1, 2, 3)])
    np.testing.assert_allclose(each / each.sum(), weights, atol=1e-9)
    assert fitted.weights_.mean() == pytest.approx(1)


@pytest.mark.parametrize("kind", [DomainAdaptationClassifier, DomainAdaptationRegressor])
def test_sources_are_weighed_by_labelled_target_rows(kind):
    x, y, domain = three_sources()
    known = np.flatnonzero(domain < 0)[::7]
    few = np.where(domain > 0, y, np.nan)
    few[known] = y[known]
    fitted = kind(source_weights="validation", target_weight=2.0).fit(x, few, domain)
    errors = []
    for number in (1, 2, 3):
        own = domain == number
        if kind is DomainAdaptationClassifier:
            model = LogisticRegression(max_iter=1000).fit(x[own], y[own])
            errors.append((model.predict_proba(x[known]) - np.eye(2)[y[known]]).ravel())
        else:
            errors.append(Ridge().fit(x[own], y[own]).predict(x[known]) - y[known])
    gaps = np.array(errors) @ np.array(errors).T
    weights = [fitted.source_weights_[number] for number in (1, 2, 3)]
    np.testing.assert_allclose(weights, by_grid(gaps), atol=0.01)
    rows = np.flatnonzero(domain > 0)
    counts = np.array([50, 80, 70])[domain[rows] - 1]
    each = np.array(weights)[domain[rows] - 1] * len(rows) / counts
    by_hand = clone(fitted._default()).fit(
        x[[*rows, *known]], y[[*rows, *known]], sample_weight=[*each, *[2.0] * len(known)]
    )
    np.testing.assert_allclose(fitted.predict(x), by_hand.predict(x), atol=1e-6)


def test_missing_values_are_left_to_an_estimator_that_takes_them():
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    trees = HistGradientBoostingClassifier(max_iter=5)
    for estimator in (trees, make_pipeline(SimpleImputer(), LogisticRegression())):
        fitted = DomainAdaptationClassifier(estimator=estimator).fit(holes, Y, DOMAIN)
        by_hand = clone(estimator).fit(holes[SOURCE], Y[SOURCE])
        np.testing.assert_array_equal(fitted.predict_proba(holes), by_hand.predict_proba(holes))
    assert get_tags(DomainAdaptationClassifier(estimator=trees)).input_tags.allow_nan
    for model in (
        DomainAdaptationClassifier(),
        DomainAdaptationClassifier(Shift(), estimator=trees),
        DomainAdaptationClassifier(source_weights="similarity", estimator=trees),
    ):
        assert not get_tags(model).input_tags.allow_nan
        with pytest.raises(ValueError, match="contains NaN"):
            model.fit(holes, Y, DOMAIN)


def test_labels_and_sources_work_in_a_search():
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), DomainAdaptationClassifier()),
            {"domainadaptationclassifier__target_weight": [None, 5.0]},
            cv=SourceFolds(2),
            scoring=ImportanceWeightedScore(),
        ).fit(X, FEW, sample_domain=DOMAIN)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
