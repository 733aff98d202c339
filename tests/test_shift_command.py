"""`python -m da shift` as its user starts it: what it finds, its exit status, its JSON, its files.

The samples have a known change. One run is another process; the others are in this one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_adapt_reading_wrong import random_weights

from da.adapt.shift_command import main
from da.adapt.shift_report import DriftOptions, drift_report, together
from da.adapt.sides import Side
from da.records.commands import run
from da.shift.findings import Sample, find
from da.shift.gaps import moved_gaps
from problems import ROOT

Started = Callable[..., tuple[int, str]]


@pytest.fixture
def started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Started:
    """Runs the command in this process, in the folder tmp_path: exit status, standard output."""

    def start(*words: object) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DA_CACHE", str(tmp_path / "cache"))
        fast = [] if "--permutations" in words else ["--permutations", "199"]
        test = [] if "--test" in words else ["--test", "mmd_test"]
        with pytest.raises(SystemExit) as stopped:
            run(main, [*map(str, words), *fast, *test])
        code = stopped.value.code
        out = capsys.readouterr().out
        return (1, str(code)) if isinstance(code, str) else (int(code or 0), out)

    return start


def found_by(started: Started, *words: object) -> tuple[int, dict[str, Any]]:
    status, out = started(*words, "--json")
    return status, json.loads(out)


def frame(seed: int, rows: int = 150, **shift: float) -> pd.DataFrame:
    """Numbers a and b, categories c, and classes that depend on a."""
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(2, rows))
    a, b = a + shift.get("a", 0), b.copy()
    b[generator.random(rows) < 0.05 + shift.get("gaps", 0)] = np.nan
    c = generator.choice(["x", "y", "z"], rows, p=np.roll([0.6, 0.3, 0.1], int(shift.get("c", 0))))
    label = np.where(a + 0.3 * generator.normal(size=rows) > 0.5, "high", "low")
    return pd.DataFrame({"a": a, "b": b, "c": c, "label": label})


def write(folder: Path, **tables: pd.DataFrame) -> None:
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)


@pytest.mark.slow
def test_a_process_of_its_own_prints_json_alone(tmp_path: Path) -> None:
    write(tmp_path, old=frame(0), same=frame(1), new=frame(2, a=2))
    for name, status in (("same", 0), ("new", 3)):
        words = ["old.csv", f"{name}.csv", "--json", "--test", "mmd_test", "--permutations", "199"]
        done = subprocess.run(
            [sys.executable, "-m", "da", "shift", *words],
            cwd=tmp_path,
            env={"PATH": "", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        assert json.loads(done.stdout)["shift"] == (status == 3)
        assert "Source old.csv: 150 rows, 3 columns; 2 classes" in done.stderr
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv"}, "nothing else is written"


def test_what_has_moved_is_named(started: Started, tmp_path: Path) -> None:
    write(tmp_path, old=frame(0), new=frame(1, gaps=0.3, c=1), apart=frame(2, a=0.8))
    kinds = {("a", "numbers"), ("b", "numbers"), ("b", "missing"), ("c", "categories")}
    for name, moved in (
        ("new", {("b", "missing"), ("c", "categories")}),
        ("apart", {("a", "numbers"), ("labels", "labels")}),
    ):
        status, told = found_by(started, "old.csv", f"{name}.csv")
        found = {(c["name"], c["kind"]) for c in told["columns"] if c["p_value"] <= 0.05}
        assert status == 3 and found == moved
        assert {(c["name"], c["kind"]) for c in told["columns"]} == kinds | {("labels", "labels")}


def test_columns_and_drop_and_one_table(started: Started, tmp_path: Path) -> None:
    both = pd.concat([frame(0).assign(year=2023), frame(1, a=2).assign(year=2024)])
    write(tmp_path, both=both.drop(columns="label"))
    words = [
        "both.csv",
        "--domain-column",
        "year",
        "--source-value",
        "2023",
        "--target-value",
        "2024",
    ]
    assert found_by(started, *words)[0] == 3
    status, told = found_by(started, *words, "--drop", "a")
    assert status == 0 and {c["name"] for c in told["columns"]} == {"b", "c"}
    status, told = found_by(started, *words, "--columns", "a", "b")
    assert status == 3 and {c["name"] for c in told["columns"]} == {"a", "b"}
    assert told["target"] == "both.csv (year = 2024)" and "loss_change" not in told


def test_codes_are_categories_if_they_are_named(started: Started, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    old, new = (pd.DataFrame({"code": generator.choice(codes, 100)}) for codes in ([1, 3], [1, 2]))
    write(tmp_path, old=old, new=new)
    status, told = found_by(started, "old.csv", "new.csv", "--categories", "code")
    (column,) = told["columns"]
    assert status == 3 and column["kind"] == "categories" and column["says"].endswith("target: 2")


def test_columns_that_measure_nothing_are_told(started: Started, tmp_path: Path) -> None:
    days = pd.date_range("2024", periods=300).strftime("%Y-%m-%d")
    both = pd.concat([frame(0), frame(1)]).assign(row=np.arange(300), day=days)
    both["note"] = [f"seen at dawn by {n}" for n in range(300)]
    write(tmp_path, old=both[:150], new=both[150:].assign(extra=1))
    status, told = found_by(started, "old.csv", "new.csv")
    text = " ".join(told["described"])
    assert status == 0 and not told["shift"], "their values differ in every row, and say nothing"
    assert "Dates are left out: day" in text and "number the rows are left out: row" in text
    assert "Free text is left out" in text and "only one side has are left out: extra" in text


def test_report_and_files(started: Started, tmp_path: Path) -> None:
    write(tmp_path, old=frame(0), new=frame(1, a=1.5))
    status, out = started("old.csv", "new.csv", "--out", "report")
    assert status == 3
    assert "The data have shifted (p = " in out and "The shares of the classes differ" in out
    assert "covariate shift (other samples)" in out and "A-distance" in out
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "shift.json",
        "shift.png",
        "shift.txt",
    }
    told = json.loads((tmp_path / "report/shift.json").read_text())
    assert told["shift"] and told["class_counts"].keys() == {"high", "low"}
    with Image.open(tmp_path / "report/shift.png") as image:
        assert image.width > 1000
    assert "The data have shifted" in (tmp_path / "report/shift.txt").read_text()


def test_features_texts_and_photographs(started: Started, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    np.save(tmp_path / "old.npy", generator.normal(size=(60, 4)))
    np.save(tmp_path / "new.npy", generator.normal(size=(60, 4)) * [1, 1, 1, 4])
    status, told = found_by(started, "old.npy", "new.npy")
    assert status == 3
    assert [c["name"] for c in told["columns"] if c["p_value"] < 0.05] == ["column 3"]
    for name, words in (("old", ["good", "fine", "cup"]), ("new", ["bad", "poor", "cup"])):
        reviews = [" ".join(generator.choice(words, 6)) for _ in range(40)]
        pd.DataFrame({"review": reviews}).to_csv(tmp_path / f"{name}.csv", index=False)
    assert found_by(started, "old.csv", "new.csv", "--text", "review")[0] == 3
    weights = random_weights("squeezenet1_1", tmp_path)
    for name, low in (("dark", 0), ("bright", 128)):
        (tmp_path / name).mkdir()
        for number in range(12):
            pixels = generator.integers(low, low + 128, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    words = ("dark", "bright", "--weights", weights, "--max-rows", 10)
    status, told = found_by(started, *words)
    assert status == 3 and all(name.endswith(".png") for name in told["least_like_the_source"])


WRONG = {
    "no target": (["old.csv"], "target: name a file or a folder"),
    "same": (["old.csv", "old.csv"], "source and target are the same (old.csv)"),
    "no file": (["old.csv", "absent.csv"], "absent.csv: no such file or folder"),
    "level": (["old.csv", "new.csv", "--alpha", 0.001], "alpha must lie between 2 / (1 + perm"),
    "rows": (["old.csv", "new.csv", "--max-rows", 3], "max_rows must be at least 10; got 3"),
    "flag": (["old.csv", "new.csv", "--lable", "a"], "--lable is no flag; did you mean --label?"),
    "nothing left": (["old.csv", "day.csv"], "no column in common"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_start_is_one_line_and_status_1(
    name: str, started: Started, tmp_path: Path
) -> None:
    write(tmp_path, old=frame(0), new=frame(1), day=pd.DataFrame({"day": range(20)}))
    words, expected = WRONG[name]
    status, told = started(*words, "--out", "report")
    assert status == 1 and expected in told and "\n" not in told
    assert not (tmp_path / "report").exists()


def test_gaps_by_all_ways_to_draw() -> None:
    """Fisher's test by counting: 3 of 4 and 0 of 4 missing, and 3 gaps anywhere in 8 rows."""
    source = np.array([True, True, True, False])[:, None]
    target = np.zeros((4, 1), dtype=bool)
    assert moved_gaps(source, target).p_value[0] == pytest.approx(2 * 4 / 56)
    with pytest.raises(ValueError, match="target must be bools"):
        moved_gaps(source, target.astype(float))


@pytest.mark.slow
def test_the_level_of_the_whole_report() -> None:
    """Of 200 pairs without a shift at most a share alpha is reported, within what chance allows."""
    alarms = 0
    for seed in range(200):
        sides = [side_of(frame(2 * seed + part, rows=40)) for part in range(2)]
        options = DriftOptions(test="mmd_test", permutations=99, alpha=0.1, seed=seed)
        alarms += drift_report([sides[0]], sides[1], options).found.differs
    assert alarms <= 32, "more has a chance of 1 % at the level 0.1"


def side_of(table: pd.DataFrame) -> Side:
    names = tuple(map(str, table.index))
    return Side("t.csv", "table", names, None, table.drop(columns="label"))


def test_which_side_a_row_is_of_does_not_matter_to_the_features() -> None:
    """Source and target exchanged give the same statistic of all columns."""
    one, other = side_of(frame(0, 60)), side_of(frame(1, 60, a=0.5))
    options = DriftOptions(test="mmd_test", permutations=99)
    there, back = drift_report([one], other, options), drift_report([other], one, options)
    assert there.found.test.statistic == pytest.approx(back.found.test.statistic, rel=1e-6)
    assert there.found.a_distance == pytest.approx(back.found.a_distance)
    assert len(together([one, other])) == 120


def test_what_would_have_been_found() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(120, 3))
    names = [str(row) for row in range(60)]
    found = find(Sample(x[:60], names), Sample(x[60:], names), test="mmd_test", permutations=199)
    assert not found.differs and found.strangers == []
    assert found.found_shift is not None and 0.2 <= found.found_shift <= 1.6
    words = np.eye(3)[generator.integers(3, size=120)]
    found = find(
        Sample(words[:60], names), Sample(words[60:], names), test="mmd_test", permutations=199
    )
    assert found.found_shift is None, "categories cannot be moved by a little"
