"""Decoded, resized images kept in one uint8 .npy file, which is memory-mapped read-only.

Decoding a JPEG takes a hundred times longer than reading its pixels, and every epoch of every run
would pay for it. So it is done once, into the folder of the caches (`cache_folder`). A cache
belongs to exactly one list of files (relative path, size and mtime of each), one shape, one
variant and one `VERSION`. Its CRC-32 lies beside it and is checked at every opening. A cache that
does not fit is built anew and never used.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from da.data.progress import Progress

# Raise it if the same files would give other pixels: another resize, another colour conversion.
VERSION = 2
_ABANDONED = 24 * 3600  # seconds after which an unfinished build is taken for dead


def cache_folder(flag: str | Path | None = None) -> Path:
    """Find the folder of the caches: `flag`, else the variable DA_CACHE, else ~/.cache/da."""
    return Path(flag or os.environ.get("DA_CACHE") or "~/.cache/da").expanduser()


def cached_images(
    name: str,
    files: Sequence[Path],
    *,
    root: Path,
    shape: tuple[int, int, int],
    decode: Callable[[Path], np.ndarray],
    variant: str = "",
    cache_dir: str | Path | None = None,
) -> np.ndarray:
    """Decode images once and memory-map them from then on.

    The cache is built if there is none that is whole and current. Then the caches of older states
    of the same files are removed.

    Args:
        name: Whose images they are, such as "office31/amazon".
        files: The image files, in order.
        root: The folder that relative paths start from.
        shape: Shape (c, h, w) of a decoded image.
        decode: File -> pixels of that shape, uint8.
        variant: What else decides the pixels. Default "".
        cache_dir: The folder of the caches. Default None: see `cache_folder`.

    Returns:
        A read-only memory-mapped array (n, c, h, w) uint8.

    Raises:
        OSError: The folder of the caches cannot be written; the message names DA_CACHE.
        ValueError: `decode` gives another shape or dtype. Other errors of `decode` pass as well.
    """
    listing = _listing(files, root)
    key = _digest([VERSION, listing, shape, variant])
    stem = name.replace("/", "-")
    path = cache_folder(cache_dir) / f"{stem}-{'x'.join(map(str, shape))}-{key[:16]}.npy"
    images = _open(path, key)
    if images is not None:
        return images
    what = "the old cache was damaged; rebuilt" if path.exists() else "cached"
    place: dict[str, object] = {"name": name, "root": str(root.resolve())}
    sidecar = place | {"key": key, "files": _digest(listing), "version": VERSION}
    decoded = map(decode, Progress(f"decoding {name}", len(files), unit="image").over(files))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent, stem, sidecar)
        _check_room(path.parent, len(files) * math.prod(shape))
        _publish(path, sidecar, (len(files), *shape), decoded)
    except OSError as error:
        raise OSError(
            f"cannot write the cache {path} ({error}); set DA_CACHE to a folder with room that can "
            "be written"
        ) from error
    size = path.stat().st_size / 1e6
    print(f"{what}: {len(files)} images of {name} in {path} ({size:.1f} MB)")
    built = _open(path, key)
    if built is None:
        raise OSError(
            f"the cache {path} does not read back as it was written; "
            "set DA_CACHE to a folder on a sound disk"
        )
    return built


def _listing(files: Sequence[Path], root: Path) -> list[tuple[str, int, int]]:
    """(relative path, size in bytes, mtime in nanoseconds) of each file, in order."""
    states = [file.stat() for file in files]
    return [
        (file.relative_to(root).as_posix(), state.st_size, state.st_mtime_ns)
        for file, state in zip(files, states, strict=True)
    ]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _open(path: Path, key: str) -> np.ndarray | None:
    """The array in `path` if it is whole and belongs to `key`, else None."""
    try:
        sidecar = json.loads(path.with_suffix(".json").read_text())
        if sidecar["key"] != key or sidecar["crc32"] != _crc32(path):
            return None
        images = np.load(path, mmap_mode="r")
        return images if list(images.shape) == sidecar["shape"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _crc32(path: Path) -> int:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return zlib.crc32(content)


def _check_room(folder: Path, needed: int) -> None:
    """Refuse a disk that is too full before hours of decoding, not after them."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"it needs {needed / 1e6:.0f} MB and {free / 1e6:.0f} MB are free")


def _publish(
    path: Path, sidecar: dict[str, object], shape: tuple[int, ...], images: Iterable[np.ndarray]
) -> None:
    """Write images and sidecar into temporary files and then move them into place, each whole.

    The images are written one after another and not through a memory map: a full disk is then an
    error and not a SIGBUS. Two processes that build the same cache write the same bytes, each into
    a file of its own, so it does not matter which is last.
    """
    own = uuid.uuid4().hex
    temporary, note = path.with_suffix(f".{own}.tmp"), path.with_suffix(f".{own}.json.tmp")
    try:
        with open(temporary, "xb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for image in images:
                if image.shape != shape[1:] or image.dtype != np.uint8:
                    raise ValueError(
                        f"decode gave {image.dtype} {image.shape}; expected uint8 {shape[1:]}"
                    )
                file.write(image.tobytes())
        record = {**sidecar, "shape": shape, "crc32": _crc32(temporary)}
        note.write_text(json.dumps(record, indent=1))  # before the images: the disk may fill up
        os.replace(temporary, path)
        os.replace(note, path.with_suffix(".json"))
    finally:
        temporary.unlink(missing_ok=True)
        note.unlink(missing_ok=True)


def _remove_stale(folder: Path, stem: str, current: dict[str, object]) -> None:
    """Remove caches of this domain and root whose files or version are no longer current."""
    for sidecar in folder.glob(f"{stem}-*.json"):
        try:
            record = json.loads(sidecar.read_text())
            ours = all(record[field] == current[field] for field in ("name", "root"))
            fresh = all(record[field] == current[field] for field in ("files", "version"))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if ours and not fresh:
            sidecar.with_suffix(".npy").unlink(missing_ok=True)
            sidecar.unlink(missing_ok=True)
    for unfinished in folder.glob(f"{stem}-*.tmp"):
        with suppress(FileNotFoundError):  # its process may finish it just now
            if time.time() - unfinished.stat().st_mtime > _ABANDONED:
                unfinished.unlink()
