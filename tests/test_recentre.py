"""Maps for many domains: recentring, ComBat, covariance matrices.

Oracles: closed forms, float64 loops, SciPy's matrix functions, and numbers of pyRiemann 0.12 and of
neuroCombat 0.2.12 on the same rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm, logm, sqrtm

from da.shallow import (
    ComBat,
    RecentreCovariances,
    RecentreDomains,
    mean_covariance,
    tangent_vectors,
)

RNG = np.random.default_rng(1)
X = RNG.normal(size=(12, 4))
SITE = np.repeat(["a", "b", "c"], [5, 4, 3])
SHIFTED = (
    X * np.repeat([1.0, 2.0, 3.0], [5, 4, 3])[:, None] + np.repeat([0, 5, -3], [5, 4, 3])[:, None]
)


# RecentreDomains


@settings(deadline=None, max_examples=25)
@given(st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_recentring_is_the_loop(scale: bool, robust: bool, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(12, 3))
    found = RecentreDomains(scale=scale, robust=robust).fit(x, SITE)
    middle = np.median if robust else np.mean
    centres, spreads = {}, {}
    for name in "abc":
        own = x[SITE == name]
        centres[name] = middle(own, axis=0)
        if robust:
            spreads[name] = 1.4826022185 * np.median(np.abs(own - centres[name]), axis=0)
        else:
            spreads[name] = own.std(axis=0, ddof=1)
        if not scale:
            spreads[name] = np.ones(3)
    centre, spread = (np.mean(list(d.values()), axis=0) for d in (centres, spreads))
    expected = [
        centre + (row - centres[name]) * spread / spreads[name]
        for row, name in zip(x, SITE, strict=True)
    ]
    np.testing.assert_allclose(found.transform(x, domain=SITE), expected, rtol=1e-8, atol=1e-10)


def test_an_offset_and_scale_of_each_site_are_undone() -> None:
    model = RecentreDomains(scale=True).fit(SHIFTED, SITE)
    mapped = model.transform(SHIFTED, domain=SITE)
    for name in "abc":
        np.testing.assert_allclose(mapped[SITE == name].mean(0), model.centre_, rtol=1e-10)
        np.testing.assert_allclose(mapped[SITE == name].std(0, ddof=1), model.spread_, rtol=1e-10)


def test_robust_recentring_does_not_follow_an_outlier() -> None:
    spoiled = X.copy()
    spoiled[0] += 1e6
    clean, robust = (RecentreDomains(robust=True, scale=True).fit(x, SITE) for x in (X, spoiled))
    assert float((clean.places_["a"].centre - robust.places_["a"].centre).abs().max()) < 2
    plain = RecentreDomains().fit(spoiled, SITE)
    assert float(plain.places_["a"].centre[0]) > 1e5


@pytest.mark.parametrize("model", [RecentreDomains(scale=True), ComBat()])
def test_a_domain_that_comes_later(model) -> None:
    """Its own rows place it; after `extend` single rows are mapped in the same way."""
    model.fit(SHIFTED[:9], SITE[:9])
    before = model.transform(SHIFTED[:9], domain=SITE[:9])
    later = model.transform(SHIFTED[9:], domain="c")
    model.extend(SHIFTED[9:], "c")
    np.testing.assert_allclose(model.transform(SHIFTED[9:10], domain="c"), later[:1])
    np.testing.assert_array_equal(model.transform(SHIFTED[:9], domain=SITE[:9]), before)
    if isinstance(model, RecentreDomains):
        np.testing.assert_allclose(later.mean(0), model.centre_)


@pytest.mark.parametrize("model", [RecentreDomains(), ComBat()])
def test_kinds_names_and_constant_columns(model) -> None:
    x = np.concatenate([SHIFTED, np.ones((12, 1))], axis=1)
    expected = model.fit(x, SITE).transform(x, domain=SITE)
    np.testing.assert_allclose(expected[:, 4], 1)
    assert np.isfinite(expected).all()
    numbers = torch.from_numpy(np.repeat([3, 1, 2], [5, 4, 3]))
    found = model.fit(torch.from_numpy(x), numbers).transform(
        torch.from_numpy(x).float(), domain=numbers
    )
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


WRONG: list[tuple[Callable[[], object], type[Exception], str]] = [
    (
        lambda: RecentreDomains().fit(X, SITE[:5]),
        ValueError,
        "domain must be one name or one a row",
    ),
    (lambda: RecentreDomains().fit(X, np.ones(12)), TypeError, "domain must hold names"),
    (
        lambda: RecentreDomains().fit(X, ["a"] * 11 + ["b"]),
        ValueError,
        "at least 2 rows; got 1 of 'b'",
    ),
    (
        lambda: RecentreDomains().transform(X, domain="a"),
        ValueError,
        "RecentreDomains must be fitted before transform",
    ),
    (
        lambda: RecentreDomains().fit(X, SITE).transform(X[:1], domain="new"),
        ValueError,
        "domain 'new' is not known, and one row",
    ),
    (
        lambda: RecentreDomains().fit(X, SITE).transform(X[:, :2], domain="a"),
        ValueError,
        "4 columns",
    ),
    (lambda: ComBat().fit(X[:, :1], SITE), ValueError, "empirical_bayes needs at least 2 columns"),
    (
        lambda: ComBat().fit(X, SITE, covariates=np.ones((12, 1))),
        ValueError,
        "domain and covariates must be linearly independent",
    ),
    (
        lambda: ComBat().fit(X, SITE, covariates=X[:5, :1]),
        ValueError,
        "covariates must have 12 rows, as x has; got 5",
    ),
    (
        lambda: ComBat().fit(X, SITE, covariates=X[:, :1]).transform(X, domain=SITE),
        ValueError,
        "covariates must have 1 columns as in fit; got 0",
    ),
    (
        lambda: ComBat().fit(X, SITE).transform(X[:1], domain="new"),
        ValueError,
        "domain 'new' must have at least 2 rows",
    ),
]


@pytest.mark.parametrize(("act", "error", "told"), WRONG)
def test_wrong_input_is_told(act, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        act()


# ComBat


def combat_problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """12 rows of 4 columns at three sites, with age and sex."""
    generator = np.random.default_rng(0)
    generator.normal(size=(6, 3, 20))
    x = generator.normal(size=(12, 4))
    site, age = np.repeat([1, 2, 3], [5, 4, 3]), generator.normal(size=12)
    x = x + age[:, None] * 0.5 + site[:, None] * np.array([1.0, 0, 2, -1])
    x[site == 2] *= 2
    return x, site, np.stack([age, np.arange(12) % 2], axis=1)


@pytest.mark.parametrize(
    ("empirical_bayes", "expected"),
    [
        (
            True,
            [
                [0.640432607523, 1.103603888856, 5.284743921685, -2.795686466877],
                [0.758965147535, -1.1470784917, 2.282274458344, -3.59470628501],
                [1.081075393391, 0.468544936689, 4.501526395123, -2.669410641483],
            ],
        ),
        (
            False,
            [
                [0.705929240435, 1.153134832509, 5.42104020695, -2.83546078096],
                [0.667238857021, -1.15087064485, 2.420962163595, -3.4263991549],
                [1.097608703457, 0.554816308641, 4.737468032955, -2.818994819458],
            ],
        ),
    ],
)
def test_combat_has_the_numbers_of_neurocombat(empirical_bayes: bool, expected: list) -> None:
    """neuroCombat stops its iteration at a relative change of 1e-4."""
    x, site, covariates = combat_problem()
    model = ComBat(empirical_bayes=empirical_bayes).fit(x, site, covariates=covariates)
    found = model.transform(x, domain=site, covariates=covariates)
    tolerance = 1e-4 if empirical_bayes else 1e-6
    np.testing.assert_allclose(found[[0, 6, 11]], expected, atol=tolerance)


def test_the_mark_is_the_fixed_point_of_both_posterior_means() -> None:
    x, site, covariates = combat_problem()
    model = ComBat().fit(x, site, covariates=covariates)
    design = np.concatenate([np.eye(3)[site - 1], covariates], axis=1)
    found = np.linalg.lstsq(design, x, rcond=None)[0]
    s = np.sqrt(((x - design @ found) ** 2).mean(0))
    z = (x - np.bincount(site)[1:] / 12 @ found[:3] - covariates @ found[3:]) / s
    for name in (1, 2, 3):
        own = z[site == name]
        n, g, v = len(own), own.mean(0), own.var(0, ddof=1)
        t2, m = g.var(ddof=1), g.mean()
        q = 2 + v.mean() ** 2 / v.var(ddof=1)
        r = v.mean() * (q - 1)
        shift, variance = (each.numpy() for each in model.marks_[name])
        np.testing.assert_allclose(shift, (n * t2 * g + variance * m) / (n * t2 + variance))
        squares = ((own - shift) ** 2).sum(0)
        np.testing.assert_allclose(variance, (r + squares / 2) / (n / 2 + q - 1))


def test_mean_only_leaves_the_scale_and_keeps_the_effect_of_covariates() -> None:
    x, site, covariates = combat_problem()
    model = ComBat(empirical_bayes=False, mean_only=True).fit(x, site, covariates=covariates)
    found = model.transform(x, domain=site, covariates=covariates)
    for name in (1, 2, 3):
        own = site == name
        np.testing.assert_allclose(
            found[own] - found[own].mean(0), x[own] - x[own].mean(0), atol=1e-10
        )
    # A regression on sites and covariates finds the effects as before, and no site.
    design = np.concatenate([np.eye(3)[site - 1], covariates], axis=1)
    again = np.linalg.lstsq(design, found, rcond=None)[0]
    np.testing.assert_allclose(again[3:], model.effects_, atol=1e-10)
    np.testing.assert_allclose(again[0], again[2], atol=1e-10)


# Covariance matrices


def recordings() -> np.ndarray:
    """Six covariance matrices of three channels; the last three are mixed."""
    generator = np.random.default_rng(0)
    trials = generator.normal(size=(6, 3, 20)) * np.array([1.0, 2.0, 0.5])[None, :, None]
    mixing = np.array([[1.0, 0.4, 0], [0, 1, 0.3], [0.2, 0, 2]])
    trials[3:] = np.einsum("ij,njt->nit", mixing, trials[3:])
    return np.array([t @ t.T / 20 for t in trials])


SESSION = ["a"] * 3 + ["b"] * 3


@pytest.mark.parametrize(
    ("metric", "mean", "first", "fifth"),
    [
        (
            "riemannian",
            [1.178788217058, 0.554856941879, 0.043009299109],
            [0.739554941574, 0.044137147471, -0.014051179324],
            [1.401974726537, 0.180263761559, -0.164715530415],
        ),
        (
            "log_euclidean",
            [1.157878992038, 0.564186932717, 0.050221716721],
            [0.741017313232, 0.044019944567, -0.013976411209],
            [1.394174877416, 0.156742821269, -0.167184161219],
        ),
        (
            "euclidean",
            [1.360354059962, 0.679000512651, 0.083298542993],
            [0.717675762172, 0.051884293973, -0.016937187242],
            [1.30968754963, 0.145373408455, -0.169420965574],
        ),
    ],
)
def test_means_and_recentring_have_the_numbers_of_pyriemann(metric, mean, first, fifth) -> None:
    c = recordings()
    np.testing.assert_allclose(mean_covariance(c, metric=metric)[0], mean, atol=1e-11)
    model = RecentreCovariances(metric=metric).fit(c, SESSION)
    found = model.transform(c, domain=SESSION)
    np.testing.assert_allclose(found[0, 0], first, atol=1e-8)
    np.testing.assert_allclose(found[4, 0], fifth, atol=1e-8)
    for half in (found[:3], found[3:]):
        if metric != "log_euclidean":
            np.testing.assert_allclose(mean_covariance(half, metric=metric), np.eye(3), atol=1e-10)


def test_tangent_vectors_have_the_numbers_of_pyriemann() -> None:
    expected = [
        [-0.278008352692, -0.022007015477, 0.02759532188],
        [0.255918198022, -0.313794366547, 0.04347728562],
    ]
    found = tangent_vectors(recordings()[:2])
    assert found.shape == (2, 6)
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-10)


def test_means_are_those_of_scipys_matrix_functions() -> None:
    c = recordings()
    np.testing.assert_allclose(
        mean_covariance(c, metric="log_euclidean"),
        expm(np.mean([logm(each) for each in c], axis=0)),
        rtol=1e-9,
    )
    mean = mean_covariance(c)
    inner = np.linalg.inv(sqrtm(mean))
    gradient = sum(logm(inner @ each @ inner) for each in c)
    np.testing.assert_allclose(gradient, 0, atol=1e-9)


def test_the_riemannian_mean_goes_with_any_mixing() -> None:
    c, mixing = recordings(), np.random.default_rng(3).normal(size=(3, 3))
    mixed = mixing @ c @ mixing.T
    np.testing.assert_allclose(
        mean_covariance(mixed), mixing @ mean_covariance(c) @ mixing.T, rtol=1e-8
    )
    # So recentring a mixed session gives the same matrices up to a rotation.
    model = RecentreCovariances().fit(c, 0)
    plain, other = model.transform(c, domain=0), model.transform(mixed, domain=1)
    np.testing.assert_allclose(np.linalg.eigvalsh(plain), np.linalg.eigvalsh(other), rtol=1e-8)


def test_a_session_that_comes_later_is_recentred_by_its_own_mean() -> None:
    c = recordings()
    model = RecentreCovariances().fit(c[:3], "a")
    later = model.transform(c[3:], domain="b")
    np.testing.assert_allclose(mean_covariance(later), np.eye(3), atol=1e-10)
    model.extend(c[3:], "b")
    np.testing.assert_allclose(model.transform(c[3:4], domain="b"), later[:1])
    single = model.transform(torch.from_numpy(c).float(), domain=SESSION)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, model.transform(c, domain=SESSION), atol=1e-4)


@pytest.mark.parametrize(
    ("act", "error", "told"),
    [
        (
            lambda: mean_covariance(recordings(), metric="other"),
            ValueError,
            "metric must be one of",
        ),
        (lambda: mean_covariance(X), ValueError, "square matrices"),
        (lambda: mean_covariance(np.ones((2, 2, 2))), ValueError, "matrix 0 is not"),
        (lambda: mean_covariance(np.eye(2, dtype=int)[None]), TypeError, "must hold floats"),
        (lambda: mean_covariance(np.full((1, 2, 2), np.nan)), ValueError, "must be finite"),
        (
            lambda: RecentreCovariances().transform(recordings(), domain="a"),
            ValueError,
            "must be fitted first",
        ),
        (
            lambda: (
                RecentreCovariances()
                .fit(recordings(), SESSION)
                .transform(np.eye(2)[None], domain="a")
            ),
            ValueError,
            "3 channels as in fit",
        ),
    ],
)
def test_wrong_matrices_are_told(act, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        act()
