"""Progress. Oracle: what real processes write to standard error, into a pipe and to a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from problems import ROOT

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

# Eight steps of a real training; a line after each, if standard error is no terminal.
TRAINING = """
import sys
sys.path.insert(0, "tests")
from da.data import progress
from da.records.run import Run
from da.train.config import TrainConfig
from da.train.loop import fit
from problems import digits_job

progress.INTERVAL = 0.0
names = dict(experiment="test", method="mmd", source="clean", target="rotated30", seed=0)
run = Run.start(sys.argv[1], {}, **names, wandb="disabled")
method, stream, evaluation = digits_job()
config = TrainConfig(steps=8, log_every=4, evaluate_every=6, accelerator="cpu")
fit(method, stream, config, run, evaluation)
"""

# Two images are decoded into a cache, and three megabytes come from a server in two pieces. First a
# line may come every 30 seconds, then at once.
DATA = """
import io, sys
from pathlib import Path
from PIL import Image
from da.data import progress, transfer
from da.data.files import cache
from da.data.files.images import ImageReader

transfer._BLOCK = 1_500_000
for interval in (30.0, 0.0):
    progress.INTERVAL = interval
    print("interval", interval, file=sys.stderr)
    folder = Path(sys.argv[1]) / str(interval)
    folder.mkdir()
    files = [folder / "a.png", folder / "b.png"]
    for file in files:
        Image.new("RGB", (4, 4)).save(file)
    cache.cached_images(
        "office31/amazon", files, root=folder, shape=(3, 4, 4),
        decode=ImageReader(files, 4, 3), cache_dir=folder,
    )
    transfer._receive(io.BytesIO(bytes(3_000_000)), folder / "usps.h5.part", 0, 3_000_000)
"""


def into_a_pipe(code: str, folder: Path) -> str:
    """What the process writes to a standard error that is no terminal."""
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True, timeout=300
    )
    return done.stderr.decode()


def to_a_terminal(code: str, folder: Path) -> str:
    """What the process writes to a standard error that is a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    command = [sys.executable, "-c", code, str(folder)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 1 << 16):
            written += piece
    except OSError:  # how Linux says that the other side was closed
        pass
    os.close(ours)
    assert process.wait(timeout=300) == 0
    return written.decode()


@pytest.mark.slow
def test_training_into_a_pipe_prints_lines_without_carriage_returns(tmp_path: Path) -> None:
    said = into_a_pipe(TRAINING, tmp_path)
    assert "\r" not in said
    lines = [line for line in said.splitlines() if " of 8 steps" in line]
    assert re.findall(r"(\d+) of 8 steps", said) == [str(step) for step in range(1, 9)]
    assert "task" not in lines[2], "no losses are known before the first logged step"
    losses = r"task [\d.e-]+, align [\d.e-]+$"
    assert all(re.search(" of 8 steps, " + losses, line) for line in lines[3:5])
    scored = r" of 8 steps, target_accuracy 0\.\d+, " + losses
    assert all(re.search(scored, line) for line in lines[5:])


def test_decoding_and_downloading_into_a_pipe_print_lines_unless_they_are_short(
    tmp_path: Path,
) -> None:
    assert into_a_pipe(DATA, tmp_path).splitlines() == [
        "interval 30.0",
        "interval 0.0",
        "decoding office31/amazon: 1 of 2 images",
        "decoding office31/amazon: 2 of 2 images",
        "usps.h5: 1.50MB of 3.00MB",
        "usps.h5: 3.00MB of 3.00MB",
    ]


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    said = to_a_terminal(DATA, tmp_path)
    assert "\r" in said and "decoding office31/amazon: 100%" in said and "usps.h5: 100%" in said
    assert "1 of 2 images" not in said and "1.50MB of 3.00MB" not in said
