"""Several processes fill a table. Oracles: the bytes of a table that one process fills; real kills.

The processes are real, and so are the digits.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from problems import ROOT, run_script

FLAGS = "--loss none mmd --source clean --target rotated30 --seeds 0 1 2 --steps 60"
WORDS = [*FLAGS.split(), "--evaluate-every", "20", "--wandb", "disabled"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="children are looked up in /proc"),
]


def started(folder: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "experiments" / "digits_mmd.py"), *WORDS]
    return subprocess.Popen(
        [*command, "--processes", "2"],
        cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def workers_of(process: subprocess.Popen) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return [pid for pid, command in commands.items() if b"spawn_main" in command]


def wait_for(what: Callable[[], object], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def metrics(folder: Path) -> dict[str, bytes]:
    found = folder.rglob("metrics.jsonl")
    return {path.parent.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def results(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}


def test_a_killed_worker_costs_nothing_but_its_cell(tmp_path: Path):
    process = started(tmp_path)
    wait_for(lambda: results(tmp_path) and list(tmp_path.rglob("checkpoint.pt")))
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 1 and "Traceback" not in said
    assert "a process was killed" in said and "the same command continues" in said
    finished = results(tmp_path)
    assert 1 <= len(finished) < 6
    again = run_script("digits_mmd.py", *WORDS, "--processes", "2", cwd=tmp_path)
    assert again.returncode == 0 and "none" in again.stdout, again.stderr
    assert f"already finished: {len(finished)} of 6 runs" in again.stderr
    assert results(tmp_path).items() >= finished.items(), "what was finished is not run again"
    alone = tmp_path / "alone"
    assert run_script("digits_mmd.py", *WORDS, "--runs-dir", str(alone)).returncode == 0
    assert metrics(tmp_path / "runs") == metrics(alone)
    assert len(metrics(alone)) == 6


def test_workers_end_with_the_process_that_started_them(tmp_path: Path):
    process = started(tmp_path)
    wait_for(lambda: list(tmp_path.rglob("checkpoint.pt")))
    workers = workers_of(process)
    assert len(workers) == 2
    process.kill()
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 20)


def test_control_c_says_what_is_kept_and_how_to_go_on(tmp_path: Path):
    process = started(tmp_path)
    wait_for(lambda: results(tmp_path))
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130 and "Traceback" not in said
    assert "interrupted" in said and "The same command continues" in said
