"""Features from a user's own files: rows x (n, d), with a class for each row where the file has one.

    .npz          `features` or `x`, and optionally `labels` or `y`; or the `source_features`, `source_labels`, `target_features` and
                  `target_labels` of a run's features.npz, of which `domain` says which
    .pt           a dict of tensors with the same keys, or one tensor
    .npy          one array
    .csv          commas; a heading where the first row is text; a column called label, labels, y or class holds the classes
    .svmlight     also .libsvm; columns are numbered from 0, the first value of a line is its class
    a folder      of such files, one below the other in the order of their names; files with other suffixes are left out

Integers become float64, half precision becomes float32. Classes become text, so that 3, 3.0 and "3" of different files are one class.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from da.data.files.folders import child_folders, images_in, naming

FEATURES, LABELS = ("features", "x"), ("labels", "label", "y", "class")


@dataclass(frozen=True)
class Features:
    """Rows `x` (n, d) of finite floats; `labels` (n,) of text, one class a row, or None; `names` of the d columns, or None."""

    x: np.ndarray
    labels: np.ndarray | None = None
    names: tuple[str, ...] | None = None


def read_features(path: str | Path, *, domain: Literal["source", "target"] = "source") -> Features:
    """The features in a file, or in a folder of files (see the module).

    domain: which of the two to take where a file holds `source_features` and `target_features`.

    Raises FileNotFoundError where nothing is there; ValueError that names the file for an unknown suffix, a damaged file, missing or
    ambiguous keys, text among the numbers, no rows, values that are not finite, labels that are no classes or do not fit the rows, and
    for files of a folder that differ in width, in column names or in having labels.
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
        return _stacked([_read_file(file, domain) for file in files], files)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file or folder")
    return _read_file(path, domain)


def list_photographs(folder: str | Path) -> tuple[list[Path], np.ndarray | None]:
    """Image files in `folder` by name, without labels; or those in its sub-folders, whose names are their classes (n,).

    No files where there are none. Raises FileNotFoundError where there is no such folder, ValueError where images lie both in the
    folder and in its sub-folders.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    direct = images_in(folder)
    classes = {child.name: images_in(child) for child in child_folders(folder)}
    inside = [file for files in classes.values() for file in files]
    if direct and inside:
        raise ValueError(
            f"{folder}: images lie in it and in its sub-folders; keep them in one or the other"
        )
    return (
        (direct, None)
        if direct
        else (inside, np.array([name for name, files in classes.items() for _ in files], dtype=str))
    )


def read_photographs(files: Sequence[Path], *, size: int) -> np.ndarray:
    """Images as uint8 (n, 3, size, size), each resized whole (bilinear, antialiased) as by `da.data.readers.read_domain`.

    Raises ValueError that names a file which cannot be decoded.
    """
    pixels = np.empty((len(files), 3, size, size), np.uint8)
    for row, file in enumerate(files):
        with naming(file), Image.open(file) as image:
            pixels[row] = np.asarray(
                image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            ).transpose(2, 0, 1)
    return pixels


def _nothing_in(folder: Path) -> str:
    if list_photographs(folder)[0]:
        return f"{folder} holds images, which are no features: name a network that computes some, --backbone squeezenet1_1 for example"
    return f"{folder} holds neither images nor files that end in {', '.join(READERS)}"


def _read_file(path: Path, domain: str) -> Features:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{path}: unknown suffix {path.suffix!r}; features are read from {', '.join(READERS)}"
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    x, labels, names = reader(path, domain)
    rows = _checked_rows(x, path)
    return Features(
        rows, None if labels is None else _checked_labels(labels, len(rows), path), names
    )


def _read_npz(path: Path, domain: str) -> tuple[Any, Any, None]:
    with naming(path), np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    return (*_by_key(arrays, path, domain), None)


def _read_npy(path: Path, domain: str) -> tuple[Any, None, None]:
    with naming(path):
        return np.load(path, allow_pickle=False), None, None


def _read_pt(path: Path, domain: str) -> tuple[Any, Any, None]:
    import torch

    def plain(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        value = value.detach().cpu()
        return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()

    with naming(path):
        content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, torch.Tensor):
        return plain(content), None, None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold a tensor, or a dict of them with a key {' or '.join(FEATURES)}; got {type(content).__name__}"
        )
    return (
        *_by_key({str(key): plain(value) for key, value in content.items()}, path, domain),
        None,
    )


def _read_svmlight(path: Path, domain: str) -> tuple[Any, Any, None]:
    from sklearn.datasets import load_svmlight_file

    with naming(
        path
    ):  # zero_based is said, not guessed file by file: a guess could shift the columns of one of two files
        x, labels = load_svmlight_file(str(path), zero_based=True)
    return x.toarray(), labels, None


def _read_csv(path: Path, domain: str) -> tuple[Any, Any, tuple[str, ...] | None]:
    lines = _csv_lines(path)
    start, first = next(lines, (0, []))
    if not first:
        raise ValueError(f"{path} has no rows")
    names = _heading(first, path)
    places = [place for place, name in enumerate(names or ()) if name.lower() in LABELS]
    if len(places) > 1:
        raise ValueError(
            f"{path}: {', '.join(repr(first[place]) for place in places)} could all be the column of labels; keep one"
        )
    values, labels = array("d"), []
    for number, row in lines if names else chain([(start, first)], lines):
        if len(row) != len(first):
            raise ValueError(
                f"{path}, line {number}: {len(row)} cells where the first line has {len(first)}"
            )
        labels += [row[place].strip() for place in places]
        numbers = [cell for place, cell in enumerate(row) if place not in places]
        try:
            values.extend(map(float, numbers))
        except ValueError:
            cell = next(cell for cell in numbers if not _is_number(cell))
            raise ValueError(
                f"{path}, line {number}: {cell!r} is no number; only a column called label, y or class may be text"
            ) from None
    x = np.array(values).reshape(-1, max(len(first) - len(places), 1))
    return (
        x,
        (labels if places else None),
        (tuple(name for place, name in enumerate(names) if place not in places) if names else None),
    )


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every line that is not blank."""
    with naming(path), open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        for row in reader:
            if row:
                yield reader.line_num, row


def _heading(first: Sequence[str], path: Path) -> tuple[str, ...] | None:
    """The names of the columns, or None where the first row is numbers."""
    names = tuple(cell.strip() for cell in first)
    numbers = sum(_is_number(name) for name in names)
    if "" in names and numbers < len(names):
        raise ValueError(
            f"{path}, first line: cell {names.index('') + 1} is empty; a number of the row is saved without (index=False)"
        )
    if len(names) > 2 and names == tuple(str(number) for number in range(len(names))):
        raise ValueError(
            f"{path}: the first row is 0, 1, ..., {len(names) - 1}, like numbers of columns; give them names, or remove it"
        )
    if numbers == len(names):
        return None
    if numbers and not any(name.lower() in LABELS for name in names):
        raise ValueError(
            f"{path}: the first row holds numbers and text ({', '.join(names[:5])}, ...): neither a heading nor a row"
        )
    return names


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


READERS: dict[str, Callable[[Path, str], tuple[Any, Any, tuple[str, ...] | None]]] = {
    ".npz": _read_npz, ".npy": _read_npy, ".csv": _read_csv, ".pt": _read_pt, ".svmlight": _read_svmlight, ".libsvm": _read_svmlight,
}  # fmt: skip


def _by_key(content: dict[str, Any], path: Path, domain: str) -> tuple[Any, Any]:
    """Features and labels (or None) among the keys of an archive or a dict."""
    two = any(key.endswith("_features") for key in content)
    wanted = (f"{domain}_features",) if two else FEATURES
    features = [key for key in content if key.lower() in wanted]
    if len(features) != 1:
        keys = ", ".join(list(content)[:8]) or "nothing"
        raise ValueError(f"{path} must have one key {' or '.join(wanted)}; it has {keys}")
    labels = [key for key in content if key.lower() in ((f"{domain}_labels",) if two else LABELS)]
    if len(labels) > 1:
        raise ValueError(f"{path}: the keys {', '.join(labels)} could all be the labels; keep one")
    return content[features[0]], content[labels[0]] if labels else None


def _checked_rows(value: Any, path: Path) -> np.ndarray:
    """x (n, d) in float32 or float64, finite."""
    x = np.asarray(value)
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{path}: the features must be numbers; got {x.dtype}")
    if x.ndim != 2 or 0 in x.shape:
        hint = (
            ", with at least one row and one column"
            if x.ndim == 2
            else ": one row a sample (reshape(-1, 1) for a single feature)"
        )
        raise ValueError(f"{path}: the features must have shape (n, d){hint}; got {x.shape}")
    x = x.astype(
        np.float32 if x.dtype.kind == "f" and x.dtype.itemsize <= 4 else np.float64, copy=False
    )
    broken = np.argwhere(~np.isfinite(x))
    if len(broken):
        raise ValueError(f"{path}: {len(broken)} values are NaN or infinite, the first in row {broken[0][0]}, column {broken[0][1]} "
                         "(both from 0); drop or fill them first")  # fmt: skip
    return x


def _checked_labels(value: Any, rows: int, path: Path) -> np.ndarray:
    """Classes as text, (n,)."""
    labels = np.asarray(value)
    if labels.shape not in ((rows,), (rows, 1), (1, rows)):
        raise ValueError(
            f"{path}: the labels must be one for each of {rows} rows; got shape {labels.shape}"
        )
    labels = labels.reshape(rows)
    if labels.dtype.kind == "U" and all(_is_number(label) for label in labels.tolist()):
        labels = labels.astype(np.float64)
    if labels.dtype.kind == "f":
        wrong = labels[labels != np.round(labels)]  # NaN too
        if len(wrong):
            raise ValueError(
                f"{path}: labels must be classes, whole numbers or text; got {wrong[0]}"
            )
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iubU" or "" in labels.astype(str):
        raise ValueError(
            f"{path}: labels must be classes, whole numbers or text, none empty; got {labels.dtype}"
        )
    return labels.astype(str)


def _stacked(parts: Sequence[Features], files: Sequence[Path]) -> Features:
    first = parts[0]
    for part, file in zip(parts, files, strict=True):
        for what, own, other in (
            ("columns", part.x.shape[1], first.x.shape[1]),
            ("column names", part.names, first.names),
            (
                "labels",
                "some" if part.labels is not None else "none",
                "some" if first.labels is not None else "none",
            ),
        ):
            if own != other:
                raise ValueError(f"{file} and {files[0]} differ in {what}: {own} and {other}")
    labels = [part.labels for part in parts if part.labels is not None]
    return Features(
        np.concatenate([part.x for part in parts]),
        np.concatenate(labels) if labels else None,
        first.names,
    )
