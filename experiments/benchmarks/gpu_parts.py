"""The parts of `on_gpu.py`: the command of each, and what became of it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_checks import ROOT
from gpu_plan import Training, digit_seeds, step_seconds, training

if TYPE_CHECKING:
    from on_gpu import Options

TESTS = (
    "tests/test_stored_rows.py",
    "tests/test_batches.py::test_pinned_batches_are_the_same",
    "tests/test_on_gpu.py::test_a_variant_steps_on_a_gpu",
    "tests/test_fused.py",  # last, because its kernels are compiled
)
ROWS, COLUMNS = (1024, 4096, 16384, 65536), (64, 256, 1024, 2048)
GRACE = 15.0  # seconds between the request to end and the end


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        words: For the log.
        failed: Whether something is wrong, beside a lack of time.
        done: Whether there is nothing left to do.
        kept: What the same command must know when it is started again.
    """

    words: str
    failed: bool = False
    done: bool = False
    kept: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What the parts share."""

    options: Options
    folder: Path  # OUT/<device>
    kept: dict[str, Any]

    @property
    def device(self) -> str:
        """Where is measured."""
        return "cpu" if self.options.rehearse else "cuda"

    @property
    def smoke(self) -> list[str]:
        """The flag of a rehearsal."""
        return ["--smoke-test"] if self.options.rehearse else []

    def csv(self, name: str) -> Path:
        """The CSV of a benchmark."""
        return self.folder.resolve() / f"bench_{name}_{self.device}.csv"

    def run(self, part: str, command: list[str], seconds: float) -> tuple[int | None, str]:
        """Run a command for so many seconds, with its output in OUT/<device>/<part>.txt.

        A command that takes longer is asked to end, as by Ctrl-C, and ended after `GRACE`.

        Returns:
            The exit status, None if it was ended; and the last line of its output.
        """
        log, runs = self.folder / f"{part}.txt", self.folder.resolve() / "runs"
        runs.mkdir(exist_ok=True)
        before = {**os.environ, "WANDB_MODE": "disabled", "PYTHONUNBUFFERED": "1"}
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(map(str, command))}\n")
            file.flush()
            process = subprocess.Popen(
                [sys.executable, *map(str, command)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=before,
                cwd=runs,  # what a command leaves where it is belongs to no result
                start_new_session=True,
            )
            status = wait(process, seconds)
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return status, said[-1].strip()[-200:]


def wait(process: subprocess.Popen, seconds: float) -> int | None:
    """The exit status of a process, or None if it has been ended after so many seconds."""
    try:
        return process.wait(seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as stop:
        for request in (signal.SIGINT, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, request)
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    continue
        if isinstance(stop, KeyboardInterrupt):
            raise
        return None


def ended(status: int | None, last: str, seconds: float, words: str) -> Outcome:
    """The outcome of a command that leaves what it has measured so far."""
    if status is None:
        return Outcome(f"stopped after {seconds:.0f} s; what was measured is kept", done=True)
    if status:
        return Outcome(f"FAILED with status {status}: {last}", failed=True)
    return Outcome(words, done=True)


def run_tests(work: Work, seconds: float) -> Outcome:
    """The tests that use CUDA."""
    paths = [str(ROOT / name) for name in TESTS]
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--maxfail=10", *paths]
    if work.options.rehearse:
        command += ["-k", "not fused"]
    status, last = work.run("tests", [*command, "--rootdir", str(ROOT)], seconds)
    if status is None:
        return Outcome(f"not ended after {seconds:.0f} s", failed=True)
    return ended(status, last, seconds, last)


def run_mmd(work: Work, seconds: float) -> Outcome:
    """The squared MMD: all sizes that fit."""
    script, out = ROOT / "experiments/benchmarks/mmd.py", work.csv("mmd")
    sizes = [f"{n}x{d}" for n in ROWS for d in COLUMNS]
    command = [script, "--device", work.device, "--out", out, *work.smoke, "--memory-sizes"]
    if not work.options.rehearse:
        command += ["--sizes", *sizes, "--rounds", "5", "--least", "0.02", "--slowest", "10"]
    command += ["--seconds", f"{max(seconds - GRACE, 1):.0f}"]
    return ended(*work.run("mmd", command, seconds), seconds, f"measured, see {out.name}")


def run_step(work: Work, seconds: float) -> Outcome:
    """The step of a ResNet-50: all variants that fit."""
    script, out = ROOT / "experiments/benchmarks/resnet50_step.py", work.csv("resnet50_step")
    command = [script, "--device", work.device, "--out", out, *work.smoke]
    command += ["--workers", str(work.options.processes())]
    command += ["--seconds", f"{max(seconds - GRACE, 1):.0f}"]
    if (work.options.root() / "office31").is_dir():
        command += ["--data-root", work.options.root()]
    return ended(*work.run("step", command, seconds), seconds, f"measured, see {out.name}")


def run_office31(work: Work, seconds: float) -> Outcome:
    """DAN's recipe, and source only. Steps are counted once: a later call continues the runs."""
    known = work.kept.get("training")
    chosen = Training(**known) if known else training(seconds, step_seconds(measured(work)))
    if not chosen.rows:
        return Outcome(f"left out: too few steps fit into {seconds:.0f} s")
    kept = {"training": chosen._asdict()}
    flags = ["--source", "amazon", "--target", "webcam", "--loss", *chosen.rows]
    flags += ["--steps", str(chosen.steps), "--decay", str(chosen.decay)]
    flags += ["--evaluate-every", str(chosen.evaluate_every), "--precision", "bf16-mixed"]
    flags += ["--stored-size", "256", "--accelerator", work.device]
    flags += ["--workers", str(work.options.processes())]
    if not work.options.rehearse:
        flags += ["--weights", work.options.weights_file(), "--data-root", work.options.root()]
    outcome = table(work, "office31", "office31_mmd.py", flags, seconds)
    words = f"{chosen.steps} steps of {' and '.join(chosen.rows)}: {outcome.words}"
    return Outcome(words, outcome.failed, outcome.done, kept)


def measured(work: Work) -> list[dict[str, str]]:
    """The lines of the step's CSV; none if the part was left out."""
    path = work.csv("resnet50_step")
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_digits(work: Work, seconds: float) -> Outcome:
    """The digits table, in several processes on the one device."""
    seeds = work.kept.get("seeds") or digit_seeds(seconds)
    flags = ["--accelerator", work.device, "--seeds", *seeds]
    flags += ["--processes", str(min(4, work.options.processes()))]
    outcome = table(work, "digits", "digits_mmd.py", flags, seconds)
    return Outcome(outcome.words, outcome.failed, outcome.done, {"seeds": list(seeds)})


def table(work: Work, part: str, script: str, flags: list[Any], seconds: float) -> Outcome:
    """Run a script of experiments/. Its runs continue if the same command is given again."""
    command = [ROOT / "experiments" / script, *flags, "--wandb", "disabled", *work.smoke]
    before = time.time()
    command += ["--runs-dir", work.folder.resolve() / "runs"]
    status, last = work.run(part, command, seconds)
    if status is None:
        return Outcome(f"stopped after {seconds:.0f} s; the same command continues")
    if status:
        return Outcome(f"FAILED with status {status}: {last}", failed=True)
    return Outcome(f"done in {time.time() - before:.0f} s, see {part}.txt", done=True)


commands: dict[str, Callable[[Work, float], Outcome]] = {
    "tests": run_tests,
    "mmd": run_mmd,
    "step": run_step,
    "office31": run_office31,
    "digits": run_digits,
}
