"""experiments/on_gpu.sh: how its minutes are divided, what it checks, and where it ends.

Oracles: sums, the published learning rate, real processes, a stored CSV, made-up wheels.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "experiments" / "benchmarks"))  # as for a script that is started

import gpu_checks  # noqa: E402
import gpu_parts  # noqa: E402
import gpu_setup  # noqa: E402
import on_gpu  # noqa: E402
from gpu_plan import (  # noqa: E402
    FEWEST,
    MARGIN,
    PARTS,
    START,
    Part,
    allowance,
    digit_seeds,
    plan,
    step_seconds,
    training,
)
from mmd_rounds import foreseen  # noqa: E402
from resnet50_variants import VARIANTS, Loop, Shape, Variant  # noqa: E402

from da.data import ImageTransform, Labelled, PairedBatches  # noqa: E402

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="it needs a CUDA device")


@pytest.mark.parametrize("seconds", [0, 20, 60, 130, 300, 520, 840, 1770, 3600, 36000])
def test_the_plan_stays_within_the_time(seconds: float) -> None:
    shares = plan(PARTS, seconds)
    assert list(shares) == ["tests", "mmd", "step", "office31", "digits"]
    assert sum(shares.values()) <= seconds + 1e-6
    for part in PARTS:
        assert shares[part.name] == 0 or part.least <= shares[part.name] <= part.most


def test_more_time_takes_nothing_from_a_part() -> None:
    plans = [plan(PARTS, seconds) for seconds in range(300, 6000, 100)]
    for part in PARTS:
        own = [each[part.name] for each in plans]
        assert all(a <= b + 1e-6 for a, b in zip(own, own[1:], strict=False)), part.name
    assert all(value > 0 for value in plan(PARTS, 510).values())  # in nine minutes all five fit


def test_what_a_part_leaves_goes_to_the_next() -> None:
    """A part that ends early leaves its time; parts that need no more leave theirs at once."""
    a, b = Part("a", "", 1, 10, 100), Part("b", "", 1, 10, 50)
    assert allowance(a, [b], 200) == 100 and allowance(a, [b], 140) == 90
    assert allowance(b, [], 195) == 50
    assert allowance(a, [b], 12) == 0  # the share of each is 6, and both do not fit
    assert allowance(a, [Part("b", "", 1, 1, 50)], 12) == 10


@pytest.mark.parametrize("step", [0.02, 0.035, 0.3, None])
@pytest.mark.parametrize("seconds", [30, 100, 331, 1000, 20000])
def test_as_many_steps_as_fit(seconds: float, step: float | None) -> None:
    chosen = training(seconds, step)
    a_step = MARGIN * (step or 0.08)
    needed = START + len(chosen.rows) * chosen.steps * a_step
    if not chosen.rows:
        assert START + FEWEST * a_step > seconds
        return
    assert needed <= seconds and FEWEST <= chosen.steps <= 10_000 and chosen.steps % 50 == 0
    assert chosen.steps == 10_000 or needed + len(chosen.rows) * 50 * a_step > seconds
    assert chosen.steps // chosen.evaluate_every >= 8
    # The rate at step t is the recipe's, whatever the number of steps.
    for t in (0, chosen.steps // 2, chosen.steps):
        rate = (1 + chosen.decay * t / chosen.steps) ** -0.75
        assert rate == pytest.approx((1 + 3e-4 * t) ** -0.75, rel=1e-4)


def test_a_step_as_a_stored_benchmark_has_it() -> None:
    with open(ROOT / "experiments/records/bench_resnet50_step_cuda.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert step_seconds(rows) == pytest.approx(0.031528)
    loader = {"variant": "bf16 channels_last, loader, augmented on the GPU"}
    assert step_seconds([*rows, loader | {"ms": "40"}]) == 0.04
    assert step_seconds([*rows, loader | {"ms": "", "error": "left out"}]) == 0.031528
    assert step_seconds([]) is None and digit_seeds(60) == ("0",) and len(digit_seeds(600)) == 3


def test_time_that_a_size_will_take() -> None:
    """Sixteen times the pairs take sixteen times as long; rounds take what they take at least."""
    known = {"stream": (1000, 0.5), "gram": (1000, 0.001), "exact": (1000, 2.0)}
    expected = 8 * 8.0 + (5 * 0.05 + 3 * 0.016) + 32.0
    assert foreseen(4000, known, rounds=5, least=0.05) == pytest.approx(expected)
    assert foreseen(4000, {}, rounds=5, least=0.05) == 0


def work_in(folder: Path) -> gpu_parts.Work:
    return gpu_parts.Work(on_gpu.Options(out=folder), folder, {})


def test_a_command_is_ended_in_time_and_told_before(tmp_path: Path) -> None:
    """It is asked first, so that a script can keep what it has."""
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "try:\n    print('begun', flush=True)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('kept')\n"
    )
    before = time.time()
    status, last = work_in(tmp_path).run("part", [str(script)], 2)
    assert status is None and last == "kept" and time.time() - before < 20
    status, last = work_in(tmp_path).run("part", ["-c", "print('well'); raise SystemExit(4)"], 60)
    assert (status, last) == (4, "well")
    assert "FAILED with status 4: well" in gpu_parts.ended(status, last, 60, "").words


def test_a_deaf_command_is_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_parts, "GRACE", 0.5)
    ignoring = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", ignoring], start_new_session=True)
    assert gpu_parts.wait(process, 1.5) is None
    assert process.returncode == -signal.SIGKILL


def test_what_is_done_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def part(name: str, outcome: gpu_parts.Outcome):
        def run(work: gpu_parts.Work, seconds: float) -> gpu_parts.Outcome:
            calls.append((name, dict(work.kept), seconds))
            return outcome

        return run

    stopped = gpu_parts.Outcome("stopped", kept={"training": [300]})
    outcomes = {"tests": gpu_parts.Outcome("passed", done=True), "office31": stopped}
    monkeypatch.setattr(gpu_parts, "commands", {})
    monkeypatch.setattr(on_gpu, "commands", {k: part(k, v) for k, v in outcomes.items()})
    options = on_gpu.Options(out=tmp_path, parts=("tests", "office31"), minutes=20)
    log = on_gpu.Log(options.started)
    assert on_gpu.measure(options, tmp_path, {}, log)
    assert on_gpu.measure(options, tmp_path, {}, log)
    assert [name for name, *_ in calls] == ["tests", "office31", "office31"]
    assert calls[2][1]["training"] == [300]
    assert all(0 < seconds <= 1200 for *_, seconds in calls)
    assert on_gpu.measure(options, tmp_path, {"office31": "no photographs"}, log)
    late = on_gpu.Options(out=tmp_path, parts=("office31",), minutes=1)
    assert on_gpu.measure(late, tmp_path, {}, log)
    assert len(calls) == 3
    said = capsys.readouterr().out
    assert "tests: done before, passed" in said and "left out: no photographs" in said
    assert "are left for it and what follows" in said


def test_a_part_that_fails_is_told_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = {"mmd": lambda work, seconds: gpu_parts.Outcome("FAILED", failed=True)}
    monkeypatch.setattr(on_gpu, "commands", failing)
    options = on_gpu.Options(out=tmp_path, parts=("mmd",))
    assert not on_gpu.measure(options, tmp_path, {}, on_gpu.Log(options.started))
    assert "mmd" not in json.loads((tmp_path / "state.json").read_text())["done"]


def test_wrong_flags() -> None:
    for wrong in ({"minutes": 0}, {"parts": ()}):
        with pytest.raises(ValueError, match="minutes must be positive and parts not empty"):
            on_gpu.Options(**wrong)
    assert on_gpu.slug("NVIDIA H100 80GB HBM3") == "nvidia_h100_80gb_hbm3"


def test_a_damaged_bundle_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    digests = {"a.txt": hashlib.sha256(b"a").hexdigest()}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": digests}))
    assert gpu_checks.check_files(tmp_path) == "files: all 1 have the SHA-256 of manifest.json"
    (tmp_path / "a.txt").write_text("b")
    with pytest.raises(gpu_checks.Obstacle, match=r"1 of 1 differ .* first a\.txt"):
        gpu_checks.check_files(tmp_path)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(gpu_checks.Obstacle, match="unpack the bundle again"):
        gpu_checks.check_files(tmp_path)


def test_data_and_weights_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(gpu_checks.Obstacle, match=r"data: .*office31"):
        gpu_checks.check_data(tmp_path)
    with pytest.raises(gpu_checks.Obstacle, match="pass --weights"):
        gpu_checks.check_weights(None)
    (tmp_path / "other.pt").write_text("no weights")
    with pytest.raises(gpu_checks.Obstacle, match="weights: .* is not a state dict"):
        gpu_checks.check_weights(tmp_path / "other.pt")


def test_wheels_of_missing_packages_alone(tmp_path: Path) -> None:
    names = ["numpy-9.9-py3-none-any.whl", "no_such_package-1.0-py3-none-any.whl"]
    names += ["typing_extensions-9.9-py3-none-any.whl"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in gpu_setup.missing(tmp_path)] == [names[1]]


def small_batch(device: str):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 36, 36), dtype=np.uint8)
    domain = Labelled(pixels, torch.arange(4))
    stream = PairedBatches(
        domain, domain.unlabelled(), batch_size=2, seed=0, transform=ImageTransform(32)
    )
    return stream.batch(0).to(device)


def learns(variant: Variant, device: str) -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.manual_seed(0)
        batch = small_batch(device)
        loop = Loop(variant, Shape.small(), batch, device)
        own = [p for group in loop.optimizer.param_groups for p in group["params"]]
        start = [p.detach().clone() for p in own]
        for _ in range(3):
            loop.step(batch)
        moved = [float((p.detach() - q).norm()) for p, q in zip(own, start, strict=True)]
        assert all(math.isfinite(value) for value in moved)
        assert sum(value > 0 for value in moved) > 0.9 * len(moved)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_a_variant_steps_on_a_cpu() -> None:
    learns(Variant("tf32", "tf32"), "cpu")


@CUDA
@pytest.mark.parametrize(
    "variant", [v for v in VARIANTS if v.way != "compiled"], ids=lambda variant: variant.name
)
def test_a_variant_steps_on_a_gpu(variant: Variant) -> None:
    learns(variant, "cuda")


@pytest.mark.slow
def test_without_cuda_it_says_so_after_all_checks(tmp_path: Path) -> None:
    """Without photographs and weights too: that is told, and it is not what ends it."""
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [ROOT / "experiments/on_gpu.sh", "--data-root", str(tmp_path), "--minutes", "1"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert done.stderr.strip().splitlines()[-1] == f"error: {gpu_checks.NO_CUDA}"
    for line in ("packages: Python", "data: ", "weights: none found", "nvidia-smi: "):
        assert line in done.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_every_part_in_a_rehearsal(tmp_path: Path) -> None:
    """The commands of all parts, on the CPU, and the packed records of what they did."""
    environment = dict(os.environ, PYTHON=sys.executable)
    command = [ROOT / "experiments/on_gpu.sh", "--rehearse", "--minutes", "15", "--workers", "1"]
    command += ["--out", str(tmp_path / "out"), "--data-root", str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "out/rehearsal"
    names = {path.name for path in folder.iterdir()}
    assert {"bench_mmd_cpu.csv", "bench_resnet50_step_cpu.csv", "device.json", "log.txt"} <= names
    assert {"office31_mmd.jsonl", "digits_mmd.jsonl", "digits_mmd.curves.jsonl"} <= names
    assert (tmp_path / "out/rehearsal.tar.gz").stat().st_size > 1000
    assert set(json.loads((folder / "state.json").read_text())["done"]) == {p.name for p in PARTS}
