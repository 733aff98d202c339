"""What choosing by a score costs.

Oracles: small tables by hand, SciPy's rank correlation, brute force over random figures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from trial_runs import early, trial

from da.records.choice import by_oracle, cost, favoured, rank_correlation, regrets_of
from da.records.reading import read_runs
from da.records.run import Run
from da.records.table import Table
from da.records.table_text import to_csv, to_latex, to_markdown, to_text


def lines_of(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


# method -> (last, (accuracy and score at the step of the score), oracle), one task and seed
HAND = {
    "none": (0.50, (0.54, 1.0), 0.60),
    "adabn": (0.60, (0.65, 4.0), 0.65),
    "mmd": (0.80, (0.75, 3.0), 0.85),
    "mcc": (0.70, (0.70, 2.0), 0.70),
}


def write_by_hand(root: Path) -> list[Any]:
    for method, (last, of_score, oracle) in HAND.items():
        trial(root, method, 0, {"last": last, "s": of_score, "oracle": oracle})
    return read_runs(root)


def test_regret_is_oracle_less_chosen(tmp_path: Path) -> None:
    table = Table.of(write_by_hand(tmp_path), select="s")
    found = {row: regrets_of(table, by_oracle(table), row)["a>b", 0] for row in table.rows}
    assert found == pytest.approx({"none": 6.0, "adabn": 0.0, "mmd": 10.0, "mcc": 0.0})
    lines = lines_of(to_text(table))
    assert "method last chosen oracle regret" in lines
    assert "none 50.0 54.0 60.0 6.0" in lines and "mmd 80.0 75.0 85.0 10.0" in lines
    assert "mean of rows 65.0 66.0 70.0 4.0" in lines


def test_rank_correlation_is_scipys(tmp_path: Path) -> None:
    table = Table.of(write_by_hand(tmp_path), select="s")
    expected = spearmanr([1.0, 4.0, 3.0, 2.0], [0.54, 0.65, 0.75, 0.70]).statistic
    assert cost(table, "s", None).correlation == pytest.approx(expected)
    assert f"a task and seed: {expected:.2f}.\n" in to_text(table)


def test_rank_correlation_needs_three_candidates_that_differ() -> None:
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert rank_correlation([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) is None
    assert rank_correlation([1.0, -np.inf, 3.0], [2.0, 1.0, 3.0]) == 1.0


def test_the_row_oracle_is_neither_chosen_nor_the_best_nor_marked(tmp_path: Path) -> None:
    """It has the highest figure and the highest score: nobody who chooses has it."""
    write_by_hand(tmp_path)
    trial(tmp_path, "oracle", 0, {"last": 0.99, "s": (0.99, 9.0), "oracle": 0.99})
    table = Table.of(read_runs(tmp_path), select="s")
    found = cost(table, "s", None)
    (choice,) = found.rows
    assert (choice.row, choice.best, round(choice.loss, 6)) == ("adabn", "mmd", 10.0)
    expected = spearmanr([1.0, 4.0, 3.0, 2.0], [0.54, 0.65, 0.75, 0.70]).statistic
    assert found.correlation == pytest.approx(expected)
    text = to_markdown(table)
    assert "| MMD (DAN) | **75.0** |" in text and "| oracle | 99.0 |" in text
    assert "Bold: the best of a column but 'oracle'." in text


def test_the_guard_says_which_row_would_be_chosen_and_what_it_loses(tmp_path: Path) -> None:
    """The score is highest for AdaBN, at 65.0; MMD is best, at 75.0."""
    text = to_text(Table.of(write_by_hand(tmp_path), select="s"))
    lines = lines_of(text)
    assert "task row chosen its figure best row its figure loss keeps none or adabn" in lines
    assert "a>b adabn 65.0 mmd 75.0 10.0 yes" in lines
    assert "largest 10.0 (a>b). It would keep none or adabn on 1 of 1 tasks." in text
    markdown = to_markdown(Table.of(read_runs(tmp_path), select="s"))
    assert "| a>b | AdaBN | 65.0 | MMD (DAN) | 75.0 | 10.0 | yes |" in markdown


def test_a_plain_table_has_one_line_for_each_score(tmp_path: Path) -> None:
    table = Table.of(write_by_hand(tmp_path))
    lines = lines_of(to_text(table))
    correlation = spearmanr([1.0, 4.0, 3.0, 2.0], [0.54, 0.65, 0.75, 0.70]).statistic
    assert f"s 66.0 4.0 65.0 10.0 1 of 1 tasks {correlation:.2f}" in lines
    assert "mmd 80.0 *" in lines  # and the table is that of the last step


def test_by_seeds_and_tasks_it_is_brute_force(tmp_path: Path) -> None:
    """Three rows, three trials, two tasks, two seeds of random figures."""
    generator = np.random.default_rng(1)
    rows, tasks, seeds, rates = ("none", "mmd", "jan"), ("a>b", "c>d"), (0, 1), (0.1, 0.2, 0.3)
    figures = generator.uniform(0.1, 0.8, size=(3, 2, 2, 3))
    scores = generator.normal(size=(3, 2, 2, 3))
    for i, row in enumerate(rows):
        for j, task in enumerate(tasks):
            for k, seed in enumerate(seeds):
                for n, rate in enumerate(rates):
                    accuracy = float(figures[i, j, k, n])
                    found = {"last": 0.5, "s": (accuracy, float(scores[i, j, k, n]))}
                    found |= {"oracle": accuracy + 0.1}
                    trial(tmp_path, row, seed, found, task=task, rate=rate)
    table = Table.of(read_runs(tmp_path), select="s", trials=True)
    found = cost(table, "s", by_oracle(table))

    at = scores.argmax(-1)[..., None]
    chosen = 100 * np.take_along_axis(figures, at, -1)[..., 0]  # (row, task, seed)
    best_scores = np.take_along_axis(scores, at, -1)[..., 0]
    assert found.chosen == pytest.approx(chosen.mean())
    assert found.regret == pytest.approx((100 * (figures.max(-1) + 0.1) - chosen).mean())
    correlations = [
        spearmanr(scores[:, j, k].ravel(), figures[:, j, k].ravel()).statistic
        for j in range(2)
        for k in range(2)
    ]
    assert found.correlation == pytest.approx(np.mean(correlations))
    for j, choice in enumerate(found.rows):
        row = int(best_scores[:, j].mean(-1).argmax())
        means = chosen[:, j].mean(-1)
        assert (choice.task, choice.row) == (tasks[j], rows[row])
        assert choice.figure == pytest.approx(means[row])
        assert choice.loss == pytest.approx(means.max() - means[row])
        assert choice.kept == (rows[row] == "none")


def test_of_an_error_the_regret_is_what_is_too_much(tmp_path: Path) -> None:
    for method, (error, score, least) in {"none": (4.0, 1.0, 3.0), "rsd": (2.0, 2.0, 2.0)}.items():
        figures = {"last": 9.0, "s": (error, score), "oracle": least}
        trial(tmp_path, method, 0, figures, metric="target_mae")
    table = Table.of(read_runs(tmp_path), metric="target_mae")
    found = cost(table, "s", by_oracle(table))
    assert found.regret == pytest.approx(0.5)
    (choice,) = found.rows
    assert (choice.row, choice.best, choice.loss) == ("rsd", "rsd", 0.0)


def test_scores_of_early_records_are_read_from_their_metrics(tmp_path: Path) -> None:
    for method, (accuracy, score) in {"none": (0.5, 1.0), "a": (0.6, 2.0), "b": (0.7, 3.0)}.items():
        early(tmp_path, method, 0, accuracy, score)
    assert cost(Table.of(read_runs(tmp_path)), "s", None).correlation == 1.0


def test_with_trials_the_correlation_within_a_row_is_shown(tmp_path: Path) -> None:
    for method, order in {"none": (1, 2, 3), "mmd": (3, 2, 1)}.items():
        for place, rate in zip(order, (0.1, 0.2, 0.3), strict=True):
            figures = {"last": 0.5, "s": (place / 10, rate), "oracle": 0.9}
            trial(tmp_path, method, 0, figures, rate=rate)
    lines = lines_of(to_text(Table.of(read_runs(tmp_path), select="s", trials=True)))
    assert "method last chosen oracle regret Spearman over trials" in lines
    assert "none 50.0 30.0 90.0 60.0 1.00" in lines and "mmd 50.0 10.0 90.0 80.0 -1.00" in lines


def test_rows_that_a_score_favours_are_named(tmp_path: Path) -> None:
    assert favoured("information_maximisation", ["none", "mcc", "mmd"]) == ["mcc"]
    assert favoured("s", ["mcc"]) == []
    for method in ("none", "mcc"):
        scores = dict.fromkeys(("information_maximisation", "nuclear_norm", "s"), (0.5, 1.0))
        trial(tmp_path, method, 0, {"last": 0.5, **scores, "oracle": 0.6})
    said = "raises it: information_maximisation, nuclear_norm by mcc."
    assert f"A score is too high in rows whose training {said}" in to_text(
        Table.of(read_runs(tmp_path))
    )


def test_csv_has_budget_rules_and_regret(tmp_path: Path) -> None:
    head, none, *_ = to_csv(Table.of(write_by_hand(tmp_path), select="s")).splitlines()
    assert head.endswith("budget,last,oracle,regret")
    budget, last, oracle, regret = none.split(",")[-4:]
    assert budget == "1 trial of 9 steps"
    assert [float(last), float(oracle), float(regret)] == pytest.approx([50.0, 60.0, 6.0])


# ---- without target labels


def unlabelled(root: Path, method: str, task: str, scores: dict[str, float]) -> None:
    source, target = task.split(">")
    names = {"experiment": "toy", "method": method, "source": source, "target": target}
    run = Run.start(root, {"steps": 9}, **names, seed=0, wandb="disabled")
    selected = {rule: {"step": 9, **scores} for rule in ("last", *scores)}
    run.finish({"selected": selected})


def test_without_labels_the_table_shows_the_scores(tmp_path: Path) -> None:
    unlabelled(tmp_path, "none", "a>b", {"information_maximisation": 1.5, "s": -2.0})
    unlabelled(tmp_path, "mmd", "a>b", {"information_maximisation": 1.25, "s": -1.0})
    table = Table.of(read_runs(tmp_path))
    assert table.unlabelled and table.values("none", "a>b") == {0: 1.5}
    text = to_text(table)
    lines = lines_of(text)
    assert lines[0].startswith("toy: information maximisation, model selected by 'last';")
    assert "There are no target labels: the table shows a score in place of accuracy" in text
    assert "none 1.500" in lines and "none 1.500 -2.000" in lines
    assert "a>b none mmd" in lines  # which row each score would choose
    for word in ("] better", "*:", "Negative transfer", "accuracy in percent", "regret"):
        assert word not in text
    assert Table.of(read_runs(tmp_path), select="s").values("mmd", "a>b") == {0: -1.0}
    with pytest.raises(ValueError, match="no selection 'oracle'"):
        Table.of(read_runs(tmp_path), select="oracle")
    for write in (to_markdown, to_latex, to_csv):
        assert "1.5" in write(table)


def test_one_choice_with_an_accuracy_is_enough_to_have_labels(tmp_path: Path) -> None:
    trial(tmp_path, "none", 0, {"s": (0.5, 1.0)})
    table = Table.of(read_runs(tmp_path), select="s")
    assert not table.unlabelled and table.mean("none", "a>b") == 50.0
    assert "no accuracy" not in to_text(table)


def test_labelled_and_unlabelled_runs_do_not_share_a_table(tmp_path: Path) -> None:
    trial(tmp_path, "none", 0, {"last": 0.5, "s": (0.5, 1.0), "oracle": 0.6})
    unlabelled(tmp_path, "mmd", "a>b", {"s": 1.0})
    with pytest.raises(ValueError, match="has no target_accuracy under 'last'; it has s"):
        Table.of(read_runs(tmp_path), unequal_budgets=True)


def write_with_a_shallow_row(root: Path) -> None:
    """Row `jda` has its end alone: 55.0, and no score."""
    write_by_hand(root)
    trial(root, "jda", 0, {"last": 0.55})


def test_rows_without_a_score_have_no_part_in_the_choice(tmp_path: Path) -> None:
    write_with_a_shallow_row(tmp_path)
    for select in ("last", "s"):
        table = Table.of(read_runs(tmp_path), select=select)
        text = to_text(table)
        assert table.mean("jda", "a>b") == pytest.approx(55.0)
        assert "Rows without a score, which no score can choose: jda." in text
    lines = lines_of(text)
    assert "a>b adabn 65.0 mmd 75.0 10.0 yes" in lines
    assert "mean of rows 65.0 66.0 70.0 4.0" in lines, "of the rows that have a choice"
    correlation = spearmanr([1.0, 4.0, 3.0, 2.0], [0.54, 0.65, 0.75, 0.70]).statistic
    plain = lines_of(to_text(Table.of(read_runs(tmp_path))))
    assert f"s 66.0 4.0 65.0 10.0 1 of 1 tasks {correlation:.2f}" in plain


def test_a_table_without_scores_says_that_nothing_can_be_chosen(tmp_path: Path) -> None:
    for method in ("none", "jda"):
        trial(tmp_path, method, 0, {"last": 0.55})
    assert "No row has a label-free score" in to_text(Table.of(read_runs(tmp_path)))


def test_a_score_that_some_rows_lack_is_not_replaced_by_the_last_step(tmp_path: Path) -> None:
    trial(tmp_path, "none", 0, {"last": 0.5, "t": (0.5, 1.0)})
    trial(tmp_path, "mmd", 0, {"last": 0.5, "s": (0.5, 1.0)})
    with pytest.raises(ValueError, match="has no selection 's'"):
        Table.of(read_runs(tmp_path), select="s")
