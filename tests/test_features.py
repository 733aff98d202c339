"""Features from files.

Oracles: the arrays that were written, by NumPy, torch, scikit-learn, PIL and Python's csv; and
every way for a file to be wrong.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import dump_svmlight_file

from da.data.files.features import read_features
from da.data.files.photographs import list_photographs, read_photographs

X = np.random.default_rng(0).standard_normal((6, 3))
Y = np.array([2, 0, 1, 1, 0, 2])


def write_csv(path: Path, rows: list[list[object]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def with_label(rows: np.ndarray, labels: np.ndarray, place: int) -> list[list[object]]:
    return [
        [*row[:place], label, *row[place:]]
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True)
    ]


WRITERS: dict[str, Callable[[Path], object]] = {
    "x.npz": lambda path: np.savez(path, x=X, y=Y),
    "target.npz": lambda path: np.savez(path, x=X, target=Y),
    "capitals.npz": lambda path: np.savez(path, X=X, Labels=Y[:, None]),
    "features.npz": lambda path: np.savez(path, features=X, labels=Y.astype(float)),
    "x.pt": lambda path: torch.save(
        {"x": torch.from_numpy(X).requires_grad_(), "y": torch.from_numpy(Y)}, path
    ),
    "list.pt": lambda path: torch.save(
        {"features": torch.from_numpy(X), "labels": Y.tolist()}, path
    ),
    "last.csv": lambda path: write_csv(path, [["a", "b", "c", "label"], *with_label(X, Y, 3)]),
    "middle.csv": lambda path: write_csv(
        path, [["a", "b", "Y", "c"], *with_label(X, Y.astype(float), 2)]
    ),
    "numbered.csv": lambda path: write_csv(path, [["0", "1", "2", "class"], *with_label(X, Y, 3)]),
    "x.svmlight": lambda path: dump_svmlight_file(X, Y, str(path)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_written_is_read(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    found = read_features(tmp_path / name)
    assert (
        found.x.dtype == np.float64
        and found.labels is not None
        and found.labels.tolist() == [str(label) for label in Y]
    )
    np.testing.assert_allclose(found.x, X, rtol=1e-15 if not name.endswith("svmlight") else 1e-12)
    assert found.names == {
        "last.csv": ("a", "b", "c"),
        "middle.csv": ("a", "b", "c"),
        "numbered.csv": ("0", "1", "2"),
    }.get(name)


def test_files_without_labels_or_heading(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    torch.save(torch.from_numpy(X), tmp_path / "x.pt")
    write_csv(tmp_path / "x.csv", X.tolist())
    write_csv(tmp_path / "heading.csv", [["a", "b", "c"], *X.tolist()])
    for name in ("x.npy", "x.pt", "x.csv", "heading.csv"):
        found = read_features(tmp_path / name)
        np.testing.assert_array_equal(found.x, X)
        assert found.labels is None and found.names == (
            ("a", "b", "c") if name == "heading.csv" else None
        )


@pytest.mark.parametrize(
    ("given", "kept"),
    [("float16", "float32"), ("float32", "float32"), ("uint8", "float64"), (">f8", "float64")],
)
def test_precision(given: str, kept: str, tmp_path: Path) -> None:
    x = np.arange(6).reshape(3, 2).astype(given)
    np.save(tmp_path / "x.npy", x)
    found = read_features(tmp_path / "x.npy").x
    assert found.dtype == np.dtype(kept) and found.dtype.isnative
    np.testing.assert_array_equal(found, x)
    torch.save(torch.arange(6).reshape(3, 2).bfloat16(), tmp_path / "x.pt")
    assert read_features(tmp_path / "x.pt").x.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_runs_features_hold_both_domains(tmp_path: Path) -> None:
    arrays = {
        "source_features": X,
        "source_labels": Y,
        "target_features": X[:4] + 1,
        "target_labels": Y[:4],
    }
    np.savez(tmp_path / "features.npz", **arrays)
    source, target = (
        read_features(tmp_path / "features.npz", domain=domain) for domain in ("source", "target")
    )
    np.testing.assert_array_equal(source.x, X)
    np.testing.assert_array_equal(target.x, X[:4] + 1)
    assert target.labels is not None and target.labels.tolist() == [str(label) for label in Y[:4]]


def test_text_is_a_class_and_so_is_the_same_number_written_otherwise(tmp_path: Path) -> None:
    write_csv(tmp_path / "text.csv", [["a", "label"], [1, "mug"], [2, "bike"]])
    write_csv(tmp_path / "number.csv", [["a", "label"], [1, "3.0"], [2, " 4"]])
    read = [read_features(tmp_path / name).labels for name in ("text.csv", "number.csv")]
    assert [labels.tolist() for labels in read if labels is not None] == [
        ["mug", "bike"],
        ["3", "4"],
    ]


def test_a_folder_is_its_files_one_below_the_other(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", x=X[2:], y=Y[2:])
    write_csv(tmp_path / "a.csv", [["p", "q", "r", "y"], *with_label(X[:2], Y[:2], 3)])
    (tmp_path / "notes.txt").write_text("not read")
    np.save(tmp_path / ".hidden.npy", X)
    with pytest.raises(ValueError, match=r"b\.npz and .*a\.csv differ in column names"):
        read_features(tmp_path)
    (tmp_path / "a.csv").unlink()
    np.savez(tmp_path / "a.npz", x=X[:2], y=Y[:2])
    found = read_features(tmp_path)
    np.testing.assert_array_equal(found.x, X)
    assert found.labels is not None and found.labels.tolist() == [str(label) for label in Y]
    np.save(tmp_path / "c.npy", X)
    with pytest.raises(ValueError, match=r"c\.npy and .*a\.npz differ in labels: none and some"):
        read_features(tmp_path)
    np.savez(tmp_path / "c.npz", x=X[:, :2], y=Y)
    (tmp_path / "c.npy").unlink()
    with pytest.raises(ValueError, match=r"c\.npz and .*a\.npz differ in columns: 2 and 3"):
        read_features(tmp_path)


NAN = np.where(np.arange(18).reshape(6, 3) == 7, np.nan, X)
BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no file": ("x.npz", lambda path: None, "no such file or folder"),
    "empty": ("x.csv", lambda path: path.write_text(""), "is empty"),
    "blank": ("x.csv", lambda path: path.write_text("\n\n"), "has no rows"),
    "only a heading": ("x.csv", lambda path: path.write_text("a,b\n"), "at least one row"),
    "suffix": (
        "x.xlsx",
        lambda path: path.write_text("a"),
        r"unknown suffix '\.xlsx'; features are read from \.npz",
    ),
    "no zip": (
        "x.npz",
        lambda path: path.write_bytes(b"PK\3\4 and no more"),
        r"x\.npz cannot be read",
    ),
    "text as npy": ("x.npy", lambda path: path.write_text("1,2\n3,4\n"), r"x\.npy cannot be read"),
    "objects": (
        "x.npy",
        lambda path: np.save(path, np.array([{}], dtype=object)),
        r"x\.npy cannot be read",
    ),
    "no pickle": ("x.pt", lambda path: path.write_bytes(b"no tensor"), r"x\.pt cannot be read"),
    "a list": (
        "x.pt",
        lambda path: torch.save([1], path),
        "must hold a tensor, or a dict of them .* got list",
    ),
    "weights": (
        "x.pt",
        lambda path: torch.save({"w.bias": torch.ones(2)}, path),
        "must have one key features or x; it has w.bias",
    ),
    "keys": (
        "x.npz",
        lambda path: np.savez(path, data=X),
        "must have one key features or x; it has data",
    ),
    "two keys": (
        "x.npz",
        lambda path: np.savez(path, x=X, features=X),
        "must have one key features or x; it has x, features",
    ),
    "two labels": (
        "x.npz",
        lambda path: np.savez(path, x=X, y=Y, label=Y),
        "y, label could all be the labels",
    ),
    "other domain": (
        "x.npz",
        lambda path: np.savez(path, target_features=X),
        "must have one key source_features; it has target_features",
    ),
    "nan": (
        "x.npy",
        lambda path: np.save(path, NAN),
        "1 values are NaN or infinite, the first in row 2, column 1",
    ),
    "infinite csv": (
        "x.csv",
        lambda path: path.write_text("a,b\n1,inf\n"),
        "NaN or infinite, the first in row 0, column 1",
    ),
    "one axis": (
        "x.npy",
        lambda path: np.save(path, X[:, 0]),
        r"must have shape \(n, d\).*reshape.*got \(6,\)",
    ),
    "images": (
        "x.npy",
        lambda path: np.save(path, X[None]),
        r"must have shape \(n, d\).*got \(1, 6, 3\)",
    ),
    "no rows": ("x.npy", lambda path: np.save(path, X[:0]), r"at least one row.*got \(0, 3\)"),
    "text features": ("x.npy", lambda path: np.save(path, X.astype(str)), "must be numbers"),
    "complex": ("x.npy", lambda path: np.save(path, X + 0j), "must be numbers; got complex128"),
    "label count": (
        "x.npz",
        lambda path: np.savez(path, x=X, y=Y[:4]),
        r"one for each of 6 rows; got shape \(4,\)",
    ),
    "one-hot": (
        "x.npz",
        lambda path: np.savez(path, x=X, y=np.eye(6)),
        r"one for each of 6 rows; got shape \(6, 6\)",
    ),
    "regression": ("x.npz", lambda path: np.savez(path, x=X, y=X[:, 0]), "labels must be classes"),
    "no label": ("x.csv", lambda path: path.write_text("a,y\n1,mug\n2,\n"), "none empty"),
    "text cell": (
        "x.csv",
        lambda path: path.write_text("a,b\n1,2\n3,n/a\n"),
        r"line 3, column 'b': no value \('n/a'\); fill it, or drop the row or column",
    ),
    "empty cell": (
        "x.csv",
        lambda path: path.write_text("a,b\n1,2\n3,\n"),
        r"line 3, column 'b': no value \(''\); fill it, or drop the row or column",
    ),
    "ragged": (
        "x.csv",
        lambda path: path.write_text("a,b,y\n1,2,0\n3,4,5,1\n"),
        "line 3: 4 cells, but the first line has 3",
    ),
    "row numbers": (
        "x.csv",
        lambda path: path.write_text(",a,b\n0,1,2\n"),
        r"cell 1 is empty.*index=False",
    ),
    "column numbers": (
        "x.csv",
        lambda path: path.write_text("0,1,2\n.5,.5,.5\n"),
        r"like numbers of columns",
    ),
    "half a heading": (
        "x.csv",
        lambda path: path.write_text("1.5,mug\n2.5,bike\n"),
        "neither a heading nor a row",
    ),
    "word": (
        "x.csv",
        lambda path: path.write_text("a,b\n1,2\n3,red\n"),
        "line 3, column 'b': 'red' is no number; only a column called label, y, class or target",
    ),
    "two label columns": (
        "x.csv",
        lambda path: path.write_text("y,a,class\n0,1,0\n"),
        "'y', 'class' could all be the column of labels",
    ),
    "no columns": ("x.csv", lambda path: path.write_text("y\n0\n1\n"), r"got \(0, 1\)"),
    "no svmlight": (
        "x.svmlight",
        lambda path: path.write_text("1 a:b\n"),
        r"x\.svmlight cannot be read",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_bad_file_is_one_error_that_names_it(case: str, tmp_path: Path) -> None:
    name, write, told = BROKEN[case]
    write(tmp_path / name)
    with pytest.raises(
        FileNotFoundError if case == "no file" else ValueError, match=told
    ) as caught:
        read_features(tmp_path / name)
    assert name in str(caught.value)


def colours(folder: Path, names: list[str]) -> None:
    """One-coloured images of 5 x 4 pixels, the red of the i-th 10 i."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4), (10 * number, 1, 2)).save(folder / name)


def test_photographs_of_a_folder_and_of_class_folders(tmp_path: Path) -> None:
    colours(tmp_path / "plain", ["b.png", "a.png"])
    files, labels = list_photographs(tmp_path / "plain")
    assert [file.name for file in files] == ["a.png", "b.png"] and labels is None
    colours(tmp_path / "classes", ["mug/1.png", "bike/2.png", "mug/0.png"])
    files, labels = list_photographs(tmp_path / "classes")
    assert labels is not None and labels.tolist() == ["bike", "mug", "mug"]
    pixels = read_photographs(files, size=8)
    assert pixels.shape == (3, 3, 8, 8) and pixels.dtype == np.uint8
    assert (
        pixels[:, 0, 0, 0].tolist() == [10, 20, 0]
        and (pixels[:, 1] == 1).all()
        and (pixels[:, 2] == 2).all()
    )


def test_wrong_folders(tmp_path: Path) -> None:
    colours(tmp_path / "images", ["mug/1.png"])
    with pytest.raises(ValueError, match="holds images, which are no features: .*--backbone"):
        read_features(tmp_path / "images")
    colours(tmp_path / "images", ["2.png"])
    with pytest.raises(ValueError, match="images lie in it and in its sub-folders"):
        list_photographs(tmp_path / "images")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds neither images nor files"):
        read_features(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list_photographs(tmp_path / "absent")
    (tmp_path / "empty" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.png cannot be read"):
        read_photographs([tmp_path / "empty" / "a.png"], size=8)
