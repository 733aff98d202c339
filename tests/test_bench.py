"""Oracles: the bench's own CSV, from a real command, against the table that it prints; NumPy."""

from __future__ import annotations

import csv
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "benchmarks" / "step.py"


@pytest.fixture(autouse=True)
def folder_of_the_script(monkeypatch):
    """A script finds the files beside it, as if it were started."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "DA_DATA"} | {
        "OMP_NUM_THREADS": "1"
    }
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_smoke_test_prints_what_the_csv_says(tmp_path):
    done = bench(tmp_path, "--smoke-test", "--out", "times/bench.csv")
    assert done.returncode == 0, done.stderr
    assert "Left out" not in done.stdout  # photographs are no part of a smoke test
    rows = list(csv.DictReader((tmp_path / "times" / "bench.csv").open()))
    assert [(row["measure"], row["round"]) for row in rows] == [
        ("loader", "0"),
        ("loader", "1"),
        ("fit", "0"),
        ("fit", "1"),
    ]
    for measure in ("loader", "fit"):
        own = [row for row in rows if row["measure"] == measure]
        ratio = np.median([float(row["wall_ms"]) / float(row["reference_wall_ms"]) for row in own])
        printed = re.findall(rf"^{measure} .*$", done.stdout, re.MULTILINE)[0]
        assert any(
            float(number) == pytest.approx(ratio, abs=0.002)
            for number in re.findall(r"\d+\.\d{3}", printed)
        )  # the CSV is rounded
        assert all(0 < float(row["process_ms"]) and int(row["threads"]) == 1 for row in own)


def test_without_photographs_the_report_names_what_is_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DA_DATA", raising=False)
    script = runpy.run_path(str(SCRIPT))
    cases: list = []
    assert "Left out, SqueezeNet 1.1 on photographs: no data folder data" in script[
        "add_photographs"
    ](cases, script["Options"]())
    assert cases == []


def test_medians_and_verdict_by_hand():
    script = runpy.run_path(str(SCRIPT))
    own, other = (
        np.array([[12.0, 5.0], [22.0, 5.0], [99.0, 9.0]]),
        np.array([[10.0, 5.0], [20.0, 4.0], [90.0, 9.0]]),
    )
    line = script["summary"](
        "fit", "case", script["Times"](own, other)
    )  # ratios 1.2, 1.1, 1.1 and 1, 1.25, 1
    assert line == [
        "fit",
        "case",
        "22.00",
        "20.00",
        "1.100",
        "1.100 to 1.150",
        "1.000",
        "1.05 MISSED",
    ]


def test_a_wrong_flag_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["step.py", "--rounds", "0"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "rounds must be at least 1; got 0" in capsys.readouterr().err


METHODS = SCRIPT.with_name("step_methods.py")


@pytest.mark.slow
def test_methods_are_timed_on_both_networks(tmp_path):
    words = ["--loss", "none", "coral", "--rounds", "2", "--steps", "2", "--out", "times.csv"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(METHODS), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "times.csv").open()))
    assert len(rows) == 8 and {(row["network"], row["method"]) for row in rows} == {
        (network, method) for network in ("lenet", "squeezenet") for method in ("none", "coral")
    }
    for network in ("lenet", "squeezenet"):
        own = [row for row in rows if row["network"] == network and row["method"] == "coral"]
        ratio = np.median([float(row["ms"]) / float(row["reference_ms"]) for row in own])
        printed = re.findall(rf"^{network} +coral .*$", done.stdout, re.MULTILINE)[0]
        assert any(
            float(number) == pytest.approx(ratio, abs=0.02)
            for number in re.findall(r"\d+\.\d{2}", printed)
        )  # the CSV is rounded


def test_an_unknown_method_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [METHODS.name, "--loss", "nosuch"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(METHODS), run_name="__main__")
    assert "nosuch" in capsys.readouterr().err
