"""Oracles: the .wandb files that the real wandb writes offline, read back here with a reader of their published format (LevelDB's log,
protocol buffers) and wandb's own message types; real processes under a pseudo-terminal, without a key, with a false one, and killed."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from da.records.run import Run, read_runs
from da.records.wandb_mirror import INIT_SECONDS, flatten, log_table, resolve_mode

pytest.importorskip("wandb")
ROOT = Path(__file__).parents[1]
NAMES: dict[str, Any] = {
    "experiment": "toy",
    "method": "mmd",
    "source": "amazon",
    "target": "webcam",
    "seed": 0,
}
CONFIG = {"learning_rate": 0.01, "multipliers": (0.5, 1.0), "optimizer": {"name": "sgd"}}
RESULT = {
    "selected": {
        "last": {"step": 3, "target_accuracy": 0.75},
        "oracle": {"step": 2, "target_accuracy": 0.875},
    },
    "seconds": 2.5,
}


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch, tmp_path):
    """Neither the tester's key nor the tester's settings, and a working directory in which nothing may land."""
    for key in [key for key in os.environ if key.startswith("WANDB_")]:
        monkeypatch.delenv(key)
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not list((tmp_path / "here").iterdir())


def start(folder: Path, mode: str = "offline", **words) -> Run:
    return Run.start(folder, CONFIG, **{**NAMES, "wandb": mode, **words})


def payloads(path: Path) -> Iterator[bytes]:
    """The records of a .wandb file: seven bytes of header, then LevelDB's log in blocks of 32 KiB."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, record = 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield record
            record = b""


def read_back(directory: Path) -> dict[str, Any]:
    """What stands in the one .wandb file below `directory`: the run message, config, history rows and summary."""
    (path,) = (directory / "wandb").glob("*run-*-*/*.wandb")
    waited = 0.0
    while (
        not (found := parse(path))["exit"] and waited < 10
    ):  # wandb's own process writes the last lines after finish() has returned
        time.sleep(0.05)
        waited += 0.05
    return found


def parse(path: Path) -> dict[str, Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, Any] = {"config": {}, "history": [], "summary": {}, "exit": []}
    for payload in payloads(path):
        record = Record()
        record.ParseFromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = record.run
            found["config"].update(
                {item.key: json.loads(item.value_json) for item in record.run.config.update}
            )
        elif kind == "history":
            found["history"].append(
                {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
            )
        elif kind == "summary":
            found["summary"].update(
                {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.summary.update
                }
            )
        elif kind == "exit":
            found["exit"].append(record.exit.exit_code)
    return found


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The history as it was logged: wandb's own columns (_step, _runtime, ...) but the step left out."""
    return [
        {"step": row["_step"], **{k: v for k, v in row.items() if not k.startswith("_")}}
        for row in found["history"]
    ]


def python(
    code: str, *, terminal: bool = False, seconds: float = 60, **environment: str
) -> tuple[str, float]:
    """What a process of its own prints, and how long it took; under a pseudo-terminal on request. It must end by itself."""
    began = time.monotonic()
    words: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": str(ROOT), **environment}}
    if not terminal:
        answer = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, **words
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout + answer.stderr, time.monotonic() - began
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        **words,
    )
    os.close(slave)
    output = b""
    while time.monotonic() < began + seconds:
        if select.select([master], [], [], 0.1)[0]:
            try:
                output += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
        elif process.poll() is not None:
            break
    if process.poll() is None and time.monotonic() >= began + seconds:
        process.kill()
        pytest.fail(f"still running after {seconds} s, having printed {output.decode()}")
    assert process.wait(timeout=10) == 0, output.decode()
    os.close(master)
    return output.decode(), time.monotonic() - began


def whole_run(folder: Path, mode: str) -> str:
    names = ", ".join(f"{key}={value!r}" for key, value in NAMES.items())
    return f"""
import sys, time
from da.records.run import Run
assert sys.argv[0] != "" and "wandb" not in sys.modules
run = Run.start({str(folder)!r}, {CONFIG!r}, {names}, wandb={mode!r})
for step in (1, 2, 3):
    run.log(step, {{"loss": 1 / step}})
run.finish({RESULT!r})
print("wandb imported:", "wandb" in sys.modules)
"""


def test_configuration_metrics_and_summary_land_in_the_offline_file(tmp_path):
    run = start(tmp_path / "runs")
    run.log(1, {"loss/task": 0.1 + 0.2, "target_accuracy": 0.5})
    run.log(3, {"loss/task": 0.25})
    run.finish(RESULT)
    found = read_back(run.directory)
    assert {key: found["config"][key] for key in CONFIG} == {**CONFIG, "multipliers": [0.5, 1.0]}
    assert {key: found["config"][key] for key in NAMES} == NAMES
    assert rows(found) == [
        {"step": 1, "loss/task": 0.1 + 0.2, "target_accuracy": 0.5},
        {"step": 3, "loss/task": 0.25},
    ]
    expected = {
        "selected/last/step": 3,
        "selected/last/target_accuracy": 0.75,
        "selected/oracle/target_accuracy": 0.875,
        "seconds": 2.5,
    }
    assert {key: found["summary"][key] for key in expected} == expected
    assert (
        found["run"].display_name == "mmd amazon>webcam seed 0" and found["run"].run_group == "toy"
    )
    assert found["run"].run_id == run.directory.name and found["exit"] == [0]


def test_a_metric_that_is_not_a_number_reaches_the_mirror_as_one(tmp_path):
    run = start(tmp_path / "runs")
    run.log(1, {"loss": math.nan})
    run.close(failed=True)
    found = read_back(run.directory)
    (row,) = rows(found)
    assert row["loss"] == "NaN" or math.isnan(row["loss"])
    assert found["exit"] == [1]


def test_a_resumed_run_replays_what_is_kept_and_nothing_else(tmp_path):
    run = start(tmp_path / "runs")
    run.log(1, {"loss": 1.0})
    position = run.metrics_position()
    run.log(2, {"loss": 99.0})
    run.close(failed=True)
    again = start(tmp_path / "runs")
    again.rewind(position)
    again.log(2, {"loss": 0.5})
    again.finish(RESULT)
    assert rows(read_back(again.directory)) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]
    assert rows(read_back(again.directory)) == read_runs(tmp_path / "runs")[0].metrics()


def test_rewinding_within_one_process_starts_the_mirror_afresh(tmp_path):
    run = start(tmp_path / "runs")
    run.log(1, {"loss": 1.0})
    run.rewind(0)
    run.log(1, {"loss": 2.0})
    run.finish(RESULT)
    assert rows(read_back(run.directory)) == [{"step": 1, "loss": 2.0}]


def test_two_runs_after_one_another_are_two(tmp_path):
    first, second = start(tmp_path / "runs"), start(tmp_path / "runs", seed=1)
    first.log(1, {"loss": 1.0})
    second.log(1, {"loss": 2.0})
    first.finish(RESULT)
    second.finish(RESULT)
    assert rows(read_back(first.directory)) == [{"step": 1, "loss": 1.0}]
    assert rows(read_back(second.directory)) == [{"step": 1, "loss": 2.0}]


def test_other_ranks_and_finished_runs_have_no_mirror(tmp_path):
    other = start(tmp_path / "runs", rank_zero=False)
    other.log(1, {"loss": 1.0})
    other.finish(RESULT)
    assert not (tmp_path / "runs").exists()
    start(tmp_path / "runs", mode="disabled").finish(RESULT)
    assert start(tmp_path / "runs").finished
    assert not list((tmp_path / "runs").rglob("*.wandb"))


def test_a_table_lands_in_a_run_of_its_own(tmp_path):
    cells = [["none", 61.5, "-"], ["mmd", 70.25, 80.0]]
    log_table(
        tmp_path / "runs",
        "toy",
        name="accuracy",
        columns=["method", "amazon>webcam", "average"],
        rows=cells,
        wandb="offline",
    )
    found = read_back(tmp_path / "runs" / "toy")
    assert found["run"].job_type == "table" and found["run"].run_group == "toy"
    (row,) = found["history"]
    assert (
        row["accuracy._type"] == "table-file"
        and row["accuracy.nrows"] == 2
        and row["accuracy.ncols"] == 3
    )
    (file,) = (tmp_path / "runs" / "toy" / "wandb").glob(
        "offline-run-*/files/" + row["accuracy.path"]
    )
    assert json.loads(file.read_text())["data"] == cells
    assert read_runs(tmp_path / "runs") == []  # the table's folder is not taken for a run


def children_named(word: str) -> list[int]:
    """The ids of this process's own children whose command holds `word`."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, name, rest = re.split(r" \((.*)\) ", status.read_text(), maxsplit=1)
        except OSError:  # it ended meanwhile
            continue
        if word in name and int(rest.split()[1]) == os.getpid():
            found.append(int(status.parent.name))
    return found


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="finds wandb's process through /proc"
)
def test_the_loss_of_wandbs_own_process_is_one_warning(tmp_path):
    run = start(tmp_path / "runs")
    run.log(1, {"loss": 1.0})
    (service,) = children_named("wandb")
    os.kill(service, signal.SIGKILL)
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(2, 50):
            run.log(step, {"loss": 1.0 / step})
        run.finish(RESULT)
    assert run.finished and len(read_runs(tmp_path / "runs")[0].metrics()) == 49
    assert len([w for w in caught if "wandb stopped answering" in str(w.message)]) == 1
    assert time.monotonic() - began < 10
    following = start(tmp_path / "runs", seed=1)
    following.log(1, {"loss": 1.0})
    following.finish(RESULT)
    assert rows(read_back(following.directory)) == [{"step": 1, "loss": 1.0}]


def test_disabled_never_imports_wandb(tmp_path):
    output, _ = python(whole_run(tmp_path / "runs", "disabled"))
    assert "wandb imported: False" in output
    output, _ = python(whole_run(tmp_path / "more", "online"), WANDB_MODE="disabled")
    assert "wandb imported: False" in output and not list(tmp_path.rglob("*.wandb"))


def test_without_wandb_training_goes_on(tmp_path):
    output, _ = python(
        "import sys; sys.modules['wandb'] = None\n"
        + whole_run(tmp_path / "runs", "auto").replace('"wandb" not in sys.modules', "True")
    )
    assert (
        output.count("RuntimeWarning: wandb cannot be imported") == 1
        and read_runs(tmp_path / "runs")[0].result["seconds"] == 2.5
    )


@pytest.mark.parametrize("terminal", [False, True])
def test_without_a_key_auto_goes_offline_quietly(tmp_path, terminal):
    output, seconds = python(whole_run(tmp_path / "runs", "auto"), terminal=terminal)
    assert output.strip() == "wandb imported: True" and seconds < 20
    (record,) = read_runs(tmp_path / "runs")
    assert [row["step"] for row in rows(read_back(record.directory))] == [1, 2, 3]


@pytest.mark.parametrize("environment", [{}, {"WANDB_MODE": "online"}])
def test_online_without_a_key_never_asks_in_a_terminal(tmp_path, environment):
    code = whole_run(tmp_path / "runs", "offline" if environment else "online")
    output, seconds = python(code, terminal=True, **environment)
    assert (
        output.count("wandb has no key") == 1 and "Enter your choice" not in output and seconds < 20
    )
    (record,) = read_runs(tmp_path / "runs")
    assert [row["step"] for row in rows(read_back(record.directory))] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("server", ["refuses", "is silent"])
def test_a_key_without_an_answering_server_goes_offline_in_time(tmp_path, server):
    key = "0123456789" * 4
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
        if server == "is silent":
            port.listen()
            words = {"WANDB_API_KEY": key}
        else:
            words = {}
            (tmp_path / "home" / ".netrc").write_text(
                f"machine {url.removeprefix('http://')}\n  login user\n  password {key}\n"
            )
            (tmp_path / "home" / ".netrc").chmod(0o600)
        output, seconds = python(
            whole_run(tmp_path / "runs", "auto"), terminal=True, WANDB_BASE_URL=url, **words
        )
    assert seconds < INIT_SECONDS + 12
    assert output.count("wandb could not start online") == 1 and "going offline" in output
    (record,) = read_runs(tmp_path / "runs")
    assert rows(read_back(record.directory)) == [
        {"step": step, "loss": 1 / step} for step in (1, 2, 3)
    ]


def test_a_killed_process_is_resumed_with_a_whole_mirror(tmp_path):
    code = whole_run(tmp_path / "runs", "offline").replace(
        "run.finish(", 'print("logged", flush=True); time.sleep(60); run.finish('
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None and process.stdout.readline() == "logged\n"
    process.kill()
    process.communicate(timeout=10)
    run = start(tmp_path / "runs")
    run.log(4, {"loss": 0.25})
    run.finish(RESULT)
    assert rows(read_back(run.directory)) == [
        {"step": step, "loss": 1 / step} for step in (1, 2, 3, 4)
    ]


def test_the_mode_of_the_environment_stands_above_the_one_asked_for(monkeypatch):
    assert [resolve_mode(mode) for mode in ("auto", "online", "offline", "disabled")] == [
        "auto",
        "online",
        "offline",
        "disabled",
    ]
    for given, expected in (
        ("offline", "offline"),
        ("disabled", "disabled"),
        ("online", "online"),
        ("dryrun", "offline"),
        ("run", "online"),
    ):
        monkeypatch.setenv("WANDB_MODE", given)
        assert resolve_mode("auto") == resolve_mode("disabled") == expected
    monkeypatch.setenv("WANDB_MODE", "")
    assert resolve_mode("offline") == "offline"


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a/b": 1, "a/c/d": 2, "e": 3}
