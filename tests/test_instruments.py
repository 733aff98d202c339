"""Spectra of several instruments: standardisation, orthogonalisation, di-PLS.

Oracles: NumPy's least squares and singular values, scikit-learn's PCA and PLS, di-PLS by dense
matrices, and numbers of diPLSlib 2.5.0 on the same rows.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA

from da.shallow import (
    DIPLS,
    DirectStandardisation,
    ExternalParameterOrthogonalisation,
    PiecewiseDirectStandardisation,
    SpectralSpaceTransformation,
)

RNG = np.random.default_rng(2)
FIRST = RNG.normal(size=(10, 6)).cumsum(1)
SECOND = 1.2 * FIRST + 0.3 * np.roll(FIRST, 1, axis=1) + 0.5 + 0.01 * RNG.normal(size=(10, 6))
LATER = RNG.normal(size=(4, 6)).cumsum(1)
ROWS = np.concatenate([FIRST, SECOND])
PAIRS = {"domain": ["a"] * 10 + ["b"] * 10, "sample": [*range(10), *range(10)]}
MAPS = (
    DirectStandardisation("a", n_components=3),
    PiecewiseDirectStandardisation("a", window=1),
    SpectralSpaceTransformation("a", n_components=3),
)


def test_direct_standardisation_is_least_squares() -> None:
    found = DirectStandardisation("a").fit(ROWS, **PAIRS).transform(LATER, domain="b")
    solution = np.linalg.lstsq(SECOND - SECOND.mean(0), FIRST - FIRST.mean(0), rcond=None)[0]
    expected = (LATER - SECOND.mean(0)) @ solution + FIRST.mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_direct_standardisation_with_components_is_a_regression_on_them() -> None:
    model = DirectStandardisation("a", n_components=3).fit(ROWS, **PAIRS)
    pca = PCA(3).fit(SECOND)
    scores = pca.transform(SECOND)
    solution = np.linalg.lstsq(scores, FIRST - FIRST.mean(0), rcond=None)[0]
    expected = pca.transform(LATER) @ solution + FIRST.mean(0)
    np.testing.assert_allclose(model.transform(LATER, domain="b"), expected, rtol=1e-8)


def test_piecewise_standardisation_is_a_regression_for_every_wavelength() -> None:
    model = PiecewiseDirectStandardisation("a", window=2, n_components=2).fit(ROWS, **PAIRS)
    expected = np.empty_like(LATER)
    for j in range(6):
        window = slice(max(0, j - 2), min(6, j + 3))
        pca = PCA(2).fit(SECOND[:, window])
        scores = pca.transform(SECOND[:, window])
        slope = np.linalg.lstsq(scores, FIRST[:, j] - FIRST[:, j].mean(), rcond=None)[0]
        expected[:, j] = pca.transform(LATER[:, window]) @ slope + FIRST[:, j].mean()
    np.testing.assert_allclose(model.transform(LATER, domain="b"), expected, rtol=1e-8)


def test_spectral_space_transformation_is_the_formula() -> None:
    model = SpectralSpaceTransformation("a", n_components=3).fit(ROWS, **PAIRS)
    right = np.linalg.svd(np.concatenate([FIRST, SECOND], axis=1))[2][:3]
    expected = LATER + LATER @ np.linalg.pinv(right[:, 6:]) @ (right[:, :6] - right[:, 6:])
    np.testing.assert_allclose(model.transform(LATER, domain="b"), expected, rtol=1e-8)


def test_orthogonalisation_removes_the_directions_of_the_differences() -> None:
    model = ExternalParameterOrthogonalisation(n_components=2).fit(ROWS, **PAIRS)
    differences = FIRST - SECOND
    vectors = np.linalg.eigh(differences.T @ differences)[1][:, -2:]
    expected = LATER - LATER @ vectors @ vectors.T
    for domain in ("a", "b", "later"):
        np.testing.assert_allclose(model.transform(LATER, domain=domain), expected, atol=1e-10)


@pytest.mark.parametrize("model", MAPS, ids=lambda model: type(model).__name__)
def test_pairs_are_found_by_name_and_later_instruments_are_added(model) -> None:
    """The order of rows and unpaired rows do not matter; `extend` learns what `fit` learns."""
    expected = model.fit(ROWS, **PAIRS).transform(LATER, domain="b")
    order = np.random.default_rng(0).permutation(20)
    more = np.concatenate([ROWS[order], LATER])
    domain = [*np.array(PAIRS["domain"])[order], "b", "b", "a", "b"]
    sample = [*np.array(PAIRS["sample"])[order], 100, 101, 102, 103]
    model.fit(more, domain, sample)
    np.testing.assert_allclose(model.transform(LATER, domain="b"), expected, rtol=1e-7)
    np.testing.assert_array_equal(model.transform(LATER, domain="a"), LATER)
    model.fit(np.concatenate([FIRST, LATER]), ["a"] * 10 + ["c"] * 4, [*range(14 - 4), 0, 1, 2, 3])
    model.extend(SECOND, "b", list(range(10)))
    np.testing.assert_allclose(model.transform(LATER, domain="b"), expected, rtol=1e-7)
    single = model.transform(torch.from_numpy(LATER).float(), domain="b")
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-4)


# di-PLS


def dipls_problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    source = generator.normal(size=(15, 6)) @ generator.normal(size=(6, 6))
    values = source @ generator.normal(size=6) + 0.1 * generator.normal(size=15)
    return source, generator.normal(size=(10, 6)) @ generator.normal(size=(6, 6)) + 1, values


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (
            1.0,
            [
                *(0.053651849095, 0.538804551854, -0.311596809607),
                *(0.065867718011, 0.709944176737, 0.255927258103),
            ],
        ),
        (
            100.0,
            [
                *(-0.105286335462, 0.374298919385, -0.841976412124),
                *(-0.105724279317, 0.743580772829, -0.083490918113),
            ],
        ),
    ],
)
def test_the_coefficients_are_those_of_diplslib(penalty: float, expected: list) -> None:
    source, target, values = dipls_problem()
    model = DIPLS(n_components=3, regularization=penalty).fit(source, target, values)
    found = model.predict(np.concatenate([np.zeros((1, 6)), np.eye(6)]), domain="source")
    np.testing.assert_allclose(found[1:] - found[0], expected, atol=1e-9)


def test_without_a_penalty_it_is_partial_least_squares() -> None:
    source, target, values = dipls_problem()
    model = DIPLS(n_components=3, regularization=0.0).fit(source, target, values)
    peer = PLSRegression(3, scale=False).fit(source, values)
    np.testing.assert_allclose(
        model.predict(source, domain="source"), peer.predict(source).ravel(), rtol=1e-8
    )
    expected = peer.predict(target - target.mean(0) + source.mean(0)).ravel()
    np.testing.assert_allclose(model.predict(target), expected, rtol=1e-8)


def looped_weights(source, target, values, count: int, penalty: float) -> np.ndarray:
    """The weights by dense matrices, as the formulas have them."""
    x, z, y = source - source.mean(0), target - target.mean(0), values - values.mean()
    found = []
    for _ in range(count):
        eigenvalues, vectors = np.linalg.eigh(x.T @ x / len(x) - z.T @ z / len(z))
        size = vectors @ np.diag(np.abs(eigenvalues)) @ vectors.T
        w = np.linalg.solve(np.eye(6) + penalty / (y @ y) * size, x.T @ y)
        w /= np.linalg.norm(w)
        t, u = x @ w, z @ w
        y = y - (y @ t) / (t @ t) * t
        x = x - np.outer(t, t @ x) / (t @ t)
        z = z - np.outer(u, u @ z) / (u @ u)
        found.append(w)
    return np.stack(found, axis=1)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 100.0])
def test_weights_are_the_formula(penalty: float) -> None:
    source, target, values = dipls_problem()
    model = DIPLS(n_components=3, regularization=penalty).fit(source, target, values)
    expected = looped_weights(source, target, values, 3, penalty)
    np.testing.assert_allclose(model.weights_, expected, atol=1e-9)
    scores = model.transform(source, domain="source")
    products = scores.T @ scores
    np.testing.assert_allclose(products - np.diag(np.diag(products)), 0, atol=1e-8)


def test_a_large_penalty_leaves_a_direction_in_which_the_domains_agree() -> None:
    source, target, values = dipls_problem()
    gaps = []
    for penalty in (0.0, 1e6):
        model = DIPLS(n_components=1, regularization=penalty).fit(source, target, values)
        w = model.weights_.numpy().ravel()
        gaps.append(abs((source @ w).var() - (target @ w).var()))
    assert gaps[1] < 0.2 * gaps[0]


def test_it_clones_and_keeps_the_kind_and_precision_of_rows() -> None:
    source, target, values = dipls_problem()
    model = clone(DIPLS(n_components=3)).fit(source, target, values)
    found = model.predict(torch.from_numpy(target).float())
    assert isinstance(found, torch.Tensor) and found.dtype == torch.float32
    np.testing.assert_allclose(found, model.predict(target), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("act", "error", "told"),
    [
        (
            lambda: DirectStandardisation("z").fit(ROWS, **PAIRS),
            ValueError,
            "reference must be one",
        ),
        (
            lambda: DirectStandardisation("a").fit(ROWS, PAIRS["domain"], [*range(10)] * 2 + [1]),
            ValueError,
            "sample must hold one name a row",
        ),
        (
            lambda: DirectStandardisation("a").fit(ROWS, PAIRS["domain"], [1] * 20),
            ValueError,
            "sample must name each row of domain 'a' differently",
        ),
        (
            lambda: DirectStandardisation("a").fit(ROWS, PAIRS["domain"], [*range(20)]),
            ValueError,
            "sample must name at least 2 samples of domain 'b'",
        ),
        (
            lambda: DirectStandardisation("a").fit(ROWS, **PAIRS).transform(ROWS, domain="new"),
            ValueError,
            "domain 'new' is not known",
        ),
        (
            lambda: DirectStandardisation("a", n_components=0).fit(ROWS, **PAIRS),
            ValueError,
            "n_components must be None or a whole number >= 1; got 0",
        ),
        (
            lambda: PiecewiseDirectStandardisation("a", window=-1).fit(ROWS, **PAIRS),
            ValueError,
            "window must be a whole number >= 0; got -1",
        ),
        (
            lambda: ExternalParameterOrthogonalisation(n_components=7).fit(ROWS, **PAIRS),
            ValueError,
            "n_components must be at most 6",
        ),
        (lambda: DIPLS().fit(FIRST, SECOND), TypeError, "source_labels must be given"),
        (lambda: DIPLS().fit(FIRST, SECOND, np.ones(9)), ValueError, "one finite number per row"),
        (
            lambda: DIPLS().fit(FIRST, SECOND, np.ones(10)),
            ValueError,
            "n_components must be smaller",
        ),
        (
            lambda: DIPLS(regularization=-1.0).fit(FIRST, SECOND, FIRST[:, 0]),
            ValueError,
            "regularization must be a finite number >= 0",
        ),
    ],
)
def test_wrong_input_is_told(act, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        act()
