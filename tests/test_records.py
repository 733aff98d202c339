"""Records on disk.

Oracles: hashlib and json by hand, the bytes of files, killed processes (SIGKILL), and what the file
system itself refuses.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from da.records.reading import read_runs
from da.records.run import Run

NAMES = {"experiment": "toy", "method": "mmd", "source": "amazon", "target": "webcam", "seed": 0}
RESULT = {"selected": {"last": {"step": 2, "target_accuracy": 0.5}}, "seconds": 1.5}


def start(folder: Path, config: dict | None = None, **words) -> Run:
    return Run.start(
        folder,
        {"steps": 2} if config is None else config,
        **{**NAMES, "wandb": "disabled", **words},
    )


def script(folder: Path, body: str) -> subprocess.Popen:
    """A process of its own that has started a run in `folder` and prints how far it came."""
    names = ", ".join(f"{key}={value!r}" for key, value in NAMES.items())
    head = (
        "import sys, time\nfrom da.records.run import Run\n"
        f"run = Run.start({str(folder)!r}, {{'steps': 2}}, {names}, wandb='disabled')\n"
    )
    code = head + textwrap.dedent(body)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )


def kill_after(process: subprocess.Popen, word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=10) == -signal.SIGKILL
    process.stdout.close()


def test_the_folder_is_named_by_the_names_and_the_hash_of_the_canonical_configuration(tmp_path):
    run = start(tmp_path, {"steps": 2, "layers": (1, 2)})
    by_hand = (
        '{"config":{"layers":[1,2],"steps":2},"experiment":"toy","format":2,"method":"mmd",'
        '"seed":0,"source":"amazon","target":"webcam"}'
    )
    digest = hashlib.sha256(by_hand.encode()).hexdigest()[:12]
    assert run.directory == tmp_path / "toy" / "mmd" / "amazon-webcam" / f"seed0-{digest}"
    written = json.loads((run.directory / "config.json").read_text())
    assert written == json.loads(by_hand) | {"defaults": []}


def test_the_order_of_keys_does_not_matter_and_everything_else_does(tmp_path):
    same = start(tmp_path, {"a": 1, "b": 2.5}).directory
    assert start(tmp_path, {"b": 2.5, "a": 1}).directory == same
    others = [
        start(tmp_path, {"a": 1, "b": 2.25}),
        start(tmp_path, {"a": 1}),
        start(tmp_path, {"a": 1, "b": 2.5, "c": None}),
    ]
    others += [
        start(tmp_path, {"a": 1, "b": 2.5}, **{key: "x"})
        for key in ("experiment", "method", "source", "target")
    ]
    others += [start(tmp_path, {"a": 1, "b": 2.5}, seed=1)]
    assert len({run.directory for run in others} | {same}) == len(others) + 1
    assert (
        len({run.directory.name.split("-")[1] for run in others} | {same.name.split("-")[1]})
        == len(others) + 1
    )


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({"rate": math.nan}, "config.rate"),
        ({"rate": math.inf}, "config.rate"),
        ({"optimizer": {"betas": (0.9, -math.inf)}}, r"config\.optimizer\.betas\[1\]"),
        ({"root": Path("data")}, "config.root"),
        ({"layers": {1, 2}}, "config.layers"),
        ({"weights": np.zeros(3)}, "config.weights"),
        ({"deep": [{"function": len}]}, r"config\.deep\[0\]\.function"),
        ({"table": {1: "one"}}, "config.table"),
    ],
)
def test_what_is_not_json_or_not_finite_is_named(tmp_path, config, where):
    with pytest.raises((TypeError, ValueError), match=where):
        start(tmp_path, config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        {"method": "../up"},
        {"method": ""},
        {"source": "a/b"},
        {"target": ".hidden"},
        {"experiment": "a>b"},
        {"seed": -1},
        {"seed": True},
        {"seed": "0"},
    ],
)
def test_names_that_cannot_be_folders_are_refused(tmp_path, words):
    with pytest.raises(ValueError, match=next(iter(words))):
        start(tmp_path, **words)
    assert not list(tmp_path.iterdir())


def test_an_accented_name_is_one_name_however_it_is_spelled(tmp_path):
    """The word cafe with an accent: one letter on most systems, a letter and a mark on a Mac."""
    one = start(tmp_path, source="caf\u00e9").directory
    assert start(tmp_path, source="cafe\u0301").directory == one


def test_names_that_differ_in_signs_alone_have_folders_of_their_own(tmp_path):
    names = [{"source": "a-b", "target": "c"}, {"source": "a", "target": "b-c"}]
    names += [{"method": method} for method in ("a b", "a-b", "a_b", "a+b", "A-b")]
    folders = {str(start(tmp_path, **words).directory).casefold() for words in names}
    assert len(folders) == len(names)


def test_an_unknown_mode_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(
        ValueError, match="wandb must be one of auto, online, offline, disabled; got 'of'"
    ):
        start(tmp_path, wandb="of")
    monkeypatch.setenv("WANDB_MODE", "oflfine")
    with pytest.raises(ValueError, match="WANDB_MODE must be one of"):
        start(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_from_start_to_finish(tmp_path):
    run = start(tmp_path)
    run.log(1, {"loss": 0.1 + 0.2, "rate": 1})
    run.log(2, {"loss": np.float32(0.5), "accuracy": np.array(0.25)})
    assert not run.finished
    assert (run.directory / "metrics.jsonl").read_bytes() == (
        b'{"step":1,"loss":0.30000000000000004,"rate":1}\n{"step":2,"loss":0.5,"accuracy":0.25}\n'
    )
    run.finish(RESULT)
    assert run.finished
    assert run.result() == {**NAMES, **RESULT}
    assert sorted(path.name for path in run.directory.iterdir()) == [
        "checksums.json",
        "config.json",
        "env.json",
        "metrics.jsonl",
        "result.json",
    ]
    (record,) = read_runs(tmp_path)
    assert (
        record.config == {"steps": 2}
        and record.result == {**NAMES, **RESULT}
        and record.directory == run.directory
    )
    assert record.metrics() == [
        {"step": 1, "loss": 0.30000000000000004, "rate": 1},
        {"step": 2, "loss": 0.5, "accuracy": 0.25},
    ]


def test_the_environment_holds_versions_but_neither_host_nor_path(tmp_path):
    run = start(tmp_path, device="Example GPU")
    text = (run.directory / "env.json").read_text()
    env = json.loads(text)
    assert env["python"] == platform.python_version() and env["device"] == "Example GPU"
    assert env["packages"]["numpy"] == np.__version__
    assert {"torch", "torchvision", "scikit-learn", "wandb", "lightning-fabric"} <= set(
        env["packages"]
    )
    assert env["cores"] >= 1 and env["started"].endswith("+00:00")
    assert (
        platform.node() not in text
        and str(Path.home()) + "/" not in text
        and str(Path.cwd()) not in text
        and str(tmp_path) not in text
    )


def test_the_commit_is_the_one_git_names(tmp_path):
    root = Path(__file__).parents[1]
    answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
    expected = (
        answer.stdout.strip() if (root / ".git").exists() and answer.returncode == 0 else None
    )
    assert (
        json.loads((start(tmp_path).directory / "env.json").read_text())["git"]["commit"]
        == expected
    )


def test_records_import_neither_torch_nor_wandb():
    heavy = {"torch", "wandb", "sklearn", "matplotlib"}
    code = f"import sys, da.records; print(sorted({heavy} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert answer.stdout.strip() == "[]"


def test_values_that_are_not_finite_become_null_and_are_read_as_nan(tmp_path):
    run = start(tmp_path)
    run.log(1, {"loss": math.nan, "norm": math.inf, "low": -math.inf})
    run.finish({"selected": {"last": {"step": 1, "score": math.nan}}})
    assert (
        run.directory / "metrics.jsonl"
    ).read_text() == '{"step":1,"loss":null,"norm":null,"low":null}\n'
    assert run.result()["selected"]["last"]["score"] is None
    (line,) = read_runs(tmp_path)[0].metrics()
    assert all(math.isnan(line[key]) for key in ("loss", "norm", "low"))


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_every_finite_float_is_read_back_to_the_bit(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("floats")
    run = start(folder)
    for step, value in enumerate(values):
        run.log(step, {"value": value})
    run.finish({})
    read = [line["value"] for line in read_runs(folder)[0].metrics()]
    assert np.array(read).tobytes() == np.array(values).tobytes()


def test_metrics_that_are_no_numbers_are_named(tmp_path):
    run = start(tmp_path)
    with pytest.raises(TypeError, match="'loss' must be one number"):
        run.log(1, {"loss": [1.0, 2.0]})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="'step'"):
        run.log(1, {"step": 3})
    run.close(failed=True)
    assert run.metrics_position() == 0


def test_a_finished_run_is_found_and_left_alone(tmp_path):
    run = start(tmp_path)
    run.log(1, {"loss": 1.0})
    run.finish(RESULT)
    before = {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.directory.iterdir()
    }
    again = start(tmp_path)
    assert again.finished and again.result() == {**NAMES, **RESULT}
    with pytest.raises(RuntimeError, match="is finished"):
        again.log(2, {"loss": 0.5})
    with pytest.raises(RuntimeError, match="is finished"):
        again.finish(RESULT)
    assert {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.directory.iterdir()
    } == before


def test_force_removes_what_was_there(tmp_path):
    run = start(tmp_path)
    run.log(1, {"loss": 1.0})
    (run.directory / "checkpoint.pt").write_bytes(b"state")
    run.finish(RESULT)
    again = start(tmp_path, force=True)
    assert not again.finished and again.metrics_position() == 0
    assert sorted(path.name for path in run.directory.iterdir()) == [
        "claim",
        "config.json",
        "env.json",
        "metrics.jsonl",
    ]


def test_an_unfinished_folder_keeps_its_checkpoint_and_metrics(tmp_path):
    run = start(tmp_path)
    run.log(1, {"loss": 1.0})
    (run.directory / "checkpoint.pt").write_bytes(b"state")
    run.close(failed=True)
    again = start(tmp_path)
    assert not again.finished and again.directory == run.directory
    assert (run.directory / "checkpoint.pt").read_bytes() == b"state"
    assert again.metrics_position() == len('{"step":1,"loss":1.0}\n')
    with pytest.raises(FileNotFoundError):
        again.result()


def test_a_changed_configuration_is_not_taken_for_the_run(tmp_path):
    run = start(tmp_path)
    run.finish(RESULT)
    changed = json.loads((run.directory / "config.json").read_text())
    changed["config"]["steps"] = 3
    (run.directory / "config.json").write_text(json.dumps(changed))
    assert not run.finished
    with pytest.raises(ValueError, match="was changed"):
        start(tmp_path)
    assert not start(tmp_path, force=True).finished


def test_rewound_metrics_end_with_the_bytes_of_an_unbroken_run(tmp_path):
    whole = start(tmp_path / "whole")
    for step in range(6):
        whole.log(step, {"loss": 1 / (step + 3)})
    whole.finish(RESULT)
    broken = start(tmp_path / "broken")
    for step in range(3):
        broken.log(step, {"loss": 1 / (step + 3)})
    position = broken.metrics_position()
    broken.log(3, {"loss": 9.0})
    broken.log(4, {"loss": 9.0})
    broken.close(failed=True)
    resumed = start(tmp_path / "broken")
    resumed.rewind(position)
    for step in range(3, 6):
        resumed.log(step, {"loss": 1 / (step + 3)})
    resumed.finish(RESULT)
    assert (resumed.directory / "metrics.jsonl").read_bytes() == (
        whole.directory / "metrics.jsonl"
    ).read_bytes()


def test_rewinding_within_one_process_and_to_the_start(tmp_path):
    run = start(tmp_path)
    run.log(1, {"loss": 1.0})
    position = run.metrics_position()
    run.log(2, {"loss": 2.0})
    run.rewind(position)
    run.log(3, {"loss": 3.0})
    assert (
        run.directory / "metrics.jsonl"
    ).read_text() == '{"step":1,"loss":1.0}\n{"step":3,"loss":3.0}\n'
    run.rewind(0)
    assert run.metrics_position() == 0


@pytest.mark.parametrize("position", [-1, 3, 1000])
def test_rewinding_elsewhere_than_to_the_end_of_a_line_is_refused(tmp_path, position):
    run = start(tmp_path)
    run.log(1, {"loss": 1.0})
    with pytest.raises(ValueError, match=f"got {position}"):
        run.rewind(position)
    assert run.metrics_position() == len('{"step":1,"loss":1.0}\n')


def test_a_half_written_last_line_is_dropped(tmp_path):
    run = start(tmp_path)
    run.log(1, {"loss": 1.0})
    run.close(failed=True)
    with open(run.directory / "metrics.jsonl", "ab") as file:
        file.write(b'{"step":2,"lo')
    again = start(tmp_path)
    assert (run.directory / "metrics.jsonl").read_text() == '{"step":1,"loss":1.0}\n'
    again.log(2, {"loss": 2.0})
    again.finish(RESULT)
    assert [line["step"] for line in read_runs(tmp_path)[0].metrics()] == [1, 2]


def test_a_half_written_line_does_not_stop_the_reading_but_a_broken_one_does(tmp_path):
    run = start(tmp_path)
    run.log(1, {"loss": 1.0})
    run.finish(RESULT)
    (run.directory / "checksums.json").unlink()  # as of a run from before there were any
    (record,) = read_runs(tmp_path)
    with open(run.directory / "metrics.jsonl", "ab") as file:
        file.write(b'{"step":2,"lo')
    assert record.metrics() == [{"step": 1, "loss": 1.0}]
    (run.directory / "metrics.jsonl").write_text('{"step":1,"lo\n{"step":2,"loss":1.0}\n')
    with pytest.raises(ValueError, match="line 1 is not a JSON object"):
        record.metrics()


def test_a_process_killed_between_logs_is_resumed(tmp_path):
    process = script(
        tmp_path,
        """
        for step in range(1000000):
            run.log(step, {"loss": 1 / (step + 1)})
            if step == 20:
                print("twenty", flush=True)
        """,
    )
    kill_after(process, "twenty")
    assert read_runs(tmp_path) == []
    run = start(tmp_path)
    lines = (run.directory / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) > 20 and json.loads(lines[20]) == {"step": 20, "loss": 1 / 21}
    run.rewind(len(b"".join(lines[:10])))
    run.log(10, {"loss": 1 / 11})
    run.finish(RESULT)
    (record,) = read_runs(tmp_path)
    assert record.metrics() == [{"step": step, "loss": 1 / (step + 1)} for step in range(11)]


def test_a_process_killed_before_the_result_is_in_place_leaves_an_unfinished_run(tmp_path):
    process = script(
        tmp_path,
        """
        import os
        def stop(*paths):
            print("stopped", flush=True)
            time.sleep(60)
        os.replace = stop
        run.log(1, {"loss": 1.0})
        run.finish({"selected": {}})
        """,
    )
    kill_after(process, "stopped")
    assert read_runs(tmp_path) == []
    run = start(tmp_path)
    assert not run.finished and run.metrics_position() > 0
    run.finish(RESULT)
    assert run.finished and not list(run.directory.glob("*.tmp"))


def test_a_folder_that_cannot_be_made_names_the_option(tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="cannot write the run folder .*--runs-dir"):
        start(tmp_path / "runs")
    if Path("/proc").is_dir():
        with pytest.raises(OSError, match="--runs-dir"):
            start(Path("/proc/runs"))


def test_a_disk_without_room_names_the_option(tmp_path):
    process = script(
        tmp_path,
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            for step in range(10):
                run.log(step, {"loss": 1.0})
        except OSError as error:
            print(error)
        """,
    )
    answer, _ = process.communicate(timeout=20)
    assert (
        answer.startswith("cannot write the run folder")
        and "File too large" in answer
        and "--runs-dir" in answer
    )
    run = start(tmp_path)
    assert run.metrics_position() == 4 * len(
        '{"step":0,"loss":1.0}\n'
    )  # 22 bytes each: the fifth line was cut


def test_a_result_may_not_contradict_the_names(tmp_path):
    run = start(tmp_path)
    with pytest.raises(ValueError, match="result must not change target"):
        run.finish({"target": "dslr"})
    assert not run.finished
    run.finish({**NAMES, **RESULT})
    assert run.result() == {**NAMES, **RESULT}


def test_other_ranks_read_and_write_nothing(tmp_path):
    other = start(tmp_path, rank_zero=False)
    other.log(1, {"loss": 1.0})
    other.finish(RESULT)
    other.rewind(0)
    other.close(failed=False)
    assert not list(tmp_path.iterdir()) and not other.finished
    first = start(tmp_path)
    first.finish(RESULT)
    assert other.finished and other.result() == first.result()


def test_reading_a_folder_of_runs(tmp_path):
    for experiment, seed in (("toy", 1), ("toy", 0), ("other", 0)):
        start(tmp_path, experiment=experiment, seed=seed).finish(RESULT)
    start(tmp_path, seed=2).log(1, {"loss": 1.0})  # unfinished
    assert [(r.result["experiment"], r.result["seed"]) for r in read_runs(tmp_path)] == [
        ("other", 0),
        ("toy", 0),
        ("toy", 1),
    ]
    assert [r.result["seed"] for r in read_runs(tmp_path, experiment="toy")] == [0, 1]
    assert read_runs(tmp_path, experiment="none") == []
    with pytest.raises(FileNotFoundError, match="no folder of runs at .*nowhere"):
        read_runs(tmp_path / "nowhere")
