"""Features of one's own: arrays in .npz, .npy, .mat, .pt and svmlight files.

.npz .mat .pt   the rows are called x, features, data, fts or X; the labels y, label, labels ...
.npz .pt        or source_features, source_labels, target_features and target_labels
.npy            one array (n, d)
.svmlight       also .libsvm; columns are numbered from 0, and a line begins with its label
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from da.adapt.read_labels import as_text
from da.data.files.arrays import read_mat, read_npy, read_npz, read_pt, read_svmlight
from da.data.files.csv_headings import LABELS
from da.data.files.folders import naming

ROWS = ("x", "features", "data", "fts")  # keys of the features
Domain = Literal["source", "target"]


def read_arrays(
    path: Path, *, domain: Domain = "source", label: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read rows of numbers, and a label for each if the file has them.

    Args:
        path: The file; its suffix decides the format.
        domain: Which to take if the file holds source_features and target_features.
        label: The key of the labels. Default None: y, label, labels, class, target ...

    Returns:
        Rows (n, d) float32 or float64, finite, and labels (n,) as text or None.

    Raises:
        ValueError: The file is damaged, or its arrays are not what they should be.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from da.adapt.read_arrays import read_arrays
        >>> file = Path(tempfile.mkdtemp()) / "features.npz"
        >>> np.savez(file, x=np.ones((2, 3)), y=np.array([4, 5]))
        >>> rows, labels = read_arrays(file)
        >>> rows.shape, labels.tolist()
        ((2, 3), ['4', '5'])
    """
    with naming(path):
        content = READERS[path.suffix.lower()](path)
    rows_key, labels_key = _keys(content, path, domain, label)
    x = _checked_rows(content[rows_key], path)
    if labels_key is None:
        return x, None
    return x, _checked_labels(content[labels_key], len(x), path)


def has_two_domains(path: Path) -> bool:
    """Whether a file holds source_features and target_features."""
    if path.suffix.lower() not in (".npz", ".pt"):
        return False
    with naming(path):
        return {"source_features", "target_features"} <= set(READERS[path.suffix.lower()](path))


def _keys(
    content: dict[str, Any], path: Path, domain: Domain, label: str | None
) -> tuple[str, str | None]:
    """The key of the rows, and that of the labels."""
    shown = ", ".join(list(content)[:8]) or "nothing"
    two = f"{domain}_features" in content
    rows = [key for key in content if key.lower() in ((f"{domain}_features",) if two else ROWS)]
    if len(rows) != 1:
        wanted = ", ".join(ROWS)
        raise ValueError(f"{path} must have one array of rows called {wanted}; it has {shown}")
    if label is not None:
        if label not in content:
            raise ValueError(f"{path} has no array {label!r} of labels; it has {shown}")
        return rows[0], label
    names = (f"{domain}_labels",) if two else LABELS
    labels = [key for key in content if key.lower() in names]
    if len(labels) > 1:
        raise ValueError(f"{path}: {', '.join(labels)} could all be the labels; name one: --label")
    return rows[0], labels[0] if labels else None


def _checked_rows(value: Any, path: Path) -> np.ndarray:
    x = np.asarray(value)
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{path}: the features must be numbers; got {x.dtype}")
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(
            f"{path}: the features must have shape (n, d), one row a sample; got {x.shape}"
        )
    x = x.astype(np.float32 if x.dtype in (np.float16, np.float32) else np.float64, copy=False)
    broken = np.argwhere(~np.isfinite(x))
    if len(broken):
        row, column = broken[0]
        raise ValueError(
            f"{path}: {len(broken)} values are NaN or infinite, the first in row {row}, column "
            f"{column} (both from 0); drop or fill them first, or give a table (.csv), in which "
            "missing values are filled"
        )
    return x


def _checked_labels(value: Any, rows: int, path: Path) -> np.ndarray:
    """One label a row, as text."""
    labels = np.asarray(value)
    if labels.size != rows or labels.ndim > 2:
        raise ValueError(f"{path}: one label a row: {rows} rows, labels of shape {labels.shape}")
    flat = [np.asarray(each).item() for each in labels.reshape(rows)]  # MATLAB's cells of text too
    if any(isinstance(each, float) and not np.isfinite(each) for each in flat):
        raise ValueError(f"{path}: a label is NaN or infinite")
    return as_text(flat)


def _read_npy(path: Path) -> dict[str, Any]:
    return {"x": read_npy(path)}


def _read_pt(path: Path) -> dict[str, Any]:
    content = read_pt(path)
    found = content if isinstance(content, dict) else {"x": content}
    return {key: z for key, z in found.items() if isinstance(z, np.ndarray)}


def _read_svmlight(path: Path) -> dict[str, Any]:
    x, y = read_svmlight(path, np.float32)
    return {"x": x, "y": y}


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npz": read_npz,
    ".npy": _read_npy,
    ".mat": read_mat,
    ".pt": _read_pt,
    ".svmlight": _read_svmlight,
    ".libsvm": _read_svmlight,
}
