"""Corrections of a trained network's answers.

Oracles: the formulas as loops in float64, a fixed point, Bayes' rule, scikit-learn's neighbours.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from da.instance import mlls
from da.model import lame, prior_correction, t3a


def drawn(n: int, seed: int = 0, d: int = 4, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), 2 * rng.standard_normal((n, k))


def lame_by_hand(z, logits, neighbours, factor, rounds):
    """One row, one neighbour and one class at a time."""
    z, p = normalize(z), softmax(logits, axis=1)
    nearest = NearestNeighbors(n_neighbors=neighbours + 1).fit(z).kneighbors(z)[1][:, 1:]
    answers = softmax(np.log(p + 1e-10), axis=1)
    for _ in range(rounds):
        new = np.empty_like(answers)
        for i in range(len(z)):
            pulls = [sum(answers[j, c] for j in nearest[i]) for c in range(p.shape[1])]
            sums = [(p[i, c] + 1e-10) * math.exp(factor * pulls[c]) for c in range(p.shape[1])]
            new[i] = [s / sum(sums) for s in sums]
        answers = new
    return answers


@pytest.mark.parametrize(("neighbours", "factor", "rounds"), [(1, 1.0, 1), (3, 0.5, 2), (5, 2, 4)])
def test_lame_is_its_formula(neighbours: int, factor: float, rounds: int):
    z, logits = drawn(20)
    expected = lame_by_hand(z, logits, neighbours, factor, rounds)
    found = lame(z, logits, neighbours=neighbours, factor=factor, n_iter=rounds, tolerance=0)
    np.testing.assert_allclose(softmax(found, axis=1), expected, rtol=1e-9)


@settings(max_examples=8, deadline=None)
@given(n=st.integers(2, 12), seed=st.integers(0, 99), factor=st.floats(0, 3))
def test_lame_is_its_formula_after_many_rounds(n: int, seed: int, factor: float):
    z, logits = drawn(n, seed)
    found = softmax(lame(z, logits, factor=factor, n_iter=200, tolerance=0), axis=1)
    again = lame_by_hand(z, logits, min(5, n - 1), factor, 200)
    np.testing.assert_allclose(found, again, atol=1e-9)


def test_lame_without_neighbours_weight_changes_nothing():
    z, logits = drawn(9)
    np.testing.assert_allclose(lame(z, logits, factor=0.0), log_softmax(logits, axis=1), atol=1e-8)


def test_lame_mends_rows_among_their_like():
    """Two groups; a fifth of the answers is wrong, each unsure."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 100)
    z = np.eye(2)[y] + 0.1 * rng.standard_normal((200, 2))
    logits = 3.0 * np.eye(2)[y]
    wrong = rng.permutation(200)[:40]
    logits[wrong] = 0.5 * np.eye(2)[1 - y[wrong]]
    assert (logits.argmax(1) == y).mean() == 0.8
    assert (lame(z, logits).argmax(1) == y).all()


def t3a_by_hand(z, logits, weight, bias, keep):
    support = [(w, weight @ w + bias) for w in weight] + list(zip(z, logits, strict=True))
    prototypes = []
    for k in range(len(weight)):
        own = []
        for s, answers in support:
            if answers.argmax() == k:
                p = softmax(answers)
                own.append((-(p * np.log(p)).sum(), tuple(s / np.linalg.norm(s))))
        total = np.sum([s for _, s in sorted(own, key=lambda each: each[0])[:keep]], axis=0)
        prototypes.append(total / np.linalg.norm(total))
    return z @ np.array(prototypes).T


@pytest.mark.parametrize("keep", [1, 4, None])
def test_t3a_is_its_formula(keep: int | None):
    rng = np.random.default_rng(1)
    z, weight, bias = rng.standard_normal((30, 4)), 2 * np.eye(3, 4), 0.1 * rng.standard_normal(3)
    logits = z @ weight.T + bias
    found = t3a(z, logits, weight=weight, bias=bias, per_class=keep)
    np.testing.assert_allclose(found, t3a_by_hand(z, logits, weight, bias, keep), rtol=1e-9)


def test_a_class_that_nothing_is_predicted_to_be_keeps_its_weight():
    weight = np.array([[1.0, 0.0], [0.5, 0.0]])  # the first class always wins
    z = np.array([[1.0, 1.0], [2.0, -1.0]])
    found = t3a(z, z @ weight.T, weight=weight)
    np.testing.assert_allclose(found[:, 1], z[:, 0])


def test_prior_correction_is_bayes_rule():
    """Two normal distributions, whose shares change from 1/2, 1/2 to 9/10, 1/10."""
    x = np.linspace(-3, 3, 7)
    densities = np.exp(-0.5 * (x[:, None] - np.array([-1.0, 1.0])) ** 2)
    before, after = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    posterior = densities * after / (densities @ after)[:, None]
    logits = np.log(densities * before)
    found = prior_correction(None, logits, source_shares=before, target_shares=after)
    np.testing.assert_allclose(softmax(found, axis=1), posterior, rtol=1e-12)
    assert torch.equal(
        prior_correction(
            None, torch.zeros(2, 2), source_shares=torch.tensor(before), target_shares=before
        ),
        torch.zeros(2, 2),
    )


def test_estimated_shares_go_in():
    labels, sure = np.array([0, 0, 1, 1]), np.log(np.eye(2)[[0, 0, 0, 1]] * 0.98 + 0.01)
    p = np.bincount(labels) / 4
    q = mlls(labels, softmax(sure, axis=1)) * p
    found = prior_correction(None, sure, source_shares=p, target_shares=q)
    np.testing.assert_allclose(found - sure, np.log(q / p)[None].repeat(4, 0))
    assert q[0] > 0.7


@pytest.mark.parametrize("correct", [lame, lambda z, p: t3a(z, p, weight=torch.ones(3, 4))])
def test_the_order_of_the_rows_does_not_matter_and_the_kind_is_kept(correct):
    z, logits = (torch.tensor(each, dtype=torch.float32) for each in drawn(12))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    found = correct(z, logits)
    torch.testing.assert_close(correct(z[order], logits[order]), found[order])
    assert found.dtype == torch.float32 and found.shape == (12, 3) and not found.requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, p: lame(z, p[:-1]), "must have the same rows, two or more; got 6 and 5"),
        (lambda z, p: lame(z[:1], p[:1]), "two or more; got 1 and 1"),
        (lambda z, p: lame(z, p, neighbours=0), "neighbours must be"),
        (lambda z, p: lame(z, p, factor=-1), "factor must be a number >= 0; got -1"),
        (lambda z, p: lame(z, p, factor=math.nan), "factor must be a number >= 0; got nan"),
        (lambda z, p: t3a(z, p, weight=np.ones((2, 4))), "weight must have a row for each of 3"),
        (lambda z, p: t3a(z, p, weight=np.ones((3, 5))), "must have equal widths"),
        (lambda z, p: t3a(z, p, weight=np.ones((3, 4)), bias=np.ones(2)), r"bias must be \(3,\)"),
        (lambda z, p: t3a(z, p, weight=np.ones((3, 4)), per_class=0), "per_class must be"),
        (
            lambda z, p: prior_correction(
                z, p, source_shares=np.full(3, 1 / 3), target_shares=np.array([1.0, 0.0, 0.0])
            ),
            r"target_shares must be \(3,\), one a class, > 0 and of sum 1",
        ),
    ],
)
def test_what_is_refused(call, message: str):
    with pytest.raises(ValueError, match=message):
        call(*drawn(6))
