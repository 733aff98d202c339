"""What a run leaves in wandb.

Oracles: the .wandb files that the real wandb writes offline. They are read back here by their
published format (LevelDB's log, protocol buffers) with wandb's own message types. Real processes
run under a pseudo-terminal without a key or with a false one, and are killed.
"""

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
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from da.records import wandb_mirror
from da.records.patience import Patience
from da.records.reading import read_runs
from da.records.run import Run
from da.records.wandb_mirror import SECONDS, flatten, log_table, resolve_mode

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
    """Hide the tester's key and settings, and check that nothing lands in the working directory."""
    for key in [key for key in os.environ if key.startswith("WANDB_")]:
        monkeypatch.delenv(key)
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(wandb_mirror._Experience, "no_server", False)
    monkeypatch.setattr(wandb_mirror._Experience, "no_process", False)
    yield
    assert not list((tmp_path / "here").iterdir())


def start(folder: Path, mode: str = "offline", **words) -> Run:
    """Begin the run, or go on with it."""
    return Run.start(folder, CONFIG, **{**NAMES, "wandb": mode, **words})


def payloads(path: Path) -> Iterator[bytes]:
    """The records of a .wandb file: seven bytes of header, then LevelDB's log in 32 KiB blocks."""
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
    """Parse the one .wandb file below `directory`."""
    (path,) = (directory / "wandb").glob("*run-*-*/*.wandb")
    found, until = parse(path), time.monotonic() + 10
    # wandb's own process writes the last lines after finish() has returned.
    while not found["exit"] and time.monotonic() < until:
        time.sleep(0.05)
        found = parse(path)
    return found


def parse(path: Path) -> dict[str, Any]:
    """The run message, the configuration, the rows of the history, the summary and exit codes."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, Any] = {"config": {}, "history": [], "summary": {}, "exit": []}
    for payload in payloads(path):
        record = Record()
        record.ParseFromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = record.run
            found["config"] |= values_of(record.run.config.update)
        elif kind == "history":
            found["history"].append(values_of(record.history.item, between="."))
        elif kind == "summary":
            found["summary"] |= values_of(record.summary.update, between="/")
        elif kind == "exit":
            found["exit"].append(record.exit.exit_code)
    return found


def values_of(items: Iterable[Any], between: str = "/") -> dict[str, Any]:
    """The values by their keys. The parts of a nested key are joined."""
    return {
        item.key or between.join(item.nested_key): json.loads(item.value_json) for item in items
    }


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The history as it was logged, without wandb's own columns, except the step."""
    return [
        {"step": row["_step"], **{k: v for k, v in row.items() if not k.startswith("_")}}
        for row in found["history"]
    ]


def python(
    code: str, *, terminal: bool = False, seconds: float = 60, **environment: str
) -> tuple[str, float]:
    """Run code in a process of its own: what it prints, and how many seconds it takes.

    It must end by itself. `terminal` gives it a pseudo-terminal.
    """
    began = time.monotonic()
    words = [sys.executable, "-c", code]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    if terminal:
        return in_a_terminal(words, variables, seconds), time.monotonic() - began
    answer = subprocess.run(words, capture_output=True, text=True, timeout=seconds, env=variables)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout + answer.stderr, time.monotonic() - began


def in_a_terminal(words: list[str], variables: dict[str, str], seconds: float) -> str:
    """Run a command under a pseudo-terminal and return what it prints."""
    until = time.monotonic() + seconds
    master, slave = pty.openpty()
    ends = {"stdin": slave, "stdout": slave, "stderr": slave}
    process = subprocess.Popen(words, env=variables, start_new_session=True, **ends)
    os.close(slave)
    output = b""
    while time.monotonic() < until:
        if select.select([master], [], [], 0.1)[0]:
            try:
                output += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
        elif process.poll() is not None:
            break
    if process.poll() is None and time.monotonic() >= until:
        process.kill()
        pytest.fail(f"still running after {seconds} s, having printed {output.decode()}")
    assert process.wait(timeout=10) == 0, output.decode()
    os.close(master)
    return output.decode()


def whole_run(folder: Path, mode: str) -> str:
    """The code of a run of three steps."""
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
    assert found["run"].display_name == "mmd amazon>webcam seed 0"
    assert found["run"].run_group == "toy"
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
    columns = ["method", "amazon>webcam", "average"]
    words = {"name": "accuracy", "columns": columns, "rows": cells, "wandb": "offline"}
    log_table(tmp_path / "runs", "toy", **words)
    found = read_back(tmp_path / "runs" / "toy")
    assert found["run"].job_type == "table" and found["run"].run_group == "toy"
    (row,) = found["history"]
    assert row["accuracy._type"] == "table-file"
    assert (row["accuracy.nrows"], row["accuracy.ncols"]) == (2, 3)
    folder = tmp_path / "runs" / "toy" / "wandb"
    (file,) = folder.glob("offline-run-*/files/" + row["accuracy.path"])
    assert json.loads(file.read_text())["data"] == cells
    assert read_runs(tmp_path / "runs") == [], "the folder of the table is no run"


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
    code = whole_run(tmp_path / "runs", "auto").replace('"wandb" not in sys.modules', "True")
    output, _ = python("import sys; sys.modules['wandb'] = None\n" + code)
    assert output.count("RuntimeWarning: wandb cannot be imported") == 1
    assert read_runs(tmp_path / "runs")[0].result["seconds"] == 2.5


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
    assert output.count("wandb has no key") == 1 and seconds < 20
    assert "Enter your choice" not in output
    (record,) = read_runs(tmp_path / "runs")
    assert [row["step"] for row in rows(read_back(record.directory))] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("server", ["refuses", "is silent"])
def test_a_key_without_an_answering_server_goes_offline_in_time(tmp_path, server):
    key = "0123456789" * 4
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
        words = {"WANDB_BASE_URL": url}
        if server == "is silent":
            port.listen()
            words["WANDB_API_KEY"] = key
        else:
            netrc = tmp_path / "home" / ".netrc"
            machine = url.removeprefix("http://")
            netrc.write_text(f"machine {machine}\n  login user\n  password {key}\n")
            netrc.chmod(0o600)
        output, seconds = python(whole_run(tmp_path / "runs", "auto"), terminal=True, **words)
    assert seconds < SECONDS + 10  # with what Python and wandb take to be loaded
    assert output.count("wandb could not start online") == 1 and "going offline" in output
    (record,) = read_runs(tmp_path / "runs")
    assert rows(read_back(record.directory)) == [
        {"step": step, "loss": 1 / step} for step in (1, 2, 3)
    ]


# Two runs, one after the other, of which the first is disturbed: how many seconds each loses.
DISTURBED = """
import os, signal, sys, time
from pathlib import Path
import wandb
from da.records.run import Run
folder, mode, sent = sys.argv[1:4]
def own_process():
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().split(" (", 1)[1].rsplit(") ", 1)
        except OSError:
            continue
        if name.startswith("wandb") and int(rest.split()[1]) == os.getpid():
            return int(stat.parent.name)
for seed in range(2):
    began = time.monotonic()
    run = Run.start(folder, {}, experiment="toy", method="mmd", source="a", target="b", seed=seed,
                    wandb=mode)
    for step in range(1, 60):
        run.log(step, {"loss": 1 / step})
        if step == 10 and seed == 0 and sent != "nothing":
            os.kill(own_process(), getattr(signal, sent))
    run.finish({"selected": {}})
    print("seconds", seed, time.monotonic() - began, flush=True)
print("wandb imported:", "wandb" in sys.modules)
"""


def disturbed(folder: Path, mode: str, sent: str = "nothing", **environment: str) -> tuple:
    """What is printed, the seconds of both runs, and the seconds that the process took to end."""
    began = time.monotonic()
    command = [sys.executable, "-c", DISTURBED, str(folder), mode, sent]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [float(line.split()[2]) for line in done.stdout.splitlines() if "seconds" in line]
    assert [len(record.metrics()) for record in read_runs(folder)] == [59, 59], "whole records"
    rest = time.monotonic() - began - sum(found)
    print(f"{mode}, {sent}, {environment}: {found[0]:.1f} s, {found[1]:.1f} s, rest {rest:.1f} s")
    return done.stdout + done.stderr, *found, rest


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds wandb through /proc")
@pytest.mark.parametrize("sent", ["SIGSTOP", "SIGKILL"])
def test_wandbs_own_process_frozen_or_gone_costs_twenty_seconds_once(tmp_path, sent):
    said, first, second, rest = disturbed(tmp_path / "runs", "offline", sent)
    assert said.count("RuntimeWarning: wandb") == 1 and "Traceback" not in said
    assert first < SECONDS + 5 and second < 10 and rest < 30


@pytest.mark.slow
@pytest.mark.parametrize("server", ["none", "accepts and is silent", "answers 401", "answers 500"])
def test_a_server_that_is_no_good_costs_its_seconds_once(tmp_path, server):
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if server != "none":
            port.listen()
        if server.startswith("answers"):
            threading.Thread(target=answer, args=(port, server.split()[1]), daemon=True).start()
        words = {"WANDB_BASE_URL": f"http://127.0.0.1:{port.getsockname()[1]}"}
        words["WANDB_API_KEY"] = "0123456789" * 4
        said, first, second, rest = disturbed(tmp_path / "runs", "auto", **words)
    assert said.count("RuntimeWarning: wandb") == 1 and "Traceback" not in said
    assert "going offline, as later runs of this process do" in said
    assert first < SECONDS + 5 and second < 10 and rest < 30


def answer(port: socket.socket, status: str) -> None:
    """Give every request the same answer without content."""
    while True:
        try:
            connection, _ = port.accept()
            with connection:
                connection.recv(65536)
                head = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode())
        except OSError:
            return


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a folder is made that cannot be written")
def test_a_home_that_cannot_be_written_does_no_harm(tmp_path):
    home = tmp_path / "no folder"
    home.write_text("")  # not even the administrator can write below a file
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    said, first, second, rest = disturbed(tmp_path / "runs", "offline", **places)
    assert said.count("RuntimeWarning: wandb") <= 1 and "Traceback" not in said
    assert first < SECONDS + 5 and second < SECONDS + 5 and rest < 30


def test_neither_environment_nor_paths_nor_the_command_line_reach_wandb(tmp_path):
    here = tmp_path / "secret-folder"
    here.mkdir()
    script = here / "secret-script.py"
    script.write_text(whole_run(tmp_path / "runs", "offline"))
    secrets = {"MY_TOKEN": "secret-environment", "USER": "secret-user", "LOGNAME": "secret-user"}
    subprocess.run(
        [sys.executable, str(script), "--password", "secret-argument"], check=True, cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT), **secrets}, capture_output=True,
    )  # fmt: skip
    (record,) = read_runs(tmp_path / "runs")
    (folder,) = (record.directory / "wandb").glob("offline-run-*")
    sent = [folder.with_name(folder.name), *folder.rglob("*")]
    contents = {p: p.read_bytes() for p in sent if p.is_file() and p.parent.name != "logs"}
    assert any(path.suffix == ".wandb" for path in contents), "its log files stay here"
    words = ("secret", str(tmp_path), str(ROOT), socket.gethostname() + ".", sys.prefix)
    for path, content in contents.items():
        assert not [word for word in words if word.encode() in content], path
    assert rows(read_back(record.directory))[0] == {"step": 1, "loss": 1.0}
    assert read_back(record.directory)["run"].host == "a computer"


def test_a_killed_process_is_resumed_with_a_whole_mirror(tmp_path):
    waiting = 'print("logged", flush=True); time.sleep(60); run.finish('
    code = whole_run(tmp_path / "runs", "offline").replace("run.finish(", waiting)
    words = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, **words)
    assert process.stdout is not None and process.stdout.readline() == "logged\n"
    process.kill()
    process.communicate(timeout=10)
    run = start(tmp_path / "runs")
    run.log(4, {"loss": 0.25})
    run.finish(RESULT)
    assert rows(read_back(run.directory)) == [
        {"step": step, "loss": 1 / step} for step in (1, 2, 3, 4)
    ]


def test_a_call_that_wants_to_end_the_process_does_not(tmp_path):
    """As wandb does if its own process was killed: it exits with that one's status."""
    with pytest.raises(RuntimeError, match="asks for the end of this process: SystemExit"):
        Patience(5.0).call(lambda: sys.exit(-9))


def test_the_mode_of_the_environment_stands_above_the_one_asked_for(monkeypatch):
    for mode in ("auto", "online", "offline", "disabled"):
        assert resolve_mode(mode) == mode
    meanings = {"offline": "offline", "disabled": "disabled", "online": "online"}
    meanings |= {"dryrun": "offline", "run": "online"}
    for given, expected in meanings.items():
        monkeypatch.setenv("WANDB_MODE", given)
        assert resolve_mode("auto") == resolve_mode("disabled") == expected
    monkeypatch.setenv("WANDB_MODE", "")
    assert resolve_mode("offline") == "offline"


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a/b": 1, "a/c/d": 2, "e": 3}
