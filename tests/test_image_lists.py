"""Benchmarks of photographs that text files list.

Oracles: folders and lists written here; the pixels that were written.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da.data.benchmarks import Benchmark
from da.data.checking import check_domain
from da.data.photograph_benchmarks import DOMAINNET, IMAGECLEF_DA
from da.data.readers import read_domain

PETS = Benchmark(
    name="pets",
    title="Pets",
    folder="pets",
    domains={"home": 3},
    classes=("cat", "dog"),
    tasks=(),
    citation="",
    splits={"home": {"train": 2, "test": 1}},
    lists=("{domain}_{split}.txt", "list/{domain}_{split}.txt"),
    by_hand={"home": "ask its authors"},
)
TRAIN = "home/dog/a b.png 1\nhome/cat/c.png 0\n"
TEST = "/data/someone/pets/home/dog/d.png 1\n"


def pets(folder: Path, *, train: str = TRAIN, test: str = TEST) -> Path:
    """A data root with three images of one grey level each: 10, 20 and 30."""
    for name, level in {"dog/a b": 10, "cat/c": 20, "dog/d": 30}.items():
        file = folder / "pets/home" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), level).save(file)
    (folder / "pets/list").mkdir()
    (folder / "pets/home_train.txt").write_text(train)
    (folder / "pets/list/home_test.txt").write_text(test)
    return folder


def read(root: Path, split: str = "all") -> tuple[list[int], list[int]]:
    found = read_domain(PETS, "home", root, size=2, split=split, cache_dir=root / "cache")
    return np.asarray(found.x)[:, 0, 0, 0].tolist(), found.y.tolist()


def test_parts_of_a_domain_are_those_of_the_lists(tmp_path: Path) -> None:
    root = pets(tmp_path)
    assert read(root, "train") == ([10, 20], [1, 0])
    assert read(root, "test") == ([30], [1])
    assert read(root) == ([10, 20, 30], [1, 0, 1])
    assert read(root, "train") == ([10, 20], [1, 0]), "not the cache of the other part"
    check_domain(PETS, "home", root)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ("home/dog/a b.png\n", "home_train.txt, line 1: must be a path, a space and a label"),
        ("\nhome/cat/c.png 2\n", "line 2: labels must be from 0 to 1; got 2"),
        ("home/cat/c.png -1\n", "must be a path, a space and a label"),
        (TRAIN + "home/cat/x.png 0\n", "lists 1 images that are not in"),
        (TRAIN + "home/cat/c.png 0\n", "has 4 images, but Pets has 3; ask its authors"),
    ],
)
def test_lists_that_are_not_the_benchmarks(train: str, told: str, tmp_path: Path) -> None:
    root = pets(tmp_path, train=train)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(told)):
        check_domain(PETS, "home", root)


def test_a_list_that_is_not_there_says_where_it_was_looked_for(tmp_path: Path) -> None:
    root = pets(tmp_path)
    (root / "pets/list/home_test.txt").unlink()
    told = "no list of home .*looked for home_test.txt, list/home_test.txt; ask its authors"
    with pytest.raises(FileNotFoundError, match=told):
        check_domain(PETS, "home", root)


def test_a_count_of_none_reads_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pets(tmp_path)
    uncounted = replace(PETS, domains={"home": None}, splits={}, lists=())
    found = read_domain(uncounted, "home", root, size=2, cache_dir=root / "cache")
    assert found.y.tolist() == [0, 1, 1]
    assert "cached: 3 images of pets/home" in capsys.readouterr().out
    for file in (root / "pets/home").rglob("*.png"):
        file.unlink()
    with pytest.raises(ValueError, match="home: no images"):
        read_domain(uncounted, "home", root, size=2, cache_dir=root / "cache")


def test_lists_as_the_published_ones_are_written(tmp_path: Path) -> None:
    """One line of the real list of DomainNet, and of both that ImageCLEF-DA circulates with."""
    few = replace(DOMAINNET, domains={"clipart": 1}, splits={"clipart": {"test": 1}})
    image = "clipart/aircraft_carrier/clipart_001_000005.jpg"
    (tmp_path / "domainnet" / image).parent.mkdir(parents=True)
    (tmp_path / "domainnet" / image).touch()
    (tmp_path / "domainnet/clipart_test.txt").write_text(f"data/domainnet/{image} 0\n")
    check_domain(few, "clipart", tmp_path)
    assert DOMAINNET.classes[0] == "aircraft_carrier" and DOMAINNET.classes[344] == "zigzag"
    few = replace(IMAGECLEF_DA, domains={"c": 1})
    home = tmp_path / "image-clef"
    for place, line in {
        "list/cList.txt": "c/113.hummingbird/113_0114.jpg 2\n",
        "c_list.txt": "/data/image-clef/c/113_0114.jpg 2\n",
    }.items():
        found = home / line.split()[0].removeprefix("/data/image-clef/")
        found.parent.mkdir(parents=True, exist_ok=True)
        found.touch()
        (home / place).parent.mkdir(exist_ok=True)
        (home / place).write_text(line)
        check_domain(few, "c", tmp_path)
        (home / place).unlink()
        found.unlink()
