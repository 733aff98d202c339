"""Features from a user's own files: rows (n, d), with a class for each row if the file has one.

    .npz        `features` or `x`, and optionally `labels` or `y`. Or `source_features`,
                `source_labels`, `target_features` and `target_labels`, as in a run's features.npz.
    .pt         A dict of tensors with the same keys, or one tensor.
    .npy        One array.
    .csv        Also .tsv. Commas, semicolons, tabs or bars; a heading if the first row is text. A
                column called label, y, class or target holds the classes.
    .svmlight   Also .libsvm. Columns are numbered from 0. The first value of a line is its class.
    a folder    Such files, one below the other in the order of their names. Files with other
                suffixes are left out.

Integers become float64, half precision becomes float32. Classes become text, so that 3, 3.0 and "3"
of different files are one class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from da.data.class_names import composed_labels
from da.data.files.arrays import check_ordinary, read_npy, read_npz, read_pt, read_svmlight
from da.data.files.column_names import names_apart
from da.data.files.csv_files import read_csv
from da.data.files.csv_headings import LABELS
from da.data.files.csv_layout import is_number
from da.data.files.folders import naming
from da.data.files.photographs import list_photographs

FEATURES = ("features", "x")  # keys of features


@dataclass(frozen=True)
class Features:
    """Rows of numbers with their classes and the names of their columns, as a file gives them.

    Attributes:
        x: Rows (n, d) of finite floats, float32 or float64.
        labels: Classes (n,) as text, or None (default).
        names: Names of the d columns, or None (default).
        words: Columns of categories (n, c) as text, or None (default): see `read_features`.
        word_names: Names of the c columns of categories; default ().

    Example:
        >>> import numpy as np
        >>> from da.data.files import Features
        >>> Features(np.array([[1.0, 2.0]]), labels=np.array(["mug"])).labels.tolist()
        ['mug']
    """

    x: np.ndarray
    labels: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    words: np.ndarray | None = None
    word_names: tuple[str, ...] = ()


def read_features(
    path: str | Path,
    *,
    domain: Literal["source", "target"] = "source",
    categories: Sequence[str] | None = None,
) -> Features:
    """Read features from your own file, or from a folder of files.

    The suffix decides the format: .npz, .npy, .pt, .csv, .tsv, .svmlight or .libsvm. The files of a
    folder are put one below the other.

    Args:
        path: The file or folder.
        domain: Which of the two to take if a file holds `source_features` and `target_features`.
            Default "source".
        categories: For .csv and .tsv: names of columns that hold categories though they look like
            numbers, such as postcodes. They and the columns of text become `words`. Default None:
            text among the numbers is an error.

    Returns:
        Rows, and classes and column names if the file has them.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The suffix is unknown, the file is damaged, keys are missing or ambiguous, there
            is text among the numbers, there are no rows, values are not finite, labels are no
            classes or do not fit the rows, or files of a folder differ in width, in column names or
            in having labels. The message names the file.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.data.files import read_features
        >>> file = Path(tempfile.mkdtemp()) / "sensors.csv"
        >>> _ = file.write_text("height,weight,class\\n1.5,2.5,mug\\n3.5,4.5,bike\\n")
        >>> found = read_features(file)
        >>> found.x.tolist(), found.labels.tolist(), found.names
        ([[1.5, 2.5], [3.5, 4.5]], ['mug', 'bike'], ('height', 'weight'))
    """
    path = Path(path)
    if path.is_dir():
        files = [
            file
            for file in sorted(path.iterdir())
            if file.suffix.lower() in READERS and not file.name.startswith(".")
        ]
        if not files:
            raise ValueError(_nothing_in(path))
        return _stacked([_read_file(file, domain, categories) for file in files], files)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    return _read_file(path, domain, categories)


def _nothing_in(folder: Path) -> str:
    if list_photographs(folder)[0]:
        return (
            f"{folder} holds images, which are no features: name a network that computes some, "
            "--backbone squeezenet1_1 for example"
        )
    return f"{folder} holds neither images nor files that end in {', '.join(READERS)}"


class _Content(NamedTuple):
    """What a file holds, before it is checked."""

    x: Any
    labels: Any = None
    names: tuple[str, ...] | None = None
    words: np.ndarray | None = None
    word_names: tuple[str, ...] = ()


def _read_file(path: Path, domain: str, categories: Sequence[str] | None) -> Features:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{path}: unknown suffix {path.suffix!r}; features are read from {', '.join(READERS)}"
        )
    check_ordinary(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    if path.suffix.lower() in TABLES:
        content = _Content(*read_csv(path, categories=categories))
    elif categories:
        raise ValueError(f"{path}: only .csv and .tsv have columns of categories by name")
    else:
        content = reader(path, domain)
    x = _checked_rows(content.x, path)
    labels = None if content.labels is None else _checked_labels(content.labels, len(x), path)
    return Features(x, labels, content.names, content.words, content.word_names)


def _read_npz(path: Path, domain: str) -> _Content:
    with naming(path):
        content = read_npz(path)
    return _by_key(content, path, domain)


def _read_npy(path: Path, domain: str) -> _Content:
    with naming(path):
        return _Content(read_npy(path))


def _read_pt(path: Path, domain: str) -> _Content:
    with naming(path):
        content = read_pt(path)
    if isinstance(content, np.ndarray):
        return _Content(content)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold a tensor, or a dict of them with a key {' or '.join(FEATURES)}; "
            f"got {type(content).__name__}"
        )
    return _by_key(content, path, domain)


def _read_svmlight(path: Path, domain: str) -> _Content:
    with naming(path):
        return _Content(*read_svmlight(path))


def _read_csv(path: Path, domain: str) -> _Content:
    return _Content(*read_csv(path))


TABLES = (".csv", ".tsv")
READERS: dict[str, Callable[[Path, str], _Content]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".pt": _read_pt,
    ".svmlight": _read_svmlight,
    ".libsvm": _read_svmlight,
}


def _by_key(content: dict[str, Any], path: Path, domain: str) -> _Content:
    """Features and labels among the keys of an archive or a dict."""
    two = any(key.endswith("_features") for key in content)
    feature_keys = (f"{domain}_features",) if two else FEATURES
    label_keys = (f"{domain}_labels",) if two else LABELS
    features = [key for key in content if key.lower() in feature_keys]
    if len(features) != 1:
        keys = ", ".join(list(content)[:8]) or "nothing"
        raise ValueError(f"{path} must have one key {' or '.join(feature_keys)}; it has {keys}")
    labels = [key for key in content if key.lower() in label_keys]
    if len(labels) > 1:
        raise ValueError(f"{path}: the keys {', '.join(labels)} could all be the labels; keep one")
    return _Content(content[features[0]], content[labels[0]] if labels else None)


def _checked_rows(value: Any, path: Path) -> np.ndarray:
    """x (n, d) in float32 or float64, finite."""
    x = np.asarray(value)
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{path}: the features must be numbers; got {x.dtype}")
    if x.ndim != 2:
        hint = "one row a sample (reshape(-1, 1) for a single feature)"
        raise ValueError(f"{path}: the features must have shape (n, d): {hint}; got {x.shape}")
    if 0 in x.shape:
        hint = "with at least one row and one column"
        raise ValueError(f"{path}: the features must have shape (n, d), {hint}; got {x.shape}")
    single = x.dtype.kind == "f" and x.dtype.itemsize <= 4
    x = x.astype(np.float32 if single else np.float64, copy=False)
    broken = np.argwhere(~np.isfinite(x))
    if len(broken):
        row, column = broken[0]
        raise ValueError(
            f"{path}: {len(broken)} values are NaN or infinite, the first in row {row}, column "
            f"{column} (both from 0); drop or fill them first"
        )
    return x


def _checked_labels(value: Any, rows: int, path: Path) -> np.ndarray:
    """Classes as text, (n,)."""
    labels = np.asarray(value)
    if labels.shape not in ((rows,), (rows, 1), (1, rows)):
        raise ValueError(
            f"{path}: the labels must be one for each of {rows} rows; got shape {labels.shape}"
        )
    labels = labels.reshape(rows)
    if labels.dtype.kind == "U" and all(is_number(label) for label in labels.tolist()):
        labels = labels.astype(np.float64)
    if labels.dtype.kind == "f":
        wrong = labels[labels != np.round(labels)]  # NaN too
        if len(wrong):
            raise ValueError(
                f"{path}: labels must be classes, whole numbers or text; got {wrong[0]}; if they "
                "are a feature, give it another name"
            )
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iubU" or "" in labels.astype(str):
        raise ValueError(
            f"{path}: labels must be classes, whole numbers or text, none empty; got {labels.dtype}"
        )
    return composed_labels(labels.astype(str))


def _stacked(parts: Sequence[Features], files: Sequence[Path]) -> Features:
    """The rows of all files, one below the other."""
    first = _form(parts[0])
    for part, file in zip(parts, files, strict=True):
        for what, own in _form(part).items():
            if own != first[what]:
                raise ValueError(f"{file} and {files[0]} differ in {what}: {own} and {first[what]}")
        if part.names != parts[0].names:
            told = names_apart(part.names, parts[0].names, (file.name, files[0].name))
            raise ValueError(f"{file} and {files[0]} differ in column names: {told}")
    labels = [part.labels for part in parts if part.labels is not None]
    return Features(
        np.concatenate([part.x for part in parts]),
        np.concatenate(labels) if labels else None,
        parts[0].names,
        None if parts[0].words is None else np.concatenate([part.words for part in parts]),
        parts[0].word_names,
    )


def _form(features: Features) -> dict[str, object]:
    """What all files of a folder must have in common, by name."""
    return {
        "columns": features.x.shape[1],
        "labels": "none" if features.labels is None else "some",
        "columns of text": ", ".join(features.word_names) or "none",
    }
