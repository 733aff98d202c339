"""MixVal and the transfer score.

Oracles: counts by hand, regular simplices, double loops in float64, other formulas of the same.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from da.arrays.matrices import NonFiniteError
from da.select.network_scores import (
    head_unevenness,
    hopkins_statistic,
    mixval,
    transfer_score,
)
from da.select.scores import information_maximisation

# ---- MixVal

LOGITS = 5 * torch.eye(3)[[0, 0, 1, 1, 2]]
PARTNERS = torch.tensor([1, 2, 3, 4, 0])  # pairs of classes 00, 01, 11, 12, 20
MIXED = 5 * torch.eye(3)[[0, 1, 2, 1, 0]]  # right, wrong, wrong, right, wrong


def test_mixval_by_hand() -> None:
    assert mixval(MIXED, LOGITS, PARTNERS, part="within") == 1 / 2
    assert mixval(MIXED, LOGITS, PARTNERS, part="between") == pytest.approx(1 / 3)
    assert mixval(MIXED, LOGITS, PARTNERS) == pytest.approx((1 / 2 + 1 / 3) / 2)
    arrays = mixval(MIXED.numpy(), LOGITS.numpy(), PARTNERS.numpy())
    assert arrays == mixval(MIXED, LOGITS, PARTNERS)


def test_mixval_with_pairs_of_one_kind_is_that_part() -> None:
    alone = torch.arange(5)  # each row is its own partner
    assert mixval(MIXED, LOGITS, alone) == mixval(MIXED, LOGITS, alone, part="within") == 2 / 5
    with pytest.raises(ValueError, match="^partners must make at least one pair between classes"):
        mixval(MIXED, LOGITS, alone, part="between")


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 20), seed=st.integers(0, 1000))
def test_mixval_is_that_of_a_loop(n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits, mixed = generator.normal(size=(2, n, 3))
    partners = generator.integers(n, size=n)
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for i, j in enumerate(partners):
        same = logits[i].argmax() == logits[j].argmax()
        hits[bool(same)].append(bool(mixed[i].argmax() == logits[i].argmax()))
    expected = np.mean([np.mean(found) for found in hits.values() if found])
    assert mixval(mixed, logits, partners) == pytest.approx(expected, rel=1e-12)


def test_bad_input_of_mixval_is_one_clear_error() -> None:
    with pytest.raises(NonFiniteError, match="^mixed_logits must be finite"):
        mixval(MIXED * math.nan, LOGITS, PARTNERS)
    with pytest.raises(ValueError, match=r"^mixed_logits must have the shape .* got \(4, 3\)$"):
        mixval(MIXED[1:], LOGITS, PARTNERS)
    for wrong in (PARTNERS[1:], PARTNERS + 1):
        with pytest.raises(ValueError, match=r"^partners must be \(5,\), from 0 to 4; got"):
            mixval(MIXED, LOGITS, wrong)
    with pytest.raises(TypeError, match="^partners must hold classes as integers"):
        mixval(MIXED, LOGITS, PARTNERS.float())
    with pytest.raises(ValueError, match="^part must be one of both, within, between; got 'x'$"):
        mixval(MIXED, LOGITS, PARTNERS, part="x")  # type: ignore[arg-type]


# ---- parts of the transfer score


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_regular_simplex_is_even(classes: int) -> None:
    simplex = torch.eye(classes) - 1 / classes
    assert head_unevenness(simplex) == pytest.approx(0, abs=1e-10)
    scaled = simplex * torch.arange(1, classes + 1)[:, None]  # lengths do not matter
    assert head_unevenness(scaled) == pytest.approx(0, abs=1e-10)
    expected = (math.pi / 2 - math.acos(-1 / (classes - 1))) ** 2
    assert head_unevenness(torch.eye(classes)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_unevenness_is_that_of_a_double_loop() -> None:
    w = np.random.default_rng(0).normal(size=(6, 4))
    ideal = math.acos(-1 / 5)
    squares = [
        (math.acos(w[i] @ w[j] / np.linalg.norm(w[i]) / np.linalg.norm(w[j])) - ideal) ** 2
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    assert head_unevenness(w) == pytest.approx(np.mean(squares), rel=1e-12)


def test_hopkins_is_that_of_all_distances() -> None:
    x = np.random.default_rng(1).normal(size=(80, 3))
    generator = np.random.default_rng(5)
    places = generator.uniform(x.min(0), x.max(0), (4, 3))
    drawn = generator.choice(80, 4, replace=False)
    u = cdist(places, x).min(1).sum()
    to_others = cdist(x, x) + np.diag([np.inf] * 80)
    w = to_others[drawn].min(1).sum()
    assert hopkins_statistic(x, random_state=5) == pytest.approx(u / (u + w), rel=1e-9)


def test_hopkins_tells_clusters_from_even_rows() -> None:
    generator = np.random.default_rng(2)
    even = generator.uniform(size=(2000, 2))
    clusters = 9.0 * generator.integers(2, size=(2000, 2)) + 0.01 * generator.normal(size=(2000, 2))
    assert hopkins_statistic(even) == pytest.approx(0.5, abs=0.08)
    assert hopkins_statistic(clusters) > 0.95
    assert hopkins_statistic(np.ones((9, 2))) == 0.5
    assert hopkins_statistic(even[:2]) == hopkins_statistic(even[:2])


def test_the_transfer_score_is_the_sum_of_its_parts() -> None:
    torch.manual_seed(0)
    features, head = torch.randn(60, 8), torch.randn(5, 8)
    logits = features @ head.T
    expected = (
        hopkins_statistic(features, random_state=3)
        + information_maximisation(logits) / math.log(5)
        - head_unevenness(head)
    )
    assert transfer_score(logits, features, head, random_state=3) == pytest.approx(expected)


def test_bad_input_of_the_transfer_score_is_one_clear_error() -> None:
    z, x, w = torch.zeros(4, 3), torch.zeros(4, 2), torch.ones(3, 2)
    for wrong in ((z, x[1:], w), (z, x, w[1:]), (z, x, w[:, 1:])):
        with pytest.raises(ValueError, match="^logits .* and head_weights .* must fit"):
            transfer_score(*wrong)
    with pytest.raises(NonFiniteError, match="^features must be finite"):
        transfer_score(z, x * math.nan, w)
    with pytest.raises(ValueError, match="^head_weights must have two or more rows"):
        head_unevenness(w * torch.tensor([[1.0], [0.0], [1.0]]))
    with pytest.raises(ValueError, match="^features must have two or more rows; got 1$"):
        hopkins_statistic(torch.zeros(1, 2))
