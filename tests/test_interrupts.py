"""Ctrl-C and SIGTERM. Oracles: real signals, and the bytes of a run that was never interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from da.data.batches import PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature.adversarial import DANN
from da.networks.small import mlp
from da.records.run import Run
from da.train.checkpoint import NEWEST, kept_step
from da.train.config import TrainConfig
from da.train.engine import launch
from da.train.evaluation import Evaluation
from da.train.interrupts import Interrupted, Signals, exit_status
from da.train.loop import fit
from problems import ROOT, run_script

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
DOMAIN = Labelled(X, torch.arange(40) % 3)
NAMES = {"experiment": "toy", "method": "dann", "source": "a", "target": "b", "seed": 0}


class Signalling(PairedBatches):
    """It sends this process signals while it makes a batch: {step: signals}."""

    sent: dict[int, tuple[int, ...]] = {}

    def batch(self, step: int, rank: int = 0, world_size: int = 1):  # type: ignore[no-untyped-def]
        for number in self.sent.get(step, ()):
            os.kill(os.getpid(), number)
        return super().batch(step, rank, world_size)


def train(folder: Path, sent: dict[int, tuple[int, ...]] | None = None, **settings) -> Run:
    usual = {"steps": 8, "evaluate_every": 4, "log_every": 1, "accelerator": "cpu", "threads": 1}
    run = Run.start(folder, {}, **NAMES, wandb="disabled")  # type: ignore[arg-type]
    stream = Signalling(DOMAIN, DOMAIN.unlabelled(), batch_size=8, seed=0, transform=identity)
    stream.sent = sent or {}
    torch.manual_seed(0)
    method = DANN(mlp(6, 3, hidden=8, features=8))
    try:
        fit(method, stream, TrainConfig(**usual | settings), run, Evaluation(DOMAIN, identity))  # type: ignore[arg-type]
    finally:
        run.close(failed=not run.finished)
    return run


def contents(folder: Path) -> dict[str, bytes]:
    paths = (p for p in folder.rglob("*") if p.is_file())
    return {p.name: p.read_bytes() for p in paths if p.name not in ("env.json", "checksums.json")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(train(tmp_path_factory.mktemp("whole")).directory)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_signal_ends_a_run_after_the_step_with_a_checkpoint(
    number: int, step: int, whole: dict[str, bytes], tmp_path: Path
) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted) as interrupt:
        train(tmp_path, {step: (number,)})
    assert exit_status(interrupt.value) == 128 + number
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    (path,) = tmp_path.rglob(NEWEST)
    assert kept_step(path.parent) == step + 1
    assert contents(train(tmp_path).directory) == whole


def test_a_signal_in_the_last_step_costs_nothing(whole: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, {7: (signal.SIGTERM,)})
    assert contents(train(tmp_path).directory) == whole


def test_a_second_ctrl_c_ends_at_once_and_sigterm_again_does_not(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "twice", {5: (signal.SIGINT, signal.SIGINT)})
    (path,) = tmp_path.rglob(NEWEST)
    assert kept_step(path.parent) == 4, "the last evaluation's"
    with pytest.raises(Interrupted):
        train(tmp_path / "term", {5: (signal.SIGTERM, signal.SIGTERM, signal.SIGTERM)})
    (path,) = (tmp_path / "term").rglob(NEWEST)
    assert kept_step(path.parent) == 6


def test_patience_counts_on_after_an_interrupt(tmp_path: Path) -> None:
    from da.select import SCORES

    def stopping(folder: Path, sent: dict | None = None) -> Run:
        run = Run.start(folder, {}, **NAMES, wandb="disabled")  # type: ignore[arg-type]
        stream = Signalling(DOMAIN, DOMAIN.unlabelled(), batch_size=8, seed=0, transform=identity)
        stream.sent = sent or {}
        torch.manual_seed(0)
        config = TrainConfig(steps=60, evaluate_every=4, patience=1, accelerator="cpu", threads=1)
        try:
            evaluation = Evaluation(DOMAIN, identity, scores=SCORES)
            fit(DANN(mlp(6, 3, hidden=8, features=8)), stream, config, run, evaluation)
        finally:
            run.close(failed=not run.finished)
        return run

    unbroken = stopping(tmp_path / "whole")
    assert unbroken.result()["stopped"]["step"] < 60
    with pytest.raises(Interrupted):
        stopping(tmp_path / "cut", {unbroken.result()["stopped"]["step"] - 2: (signal.SIGTERM,)})
    assert contents(stopping(tmp_path / "cut").directory) == contents(unbroken.directory)


def test_handlers_of_others_and_other_threads_are_left_alone() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        with Signals(launch(TrainConfig(accelerator="cpu"))) as signals:
            os.kill(os.getpid(), signal.SIGTERM)
        assert calls == [signal.SIGTERM] and not signals.noted
    finally:
        signal.signal(signal.SIGTERM, before)

    def in_a_thread() -> None:
        with Signals(launch(TrainConfig(accelerator="cpu"))):
            pass

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# ---------------------------------------------------------------- whole scripts

TABLE = "--loss none mmd --source clean --target rotated30 --seeds 0 --steps 120".split()
WORDS = [*TABLE, "--evaluate-every", "60", "--wandb", "disabled"]


def begun(folder: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "experiments" / "digits_mmd.py"), *WORDS, *words]
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for_step(folder: Path, step: int) -> None:
    """Wait until a run has logged a step."""
    end = time.monotonic() + 300
    wanted = f'"step":{step},'.encode()
    while not any(wanted in path.read_bytes() for path in folder.rglob("metrics.jsonl")):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def records(folder: Path) -> dict[str, bytes]:
    found = [*folder.rglob("metrics.jsonl"), *folder.rglob("result.json")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "everyone", "processes", "workers"),
    [
        (signal.SIGINT, True, "1", "0"),
        (signal.SIGTERM, False, "2", "0"),
        (signal.SIGINT, True, "2", "1"),
        (signal.SIGTERM, True, "1", "1"),
    ],
)
def test_a_signal_to_a_script_is_one_line_and_the_same_command_continues(
    number: int, everyone: bool, processes: str, workers: str, tmp_path: Path
) -> None:
    """To the script alone, as `kill` sends it; or to all its processes, as a terminal does."""
    words = ("--processes", processes, "--workers", workers)
    process = begun(tmp_path, *words)
    wait_for_step(tmp_path, 20)
    sent = time.monotonic()
    (os.killpg if everyone else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said and "The same command continues." in said
    assert time.monotonic() - sent < 60
    steps = [kept_step(path.parent) for path in tmp_path.rglob(NEWEST)]
    assert 20 <= max(steps) < 120, "a checkpoint of where it was"
    if processes == "1":
        assert f"is kept up to step {steps[0]} of 120" in said
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob("claim*"))
    again = run_script("digits_mmd.py", *WORDS, *words, cwd=tmp_path)
    assert again.returncode == 0 and f"continues at step {steps[0]}" in again.stderr + str(steps)
    alone = tmp_path / "alone"
    run_script("digits_mmd.py", *WORDS, "--processes", "1", "--runs-dir", str(alone))
    assert records(tmp_path / "runs") == records(alone) and len(records(alone)) == 4
