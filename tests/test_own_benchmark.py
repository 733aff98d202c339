"""A benchmark made of folders, and classes that are selected by side.

Oracles: folders and grey levels that were written here; labels and accuracies counted by hand.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from da.data.benchmarks import OFFICE31, OFFICE_CALTECH10
from da.data.domain import Labelled
from da.data.own_folders import folder_benchmark
from da.data.readers import read_domain
from da.data.transforms import identity
from da.networks.backbones import whole_network
from da.recipes.cells import run_cell
from da.recipes.checks import check_inputs
from da.recipes.class_selection import (
    ClassFlags,
    RejectingEvaluation,
    Selection,
    chosen,
    read_pair,
    select,
)
from da.recipes.job import Cell
from da.recipes.methods import METHODS
from da.recipes.own_benchmark import FolderFlags, describe_folder, folder_check, folder_tasks
from da.recipes.photographs import DANFlags, image_job
from da.records.reading import read_runs
from da.train.engine import launch
from problems import ROOT, real_data, run_script

CELL = Cell("mmd", "home", "street", 0)
LEVELS = {
    "home/cat": [10, 11],
    "home/dog": [20],
    "home/Red Fox": [30],
    "street/cat": [110],
    "street/dog": [120, 121],
    "street/red_fox": [130],
    "street/owl": [140],
}


def pets(folder: Path, levels: dict[str, list[int]] = LEVELS) -> Path:
    """Class folders with images of one grey level each."""
    for place, values in levels.items():
        (folder / "pets" / place).mkdir(parents=True)
        for number, value in enumerate(values):
            Image.new("L", (4, 4), value).save(folder / "pets" / place / f"{number}.png")
    return folder / "pets"


def grey(domain: Labelled) -> list[int]:
    return np.asarray(domain.x)[:, 0, 0, 0].tolist()


def test_classes_that_all_domains_have_are_the_benchmark(tmp_path: Path) -> None:
    shared = folder_benchmark(pets(tmp_path))
    assert shared.classes == ("Red Fox", "cat", "dog") and shared.ignored == ("owl",)
    assert shared.domains == {"home": 4, "street": 4}
    assert shared.tasks == (("home", "street"), ("street", "home"))
    street = read_domain(shared, "street", "anywhere", size=2, cache_dir=tmp_path / "cache")
    assert (grey(street), street.y.tolist()) == ([130, 110, 120, 121], [0, 1, 2, 2])


def test_the_union_has_classes_that_a_domain_lacks(tmp_path: Path) -> None:
    union = folder_benchmark(pets(tmp_path), classes="union")
    assert union.classes == ("Red Fox", "cat", "dog", "owl") and not union.ignored
    assert union.domains == {"home": 4, "street": 5}
    home = read_domain(union, "home", "anywhere", size=2, cache_dir=tmp_path / "cache")
    assert home.y.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        ({"home/cat": [1], "home/dog": [2]}, "two domains or more; it has home: lay photographs"),
        ({"home/cat": [1], "street/cat": [2]}, "two classes or more .* only cat is"),
        ({"home/cat": [1], "street/dog": [2]}, "none is .home has cat; street has dog"),
        ({"home": [1], "street/cat": [2]}, "images lie in .*home, not in folders of classes"),
        ({"home/a/b": [1], "street/cat": [2]}, "two folders below"),
        ({"home/images": [1], "home/cat": [1], "street/cat": [2]}, "'images' beside other folders"),
    ],
)
def test_folders_that_are_no_benchmark(levels: dict, told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        folder_benchmark(pets(tmp_path, levels))
    with pytest.raises(FileNotFoundError, match="no folder"):
        folder_benchmark(tmp_path / "dogs")


def test_a_published_benchmark_by_its_folders_alone_is_the_same(tmp_path: Path) -> None:
    own = folder_benchmark(real_data() / "office_caltech")
    assert own.domains == OFFICE_CALTECH10.domains and set(own.tasks) == set(OFFICE_CALTECH10.tasks)
    assert len(own.classes) == 10


def test_folders_beside_the_domains_that_hold_no_images(tmp_path: Path) -> None:
    (pets(tmp_path) / "notes").mkdir()
    assert set(folder_benchmark(tmp_path / "pets").domains) == {"home", "street"}


def test_what_the_folder_holds_is_told_and_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = FolderFlags(data=pets(tmp_path), source="home")
    assert folder_tasks(flags) == (("home", "street"),)
    assert capsys.readouterr().out == (
        "pets: home 4 images, street 4 images; 3 classes; left out, because not every domain has "
        "them: owl (--classes union)\n"
    )
    folder_check(flags, CELL)
    first = describe_folder(METHODS)(flags, CELL)
    assert first["row"]["name"] == "Align" and first["classes"] == ["Red Fox", "cat", "dog"]
    Image.new("L", (4, 4), 12).save(tmp_path / "pets/home/cat/new.png")
    again = FolderFlags(data=tmp_path / "elsewhere/../pets", source="home")
    second = describe_folder(METHODS)(again, CELL)
    assert second["photographs"]["source"].startswith("5 sha256:")
    assert second["photographs"]["target"] == first["photographs"]["target"]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((), (), Selection((0, 1, 2, 3), (0, 1, 2, 3), 4)),
        ((), ("2",), Selection((0, 1, 2, 3), (0, 1), 4)),
        (("OWL", "red fox"), (), Selection((0, 3), (0, 1, 2, 3), 4)),
    ],
)
def test_names_and_counts_of_classes(source: tuple, target: tuple, expected: Selection) -> None:
    flags = ClassFlags(source_classes=source, target_classes=target)
    assert select(flags, ("Red Fox", "cat", "dog", "owl")) == expected


def test_a_class_whose_name_is_a_number_is_a_class() -> None:
    assert select(ClassFlags(target_classes=("5",)), tuple("0123456789")).target == (5,)


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        (("catt", "dog"), (), "source_classes must be classes of the benchmark; got 'catt'; did"),
        ((), ("5",), "target_classes must be at most 3 classes; got 5"),
        ((), ("0",), "target_classes must be at most 3 classes; got 0"),
        (("cat", "dog"), ("owl",), "must share a class"),
        (("1",), (), "source_classes must be two or more"),
    ],
)
def test_classes_that_cannot_be(source: tuple, target: tuple, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        select(ClassFlags(source_classes=source, target_classes=target), ("cat", "dog", "owl"))


def test_wrong_classes_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    flags = DANFlags(target_classes=("99",), backbone="squeezenet1_1", weights=tmp_path / "no.pt",
                     data_root=tmp_path)  # fmt: skip
    with pytest.raises(ValueError, match="things are missing") as told:
        check_inputs(flags, OFFICE31, None, [Cell("mmd", "amazon", "webcam", 0)])
    assert "target_classes must be at most 31" in str(told.value) and "no.pt" in str(told.value)


@pytest.mark.parametrize(
    ("flags", "source", "target"),
    [
        # The classes are Red Fox, cat, dog and owl.
        (ClassFlags(), ([30, 10, 11, 20], [0, 1, 1, 2]),
         ([130, 110, 120, 121, 140], [0, 1, 2, 2, 3])),
        (ClassFlags(target_classes=("cat", "dog")), ([30, 10, 11, 20], [0, 1, 1, 2]),
         ([110, 120, 121], [1, 2, 2])),
        (ClassFlags(source_classes=("dog", "Red Fox")), ([30, 20], [0, 1]),
         ([130, 110, 120, 121, 140], [0, 2, 1, 1, 2])),
    ],
    ids=["all", "partial", "open set"],
)  # fmt: skip
def test_each_side_has_its_classes(
    flags: ClassFlags, source: tuple, target: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DA_CACHE", str(tmp_path / "cache"))
    benchmark = folder_benchmark(pets(tmp_path), classes="union")
    pair = read_pair(benchmark, CELL, tmp_path, size=2, selection=select(flags, benchmark.classes))
    assert (grey(pair.source), pair.source.y.tolist()) == source
    assert (grey(pair.target), pair.target.y.tolist()) == target
    assert pair.test is pair.target


def test_neighbouring_classes_of_a_memory_map_are_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 1, 2, 2), np.uint8))
    domain = Labelled(np.load(tmp_path / "x.npy", mmap_mode="r"), torch.tensor([0, 0, 1, 2]))
    part = chosen(domain, (0, 1), Selection((0, 1, 2), (0, 1), 3), "target t")
    assert isinstance(part.x, np.memmap) and part.y.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="the target t has no photographs"):
        chosen(domain, (3,), Selection((0, 3), (3,), 4), "target t")


def test_unsure_rows_are_unknown() -> None:
    """Known rows: one of class 0 right, one of class 1 unsure. Unknown: two of three unsure."""
    y = torch.tensor([0, 1, 2, 2, 2])
    logits = torch.tensor([[9.0, 0], [0, 0.5], [0, 0], [0.2, 0], [9, 0]])
    evaluation = RejectingEvaluation(Labelled(torch.zeros(5, 1), y), identity, threshold=0.9)
    found = evaluation.metrics(logits)
    assert found["target_known_accuracy"] == pytest.approx((1 + 0) / 2)
    assert found["target_unknown_accuracy"] == pytest.approx(2 / 3)
    assert found["target_hos"] == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert found["target_accuracy"] == pytest.approx(3 / 5)
    assert evaluation.confusion(logits) == ["1 0 0", "0 0 1", "1 0 2"]
    assert evaluation.judged_by == "target_hos"


@pytest.mark.parametrize("row", ["mmd", pytest.param("mdd", marks=pytest.mark.slow)])
def test_a_smoke_test_of_an_open_set_is_judged_as_one(row: str, tmp_path: Path) -> None:
    pair = dataclasses.replace(OFFICE31, classes=("cat", "dog", "owl"))
    flags = DANFlags(
        backbone="squeezenet1_1", source_classes=("2",), smoke_test=True, steps=2,
        accelerator="cpu", runs_dir=tmp_path, wandb="disabled",
    )  # fmt: skip
    cell = Cell(row, "amazon", "webcam", 0)
    run_cell(flags, "toy", cell, lambda flags, cell: image_job(flags, pair, cell, METHODS[row]),
             fabric=launch(flags))  # fmt: skip
    (record,) = read_runs(tmp_path)
    assert set(record.result["selected"]["oracle"]) > {"target_hos", "target_unknown_accuracy"}
    assert len(record.result["selected"]["last"]["target_confusion_matrix"]) == 3
    with pytest.raises(ValueError, match="source_validation must be 0"):
        image_job(dataclasses.replace(flags, source_validation=0.5), pair, cell, METHODS[row])


@pytest.mark.slow
def test_the_page_on_benchmarks_leads_from_folders_to_a_table(tmp_path: Path) -> None:
    """Its tree of folders is made, with random weights under the file's name, and its command run.

    Only the size of the work is added to the command.
    """
    page = (ROOT / "docs/add_a_benchmark.md").read_text(encoding="utf-8")
    (tree, command, *_) = re.findall(r"```(?:text|bash)\n(.*?)```", page, re.DOTALL)
    generator = np.random.default_rng(0)
    for place in tree.split():
        folder = tmp_path / Path(place).parent
        folder.mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 256, (80, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg")
    python, script, *words = command.split()
    assert (python, script) == ("python", "experiments/folder_mmd.py")
    weights = whole_network("squeezenet1_1", pretrained=False).state_dict()
    torch.save(weights, tmp_path / words[words.index("--weights") + 1])
    less = "--steps 2 --batch-size 4 --evaluate-every 2 --stored-size 64 --image-size 64".split()
    less += ["--precision", "32-true", "--wandb", "disabled"]
    done = run_script(
        "folder_mmd.py", *words, *less, cwd=tmp_path, env={"DA_CACHE": str(tmp_path / "cache")}
    )
    assert done.returncode == 0, done.stderr
    assert "pets: home 12 images, street 12 images; 3 classes\n" in done.stdout
    assert "home>street" in done.stdout and "street>home" in done.stdout
    assert "\nprobe " in done.stdout and "\nmmd " in done.stdout
