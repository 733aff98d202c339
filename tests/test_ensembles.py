"""Agreement of candidates.

Oracles: made-up candidates with known answers, a double loop over candidates and rows, NumPy.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from da.arrays.matrices import NonFiniteError
from da.select.ensembles import ensemble_agreement, regression_agreement


def says(classes: str, certainty: float = 9.0) -> Tensor:
    """Logits of one certainty that name the classes of the digits."""
    return (
        certainty * torch.nn.functional.one_hot(torch.tensor([int(c) for c in classes]), 3).float()
    )


TRUTH = "0001112222"
# Each good candidate errs in another row; the broken ones name one class for everything.
CANDIDATES = {
    "a": says("1001112222"),
    "b": says("0201112222"),
    "c": says(TRUTH),
    "broken": says("0000000000", 4),
    "broken too": says("0000000000", 5),
}


def test_agreement_finds_the_candidate_that_is_right_everywhere() -> None:
    """Three of five outvote two broken ones, so the ensemble is the truth."""
    found = ensemble_agreement(CANDIDATES)
    assert found == {"a": 0.9, "b": 0.9, "c": 1.0, "broken": 0.3, "broken too": 0.3}


def test_the_agreeing_half_does_without_broken_candidates() -> None:
    """Four broken candidates agree on little, but outvote three good ones in row 3.

    The ensemble of all says 0000112222. The four that agree most with it are a, b, c and d, and
    their ensemble is the truth.
    """
    candidates = {
        "a": says("0001112022"),
        "b": says("0001112202"),
        "c": says(TRUTH),
        "d": says("1110000222"),
        "e": says("1110000220"),
        "f": says("2220221221"),
        "g": says("2220221221"),
    }
    found = ensemble_agreement(candidates)
    expected = {"a": 0.8, "b": 0.8, "c": 0.9, "d": 0.4, "e": 0.3, "f": 0.3, "g": 0.3}
    assert found == pytest.approx(expected)
    half = ensemble_agreement(candidates, members="agreeing half")
    expected = {"a": 0.9, "b": 0.9, "c": 1.0, "d": 0.3, "e": 0.2, "f": 0.2, "g": 0.2}
    assert half == pytest.approx(expected)


def test_a_certain_candidate_counts_more() -> None:
    found = ensemble_agreement({"sure": says("0", 5), "unsure": says("1", 1), "too": says("1", 1)})
    p = scipy.special.softmax([[5, 0, 0], [0, 1, 0], [0, 1, 0]], axis=1).mean(0)
    assert p.argmax() == 0 and found == {"sure": 1.0, "unsure": 0.0, "too": 0.0}


def test_candidates_that_agree_equally_are_all_in_the_half() -> None:
    """Three equal candidates of four: the half would be two of them, whichever."""
    same = {name: CANDIDATES["a"] for name in "xyz"}
    found = ensemble_agreement(same | {"last": says("2222222222")}, members="agreeing half")
    assert found == {"x": 1.0, "y": 1.0, "z": 1.0, "last": 0.4}


def test_one_candidate_agrees_with_itself() -> None:
    for members in ("all", "agreeing half"):
        assert ensemble_agreement(torch.randn(1, 5, 3), members=members) == {0: 1.0}


def _agreements(p: np.ndarray, members: list[int]) -> list[float]:
    """Row by row."""
    m, n, _ = p.shape
    scores = [0.0] * m
    for i in range(n):
        said = int(np.argmax(sum(p[k, i] for k in members)))
        for k in range(m):
            scores[k] += (int(np.argmax(p[k, i])) == said) / n
    return scores


@settings(deadline=None, max_examples=30)
@given(m=st.integers(1, 7), n=st.integers(1, 15), seed=st.integers(0, 1000))
def test_agreement_is_that_of_a_double_loop(m: int, n: int, seed: int) -> None:
    logits = 2 * torch.randn(m, n, 4, generator=torch.Generator().manual_seed(seed))
    p = scipy.special.softmax(logits.double().numpy(), axis=2)
    first = _agreements(p, list(range(m)))
    assert list(ensemble_agreement(logits).values()) == pytest.approx(first, abs=1e-9)
    least = sorted(first, reverse=True)[math.ceil(m / 2) - 1]
    half = _agreements(p, [k for k in range(m) if first[k] >= least - 1e-9])
    found = ensemble_agreement(logits.numpy(), members="agreeing half")
    assert list(found.values()) == pytest.approx(half, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(m=st.integers(1, 7), n=st.integers(1, 15), seed=st.integers(0, 1000))
def test_the_order_of_candidates_and_rows_does_not_matter(m: int, n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(m, n, 3, generator=generator, dtype=torch.float64)
    candidates, rows = (torch.randperm(k, generator=generator).tolist() for k in (m, n))
    for members in ("all", "agreeing half"):
        right = ensemble_agreement(logits, members=members)
        shuffled = {k: logits[k][rows] for k in candidates}
        found = ensemble_agreement(shuffled, members=members)
        assert list(found) == candidates and found == pytest.approx(right)
        assert all(0 <= value <= 1 for value in found.values())


# ---- regression


@settings(deadline=None, max_examples=30)
@given(m=st.integers(1, 7), n=st.integers(1, 15), seed=st.integers(0, 1000))
def test_regression_agreement_is_numpys(m: int, n: int, seed: int) -> None:
    z = np.random.default_rng(seed).normal(size=(m, n, 1))
    for centre, middle in {"median": np.median(z, axis=0), "mean": z.mean(axis=0)}.items():
        found = regression_agreement(torch.from_numpy(z), centre=centre)
        expected = [-np.mean((z[k] - middle) ** 2) for k in range(m)]
        assert list(found.values()) == pytest.approx(expected, rel=1e-9)


def test_a_broken_regression_does_not_move_the_median() -> None:
    good = {"a": torch.tensor([[1.0], [2.0]]), "b": torch.tensor([[1.2], [2.2]])}
    found = regression_agreement(good | {"broken": torch.tensor([[1e6], [-1e6]])})
    assert found["broken"] < -1e11 and found["a"] > -0.05 and found["b"] > -0.05


# ---- errors


@pytest.mark.parametrize("score", [ensemble_agreement, regression_agreement])
def test_bad_candidates_are_one_clear_error(score) -> None:  # type: ignore[no-untyped-def]
    columns = 3 if score is ensemble_agreement else 1
    good = torch.zeros(4, columns)
    with pytest.raises(ValueError, match="^candidates must hold at least one candidate; got none$"):
        score({})
    with pytest.raises(ValueError, match=r"^candidates must be a mapping .* got \(4, \d\)$"):
        score(good)
    with pytest.raises(
        ValueError, match=r"equal shapes; got \(4, \d\) for 'a' and \(3, \d\) for 'b'"
    ):
        score({"a": good, "b": good[1:]})
    with pytest.raises(NonFiniteError, match="^the logits of candidate 'b' must be finite"):
        score({"a": good, "b": good * math.nan})
    with pytest.raises(ValueError, match=r"^the logits of candidate 'a' must have shape \(n, d\)"):
        score({"a": good[:, 0]})
    with pytest.raises(ValueError, match=r"^the logits of candidate 0 must have shape \(n, d\)"):
        score(torch.zeros(2, 0, columns))


def test_bad_options_are_one_clear_error() -> None:
    with pytest.raises(ValueError, match="^members must be one of all, agreeing half; got 'half'$"):
        ensemble_agreement(torch.zeros(2, 3, 2), members="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^centre must be one of mean, median; got 'mode'$"):
        regression_agreement(torch.zeros(2, 3, 1), centre="mode")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 columns: for classes take ensemble_agreement"):
        regression_agreement(torch.zeros(2, 4, 3))


def test_regressions_whose_squares_overflow_are_refused() -> None:
    with pytest.raises(ValueError, match="candidates must have finite squares; got .* 1e\\+200"):
        regression_agreement(np.array([[[0.0]], [[1e200]]]))
