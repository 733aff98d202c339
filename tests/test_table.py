"""Tables from records.

Oracles: NumPy and SciPy (the paired interval of ttest_rel), numbers and folders made by hand, and a
real command.
"""

from __future__ import annotations

import csv
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel
from stored_runs import store

from da.records import commands
from da.records.commands import matching
from da.records.difference import paired_difference
from da.records.reading import read_runs as load
from da.records.run import Run
from da.records.table import AVERAGE, Table
from da.records.table_text import to_csv, to_markdown, to_text

NONE = {"amazon>webcam": [0.60, 0.62, 0.61], "webcam>dslr": [0.90, 0.93, 0.95]}
MMD = {"amazon>webcam": [0.70, 0.75, 0.71], "webcam>dslr": [0.89, 0.90, 0.935]}
METHODS = {"none": NONE, "mmd": MMD}


def write(
    root: Path,
    method: str,
    task: str,
    seed: int,
    accuracy: Any,
    *,
    experiment: str = "toy",
    others: dict[str, float] | None = None,
    env: dict[str, Any] | None = None,
    **config,
) -> Path:
    """The folder of a finished run; `others` are figures beside the accuracy."""
    source, target = task.split(">")
    names = {
        "experiment": experiment,
        "method": method,
        "source": source,
        "target": target,
        "seed": seed,
    }
    figures = ({} if accuracy is None else {"target_accuracy": accuracy}) | (others or {})
    selected = {"last": {"step": 9, **figures}, "oracle": {"step": 5, "target_accuracy": 1.0}}
    return store(root, names, {"steps": 9, "seed": seed, **config}, {"selected": selected}, env=env)


def write_all(root: Path, methods: dict[str, dict[str, list[float]]] = METHODS, **words) -> Path:
    for method, tasks in methods.items():
        for task, accuracies in tasks.items():
            for seed, accuracy in enumerate(accuracies):
                write(root, method, task, seed, accuracy, **words)
    return root


def test_means_and_deviations_are_numpys(tmp_path):
    table = Table.of(load(write_all(tmp_path)))
    assert table.experiment == "toy" and table.rows == ("none", "mmd") and table.seeds == (0, 1, 2)
    assert table.tasks == ("amazon>webcam", "webcam>dslr")
    for method, tasks in METHODS.items():
        for task, accuracies in tasks.items():
            assert table.mean(method, task) == pytest.approx(100 * np.mean(accuracies))
            assert table.deviation(method, task) == pytest.approx(100 * np.std(accuracies, ddof=1))
        average = 100 * np.mean(list(tasks.values()), axis=0)  # by seed
        assert table.mean(method, AVERAGE) == pytest.approx(average.mean())
        assert table.deviation(method, AVERAGE) == pytest.approx(average.std(ddof=1))


def test_differences_and_intervals_are_scipys(tmp_path):
    table = Table.of(load(write_all(tmp_path)))
    pairs = {task: (np.array(MMD[task]), np.array(NONE[task])) for task in NONE}
    pairs[AVERAGE] = (np.mean(list(MMD.values()), axis=0), np.mean(list(NONE.values()), axis=0))
    for task, (own, base) in pairs.items():
        interval = ttest_rel(100 * own, 100 * base).confidence_interval(0.95)
        found = table.difference("mmd", task)
        assert found is not None and found.seeds == 3
        assert found.mean == pytest.approx(100 * (own - base).mean())
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def p_values(table: Table, methods: list[str]) -> dict[tuple[str, str], float]:
    """By SciPy's paired t-test, in percentage points as the table has them."""
    base = {task: list(table.values("none", task).values()) for task in table.columns}
    return {
        (method, task): ttest_rel(list(table.values(method, task).values()), base[task]).pvalue
        for method in methods
        for task in table.columns
    }


def test_p_values_are_scipys_and_corrected_by_holm(tmp_path):
    generator = np.random.default_rng(0)
    methods = {
        name: {task: (0.5 + gain + 0.01 * generator.normal(size=5)).tolist() for task in NONE}
        for name, gain in {"none": 0.0, "a": 0.02, "b": -0.02, "c": 0.2}.items()
    }
    table = Table.of(load(write_all(tmp_path, methods)))
    plain = p_values(table, ["a", "b", "c"])
    for cell, p_value in plain.items():
        assert table.difference(*cell).p_value == pytest.approx(p_value, rel=1e-9)
    # By the definition: a hypothesis falls if all smaller ones fall at their levels.
    found = table.differences()
    ranked = sorted(plain, key=plain.get)
    fallen = 0
    while fallen < 9 and plain[ranked[fallen]] * (9 - fallen) <= 0.05:
        fallen += 1
    assert {cell for cell, gain in found.items() if gain.certain} == set(ranked[:fallen])
    assert 0 < fallen < sum(p <= 0.05 for p in plain.values())
    text = to_text(table)
    assert len(re.findall(r", not significant\b", text)) == 9 - fallen
    assert "by Holm's correction for 9 tests in this table" in text


def test_equal_differences_are_not_tested_and_the_table_says_so(tmp_path):
    """0.60 - 0.50 and 0.70 - 0.60 differ by rounding alone."""
    methods = {"none": {"a>b": [0.50, 0.60]}, "worse": {"a>b": [0.40, 0.50]}}
    table = Table.of(load(write_all(tmp_path, methods)))
    text = to_text(table)
    assert "-10.0 [-10.0, -10.0] worse, not tested" in text
    assert "significantly worse than 'none': none. 1 more of 1 are worse" in text
    said = (
        "Not tested: 1 with equal differences for all seeds; an interval of length 0 says nothing."
    )
    assert said in text and "Significant:" not in text
    (gain,) = table.differences().values()
    assert (gain.p_value, gain.certain, gain.untested) == (None, False, True)
    one_seed = Table.of([run for run in load(tmp_path) if run.result["seed"] == 0])
    assert "Not tested" not in to_text(one_seed)


def test_the_interval_covers_the_truth_in_95_of_100_cases():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        level = generator.normal(size=4)  # the seeds' common part, which pairing removes
        found = paired_difference(
            dict(enumerate(level + generator.normal(1.0, 1, 4))), dict(enumerate(level))
        )
        assert found is not None and found.low is not None and found.high is not None
        covered += found.low <= 1.0 <= found.high
    assert abs(covered / 2000 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)  # four standard errors


def test_text_says_the_rule_the_seeds_and_the_sign(tmp_path):
    text = to_text(Table.of(load(write_all(tmp_path))))
    title = (
        "toy: target accuracy in percent, model selected by 'last'; "
        "mean ± standard deviation over 3 seeds (0, 1, 2)."
    )
    assert text.splitlines()[0] == title
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert (
        "none 61.0 ± 1.0 92.7 ± 2.5 * 76.8 ± 1.6 *" in lines
        and "mmd 72.0 ± 2.6 * 90.8 ± 2.4 81.4 ± 1.7 *" in lines
    )
    assert (
        "+11.0 [+6.7, +15.3] better" in text
    )  # differences 10, 13, 10: std 1.732, times 4.3027 / sqrt(3) = 4.30 on either side
    assert (
        "-1.8 [-4.4, +0.8] worse, not significant" in text
    )  # -1, -3, -1.5: std 1.0408, 2.59 on either side


def test_a_method_that_is_worse_is_said_to_be(tmp_path):
    write_all(tmp_path, {"none": {"a>b": [0.80, 0.82, 0.84]}, "bad": {"a>b": [0.70, 0.72, 0.745]}})
    table = Table.of(load(tmp_path))
    found = table.difference("bad", "a>b")
    assert found is not None and found.high is not None and found.high < 0
    assert (
        str(found).endswith("] worse")
        and str(found) in to_text(table)
        and str(found) in to_markdown(table)
    )
    assert AVERAGE not in to_text(table)  # one task has no average


def test_the_selection_rule_changes_the_numbers_and_the_heading(tmp_path):
    table = Table.of(load(write_all(tmp_path)), select="oracle")
    assert table.mean("mmd", "amazon>webcam") == 100.0
    assert "selected by 'oracle' (reads target labels: an upper bound)" in to_text(table)
    with pytest.raises(ValueError, match="no selection 'entropy'; it has last, oracle"):
        Table.of(load(tmp_path), select="entropy")


def test_missing_cells_and_different_numbers_of_seeds_are_shown(tmp_path):
    write_all(tmp_path, {"none": NONE, "mmd": {"amazon>webcam": [0.70, 0.75]}})
    table = Table.of(load(tmp_path))
    assert table.mean("mmd", "webcam>dslr") is None and table.mean("mmd", AVERAGE) is None
    text = to_text(table)
    assert "over DIFFERENT seeds of 0, 1, 2, their number in parentheses" in text
    row = next(line for line in text.splitlines() if line.startswith("mmd"))
    assert row.split() == ["mmd", "72.5", "±", "3.5", "(2)", "*", "-", "-"]
    interval = ttest_rel([70.0, 75.0], [60.0, 62.0]).confidence_interval(
        0.95
    )  # paired over the two seeds that both have
    found = table.difference("mmd", "amazon>webcam")
    assert (
        found is not None
        and found.seeds == 2
        and (found.low, found.high) == pytest.approx((interval.low, interval.high))
    )


def test_as_many_but_other_seeds_are_not_taken_for_the_same(tmp_path):
    for method, seeds in {"none": (0, 1), "mmd": (1, 2)}.items():
        for seed in seeds:
            write(tmp_path, method, "a>b", seed, 0.5 + seed / 10)
    table = Table.of(load(tmp_path))
    assert "DIFFERENT seeds of 0, 1, 2" in to_text(table)
    found = table.difference("mmd", "a>b")
    assert (
        found is not None
        and found.seeds == 1
        and found.low is None
        and str(found) == "+0.0 equal (one seed)"
    )


def test_one_seed_has_neither_deviation_nor_interval(tmp_path):
    write_all(tmp_path, {"none": {"a>b": [0.5]}, "mmd": {"a>b": [0.25]}})
    text = to_text(Table.of(load(tmp_path)))
    assert "one seed (0)" in text and "±" not in text and "-25.0 worse (one seed)" in text


def test_without_the_baseline_the_table_says_so(tmp_path):
    text = to_text(Table.of(load(write_all(tmp_path)), baseline="erm"))
    assert "No row of the baseline 'erm' to compare with." in text and "Difference" not in text


def test_two_runs_for_one_seed_are_refused_by_their_folders(tmp_path):
    first = write(tmp_path, "mmd", "a>b", 0, 0.5, rate=0.1)
    second = write(tmp_path, "mmd", "a>b", 0, 0.6, rate=0.2)
    with pytest.raises(ValueError, match="differ in rate") as caught:
        Table.of(load(tmp_path))
    assert str(first) in str(caught.value) and str(second) in str(caught.value)
    assert Table.of(matching(load(tmp_path), ["rate=0.2"])).mean("mmd", "a>b") == 60.0


def test_other_configurations_at_other_seeds_are_refused_too(tmp_path):
    write(tmp_path, "mmd", "a>b", 0, 0.5, optimizer={"name": "sgd"}, layers=[1, 2])
    write(tmp_path, "mmd", "a>b", 1, 0.6, optimizer={"name": "adam"}, layers=[1, 2])
    with pytest.raises(ValueError, match="differ in optimizer"):
        Table.of(load(tmp_path))
    chosen = matching(load(tmp_path), ["optimizer.name=adam", "layers=[1, 2]"])
    assert Table.of(chosen).seeds == (1,)
    assert Table.of(matching(load(tmp_path), ["seed=0"])).seeds == (0,)
    with pytest.raises(ValueError, match="got none: check the folder of runs"):
        Table.of(matching(load(tmp_path), ["optimizer.name=lbfgs"]))


def test_one_table_is_of_one_experiment(tmp_path):
    write_all(tmp_path)
    write(tmp_path, "none", "a>b", 0, 0.5, experiment="other")
    with pytest.raises(ValueError, match="of other, toy: name one with --experiment"):
        Table.of(load(tmp_path))
    assert Table.of(load(tmp_path, experiment="other")).rows == ("none",)


@pytest.mark.parametrize(
    ("metric", "value"), [("target_accuracy", 61.0), ("target_accuracy", -0.1), ("target_hos", 1.5)]
)
def test_figures_that_should_be_fractions_and_are_not_are_refused(tmp_path, metric, value):
    directory = write(tmp_path, "mmd", "a>b", 0, None, others={metric: value})
    with pytest.raises(ValueError, match=f"{directory.name}: {metric} .* fraction"):
        Table.of(load(tmp_path), metric=metric)


def test_a_missing_figure_is_named_with_those_there_are(tmp_path):
    directory = write(
        tmp_path, "none", "a>b", 0, None, others={"target_r2": 0.5, "target_mae": math.nan}
    )
    with pytest.raises(
        ValueError,
        match=f"{directory.name} has no target_accuracy under 'last'; it has target_mae, target_r2",
    ):
        Table.of(load(tmp_path))
    with pytest.raises(ValueError, match="target_mae under 'last' must be finite"):
        Table.of(load(tmp_path), metric="target_mae")


ERRORS = {"none": [12.25, 10.5, 14.75], "rsd": [9.0, 8.5, 8.75]}


def write_regressions(root: Path) -> Path:
    """Runs with an error, an R^2 and, as if the set were open, an HOS."""
    for method, errors in ERRORS.items():
        for seed, error in enumerate(errors):
            write(
                root,
                method,
                "a>b",
                seed,
                None,
                others={"target_r2": 1 - error / 8, "target_mae": error, "target_hos": error / 100},
            )
    return root


def test_an_error_is_better_when_it_is_less(tmp_path):
    table = Table.of(load(write_regressions(tmp_path)), metric="target_mae")
    own, base = (np.array(ERRORS[method]) for method in ("rsd", "none"))
    assert table.mean("rsd", "a>b") == pytest.approx(own.mean()) and table.deviation(
        "none", "a>b"
    ) == pytest.approx(base.std(ddof=1))
    title, _, _, *rows = to_text(table).splitlines()
    assert title.startswith(
        "toy: target mean absolute error (less is better), model selected by 'last'; mean ±"
    )
    assert f"{base.mean():.3f} ± {base.std(ddof=1):.3f}" in " ".join(rows)
    interval = ttest_rel(own, base).confidence_interval(0.95)
    between = f"[{interval.low:+.3f}, {interval.high:+.3f}]"
    words = f"{(own - base).mean():+.3f} {between} better, not significant"
    assert (own - base).mean() < 0 < interval.high and words in to_text(table)
    assert "percent" not in to_text(table)
    assert (
        to_text(Table.of(load(tmp_path), metric="target_mae", baseline="rsd")).count("] worse") == 1
    )


def test_a_share_of_variance_is_a_plain_number_and_better_when_it_is_more(tmp_path):
    table = Table.of(load(write_regressions(tmp_path)), metric="target_r2")
    r2 = {method: 1 - np.array(errors) / 8 for method, errors in ERRORS.items()}
    assert table.values("none", "a>b") == pytest.approx(
        dict(enumerate(r2["none"]))
    )  # negative, and not in percent
    assert "toy: target R^2, model" in to_text(table) and "percent" not in to_text(table)
    assert f"{(r2['rsd'] - r2['none']).mean():+.3f} [" in to_text(
        table
    ) and "] better, not significant" in to_text(table)
    row = next(csv.DictReader(to_csv(table).splitlines()))
    assert row["metric"] == "target_r2" and float(row["mean"]) == pytest.approx(r2["none"].mean())


def test_the_harmonic_mean_of_open_sets_is_in_percent(tmp_path):
    table = Table.of(load(write_regressions(tmp_path)), metric="target_hos")
    assert "toy: target HOS in percent" in to_text(table) and "in percentage points" in to_text(
        table
    )
    errors = ERRORS["none"]
    assert f"{np.mean(errors):.1f} ± {np.std(errors, ddof=1):.1f}" in to_text(table)


def test_chosen_methods_are_the_rows_in_their_order(tmp_path):
    write_all(tmp_path, METHODS | {"coral": {"usps>mnist": [0.1, 0.2]}})
    table = Table.of(load(tmp_path), methods=["mmd", "none"])
    assert (
        table.rows == ("mmd", "none") and table.tasks == tuple(NONE) and table.seeds == (0, 1, 2)
    )  # nothing of coral's is left
    assert to_markdown(table).splitlines()[4].startswith("| MMD (DAN) |")
    assert table.difference("mmd", "webcam>dslr") == Table.of(load(tmp_path)).difference(
        "mmd", "webcam>dslr"
    )
    assert "No row of the baseline 'none'" in to_text(Table.of(load(tmp_path), methods=["mmd"]))
    with pytest.raises(ValueError, match="no runs of jan; there are runs of coral, mmd, none"):
        Table.of(load(tmp_path), methods=["none", "jan"])


def test_runs_that_records_wrote_are_read(tmp_path):
    for seed, accuracy in enumerate((0.5, 0.75)):
        names: dict[str, Any] = {
            "experiment": "toy",
            "method": "mmd",
            "source": "a",
            "target": "b",
            "seed": seed,
        }
        run = Run.start(tmp_path, {"steps": 1, "seed": seed}, **names, wandb="disabled")
        run.finish({"selected": {"last": {"step": 1, "target_accuracy": accuracy}}})
    Run.start(tmp_path, {"steps": 1}, **{**names, "seed": 2}, wandb="disabled")  # unfinished
    assert Table.of(load(tmp_path)).values("mmd", "a>b") == {0: 50.0, 1: 75.0}


def test_markdown_is_a_table_of_as_many_cells_a_line(tmp_path):
    markdown = to_markdown(Table.of(load(write_all(tmp_path))))
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {5}  # four columns
    assert "| MMD (DAN) | **72.0 ± 2.6** | 90.8 ± 2.4 | **81.4 ± 1.7** |" in lines


def test_csv_is_unrounded(tmp_path):
    table = Table.of(load(write_all(tmp_path / "runs")))
    (tmp_path / "table.csv").write_text(to_csv(table))
    with open(tmp_path / "table.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["method"], line["task"]) for line in lines] == [
        (m, t) for m in ("none", "mmd") for t in (*NONE, AVERAGE)
    ]
    line = lines[3]
    assert float(line["mean"]) == table.mean("mmd", "amazon>webcam") and float(
        line["std"]
    ) == table.deviation("mmd", "amazon>webcam")
    found = table.difference("mmd", "amazon>webcam")
    assert found is not None and [float(line[key]) for key in ("difference", "low", "high")] == [
        found.mean,
        found.low,
        found.high,
    ]
    assert line["seeds"] == "3" and lines[0]["difference"] == ""


def test_the_command_line(tmp_path, monkeypatch, capsys):
    table = Table.of(load(write_all(tmp_path / "runs")))
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    words = [sys.executable, "-m", "da", "table", "runs", "--format", "markdown"]
    answer = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert answer.returncode == 0 and answer.stdout == to_markdown(table) + "\n"
    monkeypatch.chdir(tmp_path)
    commands.table(["runs", "--format", "csv", "--experiment", "toy"])
    assert capsys.readouterr().out == to_csv(table)
    for wrong, words in {
        "target_r2": ["runs", "--metric", "target_r2"],
        "jan": ["runs", "--methods", "none", "jan"],
        "nowhere": ["nowhere"],
        "key=value": ["runs", "--where", "steps"],
        "entropy": ["runs", "--select", "entropy"],
        "got none: check": ["runs", "--experiment", "nothing"],
        "name the folder of runs": [],
    }.items():
        with pytest.raises(SystemExit, match=wrong):
            commands.run(commands.table, words)


def test_an_unknown_command_is_named_with_those_there_are(tmp_path):
    words = [sys.executable, "-m", "da", "tabel"]
    answer = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 1 and "table, rank, pack, unpack" in answer.stderr
    answer = subprocess.run(words[:-1], capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 0 and "usage: python -m da COMMAND" in answer.stdout


# ---- what a reader must know of the runs


def test_runs_from_before_a_figure_was_recorded_are_counted_not_an_error(tmp_path):
    write(tmp_path, "none", "a>b", 0, 0.5)
    write(tmp_path, "mmd", "a>b", 0, 0.6, others={"target_macro_f1": 0.55})
    text = to_text(Table.of(load(tmp_path), metric="target_macro_f1"))
    assert "1 runs were recorded before target_macro_f1 was: they have no cell." in text
    assert "mmd     55.0 (1)" in text and "none    -" in text


def test_runs_from_uncommitted_code_are_counted(tmp_path):
    for seed, dirty in enumerate((True, False, True)):
        write(tmp_path, "none", "a>b", seed, 0.5, env={"git": {"commit": "1a", "dirty": dirty}})
    text = to_text(Table.of(load(tmp_path)))
    assert text.endswith("2 of 3 runs come from code that is in no commit.")
    clean = write_all(tmp_path / "clean")
    assert "no commit" not in to_text(Table.of(load(clean)))


def test_a_setting_that_an_old_record_lacks_is_equal_if_the_new_one_has_its_default(tmp_path):
    write(tmp_path, "none", "a>b", 0, 0.5)
    names = {"experiment": "toy", "method": "none", "source": "a", "target": "b"}
    config = {"steps": 9, "seed": 1, "warmup": 0}
    for seed, warmup in ((1, 0), (2, 5)):
        run = Run.start(
            tmp_path,
            config | {"warmup": warmup},
            **names,
            seed=seed,
            defaults={"warmup": 0},
            wandb="disabled",
        )
        run.finish({"selected": {"last": {"step": 9, "target_accuracy": 0.7}}})
        if warmup == 0:
            assert Table.of(load(tmp_path)).seeds == (0, 1)
    with pytest.raises(ValueError, match="differ in warmup"):
        Table.of(load(tmp_path))


# ---- negative transfer


def test_losses_are_named_and_doubtful_ones_counted(tmp_path: Path) -> None:
    """Three paired seeds: a row surely below the baseline, one below in the mean alone, one above.

    By SciPy's paired t-test.
    """
    figures = {
        "none": [0.60, 0.62, 0.64],
        "harmful": [0.50, 0.53, 0.53],
        "doubtful": [0.50, 0.70, 0.61],
        "good": [0.70, 0.71, 0.75],
    }
    for method, values in figures.items():
        for seed, value in enumerate(values):
            run = Run.start(
                tmp_path,
                {},
                experiment="toy",
                method=method,
                source="a",
                target="b",
                seed=seed,
                wandb="disabled",
            )
            run.finish({"selected": {"last": {"step": 1, "target_accuracy": value}}})
    p = {
        method: ttest_rel(values, figures["none"]).pvalue
        for method, values in figures.items()
        if method != "none"
    }
    assert p["harmful"] < 0.05 < p["doubtful"]
    text = to_text(Table.of(load(tmp_path)))
    said = (
        "Negative transfer, significantly worse than 'none': harmful on a>b. "
        "1 more of 3 are worse, not significantly or by one seed alone."
    )
    assert said in text.split("\n\n")
    good = to_markdown(Table.of(load(tmp_path), methods=("none", "good")))
    assert "Negative transfer, significantly worse than 'source only': none." in good.split("\n\n")
    assert "Negative transfer" not in to_text(Table.of(load(tmp_path), methods=("good",)))


def test_tasks_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for share in (100, 5, 15):
        run = Run.start(
            tmp_path,
            {},
            experiment="toy",
            method="none",
            source="a",
            target=f"b_{share:02d}",
            seed=0,
            wandb="disabled",
        )
        run.finish({"selected": {"last": {"step": 1, "target_accuracy": 0.5}}})
    assert Table.of(load(tmp_path)).tasks == ("a>b_05", "a>b_15", "a>b_100")
