"""What a choice costs. Oracles: regrets and ranks by hand, SciPy's Spearman, made-up ensembles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from da.records.reading import read_runs
from da.records.run import Run
from da.select.candidates import (
    Candidate,
    agreement,
    by_score,
    chosen_then_agreement,
    gated,
    groups,
    read_candidates,
    rules,
)
from da.select.study import by_chance, cost, costs

RIGHT = np.array([[9.0, 0.0], [0.0, 9.0]])
WRONG = RIGHT[::-1].copy()


def candidate(method: str, task: str, figure: float, score: float, **more) -> Candidate:
    scores = {"s": score, "source_risk": more.pop("risk", -0.1)}
    logits = more.pop("logits", RIGHT)
    return Candidate(method, task, 0, more.pop("usual", False), figure, scores, logits)


CANDIDATES = [
    candidate("a", "x>y", 50, 0.1, usual=True),
    candidate("a", "x>y", 70, 0.3),
    candidate("a", "x>y", 60, 0.2),
    candidate("b", "x>y", 90, 0.1, usual=True),
    candidate("b", "x>y", 40, 0.9),
    candidate("a", "x>z", 10, 0.5, usual=True),
    candidate("a", "x>z", 30, 0.4),
    candidate("b", "x>z", 20, 0.6, usual=True),
]


def test_regrets_of_the_three_choices_are_those_by_hand():
    rule, tasks = by_score("s"), ["x>y", "x>z"]
    trial = cost("s", rule, CANDIDATES, "trial", tasks)
    # a on x>y takes 70 of 70; b takes 40 of 90; a on x>z takes 10 of 30; b has one trial alone.
    assert trial.regret == pytest.approx((0 + 50 + 20) / 3) and trial.groups == 3
    assert (trial.worst, trial.worst_task) == (25.0, "x>y")
    assert trial.correlation == 1.0, "only a on x>y has three trials"
    method = cost("s", rule, CANDIDATES, "method", tasks)
    # Usual recipes: 50 and 90 with equal scores, the first is taken; 10 and 20, the second.
    assert method.regret == (40 + 0) / 2 and method.groups == 2 and np.isnan(method.correlation)
    both = cost("s", rule, CANDIDATES, "both", tasks)
    assert both.regret == (50 + 10) / 2
    on_y = spearmanr([0.1, 0.3, 0.2, 0.1, 0.9], [50, 70, 60, 90, 40]).statistic
    on_z = spearmanr([0.5, 0.4, 0.6], [10, 30, 20]).statistic
    assert both.correlation == pytest.approx((on_y + on_z) / 2)


def test_chance_is_the_mean_over_a_group():
    chance = by_chance(CANDIDATES, "both", ["x>y"])
    assert chance.regret == pytest.approx(90 - (50 + 70 + 60 + 90 + 40) / 5)
    found = costs({"s": by_score("s")}, CANDIDATES, ["x>y"])
    assert [each.rule for each in found] == ["s"] * 3 + ["any, by chance"] * 3


def test_other_tasks_do_not_count_and_no_task_is_an_error():
    assert cost("s", by_score("s"), CANDIDATES, "both", ["x>z"]).regret == 10
    with pytest.raises(ValueError, match="no task of q>r has two candidates"):
        cost("s", by_score("s"), CANDIDATES, "both", ["q>r"])
    with pytest.raises(ValueError, match="choice must be trial, method or both; got 'all'"):
        groups(CANDIDATES, "all")


def test_a_gate_takes_those_who_forgot_the_source_below_all_others():
    group = [candidate("a", "t", 1, 0.9, risk=-0.5), candidate("a", "t", 2, 0.2, risk=-0.1),
             candidate("a", "t", 3, 0.3, risk=-0.14)]  # fmt: skip
    assert int(np.argmax(by_score("s")(group))) == 0
    assert int(np.argmax(gated(by_score("s"))(group))) == 2


def test_an_ensemble_prefers_those_who_agree_and_can_judge_what_a_score_chose():
    group = [candidate("a", "t", 1, 0.9, logits=WRONG), candidate("a", "t", 2, 0.1),
             candidate("b", "t", 3, 0.5), candidate("c", "t", 4, 0.4)]  # fmt: skip
    assert agreement(group) == [0.0, 1.0, 1.0, 1.0]
    values = chosen_then_agreement(by_score("s"))(group)
    # Of a the score takes the first, which is wrong; it loses to b and c.
    assert values[2] == values[3] == 1.0 and values[0] == 0.0 and values[1] < 0
    assert chosen_then_agreement(by_score("s"))(group[:2]) == [0.9, 0.1]


def test_candidates_are_read_from_runs_and_the_usual_recipe_is_known(tmp_path: Path):
    for rate, accuracy in ((0.1, 0.5), (0.2, 0.75)):
        names = {"experiment": "toy", "method": "mmd", "source": "a", "target": "b", "seed": 0}
        run = Run.start(tmp_path, {"rate": rate, "row": {"name": "x"}}, **names, wandb="disabled",
                        defaults={"rate": 0.2}, usual={"row": {"name": "x"}})  # fmt: skip
        np.savez(run.directory / "predictions.npz", target_logits=RIGHT * rate)
        last = {"step": 1, "target_accuracy": accuracy, "information_maximisation": rate}
        run.finish({"selected": {"last": last}})
    found = sorted(read_candidates(read_runs(tmp_path)), key=lambda each: each.figure)
    assert [each.figure for each in found] == [50.0, 75.0]
    assert [each.usual for each in found] == [False, True]
    assert [each.scores for each in found] == [{"information_maximisation": x} for x in (0.1, 0.2)]
    assert {"information_maximisation", "ensemble_agreement"} <= set(rules(found))
    assert not any(name.startswith("gated") for name in rules(found)), "no source was held out"


def test_runs_without_predictions_are_told(tmp_path: Path):
    names = {"experiment": "toy", "method": "mmd", "source": "a", "target": "b", "seed": 0}
    Run.start(tmp_path, {}, **names, wandb="disabled").finish({"selected": {}})
    with pytest.raises(ValueError, match="kept no predictions"):
        read_candidates(read_runs(tmp_path))
