"""Every wrong input of one's own data is one sentence, and nothing is written.

Each case writes files into an empty folder and says what `read_sides` and `prepare` are given.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from da.adapt.prepare_sides import FeatureOptions, prepare
from da.adapt.read_paths import read_sides

ROWS = 24
HALVES = np.arange(ROWS) % 2
PREPARED = ("backbone", "weights", "data_root")  # arguments of `prepare`
Step = Callable[[Path], object]


class Case(NamedTuple):
    """Files that are written, what is given, and a part of the message."""

    steps: tuple[Step, ...]
    given: dict[str, Any]
    told: str


def case(told: str, *steps: Step, **given: Any) -> Case:
    return Case(steps, given, told)


def table(name: str, text: str = "", **columns: object) -> Step:
    """A table of 24 rows: a height, labels 0 and 1, and further columns; None removes one."""

    def write(folder: Path) -> None:
        heights = np.random.default_rng(len(text)).normal(size=ROWS).round(3)
        every: dict[str, Any] = {"height": heights, "label": HALVES} | columns
        kept = {key: list(values) for key, values in every.items() if values is not None}
        lines = [",".join(map(str, row)) for row in zip(*kept.values(), strict=True)]
        content = text or "\n".join([",".join(kept), *lines]) + "\n"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")

    return write


def images(*names: str) -> Step:
    """Folders with twelve images each."""

    def write(folder: Path) -> None:
        for name in names:
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(12):
                image = Image.new("RGB", (8, 8), (20 * number, 0, 0))
                image.save(folder / name / f"{number}.png")

    return write


def arrays(name: str, width: int = 3, **content: np.ndarray) -> Step:
    x = np.random.default_rng(width).normal(size=(ROWS, width))
    return lambda folder: np.savez(folder / name, **({"x": x, "y": HALVES} | content))  # type: ignore[arg-type]


def bytes_in(name: str, content: bytes = b"") -> Step:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return write


def folder_of(name: str) -> Step:
    return lambda folder: (folder / name).mkdir(parents=True)


EMPTY = [""] * ROWS
DAYS = [f"2024-01-{day:02d}" for day in range(1, ROWS + 1)]
S, T = table("s.csv"), table("t.csv")
PHOTOGRAPHS = (images("s/a", "s/b", "t"), folder_of("data"))
FOLDERS = {"source": "s", "target": "t", "data_root": "data"}
NPZ = {"source": "s.npz", "target": "t.npz"}
YEARS = table("s.csv", year=np.repeat([2023, 2024], ROWS // 2))
ONE: dict[str, Any] = {"target": None, "domain_column": "year", "target_value": "2024"}

WRONG: dict[str, Case] = {
    "no such file": case("t.csv: no such file or folder", S),
    "no target": case("target: name a file or a folder", S, target=None),
    "empty folder": case("no images and no files that end in", folder_of("s"), T, source="s"),
    "folder of other files": case("no images and", bytes_in("s/a.doc"), T, source="s"),
    "unknown suffix": case("unknown suffix '.xls'", bytes_in("s.xls"), T, source="s.xls"),
    "empty file": case("s.csv is empty", bytes_in("s.csv"), T),
    "same path": case("source and target are the same (s.csv)", S, target="s.csv"),
    "two rows": case("at least 10 rows; t.csv has 2", S, table("t.csv", "height\n1\n2\n")),
    "nine images": case(
        "t has 9", images("s/a", "s/b"), *map(bytes_in, [f"t/{n}.png" for n in range(9)]), **FOLDERS
    ),
    "one class folder": case("all 12 are one class, a", images("s/a", "t"), **FOLDERS),
    "one label": case("all 24 are one class, x", table("s.csv", label=["x"] * ROWS), T),
    "every label another": case(
        "24 classes on 24 rows", table("s.csv", label=[f"n{n}" for n in range(ROWS)]), T
    ),
    "no column in common": case(
        "no column in common: height in s.csv, width in t.csv",
        S,
        table("t.csv", height=None, width=range(ROWS)),
    ),
    "labels in the target only": case(
        "are source and target swapped?",
        table("s.csv", label=None),
        table("t.csv", label=None, kind=HALVES),
        label="kind",
    ),
    "no labels": case(
        "name the column of labels with --label",
        table("s.csv", label=None),
        table("t.csv", label=None),
    ),
    "labels with gaps": case(
        "1 of 24 rows have no label, the first is row 3",
        table("s.csv", label=["a", "b", "a", "", *"ab" * 10]),
        T,
    ),
    "two columns of labels": case("could all be the labels; name one", table("s.csv", y=HALVES), T),
    "text among numbers": case(
        "'height' holds numbers in the source and text in the target ('tall'",
        S,
        table("t.csv", height=["tall", *range(1, ROWS)]),
    ),
    "nothing but gaps": case(
        "no column can be used. Columns without values", table("s.csv", height=EMPTY), T
    ),
    "nothing but a constant": case(
        "Columns that are constant in the source are left out: height",
        table("s.csv", height=[1] * ROWS),
        T,
    ),
    "nothing but dates": case(
        "Dates are left out: height", table("s.csv", height=DAYS), table("t.csv", height=DAYS)
    ),
    "no such column to drop": case(
        "has no column 'size' (drop); it has height, label", S, T, drop=("size",)
    ),
    "no such column to keep": case("has no column 'size' (columns)", S, T, columns=("size",)),
    "no column left": case("no column is left beside the labels", S, T, drop=("height",)),
    "two columns of one name": case(
        "two columns are called 'a'; rename one", table("s.csv", "a,a,label\n1,2,3\n"), T
    ),
    "rows of several lengths": case(
        "line 32: 3 cells, but the first line has 2",
        table("s.csv", "height,label\n" + "1,2\n" * 30 + "1,2,3\n"),
        T,
    ),
    "no heading": case("must name its columns", table("s.csv", "1,2\n3,1\n5,2\n" * 5), T),
    "heading alone": case("s.csv has no rows", table("s.csv", "height,label\n"), T),
    "infinite": case(
        "column 'height' is infinite in row 0", table("s.csv", height=["inf", *range(1, ROWS)]), T
    ),
    "no table": case("s.csv cannot be read", bytes_in("s.csv", bytes(range(256)) * 9), T),
    "damaged parquet": case(
        "the file is damaged", bytes_in("s.parquet", b"PAR1 cut"), T, source="s.parquet"
    ),
    "text labels of a regression": case(
        "a regression needs numbers as labels; got 'x' in row 0",
        table("s.csv", label=list("xy" * 12)),
        T,
        regression=True,
    ),
    "no column of domains": case(
        "has no column 'month'", YEARS, **(ONE | {"domain_column": "month"})
    ),
    "no row of the domain": case(
        "no row has '1999' in column 'year'; it holds 2023, 2024",
        YEARS,
        **(ONE | {"target_value": "1999"}),
    ),
    "no value of the target": case(
        "target_value must say which value", YEARS, **(ONE | {"target_value": None})
    ),
    "one value for both": case("are the same ('2024')", YEARS, **ONE, source_value="2024"),
    "no column of texts": case("has no column 'review' (text)", S, T, text="review"),
    "no texts": case(
        "column 'review' has no texts", table("s.csv", review=EMPTY), T, text="review"
    ),
    "texts without a word": case(
        "have no word in common",
        *(table(name, review=["!"] * ROWS) for name in ("s.csv", "t.csv")),
        text="review",
    ),
    "two kinds": case(
        "s holds photographs, t.csv holds table", images("s/a", "s/b"), T, source="s"
    ),
    "widths": case("s.npz has 4, t.npz has 3", arrays("s.npz", 4), arrays("t.npz"), **NPZ),
    "all NaN": case(
        "72 values are NaN or infinite",
        arrays("s.npz", x=np.full((ROWS, 3), np.nan)),
        arrays("t.npz"),
        **NPZ,
    ),
    "rows with three axes": case(
        "must have shape (n, d)", arrays("s.npz", x=np.ones((ROWS, 3, 2))), arrays("t.npz"), **NPZ
    ),
    "rows of text": case(
        "the features must be numbers",
        arrays("s.npz", x=np.full((ROWS, 3), "a")),
        arrays("t.npz"),
        **NPZ,
    ),
    "too few labels": case(
        "24 rows, labels of shape (5,)", arrays("s.npz", y=np.arange(5)), arrays("t.npz"), **NPZ
    ),
    "no such key of labels": case(
        "has no array 'kind' of labels; it has x, y",
        arrays("s.npz"),
        arrays("t.npz"),
        **NPZ,
        label="kind",
    ),
    "damaged archive": case(
        "the file is damaged or not what its name says",
        bytes_in("s.npz", b"PK\3\4 cut"),
        arrays("t.npz"),
        **NPZ,
    ),
    "damaged image": case(
        "0.png cannot be read",
        *PHOTOGRAPHS,
        bytes_in("s/a/0.png", b"\x89PNG cut"),
        weights_of="squeezenet1_1",
        **FOLDERS,
    ),
    "images that are not read": case(
        "in a format that is not read, x.heic", *PHOTOGRAPHS, bytes_in("s/a/x.heic"), **FOLDERS
    ),
    "images in two depths": case(
        "images lie in it and in its sub-folders", images("s", "s/a", "t"), **FOLDERS
    ),
    "several domains as target": case(
        "holds 2 domains (day, night); name one",
        images("s/a", "s/b", "t/day/a", "t/night/a"),
        **FOLDERS,
    ),
    "files of several kinds": case(
        "files of several kinds (.csv, .npz)", table("s/a.csv"), arrays("s/b.npz"), T, source="s"
    ),
    "tables that differ": case(
        "differ in columns: size", table("s/a.csv"), table("s/b.csv", size=HALVES), T, source="s"
    ),
    "no weights": case("no file of weights is in data/weights, ", *PHOTOGRAPHS, **FOLDERS),
    "weights that say nothing": case(
        "does not say which network", *PHOTOGRAPHS, weights="best.pt", **FOLDERS
    ),
    "weights for a table": case("backbone and weights are for photographs", S, T, weights="w.pt"),
    "columns of photographs": case(
        "drop names a column of a table; s holds photographs", *PHOTOGRAPHS, drop=("a",), **FOLDERS
    ),
}


def start(given: dict[str, Any]) -> None:
    """Read and prepare, as the command does."""
    given = {"source": "s.csv", "target": "t.csv"} | given
    later = {name: given.pop(name) for name in PREPARED if name in given}
    later |= {name: Path(later[name]) for name in ("weights", "data_root") if name in later}
    sources, target = read_sides([given.pop("source")], given.pop("target"), **given)
    if target.kind != "photographs":
        later.pop("data_root", None)
    prepare(sources, target, FeatureOptions(**later))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_input_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    steps, given, expected = WRONG[name]
    for step in steps:
        step(tmp_path)
    given = dict(given)
    if network := given.pop("weights_of", None):
        given |= {"weights": random_weights(network, tmp_path)}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        start(given)
    told = str(raised.value)
    assert expected in told, told
    assert "\n" not in told and len(told) < 500
    assert sorted(tmp_path.rglob("*")) == before, "something was written"


def random_weights(network: str, folder: Path) -> str:
    """A file of random weights, under a name that says what they are of."""
    import torch

    from da._torchvision import torchvision

    torch.save(getattr(torchvision.models, network)().state_dict(), folder / f"{network}.pt")
    return str(folder / f"{network}.pt")
