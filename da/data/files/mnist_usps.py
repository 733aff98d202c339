"""Digits on disk: MNIST (.npz or idx), USPS (.h5 or libsvm), MNIST-M (.npz), as uint8 arrays.

USPS is published as grey levels in [-1, 1] (libsvm) and in [0, 1] (HDF5). Both become round(255 * level in [0, 1]).
"""

from __future__ import annotations

import bz2
import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from da.data.files.folders import naming

_Arrays = tuple[np.ndarray, np.ndarray]
_Reader = Callable[[Path, str], _Arrays]


def read_digit_file(domain: str, split: str, root: Path) -> _Arrays:
    """Images (n, h, w) or (n, h, w, 3) uint8 and labels (n,) int64 of `split` ("train" or "test").

    Raises FileNotFoundError that names the files looked for, ValueError that names a damaged one.
    """
    path, reader = find_digits(domain, split, root)
    with naming(path):
        images, labels = reader(path, split)
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise ValueError(
                f"images must be uint8 of shape (n, h, w) or (n, h, w, 3), got {images.dtype} {images.shape}"
            )
        labels = labels.astype(np.int64)
        if labels.shape != images.shape[:1] or (
            len(labels) > 0 and not 0 <= labels.min() <= labels.max() <= 9
        ):
            raise ValueError(f"labels must be {len(images)} digits in 0..9, got {labels.shape}")
    return images, labels


def find_digits(domain: str, split: str, root: Path) -> tuple[Path, _Reader]:
    """The file with `split` ("train" or "test") of `domain`, and its reader; for idx, the file with the images.

    Looks in digits/ and in `root`, there also in <domain>/ and <domain>/raw/ (as torchvision lays it out), in lower or upper case.
    Raises FileNotFoundError that names the files looked for.
    """
    formats = _FORMATS[domain]
    places = [
        Path(part) for name in (domain, domain.upper()) for part in (".", name, f"{name}/raw")
    ]
    for base in (root / "digits", root):
        for place in places:
            for name, reader in formats:
                path = (
                    base / place / name.format(split=split, idx=_IDX[split], libsvm=_LIBSVM[split])
                )
                if path.is_file():
                    return path, reader
    names = [
        name.format(split=split, idx=_IDX[split], libsvm=_LIBSVM[split]) for name, _ in formats
    ]
    raise FileNotFoundError(
        f"no {split} part of {domain} in {root}: looked for digits/{names[0]}"
        + "".join(f", {name}" for name in names[1:])
    )


def _npz(path: Path, split: str) -> _Arrays:
    """MNIST packed as Keras does: x_train, y_train, x_test, y_test in one file."""
    with np.load(path) as arrays:
        return arrays[f"x_{split}"], arrays[f"y_{split}"]


def _npz_part(path: Path, split: str) -> _Arrays:
    """One part in one file: x, y."""
    with np.load(path) as arrays:
        return arrays["x"], arrays["y"]


def _hdf5(path: Path, split: str) -> _Arrays:
    """USPS in HDF5: <split>/data (n, 256) in [0, 1], <split>/target (n,)."""
    import h5py  # here, so that nobody needs it for the other formats

    with h5py.File(path, "r") as groups:
        return _grey(groups[f"{split}/data"][()]), groups[f"{split}/target"][()]


def _libsvm(path: Path, split: str) -> _Arrays:
    """USPS as torchvision fetches it: bz2 of libsvm text, 256 values in [-1, 1], label = digit + 1."""
    from sklearn.datasets import load_svmlight_file  # here, because it takes a second to import

    values, labels = load_svmlight_file(bz2.open(path, "rb"), n_features=256)
    return _grey((values.toarray() + 1) / 2), labels - 1


def _grey(levels: np.ndarray) -> np.ndarray:
    """Levels in [0, 1] (n, 256) to uint8 (n, 16, 16)."""
    if not (levels.min() >= 0 and levels.max() <= 1):
        raise ValueError(
            f"grey levels from {levels.min()} to {levels.max()} where [0, 1] was expected"
        )
    return np.round(levels.astype(np.float64) * 255).astype(np.uint8).reshape(-1, 16, 16)


def _idx(path: Path, split: str) -> _Arrays:
    """MNIST's own format; the labels lie beside the images."""
    labels = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    return _idx_array(path), _idx_array(labels)


def _idx_array(path: Path) -> np.ndarray:
    """One idx file of bytes: 0, 0, 8 (unsigned byte), number of axes, then each length (big-endian) and the values."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    zero, kind, axes = struct.unpack_from(">HBB", data)
    if (zero, kind) != (0, 8):
        raise ValueError(f"{path.name} does not start as an idx file of bytes")
    shape = struct.unpack_from(f">{axes}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


_IDX = {"train": "train", "test": "t10k"}
_LIBSVM = {"train": "usps.bz2", "test": "usps.t.bz2"}
# in the order of preference; {split}, {idx} and {libsvm} are filled in for the split
_FORMATS: dict[str, tuple[tuple[str, _Reader], ...]] = {
    "mnist": (
        ("mnist.npz", _npz),
        ("{idx}-images-idx3-ubyte", _idx),
        ("{idx}-images-idx3-ubyte.gz", _idx),
    ),
    "usps": (("usps.h5", _hdf5), ("{libsvm}", _libsvm)),
    "mnist_m": (("mnist_m_{split}.npz", _npz_part),),
}
