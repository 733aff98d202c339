"""The counts of experiments/benchmarks/survival.py: they see what is wrong; and a round of each.

Oracles: a log and folders that are made here; a run whose checksums are taken away, so that damage
must go unseen; the script itself.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from problems import ROOT

SCRIPT = ROOT / "experiments/benchmarks/survival.py"


@pytest.fixture(autouse=True)
def folder_of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script finds the files beside it, as if it were started."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))


def test_every_kind_of_method_can_be_killed() -> None:
    from survival_kinds import kinds, left_out

    assert left_out() == {}, "give its argument a line in ARGUMENTS of survival_kinds.py"
    assert {"mmd", "cdan_mcc_sdat", "SHOT", "MaskedLanguage", "CoTuning"} <= kinds().keys()


@pytest.mark.slow
def test_every_kind_of_method_trains(tmp_path: Path) -> None:
    from survival_kinds import kinds, train

    for name in kinds():
        train(name, tmp_path)
    ended = {path.parents[2].name for path in tmp_path.glob("*/*/*/seed*/result.json")}
    assert ended == kinds().keys()


def test_a_cell_that_was_begun_twice_is_seen(tmp_path: Path) -> None:
    from survival_table import begun_twice

    log = tmp_path / "begun.log"
    log.write_text("mmd 0 1\nmmd 0 2\nnone 0 3\n")
    assert begun_twice(tmp_path, {1}) == [] and begun_twice(tmp_path, {2}) == ["mmd 0"]
    log.write_text("mmd 0 1\nmmd 0 1\n")
    assert begun_twice(tmp_path, {1}) == ["mmd 0"]


def test_files_that_differ_are_named() -> None:
    from survival_table import differing

    assert differing({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == ["b", "c"]


def test_every_length_of_a_small_file_is_cut_to(tmp_path: Path) -> None:
    from survival_damage import bits_of, lengths_of

    (tmp_path / "small").write_bytes(b"12345")
    (tmp_path / "large").write_bytes(bytes(1000))
    cuts = lengths_of(tmp_path, 10)
    assert sorted(n for name, n in cuts if name == "small") == [0, 1, 2, 3, 4]
    assert sorted(n for name, n in cuts if name == "large") == [*range(0, 1000, 100), 999]
    assert lengths_of(tmp_path, 0) == []
    assert bits_of(tmp_path, 4, 0) == [("large", 0), ("small", 0), ("large", 7999), ("small", 39)]


@pytest.mark.slow
def test_damage_is_found_and_without_checksums_it_is_silent(tmp_path: Path) -> None:
    from survival_damage import damage_and_read
    from survival_kinds import train

    train("mmd", tmp_path / "runs")
    whole = next(tmp_path.glob("runs/*/*/*/seed*"))
    text = (whole / "metrics.jsonl").read_text()
    bit = 8 * (text.index('"loss/task":0.') + len('"loss/task":0.')) + 0  # of a digit
    assert damage_and_read(whole, tmp_path, "metrics.jsonl", bit=bit) == "found"
    assert damage_and_read(whole, tmp_path, "network.pt", length=100) == "found"
    end = (whole / "checksums.json").stat().st_size - 1  # the last line break
    assert damage_and_read(whole, tmp_path, "checksums.json", length=end) == "harmless"
    (whole / "checksums.json").unlink()
    assert damage_and_read(whole, tmp_path, "metrics.jsonl", bit=bit) == "silent"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="dead owners are told from /proc")
def test_a_round_of_each(tmp_path: Path) -> None:
    out = tmp_path / "survival.csv"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--smoke-test", "--out", str(out)],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = list(csv.DictReader(out.open()))
    assert {row["part"] for row in rows} == {"table", "kind", "flip", "cut", "unfinished"}
    assert all(int(row["rounds"]) > 0 and int(row["wrong"]) == 0 for row in rows)
    assert sum(int(row["kills"]) for row in rows if row["part"] == "table") > 0
