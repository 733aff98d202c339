"""Prediction sets and intervals by weighted split conformal prediction.

Oracles: the definition by loops over candidates, repeated rows for whole weights, numbers of MAPIE
1.6 on the same rows, coverage where the density ratio is a formula.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from da.select import conformal_classifier, conformal_regressor


def problem(seed: int = 0, n: int = 60, m: int = 8, k: int = 3):
    """Calibration rows with probabilities that are right, and target rows."""
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.ones(k), size=n)
    y = np.array([generator.choice(k, p=row) for row in p])
    return p, y, generator.dirichlet(np.ones(k), size=m), generator


def score_of(row: np.ndarray, label: int, kind: str, u: float) -> float:
    if kind == "lac":
        return 1 - row[label]
    return sum(v for v in row if v > row[label]) + u * row[label]


def quantile(scores: list[float], weights: list[float], own: float, level: float) -> float:
    """The least t with sum_i w_i 1[s_i <= t] >= level (sum w_i + w), by trying every score."""
    for t in sorted(scores):
        held = sum(w for s, w in zip(scores, weights, strict=True) if s <= t)
        if held >= level * (sum(weights) + own) - 1e-9:
            return t
    return math.inf


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from(["lac", "aps"]), st.sampled_from([0.5, 0.8, 0.9]))
def test_sets_are_the_definition(seed: int, kind: str, level: float) -> None:
    p, y, target, generator = problem(seed)
    weights, own = generator.uniform(0.2, 3, size=60), generator.uniform(0.2, 8, size=8)
    options = {"score": kind, "level": level, "least_effective_size": 10}
    found = conformal_classifier(p, y, weights=weights, **options)(target, weights=own)
    u, v = (np.random.default_rng((0, part)).random(len(x)) for part, x in ((0, p), (1, target)))
    scores = [score_of(*each) for each in zip(p, y, [kind] * 60, u, strict=True)]
    for i, row in enumerate(target):
        limit = quantile(scores, list(weights), own[i], level)
        assert found[i].tolist() == [
            score_of(row, c, kind, v[i]) <= limit + 1e-12 for c in range(3)
        ]
    per_class = generator.uniform(0.3, 2, size=3)
    found = conformal_classifier(p, y, class_weights=per_class, **options)(target)
    limits = [quantile(scores, list(per_class[y]), per_class[c], level) for c in range(3)]
    for i, row in enumerate(target):
        assert found[i].tolist() == [
            score_of(row, c, kind, v[i]) <= limits[c] + 1e-12 for c in range(3)
        ]


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from(["absolute", "quantile"]))
def test_intervals_are_the_definition(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=60)
    ends = values[:, None] + generator.normal(size=(60, 2)) + [-1, 1]
    if kind == "absolute":
        ends[:, 1] = ends[:, 0]
    predictions = ends[:, 0] if kind == "absolute" else ends
    weights, own = generator.uniform(0.2, 3, size=60), generator.uniform(0.2, 8, size=4)
    model = conformal_regressor(
        predictions[:56], values[:56], score=kind, weights=weights[:56], least_effective_size=10
    )
    found = model(predictions[56:], weights=own)
    scores = [max(low - v, v - high) for (low, high), v in zip(ends[:56], values[:56], strict=True)]
    for i, (low, high) in enumerate(ends[56:]):
        limit = quantile(scores, list(weights[:56]), own[i], 0.9)
        expected = np.array([low - limit, high + limit])
        if expected[0] > expected[1]:
            expected[:] = expected.mean()
        np.testing.assert_allclose(found[i], expected, rtol=1e-9)


def test_sets_and_intervals_have_the_numbers_of_mapie() -> None:
    p, y, target, generator = problem()
    lac = [(1, 0, 1), (1, 0, 0), (1, 1, 0), (1, 0, 0), (1, 1, 1), (1, 0, 0), (1, 0, 1), (1, 0, 1)]
    found = conformal_classifier(p, y)(target)
    assert found.astype(int).tolist() == [list(row) for row in lac]
    z = generator.normal(size=60)
    values = z + generator.normal(size=60)
    intervals = conformal_regressor(z, values)(np.array([0.0, 1.0]))
    expected = [[-1.4791378337711, 1.4791378337711], [-0.4791378337711, 2.4791378337711]]
    np.testing.assert_allclose(intervals, expected, rtol=1e-10)
    ends = np.stack([z - 1, z + 0.5], axis=1)
    intervals = conformal_regressor(ends, values, score="quantile")(ends[:2])
    expected = [[-2.6488026679829, 0.5859545846283], [-3.2047758678339, 0.0299813847773]]
    np.testing.assert_allclose(intervals, expected, rtol=1e-10)


def test_whole_weights_are_repeated_rows() -> None:
    p, y, target, generator = problem(3, n=90)
    times = generator.integers(1, 4, size=90)
    found = conformal_classifier(p, y, weights=times.astype(float))(target, weights=np.ones(8))
    again = conformal_classifier(np.repeat(p, times, axis=0), np.repeat(y, times))(target)
    np.testing.assert_array_equal(found, again)


def test_the_scale_of_the_weights_does_not_matter() -> None:
    p, y, target, generator = problem(4, n=90)
    weights, own = generator.uniform(0.5, 2, size=90), generator.uniform(0.5, 2, size=8)
    found = conformal_classifier(p, y, weights=weights)(target, weights=own)
    again = conformal_classifier(p, y, weights=1e3 * weights)(target, weights=1e3 * own)
    np.testing.assert_array_equal(found, again)
    per_class = np.array([0.5, 1.0, 2.0])
    sets = [conformal_classifier(p, y, class_weights=c * per_class)(target) for c in (1.0, 7.0)]
    np.testing.assert_array_equal(*sets)


def test_a_row_that_counts_too_much_gets_every_class() -> None:
    p, y, target, _ = problem(5)
    sets = conformal_classifier(p, y)
    assert sets(target, weights=np.full(8, 7.0)).all()  # 7 of 67 is more than a tenth
    intervals = conformal_regressor(p[:, 0], p[:, 1])
    assert np.isinf(intervals(target[:, 0], weights=np.full(8, 7.0))).all()


def shifted(seed: int, rows: int) -> tuple[np.ndarray, ...]:
    """Source x ~ N(0, 1), target x ~ N(1, 0.7^2), y = x + (0.2 + x^2) noise; the ratio at both."""
    generator = np.random.default_rng(seed)
    x, z = generator.normal(size=rows), 1 + 0.7 * generator.normal(size=1000)
    y, v = (u + (0.2 + u**2) * generator.normal(size=len(u)) for u in (x, z))
    return x, y, z, v, *(norm.pdf(u, 1, 0.7) / norm.pdf(u) for u in (x, z))


def test_intervals_cover_the_target_with_the_true_ratio() -> None:
    """Of 100 draws of 400 rows. Without weights the intervals are too narrow.

    The target's mean weight in place of each row's own changes little.
    """
    covered = {"own": [], "mean": [], "none": []}
    for seed in range(100):
        x, y, z, v, ratio, own = shifted(seed, 400)
        weighted = conformal_regressor(x, y, weights=ratio)
        for name, intervals in (
            ("own", weighted(z, weights=own)),
            ("mean", weighted(z)),
            ("none", conformal_regressor(x, y)(z)),
        ):
            covered[name].append(((intervals[:, 0] <= v) & (v <= intervals[:, 1])).mean())
    means = {name: np.mean(each) for name, each in covered.items()}
    assert abs(means["own"] - 0.9) < 0.015 and abs(means["mean"] - 0.9) < 0.015
    assert means["none"] < 0.85


@pytest.mark.parametrize("kind", ["lac", "aps"])
def test_sets_cover_the_target_with_the_true_class_weights(kind: str) -> None:
    """Three classes N(c, 1), source 50 / 30 / 20 percent, target 20 / 30 / 50."""
    source, target = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    covered, plain = [], []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        draws = []
        for shares, rows in ((source, 600), (target, 500)):
            y = generator.choice(3, size=rows, p=shares)
            densities = source * norm.pdf((y + generator.normal(size=rows))[:, None], np.arange(3))
            draws.append((densities / densities.sum(1, keepdims=True), y))
        (p, y), (q, v) = draws
        for found, weights in ((covered, target / source), (plain, None)):
            sets = conformal_classifier(p, y, score=kind, class_weights=weights)(q)
            found.append(sets[np.arange(500), v].mean())
    assert abs(np.mean(covered) - 0.9) < 0.015 and np.mean(plain) < np.mean(covered) - 0.01


def test_tensors_give_tensors() -> None:
    p, y, target, _ = problem(6)
    expected = conformal_classifier(p, y)(target)
    sets = conformal_classifier(torch.from_numpy(p).float(), torch.from_numpy(y))
    found = sets(torch.from_numpy(target).float())
    assert isinstance(found, torch.Tensor) and found.dtype == torch.bool
    np.testing.assert_array_equal(found, expected)
    intervals = conformal_regressor(torch.from_numpy(p[:, 0]), torch.from_numpy(p[:, 1]))
    assert isinstance(intervals(torch.zeros(2)), torch.Tensor)


P, Y, T, _ = problem(7)
UNEVEN = np.r_[np.full(20, 1.0), np.full(40, 1e-6)]


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: conformal_classifier(P, Y, weights=UNEVEN), "rest on 20.0 effective rows of 60"),
        (lambda: conformal_regressor(P[:40, 0], P[:40, 1]), "rest on 40.0 effective rows of 40"),
        (
            lambda: conformal_classifier(P, Y, class_weights=np.array([1.0, 0.0, 0.0])),
            "fewer than least_effective_size = 50",
        ),
        (lambda: conformal_classifier(P, Y, level=1.0), r"level must be in \(0, 1\); got 1.0"),
        (lambda: conformal_classifier(P, Y, score="raps"), "score must be 'lac' or 'aps'"),
        (
            lambda: conformal_classifier(P, Y + 1),
            "labels must be .* classes 0 to 2; got .* up to 3",
        ),
        (lambda: conformal_classifier(P, Y[:5]), "labels must be"),
        (lambda: conformal_classifier(P * 2, Y), "must hold probabilities"),
        (
            lambda: conformal_classifier(P, Y, weights=np.ones(60), class_weights=np.ones(3)),
            "must not both be given",
        ),
        (
            lambda: conformal_classifier(P, Y, class_weights=np.ones(2)),
            "class_weights must have one entry a class, 3; got 2",
        ),
        (lambda: conformal_classifier(P, Y, weights=-np.ones(60)), "weights must be"),
        (
            lambda: conformal_classifier(P, Y)(T, weights=np.ones(3)),
            r"weights must be \(8,\), one for each row",
        ),
        (
            lambda: conformal_classifier(P, Y, class_weights=np.ones(3))(T, weights=np.ones(8)),
            "weights must be None",
        ),
        (lambda: conformal_regressor(P[:, 0], P[:5, 0]), r"values must be \(60,\)"),
        (lambda: conformal_regressor(P, Y * 1.0), r"predictions must have shape \(n,\)"),
        (
            lambda: conformal_regressor(P, Y * 1.0, score="quantile"),
            r"predictions must be \(n, 2\), lower and upper quantiles",
        ),
        (lambda: conformal_regressor(P[:, 0], Y * np.nan), "values must be finite"),
        (
            lambda: conformal_regressor(P[:, 0], Y * 1.0, score="cqr"),
            "score must be 'absolute' or 'quantile'",
        ),
    ],
)
def test_wrong_input_is_told(act, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        act()
