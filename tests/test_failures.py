"""Cells that fail, and what is missing before any is begun.

Oracles: a trade-off of 1e300, which overflows in float32 at the first step; the records of a table
without the rows that fail; folders that were made and damaged here.
"""

from __future__ import annotations

import json
import pickle
import re
import runpy
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from da.data.benchmarks import (
    JDA_DIGITS,
    MNIST_USPS,
    OFFICE31,
    OFFICE_CALTECH10,
    OFFICE_CALTECH_SURF,
    Benchmark,
)
from da.data.checking import check_domain
from da.data.digits import DIGITS
from da.data.text_benchmarks import AMAZON_REVIEW_TEXTS, AMAZON_REVIEWS
from da.feature import mmd2
from da.ops import discrepancy
from da.recipes.checks import check_inputs, domains_of
from da.recipes.failures import (
    CellError,
    Failure,
    cell_error,
    constant_memory,
    list_failures,
)
from da.recipes.flags import CommonFlags
from da.recipes.job import Cell
from da.recipes.script import main
from da.records.files import WriteError
from da.records.reading import read_runs
from problems import ROOT, real_data, run_script

CELL = Cell("mmd", "a", "b", 0)
TABLE = "--target noisy --seeds 0 1 --steps 2 --evaluate-every 2 --wandb disabled".split()
OVERFLOWS = ("--loss", "none", "mmd", "--trade-off", "mmd=1e300")


def digits_mmd(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """The message that the script exits with, run in this process."""
    monkeypatch.setattr("sys.argv", ["digits_mmd.py", *TABLE, "--runs-dir", str(folder), *words])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "experiments/digits_mmd.py"), run_name="__main__")
    return str(stop.value.code)


def check_what_is_left(said: str, told: str, folder: Path) -> None:
    """The table has row none alone, and two runs of row mmd are listed."""
    assert "\nnone " in said and "\nmmd " not in said
    found = [json.loads(path.read_text()) for path in folder.rglob("result.json")]
    assert sorted((run["method"], run["seed"]) for run in found) == [("none", 0), ("none", 1)]
    first, *lines, last = told.splitlines()
    assert first == "error: 2 of 4 runs failed:"
    assert last == "What is finished is kept. The same command tries the others again."
    for seed, line in enumerate(sorted(lines)):
        assert line.startswith(f"  mmd clean>noisy seed {seed}: the loss is not finite at step 0")


def test_a_row_that_overflows_costs_nothing_but_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = digits_mmd(tmp_path, monkeypatch, *OVERFLOWS, "--processes", "1")
    said, warned = capsys.readouterr()
    check_what_is_left(said, told, tmp_path)
    assert warned.count("failed: mmd clean>noisy seed") == 2, "at once, not only at the end"


@pytest.mark.slow
def test_several_processes_go_on_as_well(tmp_path: Path) -> None:
    done = run_script("digits_mmd.py", *TABLE, *OVERFLOWS, "--processes", "2", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    told = done.stderr[done.stderr.index("error: ") :]
    check_what_is_left(done.stdout, told, tmp_path / "runs")


def test_one_cell_that_fails_is_one_line_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--loss", "mmd", "--trade-off", "mmd=1e300", "--seeds", "0")
    told = digits_mmd(tmp_path, monkeypatch, *words)
    assert told.startswith("error: the loss is not finite at step 0") and "\n" not in told
    assert capsys.readouterr() == ("", "")


@dataclass(frozen=True)
class Config(CommonFlags):
    """Flags of a script whose rows end as their names say."""

    loss: tuple[str, ...] = ("fine", "value", "memory", "fault", "late")
    runs_dir: Path = field(default=Path("runs"))


class Work:
    """A cell that ends as its row says."""

    def __init__(self, row: str) -> None:
        self.row = row

    def carry_out(self, run, flags, fabric) -> None:
        errors = {
            "value": ValueError("a photograph is damaged"),
            "memory": torch.OutOfMemoryError("CUDA out of memory. Tried 9 GiB\nstack"),
            "fault": KeyError("colour"),
            "disk": WriteError("cannot write metrics.jsonl"),
        }
        if self.row in errors:
            raise errors[self.row]
        run.log(0, {"target_accuracy": 0.5})
        run.finish({"selected": {"last": {"step": 0, "target_accuracy": 0.5}}})


def run_main(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str, **options) -> str:
    """The message that `main` exits with."""
    arguments = ["script.py", "--wandb", "disabled", "--runs-dir", str(folder), *words]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stop:
        main(
            Config,
            experiment="ends",
            benchmark=None,
            build=lambda flags, cell: Work(cell.method),
            tasks=lambda flags: [("a", "b")],
            **options,
        )
    return str(stop.value.code)


def test_every_kind_of_error_is_listed_under_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = run_main(tmp_path, monkeypatch)
    assert told.splitlines() == [
        "error: 3 of 5 runs failed:",
        "  value a>b seed 0: a photograph is damaged",
        "  memory a>b seed 0: out of memory; a smaller --batch-size needs less "
        "(CUDA out of memory. Tried 9 GiB)",
        "  fault a>b seed 0: KeyError: 'colour'",
        "What is finished is kept. The same command tries the others again.",
    ]
    said, warned = capsys.readouterr()
    assert "\nfine " in said and "\nlate " in said, "the rows before and after the failures"
    assert warned.count("Traceback") == 1, "of the fault in the code alone"
    assert {run.result["method"] for run in read_runs(tmp_path)} == {"fine", "late"}


def test_a_full_disk_ends_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run_main(tmp_path, monkeypatch, "--loss", "fine", "disk", "late")
    assert told.startswith("error: 1 of 3 runs failed, 1 of 3 runs are not done:\n")
    assert [run.result["method"] for run in read_runs(tmp_path)] == ["fine"]


def test_a_report_that_needs_every_run_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def table(records: list) -> str:
        (_, _) = records
        return "both"

    told = run_main(tmp_path, monkeypatch, "--loss", "fine", "value", table=table)
    assert "1 of 2 runs failed" in told
    assert "there is no table of the finished runs alone" in capsys.readouterr().out


def test_errors_of_cells_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(CellError("full", final=True)))
    assert (str(error), error.final) == ("full", True)
    assert cell_error(WriteError("full")).final and not cell_error(OSError("gone")).final


OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate {} GiB. GPU 0 has a total capacity of 16.00 GiB of "
    "which {} GiB is free. Including non-PyTorch memory, this process has {} GiB memory in use. Of "
    "the allocated memory {} GiB is allocated by PyTorch, and 512.00 MiB is reserved by PyTorch "
    "but unallocated. If reserved but\nmore"
)


@pytest.mark.parametrize("constant", [0.0, 1.0, 6.0, 11.0])
@pytest.mark.parametrize("each", [0.1, 0.25, 1.0])
def test_a_batch_that_did_not_fit_names_one_that_does(constant: float, each: float) -> None:
    """Oracle: 16 GiB, of which the driver has 1; a constant part, and a part for each row."""
    batch = int(20 / each)  # too large for any constant part
    used, driver = 14.0, 1.0
    needed = driver + constant + each * batch
    figures = (needed - used, 16 - used, used, used - driver - 0.5)
    text = OUT_OF_MEMORY.format(*(f"{each:.2f}" for each in figures))
    error = cell_error(torch.cuda.OutOfMemoryError(text), batch, constant)
    told = rf"out of memory with --batch-size {batch}; --batch-size (\d+) should fit \(CUDA"
    found = re.match(told, str(error))
    assert found and "\n" not in str(error), error
    fits = int(found[1])
    assert driver + constant + each * fits <= 16 < driver + constant + each * (fits + 2)


def test_want_of_memory_without_figures_or_without_a_batch() -> None:
    assert "; --batch-size 8 should fit (" in str(cell_error(MemoryError("none left"), 16))
    assert "a smaller network needs less" in str(cell_error(MemoryError("none left"), 1))
    pieces = OUT_OF_MEMORY.format("1.00", "2.00", "13.00", "12.00")
    assert "; --batch-size 8 should fit (" in str(cell_error(torch.OutOfMemoryError(pieces), 16))
    network = torch.nn.Linear(2**20, 128, bias=False)  # half a GiB
    assert constant_memory(network) == 2.0


def test_a_backend_that_needs_too_much_names_the_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*given: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")

    monkeypatch.setattr(discrepancy._Discrepancy, "apply", full)
    x = torch.randn(5, 3)
    with pytest.raises(torch.OutOfMemoryError, match="Tried .* of 5 and 4 rows; backend 'stream'"):
        mmd2(x, x[:4], backend="gram")
    with pytest.raises(torch.OutOfMemoryError, match="9.00 GiB.$"):
        mmd2(x, x[:4], backend="stream")


def test_many_failures_of_one_reason_are_one_line() -> None:
    failed = [Failure(CELL._replace(seed=seed), "why") for seed in range(6)]
    failed.append(Failure(None, "a process was killed"))
    head, first, second, _ = list_failures(failed, 9, 1).splitlines()
    assert head == "error: 6 of 9 runs failed, 2 of 9 runs are not done:"
    assert first.endswith("mmd a>b seed 3 and 2 more: why") and second == "  a process was killed"


def test_all_that_is_missing_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, one domain that is not there and one that is damaged: nothing is trained."""
    root = tmp_path / "office_caltech"
    for name in OFFICE_CALTECH10.classes:
        for domain, count in {"amazon": 95, "dslr": 15}.items():
            (root / domain / name).mkdir(parents=True)
            for number in range(count + (name == "bike") * (8 if domain == "amazon" else 7)):
                (root / domain / name / f"{number}.png").touch()
    (root / "dslr" / "mug" / "0.png").unlink()
    words = ["--data-root", str(tmp_path), "--weights", str(tmp_path / "none.pt")]
    words += ["--wandb", "disabled", "--runs-dir", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", ["office_caltech_mmd.py", *words])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "experiments/office_caltech_mmd.py"), run_name="__main__")
    head, *lines = str(stop.value.code).splitlines()
    assert head == "error: 4 things are missing or wrong; nothing was trained:"
    assert "no file" in lines[0] and "none.pt" in lines[0]
    assert {line.split("'")[1] for line in lines if "no folder for" in line} == {
        "webcam",
        "caltech",
    }
    (damaged,) = [line for line in lines if "dslr:" in line]
    assert "156 images, but Office-Caltech10 has 157" in damaged
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.pt"))


def test_what_is_finished_needs_no_data(tmp_path: Path) -> None:
    flags = CommonFlags(data_root=tmp_path / "none")
    check_inputs(flags, OFFICE31, None, [])
    with pytest.raises(FileNotFoundError, match="no data folder"):
        check_inputs(flags, OFFICE31, None, [Cell("mmd", "amazon", "webcam", 0)])
    check_inputs(CommonFlags(smoke_test=True), OFFICE31, None, [CELL])


def test_a_script_checks_a_cell_of_each_column(tmp_path: Path) -> None:
    cells = [Cell(row, "a", target, seed) for target in "bc" for row in "xy" for seed in (0, 1)]
    asked = []
    check_inputs(CommonFlags(), None, lambda flags, cell: asked.append(cell.target), cells)
    assert asked == ["b", "c"]


def test_domains_that_columns_name() -> None:
    cells = [
        Cell("mmd", "amazon", "webcam", 0),
        Cell("full", "imagenet", "amazon_15", 0),
        Cell("full", "imagenet", "dslr_05", 0),
    ]
    assert domains_of(OFFICE31, cells) == ["amazon", "webcam", "dslr"]
    pair = Benchmark(
        name="p", title="P", folder="p", domains={"art_painting": None}, classes=("x", "y"),
        tasks=(), citation="",
    )  # fmt: skip
    assert domains_of(pair, [Cell("mmd", "art_painting", "art", 0)]) == ["art_painting"]


@pytest.mark.parametrize(
    "benchmark",
    [OFFICE31, OFFICE_CALTECH10, OFFICE_CALTECH_SURF, JDA_DIGITS, AMAZON_REVIEWS,
     AMAZON_REVIEW_TEXTS, MNIST_USPS],
    ids=lambda benchmark: benchmark.name,
)  # fmt: skip
def test_domains_of_the_real_data_are_there(benchmark: Benchmark, tmp_path: Path) -> None:
    root = real_data()
    for domain in benchmark.domains:
        check_domain(benchmark, domain, root)
        with pytest.raises(FileNotFoundError):
            check_domain(benchmark, domain, tmp_path)


def test_embedded_digits_need_no_files(tmp_path: Path) -> None:
    check_domain(DIGITS, "clean", tmp_path)
    with pytest.raises(ValueError, match="no domain 'grey'"):
        check_domain(DIGITS, "grey", tmp_path)


def test_a_class_that_lost_its_folder(tmp_path: Path) -> None:
    pets = Benchmark(
        name="pets", title="Pets", folder="pets", domains={"home": 4}, classes=("cat", "dog"),
        tasks=(), citation="",
    )  # fmt: skip
    for name in pets.classes:
        (tmp_path / "pets/home" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "pets/home" / name / f"{number}.jpg").touch()
    check_domain(pets, "home", tmp_path)  # decoding comes later
    shutil.rmtree(tmp_path / "pets/home/dog")
    with pytest.raises(ValueError, match='2 images, but Pets has 4; class "dog" has no folder'):
        check_domain(pets, "home", tmp_path)
