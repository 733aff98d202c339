"""Marks, names, formats and published values of tables.

Oracles: SciPy's paired t-test and Holm's definition, a reader of LaTeX written here, files by hand.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel
from trial_runs import trial

from da.records import commands
from da.records.best import marks
from da.records.display_names import NAMES, display_name
from da.records.grids import latex
from da.records.published import read_published
from da.records.reading import read_runs
from da.records.table import AVERAGE, Table
from da.records.table_text import to_latex, to_markdown, to_text
from problems import ROOT

TASKS = ("a>b", "c>d")


def write(root: Path, gains: dict[str, float], seeds: int = 3) -> np.ndarray:
    """Accuracies (rows, tasks, seeds) of rows that differ by about their gains."""
    generator = np.random.default_rng(0)
    common = generator.uniform(0.4, 0.6, size=(2, seeds))
    figures = np.stack(
        [common + gain + 0.01 * generator.normal(size=(2, seeds)) for gain in gains.values()]
    )
    for row, own in zip(gains, figures, strict=True):
        for task, of_task in zip(TASKS, own, strict=True):
            for seed, accuracy in enumerate(of_task):
                trial(root, row, seed, {"last": float(accuracy)}, task=task)
    return figures


def test_marks_are_the_best_and_what_is_not_significantly_worse(tmp_path: Path) -> None:
    gains = {"none": 0.0, "close": 0.299, "best": 0.30, "near": 0.296, "far": 0.25}
    figures = write(tmp_path, gains)
    table = Table.of(read_runs(tmp_path))
    found = marks(table)
    rows = list(gains)
    flat = dict(zip(rows, figures.reshape(5, -1), strict=True))
    leader = max(rows, key=lambda row: flat[row].mean())
    p = {row: ttest_rel(flat[row], flat[leader]).pvalue for row in rows if row != leader}
    expected, standing = {leader}, False
    for place, row in enumerate(sorted(p, key=lambda row: p[row])):  # by Holm's definition
        standing = standing or p[row] * (len(p) - place) > 0.05
        expected |= {row} if standing else set()
    assert {row for row, column in found.cells if column == AVERAGE} == expected
    assert 1 < len(expected) < len(rows)
    for number, task in enumerate(TASKS):
        best = rows[int(figures[:, number].mean(-1).argmax())]
        assert {row for row, column in found.cells if column == task} == {best}
    assert (found.tests, found.pairs) == (4, 6)
    assert "over 6 pairs of task and seed, by Holm's correction for 4 tests" in to_text(table)


def test_one_task_is_compared_over_its_seeds(tmp_path: Path) -> None:
    figures = {"none": (0.50, 0.52, 0.54), "good": (0.70, 0.75, 0.72), "even": (0.71, 0.70, 0.74)}
    for row, values in figures.items():
        for seed, value in enumerate(values):
            trial(tmp_path, row, seed, {"last": value})
    assert ttest_rel(figures["good"], figures["even"]).pvalue > 0.05
    assert ttest_rel(figures["good"], figures["none"]).pvalue < 0.025
    found = marks(Table.of(read_runs(tmp_path)))
    assert found.cells == {("good", "a>b"), ("even", "a>b")}


def test_one_seed_marks_the_best_alone(tmp_path: Path) -> None:
    write(tmp_path, {"none": 0.0, "good": 0.2, "also": 0.199}, seeds=1)
    table = Table.of(read_runs(tmp_path))
    for column in table.columns:
        assert len([row for row, at in marks(table).cells if at == column]) == 1
    assert "*: the best of a column." in to_text(table)


def test_a_row_that_shares_one_seed_with_the_best_is_not_compared(tmp_path: Path) -> None:
    for row, seeds in {"none": (0, 1, 2), "good": (0, 1, 2), "also": (0,)}.items():
        for seed in seeds:
            value = {"none": 0.5, "good": 0.7, "also": 0.699}[row] + 0.01 * seed * (row == "good")
            for task in TASKS:
                trial(tmp_path, row, seed, {"last": value}, task=task)
    found = marks(Table.of(read_runs(tmp_path)))
    assert {row for row, column in found.cells if column == AVERAGE} == {"good"}
    assert found.tests == 1


def test_equal_differences_are_no_chance_and_equal_rows_are_both_best(tmp_path: Path) -> None:
    for row, shift in {"none": 0.0, "one": 0.2, "two": 0.2}.items():
        for seed, value in enumerate((0.5, 0.6, 0.7)):
            trial(tmp_path, row, seed, {"last": value + shift})
    found = marks(Table.of(read_runs(tmp_path)))
    assert found.cells == {("one", "a>b"), ("two", "a>b")}


def test_the_best_error_is_the_smallest_and_a_single_row_has_no_mark(tmp_path: Path) -> None:
    for row, value in {"none": 3.0, "rsd": 2.0}.items():
        trial(tmp_path, row, 0, {"last": value}, metric="target_mae")
    records = read_runs(tmp_path)
    assert marks(Table.of(records, metric="target_mae")).cells == {("rsd", "a>b")}
    alone = Table.of(records, metric="target_mae", methods=["rsd"])
    assert not marks(alone).cells and "*" not in to_text(alone)


# ---- formats


def test_pages_have_names_of_methods_and_terminals_those_of_rows(tmp_path: Path) -> None:
    write(tmp_path, {"none": 0.0, "cdan_e": 0.2, "mine": 0.1})
    table = Table.of(read_runs(tmp_path))
    assert re.search(r"^cdan_e +\d", to_text(table), flags=re.MULTILINE)
    markdown = to_markdown(table)
    assert "| CDAN+E |" in markdown and "| mine |" in markdown
    assert "Difference to 'source only' in percentage points" in markdown


def test_every_image_row_has_a_display_name() -> None:
    from da.recipes.methods import METHODS

    assert set(METHODS) <= NAMES.keys()
    assert display_name("none") == "source only" and len(set(NAMES.values())) == len(NAMES)


def tabulars(text: str) -> list[list[list[str]]]:
    """The cells of every tabular between the rules of booktabs."""
    found = []
    form = r"\\begin\{tabular\}\{(\w+)\}\n\\toprule\n(.*?)\\bottomrule\n\\end\{tabular\}"
    for columns, body in re.findall(form, text, flags=re.DOTALL):
        head, rest = body.split("\\midrule\n")
        rows = [line.removesuffix(r" \\").split(" & ") for line in (head + rest).splitlines()]
        assert all(len(row) == len(columns) for row in rows)
        found.append(rows)
    return found


def test_latex_has_booktabs_bold_cells_and_no_bare_sign(tmp_path: Path) -> None:
    write(tmp_path, {"none": 0.0, "cdan_e": 0.2, "own_row": 0.05})
    table = Table.of(read_runs(tmp_path))
    text = to_latex(table)
    first, second = tabulars(text)
    assert first[0] == ["method", r"a$\to$b", r"c$\to$d", "average"]
    row = next(row for row in first if row[0] == "CDAN+E")
    mean, deviation = table.mean("cdan_e", "a>b"), table.deviation("cdan_e", "a>b")
    assert row[1] == rf"\textbf{{{mean:.1f} $\pm$ {deviation:.1f}}}"
    assert [row[0] for row in second] == ["method", "CDAN+E", r"own\_row"]
    bare = re.sub(r"\\[%&_#{}$]", "", re.sub(r"\$[^$]*\$", "", text))
    bare = re.sub(r"\\(?:begin|end|caption|textbf|centering|toprule|midrule|bottomrule)", "", bare)
    assert not set("%_#^~<>$") & set(bare)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2


@pytest.mark.parametrize(
    ("plain", "written"),
    [
        ("a>b", r"a$\to$b"),
        ("p > 0.05", "p $>$ 0.05"),
        ("p <= 0.05", r"p $\le$ 0.05"),
        ("-1.8 [-2, +3]", "$-$1.8 [$-$2, +3]"),
        ("Bi-Tuning, 2012-2013", "Bi-Tuning, 2012-2013"),
        (
            "50 % & {x}_1 ± 2~^#$\\",
            r"50 \% \& \{x\}\_1 $\pm$ 2\textasciitilde{}"
            r"\textasciicircum{}\#\$\textbackslash{}",
        ),
    ],
)
def test_signs_of_latex(plain: str, written: str) -> None:
    assert latex(plain) == written


def test_the_command_writes_latex(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"none": 0.0, "mmd": 0.2})
    commands.table([str(tmp_path), "--format", "latex"])
    table = Table.of(read_runs(tmp_path))
    assert capsys.readouterr().out == to_latex(table) + "\n"


# ---- published values

HEAD = "experiment,where,method,task,accuracy,paper,protocol\n"


def test_published_values_stand_under_the_table_and_in_no_average(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"none": 0.0, "mmd": 0.2})
    plain = to_text(Table.of(read_runs(tmp_path)))
    lines = ["toy,,DAN,a>b,80.25,ICML 2015,AlexNet", "toy,,DAN,c>d,70.1,ICML 2015,AlexNet"]
    lines += ["toy,,RTN,a>b,81,NIPS 2016,AlexNet", "other,,JAN,a>b,99,ICML 2017,ResNet-50"]
    lines += ["toy,,JAN,e>f,99,ICML 2017,ResNet-50", "toy,rate=0.2,JAN,a>b,99,ICML 2017,x"]
    (tmp_path / "published.csv").write_text(HEAD + "\n".join(lines) + "\n")
    commands.table([str(tmp_path)])
    text = capsys.readouterr().out
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "published: DAN (ICML 2015) 80.25 70.1 75.17" in rows  # with the digits of the paper
    assert "published: RTN (NIPS 2016) 81 - -" in rows
    assert "JAN" not in text and "no average of ours: AlexNet." in text
    before, rest = text.split("Published accuracies")
    after = rest.partition("\n\n*: the best")[2]
    assert before.rstrip() + "\n\n*: the best" + after == plain + "\n"


def test_a_condition_admits_published_values(tmp_path: Path) -> None:
    write(tmp_path, {"none": 0.0})
    (tmp_path / "published.csv").write_text(HEAD + "toy,rate=0.1,DAN,a>b,80,ICML 2015,AlexNet\n")
    published = read_published(tmp_path)
    (found,) = Table.of(read_runs(tmp_path), published=published).published
    assert found.accuracy == "80"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("method,task\n", "must have the columns experiment,where,.*; got method,task"),
        (HEAD + "toy,,DAN,a>b,8o,ICML,x\n", "line 2: accuracy must be in percent.*got 8o"),
        (HEAD + "toy,,DAN,a>b,180,ICML,x\n", "line 2: accuracy must be in percent.*got 180"),
    ],
)
def test_a_damaged_file_of_published_values_is_named(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "published.csv").write_text(content)
    with pytest.raises(ValueError, match=f"published.csv.*{message}"):
        read_published(tmp_path)


def test_the_stored_published_values_are_of_tasks_and_experiments_that_exist() -> None:
    """Averages as the papers print them: JAN and CDAN+E on Office-31, JDA on Office-Caltech10."""
    records = ROOT / "experiments/records"
    found = read_published(records)
    printed = {("DAN", "office31_mmd"): 80.4, ("JAN", "office31_mmd"): 84.3}
    printed |= {("CDAN+E", "office31_mmd"): 87.7, ("MDD", "office31_mmd"): 88.9}
    printed |= {("JDA", "office_caltech_shallow"): 46.31, ("1-NN", "office_caltech_shallow"): 31.37}
    for (method, experiment), average in printed.items():
        own = [float(v.accuracy) for v in found if (v.method, v.experiment) == (method, experiment)]
        assert np.mean(own) == pytest.approx(average, abs=0.051), method
    assert all((records / f"{value.experiment}.jsonl").is_file() for value in found)
