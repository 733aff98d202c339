"""Oracles: a double loop in NumPy, its central differences, times made by hand, a real CSV."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "experiments" / "benchmarks"))  # as for a script that is started

import mmd as bench_mmd  # noqa: E402
import mmd_contestants as bench_mmd_contestants  # noqa: E402
from mmd_contestants import CONTESTANTS, Job, Size  # noqa: E402

ON_CPU = [name for name, each in CONTESTANTS.items() if not each.only]


def by_definition(x: np.ndarray, y: np.ndarray, bandwidth: float) -> float:
    def mean(a: np.ndarray, b: np.ndarray) -> float:
        pairs = [
            sum(np.exp(-((p - q) ** 2).sum() / (c * bandwidth)) for c in (0.25, 0.5, 1, 2, 4))
            for p in a
            for q in b
        ]
        return float(np.mean(pairs))

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


def mean_distance(z: np.ndarray) -> float:
    return float(np.mean([((z[i] - z[j]) ** 2).sum() for i in range(len(z)) for j in range(i)]))


def problem() -> tuple[np.ndarray, np.ndarray, float, dict[bool, np.ndarray]]:
    """Two samples, the value, and its gradient: with a bandwidth that moves, and without."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2)), 1.5 * rng.normal(size=(5, 2)) + 0.5
    z, step = np.concatenate([x, y]), 1e-5
    gradients = {moves: np.empty_like(z) for moves in (False, True)}
    for moves, gradient in gradients.items():
        for place in np.ndindex(*z.shape):
            values = []
            for change in (step, -step):
                moved = z.copy()
                moved[place] += change
                s = mean_distance(moved if moves else z)
                values.append(by_definition(moved[:5], moved[5:], s))
            gradient[place] = (values[0] - values[1]) / (2 * step)
    return x, y, by_definition(x, y, mean_distance(z)), gradients


@pytest.mark.parametrize("name", ON_CPU)
def test_every_contestant_is_the_five_kernel_mmd_at_the_mean_bandwidth(name):
    pytest.importorskip(CONTESTANTS[name].package)
    x, y, value, gradients = problem()
    inputs = [torch.tensor(a, requires_grad=True) for a in (x, y)]
    contestant = CONTESTANTS[name]
    found, own = bench_mmd_contestants.value_and_gradient(contestant.function, *inputs)
    assert float(found) == pytest.approx(value, rel=1e-9)
    expected = gradients[contestant.moves_bandwidth]
    np.testing.assert_allclose(torch.cat(own).numpy(), expected, rtol=1e-6, atol=1e-8)


def test_the_judge_in_panels_is_the_definition():
    x, y, value, gradients = problem()
    rows = torch.tensor(x), torch.tensor(y)
    found, gradient = bench_mmd_contestants.exact(*rows, panel=3)
    assert found == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(gradient.numpy(), gradients[False], rtol=1e-6, atol=1e-8)
    moved = bench_mmd_contestants.with_bandwidth(*rows, gradient)
    np.testing.assert_allclose(moved.numpy(), gradients[True], rtol=1e-6, atol=1e-8)


def test_errors_are_relative_to_the_value_and_to_the_whole_gradient():
    x, y = (torch.ones(1, 2, requires_grad=True) for _ in range(2))  # value 4, gradient all 1
    total = bench_mmd_contestants.Contestant(lambda x, y: x.sum() + y.sum(), 0)
    found = bench_mmd_contestants.errors(
        total, x, y, (5.0, torch.tensor([[1.0, 1.0], [1.0, 2.0]]).double())
    )
    assert found["value_error"] == pytest.approx(0.2)
    assert found["gradient_error"] == pytest.approx(1 / np.sqrt(7))


@pytest.mark.slow
def test_memory_is_that_of_the_call_alone():
    """Plain autograd at 2 x 2048 rows keeps five kernels of 67 MB for its gradient.

    Neither what this process holds counts, nor its past.
    """
    past = np.ones(100_000_000)  # 800 MB
    del past
    found = bench_mmd_contestants.in_a_process(Job("autograd Gram", Size(2048, 4), "cpu", 1))
    assert 5 * 67.1 < found["extra_mb"] < 12 * 67.1
    assert set(found) == {"extra_mb"}


def test_ratios_pair_the_times_of_a_round():
    times = [
        {"products": 1.0, "a": 3.0},
        {"products": 2.0, "a": 4.0},
        {"products": 10.0, "a": 10.0},
    ]
    found = bench_mmd.summary(times, "a")
    assert found == {
        "rounds": 3,
        "seconds": 4.0,
        "product_seconds": 2.0,
        "ratio": 2.0,
        "ratio_min": 1.0,
        "ratio_max": 3.0,
    }


def test_every_round_calls_each_and_short_calls_are_repeated():
    counts = {"products": 0, "a": 0}

    def call(name: str) -> None:
        counts[name] += 1

    calls = {name: lambda name=name: call(name) for name in counts}
    rounds = list(bench_mmd.in_turns(calls, 3, 1e-4, "wall"))
    assert len(rounds) == 3 and all(set(times) == set(counts) for times in rounds)
    assert all(
        count > 2 + 3 for count in counts.values()
    )  # two of the warm-up; a call takes far less than 0.1 ms


def row(contestant: str, n: int, d: int, precision: str = "float32", **values: float) -> dict:
    return {"contestant": contestant, "n": n, "d": d, "precision": precision, **values}


def test_verdicts_by_hand():
    rows = [
        row("da auto", 64, 2048, ratio=1.5, value_error=2e-6, gradient_error=1e-6),
        row("da auto", 256, 2048, ratio=0.91, value_error=1e-7, gradient_error=2e-5),
        row("POT", 256, 2048, ratio=9.0, value_error=1.0, gradient_error=1.0),  # promises nothing
        row("da stream", 4096, 256, extra_mb=47.0),
    ]
    found = {line[0]: line[1:] for line in bench_mmd.verdicts(rows, "cpu")[1:]}
    assert found["da auto, 64x2048, float32: ratio"] == ["1.5", "1.5", "met"]
    assert found["da auto, 256x2048, float32: ratio"] == ["0.9", "0.91", "MISSED"]
    assert found["da auto, 4096x2048, float32: ratio"] == ["0.75", "", "not measured"]
    assert found["da stream, 4096x256, float32: extra_mb"] == ["48", "47", "met"]
    assert found["da auto, 64x2048, float32: value_error"] == ["1e-05", "2e-06", "met"]
    assert found["da auto, 256x2048, float32: gradient_error"] == ["1e-05", "2e-05", "MISSED"]
    assert len(found) == 5 + 2 + 2
    cuda = bench_mmd.verdicts(
        [
            row("da auto", 1024, 256, "bf16", ratio=1.6),
            row("da gram", 1024, 256, "bf16", ratio=9.0),
        ],
        "cuda",
    )
    assert cuda[1:] == [["da auto, 1024x256, bf16: ratio", "1.5", "1.6", "MISSED"]]


def test_what_would_not_fit_or_take_too_long_is_left_out_with_the_reason(tmp_path):
    bench = bench_mmd.Bench(bench_mmd.Options(out=tmp_path / "bench.csv", slowest=90.0))
    truth = bench_mmd_contestants.exact(*bench_mmd_contestants.samples(Size(8, 2), "cpu"))
    bench.slow["autograd Gram", 2, "float32"] = (2, 6.0)  # four times the rows: 96 s
    assert bench.try_out("autograd Gram", Size(8, 2), "float32", truth) == {
        "note": "left out: would take about 96 s"
    }
    bench.memory = 9000
    assert bench.try_out("torch.cdist", Size(8, 2), "float32", truth)["note"].startswith(
        "left out: needs about"
    )
    assert bench.try_out("da stream", Size(8, 2), "float32", truth).keys() == {
        "value_error",
        "gradient_error",
    }
    bench.add("torch.cdist", Size(8, 2), "float32", note="left out: x")
    bench.write()
    (written,) = csv.DictReader(bench.out.open())
    assert (written["contestant"], written["note"], written["ratio"]) == (
        "torch.cdist",
        "left out: x",
        "",
    )


@pytest.mark.slow
def test_smoke_test_prints_what_the_csv_says(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "experiments/benchmarks/mmd.py"),
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
    timed = [each for each in rows if each["ratio"]]
    assert {(each["contestant"], each["n"]) for each in timed} >= {
        (name, n) for name in ("da auto", "autograd Gram", "POT") for n in "8 16".split()
    }
    for each in timed:
        assert 0 < float(each["ratio_min"]) <= float(each["ratio"]) <= float(each["ratio_max"])
        (shown,) = re.findall(
            rf"^{each['n']}x4 +float32 +{each['contestant']} +\S+ +\S+ +(\S+) .*$",
            done.stdout,
            re.MULTILINE,
        )
        assert float(shown) == pytest.approx(float(each["ratio"]), abs=0.0051)
        assert each["rounds"] == "2" and each["clock"] == "process" and each["threads"] == "1"
        assert float(each["value_error"]) < 1e-5 and float(each["gradient_error"]) < 1e-5
    (memory,) = [each for each in rows if each["extra_mb"]]
    assert (memory["contestant"], memory["n"]) == ("da auto", "64") and float(
        memory["extra_mb"]
    ) < 50


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rounds", "0"], "rounds must be at least 1; got 0"),
        (["--sizes", "64"], "a size is rows x width, as 64x2048; got '64'"),
        (["--precisions", "tf32"], "precisions must be float32 on a CPU; got tf32"),
    ],
)
def test_a_wrong_flag_is_one_message(words, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mmd.py", *words])
    with pytest.raises(SystemExit) as stopped:
        bench_mmd.main()
    assert says in " ".join(f"{stopped.value} {capsys.readouterr().err}".replace("│", " ").split())


@pytest.mark.slow
def test_the_figure_has_the_numbers_of_its_csv(tmp_path):
    bench = bench_mmd.Bench(bench_mmd.Options(out=tmp_path / "bench.csv"))
    for n in (32, 64):
        bench.add(
            "da auto",
            Size(n, 4),
            "float32",
            ratio=2.0 / n,
            ratio_min=1.0 / n,
            ratio_max=3.0 / n,
            extra_mb=float(n),
        )
    bench.add("POT", Size(64, 4), "float32", note="left out: needs about 9 GB")
    bench.write()
    command = [
        sys.executable,
        str(ROOT / "paper_figures/bench_mmd.py"),
        "--out",
        str(tmp_path / "out"),
        "--csv",
    ]
    done = subprocess.run([*command, str(bench.out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "out/bench_mmd.csv").open()))
    assert [(each["contestant"], each["n"], each["ratio"]) for each in rows] == [
        ("da auto", "32", "0.0625"), ("da auto", "64", "0.03125"), ("POT", "64", ""),
    ]  # fmt: skip
    assert (tmp_path / "out/bench_mmd.pdf").read_bytes().startswith(b"%PDF") and (
        tmp_path / "out/bench_mmd.png"
    ).is_file()
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    done = subprocess.run([*command, str(wrong)], capture_output=True, text=True)
    assert done.returncode == 1 and "is not a CSV of experiments/benchmarks/mmd.py" in done.stderr
