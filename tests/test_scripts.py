"""The scripts of experiments/, started as their users start them, and every wrong way to start one.

They run from another folder. Some run in a process of their own, without PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from da.data.benchmarks import Benchmark
from da.recipes.cells import run_cell
from da.recipes.job import Cell
from da.recipes.methods import METHODS
from da.recipes.photographs import DANFlags, image_job
from da.train.engine import launch
from problems import ROOT, real_data, run_script

# These have tests of their own.
OTHERS = (
    *("two_sample_power", "covariate_shift", "text_encoder", "selection_study", "accuracy_study"),
    *("own_data_study", "earlier_estimates"),
    "corn_spectra",
    "gpu_bundle",
)
NAMES = sorted(
    path.name for path in (ROOT / "experiments").glob("*.py") if not path.name.startswith(OTHERS)
)
# Their methods take no steps.
SHALLOW = [
    "amazon_reviews_shallow.py",
    "digits_shallow.py",
    "office_caltech_instance.py",
    "office_caltech_shallow.py",
]
SCRIPTS = [name for name in NAMES if name not in SHALLOW]
# Their networks are large.
FEWER = dict.fromkeys(
    ("office31_finetune.py", "cifar10_finetune.py"), ("--loss", "scratch", "full", "delta")
) | dict.fromkeys(("office31_features.py", "office_caltech_features.py"), ("--loss", "none", "mmd"))
# Other scripts of the same kind run in every call of the tests.
SLOW = (
    "cifar10_finetune.py",
    *("office_caltech_features.py", "rank_models.py", "office31_finetune.py"),
    *("officehome_mmd.py", "folder_mmd.py"),
)
FLAGS = ("--source", "--target", "--seed", "--data-root", "--runs-dir", "--wandb", "--smoke-test")
ONE_RUN = "--target noisy --seed 0 --loss none --steps 5".split()


def run_here(
    script: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[str, str]:
    """Run a script's smoke test in this process, because its imports take seconds.

    Returns what it writes to standard output and to standard error.
    """
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(ROOT / "experiments")
    words = ["--smoke-test", "--wandb", "disabled", *FEWER.get(script, ())]
    monkeypatch.setattr("sys.argv", [script, *words])
    runpy.run_path(str(ROOT / "experiments" / script), run_name="__main__")
    told = capsys.readouterr()
    return told.out, told.err


def smoke_results(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in (folder / "runs/smoke").rglob("result.json")]


@pytest.mark.parametrize(
    "script",
    ["digits_mmd.py", pytest.param("office_caltech_finetune.py", marks=pytest.mark.slow)],
)
def test_two_steps_in_a_process_of_their_own(script: str, tmp_path: Path) -> None:
    done = run_script(script, "--smoke-test", "--wandb", "disabled", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "smoke test" in done.stderr and "model selected by '" in done.stdout
    assert len(smoke_results(tmp_path)) >= 2


@pytest.mark.parametrize(
    "script",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SCRIPTS],
)
def test_two_steps(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said, warned = run_here(script, tmp_path, monkeypatch, capsys)
    results = smoke_results(tmp_path)
    assert len(results) >= 2 and all(result["selected"]["last"]["step"] == 2 for result in results)
    for result in results:
        # A source network is trained on the way and has no row.
        assert result["method"] in (*said.split(), "source")
        measured = result["selected"]["last"]
        if "target_accuracy" in measured:
            assert 0 <= measured["target_accuracy"] <= 1
        else:
            assert measured["target_r2"] <= 1
        if "target_confusion_matrix" in measured:
            assert len(result["classes"]) == len(measured["target_confusion_matrix"])
    assert "smoke test" in warned and "model selected by '" in said


@pytest.mark.parametrize("script", SHALLOW)
def test_every_shallow_method_runs(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said, warned = run_here(script, tmp_path, monkeypatch, capsys)
    results = smoke_results(tmp_path)
    assert len(results) > 5 and all(result["method"] in said for result in results)
    assert all(0 <= result["selected"]["last"]["target_accuracy"] <= 1 for result in results)
    assert "smoke test" in warned and "Difference to" in said, "the baseline is one of the rows"


@pytest.mark.parametrize("script", SHALLOW)
def test_data_that_shallow_methods_lack(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script names the missing file and the command that fetches it."""
    folders = ("--data-root", str(tmp_path), "--runs-dir", str(tmp_path / "runs"))
    monkeypatch.setattr("sys.argv", [script, *folders, "--wandb", "disabled"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "experiments" / script), run_name="__main__")
    message = str(stop.value.code)
    assert message.startswith("error: ") and "no file" in message
    assert "python -m da download" in message
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("script", SCRIPTS + SHALLOW)
def test_help_explains_every_flag(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "experiments" / script), run_name="__main__")
    told = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(flag in told for flag in FLAGS) and ("--steps" in told or script in SHALLOW)
    assert "python experiments/" in told, "the header of the script is its description"


@pytest.mark.slow
def test_a_finished_run_is_not_run_again_and_force_does(tmp_path: Path) -> None:
    common = (*ONE_RUN, "--wandb", "disabled")
    run_script("digits_mmd.py", *common, cwd=tmp_path)
    result = next((tmp_path / "runs").rglob("result.json"))
    first = result.stat().st_mtime_ns
    again = run_script("digits_mmd.py", *common, cwd=tmp_path)
    assert again.returncode == 0 and result.stat().st_mtime_ns == first
    run_script("digits_mmd.py", *common, "--force", cwd=tmp_path)
    assert result.stat().st_mtime_ns > first
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 1


@pytest.mark.slow
def test_adda_goes_on_from_the_source_only_network(tmp_path: Path) -> None:
    """Row none is trained on the way. A second run finds it and ends with the same figures."""
    common = "--target noisy --seed 0 --loss adda --steps 3 --batch-size 16".split()
    common += "--evaluate-every 1 --wandb disabled".split()
    metrics = []
    for extra in ([], ["--force"]):
        done = run_script("digits_mmd.py", *common, *extra, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        metrics.append(next((tmp_path / "runs/digits_mmd/adda").rglob("metrics.jsonl")).read_text())
    assert metrics[0] == metrics[1] and len(set(metrics[0].splitlines())) > 1
    assert len(list((tmp_path / "runs/digits_mmd/none").rglob("result.json"))) == 1


@pytest.mark.slow
def test_two_processes_fill_a_table_together(tmp_path: Path) -> None:
    common = "--target noisy --seed 0 --loss none mmd --steps 4 --evaluate-every 2".split()
    common += "--wandb disabled --devices 2 --accelerator cpu".split()
    for extra in ([], ["--force"], []):
        done = run_script("digits_mmd.py", *common, *extra, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("selected by 'last'") == 1  # the first process prints the table
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 2


@pytest.mark.slow
def test_wandb_offline_files_stay_with_the_run(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path / "home")}  # a home without a key
    words = (*ONE_RUN, "--wandb", "offline")
    done = run_script("digits_mmd.py", *words, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    runs = tmp_path / "runs/digits_mmd"
    assert list((runs / "none").rglob("run-*.wandb")), "the mirror of the run"
    assert list((runs / "wandb").rglob("run-*.wandb")), "the mirror of the table"
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "home"}


@pytest.mark.slow
def test_the_record_names_the_batch_statistics(tmp_path: Path) -> None:
    run_script("digits_mmd.py", "--smoke-test", "--wandb", "disabled", cwd=tmp_path)
    config = json.loads(next(tmp_path.rglob("config.json")).read_text())["config"]
    assert config["row"]["batch_statistics"] == "joint" and "data_root" not in config


def fails(script: str, *arguments: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Start a script that fails at once, and return its message.

    It exits with status 1 or 2 and leaves neither a traceback nor a result.
    """
    done = run_script(script, "--wandb", "disabled", *arguments, cwd=cwd, env=env)
    assert done.returncode in (1, 2), (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    assert not list(cwd.rglob("result.json"))
    return " ".join((done.stdout + done.stderr).replace("│", " ").split())


def test_an_unknown_flag_is_named_with_a_suggestion(tmp_path: Path) -> None:
    message = fails("digits_mmd.py", "--stepps", "3", cwd=tmp_path)
    assert "--stepps" in message and "--steps" in message


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--steps", "-5"),
        pytest.param("--batch-size", "0", marks=pytest.mark.slow),
        pytest.param("--learning-rate", "-1", marks=pytest.mark.slow),
        pytest.param("--seeds", "-1", marks=pytest.mark.slow),
    ],
)
def test_a_negative_count(tmp_path: Path, flag: str, value: str) -> None:
    message = fails("digits_mmd.py", flag, value, cwd=tmp_path)
    assert flag.removeprefix("--").replace("-", "_") in message and value in message


def test_an_unknown_domain_names_the_tasks(tmp_path: Path) -> None:
    assert "clean>rotated30" in fails("digits_mmd.py", "--target", "rotated90", cwd=tmp_path)


@pytest.mark.slow
def test_a_missing_root_says_what_to_do(tmp_path: Path) -> None:
    message = fails("office_caltech_mmd.py", cwd=tmp_path, env={"DA_DATA": ""})
    assert "no data folder" in message and "--data-root" in message and "DA_DATA" in message


def test_a_smoke_test_has_labels_of_the_benchmarks_classes(tmp_path: Path) -> None:
    """Three classes, fewer than the digits have: training would fail on a label from 3 on."""
    pets = Benchmark(
        name="pets",
        title="Pets",
        folder="pets",
        domains={"home": 3, "street": 3},
        classes=("cat", "dog", "owl"),
        tasks=(("home", "street"),),
        citation="",
    )
    flags = DANFlags(
        backbone="squeezenet1_1",
        smoke_test=True,
        steps=2,
        accelerator="cpu",
        runs_dir=tmp_path,
        wandb="disabled",
    )
    cell = Cell("mmd", "home", "street", 0)
    job = image_job(flags, pets, cell, METHODS["mmd"])
    assert set(job.evaluation.target.y.tolist()) == {0, 1, 2}
    folder = run_cell(flags, "toy", cell, lambda flags, cell: job, fabric=launch(flags))
    assert (folder / "result.json").is_file()


@pytest.mark.slow
def test_an_unwritable_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "--runs-dir" in fails(
        "digits_mmd.py", "--runs-dir", str(tmp_path / "file" / "runs"), cwd=tmp_path
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "features"),
    [("office_caltech_mmd.py", ()), ("office_caltech_shallow.py", ("--features", "squeezenet1_1"))],
)
def test_missing_weights(script: str, features: tuple[str, ...], tmp_path: Path) -> None:
    files = ("--weights", str(tmp_path / "none.pt"), "--data-root", str(ROOT))
    message = fails(script, *features, *files, cwd=tmp_path)
    assert "none.pt" in message and "--weights" in message


@pytest.mark.slow
def test_weights_of_another_network(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pt")
    files = ("--weights", str(tmp_path / "other.pt"), "--data-root", str(ROOT))
    message = fails("office_caltech_mmd.py", *files, cwd=tmp_path)
    assert "does not hold the weights of squeezenet1_1" in message


@pytest.mark.slow
def test_no_weights_at_all(tmp_path: Path) -> None:
    # A proxy at a closed port, so that the network of this machine does not matter.
    environment = {"TORCH_HOME": str(tmp_path / "empty"), "no_proxy": ""}
    environment |= dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    message = fails("office31_mmd.py", "--data-root", str(ROOT), cwd=tmp_path, env=environment)
    assert "--weights FILE.pt" in message and "resnet50" in message


def _copy_of_the_photographs(folder: Path) -> Path:
    """Copy amazon and webcam of the real data into `folder`, to be damaged."""
    root = folder / "data" / "office_caltech"
    for domain in ("amazon", "webcam"):
        shutil.copytree(real_data() / "office_caltech" / domain, root / domain)
    for directory in (root, *root.rglob("*")):
        directory.chmod(0o755)
    return root


@pytest.mark.slow
def test_damaged_photographs(tmp_path: Path) -> None:
    """Damage a copy of the real files in five ways: each time one message names the place."""
    weights = real_data() / "weights/squeezenet1_1_imagenet.pt"
    root = _copy_of_the_photographs(tmp_path)
    task = ("--source", "amazon", "--target", "webcam")
    files = ("--weights", str(weights), "--data-root", str(tmp_path / "data"))
    environment = {"DA_CACHE": str(tmp_path / "cache")}

    def message() -> str:
        return fails("office_caltech_mmd.py", *task, *files, cwd=tmp_path, env=environment)

    photograph = next((root / "webcam/mug").glob("*.jpg"))
    content = photograph.read_bytes()
    photograph.write_bytes(content[: len(content) // 2])
    assert photograph.name in message(), "a corrupt image is named"
    photograph.write_bytes(content)
    (root / "webcam/mug").rename(tmp_path / "mug")
    assert "mug" in message(), "a missing class folder"
    (root / "webcam/mug").mkdir()
    assert "mug" in message(), "an empty class folder"
    (root / "webcam/mug").rmdir()
    shutil.copytree(tmp_path / "mug", root / "webcam/teapot")
    assert "teapot" in message(), "a class that the benchmark does not have"
    shutil.rmtree(root / "webcam")
    assert "webcam" in message(), "a missing domain"


@pytest.mark.slow
def test_two_steps_on_real_photographs(tmp_path: Path) -> None:
    data = real_data()
    weights = data / "weights/squeezenet1_1_imagenet.pt"
    words = "--source dslr --target webcam --steps 2 --batch-size 4 --evaluate-every 2".split()
    words += ["--wandb", "disabled", "--weights", str(weights), "--data-root", str(data)]
    words += ["--precision", "32-true"]  # bfloat16 takes ten times as long on some processors
    environment = {"DA_CACHE": str(tmp_path / "cache")}
    done = run_script("office_caltech_mmd.py", *words, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    config = json.loads(next((tmp_path / "runs").rglob("config.json")).read_text())["config"]
    assert config["weights"].startswith("squeezenet1_1_imagenet.pt sha256:")
    assert np.load(next((tmp_path / "cache").rglob("*.npy")), mmap_mode="r").dtype == np.uint8
    Image.open(next((data / "office_caltech/webcam").rglob("*.jpg"))).verify()


def interrupted(
    folder: Path, *flags: str, times: int = 1, until: str = ""
) -> tuple[int, list[str]]:
    """Train row none, press Ctrl-C after a checkpoint is written, or a line holds `until`.

    Returns the exit status and the lines that say more than how far the run is.
    """
    command = [sys.executable, str(ROOT / "experiments/digits_mmd.py"), "--wandb", "disabled"]
    task = ["--target", "noisy", "--seed", "0", "--loss", "none", "--steps", "5000"]
    process = subprocess.Popen(
        [*command, *task, "--evaluate-every", "5", *flags],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = []
    while until and until not in told and (line := process.stderr.readline()):
        told.append(line.rstrip("\n"))
    while not list(folder.rglob("checkpoint.pt")) and process.poll() is None:
        time.sleep(0.05)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    return process.returncode, [*told, *rest.splitlines()]


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept_and_the_same_command_continues(tmp_path: Path) -> None:
    status, told = interrupted(tmp_path)
    assert status == 130 and len(told) == 1
    kept = re.fullmatch(
        r"interrupted\. none clean>noisy seed 0 is kept up to step (\d+) of 5000\. "
        r"0 of 1 runs are finished\. The same command continues\.",
        told[0],
    )
    assert kept is not None and int(kept[1]) >= 5, "an interrupted step is kept, evaluated or not"
    again = f"none clean>noisy seed 0 continues at step {kept[1]} of 5000"
    status, told = interrupted(tmp_path, until=again, times=2)
    assert told[0] == again
    assert status in (130, -signal.SIGINT), "a second Ctrl-C stops at once"
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
def test_finished_runs_are_counted(tmp_path: Path) -> None:
    task = ["--target", "noisy", "--seed", "0", "--steps", "2", "--wandb", "disabled"]
    run_script("digits_mmd.py", "--loss", "none", *task, cwd=tmp_path)
    again = run_script("digits_mmd.py", "--loss", "none", "mmd", *task, cwd=tmp_path)
    assert again.stderr == "already finished: 1 of 2 runs (--force runs them again)\n"


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_same_command_continues(tmp_path: Path) -> None:
    """A limit on the size of files ends writing the checkpoint, as a full disk does."""
    code = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    script = str(ROOT / "experiments/digits_mmd.py")
    task = ["--target", "noisy", "--seed", "0", "--loss", "none", "--steps", "2"]
    done = subprocess.run(
        [sys.executable, "-c", code, script, *task, "--wandb", "disabled"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("error: cannot write checkpoint.pt in the run")
    assert re.search(r"\(File too large; \d+ MB are free there\)", line) and "continues" in line
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names <= {"config.json", "env.json", "metrics.jsonl", "predictions.npz", "lock"}
