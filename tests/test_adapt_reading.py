"""One's own data as it is read: every format, labels, domains, and what is told of odd content.

Oracles: the arrays that were written, by pandas, NumPy, SciPy, h5py, scikit-learn and PIL.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import dump_svmlight_file

from da.adapt.describe import describe
from da.adapt.prepare_sides import prepare
from da.adapt.read_labels import as_text, looks_like_numbers
from da.adapt.read_paths import read_side, read_sides
from da.adapt.read_tables import read_table
from da.adapt.sides import Side
from problems import real_data

ROWS = 30
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(ROWS, 3))
Y = np.arange(ROWS) % 3
CLASSES = np.array(["ant", "bée", "c at"])[Y]
TABLE = pd.DataFrame(
    {
        "height": X[:, 0],
        "size": X[:, 1],
        "colour": np.array(["red", "blue"])[Y % 2],
        "kind": CLASSES,
    }
).assign(kind=CLASSES)


def image(path: Path, colour: tuple[int, int, int] = (9, 9, 9), side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side + 1), colour).save(path)


# ---------------------------------------------------------------- features


def write_npz(path: Path) -> None:
    np.savez(path, x=X, y=Y)


def write_features_npz(path: Path) -> None:
    np.savez(path, features=X, labels=CLASSES)


def write_mat(path: Path) -> None:
    savemat(path, {"fts": X, "labels": Y[:, None]})


def write_mat_of_text(path: Path) -> None:
    savemat(path, {"X": X, "label": CLASSES.astype(object)[:, None]})


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:  # MATLAB 7.3 stores the transposed matrix
        file["x"], file["y"] = X.T, Y[:, None].astype(float)


def write_svmlight(path: Path) -> None:
    dump_svmlight_file(X, Y, str(path))


@pytest.mark.parametrize(
    ("name", "write", "labels"),
    [
        ("a.npz", write_npz, Y.astype(str)),
        ("a.npz", write_features_npz, CLASSES),
        ("a.npy", lambda path: np.save(path, X), None),
        ("a.mat", write_mat, Y.astype(str)),
        ("a.mat", write_mat_of_text, CLASSES),
        ("b.mat", write_hdf5, Y.astype(str)),
        ("a.svmlight", write_svmlight, Y.astype(str)),
    ],
)
def test_features_of_every_format(name, write, labels, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path / name)
    side = read_side(tmp_path / name)
    assert side.kind == "features" and side.names[-1] == str(ROWS - 1)
    np.testing.assert_allclose(side.content, X, rtol=1e-6)
    if labels is None:
        assert side.labels is None
    else:
        assert side.labels is not None and side.labels.tolist() == labels.tolist()


def test_both_domains_of_one_file_and_files_of_a_folder(tmp_path: Path) -> None:
    both = {"source_features": X, "source_labels": Y, "target_features": X[:10] + 1}
    np.savez(tmp_path / "run.npz", **both)  # type: ignore[arg-type]
    (source,), target = read_sides([tmp_path / "run.npz"], tmp_path / "run.npz")
    assert len(source) == ROWS and len(target) == 10 and target.labels is None
    (tmp_path / "parts").mkdir()
    for part in range(2):
        np.savez(tmp_path / f"parts/{part}.npz", x=X + part, y=Y)
    side = read_side(tmp_path / "parts")
    np.testing.assert_array_equal(side.content, np.concatenate([X, X + 1]))
    assert side.names[ROWS] == "1.npz:0"


def test_svmlight_files_may_lack_last_columns_and_labels(tmp_path: Path) -> None:
    wide = np.column_stack([X, np.zeros(ROWS)])
    wide[0, 3] = 5
    dump_svmlight_file(wide, Y, str(tmp_path / "s.svmlight"))
    dump_svmlight_file(X, np.zeros(ROWS), str(tmp_path / "t.svmlight"))
    sources, target = read_sides([tmp_path / "s.svmlight"], tmp_path / "t.svmlight")
    assert target.labels is None and "all labels are 0" in target.notes[0]
    made = prepare(sources, target)
    expected = (np.column_stack([X, np.zeros(ROWS)]) - wide.mean(0)) / wide.std(0)
    np.testing.assert_allclose(made.target_x, expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- tables and texts


@pytest.mark.parametrize("form", ["comma", "semicolon", "tab", "parquet", "index", "latin"])
def test_tables_of_every_form(form: str, tmp_path: Path) -> None:
    path = tmp_path / {"parquet": "a.parquet", "tab": "a.tsv"}.get(form, "a.csv")
    write = {
        "comma": lambda: TABLE.to_csv(path, index=False),
        "semicolon": lambda: TABLE.to_csv(path, index=False, sep=";", decimal=","),
        "tab": lambda: TABLE.to_csv(path, index=False, sep="\t"),
        "parquet": lambda: TABLE.to_parquet(path),
        "index": lambda: TABLE.to_csv(path),
        "latin": lambda: TABLE.to_csv(path, index=False, encoding="latin-1"),
    }
    write[form]()
    side = read_side(path, label="kind")
    assert side.kind == "table" and side.labels is not None
    assert side.labels.tolist() == CLASSES.tolist()
    expected = TABLE.drop(columns="kind")
    pd.testing.assert_frame_equal(side.content, expected, check_dtype=False, rtol=1e-12)
    assert ("numbers the rows" in " ".join(side.notes)) == (form == "index")


def test_gaps_categories_and_columns_that_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,code,b,label\n1,007,x,NA\n?,12,n/a,no\nnan,007,-,no\n")
    side = read_side(path, categories=("code",))
    content = side.content
    assert isinstance(content, pd.DataFrame) and side.labels is not None
    assert side.labels.tolist() == ["NA", "no", "no"], "in labels NA is a class"
    assert content["a"].isna().tolist() == [False, True, True]
    assert content["b"].isna().tolist() == [False, True, True]
    assert content["code"].tolist() == ["007", "12", "007"]
    assert list(read_side(path, drop=("a",)).content) == ["code", "b"]
    assert list(read_side(path, columns=("b", "a")).content) == ["a", "b"]


def test_wavelengths_are_names_if_the_label_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nir.csv"
    rows = "\n".join(f"{n}.5,2.5,{n / 7:.3f}" for n in range(12))
    path.write_text(f"1100,1102,moisture\n{rows}\n")
    side = read_side(path, label="moisture")
    assert list(side.content) == ["1100", "1102"] and side.labels is not None
    assert side.labels.dtype == np.float64 and side.labels[7] == 1.0


def test_texts_with_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    texts = ['good, "very" good', "bad;\nworse", "", "ünï"]
    pd.DataFrame({"review": texts, "label": [1, 0, 1, 0]}).to_csv(path, index=False)
    side = read_side(path, text="review")
    assert side.kind == "texts" and side.text == "review" and list(side.content) == texts
    assert side.notes == (f"{path}: 1 texts are empty.",)


def test_domains_of_one_table(tmp_path: Path) -> None:
    table = TABLE.assign(year=np.repeat([2022, 2023, 2024], 10))
    table.to_csv(tmp_path / "a.csv", index=False)
    sources, target = read_sides(
        [tmp_path / "a.csv"], None, label="kind", domain_column="year", target_value="2024"
    )
    assert [side.names[0] for side in (*sources, target)] == ["0", "10", "20"]
    assert "year" not in target.content and len(sources) == 2  # type: ignore[operator]
    made = prepare(sources, target)
    assert made.source_domain.tolist() == [0] * 10 + [1] * 10
    assert made.classes == ("ant", "bée", "c at")


def test_empty_labels_of_a_target_are_none(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "s.csv", index=False)
    TABLE.assign(kind="").to_csv(tmp_path / "t.csv", index=False)
    _, target = read_sides([tmp_path / "s.csv"], tmp_path / "t.csv", label="kind")
    assert target.labels is None


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ([1.0, 2.0, 3.0], False),
        ([1.5, 2.0], True),
        (list(range(60)), True),
        (list(range(60)) * 20, False),
        (["a", "1.5"], False),
    ],
)
def test_when_labels_are_numbers(labels: list, numbers: bool) -> None:
    assert looks_like_numbers(as_text(labels)) == numbers


def test_a_class_is_one_class_however_it_is_written() -> None:
    assert as_text([3, 3.0, "3", " 3 ", "3.", "03", "e\u0301"]).tolist() == [*"33333", "03", "é"]


def test_labels_of_both_sides_are_numbers_or_classes_by_the_source(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=X, y=X[:, 0])
    np.savez(tmp_path / "t.npz", x=X + 1, y=np.ones(ROWS))
    (source,), target = read_sides([tmp_path / "s.npz"], tmp_path / "t.npz")
    assert target.labels is not None and target.labels.dtype == np.float64
    made = prepare([source], target)
    assert made.task == "regression" and made.classes == () and made.source_y.dtype == np.float32
    (source,), _ = read_sides([tmp_path / "s.npz"], tmp_path / "t.npz", regression=True)
    assert source.labels is not None and source.labels.dtype == np.float64


# ---------------------------------------------------------------- photographs


def test_folders_of_photographs(tmp_path: Path) -> None:
    for domain in ("day", "night"):
        for number in range(12):
            image(tmp_path / "office" / domain / "images" / f"c{number % 2}" / f"{number}.png")
    for number in range(12):
        image(tmp_path / "phone" / f"ü {number}.jpg")
    sources, target = read_sides([tmp_path / "office"], tmp_path / "phone")
    assert [Path(side.path).name for side in sources] == ["day", "night"]
    assert sources[0].names[0] == "c0/0.png" and target.labels is None
    assert target.names[0] == "ü 0.jpg"
    (alone,), _ = read_sides([tmp_path / "office"], tmp_path / "office/night")
    assert Path(alone.path).name == "day", "the target is no source"
    (tmp_path / "office/day/images/c9").mkdir()
    assert "without images are left out: c9" in read_side(tmp_path / "office/day").notes[0]


def test_office31_by_its_paths() -> None:
    root = real_data("office31")
    side = read_side(root / "office31/webcam")
    assert len(side) == 795 and side.labels is not None and len(set(side.labels)) == 31


# ---------------------------------------------------------------- what is told


def told(source: pd.DataFrame, target: pd.DataFrame, labels: np.ndarray, others: np.ndarray) -> str:
    names = tuple(map(str, range(len(source))))
    one = Side("s.csv", "table", names, labels, source)
    other = Side("t.csv", "table", names[: len(target)], others, target)
    return " ".join((*describe([one], other), *prepare([one], other).notes))


MANY = [f"code {number}" for number in range(60)]
ODD = {
    "a class of one sample": ({"labels": ["x", *"ab" * 20]}, "cannot be checked: x."),
    "an unseen class": ({"others": ["new", *"ab" * 20]}, "classes new: 1 of 41 samples, which no"),
    "a class that is gone": ({"others": ["a"] * 41}, "Only the source has the classes b."),
    "a constant": ({"z": ([1.0] * 41, [1.0] * 41)}, "constant in the source are left out: z."),
    "dates": (
        {"z": ([f"3/{n % 28 + 1}/2024 10:00" for n in range(41)],) * 2},
        "Dates are left out: z.",
    ),
    "dates of pandas": ({"z": (pd.date_range("2024", periods=41),) * 2}, "Dates are left out: z."),
    "free text": ({"z": ([f"it was {n} o clock" for n in range(41)],) * 2}, "Free text is left"),
    "names of rows": ({"z": ([f"id{n}" for n in range(41)],) * 2}, "name each row are left out: z"),
    "numbers of rows": ({"z": (np.arange(7.0, 48),) * 2}, "number the rows are left out: z."),
    "no values in the target": ({"z": (range(41), [None] * 41)}, "values in the target are out: z"),
    "gaps": ({"z": ([None, *range(40)], range(41))}, "missing values: z 2.4 %"),
    "many categories": (
        {"z": ([*MANY[:35], *["red"] * 6], ["red"] * 41)},
        "Column z has 36 categories; the 6 rarest are one.",
    ),
    "a column of one side": ({"only": True}, "only some sides have are left out: only."),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_content_is_told_and_no_error(case: str) -> None:
    what, expected = ODD[case]
    heights = GENERATOR.normal(size=(2, 41))
    source, target = (pd.DataFrame({"height": each}) for each in heights)
    if "z" in what:
        columns = [pd.Series(list(values)) for values in what["z"]]  # type: ignore[attr-defined]
        numbers = [pd.api.types.is_numeric_dtype(column) for column in columns]
        source["z"], target["z"] = (
            column.astype(float) if any(numbers) else column for column in columns
        )
    if "only" in what:
        source["only"] = heights[0]
    labels = np.array(what.get("labels", ["a", *"ab" * 20]))
    others = np.array(what.get("others", ["a", *"ab" * 20]))
    assert expected in told(source, target, labels, others)


def test_ten_thousand_categories_make_few_columns(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    codes = np.minimum(generator.geometric(0.0005, size=20_000), 10_000)
    table = pd.DataFrame({"code": [f"k{code}" for code in codes], "label": codes % 2})
    table.to_csv(tmp_path / "s.csv", index=False)
    table[:5000].to_csv(tmp_path / "t.csv", index=False)
    made = prepare(*read_sides([tmp_path / "s.csv"], tmp_path / "t.csv"))
    assert made.source_x.shape == (20_000, 31)
    frequent = table["code"].value_counts()
    assert made.source_x.sum(axis=0).max() == frequent.iloc[30:].sum(), "the others are one column"


def test_the_reader_of_tables_says_which_rows_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=;\na;b\n1,5;x\n\n2,5;y\n")
    table, _ = read_table(tmp_path / "a.csv")
    assert table["a"].tolist() == [1.5, 2.5] and table["b"].tolist() == ["x", "y"]
