"""Boosting across domains.

Oracles: the papers' pseudo-code line by line, with stumps found by exhaustion; scikit-learn's
quantities; toys with a partly contrary source, for which pooling is worse than the target alone.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier

from da.instance.adaboost_r2 import adaboost_r2, towards_target, weighted_median
from da.instance.boosting import TrAdaBoost
from da.instance.boosting_regression import TrAdaBoostR2, TwoStageTrAdaBoostR2
from da.instance.transfer_boosting import source_factor


class Stump(ClassifierMixin, BaseEstimator):
    """The threshold on one column with the least weighted 0-1 loss, found by trying all.

    If there are several, it is the first in order.
    """

    def fit(self, x, y, sample_weight):
        best = math.inf
        for column in range(x.shape[1]):
            for threshold in [-math.inf, *np.unique(x[:, column])]:
                for flip in (0, 1):
                    loss = sample_weight[((x[:, column] > threshold) ^ flip) != y].sum()
                    if loss < best - 1e-9:
                        best, self.rule_ = loss, (column, threshold, flip)
        return self

    def predict(self, x):
        column, threshold, flip = self.rule_
        return ((x[:, column] > threshold) ^ flip).astype(int)


class RegressionStump(RegressorMixin, BaseEstimator):
    """The threshold with the least weighted squared error, each side its weighted mean."""

    def fit(self, x, y, sample_weight):
        best = math.inf
        for column in range(x.shape[1]):
            for threshold in np.unique(x[:, column])[:-1]:
                right = x[:, column] > threshold
                if min(sample_weight[right].sum(), sample_weight[~right].sum()) <= 1e-12:
                    continue
                means = [
                    np.average(y[side], weights=sample_weight[side]) for side in (~right, right)
                ]
                loss = (sample_weight * (y - np.where(right, means[1], means[0])) ** 2).sum()
                if loss < best - 1e-9:
                    best, self.rule_ = loss, (column, threshold, means)
        return self

    def predict(self, x):
        column, threshold, means = self.rule_
        return np.where(x[:, column] > threshold, means[1], means[0])


def classes(seed: int = 0, n: int = 30, m: int = 10) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    x, t = rng.normal(size=(n, 2)), rng.normal(size=(m, 2)) + 0.3
    y = (x[:, 0] + 0.5 * x[:, 1] + 0.5 * rng.normal(size=n) > 0).astype(int)
    return x, y, t, (t[:, 0] + 0.8 * t[:, 1] > 0.2).astype(int)


def numbers(seed: int = 0, n: int = 30, m: int = 12) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    x, t = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
    return x, x[:, 0] + rng.normal(size=n), t, t[:, 0] + 0.5 * t[:, 1] + 0.3 * rng.normal(size=m)


def tradaboost_as_published(x, y, t, t_y, rounds, queries):
    """Dai et al. 2007, step by step.

    Returns the final hypothesis at queries, eps of each round, and the last distribution.
    """
    n, rows, labels = len(x), np.concatenate([x, t]), np.concatenate([y, t_y])
    w, beta = np.ones(len(rows)), 1 / (1 + math.sqrt(2 * math.log(n) / rounds))
    said, betas, errors = [], [], []
    for _ in range(rounds):
        p = w / w.sum()
        h = Stump().fit(rows, labels, p * len(rows))
        miss = np.abs(h.predict(rows) - labels)
        eps = sum(w[i] * miss[i] for i in range(n, len(rows))) / sum(
            w[i] for i in range(n, len(rows))
        )
        assert 0.01 < eps < 0.49, "a case the paper covers"
        beta_t = eps / (1 - eps)
        for i in range(len(rows)):
            w[i] = w[i] * beta ** miss[i] if i < n else w[i] * beta_t ** -miss[i]
        said.append(h.predict(queries))
        betas.append(beta_t)
        errors.append(eps)
    half = range(math.ceil(rounds / 2) - 1, rounds)
    final = [
        math.prod(betas[k] ** -said[k][i] for k in half)
        >= math.prod(betas[k] ** -0.5 for k in half)
        for i in range(len(queries))
    ]
    return np.array(final, int), np.array(errors), w / w.sum()


@pytest.mark.parametrize(("seed", "rounds"), [(0, 1), (2, 2), (0, 3), (10, 4), (55, 5), (37, 6)])
def test_tradaboost_is_the_published_algorithm(seed, rounds):
    data, queries = classes(seed), np.random.default_rng(9).normal(size=(200, 2))
    final, errors, distribution = tradaboost_as_published(*data, rounds, queries)
    model = TrAdaBoost(Stump(), n_estimators=rounds).fit(*data)
    np.testing.assert_array_equal(model.predict(queries), final)
    np.testing.assert_allclose(model.estimator_errors_, errors, rtol=1e-10)
    np.testing.assert_allclose(
        np.concatenate([model.source_weights_, model.target_weights_]), distribution, rtol=1e-9
    )


def test_the_source_factor_is_the_papers():
    assert (
        source_factor(100, 20) == pytest.approx(1 / (1 + (2 * np.log(100) / 20) ** 0.5))
        and source_factor(1, 5) == 1
    )


def contrary(seed: int, n: int = 250, m: int = 16, d: int = 12) -> tuple[np.ndarray, ...]:
    """Labels by one plane; two source rows in five follow another one."""
    rng = np.random.default_rng(seed)
    x, t, test = (rng.normal(size=(k, d)) for k in (n, m, 2000))
    y, t_y, test_y = ((z[:, 0] + z[:, 1] > 0).astype(int) for z in (x, t, test))
    other = rng.random(n) < 0.4
    y[other] = x[other, 0] - 3 * x[other, 1] > 0
    return x, y, t, t_y, test, test_y, other


def test_tradaboost_beats_the_target_alone_and_the_pooled_rows():
    accuracies = []
    for seed in range(6):
        x, y, t, t_y, test, test_y, other = contrary(seed)
        model = TrAdaBoost(n_estimators=40).fit(x, y, t, t_y)
        learner = LogisticRegression(max_iter=1000)
        pooled = clone(learner).fit(np.concatenate([x, t]), np.concatenate([y, t_y]))
        accuracies.append(
            [
                model.score(test, test_y),
                learner.fit(t, t_y).score(test, test_y),
                pooled.score(test, test_y),
            ]
        )
        wrong = other & (y != (x[:, 0] + x[:, 1] > 0))
        assert np.median(model.source_weights_[wrong]) < 0.2 * np.median(
            model.source_weights_[~wrong]
        )
    boosted, alone, together = np.mean(accuracies, axis=0)
    assert boosted > alone + 0.04 and boosted > together + 0.04


def test_a_perfect_round_has_the_only_vote_and_a_bad_one_has_none():
    x, y, t, t_y = classes()
    model = TrAdaBoost(DecisionTreeClassifier(random_state=0), n_estimators=4).fit(x, y, t, t_y)
    assert (model.estimator_errors_ == 0).all() and np.isfinite(model.estimator_weights_).all()
    np.testing.assert_array_equal(model.predict(t), t_y)
    rows = np.linspace(-1, 1, 41)[:, None]
    target = np.array([[-0.9], [-0.5], [0.5], [0.9]])
    model = TrAdaBoost(
        Stump(), n_estimators=60
    )  # the source says the contrary, but the target has more rows
    model.fit(
        rows[::8],
        (rows[::8, 0] <= 0).astype(int),
        np.repeat(target, 2, axis=0),
        np.repeat([0, 1], 4),
    )
    assert (model.predict(target) == [0, 0, 1, 1]).all()
    with pytest.raises(ValueError, match="none of 2 rounds has an error below 1/2 on the target"):
        TrAdaBoost(Stump(), n_estimators=2).fit(
            rows, (rows[:, 0] <= 0).astype(int), target, np.array([0, 0, 1, 1])
        )


def test_rounds_at_one_half_discount_the_source_and_leave_the_target():
    rows = np.linspace(-1, 1, 20)[:, None]
    y = (rows[:, 0] <= 0).astype(int)
    y[3] = 1 - y[3]
    model = TrAdaBoost(Stump(), n_estimators=30)
    with pytest.raises(ValueError, match="none of 30 rounds"):
        model.fit(rows, y, np.array([[-0.55], [0.5]]), np.array([0, 1]))
    assert (model.estimator_errors_ == 1).all() and (model.estimator_weights_ == 0).all()
    assert model.source_weights_[3] < 0.1 * model.source_weights_[4] and model.target_weights_[
        0
    ] == pytest.approx(model.source_weights_[4])


def median_by_definition(values: np.ndarray, weights: np.ndarray) -> float:
    return min(v for v in values if weights[values <= v].sum() >= 0.5 * weights.sum() - 1e-12)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(t=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_the_weighted_median_is_the_definition(t, seed):
    rng = np.random.default_rng(seed)
    values, weights = rng.integers(0, 4, (t, 5)).astype(float), rng.integers(1, 4, t).astype(float)
    np.testing.assert_array_equal(
        weighted_median(values, weights), [median_by_definition(v, weights) for v in values.T]
    )


def r2_as_published(x, y, t, t_y, rounds, queries):
    n, rows, labels = len(x), np.concatenate([x, t]), np.concatenate([y, t_y])
    w, beta = np.ones(len(rows)), 1 / (1 + math.sqrt(2 * math.log(n) / rounds))
    said, votes = [], []
    for _ in range(rounds):
        h = RegressionStump().fit(rows, labels, w / w.sum() * len(rows))
        largest = max(abs(labels - h.predict(rows)))
        e = [abs(labels[i] - h.predict(rows[i : i + 1])[0]) / largest for i in range(len(rows))]
        eps = sum(w[i] * e[i] for i in range(n, len(rows))) / w[n:].sum()
        assert 0 < eps < 0.5
        beta_t = eps / (1 - eps)
        w = np.array(
            [w[i] * beta ** e[i] if i < n else w[i] * beta_t ** -e[i] for i in range(len(rows))]
        )
        said.append(h.predict(queries))
        votes.append(math.log(1 / beta_t))
    half = slice(math.ceil(rounds / 2) - 1, rounds)
    return np.array(
        [median_by_definition(v, np.array(votes[half])) for v in np.array(said[half]).T]
    ), w / w.sum()


@pytest.mark.parametrize(("seed", "rounds"), [(0, 1), (1, 3), (2, 4)])
def test_tradaboost_r2_is_the_published_algorithm(seed, rounds):
    data, queries = numbers(seed), np.random.default_rng(9).normal(size=(50, 2))
    expected, distribution = r2_as_published(*data, rounds, queries)
    model = TrAdaBoostR2(RegressionStump(), n_estimators=rounds).fit(*data)
    np.testing.assert_allclose(model.predict(queries), expected, rtol=1e-9)
    np.testing.assert_allclose(
        np.concatenate([model.source_weights_, model.target_weights_]), distribution, rtol=1e-9
    )


def adaboost_as_published(rows, labels, n, w, rounds, queries):
    """AdaBoost.R2 with the first n weights frozen; the median at queries."""
    w, said, votes = w / w.sum(), [], []
    for _ in range(rounds):
        h = RegressionStump().fit(rows, labels, w * len(w))
        residuals = abs(labels - h.predict(rows))
        e = residuals / residuals.max()
        eps = (w * e).sum()
        if eps >= 0.5:
            break
        beta_t = eps / (1 - eps)
        target = w[n:] * beta_t ** (1 - e[n:])
        w = np.append(w[:n], target * w[n:].sum() / target.sum())
        said.append(h.predict(queries))
        votes.append(math.log(1 / beta_t))
    return np.array([median_by_definition(v, np.array(votes)) for v in np.array(said).T])


@pytest.mark.parametrize("seed", [0, 1])
def test_two_stage_takes_the_published_steps(seed):
    """Every share of the target and the model of the chosen step, computed again.

    The folds are leave-one-out, so none is random.
    """
    x, y, t, t_y = numbers(seed, 20, 6)
    n, m, steps = 20, 6, 4
    rows, labels, queries = (
        np.concatenate([x, t]),
        np.concatenate([y, t_y]),
        np.random.default_rng(9).normal(size=(30, 2)),
    )
    w, errors, models = np.full(26, 1 / 26), [], []
    for step in range(1, steps + 1):
        squares = []
        for held in range(n, n + m):
            kept = np.delete(np.arange(n + m), held)
            answer = adaboost_as_published(
                rows[kept], labels[kept], n, w[kept], 3, rows[held : held + 1]
            )
            squares.append((answer[0] - labels[held]) ** 2)
        errors.append(np.mean(squares))
        models.append(adaboost_as_published(rows, labels, n, w, 3, queries))
        residuals = abs(labels - RegressionStump().fit(rows, labels, w * len(w)).predict(rows))
        e, share = residuals / residuals.max(), m / (n + m) + step / (steps - 1) * (1 - m / (n + m))
        low, high = 0.0, 1.0
        for _ in range(200):  # bisection for beta_t, which is 0 at the end
            beta = (low + high) / 2 if step < steps - 1 else 0.0
            moved = np.append(w[:n] * beta ** e[:n], w[n:])
            low, high = (beta, high) if moved[n:].sum() / moved.sum() > share else (low, beta)
        w = moved / moved.sum()
    model = TwoStageTrAdaBoostR2(RegressionStump(), n_steps=steps, n_estimators=3, folds=m).fit(
        x, y, t, t_y
    )
    np.testing.assert_allclose(model.cross_validation_errors_, errors, rtol=1e-6)
    assert model.step_ == np.argmin(errors) + 1
    np.testing.assert_allclose(model.predict(queries), models[model.step_ - 1], rtol=1e-6)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 8),
    m=st.integers(1, 5),
    share=st.floats(0.5, 1),
    exact=st.integers(0, 3),
    seed=st.integers(0, 10**6),
)
def test_the_target_gets_its_share(n, m, share, exact, seed):
    rng = np.random.default_rng(seed)
    weights, errors = rng.uniform(0.1, 1, n + m), rng.uniform(0.01, 1, n + m)
    errors[:exact] = 0
    weights[n:] *= 0.5 * weights[:n].sum() / weights[n:].sum()  # a third of all weight
    moved = towards_target(weights, errors, n, share)
    assert moved.sum() == pytest.approx(1) and moved[n:].sum() == pytest.approx(share, abs=1e-9)
    np.testing.assert_allclose(moved[n:] / moved[n], weights[n:] / weights[n])
    factors = moved[:n] / weights[:n]
    if (
        share < 1 and (factors > 0).all()
    ):  # one beta for all: the logarithms are proportional to the errors
        logs = np.log(factors * weights[n] / moved[n])
        np.testing.assert_allclose(
            logs * errors[:n].max(),
            logs[errors[:n].argmax()] * errors[:n],
            atol=1e-6 * max(1, abs(logs).max()),
        )


def test_the_second_stage_leaves_the_source_alone():
    seen: list[np.ndarray] = []

    class Witness(LinearRegression):
        def fit(self, x, y, sample_weight):
            seen.append(sample_weight / sample_weight.sum())
            return super().fit(x, y, sample_weight)

    x, y, t, t_y = numbers()
    weights = np.random.default_rng(0).uniform(0.5, 1, 42)
    adaboost_r2(np.concatenate([x, t]), np.concatenate([y, t_y]), 30, weights, Witness(), 5)
    assert len(seen) > 1 and not np.allclose(seen[0][30:], seen[-1][30:])
    for w in seen:
        np.testing.assert_allclose(w[:30], weights[:30] / weights.sum())


def test_both_regressions_beat_the_target_alone_and_the_pooled_rows():
    results = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, t, test = (rng.normal(size=(k, 8)) for k in (300, 15, 1000))
        rule = np.array([2, -1, 1, 0.5, 0, 0, 0, 0])
        y, t_y = x @ rule + 0.5 * rng.normal(size=300), t @ rule + 0.5 * rng.normal(size=15)
        y[::3] *= -1
        learner = LinearRegression()
        models = [
            TrAdaBoostR2(learner, n_estimators=30).fit(x, y, t, t_y),
            TwoStageTrAdaBoostR2(learner, n_steps=5, n_estimators=3, folds=3).fit(x, y, t, t_y),
            clone(learner).fit(t, t_y),
            clone(learner).fit(np.concatenate([x, t]), np.concatenate([y, t_y])),
        ]
        results.append([((model.predict(test) - test @ rule) ** 2).mean() for model in models])
    one, two, alone, pooled = np.mean(results, axis=0)
    assert one < 0.7 * alone and two < 0.7 * alone and max(one, two) < 0.3 * pooled


MODELS = [
    (TrAdaBoost(GaussianNB(), n_estimators=5), classes()),
    (TrAdaBoostR2(LinearRegression(), n_estimators=5), numbers()),
    (TwoStageTrAdaBoostR2(LinearRegression(), n_steps=3, n_estimators=3, folds=3), numbers()),
]


@pytest.mark.parametrize(("model", "data"), MODELS)
def test_the_order_of_the_rows_does_not_matter(model, data):
    x, y, t, t_y = data
    first, second = (
        np.random.default_rng(1).permutation(len(x)),
        np.random.default_rng(2).permutation(len(t)),
    )
    queries = np.random.default_rng(3).normal(size=(40, 2))
    expected = clone(model).fit(x, y, t, t_y).predict(queries)
    np.testing.assert_allclose(
        clone(model).fit(x[first], y[first], t[second], t_y[second]).predict(queries),
        expected,
        atol=1e-8,
    )


@pytest.mark.parametrize(("model", "data"), MODELS)
def test_tensors_give_tensors(model, data):
    x, y, t, t_y = (torch.from_numpy(z) for z in data)
    answer = clone(model).fit(x.float(), y, t.float(), t_y).predict(t.float())
    assert isinstance(answer, torch.Tensor) and answer.shape == t_y.shape
    expected = clone(model).fit(*data).predict(data[2])
    assert (np.abs(answer.numpy() - expected) < 1e-4).mean() > 0.9  # float32 may turn a tie


def test_classes_may_be_strings_and_a_class_may_lack_in_the_target():
    x, y, t, _ = classes()
    names = np.array(["no", "yes"])
    model = TrAdaBoost(n_estimators=5).fit(x, names[y], t, np.full(len(t), "yes"))
    assert set(model.predict(x)) <= {"no", "yes"} and model.classes_.tolist() == ["no", "yes"]
    np.testing.assert_array_equal(model.predict(t) == "yes", model.decision_function(t) >= 0)
    assert clone(model).get_params()["n_estimators"] == 5


def three_classes(n=90, m=12, seed=0):
    """Three Gaussian classes; a third of the source has the next class."""
    rng = np.random.default_rng(seed)
    y, t_y = np.arange(n) % 3, np.arange(m) % 3
    centres = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    x, t = centres[y] + rng.normal(size=(n, 2)), centres[t_y] + rng.normal(size=(m, 2))
    return x, np.where(np.arange(n) < n // 3, (y + 1) % 3, y), t, t_y


def samme(x, y, t, t_y, rounds, base):
    """TrAdaBoost's rounds with SAMME's votes, row by row: the votes (rows of t, classes)."""
    n, m, k = len(x), len(t), 3
    rows, labels = np.concatenate([x, t]), np.concatenate([y, t_y])
    w = [1 / (n + m)] * (n + m)
    beta = 1 / (1 + math.sqrt(2 * math.log(n) / rounds))
    answers, alphas = [], []
    for _ in range(rounds):
        weights = np.array(w) * len(w) / sum(w)
        h = clone(base).fit(rows, labels, sample_weight=weights).predict(rows)
        error = sum(w[i] for i in range(n, n + m) if h[i] != labels[i]) / sum(w[n:])
        error = max(error, 1e-10)
        alpha = math.log((1 - error) / error) + math.log(k - 1) if error < 1 - 1 / k else 0.0
        for i in range(n + m):
            if h[i] != labels[i]:
                w[i] *= beta if i < n else math.exp(alpha)
        total = sum(w)
        w = [v / total for v in w]
        answers.append(h[n:])
        alphas.append(alpha)
    votes = np.zeros((m, k))
    for h, alpha in list(zip(answers, alphas, strict=True))[math.ceil(rounds / 2) - 1 :]:
        for row in range(m):
            votes[row, h[row]] += alpha
    return votes, np.array(w)


def test_three_classes_as_written_row_by_row():
    x, y, t, t_y = three_classes()
    base = DecisionTreeClassifier(max_depth=2, random_state=0)
    votes, weights = samme(x, y, t, t_y, 8, base)
    model = TrAdaBoost(base, n_estimators=8).fit(x, y, t, t_y)
    assert model.estimator_weights_.all()  # else the loop above would let other rounds vote
    shares = votes / votes.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(t), shares, rtol=1e-9)
    np.testing.assert_allclose(
        np.concatenate([model.source_weights_, model.target_weights_]), weights, rtol=1e-9
    )
    np.testing.assert_array_equal(model.predict(t), votes.argmax(axis=1))
    np.testing.assert_allclose(model.decision_function(t).sum(axis=1), 0, atol=1e-9)


def test_three_classes_are_learned_better_than_from_the_pool_or_the_target_alone():
    scores = []
    for seed in range(4):
        x, y, t, t_y = three_classes(n=600, m=9, seed=seed)
        fresh, truth = three_classes(n=900, seed=100 + seed)[0], np.arange(900) % 3
        pooled = np.concatenate([x, t]), np.concatenate([y, t_y])
        models = [
            TrAdaBoost(GaussianNB(), n_estimators=20).fit(x, y, t, t_y),
            GaussianNB().fit(*pooled),
            GaussianNB().fit(t, t_y),
        ]
        scores.append([model.score(fresh, truth) for model in models])
    boosted, pool, alone = np.mean(scores, axis=0)
    assert boosted > max(pool, alone) + 0.03


def test_shares_of_the_votes_are_probabilities_of_the_predicted_classes():
    for data in (classes(), three_classes()):
        model = TrAdaBoost(n_estimators=7).fit(*data)
        shares = model.predict_proba(data[2])
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        predicted = shares[
            np.arange(len(shares)), np.searchsorted(model.classes_, model.predict(data[2]))
        ]
        np.testing.assert_allclose(predicted, shares.max(axis=1))
    tensors = [torch.from_numpy(part) for part in three_classes()]
    assert isinstance(
        TrAdaBoost(n_estimators=3).fit(*tensors).predict_proba(tensors[2]), torch.Tensor
    )


def test_classes_may_be_whole_numbers_in_floats():
    x, y, t, t_y = classes()
    whole = TrAdaBoost(n_estimators=5).fit(x, y.astype(float), t, t_y.astype(float))
    np.testing.assert_array_equal(
        whole.predict(t), TrAdaBoost(n_estimators=5).fit(x, y, t, t_y).predict(t).astype(float)
    )
    assert whole.predict(t).dtype == float


def test_the_default_folds_fit_few_target_rows():
    x, y, t, t_y = (part.astype(float) for part in classes())
    few = TwoStageTrAdaBoostR2(n_steps=2, n_estimators=2).fit(x, y, t[:3], t_y[:3])
    three = TwoStageTrAdaBoostR2(n_steps=2, n_estimators=2, folds=3).fit(x, y, t[:3], t_y[:3])
    np.testing.assert_array_equal(few.predict(x), three.predict(x))


def test_constant_columns_duplicated_rows_and_more_columns_than_rows():
    x, y, t, t_y = classes()
    wide = [
        np.concatenate([z, np.ones((len(z), 1)), np.zeros((len(z), 60))], axis=1) for z in (x, t)
    ]
    model = TrAdaBoost(n_estimators=5).fit(
        np.repeat(wide[0], 2, axis=0), np.repeat(y, 2), wide[1], t_y
    )
    assert model.score(wide[1], t_y) > 0.6
    same = TrAdaBoostR2(n_estimators=3).fit(
        np.ones((4, 2)), np.ones(4), np.ones((2, 2)), np.ones(2)
    )
    assert same.predict(np.ones((1, 2))) == pytest.approx(1)
    two = TwoStageTrAdaBoostR2(n_steps=2, n_estimators=2, folds=2).fit(
        np.ones((4, 2)), np.ones(4), np.ones((2, 2)), np.ones(2)
    )
    assert two.predict(np.ones((1, 2))) == pytest.approx(1)


def bad(**changes):
    def call():
        x, y, t, t_y = classes()
        rows = {"source": x, "source_labels": y, "target": t, "target_labels": t_y} | changes
        estimator = rows.pop("estimator", TrAdaBoost(n_estimators=2))
        return estimator.fit(**rows)

    return call


TWO = TwoStageTrAdaBoostR2(LinearRegression(), n_steps=2, n_estimators=1, folds=2)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            bad(estimator=TrAdaBoost(KNeighborsClassifier())),
            TypeError,
            "takes sample_weight.*got KNeighborsClassifier",
        ),
        (
            bad(estimator=TrAdaBoostR2(KNeighborsRegressor())),
            TypeError,
            "takes sample_weight.*got KNeighborsRegressor",
        ),
        (
            bad(estimator=TrAdaBoost(n_estimators=0)),
            ValueError,
            "n_estimators must be a whole number >= 1",
        ),
        (
            bad(source_labels=np.zeros(30, int), target_labels=np.zeros(10, int)),
            ValueError,
            r"two classes together; got \[0\]",
        ),
        (
            bad(target_labels=np.zeros(9, int)),
            ValueError,
            r"target_labels must hold one label a row, shape \(10,\); got \(9,\)",
        ),
        (bad(source_labels=np.full(30, 0.5)), TypeError, "source_labels must hold classes"),
        (bad(target=np.zeros((10, 3))), ValueError, "equal widths"),
        (bad(target=np.full((10, 2), np.nan)), ValueError, "target must be finite"),
        (bad(target=np.zeros((0, 2))), ValueError, "target must have shape"),
        (
            bad(estimator=TrAdaBoostR2(), target_labels=np.full(10, np.nan)),
            ValueError,
            "target_labels must be finite; row 0",
        ),
        (
            bad(estimator=TrAdaBoostR2(), target_labels=np.full(10, "a")),
            TypeError,
            "target_labels must hold numbers",
        ),
        (
            bad(estimator=TrAdaBoostR2(), source_labels=np.zeros((30, 1))),
            ValueError,
            "source_labels must hold one number a row",
        ),
        (
            bad(estimator=clone(TWO).set_params(folds=11)),
            ValueError,
            "folds must be None or a whole number from 2 to 10, the number of target rows; got",
        ),
        (
            bad(estimator=clone(TWO).set_params(n_steps=1)),
            ValueError,
            "n_steps must be a whole number >= 2",
        ),
        (
            lambda: bad(estimator=clone(TWO))().predict(np.zeros((2, 3))),
            ValueError,
            "x must have 2 columns as in fit",
        ),
        (lambda: TrAdaBoost().predict(np.zeros((2, 3))), NotFittedError, "not fitted"),
        (lambda: TwoStageTrAdaBoostR2().predict(np.zeros((2, 3))), NotFittedError, "not fitted"),
    ],
)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()
