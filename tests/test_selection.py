"""Chosen source rows.

Oracles: every subset of a small source, SciPy's quadratic programme, domains with known like rows.
"""

from __future__ import annotations

import warnings
from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, linprog, minimize
from scipy.spatial.distance import cdist, pdist

from da.data.toy import gaussian_covariate_shift
from da.instance.landmark_selection import landmarks
from da.instance.mean_matching import kmm
from da.instance.selection import select_by_likeness


def samples(n: int = 8, m: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)), np.arange(n) % 2, rng.normal(size=(m, 2)) * 0.6 + 0.7


def programme(x: np.ndarray, y: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, float]:
    """K, kappa and the target's own term.

    (w^T K w - 2 kappa^T w) / n^2 + own is the squared MMD of the weighted source.
    """
    s = scale * np.median(pdist(np.concatenate([x, y]), "sqeuclidean"))
    k, across, own = (np.exp(-cdist(a, b, "sqeuclidean") / s) for a, b in ((x, x), (x, y), (y, y)))
    return k, across.mean(1) * len(x), own.mean()


def squared_mmd(w: np.ndarray, k: np.ndarray, kappa: np.ndarray, own: float) -> float:
    return float((w @ k @ w - 2 * kappa @ w) / len(w) ** 2 + own)


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_landmarks_reach_the_optimum_of_scipy(scale):
    x, labels, y = samples(14, 9)
    k, kappa, own = programme(x, y, scale)
    shares = np.array([labels == 0, labels == 1], float)
    best = minimize(
        lambda w: 0.5 * w @ k @ w - kappa @ w,
        np.ones(14),
        jac=lambda w: k @ w - kappa,
        method="SLSQP",
        bounds=[(0, None)] * 14,
        constraints=LinearConstraint(shares, shares.sum(1), shares.sum(1)),
        options={"maxiter": 2000, "ftol": 1e-15},
    ).x
    (selection,) = landmarks(x, labels, y, scales=[scale], tolerance=1e-11, n_iter=100_000)
    np.testing.assert_allclose(selection.scores, best, atol=1e-3)
    assert squared_mmd(selection.scores, k, kappa, own) <= squared_mmd(best, k, kappa, own) + 1e-8


def test_no_balanced_subset_is_nearer_to_the_target_than_the_landmarks():
    """Every choice of the same number of rows of each class, weighted evenly.

    This is the paper's binary problem; ours is its relaxation.
    """
    x, labels, y = samples()
    k, kappa, own = programme(x, y, 1.0)
    nearest = np.inf
    for size in (1, 2, 3, 4):
        for rows in product(*(combinations(np.flatnonzero(labels == c), size) for c in (0, 1))):
            w = np.zeros(8)
            w[list(rows[0] + rows[1])] = 4 / size
            nearest = min(nearest, squared_mmd(w, k, kappa, own))
    (selection,) = landmarks(x, labels, y, scales=[1.0], tolerance=1e-9)
    found = squared_mmd(selection.scores, k, kappa, own)
    assert 0 < found <= nearest + 1e-9 and found > 0.3 * nearest
    assert squared_mmd(np.ones(8), k, kappa, own) > 2 * nearest


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    n=st.integers(2, 9),
    m=st.integers(1, 6),
    classes=st.integers(1, 3),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
    seed=st.integers(0, 10**6),
)
def test_landmark_weights_keep_the_classes_and_are_certified(n, m, classes, scale, seed):
    """A convex objective is at most max over v of <gradient, w - v> above its minimum.

    linprog finds that v.
    """
    rng = np.random.default_rng(seed)
    x, y, labels = rng.normal(size=(n, 3)), rng.normal(size=(m, 3)), np.arange(n) % min(classes, n)
    (selection,) = landmarks(x, labels, y, scales=[scale], tolerance=1e-6, n_iter=50_000)
    w = selection.scores
    shares = np.array([labels == c for c in np.unique(labels)], float)
    assert w.min() >= 0 and selection.index.tolist() == np.flatnonzero(w > 0.1).tolist()
    np.testing.assert_allclose(shares @ w, shares.sum(1), rtol=1e-9)
    k, kappa, _ = programme(x, y, scale)
    gradient = k @ w - kappa
    lowest = linprog(gradient, A_eq=shares, b_eq=shares.sum(1)).fun
    assert 2 * (gradient @ w - lowest) / n**2 <= 1.001e-6


def test_landmarks_are_the_rows_that_come_from_the_target():
    """Half of the source is drawn as the target, half far away.

    Hardly any weight is far, and each class has landmarks.
    """
    rng = np.random.default_rng(0)
    labels, y = np.arange(60) % 3, rng.normal(size=(50, 2))
    x = rng.normal(size=(60, 2)) + 8.0 * (np.arange(60) >= 30)[:, None]
    selections = landmarks(x, labels, y, scales=[1.0, 4.0])
    for selection in selections:
        assert selection.scores[30:].sum() < 0.6 and selection.index.max() < 30
        assert {0, 1, 2} == set(labels[selection.index])
        assert selection.reason.startswith(
            f"{len(selection.index)} of 60 source rows: a weight above 0.1 at "
        )
    assert len(landmarks(x, labels, y)) == 13


def test_landmarks_follow_a_permutation_and_the_kind_of_the_rows():
    x, labels, y = samples(20, 15)
    order = np.random.default_rng(1).permutation(20)
    expected = landmarks(x, labels, y, scales=[0.5], tolerance=1e-12, n_iter=100_000)[0].scores
    permuted = landmarks(
        x[order], labels[order], y[::-1].copy(), scales=[0.5], tolerance=1e-12, n_iter=100_000
    )[0].scores
    np.testing.assert_allclose(permuted, expected[order], atol=1e-8)
    (selection,) = landmarks(
        torch.tensor(x).float(),
        torch.tensor(labels),
        torch.tensor(y).float(),
        scales=[0.5],
        tolerance=1e-9,
    )
    assert selection.scores.dtype == torch.float32 and selection.index.dtype == torch.int64
    np.testing.assert_allclose(selection.scores.numpy(), expected, atol=1e-2)


def test_landmarks_of_duplicated_rows_and_constant_columns():
    x, labels, y = samples(10, 5)
    x, y = (
        np.concatenate([np.repeat(z, 2, axis=0), np.ones((2 * len(z), 30))], axis=1) for z in (x, y)
    )
    (selection,) = landmarks(x, np.repeat(labels, 2), y, scales=[1.0])
    assert np.isfinite(selection.scores).all()
    with pytest.warns(UserWarning, match="landmarks: after 1 iterations the squared MMD is within"):
        landmarks(x, np.repeat(labels, 2), y, scales=[1.0], n_iter=1, tolerance=1e-9)


def ratio(source, target):
    """The first column, as a weight."""
    return source[:, 0] / source[:, 0].mean()


def test_a_fraction_and_a_threshold_choose_by_definition():
    x = np.array([[3.0], [1.0], [2.0], [8.0], [6.0]])
    top = select_by_likeness(x, x, fraction=0.4, weights=ratio)
    assert (
        top.index.tolist() == [3, 4]
        and top.reason == "2 of 5 source rows: the highest 0.4 by ratio"
    )
    np.testing.assert_allclose(top.scores, [0.75, 0.25, 0.5, 2, 1.5])
    above = select_by_likeness(x, x, threshold=0.75, weights=ratio)
    assert (
        above.index.tolist() == [0, 3, 4]
        and above.reason == "3 of 5 source rows: at least 0.75 by ratio"
    )
    each = select_by_likeness(
        x, x, fraction=0.5, source_labels=np.array(["a", "a", "b", "b", "b"]), weights=ratio
    )
    assert each.index.tolist() == [0, 3, 4] and "the highest 0.5 of each class" in each.reason
    one = select_by_likeness(
        x, x, fraction=0.01, source_labels=np.array([0, 0, 1, 1, 1]), weights=ratio
    )
    assert one.index.tolist() == [0, 3], "one of each class at least"


@pytest.mark.parametrize(
    "weights", [None, partial(kmm, bandwidth=30.0, bound=10.0, tolerance=1e-5)]
)
def test_likely_rows_have_higher_density_ratios(weights):
    problem = gaussian_covariate_shift(n=300)
    options = {} if weights is None else {"weights": weights}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selection = select_by_likeness(problem.source.x, problem.target.x, fraction=0.3, **options)
    assert isinstance(selection.index, torch.Tensor) and len(selection.index) == 90
    best = problem.ratio.sort(descending=True).values[:90].mean()
    name = "kmm" if weights else "discriminator_weights"
    assert selection.reason == f"90 of 300 source rows: the highest 0.3 by {name}"
    assert (
        problem.ratio[selection.index].mean()
        > (0.9 if weights is None else 0.6) * best
        > problem.ratio.mean()
    )


X, LABELS, Y = samples()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: select_by_likeness(X, Y), ValueError, "pass either fraction or threshold"),
        (
            lambda: select_by_likeness(X, Y, fraction=0.5, threshold=1.0),
            ValueError,
            "pass either fraction or threshold",
        ),
        (lambda: select_by_likeness(X, Y, fraction=0.0), ValueError, "fraction must be above 0"),
        (
            lambda: select_by_likeness(X, Y, threshold=99.0, weights=ratio),
            ValueError,
            "no source row has a weight of 99",
        ),
        (
            lambda: select_by_likeness(X, Y, threshold=1.0, source_labels=LABELS),
            ValueError,
            "source_labels go with fraction",
        ),
        (
            lambda: select_by_likeness(X, Y, fraction=0.5, weights=lambda s, t: t[:, 0]),
            ValueError,
            "weights must give one finite number",
        ),
        (lambda: select_by_likeness(X, Y[:, :1], fraction=0.5), ValueError, "equal widths"),
        (
            lambda: landmarks(X, LABELS[:3], Y),
            ValueError,
            "source_labels must hold one label a row",
        ),
        (lambda: landmarks(X, LABELS / 2, Y), TypeError, "source_labels must hold classes"),
        (lambda: landmarks(X, LABELS, Y, scales=[]), ValueError, "scales must be"),
        (lambda: landmarks(X, LABELS, Y, scales=[1.0, -1.0]), ValueError, "scales must be"),
        (
            lambda: landmarks(X, LABELS, Y, threshold=1.0),
            ValueError,
            "threshold must be from 0 to below 1",
        ),
        (lambda: landmarks(X, LABELS, Y, n_iter=0), ValueError, "n_iter must be"),
        (lambda: landmarks(X * np.nan, LABELS, Y), ValueError, "source must be finite"),
    ],
)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()
