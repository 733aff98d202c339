"""Runs on other data are other runs. Oracles: folders that are made here; what a run has read."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da.data.benchmarks import Benchmark, Source
from da.data.digits import DIGITS
from da.data.provenance import data_digest
from da.recipes.flags import CommonFlags
from da.recipes.job import Cell
from da.recipes.script import main
from da.records.run import Run

CLASSES = ("cat", "dog")


def pets(root: Path, shade: int) -> Path:
    """Photographs of two domains; their sizes in bytes depend on the shade."""
    pixels = np.random.default_rng(shade).integers(0, 50 + shade, (8, 8, 3), dtype=np.uint8)
    for domain in ("home", "street"):
        for name in CLASSES:
            folder = root / "pets" / domain / name
            folder.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / "1.png")
    return root


def benchmark(**options: object) -> Benchmark:
    given = {
        "name": "pets", "title": "Pets", "folder": "pets", "domains": {"home": 2, "street": 2},
        "classes": CLASSES, "tasks": (("home", "street"),), "citation": "",
    }  # fmt: skip
    return Benchmark(**given | options)  # type: ignore[arg-type]


def test_photographs_are_told_by_names_and_sizes(tmp_path: Path) -> None:
    own = benchmark()
    first, other = pets(tmp_path / "a", 0), pets(tmp_path / "b", 200)
    copy = shutil.copytree(first, tmp_path / "c")
    found = [data_digest(own, "home", root) for root in (first, other, copy)]
    assert None not in found and found[0] == found[2] != found[1]
    assert data_digest(own, "home", tmp_path / "nowhere") is None
    assert data_digest(own, "upstairs", first) is None
    assert data_digest(DIGITS, "clean", first) is None, "they come with the package"


def test_other_files_are_told_by_their_content(tmp_path: Path) -> None:
    sources = tuple(Source("", "0" * 64, f"pets/{domain}.npz") for domain in ("home", "street"))
    own = benchmark(sources=sources)
    for root, number in (("a", 0), ("b", 1)):
        (tmp_path / root / "pets").mkdir(parents=True)
        for domain in ("home", "street"):
            (tmp_path / root / "pets" / f"{domain}.npz").write_bytes(bytes([number, 7]))
    home = [data_digest(own, "home", tmp_path / root) for root in "ab"]
    assert home[0] != home[1] and home[0] != data_digest(own, "street", tmp_path / "a")


@dataclass(frozen=True)
class Config(CommonFlags):
    """Flags of a script that records the size of a file that it reads."""

    loss: tuple[str, ...] = ("none",)
    runs_dir: Path = field(default=Path("runs"))


class Work:
    def __init__(self, file: Path) -> None:
        self.file = file

    def carry_out(self, run: Run, flags: Config, fabric: object) -> None:
        size = self.file.stat().st_size
        run.log(1, {"size": size})
        run.finish({"selected": {"last": {"step": 1, "target_accuracy": 1 / size}}})


def test_the_same_command_on_other_data_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = [pets(tmp_path / "a", 0), pets(tmp_path / "b", 200)]
    monkeypatch.chdir(tmp_path)

    def build(flags: Config, cell: Cell) -> Work:
        assert flags.data_root is not None
        return Work(flags.data_root / "pets/home/cat/1.png")

    for root in (roots[0], roots[1], roots[0], roots[1], shutil.copytree(roots[0], tmp_path / "c")):
        monkeypatch.setattr("sys.argv", ["x.py", "--wandb", "disabled", "--data-root", str(root)])
        main(Config, experiment="pets", benchmark=benchmark(), build=build)
        size = (root / "pets/home/cat/1.png").stat().st_size
        assert f" {100 / size:.1f}" in capsys.readouterr().out
    assert len(list(tmp_path.glob("runs/pets/*/*/seed*"))) == 2
