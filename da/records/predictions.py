"""What a run predicted at its last step, kept so that scores can be added without training.

A run's folder has it as predictions.npz:

    target_logits   (n, classes)
    source_logits   (v, classes)   of held-out source rows, if the run held some out
    source_labels   (v,)

Packed, the predictions of all runs of an experiment are one file, <experiment>.predictions.npz.
There a logit is one byte: how far it lies below the largest of its row, in sixteenths of a nat. So
softmax probabilities keep two digits, and the predicted class is the same unless two logits lie
closer than a sixteenth.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from da.records.checksums import check_file
from da.records.files import replacing
from da.records.record import Record

# What NumPy and its reader of zip files raise for damaged content. RuntimeError: a wrong version is
# "not implemented", a wrong flag asks for a password.
DAMAGED = (ValueError, OSError, EOFError, BadZipFile, zlib.error, RuntimeError)
FILE = "predictions.npz"  # its name in the folder of a run
PACKED = ".predictions.npz"
STEPS = 16  # of a packed logit in a nat


def read_predictions(record: Record) -> dict[str, np.ndarray]:
    """Read what a run predicted at its last step.

    Args:
        record: A finished run, from a folder or packed.

    Returns:
        The arrays by name, logits as float32; empty if the run kept none.

    Raises:
        ValueError: The file is damaged.

    Example:
        >>> from pathlib import Path
        >>> from da.records.predictions import read_predictions
        >>> from da.records.record import Record
        >>> read_predictions(Record({}, {}, {}, Path("nowhere")))
        {}
    """
    if record.curves is None:
        return {name: _wide(values) for name, values in _read(record.directory / FILE).items()}
    packed = record.curves.with_name(record.curves.name.split(".curves")[0])
    arrays = _of_packed(packed, record.digest)
    return {name: _wide(values) for name, values in arrays.items()}


def packed_predictions(packed: Path) -> Path:
    """The file of predictions beside the packed runs of an experiment.

    Args:
        packed: <experiment>.jsonl, or the same without its ending.
    """
    return packed.with_name(packed.name.removesuffix(".jsonl") + PACKED)


def pack_predictions(directories: Mapping[str, Path], packed: Path) -> Path | None:
    """Add the predictions of runs to the packed ones of their experiment.

    Args:
        directories: Digest -> folder of the run.
        packed: <experiment>.jsonl.

    Returns:
        The file; None if neither it nor a run has predictions.
    """
    path = packed_predictions(packed)
    arrays = dict(_read(path))
    for digest, directory in directories.items():
        for name, values in _read(directory / FILE).items():
            arrays[f"{digest}/{name}"] = _narrow(values)
    if not arrays:
        return None
    with replacing(path) as file:
        np.savez_compressed(file, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    return path


def unpack_predictions(packed: Path, digest: str, directory: Path) -> None:
    """Write the packed predictions of one run, if there are any, into its folder."""
    if arrays := _of_packed(packed, digest):
        with replacing(directory / FILE) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _narrow(values: np.ndarray) -> np.ndarray:
    """Logits as bytes, labels as the smallest integers that hold them."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "f":
        below = values.max(axis=1, keepdims=True) - values.astype(np.float32)
        return np.clip(np.round(STEPS * below), 0, 255).astype(np.uint8)
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _wide(values: np.ndarray) -> np.ndarray:
    """What `_narrow` made small: logits float32, labels int64."""
    if values.ndim == 2:
        wide = values.astype(np.float32)
        return -wide / STEPS if values.dtype == np.uint8 else wide
    return values.astype(np.int64)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    check_file(path)
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except DAMAGED as error:
        raise ValueError(f"{path} is damaged: {error}; run again with force=True") from None


def _of_packed(packed: Path, digest: str) -> dict[str, np.ndarray]:
    """The packed arrays of one run; empty if there are none."""
    path = packed_predictions(packed)
    if not path.is_file():
        return {}
    state = path.stat()
    return _by_digest(path, state.st_mtime_ns, state.st_size).get(digest, {})


@lru_cache(maxsize=4)
def _by_digest(path: Path, changed: int, size: int) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, values in _read(path).items():
        digest, _, name = key.partition("/")
        found.setdefault(digest, {})[name] = values
    return found
