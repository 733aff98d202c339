"""Digits on disk: MNIST (.npz or idx), USPS (.h5 or libsvm) and MNIST-M (.npz), as uint8 arrays.

USPS is published as grey levels in [-1, 1] (libsvm) and in [0, 1] (HDF5). Both become
round(255 * level in [0, 1]).
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
    """Read one part of MNIST, USPS or MNIST-M from whichever of its files is there.

    Args:
        domain: "mnist", "usps" or "mnist_m".
        split: "train" or "test".
        root: The folder of the data sets.

    Returns:
        Images (n, h, w) or (n, h, w, 3) uint8, and labels (n,) int64.

    Raises:
        FileNotFoundError: There is no such file; the message names the files looked for.
        ValueError: The file is damaged; the message names it.
    """
    path, reader = find_digits(domain, split, root)
    with naming(path):
        images, labels = reader(path, split)
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise ValueError(
                "images must be uint8 of shape (n, h, w) or (n, h, w, 3); "
                f"got {images.dtype} {images.shape}"
            )
        labels = labels.astype(np.int64)
        are_digits = ((labels >= 0) & (labels <= 9)).all()
        if labels.shape != images.shape[:1] or not are_digits:
            raise ValueError(f"labels must be {len(images)} digits in 0..9; got {labels.shape}")
    return images, labels


def find_digits(domain: str, split: str, root: Path) -> tuple[Path, _Reader]:
    """Find the file of one part of a domain, in whichever format is there.

    It looks in digits/ and in `root`. In both it also looks in <domain>/ and <domain>/raw/, in
    lower and upper case, because torchvision lays files out so.

    Args:
        domain: "mnist", "usps" or "mnist_m".
        split: "train" or "test".
        root: The folder of the data sets.

    Returns:
        The file and its reader. In the idx format it is the file with the images.

    Raises:
        FileNotFoundError: There is no such file; the message names the files looked for.
    """
    formats = [
        (name.format(split=split, idx=_IDX[split], libsvm=_LIBSVM[split]), reader)
        for name, reader in _FORMATS[domain]
    ]
    for base in (root / "digits", root):
        for own in (domain, domain.upper()):
            for place in (base, base / own, base / own / "raw"):
                for name, reader in formats:
                    if (place / name).is_file():
                        return place / name, reader
    names = ", ".join(name for name, _ in formats)
    raise FileNotFoundError(f"no {split} part of {domain} in {root}: looked for digits/{names}")


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
    """USPS as torchvision fetches it: bz2 of libsvm text, values in [-1, 1], label = digit + 1."""
    from sklearn.datasets import load_svmlight_file  # here, because it takes a second to import

    values, labels = load_svmlight_file(bz2.open(path, "rb"), n_features=256)
    return _grey((values.toarray() + 1) / 2), labels - 1


def _grey(levels: np.ndarray) -> np.ndarray:
    """Levels in [0, 1] (n, 256) to uint8 (n, 16, 16)."""
    if not (levels.min() >= 0 and levels.max() <= 1):
        raise ValueError(f"grey levels must be in [0, 1]; got {levels.min()} to {levels.max()}")
    return np.round(levels.astype(np.float64) * 255).astype(np.uint8).reshape(-1, 16, 16)


def _idx(path: Path, split: str) -> _Arrays:
    """MNIST's own format; the labels lie beside the images."""
    labels = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    return _idx_array(path), _idx_array(labels)


def _idx_array(path: Path) -> np.ndarray:
    """One idx file of bytes, packed or not.

    It begins with 0, 0, 8 (unsigned byte) and the number of axes. Then come the length of each axis
    (big-endian) and the values.
    """
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    zero, kind, axes = struct.unpack_from(">HBB", data)
    if (zero, kind) != (0, 8):
        raise ValueError(f"{path.name} does not start as an idx file of bytes")
    shape = struct.unpack_from(f">{axes}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


_IDX = {"train": "train", "test": "t10k"}
_LIBSVM = {"train": "usps.bz2", "test": "usps.t.bz2"}
# In the order of preference; {split}, {idx} and {libsvm} are filled in for the split.
_FORMATS: dict[str, tuple[tuple[str, _Reader], ...]] = {
    "mnist": (
        ("mnist.npz", _npz),
        ("{idx}-images-idx3-ubyte", _idx),
        ("{idx}-images-idx3-ubyte.gz", _idx),
    ),
    "usps": (("usps.h5", _hdf5), ("{libsvm}", _libsvm)),
    "mnist_m": (("mnist_m_{split}.npz", _npz_part),),
}
