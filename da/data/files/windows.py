"""Windows of accelerometers by person, from the files that WISDM circulates in.

<root>/wisdm/train_7.pt, test_7.pt      {"samples": (n, 128, 3), "labels": (n,)} of person 7
<root>/har/wisdm_subjects.npz           all persons in one file: x (n, 3, 128), y (n,),
                                        subject (n,), train (n,), true for the training part
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from da.data.domain import Labelled
from da.data.files.folders import naming
from da.data.wisdm import WISDM

AXES, LENGTH = 3, 128
_PACKED = "har/wisdm_subjects.npz"


def read_wisdm(person: str, root: str | Path, *, split: str = "all") -> Labelled:
    """Read the activity windows of one person of WISDM, as AdaTime prepares them.

    A person is a domain: a classifier of one person's walking does not fit another's.

    Args:
        person: "0" to "35".
        root: The folder of the data sets.
        split: "train", "test" (AdaTime's parts) or "all" (default): the one, then the other.

    Returns:
        Windows x (n, 3, 128) float32, three axes of acceleration at 20 Hz without unit, and labels
        y (n,) int64 in the order of `WISDM.classes`.

    Raises:
        FileNotFoundError: There is no file; the message says how to get it.
        ValueError: The person or split is unknown, or a file is damaged or not the benchmark's.

    Example:
        >>> from da.data.files import read_wisdm
        >>> read_wisdm("7", "nowhere")  # the message says how to get the file
        Traceback (most recent call last):
            ...
        FileNotFoundError: WISDM: no file nowhere/wisdm/train_7.pt; fetch it with ...
    """
    WISDM.count(person, split)  # an unknown person or split is an error before reading
    names = ("train", "test") if split == "all" else (split,)
    parts = [_read_part(person, name, Path(root)) for name in names]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Labelled(torch.from_numpy(x), torch.from_numpy(y))


def _read_part(person: str, part: str, root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Windows (n, 3, 128) and labels (n,) of one part, checked."""
    own, packed = root / WISDM.folder / f"{part}_{person}.pt", root / _PACKED
    path = own if own.is_file() or not packed.is_file() else packed
    if not path.is_file():
        raise FileNotFoundError(f"{WISDM.title}: no file {path}; {WISDM.remedy(person)}")
    with naming(path):
        x, y = _read_file(own) if path == own else _read_packed(packed, int(person), part)
        expected = (WISDM.count(person, part), AXES, LENGTH)
        if x.shape != expected or y.shape != expected[:1]:
            raise ValueError(
                f"windows of person {person}, {part}, must be {expected} and their labels "
                f"{expected[:1]}; got {x.shape} and {y.shape}"
            )
        if not np.isfinite(x).all():
            raise ValueError("windows must be finite")
        if not np.isin(y, range(len(WISDM.classes))).all():
            raise ValueError(f"labels must be 0 to {len(WISDM.classes) - 1}; got {np.unique(y)}")
    return np.ascontiguousarray(x, dtype=np.float32), y.astype(np.int64)


def _read_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One person's part. Nothing but arrays is unpickled."""
    with torch.serialization.safe_globals(_array_makers()):
        content = torch.load(path, weights_only=True)
    x, y = (np.asarray(content[name]) for name in ("samples", "labels"))
    return x.swapaxes(1, 2), y  # published as (n, 128, 3)


def _array_makers() -> list[Any]:
    """What NumPy's arrays are pickled with, by the old and the new names of its module."""
    from numpy._core.multiarray import _reconstruct

    old = (_reconstruct, "numpy.core.multiarray._reconstruct")
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)]
    return [_reconstruct, old, np.ndarray, np.dtype, *kinds]


def _read_packed(path: Path, person: int, part: str) -> tuple[np.ndarray, np.ndarray]:
    """One person's part of the file that holds all."""
    with np.load(path) as arrays:
        mine = (arrays["subject"] == person) & (arrays["train"] == (part == "train"))
        return arrays["x"][mine], arrays["y"][mine]
