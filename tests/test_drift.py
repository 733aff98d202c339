"""What moved: columns, classes, shares, rows.

Oracles: closed testing over all subsets, loops over pairs and thresholds, Pearson's formula,
samples with a known change.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from da.records.multiple_tests import holm
from da.shift.categories import moved_categories
from da.shift.class_drift import moved_classes, moved_proportions
from da.shift.drift import moved_columns, witness
from da.shift.fused_test import mmd_fuse

GENERATOR = np.random.default_rng(0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_by_bonferroni(p: list[float]) -> None:
    """p_i is the largest Bonferroni p-value of the subsets that hold i.

    Marcus, Peritz and Gabriel 1976.
    """
    expected = []
    for i in range(len(p)):
        subsets = (
            s
            for k in range(1, len(p) + 1)
            for s in itertools.combinations(range(len(p)), k)
            if i in s
        )
        expected.append(max(min(1.0, len(s) * min(p[j] for j in s)) for s in subsets))
    np.testing.assert_allclose(holm(np.array(p)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "p",
    [
        *(np.array(p) for p in ([0.5, 1.5], [-0.1], [[0.5]], [float("nan")], ["0.5"], [0.5 + 0j])),
        np.ma.array([0.5, 0.1], mask=[True, False]),
    ],
)
def test_holm_refuses_what_is_no_p_value(p: np.ndarray) -> None:
    with pytest.raises(ValueError, match="p_values must be numbers in"):
        holm(p)
    assert len(holm(np.array([]))) == 0


def test_columns() -> None:
    x, y = GENERATOR.standard_normal((40, 4)), GENERATOR.standard_normal((30, 4))
    y[:, 1] += 3
    x[:, 2] = y[:, 2] = 7.0
    y[:, 3] *= 10
    found = moved_columns(x, y)
    for column in range(4):
        thresholds = np.concatenate([x[:, column], y[:, column]])
        distance = max(
            abs(np.mean(x[:, column] <= t) - np.mean(y[:, column] <= t)) for t in thresholds
        )
        assert found.distance[column] == pytest.approx(distance, abs=1e-12)
    pooled = np.concatenate([x[:, 1], y[:, 1]])
    assert (
        found.shift[1] == pytest.approx((y[:, 1].mean() - x[:, 1].mean()) / pooled.std())
        and found.shift[2] == 0
    )
    assert list(found.p_value <= 0.05) == [False, True, False, True]
    exact = [4 * stats.ks_2samp(x[:, c], y[:, c], method="exact").pvalue for c in (1, 3)]
    assert all(found.p_value[[1, 3]] < 0.01) and max(exact) < 0.01
    tensors = moved_columns(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_array_equal(tensors.p_value, found.p_value)


def test_no_change_is_seldom_found_in_any_of_many_columns() -> None:
    """P(any corrected p <= 0.1) <= 0.1.

    Of 200 repetitions, at most the 99.9 % quantile of that binomial law rejects.
    """
    wrong = sum(
        moved_columns(*np.random.default_rng(s).standard_normal((2, 50, 8))).p_value.min() <= 0.1
        for s in range(200)
    )
    assert wrong <= stats.binom.ppf(0.999, 200, 0.1)


@pytest.mark.parametrize("test", [None, mmd_fuse])
def test_the_class_that_moved_is_found(test) -> None:
    labels = np.array(["mug"] * 30 + ["bike"] * 30 + ["one"] + ["source only"] * 5)
    others = np.array(["mug"] * 25 + ["bike"] * 20 + ["one"] * 3 + ["target only"] * 5)
    x, y = GENERATOR.standard_normal((len(labels), 2)), GENERATOR.standard_normal((len(others), 2))
    y[others == "bike"] += 2
    words = {} if test is None else {"test": test}
    found = moved_classes(x, y, labels, others, permutations=200, **words)
    assert [(line.label, line.source_rows, line.target_rows) for line in found] == [
        ("bike", 30, 20),
        ("mug", 30, 25),
    ]
    assert (
        found[0].p_value == pytest.approx(2 / 201)
        and found[1].p_value > 0.05
        and found[0].statistic > found[1].statistic
    )


def test_many_classes_can_still_be_found_to_differ() -> None:
    """With 40 classes and 19 relabellings the least corrected p would be 2, so there are more."""
    labels = np.repeat(np.arange(40), 8)
    x = GENERATOR.standard_normal((320, 2))
    found = moved_classes(x, x + 20, labels, labels, permutations=19)
    assert len(found) == 40 and max(line.p_value for line in found) <= 0.05


def test_nothing_in_common() -> None:
    x = GENERATOR.standard_normal((4, 2))
    assert moved_classes(x, x, np.zeros(4), np.ones(4)) == []
    with pytest.raises(ValueError, match="target_labels must be one class a row"):
        moved_classes(x, x, np.zeros(4), np.ones(3))


def test_proportions_by_pearsons_formula() -> None:
    own, other = np.repeat(["a", "b", "c"], [10, 20, 5]), np.repeat(["a", "b", "d"], [15, 7, 4])
    counts = np.array([[10, 20, 5, 0], [15, 7, 0, 4]])
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    found = moved_proportions(own, other)
    assert (
        found.classes.tolist() == ["a", "b", "c", "d"] and found.counts.tolist() == counts.tolist()
    )
    assert found.p_value == pytest.approx(
        stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), df=3)
    )
    assert found.least_expected == pytest.approx(expected.min())
    assert moved_proportions(np.zeros(3), np.zeros(9)).p_value == 1
    with pytest.raises(ValueError, match="source_labels"):
        moved_proportions(np.array([]), own)


def test_the_witness_is_a_loop_over_pairs() -> None:
    x, y = GENERATOR.standard_normal((5, 3)), GENERATOR.standard_normal((4, 3))
    z = np.concatenate([x, y])
    bandwidth = np.median([np.sum((a - b) ** 2) for a, b in itertools.combinations(z, 2)])

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-np.sum((a - b) ** 2) / bandwidth))

    expected = [
        np.mean([kernel(y[i], y[j]) for j in range(4) if j != i])
        - np.mean([kernel(y[i], b) for b in x])
        for i in range(4)
    ]
    np.testing.assert_allclose(witness(x, y), expected, rtol=1e-10)
    assert isinstance(witness(torch.from_numpy(x), torch.from_numpy(y)), torch.Tensor)
    np.testing.assert_array_equal(witness(np.ones((3, 2)), np.ones((2, 2))), 0)
    with pytest.raises(ValueError, match="target must have at least 2 rows"):
        witness(x, y[:1])


def test_the_witness_points_at_what_is_new() -> None:
    y = GENERATOR.standard_normal((60, 2))
    y[::6] += 8
    assert set(np.argsort(-witness(GENERATOR.standard_normal((60, 2)), y))[:10]) == set(
        range(0, 60, 6)
    )


def tables(n: int = 80, m: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Three columns of categories; only the second has moved, and has a new category."""
    rng = np.random.default_rng(0)
    source = [rng.choice(list("abc"), n), rng.choice(["x", "y"], n), rng.choice(["1", "2"], n)]
    target = [rng.choice(list("abc"), m), rng.choice(["x", "z"], m), rng.choice(["1", "2"], m)]
    return np.column_stack(source), np.column_stack(target)


def test_columns_of_categories_by_scipy() -> None:
    source, target = tables()
    found = moved_categories(source, target)
    p_values, least = [], []
    for column in range(3):
        a, b = source[:, column], target[:, column]
        names = sorted(set(a) | set(b))
        counts = np.array([[(side == name).sum() for name in names] for side in (a, b)])
        _, p, _, expected = stats.chi2_contingency(counts, correction=False)
        p_values.append(p)
        least.append(expected.min())
        shares = counts / counts.sum(axis=1, keepdims=True)
        assert found.distance[column] == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)
    order = np.argsort(p_values)
    raised = np.maximum.accumulate([(3 - k) * p_values[i] for k, i in enumerate(order)])
    np.testing.assert_allclose(found.p_value[order], np.minimum(raised, 1))
    np.testing.assert_allclose(found.least_expected, least)
    assert (found.p_value < 0.05).tolist() == [False, True, False]
    assert found.new == ((), ("z",), ())


def test_categories_may_be_numbers_and_a_missing_value_is_one() -> None:
    codes = np.array([[1.0], [2.0], [np.nan]])
    same = moved_categories(codes, codes)
    assert same.distance.tolist() == [0] and same.p_value.tolist() == [1]
    moved = moved_categories(codes[:2], codes)
    assert moved.new == (("nan",),) and moved.distance[0] == pytest.approx(1 / 3)
    words = np.array([["a", None], ["b", "c"]], dtype=object)
    assert moved_categories(words, words).new == ((), ())


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (np.array(["a"]), np.array([["a"]]), r"source must have shape \(n, c\)"),
        (np.array([["a"]]), np.zeros((0, 1), str), "target must have shape"),
        (np.array([["a"]]), np.array([["a", "b"]]), "as many columns"),
    ],
)
def test_what_is_no_table_of_categories(
    source: np.ndarray, target: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        moved_categories(source, target)
