"""Does label shift, or a density ratio, explain the target?

Oracles: double loops over kernels, closed forms for two classes, coverage over draws of a known
mixture, problems where the answer is known.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import norm

from da.instance import (
    DensityRatioError,
    LabelShiftError,
    bbse,
    check_density_ratio,
    check_label_shift,
    mlls,
)
from da.instance.fit_checks import counts_of, gaps, kernel_matrix, standardised


def normals(seed: int, rows: int, share: float, place: float = 1.5, spread: float = 1.0):
    """Two classes N(0, 1) and N(place, spread^2): posteriors of equal shares at place 1.5, y, x."""
    generator = np.random.default_rng(seed)
    y = (generator.random(rows) < share).astype(int)
    x = generator.normal(size=rows) * np.where(y, spread, 1.0) + y * place
    densities = norm.pdf(x[:, None], [0.0, 1.5])
    return densities / densities.sum(1, keepdims=True), y, x[:, None]


def test_the_gap_is_the_double_loop() -> None:
    generator = np.random.default_rng(0)
    x, z, w = generator.normal(size=(7, 2)), generator.normal(size=(5, 2)), generator.random(7)
    pooled = np.concatenate([x, z])
    pooled = (pooled - pooled.mean(0)) / pooled.std(0)
    distances = cdist(pooled, pooled, "sqeuclidean")
    median = np.median(distances[np.triu_indices(12, 1)])
    kernel = np.mean([np.exp(-distances / (f * median)) for f in (0.25, 1, 4)], axis=0)
    a = np.concatenate([w / w.sum(), np.full(5, -1 / 5)])
    expected = sum(a[i] * a[j] * kernel[i, j] for i in range(12) for j in range(12))
    found = check_density_ratio(x, z, w, draws=5, least_effective_size=1, on_misfit="ignore")
    assert found.gap == pytest.approx(expected, rel=1e-9)
    both = torch.cat(standardised(torch.from_numpy(x), torch.from_numpy(z)))
    np.testing.assert_allclose(kernel_matrix(both), kernel, rtol=1e-9)
    contrasts = torch.from_numpy(generator.normal(size=(3, 12)))
    np.testing.assert_allclose(
        gaps(torch.from_numpy(kernel), contrasts),
        [c @ kernel @ c for c in contrasts.numpy()],
        rtol=1e-9,
    )
    chosen = torch.tensor([[0, 2, 2], [1, 1, 1]])
    assert counts_of(chosen, 4).tolist() == [[1, 0, 2, 0], [0, 3, 0, 0]]


@pytest.mark.parametrize("method", ["bbse", "mlls"])
def test_the_shares_are_those_of_the_estimate(method: str) -> None:
    p, y, _ = normals(0, 300, 0.5)
    target, _, _ = normals(1, 200, 0.2)
    found = check_label_shift(p, y, target, method=method, draws=20)
    weights = bbse(p, y, target) if method == "bbse" else mlls(y, target, tolerance=1e-6)
    np.testing.assert_allclose(found.class_weights, weights, rtol=1e-6)
    np.testing.assert_allclose(found.shares, weights * np.bincount(y) / 300, rtol=1e-6)
    assert found.shares.sum() == pytest.approx(1)
    for intervals in (found.bootstrap, found.asymptotic):
        assert (intervals[:, 0] < found.shares).all() and (found.shares < intervals[:, 1]).all()


def test_the_asymptotic_interval_of_a_perfect_classifier_is_that_of_a_share() -> None:
    y, v = np.arange(200) % 2, (np.arange(100) % 4 == 0).astype(int)
    half = norm.ppf(0.95) * math.sqrt(0.25 * 0.75 / 100)
    for method in ("bbse", "mlls"):
        found = check_label_shift(np.eye(2)[y], y, np.eye(2)[v], method=method, draws=20)
        np.testing.assert_allclose(found.asymptotic[1], [0.25 - half, 0.25 + half], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bbse", "mlls"])
def test_intervals_hold_the_true_share(method: str) -> None:
    """Of 100 draws with a true share of 0.2, about 90 intervals of either kind hold it."""
    held = np.zeros(2)
    for seed in range(100):
        p, y, _ = normals(2 * seed, 300, 0.5)
        target, _, _ = normals(2 * seed + 1, 300, 0.2)
        found = check_label_shift(p, y, target, method=method, draws=100, random_state=seed)
        for kind, ends in enumerate((found.bootstrap[1], found.asymptotic[1])):
            held[kind] += ends[0] <= 0.2 <= ends[1]
    assert (held >= 80).all() and (held <= 98).all()


def test_label_shift_is_accepted_and_another_shift_is_told() -> None:
    p, y, x = normals(0, 400, 0.5)
    target, _, z = normals(1, 400, 0.2)
    for features in (None, (x, z)):
        assert check_label_shift(p, y, target, features=features, draws=100).fits
    other, _, z = normals(2, 400, 0.5, place=4.0, spread=0.3)
    with pytest.warns(UserWarning, match="label shift does not explain the target .p = 0.0099"):
        assert not check_label_shift(p, y, other, draws=100).fits
    with pytest.raises(LabelShiftError, match="label shift does not explain"):
        check_label_shift(p, y, other, features=(x, z), draws=100, on_misfit="raise")
    found = check_label_shift(p, y, other, draws=100, on_misfit="ignore")
    assert found.p_value == 1 / 101 and not found.fits


def test_the_p_value_is_seldom_small_under_label_shift() -> None:
    """Of 30 draws at the level 0.2 at most 13 are rejected, with probability 0.999."""
    rejected = sum(
        not check_label_shift(
            *normals(2 * seed, 150, 0.5)[:2],
            normals(2 * seed + 1, 150, 0.3)[0],
            alpha=0.2,
            draws=24,
            on_misfit="ignore",
        ).fits
        for seed in range(30)
    )
    assert rejected <= 13


def test_a_density_ratio_is_judged() -> None:
    generator = np.random.default_rng(0)
    x, z = generator.normal(size=(500, 1)), 0.7 + 0.7 * generator.normal(size=(500, 1))
    ratio = (norm.pdf(x, 0.7, 0.7) / norm.pdf(x)).ravel()
    found = check_density_ratio(x, z, ratio, draws=100)
    assert found.fits and found.gap < 0.1 * found.unweighted_gap
    assert found.effective_sample_size == pytest.approx(ratio.sum() ** 2 / (ratio**2).sum())
    assert found.calibration.shape == (10, 2)
    np.testing.assert_allclose(found.calibration.sum(0), 1)
    assert np.abs(found.calibration[:, 0] - found.calibration[:, 1]).max() < 0.1
    with pytest.warns(UserWarning, match="the weighted source is not distributed as the target"):
        check_density_ratio(x, z, np.ones(500), draws=100)
    lonely = np.r_[np.ones(5), np.zeros(495)]
    with pytest.raises(DensityRatioError, match="rest on 5.0 effective rows, fewer than 30"):
        check_density_ratio(x, z, lonely, draws=100, on_misfit="raise")


P, Y, _ = normals(3, 60, 0.5)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: check_label_shift(P, Y, P, method="em"), "method must be 'bbse' or 'mlls'"),
        (lambda: check_label_shift(P, Y, P, on_misfit="stop"), "on_misfit must be 'warn'"),
        (lambda: check_label_shift(P, Y, P, level=0.0), r"level must be in \(0, 1\); got 0.0"),
        (lambda: check_label_shift(P, Y, P, draws=0), "draws must be a whole number >= 1; got 0"),
        (lambda: check_label_shift(P, Y, P[:, :1]), "target_predictions must have 2 columns"),
        (lambda: check_label_shift(P, Y * 0, P), "source_labels must hold each of the classes"),
        (
            lambda: check_label_shift(P, Y, P, features=(P[:5], P)),
            r"features\[0\] must have 60 rows, as the predictions; got 5",
        ),
        (lambda: check_density_ratio(P, P, np.ones(5)), r"weights must be \(60,\)"),
        (lambda: check_density_ratio(P, P, np.ones(60), alpha=2.0), r"alpha must be in \(0, 1\)"),
        (lambda: check_density_ratio(P, P, np.ones(60), on_misfit="x"), "on_misfit must be 'warn'"),
        (lambda: check_density_ratio(P, P[:, :1], np.ones(60)), "equal widths"),
    ],
)
def test_wrong_input_is_told(act, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        act()
