"""Several configurations of a method are its trials, at equal budgets.

Oracles: choices by hand and by brute force over random figures.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from trial_runs import early, trial

from da.records import commands
from da.records.budgets import Budget
from da.records.cells import Metric
from da.records.reading import read_runs
from da.records.table import Table
from da.records.table_text import to_markdown, to_text
from da.records.trials import chosen, named_parts, own_recipe, score_value, varying_settings

RATES = (0.1, 0.2, 0.4)


def write(root: Path) -> None:
    """Two methods, three rates, two seeds. The score `s` likes rate 0.2, the oracle another."""
    accuracies = {"none": (0.50, 0.60, 0.70), "mmd": (0.80, 0.90, 0.40)}
    for method, of_rates in accuracies.items():
        for seed in (0, 1):
            for rate, accuracy in zip(RATES, of_rates, strict=True):
                score = {0.1: 1.0, 0.2: 2.0, 0.4: 1.5}[rate]
                found = {"last": accuracy - 0.1, "s": (accuracy, score), "oracle": accuracy + 0.05}
                trial(root, method, seed, found, rate=rate)


def test_a_score_chooses_the_trial_and_the_step(tmp_path: Path) -> None:
    write(tmp_path)
    table = Table.of(read_runs(tmp_path), select="s", trials=True)
    assert table.values("none", "a>b") == {0: 60.0, 1: 60.0}
    assert table.values("mmd", "a>b") == {0: 90.0, 1: 90.0}


def test_last_takes_the_rows_own_recipe_and_says_so(tmp_path: Path) -> None:
    write(tmp_path)
    table = Table.of(read_runs(tmp_path), trials=True)
    assert table.values("none", "a>b") == pytest.approx({0: 40.0, 1: 40.0})
    said = "model selected by 'last', which takes each row's own recipe from 3 trials of 9 steps;"
    assert said in to_text(table).splitlines()[0]


def test_the_oracle_chooses_by_the_figure(tmp_path: Path) -> None:
    write(tmp_path)
    table = Table.of(read_runs(tmp_path), select="oracle", trials=True)
    assert table.values("none", "a>b") == pytest.approx({0: 75.0, 1: 75.0})
    assert table.values("mmd", "a>b") == pytest.approx({0: 95.0, 1: 95.0})


def test_the_oracle_of_an_error_takes_the_smallest(tmp_path: Path) -> None:
    for rate, error in ((0.1, 3.0), (0.2, 2.0), (0.4, 4.0)):
        found = {"last": error, "oracle": error}
        trial(tmp_path, "none", 0, found, rate=rate, metric="target_mae")
    records = read_runs(tmp_path)
    table = Table.of(records, select="oracle", metric="target_mae", trials=True)
    assert table.values("none", "a>b") == {0: 2.0}


def test_without_trials_several_configurations_are_an_error_that_names_the_flag(
    tmp_path: Path,
) -> None:
    write(tmp_path)
    with pytest.raises(ValueError, match="differ in rate.*by a score with --trials, keep one"):
        Table.of(read_runs(tmp_path))


def test_choice_is_brute_forces_over_random_figures(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    expected = {}
    for seed in range(3):
        for method in ("none", "mmd"):
            pairs = generator.uniform(0.2, 0.9, size=(4, 2))
            for rate, (accuracy, score) in zip((0.1, 0.2, 0.3, 0.4), pairs, strict=True):
                found = {"last": 0.1, "s": (accuracy, score), "oracle": 1.0}
                trial(tmp_path, method, seed, found, rate=rate)
            best = max(pairs.tolist(), key=lambda pair: pair[1])
            expected.setdefault(method, {})[seed] = 100 * best[0]
    table = Table.of(read_runs(tmp_path), select="s", trials=True)
    for method, values in expected.items():
        assert table.values(method, "a>b") == pytest.approx(values)


def test_a_trial_without_a_finite_score_is_chosen_last(tmp_path: Path) -> None:
    trial(tmp_path, "none", 0, {"last": 0.1, "s": (0.1, math.nan)})
    trial(tmp_path, "none", 0, {"last": 0.2, "s": (0.2, -5.0)}, rate=0.2)
    assert Table.of(read_runs(tmp_path), select="s", trials=True).mean("none", "a>b") == 20.0


def test_scores_of_early_records_stand_in_their_metrics(tmp_path: Path) -> None:
    early(tmp_path, "none", 0, 0.5, -1.25)
    (run,) = read_runs(tmp_path)
    assert score_value(run, "s") == -1.25


def test_trials_without_a_value_of_the_score_are_refused(tmp_path: Path) -> None:
    for rate in RATES:
        trial(tmp_path, "none", 0, {"last": 0.1, "s": 0.1}, rate=rate)
    with pytest.raises(ValueError, match="no value of 's' at the step it chose"):
        Table.of(read_runs(tmp_path), select="s", trials=True)
    with pytest.raises(ValueError, match="has no selection 't'; it has last, s"):
        Table.of(read_runs(tmp_path), select="t", trials=True)


def test_own_recipe_has_the_defaults_of_what_varies(tmp_path: Path) -> None:
    """The steps are not at their default in any trial, and do not count."""
    for changed in ({"rate": 0.2}, {"trade_off": 3.0}, {}, {"rate": 0.2, "trade_off": 3.0}):
        trial(tmp_path, "none", 0, {"last": 0.5}, steps=7, **changed)
    records = read_runs(tmp_path)
    own = own_recipe(records)
    assert own is not None and (own.config["rate"], own.config["trade_off"]) == (0.1, 1.0)
    assert varying_settings(records) == ("rate", "trade_off")
    changed = [run for run in records if run is not own]
    assert own_recipe(changed) is None
    assert chosen(changed, "last", Metric()) is None
    with pytest.raises(ValueError, match="no trial of none on a>b with seed 0 has the row's own"):
        Table.of(changed, trials=True)


def test_options_of_a_row_are_named_one_by_one(tmp_path: Path) -> None:
    for hidden in (16, 32):
        row = {"hidden": hidden, "margin": 1.0}
        trial(tmp_path, "mdd", 0, {"last": 0.5, "s": (0.5, hidden), "oracle": 0.6}, row=row)
    records = read_runs(tmp_path)
    assert named_parts(records, varying_settings(records)) == ("row.hidden",)
    text = to_text(Table.of(records, select="s", trials=True))
    assert "Trials differ in row.hidden." in text


def test_equal_configurations_are_refused(tmp_path: Path) -> None:
    """The number of threads is no part of a configuration."""
    for threads in (1, 2):
        early(tmp_path, "none", 0, 0.5, 1.0, threads=threads)
    with pytest.raises(ValueError, match="differ in nothing but their folders"):
        Table.of(read_runs(tmp_path), select="s", trials=True)


# ---- budgets


def test_unequal_steps_are_refused_and_shown_on_purpose(tmp_path: Path) -> None:
    trial(tmp_path, "none", 0, {"last": 0.5}, steps=20)
    trial(tmp_path, "mmd", 0, {"last": 0.9}, steps=60)
    records = read_runs(tmp_path)
    words = "on a>b mmd has 1 trial of 60 steps, none has 1 trial of 20 steps: .*--unequal-budgets"
    with pytest.raises(ValueError, match=words):
        Table.of(records)
    text = to_text(Table.of(records, unequal_budgets=True))
    assert "UNEQUAL BUDGETS: mmd 1 trial of 60 steps; none 1 trial of 20 steps." in text
    assert Table.of(records, methods=["mmd"]).rows == ("mmd",)


def test_unequal_numbers_of_trials_are_refused(tmp_path: Path) -> None:
    found = {"last": 0.5, "s": (0.5, 1.0), "oracle": 0.6}
    trial(tmp_path, "none", 0, found)
    for rate in (0.1, 0.2):
        trial(tmp_path, "mmd", 0, found, rate=rate)
    with pytest.raises(ValueError, match="mmd has 2 trials of 9 steps, none has 1 trial of 9"):
        Table.of(read_runs(tmp_path), select="s", trials=True)


def test_a_seed_with_fewer_trials_is_refused(tmp_path: Path) -> None:
    found = {"last": 0.5, "s": (0.5, 1.0), "oracle": 0.6}
    for seed, rate in ((0, 0.1), (0, 0.2), (1, 0.1)):
        trial(tmp_path, "none", seed, found, rate=rate)
    with pytest.raises(ValueError, match="seed 0 of none has 2 trials.*seed 1 of none has 1"):
        Table.of(read_runs(tmp_path), select="s", trials=True)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (Budget(8, (20,) * 8), Budget(1, ()), True),  # a model that is not tuned
        (Budget(8, (20,) * 8), Budget(2, ()), False),
        (Budget(8, (20,) * 8), Budget(8, ()), True),
        (Budget(8, ()), Budget(1, ()), False),
        (Budget(8, (20,) * 8), Budget(8, (20,) * 7 + (40,)), False),
    ],
)
def test_a_single_model_without_training_compares_with_any_number_of_trials(one, other, equal):
    assert one.equals(other) == other.equals(one) == equal


def test_trials_of_unequal_steps_are_one_budget_if_all_rows_have_it(tmp_path: Path) -> None:
    for method in ("none", "mmd"):
        for steps in (9, 3):
            found = {"last": 0.5, "s": (0.5, float(steps)), "oracle": 0.6}
            trial(tmp_path, method, 0, found, steps=steps)
    text = to_text(Table.of(read_runs(tmp_path), select="s", trials=True))
    assert "trial and step chosen by 's' from 2 trials of 3 to 9 steps;" in text.splitlines()[0]
    assert "UNEQUAL" not in text


def test_rows_without_steps_compare_with_those_that_have_some(tmp_path: Path) -> None:
    trial(tmp_path, "none", 0, {"last": 0.5})
    trial(tmp_path, "tca", 0, {"last": 0.6}, steps=None)
    assert set(Table.of(read_runs(tmp_path)).rows) == {"none", "tca"}
    trial(tmp_path, "mmd", 0, {"last": 0.5}, steps=60)
    with pytest.raises(ValueError, match="1 trial of 9 steps"):
        Table.of(read_runs(tmp_path))


def test_tasks_may_differ_in_their_steps_and_the_footer_says_so(tmp_path: Path) -> None:
    for task, steps in (("a>b", 9), ("c>d", 20)):
        for method in ("none", "mmd"):
            trial(tmp_path, method, 0, {"last": 0.5}, task=task, steps=steps)
    text = to_text(Table.of(read_runs(tmp_path)))
    assert "Tasks of a row differ in steps: averages mix them." in text


def test_trials_that_differ_between_seeds_are_said_to_be_mixed(tmp_path: Path) -> None:
    for seed, liked in ((0, 0.1), (1, 0.2)):
        for rate in (0.1, 0.2):
            found = {"last": 0.5, "s": (0.5, float(rate == liked)), "oracle": 0.6}
            trial(tmp_path, "none", seed, found, rate=rate)
    text = to_markdown(Table.of(read_runs(tmp_path), select="s", trials=True))
    said = "Those taken for a row differ between tasks or seeds: means mix recipes."
    assert f"Trials differ in rate. {said}" in text
    last = to_markdown(Table.of(read_runs(tmp_path), trials=True))
    assert "Trials differ in rate." in last and said not in last


def test_the_command_has_both_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    trial(tmp_path, "coral", 0, {"last": 0.1, "s": (0.1, 1.0), "oracle": 0.1}, steps=60)
    words = [str(tmp_path), "--trials", "--select", "s"]
    with pytest.raises(ValueError, match="--unequal-budgets"):
        commands.table(words)
    commands.table([*words, "--unequal-budgets"])
    assert "coral 1 trial of 60 steps; mmd 3 trials of 9 steps" in capsys.readouterr().out
