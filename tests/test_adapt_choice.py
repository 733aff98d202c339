"""The choice among candidates of one's own data, and what is estimated of the chosen one.

Oracles: candidates whose accuracy is made, counts by hand, and a double loop.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from torch import nn

from da.adapt.choice import absent_classes, choose, gain_over
from da.adapt.chosen import KEPT, judges_of
from da.adapt.estimate import (
    Earlier,
    earlier_models,
    error_factor,
    estimate_accuracy,
    least_error,
)
from da.adapt.fitted import Fitted
from da.adapt.problem import make_problem
from da.adapt.shift_check import Shift, check_shift
from problems import ROOT

SHIFTED, SAME = Shift(0.002, True, 1.9, (300, 300)), Shift(0.6, False, 0.0, (300, 300))
Y = np.random.default_rng(9).integers(0, 4, 400)  # classes of the target, which no rule sees


def candidate(
    row: str, right: float, *, trial: int = 0, seed: int = 0, risk_right: float = 0.95
) -> Fitted:
    """A candidate that is right on a share of target rows, with the certainty of that share."""
    generator = np.random.default_rng(seed)

    def logits(y: np.ndarray, share: float) -> np.ndarray:
        wrong = (y + generator.integers(1, 4, len(y))) % 4
        named = np.where(generator.random(len(y)) < share, y, wrong)
        sure = math.log(3 * share / (1 - share))
        return (sure * np.eye(4)[named]).astype(np.float32)

    held_y = np.arange(200) % 4
    held = logits(held_y, risk_right)
    return Fitted(row, trial, {}, held, held_y, logits(Y, right), nn.Identity(), 1.0, 0.0, {})


def candidates(*shares: float) -> list[Fitted]:
    """The source's own model with the first share, and other rows with the others."""
    rows = [KEPT, "coral", "mmd", "mcc", "dann", "jda"]
    return [candidate(rows[i], share, seed=i) for i, share in enumerate(shares)]


def test_the_best_row_is_taken_if_it_is_much_better() -> None:
    choice = choose(candidates(0.6, 0.7, 0.95, 0.75, 0.8), SHIFTED, Y)
    assert choice.model.row == "mmd" and not choice.keep
    assert choice.gain[0] > 3 * choice.gain[1] > 0


def test_without_a_shift_the_source_model_is_kept_however_good_a_row_looks() -> None:
    choice = choose(candidates(0.6, 0.7, 0.95, 0.75), SAME, Y)
    assert choice.keep and choice.model.row == KEPT and choice.proposed.row == "mmd"
    assert "nothing to adapt to" in " ".join(choice.reasons)


def test_the_source_model_is_kept_if_it_is_the_best() -> None:
    choice = choose(candidates(0.95, 0.6, 0.7, 0.65), SHIFTED, Y)
    assert choice.keep and choice.model.row == KEPT


def test_a_row_that_names_one_class_is_not_taken() -> None:
    found = candidates(0.8, 0.8, 0.8, 0.8)
    collapsed = np.tile(np.float32([9, 0, 0, 0]), (len(Y), 1))
    broken = Fitted(
        "jda", 0, {}, found[0].held, found[0].held_y, collapsed, nn.Identity(), 1.0, 0.0, {}
    )
    assert choose([*found, broken], SHIFTED, Y).proposed.row != "jda"


def test_a_trial_that_has_forgotten_the_source_does_not_stand_for_its_row() -> None:
    good = candidate("mmd", 0.7, trial=0, seed=1)
    forgot = candidate("mmd", 0.99, trial=1, seed=2, risk_right=0.3)
    choice = choose([*candidates(0.7, 0.7), good, forgot], SHIFTED, Y)
    assert [one.trial for one in choice.stands if one.row == "mmd"] == [0]
    assert not choice.scores["mmd/1"].passes


def test_the_gain_is_that_of_a_double_loop() -> None:
    first, second, *judges = candidates(0.6, 0.8, 0.7, 0.75)
    differences = []
    for i in range(len(Y)):
        total = 0.0
        for judge in judges:
            p = np.exp(judge.target[i]) / np.exp(judge.target[i]).sum()
            total += p[second.target[i].argmax()] - p[first.target[i].argmax()]
        differences.append(total / len(judges))
    mean, error = gain_over(second, first, [first, second, *judges])
    assert mean == pytest.approx(np.mean(differences), abs=1e-6)
    assert error == pytest.approx(np.std(differences) / np.sqrt(len(Y)), rel=1e-4)


def test_copies_of_the_source_model_do_not_judge() -> None:
    """Three class-blind rows repeat the own model's answers; three others know better."""
    own = candidate(KEPT, 0.7, seed=0)
    blind = [replace(own, row=row) for row in ("centring", "standardising", "adabn")]
    better = [candidate(row, 0.8, seed=i) for i, row in enumerate(("mcc", "mmd", "dann"), 1)]
    choice = choose([own, *blind, *better], SHIFTED, Y)
    asked = [one for one in better if one.row != choice.proposed.row]
    assert choice.gain == gain_over(choice.proposed, own, asked)
    assert [one.row for one in choice.judges] == [one.row for one in asked]
    assert judges_of([own, *blind], (KEPT,)) == blind  # no others are there


def test_without_the_source_model_there_is_no_choice() -> None:
    with pytest.raises(ValueError, match="source_only"):
        choose(candidates(0.6, 0.7)[1:], SHIFTED, Y)


def numbers(row: str, offset: float, noise: float, *, seed: int = 0) -> Fitted:
    generator = np.random.default_rng(seed)
    held_y = generator.normal(size=100)
    held = (held_y + 0.1 * generator.normal(size=100))[:, None].astype(np.float32)
    answers = generator.normal(size=150) + offset + noise * generator.normal(size=150)
    target = answers[:, None].astype(np.float32)
    return Fitted(row, 0, {}, held, held_y, target, nn.Identity(), 1.0, 0.0, {})


def test_a_regression_takes_the_simplest_row_with_plausible_numbers() -> None:
    y = np.random.default_rng(5).normal(size=150)
    rows = [numbers(KEPT, 4, 0), numbers("coral", 0, 0, seed=1), numbers("centring", 0, 0, seed=2)]
    assert choose(rows, SHIFTED, y).model.row == "centring"
    assert choose([rows[0], numbers("coral", 4, 0, seed=3)], SHIFTED, y).keep
    assert choose([numbers(KEPT, 0, 0), *rows[1:]], SHIFTED, y).keep


def test_the_least_error_adds_what_is_known() -> None:
    one, other = numbers(KEPT, 0, 0), numbers("coral", 1, 0, seed=1)
    y = np.random.default_rng(5).normal(size=150)
    source = float(np.square(one.held[:, 0] - one.held_y).mean())
    apart = float(np.square((one.target - other.target) / 2).mean())
    whole, part = least_error(one, [other], y)
    assert part == pytest.approx(math.sqrt(source))
    assert whole == pytest.approx(math.sqrt(source + apart + y.var() * 2 / 150), rel=1e-6)


@pytest.mark.parametrize("share", [0.6, 0.8, 0.95])
def test_the_estimate_is_the_agreement_and_its_interval_holds_the_truth(share: float) -> None:
    """Independent errors among four classes: two models agree in share^2 + (1 - share)^2 / 3."""
    model = candidate("mmd", share)
    others = [candidate("coral", share, seed=i) for i in (1, 2, 3)]
    truth = float((model.target.argmax(1) == Y).mean())
    found = estimate_accuracy(model, others)
    assert abs(found.accuracy - share**2 - (1 - share) ** 2 / 3) < 0.06
    assert found.low <= truth <= found.high


def test_equal_samples_are_not_shifted_and_moved_ones_are() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    y = np.arange(100) % 2
    same = check_shift(make_problem(rows[:100], y, rows[100:], classes=2))
    moved = check_shift(make_problem(rows[:100], y, rows[100:] + 1, classes=2))
    assert not same.shifted and moved.shifted and moved.distance > same.distance


def test_rows_that_fail_on_the_source_have_no_vote() -> None:
    broken = [candidate(row, 0.3, seed=7, risk_right=0.3) for row in ("coral", "monge", "jda")]
    choice = choose([*candidates(0.6), candidate("mcc", 0.9, seed=3), *broken], SHIFTED, Y)
    assert {one.row for one in choice.stands} == {KEPT, "mcc"}
    assert choice.scores["coral/0"].source_risk < choice.scores["mcc/0"].source_risk


def without_a_class(row: str, right: float, spread: float, seed: int) -> Fitted:
    """A candidate for a target of classes 0, 1 and 2 alone, where a share of rows is named 3."""
    generator = np.random.default_rng(seed)
    truth = Y % 3
    wrong = (truth + generator.integers(1, 3, len(truth))) % 3
    named = np.where(generator.random(len(truth)) < right, truth, wrong)
    named = np.where(generator.random(len(truth)) < spread, 3, named)
    like = candidate(row, 0.9, seed=seed)
    logits = (4 * np.eye(4)[named]).astype(np.float32)
    return Fitted(row, 0, {}, like.held, like.held_y, logits, nn.Identity(), 1.0, 0.0, {})


def test_if_the_target_lacks_a_class_only_class_blind_rows_are_taken() -> None:
    """Four of six rows give a quarter of the target to the class that is not there, and agree."""
    aware = [without_a_class(row, 0.95, 0.25, 1) for row in ("mcc", "dsan", "transport", "jda")]
    rows = [without_a_class(KEPT, 0.6, 0.0, 2), without_a_class("centring", 0.9, 0.0, 3), *aware]
    choice = choose(rows, SHIFTED, Y)
    assert choice.absent == (3,) and choice.model.row == "centring"
    assert "seems to lack a class" in choice.reasons[0]
    unknown = choose(rows, SHIFTED, Y % 3)  # the source lacks the class too: nothing is absent
    assert unknown.absent == () and unknown.proposed.row == "mcc"


@pytest.mark.parametrize(
    "named, source, absent",
    [
        ([5, 5, 0], [4, 4, 2], (2,)),
        ([9, 9, 2], [4, 4, 2], ()),  # half as often is not absent
        ([50, 49, 1], [40, 40, 20], (2,)),
        ([50, 50, 0], [48, 49, 3], ()),  # 3 % of the source may be missed by mistake
        ([5, 5, 0], [5, 5, 0], ()),  # the source lacks it too
    ],
)
def test_absent_classes_by_hand(named: list[int], source: list[int], absent: tuple) -> None:
    logits = np.eye(3)[np.repeat(np.arange(3), named)]
    assert absent_classes([logits], np.repeat(np.arange(3), source)) == absent


def test_one_class_blind_row_that_names_a_class_is_enough() -> None:
    y = np.repeat([0, 1, 2], 10)
    assert absent_classes([np.eye(3)[y % 2], np.eye(3)[y]], y) == ()


def test_a_regression_keeps_its_model_only_if_it_looks_as_well_as_centred_domains() -> None:
    """The source's own answers lie 0.15 deviations too high, which 60 rows do not disprove."""
    y = np.sort(np.random.default_rng(5).normal(size=60))
    own, moved = numbers(KEPT, 0, 0), numbers("centring", 0, 0, seed=2)
    exact = Fitted(**{**vars(moved), "target": y[:, None].astype(np.float32)})
    near = Fitted(**{**vars(own), "target": (y[:, None] + 0.15).astype(np.float32)})
    choice = choose([near, exact], SHIFTED, y)
    assert choice.scores[f"{KEPT}/0"].plausible > 0.05 and choice.model.row == "centring"
    level = Fitted(**{**vars(own), "target": y[:, None].astype(np.float32)})
    assert choose([level, exact], SHIFTED, y).keep


def test_the_factor_is_the_one_of_a_loop_over_all_candidates() -> None:
    """Brute force: of all factors that are reached exactly, the least that holds the share."""
    generator = np.random.default_rng(0)
    task = np.repeat(["a", "b", "c"], [20, 5, 10])
    estimate, accuracy = generator.uniform(0.3, 1, 35), generator.uniform(0.3, 1, 35)
    earlier = Earlier(task, estimate, accuracy, "")
    reached = np.abs(accuracy - estimate) / (1.02 - estimate)
    for level in (0.5, 0.8, 0.9, 1.0):
        shares = {
            q: np.mean([np.mean(reached[task == name] <= q) for name in "abc"]) for q in reached
        }
        least = min(q for q, share in shares.items() if share >= level - 1e-9)
        assert error_factor(earlier, level=level) == pytest.approx(least)


def test_intervals_hold_earlier_tasks_that_are_left_out() -> None:
    """The package's own estimates, from the records that they are made of."""
    earlier, held = earlier_models(), []
    for name in np.unique(earlier.task):
        mine = earlier.task == name
        rest = Earlier(*(part[~mine] for part in earlier[:3]), "")
        reach = error_factor(rest) * (1 - earlier.estimate + 0.02)
        held += (np.abs(earlier.accuracy - earlier.estimate) <= reach)[mine].tolist()
    assert len(np.unique(earlier.task)) == 23 and 0.85 <= np.mean(held) <= 0.95


def test_earlier_estimates_are_those_of_the_records() -> None:
    """Read by pandas."""
    earlier, parts = earlier_models(), []
    for name in ("digits", "office31", "office_caltech"):
        table = pd.read_csv(ROOT / f"experiments/records/accuracy_study_{name}.csv")
        parts.append(table[(table["estimator"] == "members") & (table["seed"] == 0)])
    every = pd.concat(parts)
    np.testing.assert_allclose(earlier.estimate, every["estimate"], atol=1e-4)
    np.testing.assert_allclose(earlier.accuracy, every["accuracy"], atol=1e-4)
    assert [name.split()[1] for name in earlier.task] == every["task"].tolist()


def test_a_model_that_nobody_agrees_with_has_a_wide_interval() -> None:
    sure, doubtful = (
        estimate_accuracy(
            candidate("mmd", 0.95), [candidate("coral", share, seed=i) for i in (1, 2, 3)]
        )
        for share in (0.95, 0.5)
    )
    assert sure.high - sure.low < 0.5 * (doubtful.high - doubtful.low)
    alone = estimate_accuracy(candidate("mmd", 0.95), [])
    assert not alone.reliable and (alone.low, alone.high) == (0.0, 1.0)
