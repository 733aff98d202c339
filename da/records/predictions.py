"""What a run predicted at its last step, kept so that scores can be added without training.

A run's folder has it as predictions.npz. Packed, the predictions of all runs of an experiment are
one file, <experiment>.predictions.npz:

    target_logits   (n, classes)
    source_logits   (v, classes)   of held-out source rows, if the run held some out
    source_labels   (v,)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from da.records.files import replacing
from da.records.record import Record

FILE = "predictions.npz"  # its name in the folder of a run
PACKED = ".predictions.npz"


def read_predictions(record: Record) -> dict[str, np.ndarray]:
    """Read what a run predicted at its last step.

    Args:
        record: A finished run, from a folder or packed.

    Returns:
        The arrays by name; empty if the run kept none.

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
        return _read(record.directory / FILE)
    path = packed_predictions(record.curves.with_name(record.curves.name.split(".curves")[0]))
    if not path.is_file():
        return {}
    state = path.stat()
    return _by_digest(path, state.st_mtime_ns, state.st_size).get(record.digest, {})


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
            arrays[f"{digest}/{name}"] = values
    if not arrays:
        return None
    with replacing(path) as file:
        np.savez_compressed(file, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    return path


def unpack_predictions(packed: Path, digest: str, directory: Path) -> None:
    """Write the packed predictions of one run, if there are any, into its folder."""
    path = packed_predictions(packed)
    if not path.is_file():
        return
    state = path.stat()
    arrays = _by_digest(path, state.st_mtime_ns, state.st_size).get(digest)
    if arrays:
        with replacing(directory / FILE) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}; run again with force=True") from None


@lru_cache(maxsize=4)
def _by_digest(path: Path, changed: int, size: int) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, values in _read(path).items():
        digest, _, name = key.partition("/")
        found.setdefault(digest, {})[name] = values
    return found
