"""The benchmark of the shallow methods.

Oracles: double loops, times made by hand, two ways to one JDA, and the CSV of a real command
against the table that it prints.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "experiments" / "benchmarks"))  # as for a script that is started

import shallow as bench_shallow  # noqa: E402
from mmd_contestants import Size  # noqa: E402
from shallow_contestants import (  # noqa: E402
    CONTESTANTS,
    Problem,
    jda_by_the_book,
    shifted,
    squared_mmd,
    timed,
)

from da.shallow.jda import JDA  # noqa: E402


def row(
    contestant: str,
    number: int | None = None,
    seconds: float | None = None,
    problem: str = "10000x100",
    **values,
) -> dict:
    times = (
        {}
        if number is None
        else {"round": number, "process_seconds": seconds, "wall_seconds": 3 * seconds}
    )
    return {"method": "KMM", "problem": problem, "contestant": contestant, **times, **values}


ROWS = [
    *(row("da", number, seconds) for number, seconds in enumerate((1.0, 2.0, 4.0))),
    *(row("da, landmarks", number, seconds) for number, seconds in enumerate((0.5, 1.0, 1.0))),
    row("skada", 1, 16.0, reached=0.25, note="gave up"),
]


def test_ratios_pair_the_times_of_a_round():
    lines = {line[2]: line[3:] for line in bench_shallow.table(ROWS)[1:]}
    assert lines["da, landmarks"] == ["3", "1", "3", "0.5", "0.25 to 0.5", "", "", ""]
    # 16 / 2 = 8: only the round of its own counts.
    assert lines["skada"] == ["1", "16", "48", "8", "8 to 8", "", "0.25", "gave up"]


def test_verdicts_by_hand():
    large = [
        row("da, landmarks", number, seconds, "30000x100")
        for number, seconds in enumerate((2.0, 9.0, 11.0))
    ]
    memory = [row("da, landmarks", problem="30000x100", extra_mb=1001.0)]
    found = {line[0]: line[2:] for line in bench_shallow.verdicts(ROWS + large + memory)[1:]}
    assert found["KMM, 10000x100, da: skada takes"] == ["8", "MISSED"]
    assert found["KMM, 10000x100, da, landmarks: skada takes"] == ["16", "met"]
    assert found["KMM, 30000x100, da, landmarks: process_seconds"] == ["9", "met"]
    assert found["KMM, 30000x100, da, landmarks: extra_mb"] == ["1e+03", "MISSED"]
    assert found["JDA, 1123+958x800, da: by the book takes"] == ["", "not measured"]


@pytest.mark.parametrize("rounds", [1, 3])
def test_jda_by_the_book_labels_as_da_does(rounds):
    """The classes overlap: other classifiers give other labels, and the rounds change some."""
    problem = shifted(Size(60, 8), classes=4)
    problem = problem._replace(
        source=problem.source * np.linspace(1, 4, 8),
        target=problem.target * np.linspace(1, 4, 8) + 1,
    )
    adapter = JDA(n_components=4, n_iter=rounds).fit(
        problem.source, problem.target, problem.source_labels
    )
    found = jda_by_the_book(problem, rounds=rounds, components=4)
    np.testing.assert_array_equal(found, adapter.pseudo_labels_)
    assert 0.3 < (found == problem.target_labels).mean() < 0.95


def test_squared_mmd_is_its_double_loop():
    x, y, w = (
        np.array([[0.0, 1.0], [2.0, 0.0]]),
        np.array([[1.0, 1.0], [0.0, 3.0], [1.0, 0.0]]),
        np.array([0.5, 1.5]),
    )
    z, u = np.concatenate([x, y]), np.concatenate([w / 2, -np.ones(3) / 3])
    # gamma = 1 / (2 d) = 1 / 4
    by_definition = sum(
        u[i] * u[j] * np.exp(-((z[i] - z[j]) ** 2).sum() / 4) for i in range(5) for j in range(5)
    )
    assert squared_mmd(Problem("", x, y), w) == pytest.approx(by_definition, rel=1e-12)


@pytest.mark.parametrize("package", ["skada", "adapt"])
def test_peers_give_a_weight_a_row_and_the_mapped_source(package):
    pytest.importorskip(package)
    problem = shifted(Size(40, 3))
    shapes = {
        each.method: np.shape(timed(each, problem).result)
        for each in CONTESTANTS
        if each.package == package
    }
    assert shapes["KMM"] == shapes["KLIEP"] == (40,) and shapes["CORAL"][1] == 3


def test_slow_peers_run_when_asked_for_and_up_to_their_size():
    (book,) = (each for each in CONTESTANTS if each.name == "by the book")
    for slow, runs in ((False, [True, False, False]), (True, [True, True, False])):
        bench = bench_shallow.Bench(bench_shallow.Options(slow_peers=slow))
        problems = [shifted(Size(n, 1)) for n in (200, 2000, 2001)]
        assert [
            bench.runs(book, each, often=True) or bench.runs(book, each, often=False)
            for each in problems
        ] == runs


def test_without_the_histograms_jda_is_left_out_and_named(tmp_path):
    bench = bench_shallow.Bench(bench_shallow.Options(data_root=tmp_path))
    assert bench.labelled() == [] and any(
        each.startswith("JDA (") and str(tmp_path) in each for each in bench.missing
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rounds", "0"], "rounds must be at least 1; got 0"),
        (["--sizes", "64"], "a size is rows x width, as 64x2048; got '64'"),
        (["--methods", "KMN"], "methods must be of JDA, TCA, KMM, KLIEP, CORAL; got KMN"),
    ],
)
def test_a_wrong_flag_is_one_message(words, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["shallow.py", *words])
    with pytest.raises(SystemExit) as stopped:
        bench_shallow.main()
    printed = f"{stopped.value} {capsys.readouterr().err}".replace("│", " ")
    assert says in " ".join(printed.split())


@pytest.mark.slow
def test_smoke_test_prints_what_the_csv_says(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "experiments/benchmarks/shallow.py"),
        "--smoke-test",
        "--out",
        "times/bench.csv",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "times/bench.csv").open()))
    timed_rows = [each for each in rows if each["process_seconds"]]
    cases = {(each["method"], each["problem"], each["contestant"]) for each in timed_rows}
    assert cases >= {
        ("JDA", "32x16", "da"),
        ("JDA", "32x16", "by the book"),
        ("KMM", "64x4", "da, landmarks"),
        ("CORAL", "64x4", "da"),
    }
    for case in cases:
        own, first = (
            [
                each
                for each in timed_rows
                if (each["method"], each["problem"], each["contestant"]) == (*case[:2], name)
            ]
            for name in (case[2], "da")
        )
        assert [each["round"] for each in own] == ["0", "1"] and {
            each["threads"] for each in own
        } == {"1"}
        ratios = [
            float(a["process_seconds"]) / float(b["process_seconds"])
            for a, b in zip(own, first, strict=True)
        ]
        pattern = rf"^{case[0]} +{case[1]} +{case[2]}  +2 +\S+ +\S+ +(\S+) +\S+ to \S+"
        (shown,) = re.findall(pattern, done.stdout, re.MULTILINE)
        assert float(shown) == pytest.approx(float(np.median(ratios)), rel=0.006)
    (memory,) = [each for each in rows if each["extra_mb"]]
    assert float(memory["extra_mb"]) < 50
