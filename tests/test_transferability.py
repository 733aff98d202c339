"""Transferability scores.

Oracles: double loops over samples and classes, closed forms, SciPy's maximum of the evidence, and
the values of another library on the arrays of peer_values.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import entropy, multivariate_normal
from sklearn.covariance import LedoitWolf

from da.model.coding_rate import transrate
from da.model.evidence import logme
from da.model.h_scores import h_score, regularized_h_score
from da.model.source_predictions import leep, nce

PEERS = json.loads((Path(__file__).parent / "peer_values.json").read_text())
X = np.array(PEERS["inputs"]["source"])  # (16, 8)
Y = np.array(PEERS["inputs"]["source_labels"])  # five classes of 2, 4, 4, 4 and 2 samples
LOGITS = np.array(PEERS["inputs"]["logits_source"])
P = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
Z = LOGITS.argmax(1)
OF_FEATURES = [h_score, regularized_h_score, logme, transrate]
examples = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)


def samples(n: int, d: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with class means of size one, every class twice or more."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(
        np.concatenate(
            [np.repeat(np.arange(classes), 2), rng.integers(0, classes, n - 2 * classes)]
        )
    )
    return rng.normal(size=(n, d)) + rng.normal(size=(classes, d))[labels], labels


def probabilities(n: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), size=n)


# By the definitions, sample by sample


def class_means(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """E[f | y] at every sample (n, d)."""
    return np.array(
        [
            np.mean([row for row, other in zip(x, y, strict=True) if other == own], axis=0)
            for own in y
        ]
    )


def h_score_by_loop(x: np.ndarray, y: np.ndarray) -> float:
    return float(
        np.trace(
            np.linalg.pinv(np.cov(x, rowvar=False), rcond=1e-10)
            @ np.cov(class_means(x, y), rowvar=False)
        )
    )


def regularized_by_scikit_learn(x: np.ndarray, y: np.ndarray) -> float:
    shrunk = LedoitWolf().fit(x)
    between = (1 - shrunk.shrinkage_) * np.cov(class_means(x, y), rowvar=False, ddof=0)
    return float(np.trace(np.linalg.solve(shrunk.covariance_, between)))


def nce_by_loop(z: np.ndarray, y: np.ndarray) -> float:
    """The mean log of how often a sample's label goes with its source label."""
    pairs = list(zip(z, y, strict=True))
    return float(np.mean([math.log(pairs.count(pair) / list(z).count(pair[0])) for pair in pairs]))


def leep_by_loop(p: np.ndarray, y: np.ndarray) -> float:
    n, sources = p.shape
    joint = {
        (label, s): sum(p[i, s] for i in range(n) if y[i] == label) / n
        for label in set(y)
        for s in range(sources)
    }
    total = 0.0
    for i in range(n):
        expected = 0.0
        for s in range(sources):
            expected += p[i, s] * joint[y[i], s] / sum(joint[label, s] for label in set(y))
        total += math.log(expected)
    return total / n


def rate_by_determinant(z: np.ndarray, epsilon: float) -> float:
    return 0.5 * np.linalg.slogdet(np.eye(z.shape[1]) + z.T @ z / (len(z) * epsilon))[1]


def transrate_by_loop(
    x: np.ndarray, y: np.ndarray, epsilon: float, *, weighted: bool = True
) -> float:
    z = x - x.mean(0)
    parts = [z[y == label] for label in set(y)]
    shares = [len(part) / len(z) if weighted else 1 / len(parts) for part in parts]
    return rate_by_determinant(z, epsilon) - sum(
        w * rate_by_determinant(part, epsilon) for w, part in zip(shares, parts, strict=True)
    )


def largest_evidence(x: np.ndarray, y: np.ndarray) -> float:
    """The greatest log density of y (n,) under N(0, I / beta + x x^T / alpha), over n.

    SciPy searches alpha and beta from four starts.
    """

    def minus(logs: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(logs, -20, 20))
        return -multivariate_normal(
            np.zeros(len(y)), np.eye(len(y)) / beta + x @ x.T / alpha
        ).logpdf(y)

    starts = [(a, b) for a in (-3.0, 3.0) for b in (0.0, 3.0)]
    found = [
        minimize(
            minus,
            start,
            method="Nelder-Mead",
            options={"xatol": 1e-7, "fatol": 1e-11, "maxiter": 2000},
        )
        for start in starts
    ]
    return -min(result.fun for result in found) / len(y)


def evidence_by_fixed_point(x: np.ndarray, y: np.ndarray) -> float:
    """The paper's iteration from alpha = beta = 1, and its formula of the evidence, over n.

    It uses no decomposition.
    """
    (n, d), alpha, beta = x.shape, 1.0, 1.0
    for last in [False] * 200 + [True]:
        precision = alpha * np.eye(d) + beta * x.T @ x
        weights = beta * np.linalg.solve(precision, x.T @ y)
        misfit = np.square(y - x @ weights).sum()
        if not last:
            effective = d - alpha * np.trace(np.linalg.inv(precision))
            alpha, beta = effective / (weights @ weights), (n - effective) / misfit
    logs = (
        n * math.log(beta)
        + d * math.log(alpha)
        - n * math.log(2 * math.pi)
        - np.linalg.slogdet(precision)[1]
    )
    return float(logs - beta * misfit - alpha * weights @ weights) / (2 * n)


SIZES = [(30, 4), (40, 12), (12, 30), (9, 9), (20, 1)]


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_h_scores_by_covariances(n: int, d: int) -> None:
    x, y = samples(n, d)
    if d > 1:
        assert h_score(x, y) == pytest.approx(h_score_by_loop(x, y), rel=1e-8)
        assert regularized_h_score(x, y) == pytest.approx(
            regularized_by_scikit_learn(x, y), rel=1e-9
        )
    else:  # the correlation ratio: variance of the class means over variance
        assert h_score(x, y) == pytest.approx(class_means(x, y).var() / x.var(), rel=1e-9)


@pytest.mark.parametrize("sources", [2, 4, 11])
def test_leep_and_nce_by_loops(sources: int) -> None:
    p, (_, y) = probabilities(25, sources), samples(25, 1)
    assert leep(p, y) == pytest.approx(leep_by_loop(p, y), abs=1e-12)
    assert nce(p.argmax(1), y) == pytest.approx(nce_by_loop(p.argmax(1), y), abs=1e-12)


@pytest.mark.parametrize(("n", "d"), SIZES)
@pytest.mark.parametrize("epsilon", [1e-4, 0.5])
def test_transrate_by_determinants(n: int, d: int, epsilon: float) -> None:
    x, y = samples(n, d)
    assert transrate(x, y, epsilon=epsilon) == pytest.approx(
        transrate_by_loop(x, y, epsilon), rel=1e-9
    )


@pytest.mark.parametrize(("n", "d"), [(30, 4), (25, 9), (20, 1), (15, 14), (10, 25)])
def test_logme_is_the_maximum_that_scipy_finds(n: int, d: int) -> None:
    x, y = samples(n, d, classes=2)
    expected = np.mean([largest_evidence(x, (y == label).astype(float)) for label in (0, 1)])
    assert logme(x, y) == pytest.approx(expected, abs=1e-6)


def test_logme_of_a_regression_is_the_maximum_that_scipy_finds() -> None:
    x, _ = samples(30, 4)
    y = x @ np.array([0.5, -1.0, 0.0, 2.0]) + 0.3 * np.random.default_rng(1).normal(size=30)
    assert logme(x, y) == pytest.approx(largest_evidence(x, y), abs=1e-7)


def test_logme_is_where_the_papers_iteration_ends() -> None:
    """The iteration ends soon if the features say much about the labels."""
    x, y = samples(40, 6)
    x = x + 3 * np.eye(3, 6)[y]
    expected = np.mean(
        [evidence_by_fixed_point(x, (y == label).astype(float)) for label in range(3)]
    )
    assert logme(x, y) == pytest.approx(expected, abs=1e-9)


def test_what_another_library_returns() -> None:
    """Where TLlib differs, the difference is known.

    Its regularised score divides one covariance by n and one by n - 1. Its TransRate takes the
    plain mean over classes. Its LogME stops after eleven iterations, short of the maximum.
    """
    values = PEERS["values"]
    assert h_score(X, Y) == pytest.approx(values["tllib.h_score(source, source_labels)"], rel=1e-12)
    assert 16 / 15 * regularized_h_score(X, Y) == pytest.approx(
        values["tllib.regularized_h_score"], rel=1e-12
    )
    assert leep(P, Y) == pytest.approx(
        values["tllib.leep(softmax(logits_source), source_labels)"], rel=1e-12
    )
    assert nce(Z, Y) == pytest.approx(
        values["tllib.nce(argmax logits_source, source_labels)"], rel=1e-12
    )
    peer = values["tllib.transrate(source, source_labels)"]
    assert transrate_by_loop(X, Y, 1e-4, weighted=False) == pytest.approx(peer, rel=1e-12)
    assert (
        transrate(X, Y)
        == pytest.approx(transrate_by_loop(X, Y, 1e-4), rel=1e-12)
        != pytest.approx(peer, rel=0.05)
    )
    assert 0 < logme(X, Y) - values["tllib.logme(source, source_labels)"] < 5e-4


# Closed forms


def test_classes_that_are_points_score_the_most() -> None:
    """H-score: classes - 1. TransRate: the classes share nothing but the mean."""
    y = np.arange(12) % 4
    x = np.eye(4, 6)[y] * np.array([1.0, 2, 3, 4, 5, 6])
    assert h_score(x, y) == pytest.approx(3)
    assert leep(np.eye(5)[y], y) == nce(y, y) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("d", [3, 30])
def test_evidence_without_a_bound_stops_at_the_rounding_of_single_precision(d: int) -> None:
    """Labels that are reproduced exactly although the rank is below n.

    The features are points, or (d = 30) rows that occur twice. The oracle is the density of the
    labels at the largest ratio, with the best beta by SciPy.
    """
    y = np.arange(12) % 3
    x = np.eye(3)[y] if d == 3 else np.concatenate([samples(6, 30)[0]] * 2)
    squares = np.linalg.svd(x, compute_uv=False)
    ratio = 2.0**46 / np.mean(squares[squares > 1e-9] ** 2)
    roots, u = np.linalg.eigh(np.eye(12) + ratio * x @ x.T)

    def minus(log_beta: float, column: np.ndarray) -> float:
        variances = np.maximum(roots, 1) / np.exp(log_beta)
        return 0.5 * float(np.sum(np.log(2 * np.pi * variances) + (u.T @ column) ** 2 / variances))

    found = [
        minimize_scalar(minus, bracket=(5, 30), args=((y == label).astype(float),)).fun
        for label in range(3)
    ]
    assert logme(x, y) == pytest.approx(-np.mean(found) / 12, rel=2e-3)
    assert logme(x, y) > 1


def test_a_code_of_two_points() -> None:
    """Features -a and a: R = 1/2 log(1 + a^2 / epsilon) for both classes together and for each."""
    x, y = np.array([[-1.5], [1.5]] * 4), np.array([0, 1] * 4)
    assert transrate(x, y, epsilon=0.1) == pytest.approx(0, abs=1e-12)
    corners = np.array(
        [[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]] * 2
    )  # a direction for each class
    axes = np.array([0, 0, 1, 1] * 2)
    assert transrate(corners, axes, epsilon=0.1) == pytest.approx(
        math.log(1 + 4.5 / 0.1) - 0.5 * math.log(1 + 9 / 0.1)
    )


def test_logme_of_orthogonal_features_that_the_labels_do_not_meet() -> None:
    """F^T y = 0: no weights are best.

    The evidence is that of noise, -(log(2 pi mean y^2) + 1) / 2.
    """
    x = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    y = np.array([0, 0, 1, 1])
    noise = -(math.log(2 * math.pi * 0.5) + 1) / 2
    assert logme(x, y) == pytest.approx(noise, abs=1e-5)
    assert logme(np.zeros((4, 2)), y) == pytest.approx(noise, abs=1e-12)


def test_logme_of_a_basis_of_the_whole_space() -> None:
    """F = I: every sample has a weight of its own.

    N(0, I / beta + I / alpha) cannot tell noise from weights, so the evidence is that of noise.
    """
    y = np.array([0, 1, 1, 0, 1])
    expected = np.mean([-(math.log(2 * math.pi * m) + 1) / 2 for m in (0.4, 0.6)])
    assert logme(np.eye(5), y) == pytest.approx(expected, abs=1e-12)


def test_labels_that_the_source_says_nothing_about() -> None:
    """-H(y): every pair of labels is equally frequent, or the source gives all rows one class."""
    z, y = np.divmod(np.arange(36), 6)
    y = y % 3
    assert nce(z, y) == pytest.approx(-math.log(3))
    assert leep(np.eye(6)[z], y) == pytest.approx(-math.log(3))
    uneven = np.array([0, 0, 0, 1, 2, 2])
    assert (
        nce(np.zeros(6, int), uneven)
        == leep(np.ones((6, 1)), uneven)
        == pytest.approx(-entropy([3, 1, 2]))
    )


def test_features_that_are_all_alike() -> None:
    x, y = np.full((6, 3), 0.1), np.array([0, 1, 0, 1, 2, 2])
    assert h_score(x, y) == regularized_h_score(x, y) == 0
    assert transrate(x, y) == pytest.approx(0, abs=1e-12)


def test_as_many_directions_as_samples_say_nothing_but_to_the_regularised_score() -> None:
    x, y = samples(12, 40)
    noise = np.random.default_rng(5).normal(size=x.shape)
    assert h_score(x, y) == pytest.approx(2) == h_score(noise, y)
    assert regularized_h_score(x + 3 * np.eye(3, 40)[y], y) > 2 * regularized_h_score(noise, y)


def test_rounding_is_no_feature() -> None:
    """A column and its copy that went through single precision's rounding count as one column."""
    x, y = samples(40, 4)
    x = x.astype(np.float32)
    double = np.concatenate([x, 3 * x + np.float32(7)], axis=1)
    assert h_score(double, y) == pytest.approx(h_score(x, y), rel=1e-4)


# Which argument is which


@examples
@given(n=st.integers(8, 40), sources=st.integers(2, 6), classes=st.integers(2, 4), seed=seeds)
def test_exchanged_arguments_are_another_number(
    n: int, sources: int, classes: int, seed: int
) -> None:
    """nce(z, y) - nce(y, z) = H(z) - H(y).

    LEEP of decisions without doubt is NCE, in either order.
    """
    rng = np.random.default_rng(seed)
    z = np.concatenate([np.arange(sources), rng.integers(0, sources, n)])
    y = np.concatenate([np.arange(sources) % classes, rng.integers(0, classes, n)])
    difference = entropy(np.bincount(z)) - entropy(np.bincount(y))
    assert nce(z, y) - nce(y, z) == pytest.approx(difference, abs=1e-10)
    assert leep(np.eye(sources)[z], y) == pytest.approx(nce(z, y), abs=1e-10)
    assert leep(np.eye(classes)[y], z) == pytest.approx(nce(y, z), abs=1e-10)


def test_a_source_with_more_classes_determines_what_does_not_determine_it() -> None:
    z, y = np.array([0, 1, 2, 3] * 3), np.array([0, 0, 1, 1] * 3)
    assert nce(z, y) == pytest.approx(0, abs=1e-12) and nce(y, z) == pytest.approx(-math.log(2))


@pytest.mark.parametrize("score", [h_score, regularized_h_score, transrate, leep])
def test_exchanged_features_and_labels_are_an_error(score: Callable) -> None:
    with pytest.raises(TypeError, match="must hold floats; got torch.int64"):
        score(Y, P)


# Properties


@pytest.mark.parametrize("score", [*OF_FEATURES, leep])
@examples
@given(n=st.integers(8, 40), d=st.integers(2, 50), seed=seeds)
def test_the_order_of_the_rows_does_not_matter(score: Callable, n: int, d: int, seed: int) -> None:
    x, y = samples(n, d, seed=seed)
    x = probabilities(n, d, seed) if score is leep else x
    order = np.random.default_rng(seed).permutation(n)
    assert score(x[order], y[order]) == pytest.approx(score(x, y), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("score", [*OF_FEATURES, leep])
@examples
@given(n=st.integers(8, 40), d=st.integers(2, 50), seed=seeds)
def test_the_names_of_the_classes_do_not_matter(score: Callable, n: int, d: int, seed: int) -> None:
    x, y = samples(n, d, seed=seed)
    x = probabilities(n, d, seed) if score is leep else x
    assert score(x, np.array([40, -7, 3])[y]) == pytest.approx(score(x, y), rel=1e-9)


@examples
@given(n=st.integers(6, 40), seed=seeds)
def test_nce_knows_no_names(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, y = rng.integers(0, 5, n), np.append(rng.integers(0, 3, n - 2), [0, 1])
    order = rng.permutation(n)
    renamed = nce(rng.permutation(5)[z][order] - 2, np.array([9, -1, 100])[y][order])
    assert renamed == pytest.approx(nce(z, y), abs=1e-12)


@examples
@given(n=st.integers(12, 40), d=st.integers(1, 6), seed=seeds, size=st.floats(1e-3, 1e3))
def test_h_score_knows_no_coordinates(n: int, d: int, seed: int, size: float) -> None:
    x, y = samples(n, d, seed=seed)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0] * rng.uniform(0.2, 5, size=d)
    assert h_score(size * x @ turn + rng.normal(size=d), y) == pytest.approx(
        h_score(x, y), rel=1e-6
    )


@pytest.mark.parametrize("score", [regularized_h_score, logme])
@examples
@given(n=st.integers(8, 40), d=st.integers(1, 50), seed=seeds, exponent=st.floats(-6, 6))
def test_the_scale_of_the_features_does_not_matter(
    score: Callable, n: int, d: int, seed: int, exponent: float
) -> None:
    x, y = samples(n, d, seed=seed)
    assert score(10.0**exponent * x, y) == pytest.approx(score(x, y), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("score", [regularized_h_score, logme, transrate])
@examples
@given(n=st.integers(8, 30), d=st.integers(2, 40), seed=seeds)
def test_turned_features_are_the_same(score: Callable, n: int, d: int, seed: int) -> None:
    x, y = samples(n, d, seed=seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    assert score(x @ turn, y) == pytest.approx(score(x, y), rel=1e-6, abs=1e-9)


@examples
@given(n=st.integers(8, 40), d=st.integers(1, 50), seed=seeds)
def test_bounds(n: int, d: int, seed: int) -> None:
    """The bounds of the docstrings.

    0 <= H <= min(classes - 1, rank); -H(y) <= LEEP <= 0; TransRate >= 0.
    """
    x, y = samples(n, d, seed=seed)
    assert -1e-9 <= regularized_h_score(x, y) <= h_score(x, y) + 1e-9 <= min(2, d) + 2e-9
    assert -entropy(np.bincount(y)) - 1e-9 <= leep(probabilities(n, d + 1, seed), y) <= 1e-9
    assert transrate(x, y) >= -1e-9


@examples
@given(
    n=st.integers(10, 30),
    d=st.integers(1, 12),
    seed=seeds,
    ratio=st.floats(-5, 5),
    precision=st.floats(-3, 3),
)
def test_no_evidence_is_above_logme(
    n: int, d: int, seed: int, ratio: float, precision: float
) -> None:
    x, _ = samples(n, d, seed=seed)
    y = x[:, 0] + np.random.default_rng(seed).normal(size=n)
    alpha, beta = np.exp(precision - ratio), np.exp(precision)
    one = multivariate_normal(np.zeros(n), np.eye(n) / beta + x @ x.T / alpha).logpdf(y) / n
    assert logme(x, y) >= one - 1e-8


def test_better_features_score_higher() -> None:
    """The class means are further apart, in the same noise."""
    x, y = samples(60, 5, seed=3)
    noise = np.random.default_rng(3).normal(size=x.shape)
    means = np.random.default_rng(4).normal(size=(3, 5))[y]
    for score in OF_FEATURES:
        values = [score(noise + distance * means, y) for distance in (0, 1, 2, 4)]
        assert values == sorted(values), score.__name__


@pytest.mark.parametrize("score", [*OF_FEATURES, leep])
def test_tensors_and_arrays_in_either_precision(score: Callable) -> None:
    x = P if score is leep else X
    expected = score(x, Y)
    assert isinstance(expected, float)
    tensor = torch.from_numpy(x).requires_grad_()
    assert (
        score(tensor, torch.from_numpy(Y))
        == score(x, Y.astype(np.uint8))
        == score(x, Y[::-1][::-1].astype(">i4"))
        == expected
    )
    assert score(x.astype(np.float32), Y) == pytest.approx(expected, rel=1e-4)


def test_nce_takes_tensors() -> None:
    assert nce(torch.from_numpy(Z), torch.from_numpy(Y)) == nce(Z, Y)


@pytest.mark.parametrize("score", [*OF_FEATURES, leep])
@pytest.mark.parametrize(
    ("labels", "error", "told"),
    [
        (
            Y[:-1],
            ValueError,
            "labels must have one entry a sample, shape (16,), on cpu; got (15,) on cpu",
        ),
        (Y[:, None], ValueError, "got (16, 1)"),
        (np.zeros(16, int), ValueError, "labels must hold 2 or more classes; got only [0]"),
        (list(Y), TypeError, "labels must be a torch tensor or a NumPy array; got list"),
        (Y.astype(str), TypeError, "labels must be numbers; got <U"),
    ],
)
def test_bad_labels(score: Callable, labels: object, error: type[Exception], told: str) -> None:
    with pytest.raises(error) as raised:
        score(P if score is leep else X, labels)
    assert told in str(raised.value)


@pytest.mark.parametrize("score", [h_score, regularized_h_score, transrate, leep])
def test_float_labels_are_for_regression(score: Callable) -> None:
    with pytest.raises(TypeError, match="labels must be integers; got torch.float64"):
        score(P, Y.astype(float))


@pytest.mark.parametrize("score", [*OF_FEATURES, leep])
def test_bad_features(score: Callable) -> None:
    name = "source_probabilities" if score is leep else "features"
    with pytest.raises(ValueError, match=f"{name} must be finite; row 2"):
        score(np.where(np.arange(16)[:, None] == 2, np.nan, P), Y)
    with pytest.raises(ValueError, match=f"{name} must have shape"):
        score(P[0], Y)


def test_logits_are_no_probabilities() -> None:
    with pytest.raises(ValueError, match="of logits pass the softmax"):
        leep(LOGITS, Y)
    with pytest.raises(ValueError, match="sums from 0.5 to 0.5"):
        leep(P / 2, Y)


def test_other_bad_input() -> None:
    with pytest.raises(ValueError, match="labels must not all be equal; got 16 times 2"):
        logme(X, np.full(16, 2.0))
    with pytest.raises(ValueError, match="labels must be finite"):
        logme(X, np.full(16, np.inf))
    with pytest.raises(ValueError, match="epsilon must be positive and finite; got 0"):
        transrate(X, Y, epsilon=0)
    with pytest.raises(TypeError, match="source_labels must be integers; got torch.float64"):
        nce(P[:, 0], Y)
    with pytest.raises(
        ValueError, match=r"source_labels must have one entry a sample, shape \(n,\), n >= 1"
    ):
        nce(np.zeros(0, int), np.zeros(0, int))
