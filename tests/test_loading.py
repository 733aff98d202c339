"""Background processes that prepare batches. Oracle: the table of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import multiprocessing, time
from da.data import ImageTransform, TargetBatches, read_digits
from da.data.loading import load

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    digits = read_digits("noisy").unlabelled()
    stream = TargetBatches(digits, batch_size=8, seed=0, transform=ImageTransform(16))
    batches = load(stream, start=0, stop=10, workers=1)
    print(multiprocessing.active_children()[0].pid, flush=True)
    time.sleep(100)
"""


def lives(number: int) -> bool:
    """Whether a process runs; one that has ended may stay in the table until it is collected."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_a_worker_ends_if_its_parent_is_killed_while_it_starts(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())  # which imports for a second or more
        parent.kill()
    assert lives(worker), "it has started"
    end = time.monotonic() + 60
    while lives(worker):
        assert time.monotonic() < end, "it waits for a parent that is gone"
        time.sleep(0.1)
