"""One's own class folders, and names of classes in several forms.

Oracles: trees that are written here, whose content is known, PIL used plainly, and NumPy's union.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from da.data.benchmarks import Benchmark
from da.data.class_folders import read_class_folders
from da.data.class_names import ClassFinder, composed_labels
from da.data.domain import Labelled
from da.data.files.features import read_features
from da.data.files.photographs import list_photographs
from da.data.readers import read_domain
from da.shift.class_drift import moved_proportions

ONE = unicodedata.normalize("NFC", "café")
TWO = unicodedata.normalize("NFD", "café")
LEVELS: dict[str, int] = {}


def write(folder: Path, *names: str, each: int = 2) -> Path:
    """Images of one grey level for each class, by which they are known again."""
    for name in names:
        (folder / name).mkdir(parents=True)
        level = LEVELS.setdefault(unicodedata.normalize("NFC", name), 7 * len(LEVELS) + 7)
        for number in range(each):
            image = Image.fromarray(np.full((6, 8, 3), level, np.uint8))
            image.save(folder / name / f"{number}.png")
    return folder


def levels(domain: Labelled) -> list[int]:
    return [int(row[0, 0, 0]) for row in domain.rows(torch.arange(len(domain)))]


def read(tmp_path: Path, source: tuple[str, ...], target: tuple[str, ...]):  # type: ignore[no-untyped-def]
    folders = [write(tmp_path / side, *names) for side, names in (("s", source), ("t", target))]
    return read_class_folders(*folders, size=4, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    ("source", "target", "classes"),
    [
        (("ant", "bee", "cat"), ("ant", "cat"), ("ant", "bee", "cat")),
        (("ant", "cat"), ("ant", "bee", "cat"), ("ant", "cat", "bee")),
        (("bee",), ("ant",), ("bee", "ant")),
        (("b", "a"), ("a", "b"), ("a", "b")),
        (("C++", "C#"), ("C#", "C++"), ("C#", "C++")),
        (("-1", "1"), ("1",), ("-1", "1")),
        ((TWO, "tea"), (ONE, "tea"), (ONE, "tea")),
    ],
)
def test_one_order_of_classes_whatever_is_missing(
    tmp_path: Path, source: tuple, target: tuple, classes: tuple
) -> None:
    own = read(tmp_path, source, target)
    assert set(own.classes) == set(classes)
    assert own.classes[: len(source)] == tuple(sorted(classes[: len(source)]))
    by_class = {LEVELS[name]: label for label, name in enumerate(own.classes)}
    for domain in (own.source, own.target):
        assert domain.y.tolist() == [by_class[level] for level in levels(domain)]
    assert set(own.only_source) == set(classes[: len(source)]) - set(map(composed, target)) and set(
        own.only_target
    ) == set(map(composed, target)) - set(map(composed, source))


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def test_what_is_missing_is_said_in_one_line(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    read(tmp_path, ("ant", "bee"), ("ant", "cow"))
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == "classes: 3; the target has no images of bee; the source has no images of cow"


def test_a_target_without_class_folders_has_no_labels(tmp_path: Path) -> None:
    source = write(tmp_path / "s", "ant", "bee")
    (target := tmp_path / "t").mkdir()
    Image.new("RGB", (5, 5), "white").save(target / "a.png")
    own = read_class_folders(source, target, size=4, cache_dir=tmp_path / "cache")
    assert not isinstance(own.target, Labelled) and len(own.target) == 1
    assert own.only_source == own.only_target == ()
    with pytest.raises(ValueError, match="source: .* must hold one folder for each class"):
        read_class_folders(target, source, size=4, cache_dir=tmp_path / "cache")


def test_names_that_differ_in_case_and_spaces_are_one_class(tmp_path: Path) -> None:
    own = read(tmp_path, ("back_pack", "mug"), ("Back Pack",))
    assert own.classes == ("back_pack", "mug") and own.target.y.tolist() == [0, 0]


def test_two_folders_of_one_class_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="target: the folders 'Mug' and 'mug' mean the same"):
        read(tmp_path, ("mug",), ("Mug", "mug"))
    write(tmp_path / "both", ONE, TWO)
    if len(list((tmp_path / "both").iterdir())) == 2:  # some file systems hold one of the two
        with pytest.raises(ValueError, match="source: the folders .* mean the same class"):
            read_class_folders(tmp_path / "both", tmp_path / "t", size=4)


def test_folders_without_images(tmp_path: Path) -> None:
    (tmp_path / "empty" / "ant").mkdir(parents=True)
    with pytest.raises(ValueError, match="target: .*empty holds no images"):
        read_class_folders(
            write(tmp_path / "s", "ant"), tmp_path / "empty", size=4, cache_dir=tmp_path / "cache"
        )
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_class_folders(tmp_path / "nowhere", tmp_path / "s", size=4)


# ---------------------------------------------------------------- benchmarks and names


def benchmark(classes: tuple[str, ...], count: int) -> Benchmark:
    return Benchmark(
        name="own", title="Own", folder="own", domains={"d": count}, classes=classes, tasks=(),
        citation="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("folders", "classes", "labels"),
    [
        (("ant", "cat"), ("ant", "bee", "cat"), [0, 0, 2, 2]),
        ((TWO, "tea"), (ONE, "tea"), [0, 0, 1, 1]),
        (("C++", "C#"), ("C++", "C#"), [0, 0, 1, 1]),
        (("-1", "1"), ("1", "-1"), [0, 0, 1, 1]),
        (("<5", ">5"), (">5", "<5"), [0, 0, 1, 1]),
    ],
)
def test_a_benchmark_of_ones_own(
    tmp_path: Path, folders: tuple[str, ...], classes: tuple[str, ...], labels: list[int]
) -> None:
    """A class may be missing if the number of images is the one that was given."""
    write(tmp_path / "own" / "d", *folders)
    own = benchmark(classes, 2 * len(folders))
    found = read_domain(own, "d", tmp_path, size=4, cache_dir=tmp_path / "cache")
    assert found.y.tolist() == labels
    expected = [LEVELS[unicodedata.normalize("NFC", classes[label])] for label in labels]
    assert levels(found) == expected


def test_a_missing_class_is_named_if_the_number_is_wrong(tmp_path: Path) -> None:
    write(tmp_path / "own" / "d", "ant", "cat")
    with pytest.raises(ValueError, match='4 images, but Own has 6; class "bee" has no folder'):
        read_domain(benchmark(("ant", "bee", "cat"), 6), "d", tmp_path, size=4)


def test_names_are_compared_exactly_first() -> None:
    find = ClassFinder(["C", "C++", "mug", "++"], {"cup": "mug"})
    assert [find(name) for name in ("C", "C++", "c", "Mug", "CUP", "++", "+", "dog")] == [
        "C", "C++", None, "mug", "mug", "++", None, None,
    ]  # fmt: skip


def test_labels_in_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    files = [write(tmp_path / name, name) for name in (ONE, TWO)]
    labels = [list_photographs(folder)[1] for folder in files]
    for pair in (labels, [np.array([ONE] * 2), np.array([TWO] * 2)]):
        assert moved_proportions(*pair).classes.tolist() == [ONE]
    table = tmp_path / "two.csv"
    table.write_text(f"a,class\n1,{TWO}\n2,{ONE}\n", encoding="utf-8")
    assert read_features(table).labels.tolist() == [ONE, ONE]  # type: ignore[union-attr]
    assert composed_labels(np.array([1, 2])).tolist() == [1, 2]
