"""One process at a time fills a run. Oracle: real processes, killed at every operation on files."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from da.records import claim as claims
from da.records.claim import BusyError, claim, release
from da.records.owner import Owner, new_owner, read_owner, written
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
# A process that is killed before its n-th operation on the folder, while it claims a run and gives
# it back. If it comes so far, it says after how many operations it had the claim, and ends.
DOOMED = """
import os, signal, sys
from pathlib import Path
from da.records.claim import claim, release
folder, left = sys.argv[1], int(sys.argv[2])
done = 0
def hook(event, arguments):
    global done
    if event in ("open", "os.link", "os.remove", "os.mkdir") and folder in str(arguments[0]):
        if done == left:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
sys.addaudithook(hook)
held = claim(Path(folder), "the run")
print("held after", done, flush=True)
release(held)
print("released after", done, flush=True)
"""


def start(folder: Path, **more: bool) -> Run:
    return Run.start(folder, {}, **NAMES, wandb="disabled", **more)  # type: ignore[arg-type]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("claim*"))


def test_a_run_is_busy_while_another_process_lives_and_free_when_it_is_killed(tmp_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "has it\n"
        with pytest.raises(BusyError, match="mmd a>b seed 0 is being filled by another process"):
            start(tmp_path)
        with pytest.raises(BusyError, match=rf"\({holder.pid} on "):
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
    assert files(run.directory) == []
    assert start(tmp_path).finished and start(tmp_path).finished


def test_the_same_process_may_begin_a_run_again(tmp_path: Path):
    first = start(tmp_path)
    first.log(1, {"loss": 1.0})
    again = start(tmp_path)
    assert again.metrics_position() == first.metrics_position() > 0
    again.close(failed=True)
    assert files(again.directory) == []


def test_a_run_that_cannot_begin_is_given_back(tmp_path: Path):
    run = start(tmp_path)
    run.finish({"selected": {}})
    (run.directory / "env.json").write_text("{}")
    with pytest.raises(ValueError, match="env.json was changed or damaged"):
        start(tmp_path)
    assert files(run.directory) == []


@pytest.mark.parametrize("left", ["whole chain", "rest of a chain"])
def test_what_a_process_left_that_was_killed_after_its_result_is_tidied(left: str, tmp_path: Path):
    run = start(tmp_path)
    held = run._claim
    assert held is not None
    first = replace(held.owner, process=2**22 + 1)  # a dead one's
    run.finish({"selected": {}})
    second = replace(first, token="b" * 16)
    (run.directory / f"claim.{first.token}").write_bytes(written(second))
    if left == "whole chain":
        (run.directory / "claim").write_bytes(written(first))
    assert start(tmp_path, rank_zero=False).finished and files(run.directory) != []
    assert start(tmp_path).finished and files(run.directory) == []


def elsewhere(path: Path) -> None:
    """Make a claim that of a process on another machine."""
    rewrite(path, host="elsewhere", system="another boot")


def rewrite(path: Path, **changed: Any) -> None:
    owner = read_owner(path)
    assert owner is not None
    path.write_bytes(written(replace(owner, **changed)))


def test_an_owner_elsewhere_lives_as_long_as_its_file_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claims, "SILENCE", 0.5)
    held = claim(tmp_path, "the run")
    claims._held.clear()  # as in another process
    elsewhere(tmp_path / "claim")
    for k in range(8):
        with pytest.raises(BusyError, match="on elsewhere"):
            claim(tmp_path, "the run")
        os.utime(held.path, (k, k))  # its clock may go wrong
        time.sleep(0.1)
    with pytest.raises(BusyError):
        claim(tmp_path, "the run")
    time.sleep(0.6)
    second = claim(tmp_path, "the run")
    assert files(tmp_path) == ["claim", f"claim.{held.owner.token}"]
    second.check()
    with pytest.raises(BusyError, match="was taken over by another process"):
        held.check()
    release(held)  # it has nothing to give
    second.check()
    release(second)
    assert files(tmp_path) == []


def test_a_run_that_was_taken_over_takes_no_byte_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claims, "SILENCE", 0.0)
    asleep = start(tmp_path)
    asleep.log(1, {"loss": 1.0})
    claims._held.clear()
    elsewhere(asleep.directory / "claim")
    awake = start(tmp_path)
    awake.log(2, {"loss": 2.0})
    before = (awake.directory / "metrics.jsonl").read_bytes()
    for work in (
        lambda: asleep.log(2, {"loss": 9.0}),
        lambda: asleep.rewind(0),
        lambda: asleep.finish({"selected": {}}),
    ):
        with pytest.raises(BusyError):
            work()
    # Even a line that was on its way goes into a file that is no longer there.
    asleep.lines._file.write(b'{"step":2,"loss":9.0}\n')  # type: ignore[union-attr]
    asleep.lines._file.flush()  # type: ignore[union-attr]
    asleep.close(failed=True)
    assert (awake.directory / "metrics.jsonl").read_bytes() == before
    awake.finish({"selected": {}})
    assert start(tmp_path).finished and files(awake.directory) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": 3}', '{"token": "../../x"}'])
def test_a_claim_that_cannot_be_read_counts_until_it_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
):
    monkeypatch.setattr(claims, "SILENCE", 0.2)
    (tmp_path / "claim").write_text(content)
    with pytest.raises(BusyError, match=r"claim is damaged .*; if none does, remove it"):
        claim(tmp_path, "the run")
    time.sleep(0.3)
    release(claim(tmp_path, "the run"))
    assert files(tmp_path) == []


def test_every_flipped_bit_of_a_claim_is_seen(tmp_path: Path):
    path, owner = tmp_path / "claim", new_owner()
    content = written(owner)
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert read_owner(path) == Owner()
    path.write_bytes(content)
    assert read_owner(path) == owner


def test_a_folder_that_is_gone_is_told(tmp_path: Path):
    run = start(tmp_path / "runs")
    run.log(1, {"loss": 1.0})
    (tmp_path / "runs").rename(tmp_path / "away")
    with pytest.raises(OSError, match=r"cannot write the run folder .*it is gone.*--runs-dir"):
        run.log(2, {"loss": 1.0})


def test_the_number_of_a_process_that_came_later_is_not_its_owner(tmp_path: Path):
    """The system gives numbers away again; the time of the start tells two processes apart."""
    held = claim(tmp_path, "the run")
    claims._held.clear()
    found = read_owner(held.path)
    assert found == held.owner
    if not found.started:
        pytest.skip("this system does not tell when a process started")
    assert found.process == os.getpid() and found.started == new_owner().started
    rewrite(held.path, started="1")
    release(claim(tmp_path, "the run"))


def doomed(folder: Path, operations: int) -> tuple[int, str]:
    command = [sys.executable, "-c", DOOMED, str(folder), str(operations)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout


def kills_at_every_operation(folder: Path) -> int:
    """Kill a process before each of its operations, and claim the run after each kill."""
    kills = 0
    for operations in range(100):
        status, _ = doomed(folder, operations)
        held = claim(folder, "the run")
        held.check()
        if operations % 2:
            release(held)
        else:
            claims._held.clear()
            rewrite(held.path, process=2**22 + 1)  # a dead one's
        if status == 0:
            return kills
        kills += 1
    raise AssertionError("it never came to its end")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="dead owners are told from /proc")
def test_a_claim_can_be_taken_over_wherever_its_owner_was_killed(tmp_path: Path):
    assert kills_at_every_operation(tmp_path) >= 10


def rival(folder: Path, until: float, seed: int) -> int:
    """A forked process that is inside the folder as often as it can; its number.

    It notes when it is inside, which must be alone. Its exit status is 3 if it was not.
    """
    process = os.fork()
    if process:
        return process
    chance, status, witness = random.Random(seed), 0, folder / "inside"
    while time.time() < until and status == 0:
        try:
            held = claim(folder, "the run")
        except BusyError:
            time.sleep(0.002)
            continue
        try:
            os.symlink(str(os.getpid()), witness)
        except FileExistsError:
            other = Path(f"/proc/{os.readlink(witness)}/stat")
            if other.exists() and other.read_text().rpartition(")")[2].split()[0] not in "ZX":
                status = 3
            os.unlink(witness)  # its process was killed inside
            os.symlink(str(os.getpid()), witness)
        time.sleep(chance.uniform(0, 0.003))
        held.check()
        with open(folder / "times", "a") as file:
            file.write("x")
        os.unlink(witness)
        release(held)
    os._exit(status)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="dead owners are told from /proc")
def test_rivals_that_are_killed_are_never_inside_together(tmp_path: Path):
    chance, until = random.Random(0), time.time() + float(os.environ.get("DA_SECONDS", "20"))
    alive, kills = [rival(tmp_path, until, k) for k in range(4)], 0
    while time.time() < until:
        time.sleep(chance.uniform(0.0, 0.2))
        victim = alive.pop(chance.randrange(len(alive)))
        os.kill(victim, signal.SIGKILL)
        _, status = os.waitpid(victim, 0)
        assert os.WIFSIGNALED(status) or time.time() > until, status
        kills += 1
        alive.append(rival(tmp_path, until, 10 + kills))
    assert [os.waitpid(process, 0)[1] for process in alive] == [0] * 4
    times = len((tmp_path / "times").read_text())
    print(f"{kills} kills, {times} times inside")
    assert kills >= 20 and times >= 20
