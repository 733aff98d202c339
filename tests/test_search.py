"""Trials drawn from search spaces. Oracles: SciPy's Halton sequence, counts, bounds by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from da.recipes.generalisation import ROWS_OF_THREE
from da.recipes.head_rows import HEAD_METHODS
from da.recipes.methods import METHODS
from da.recipes.rows import options_of, search_space
from da.recipes.trials import SETTINGS
from da.select.search import draw_trials
from da.train.search_space import Factor

SPACE = {"trade_off": Factor(0.1, 10.0), "batch_statistics": ("joint", "domain")}
USUAL = {"trade_off": 0.5, "batch_statistics": "joint"}


def test_the_draws_are_the_points_of_a_scrambled_halton_sequence():
    points = qmc.Halton(2, scramble=True, seed=3).random(5)
    expected = [
        {"trade_off": float(f"{0.5 * 10 ** (2 * a - 1):.6g}"),
         "batch_statistics": ("joint", "domain")[int(b >= 0.5)]}
        for a, b in points
    ]  # fmt: skip
    found = draw_trials(SPACE, USUAL, trials=6, seed=3)
    assert found[0] == {}
    for recipe, wanted in zip(found[1:], expected, strict=True):
        assert recipe["batch_statistics"] == wanted["batch_statistics"]
        assert math.isclose(recipe["trade_off"], wanted["trade_off"], rel_tol=2e-6)


@given(st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_recipes_are_distinct_in_range_and_a_longer_search_begins_as_a_shorter_one(trials, seed):
    found = draw_trials(SPACE, USUAL, trials=trials, seed=seed)
    assert len(found) == trials and found[0] == {}
    assert len({tuple(recipe.items()) for recipe in found}) == trials
    assert all(0.05 <= recipe["trade_off"] <= 5 for recipe in found[1:])
    assert draw_trials(SPACE, USUAL, trials=trials + 1, seed=seed)[:-1] == found


def test_choices_share_the_draws_and_factors_are_even_on_a_logarithmic_scale():
    found = draw_trials(SPACE, USUAL, trials=401)[1:]
    joint = sum(recipe["batch_statistics"] == "joint" for recipe in found)
    assert abs(joint - 200) <= 5
    logs = np.log10([recipe["trade_off"] / 0.5 for recipe in found])
    counts, _ = np.histogram(logs, bins=8, range=(-1, 1))
    assert np.abs(counts - 50).max() <= 4


def test_a_space_of_few_recipes_ends_with_a_word():
    space = {"hidden": ((), (1024,)), "batch_statistics": ("joint", "domain")}
    usual = {"hidden": (1024,), "batch_statistics": "joint"}
    assert len(draw_trials(space, usual, trials=4)) == 4
    with pytest.raises(
        ValueError, match="trials must be at most 4, for the space of hidden, batch"
    ):
        draw_trials(space, usual, trials=5)
    with pytest.raises(ValueError, match="trials must be at most 1, for the space of no option"):
        draw_trials({}, {}, trials=2)


@pytest.mark.parametrize(
    ("space", "usual", "trials", "message"),
    [
        (SPACE, USUAL, 0, "trials must be"),
        (SPACE, USUAL, 2.5, "trials must be"),
        (SPACE, {"trade_off": 1.0}, 2, "got none of batch_statistics, but of trade_off"),
        (SPACE, USUAL | {"trade_off": 0.0}, 2, "trade_off must not be 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(space, usual, trials, message):
    with pytest.raises(ValueError, match=message):
        draw_trials(space, usual, trials=trials)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1, 1), (2, 1), (1, math.inf), (math.nan, 1)])
def test_a_factor_needs_two_positive_numbers_in_order(low, high):
    with pytest.raises(ValueError, match="0 < low < high|must be a finite number"):
        Factor(low, high)


@pytest.mark.parametrize("rows", [METHODS, HEAD_METHODS, ROWS_OF_THREE])
def test_every_row_has_eight_recipes_over_options_that_it_has(rows):
    for make in rows.values():
        _has_eight_recipes(make)


def _has_eight_recipes(make):
    own, space = options_of(make), search_space(make)
    assert set(space) <= {*own, *SETTINGS}
    usual = {"learning_rate": 0.003, "weight_decay": 5e-4, **own}
    assert len(draw_trials(space, usual, trials=8)) == 8
