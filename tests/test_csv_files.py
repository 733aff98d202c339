"""Tables of text, as they come out of Excel, pandas, R and instruments.

Oracle: the numbers, names and classes that were written.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from da.data.files.features import read_features

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(30, 6)), 3)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table(rows: np.ndarray, names: list[str] | None = None, delimiter: str = ",") -> str:
    lines = [*([names] if names else []), *rows.tolist()]
    return "".join(delimiter.join(map(str, line)) + "\n" for line in lines)


# ---------------------------------------------------------------- delimiters and decimal signs


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("names", [None, list("abcdef")])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_delimiters(delimiter: str, names: list[str] | None, ending: str, tmp_path: Path) -> None:
    text = table(X, names, delimiter).replace("\n", ending)
    found = read_features(write(tmp_path / "x.csv", text))
    np.testing.assert_array_equal(found.x, X)
    assert found.names == (tuple(names) if names else None)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("names", [None, list("abcdef")])
def test_decimal_commas(delimiter: str, names: list[str] | None, tmp_path: Path) -> None:
    text = table(X, names, delimiter).replace(".", ",")
    np.testing.assert_array_equal(read_features(write(tmp_path / "x.csv", text)).x, X)


def test_decimal_commas_with_classes_and_whole_numbers(tmp_path: Path) -> None:
    found = read_features(write(tmp_path / "x.csv", "a;class;b\n1,5;mug;2\n-,5;bike;1,5e3\n"))
    assert found.x.tolist() == [[1.5, 2], [-0.5, 1500]]
    assert found.labels is not None and found.labels.tolist() == ["mug", "bike"]


def test_excel_names_its_delimiter(tmp_path: Path) -> None:
    found = read_features(write(tmp_path / "x.csv", "sep=;\na;b\n1;2\n"))
    assert found.x.tolist() == [[1, 2]] and found.names == ("a", "b")


def test_tsv(tmp_path: Path) -> None:
    assert read_features(write(tmp_path / "x.tsv", "a\tb\n1\t2\n")).x.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a;b\n1,5;2.5\n", r"numbers with a comma \(1,5\) and numbers with a point"),
        ("a;b\n1,234;12,345\n", "may be a decimal sign or divide thousands"),
        ("a;b\n1.234,5;2\n", "line 2, column 'a': '1.234,5' is no number"),
        ('a,b\n"1,5","2,5"\n', "column 'a': '1,5' is no number; write it with a decimal point"),
        ("a\n1,5\n2,5\n", "2 cells, but the first line has 1; if the comma is the decimal sign"),
        ("a,b\n1_000,2\n", "'1_000' is no number"),
        ("a b\n1 2\n", "column 'a b': '1 2' is no number"),
    ],
)
def test_numbers_that_can_mean_two_things(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"x\.csv.*{told}"):
        read_features(write(tmp_path / "x.csv", text))


# ---------------------------------------------------------------- encodings


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"]
)
def test_encodings(encoding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "größe;class\n1;café\n2;mug\n"
    found = read_features(write(tmp_path / "x.csv", text, encoding))
    assert found.x.tolist() == [[1], [2]] and found.names == ("größe",)
    assert found.labels is not None and found.labels.tolist() == ["café", "mug"]
    told = f"{tmp_path / 'x.csv'} is not UTF-8, so it is read as Latin-1 (Windows-1252)\n"
    assert capsys.readouterr().out == (told if encoding in ("latin-1", "cp1252") else "")


def test_utf_16_with_names_of_another_script(tmp_path: Path) -> None:
    found = read_features(write(tmp_path / "x.csv", "высота\tclass\n1,5\tкружка\n", "utf-16"))
    assert found.x.tolist() == [[1.5]] and found.names == ("высота",)


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"PK\3\4\0\0\0\0\0\0 a workbook of Excel")
    with pytest.raises(ValueError, match=r"x\.csv cannot be read: it is no text"):
        read_features(tmp_path / "x.csv")


# ---------------------------------------------------------------- quotes, empty cells, doubles


def test_quoted_cells(tmp_path: Path) -> None:
    rows = [["a, b", 'say "c"', "class"], [1.5, 2, "mug; red"], [2.5, 3, "line\nbreak"]]
    with open(tmp_path / "x.csv", "w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    found = read_features(tmp_path / "x.csv")
    assert found.x.tolist() == [[1.5, 2], [2.5, 3]] and found.names == ("a, b", 'say "c"')
    assert found.labels is not None and found.labels.tolist() == ["mug; red", "line\nbreak"]
    spaced = read_features(write(tmp_path / "y.csv", '"a", "class"\n1, "mug"\n'))
    assert spaced.names == ("a",) and spaced.labels is not None


@pytest.mark.parametrize(
    "text", ["a,b,,\n1,2,,\n3,4,,\n", "a,b\n1,2,\n3,4,\n", "a,b,\n1,2\n3,4\n,,\n\n"]
)
def test_empty_columns_and_rows_at_the_end(text: str, tmp_path: Path) -> None:
    found = read_features(write(tmp_path / "x.csv", text))
    assert found.x.tolist() == [[1, 2], [3, 4]] and found.names == ("a", "b")
    numbers = read_features(write(tmp_path / "x.csv", text.split("\n", 1)[1])).x
    assert numbers.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b,class\n1,2,x\n3,,y\n", r"line 3, column 'b': no value \(''\); fill it, or drop"),
        ("1,2\n3,NA\n", r"line 2, column 2: no value \('NA'\)"),
        ("a,b\n1,\n", r"line 2, column 'b': no value"),
        ("a,b,a\n1,2,3\n", "columns 1 and 3 are both called 'a'"),
        ("a,b\n1,2,3\n", "line 2: 3 cells, but the first line has 2"),
        ("a,b\n1\n", "line 2: 1 cells, but the first line has 2"),
        ("Unnamed: 0,a\n0,1.5\n", "index=False"),
        ("a,y\n1,mug\n2,\n", "line 3, column 'y': no class; .* none empty, or all of them"),
        ('a,class\n1,"mug\n2,bike\n', "a quotation mark is not closed"),
        ("a,target\n1,0.25\n", "labels must be classes.* got 0.25.*another name"),
    ],
)
def test_faults_are_told_with_row_and_column(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"x\.csv.*{told}"):
        read_features(write(tmp_path / "x.csv", text))


# ---------------------------------------------------------------- classes


@pytest.mark.parametrize(
    "name", ["label", "labels", "y", "class", "Target", "targets", "classification", " Class "]
)
def test_names_of_the_column_of_classes(name: str, tmp_path: Path) -> None:
    found = read_features(write(tmp_path / "x.csv", f"a,{name},b\n1,0,2\n3,1,4\n"))
    assert found.labels is not None and found.labels.tolist() == ["0", "1"]
    assert found.x.tolist() == [[1, 2], [3, 4]] and found.names == ("a", "b")


def test_a_column_of_classes_without_any_is_a_target_without_labels(tmp_path: Path) -> None:
    found = read_features(write(tmp_path / "x.csv", "a,b,label\n1,2,\n3,4,\n"))
    assert found.labels is None and found.x.tolist() == [[1, 2], [3, 4]]


# ---------------------------------------------------------------- headings of numbers

HEADINGS = {
    "wavelengths": range(1100, 1112, 2),
    "falling": range(1110, 1098, -2),
    "masses": [103.2, 117.9, 204.1, 350.0, 512.6, 700.3],
    "years": [1990, 2000, 2005, 2010, 2015, 2020],
}


@pytest.mark.parametrize("name", ["wavelengths", "falling", "masses", "years"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_numbers_far_from_the_data_are_a_heading(
    name: str, delimiter: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(value) for value in HEADINGS[name]]
    text = table(X, names, delimiter)
    found = read_features(write(tmp_path / "x.csv", text))
    np.testing.assert_array_equal(found.x, X)
    assert found.names == tuple(names)
    told = f"x.csv: the first row ({', '.join(names[:3])}, ...) is taken as the names"
    assert told in capsys.readouterr().out


def test_whole_numbers_in_order_above_fractions_are_a_heading(tmp_path: Path) -> None:
    found = read_features(write(tmp_path / "x.csv", table(X, list("123456"))))
    np.testing.assert_array_equal(found.x, X)


@pytest.mark.parametrize(
    "first",
    [
        [1104, 1100, 1102, 1101, 1109, 1107],  # far, but in no order
        [3, 1, 2, 6, 4, 5],  # whole numbers above fractions
        [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5],  # in order, and near
    ],
)
def test_a_first_row_that_can_be_both_is_asked_about(first: list[float], tmp_path: Path) -> None:
    text = table(X, [str(value) for value in first])
    with pytest.raises(ValueError, match=r"x\.csv: the first row .* may be a heading or a row; if"):
        read_features(write(tmp_path / "x.csv", text))
    named = read_features(write(tmp_path / "x.csv", "a,b,c,d,e,f\n" + text))
    assert named.x[0].tolist() == first


def test_tables_without_a_heading_keep_their_first_row(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    tables = {
        "normal": draw.normal(size=(40, 6)),
        "two columns": draw.normal(size=(40, 2)),
        "counts": draw.integers(0, 5, (40, 4)),
        "one-hot": np.eye(4)[draw.integers(0, 4, 40)],
        "curves": draw.random((40, 8)).cumsum(axis=1),
        "columns of other size": draw.normal(size=(40, 5)) + 10 * np.arange(5),
        "series": np.arange(200.0).reshape(40, 5),
        "two rows": draw.normal(size=(2, 6)),
        "one column": np.vstack([[1000.0], draw.normal(size=(39, 1))]),
    }
    for name, x in tables.items():
        found = read_features(write(tmp_path / "x.csv", table(x)))
        np.testing.assert_array_equal(found.x, x, err_msg=name)
        assert found.names is None, name


def test_few_tables_of_noise_are_asked_about(tmp_path: Path) -> None:
    """A first row in order by chance: 2 of 720 tables of six columns."""
    from da.data.files.csv_headings import first_row_of_numbers

    draw = np.random.default_rng(2)
    verdicts = [first_row_of_numbers(draw.normal(size=(1000, 6))) for _ in range(300)]
    assert "heading" not in verdicts and verdicts.count("unclear") < 6
    whole = [first_row_of_numbers(draw.integers(0, 9, (50, 3)) * 1.0) for _ in range(300)]
    assert set(whole) == {"row"}


def test_a_heading_that_is_marked(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "x.csv", X, delimiter=",", header="1,2,3,4,5,6", fmt="%.3f")
    found = read_features(tmp_path / "x.csv")
    np.testing.assert_array_equal(found.x, X)
    assert found.names == tuple("123456")


def test_numbers_and_a_name_of_classes(tmp_path: Path) -> None:
    found = read_features(write(tmp_path / "x.csv", "1100,1102,target\n.5,.6,1\n.4,.5,0\n"))
    assert found.names == ("1100", "1102") and found.x.tolist() == [[0.5, 0.6], [0.4, 0.5]]
    with pytest.raises(ValueError, match="call the column of classes label"):
        read_features(write(tmp_path / "x.csv", "1100,1102,species\n.5,.6,1\n"))


# ---------------------------------------------------------------- many columns


def test_thousands_of_columns(tmp_path: Path) -> None:
    x = np.round(np.random.default_rng(3).normal(size=(20, 6000)), 4)
    names = [f"gene {number}" for number in range(6000)]
    for delimiter in (",", ";"):
        found = read_features(write(tmp_path / "x.csv", table(x, names, delimiter)))
        np.testing.assert_array_equal(found.x, x)
        assert found.names == tuple(names)


# ---------------------------------------------------------------- tables that do not fit together


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("a,b,d\n1,2,3\n", "only y.csv has d; only x.csv has c"),
        ("a,c,b\n1,2,3\n", "the same in another order, c in y.csv where x.csv has b"),
        ("1,2,3\n", "no names in y.csv"),
    ],
)
def test_files_of_a_folder_tell_which_columns_differ(other: str, told: str, tmp_path: Path) -> None:
    write(tmp_path / "x.csv", "a,b,c\n1,2,3\n")
    write(tmp_path / "y.csv", other)
    with pytest.raises(ValueError, match=rf"y\.csv and .*x\.csv differ in column names: {told}$"):
        read_features(tmp_path)
