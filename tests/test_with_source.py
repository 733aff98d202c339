"""Scores from held-out source rows, the weights for them, and the gate.

Oracles: scikit-learn, NumPy's covariances, what pytorch-adapt returns on the arrays of
peer_values.json, normal distributions with a known density ratio.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from da.arrays.matrices import NonFiniteError
from da.select.gate import best_candidate, within_gate
from da.select.source_weights import density_ratio
from da.select.with_source import (
    deep_embedded_risk,
    importance_weighted_risk,
    source_accuracy,
    source_risk,
)

PEERS = json.loads((Path(__file__).parent / "peer_values.json").read_text())
LOGITS = torch.tensor(PEERS["inputs"]["logits_source"], dtype=torch.float64)  # (16, 5)
LABELS = torch.tensor(PEERS["inputs"]["source_labels"])
WEIGHTS = torch.linspace(0.2, 2.0, 16, dtype=torch.float64)
PROBABILITIES = LOGITS.softmax(1).numpy()
NUMBERS, ANSWERS = LOGITS[:, :1], LOGITS[:, 1]


def test_source_risk_and_accuracy_are_scikit_learns() -> None:
    loss = sklearn.metrics.log_loss(LABELS, PROBABILITIES, labels=range(5))
    assert source_risk(LOGITS, LABELS) == pytest.approx(-loss, rel=1e-12)
    right = sklearn.metrics.accuracy_score(LABELS, PROBABILITIES.argmax(1))
    assert source_accuracy(LOGITS, LABELS) == pytest.approx(right, rel=1e-12)
    squared = sklearn.metrics.mean_squared_error(ANSWERS, NUMBERS)
    assert source_risk(NUMBERS, ANSWERS) == pytest.approx(-squared, rel=1e-12)


def test_weighted_risk_is_scikit_learns() -> None:
    loss = sklearn.metrics.log_loss(LABELS, PROBABILITIES, labels=range(5), sample_weight=WEIGHTS)
    assert importance_weighted_risk(LOGITS, LABELS, WEIGHTS) == pytest.approx(-loss, rel=1e-12)
    squared = sklearn.metrics.mean_squared_error(ANSWERS, NUMBERS, sample_weight=WEIGHTS)
    found = importance_weighted_risk(NUMBERS, ANSWERS, WEIGHTS)
    assert found == pytest.approx(-squared, rel=1e-12)


def test_weights_that_are_counts_are_rows_that_are_repeated() -> None:
    counts = torch.arange(16) % 4
    rows = torch.arange(16).repeat_interleave(counts)
    repeated = source_risk(LOGITS[rows], LABELS[rows])
    assert importance_weighted_risk(LOGITS, LABELS, counts) == pytest.approx(repeated, rel=1e-12)
    assert importance_weighted_risk(LOGITS, LABELS, 3 * counts) == pytest.approx(repeated)


def test_deep_embedded_risk_is_pytorch_adapts() -> None:
    expected = -PEERS["values"]["pytorch_adapt.dev"]
    assert deep_embedded_risk(LOGITS, LABELS, WEIGHTS) == pytest.approx(expected, rel=1e-12)
    arrays = deep_embedded_risk(LOGITS.numpy(), LABELS.numpy(), WEIGHTS.numpy())
    assert arrays == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(2, 30), seed=st.integers(0, 1000))
def test_deep_embedded_risk_is_a_regression_on_the_weights_read_at_weight_one(
    n: int, seed: int
) -> None:
    """The least-squares line of w loss on w has the value of DEV at w = 1."""
    generator = np.random.default_rng(seed)
    predictions, answers = generator.normal(size=(n, 1)), generator.normal(size=n)
    w = generator.gamma(2, size=n)
    losses = np.square(predictions[:, 0] - answers)
    slope, intercept = np.polyfit(w, w * losses, 1)
    found = deep_embedded_risk(predictions, answers, w)
    assert found == pytest.approx(-(slope + intercept), rel=1e-6, abs=1e-6)


def test_deep_embedded_risk_with_equal_weights_is_the_weighted_mean() -> None:
    plain = source_risk(LOGITS, LABELS)
    assert deep_embedded_risk(LOGITS, LABELS, torch.ones(16)) == pytest.approx(plain, rel=1e-12)
    doubled = deep_embedded_risk(LOGITS, LABELS, torch.full((16,), 2.0))
    assert doubled == pytest.approx(2 * plain, rel=1e-12)


def test_deep_embedded_risk_fails_with_large_weights() -> None:
    """The limit that its docstring names: a loss that seems to be below 0."""
    predictions = torch.tensor([[1.0], [1.0], [1.0], [3.0]])
    found = deep_embedded_risk(predictions, torch.zeros(4), torch.tensor([3.0, 2.0, 3.0, 40.0]))
    assert found > 0 > source_risk(predictions, torch.zeros(4))


def test_density_ratio_of_two_normals() -> None:
    """N(0, 1) and N(1, 1): the ratio is exp(x - 1/2)."""
    generator = np.random.default_rng(0)
    source, target = generator.normal(size=(8000, 1)), 1 + generator.normal(size=(4000, 1))
    rows = np.linspace(-1, 2, 7)[:, None]
    found = density_ratio(source, target, rows)
    np.testing.assert_allclose(found, np.exp(rows[:, 0] - 0.5), rtol=0.15)
    as_tensor = density_ratio(*(torch.from_numpy(x).float() for x in (source, target, rows)))
    assert as_tensor.dtype == torch.float32
    np.testing.assert_allclose(as_tensor, found, rtol=1e-4)


def test_density_ratio_stays_finite_if_the_domains_are_apart() -> None:
    source, target = np.zeros((50, 2)), np.full((25, 2), 1e6)
    found = density_ratio(source, target, np.array([[0.0, 0.0], [1e9, 1e9]]))
    assert np.isfinite(found).all() and 0 < found[0] < 0.1 < 10 < found[1] <= 2e6


def test_weighted_risk_estimates_the_risk_on_the_target() -> None:
    """Under covariate shift it finds the better of two regressions on the target."""
    generator = np.random.default_rng(1)
    source, target = generator.normal(size=(4000, 1)), 1.5 + generator.normal(size=(4000, 1))
    near_source, near_target = 0.5 * source.clip(None, 0), source - 1
    answers = np.where(source[:, 0] < 0.5, 0.5 * source[:, 0].clip(None, 0), source[:, 0] - 1)
    w = density_ratio(source, target, source)
    assert source_risk(near_source, answers) > source_risk(near_target, answers)
    for risk in (importance_weighted_risk, deep_embedded_risk):
        assert risk(near_source, answers, w) < risk(near_target, answers, w)


# ---- errors

SCORES: dict[str, Callable[[Any, Any], float]] = {
    "source_risk": source_risk,
    "source_accuracy": source_accuracy,
    "importance_weighted_risk": lambda z, y: importance_weighted_risk(z, y, WEIGHTS[: len(z)]),
    "deep_embedded_risk": lambda z, y: deep_embedded_risk(z, y, WEIGHTS[: len(z)]),
}
TWO = torch.tensor([0, 1])


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    "logits, labels, error, message",
    [
        (torch.full((2, 3), math.nan), TWO, NonFiniteError, "^logits must be finite; row 0"),
        (torch.zeros(0, 3), TWO, ValueError, r"^logits must have shape \(n, d\)"),
        (torch.zeros(2), TWO, ValueError, r"^logits must have shape \(n, d\)"),
        (
            torch.zeros(2, 3),
            TWO[:1],
            ValueError,
            "^labels must hold one class .* 2; got 1",
        ),
        (torch.zeros(2, 2), TWO + 1, ValueError, "^labels must be 0 to 1, the columns .* got 2$"),
        (torch.zeros(2, 3), TWO - 1, ValueError, "^labels must be .* with classes from 0"),
    ],
    ids=["nan", "empty", "1-D", "count", "class", "negative"],
)
def test_bad_input_is_one_clear_error(
    score: str, logits: Tensor, labels: Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SCORES[score](logits, labels)


def test_other_bad_input_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match="if the labels are floats; got .*classes are integers"):
        source_risk(torch.zeros(2, 3), TWO.float())
    with pytest.raises(NonFiniteError, match="^labels must be finite"):
        source_risk(torch.zeros(2, 1), torch.tensor([0.0, math.inf]))
    for weights in (WEIGHTS[:3], -WEIGHTS, 0 * WEIGHTS, math.nan * WEIGHTS):
        for risk in (importance_weighted_risk, deep_embedded_risk):
            with pytest.raises(ValueError, match=r"^weights must be \(16,\), one for each row"):
                risk(LOGITS, LABELS, weights)
    with pytest.raises(ValueError, match="^logits must have two or more rows"):
        deep_embedded_risk(LOGITS[:1], LABELS[:1], WEIGHTS[:1])
    with pytest.raises(ValueError, match="^source and rows must have equal widths"):
        density_ratio(np.zeros((2, 3)), np.ones((2, 3)), np.zeros((2, 4)))
    with pytest.raises(NonFiniteError, match="^target must be finite"):
        density_ratio(np.zeros((2, 3)), np.full((2, 3), np.nan), np.zeros((2, 3)))


# ---- the gate


def test_the_gate_keeps_what_is_near_the_best_on_the_source() -> None:
    risks = {"a": -0.20, "b": -0.10, "c": -0.151, "d": -0.149}
    assert within_gate(risks) == ["b", "d"]
    assert within_gate(risks, tolerance=0) == ["b"]
    assert within_gate(risks, tolerance=1e6) == list(risks)
    scores = {"a": 4.0, "b": 1.0, "c": 3.0, "d": 2.0}
    assert best_candidate(scores) == "a"
    assert best_candidate(scores, risks) == "d"
    assert best_candidate(scores, risks, tolerance=0.06) == "c"


def test_of_equal_scores_the_first_is_chosen() -> None:
    assert best_candidate({2: 1.0, 1: 1.0}) == 2
    assert best_candidate({2: 0.0, 3: 1.0, 1: 1.0}, {1: -1.0, 2: -1.0, 3: -1.0}) == 3


@settings(deadline=None, max_examples=50)
@given(
    values=st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 0)), min_size=1, max_size=8),
    tolerance=st.floats(0, 2),
)
def test_no_candidate_within_the_gate_has_a_higher_score(
    values: list[tuple[float, float]], tolerance: float
) -> None:
    scores = {i: score for i, (score, _) in enumerate(values)}
    risks = {i: risk for i, (_, risk) in enumerate(values)}
    chosen = best_candidate(scores, risks, tolerance=tolerance)
    kept = within_gate(risks, tolerance=tolerance)
    assert chosen in kept and max(risks, key=risks.__getitem__) in kept
    assert all(scores[name] <= scores[chosen] for name in kept)


def test_a_gate_of_bad_input_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match="^scores must name at least one candidate; got none$"):
        best_candidate({})
    with pytest.raises(ValueError, match="^scores must be finite; got nan for 'a'$"):
        best_candidate({"a": math.nan})
    with pytest.raises(ValueError, match="must name the same candidates; only one of them has b$"):
        best_candidate({"a": 1.0}, {"a": -1.0, "b": -2.0})
    with pytest.raises(ValueError, match="^tolerance must be >= 0; got -1$"):
        within_gate({"a": -1.0}, tolerance=-1)
