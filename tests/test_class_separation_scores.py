"""SFDA, GBC, PARC and N-LEEP; ETran's three scores.

Oracles: loops, scikit-learn's discriminant analysis, SciPy's Gaussians by integration and
least squares, and the code of TencentARC/SFDA at 3b7edf7 and of mgholamikn/ETran at d4551ed on the
same arrays.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import lstsq
from scipy.special import logsumexp, softmax
from scipy.stats import norm, spearmanr
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.mixture import GaussianMixture

from da.model import (
    energy_score,
    gbc,
    lda_score,
    leep,
    linear_fit_score,
    nleep,
    parc,
    sfda,
)

PLACES = np.arange(120)
Y = (np.arange(30) * 7 // 5) % 3
SHIFTS = np.array([[0.6, 0, 0, 0.2], [0, 0.5, 0.3, 0], [0.1, 0.1, -0.8, 0.4]])
X = np.sin(1.7 * PLACES * PLACES).reshape(30, 4) * [1.0, 0.5, 2.0, 0.3] + 0.2 * SHIFTS[Y]
SCORES = [sfda, lda_score, gbc, parc, nleep]


def test_sfda_is_the_authors():
    """Their eigenvalue is approximate, and the shrinkage (here 1e-4) with it."""
    assert sfda(X, Y) == pytest.approx(0.34389183488017533, rel=1e-4)


WITHIN = sum((Y == k).mean() * np.cov(X[Y == k].T, bias=True) for k in range(3))


def posterior(x: np.ndarray) -> np.ndarray:
    """Class probabilities of a discriminant analysis of x, shrunk as X is."""
    share = max(math.exp(-5 * np.linalg.eigvalsh(WITHIN)[-1]), 1e-10)
    means = np.array([x[Y == k].mean(axis=0) for k in range(3)])
    own = sum((Y == k).mean() * np.cov(x[Y == k].T, bias=True) for k in range(3))
    shrunk = (1 - share) * own + share * np.trace(own) / 4 * np.eye(4)
    prior = np.log([(Y == k).mean() for k in range(3)])
    logits = np.array(
        [
            [m @ np.linalg.solve(shrunk, z) - m @ np.linalg.solve(shrunk, m) / 2 for m in means]
            for z in x
        ]
    )
    return softmax(logits + prior, axis=1)


def test_sfda_by_scikit_learns_discriminant_analysis():
    """Its covariance is divided by n too, and shrunk towards the same multiple of the identity."""
    plain = LinearDiscriminantAnalysis(solver="lsqr").fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(posterior(X), plain, atol=5e-3)  # the shrinkage is small
    c = softmax(posterior(X), axis=1)[np.arange(30), Y]
    means = np.array([X[Y == k].mean(axis=0) for k in range(3)])
    others = np.array([(means.sum(axis=0) - means[k]) / 2 for k in Y])
    harder = c[:, None] * X + (1 - c[:, None]) * others
    assert sfda(X, Y) == pytest.approx(posterior(harder)[np.arange(30), Y].mean(), rel=1e-8)


def test_lda_is_the_first_of_sfdas_two_analyses():
    assert lda_score(X, Y) == pytest.approx(posterior(X)[np.arange(30), Y].mean(), rel=1e-8)


def test_lda_is_the_authors_where_the_covariance_is_the_identity():
    """In their code it always is; see the docstring."""
    white = X @ np.linalg.inv(np.linalg.cholesky(WITHIN)).T
    assert lda_score(white, Y) == pytest.approx(0.37904462590304444, rel=1e-10)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.2, 1.0485783465790697), (1.0, 1.5968479208724302)]
)
def test_energy_is_the_authors(share: float, expected: float):
    assert energy_score(X, share=share) == pytest.approx(expected, rel=1e-12)
    lowest = np.sort(logsumexp(X, axis=1))[: round(30 * share)]
    assert energy_score(torch.from_numpy(X), share=share) == pytest.approx(lowest.mean())
    assert energy_score(X, share=0.001) == pytest.approx(lowest[0])


@pytest.mark.parametrize("share", [0.0, 1.5, math.nan])
def test_energy_of_no_samples_is_refused(share: float):
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\]"):
        energy_score(X, share=share)


def test_linear_fit_by_scipys_least_squares_and_by_the_authors_steps():
    """The constant is numpy's U, S and V put together as in their code."""
    y = np.sin(0.7 * np.arange(30))
    weights, *_ = lstsq(X, y)
    expected = -np.square(X @ weights - y).mean()
    assert expected == pytest.approx(-0.3929154522934392, rel=1e-12)
    twice = np.concatenate([X, 3 * X], axis=1)  # of rank 4
    for features in (X, 100 * X, twice, torch.from_numpy(X)):
        given = torch.from_numpy(y) if isinstance(features, torch.Tensor) else y
        assert linear_fit_score(features, given) == pytest.approx(expected, rel=1e-9)
    assert linear_fit_score(X, X @ [1.0, 2.0, -1.0, 0.5]) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="targets must be finite"):
        linear_fit_score(X, np.full(30, np.nan))
    with pytest.raises(ValueError, match="targets must have one entry a sample"):
        linear_fit_score(X, y[:7])


def test_gbc_of_two_lines_by_integration():
    """exp(-B) is the integral of the root of the product of two densities."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, 40), rng.normal(2, 3, 60)])
    y = np.repeat([0, 1], [40, 60])
    first, second = (norm(x[y == k].mean(), x[y == k].std()) for k in (0, 1))
    overlap, _ = quad(lambda t: math.sqrt(first.pdf(t) * second.pdf(t)), -40, 40, limit=400)
    for covariance in ("spherical", "diagonal"):
        found = gbc(x[:, None], y, covariance=covariance)
        assert found == pytest.approx(-2 * overlap, rel=1e-8)


@pytest.mark.parametrize("covariance", ["spherical", "diagonal"])
def test_gbc_by_a_loop(covariance):
    total = 0.0
    means = [X[Y == k].mean(axis=0) for k in range(3)]
    spreads = [X[Y == k].var(axis=0) for k in range(3)]
    if covariance == "spherical":
        spreads = [np.full(4, v.mean()) for v in spreads]
    for i in range(3):
        for j in range(3):
            if i != j:
                s = (spreads[i] + spreads[j]) / 2
                b = ((means[i] - means[j]) ** 2 / s).sum() / 8
                determinants = np.prod(spreads[i]) * np.prod(spreads[j])
                total += math.exp(-b - 0.5 * math.log(np.prod(s) / math.sqrt(determinants)))
    assert gbc(X, Y, covariance=covariance) == pytest.approx(-total, rel=1e-10)
    with pytest.raises(ValueError, match="covariance"):
        gbc(X, Y, covariance="full")  # type: ignore[arg-type]


def test_classes_that_are_points_do_not_overlap():
    points = np.repeat([[0.0, 0.0], [1.0, 0.0]], 3, axis=0)
    assert gbc(points, np.repeat([0, 1], 3)) == 0


def test_parc_is_the_authors_but_for_the_factor_and_a_loop():
    # In theirs the distances of labels differ by rounding, which orders what should be tied.
    assert 100 * parc(X, Y) == pytest.approx(-4.4668505680284545, abs=0.1)
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    ours = [
        (1 - np.corrcoef(z[i], z[j])[0, 1], float(Y[i] != Y[j]))
        for i in range(30)
        for j in range(i + 1, 30)
    ]
    assert parc(X, Y) == pytest.approx(spearmanr(*zip(*ours, strict=True)).statistic, rel=1e-9)
    with pytest.raises(ValueError, match="two or more columns"):
        parc(X[:, :1], Y)


def test_nleep_is_leep_of_a_mixtures_components():
    reduced = PCA(0.8).fit_transform(X)
    mixture = GaussianMixture(6, random_state=3).fit(reduced)
    expected = leep(mixture.predict_proba(reduced), Y)
    assert nleep(X, Y, clusters=2, random_state=3) == pytest.approx(expected, rel=1e-6)
    assert nleep(np.ones((6, 3)), np.arange(6) % 2) == pytest.approx(-math.log(2))


@pytest.mark.parametrize("score", SCORES)
def test_separated_classes_have_the_higher_score_and_tensors_the_same(score):
    rng = np.random.default_rng(1)
    y = np.arange(90) % 3
    noise = rng.normal(size=(90, 5))
    apart = noise + 8 * np.eye(3, 5)[y]
    assert score(apart, y) > score(noise, y)
    assert score(torch.from_numpy(apart), torch.from_numpy(y)) == pytest.approx(score(apart, y))
    order = rng.permutation(90)
    if score is not nleep:  # the start of a mixture depends on the order
        assert score(apart[order], y[order]) == pytest.approx(score(apart, y), rel=1e-8)
    with pytest.raises(ValueError, match="2 or more classes"):
        score(apart, np.zeros(90, dtype=int))
