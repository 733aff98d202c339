"""Arrays in files of strangers: .npz, .npy, .pt, .mat and svmlight, as NumPy arrays.

Nothing in a file is run: pickles are refused. A small file cannot ask for much memory: what it
declares is compared with what its bytes could hold before room is made for it.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

MOST = 1100  # bytes in memory for a byte of a file; deflate packs 1,032 into one at best
SLACK = 1 << 24  # bytes in memory that every file may have


def check_ordinary(path: Path) -> None:
    """Raise a ValueError if a path is a pipe or a device, from which reading may never end.

    Args:
        path: A file, a folder or nothing; these three pass.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} cannot be read: it is no ordinary file, but a pipe or device")


def check_declared(path: Path, size: int) -> None:
    """Raise a ValueError if a file declares more bytes of content than its own could hold.

    Args:
        path: The file.
        size: What it declares, in bytes.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.data.files.arrays import check_declared
        >>> file = Path(tempfile.mkdtemp()) / "small.h5"
        >>> _ = file.write_bytes(bytes(100))
        >>> check_declared(file, 8 * 10**9)
        Traceback (most recent call last):
        ValueError: it declares 8,000,000,000 bytes, which its 100 bytes cannot hold
    """
    held = path.stat().st_size
    if size > SLACK + MOST * held:
        raise ValueError(f"it declares {size:,} bytes, which its {held:,} bytes cannot hold")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive by name."""
    with zipfile.ZipFile(path) as archive:
        check_declared(path, sum(member.file_size for member in archive.infolist()))
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def read_npy(path: Path) -> np.ndarray:
    """The array of a file."""
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False))  # a map ends with its file


def read_pt(path: Path) -> Any:
    """What torch has saved, with arrays for tensors: one, or those of a dict beside other values.

    Half precision becomes float32.
    """
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    entries = list(content.values()) if isinstance(content, dict) else [content]
    tensors = [value for value in entries if isinstance(value, torch.Tensor)]
    # One number can stand for all elements of a tensor.
    check_declared(path, sum(value.numel() * value.element_size() for value in tensors))
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    return _plain(content)


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file by name."""
    import h5py
    from scipy.io import loadmat

    if not h5py.is_hdf5(path):
        return {key: z for key, z in loadmat(path).items() if not key.startswith("__")}
    with h5py.File(path) as file:  # MATLAB 7.3 stores matrices transposed
        own = [key for key in file if isinstance(file.get(key, getlink=True), h5py.HardLink)]
        found = {key: file[key] for key in own if isinstance(file[key], h5py.Dataset)}
        check_declared(path, sum(z.size * z.dtype.itemsize for z in found.values()))
        return {key: z[()].T for key, z in found.items()}


def read_svmlight(path: Path, dtype: type[np.floating] = np.float64) -> tuple[Any, np.ndarray]:
    """Rows (n, d) and the first value of each line (n,). Columns are numbered from 0."""
    from sklearn.datasets import load_svmlight_file

    # zero_based is given and not guessed: a guess for each file could shift the columns of one.
    x, labels = load_svmlight_file(str(path), zero_based=True, dtype=dtype)
    try:
        check_declared(path, x.shape[0] * x.shape[1] * x.dtype.itemsize)
    except ValueError as error:
        raise ValueError(
            f"its rows have {x.shape[1]:,} columns, nearly all of them empty, and rows are held "
            f"with their zeros: {error}"
        ) from None
    return x.toarray(), labels


def _plain(value: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu()
    return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()
