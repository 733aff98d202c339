"""One process at a time fills a run. Oracle: real processes, one of which is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from da.records.claim import BusyError
from da.records.run import Run

NAMES = {"experiment": "toy", "method": "mmd", "source": "a", "target": "b", "seed": 0}
HOLDER = """
import sys, time
from da.records.run import Run
run = Run.start(sys.argv[1], {}, experiment="toy", method="mmd", source="a", target="b", seed=0,
                wandb="disabled")
run.log(1, {"loss": 1.0})
print("has it", flush=True)
time.sleep(60)
"""


def start(folder: Path, **more: bool) -> Run:
    return Run.start(folder, {}, **NAMES, wandb="disabled", **more)  # type: ignore[arg-type]


def test_a_run_is_busy_while_another_process_lives_and_free_when_it_is_killed(tmp_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "has it\n"
        with pytest.raises(BusyError, match="mmd a>b seed 0 is being filled by another process"):
            start(tmp_path)
        with pytest.raises(BusyError):
            start(tmp_path, force=True)
        lines = list(tmp_path.rglob("metrics.jsonl"))
        assert lines[0].read_text() == '{"step":1,"loss":1.0}\n', "force has removed nothing"
        assert not start(tmp_path, rank_zero=False).finished, (
            "a process that writes nothing may look"
        )
    finally:
        holder.kill()
        holder.wait()
    run = start(tmp_path)
    run.finish({"selected": {}})
    assert not (run.directory / "lock").exists()
    assert start(tmp_path).finished and start(tmp_path).finished


def test_the_same_process_may_begin_a_run_again(tmp_path: Path):
    first = start(tmp_path)
    first.log(1, {"loss": 1.0})
    again = start(tmp_path)
    assert again.metrics_position() == first.metrics_position() > 0
    again.close(failed=True)
    assert (again.directory / "lock").exists(), "removed, it could be locked twice"
