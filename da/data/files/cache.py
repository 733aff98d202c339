"""Decoded, resized images kept as one uint8 .npy file, memory-mapped read-only.

Decoding a JPEG costs a hundred times more than reading its pixels, and every epoch of every run would pay it. So it is paid once:
under `$DA_CACHE`, else ~/.cache/da. A cache belongs to exactly one list of files (relative path, size and mtime of each), one
shape and one `VERSION`; its CRC-32 stands beside it and is checked at every opening. What does not fit is built anew, never used.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from da.data.progress import Progress

# raise it when the same files would give other pixels: another resize, another colour conversion
VERSION = 1
_ABANDONED = 24 * 3600  # seconds after which an unfinished build is taken for dead


def cache_folder(flag: str | Path | None = None) -> Path:
    """The folder of the caches: `flag`, else `$DA_CACHE`, else ~/.cache/da."""
    return Path(flag or os.environ.get("DA_CACHE") or "~/.cache/da").expanduser()


def cached_images(
    name: str,
    files: Sequence[Path],
    *,
    root: Path,
    shape: tuple[int, int, int],
    decode: Callable[[Path], np.ndarray],
    cache_dir: str | Path | None = None,
) -> np.ndarray:
    """The images of `files`, each `decode(file)` of `shape` (c, h, w) uint8, as one read-only memory-mapped array (n, c, h, w).

    `name` says whose images they are ("office31/amazon"); `root` is the folder that relative paths start from.
    Builds the file where there is none that is whole and current, and then removes what an older state of `files` left there.
    Raises OSError that names DA_CACHE where the folder cannot be written, and whatever `decode` raises.
    """
    listing = _listing(files, root)
    key = _digest([VERSION, listing, shape])
    stem = name.replace("/", "-")
    path = cache_folder(cache_dir) / f"{stem}-{'x'.join(map(str, shape))}-{key[:16]}.npy"
    images = _open(path, key)
    if images is not None:
        return images
    damaged = path.exists()
    sidecar = {
        "name": name,
        "root": str(root.resolve()),
        "files": _digest(listing),
        "version": VERSION,
        "key": key,
    }
    progress = Progress(f"decoding {name}", len(files), unit="image")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent, stem, sidecar)
        _publish(
            path,
            sidecar,
            (len(files), *shape),
            (decode(file) for file in progress.over(files)),
        )
    except OSError as error:
        raise OSError(
            f"cannot write the cache {path} ({error}); set DA_CACHE to a folder with room that can be written"
        ) from error
    what = "the old cache was damaged; rebuilt" if damaged else "cached"
    print(f"{what}: {len(files)} images of {name} in {path} ({path.stat().st_size / 1e6:.1f} MB)")
    built = _open(path, key)
    if built is None:
        raise OSError(
            f"the cache {path} does not read back as it was written; set DA_CACHE to a folder on a sound disk"
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


def _publish(
    path: Path, sidecar: dict[str, object], shape: tuple[int, ...], images: Iterable[np.ndarray]
) -> None:
    """Writes images and sidecar into temporary files and then moves them into place, so that each name always stands for a whole file.

    The images are written one after another rather than through a memory map, because a full disk then is an error and not a SIGBUS.
    Two processes that build the same cache write the same bytes, each into a file of its own; it does not matter which comes last.
    """
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            for image in images:
                if image.shape != shape[1:] or image.dtype != np.uint8:
                    raise ValueError(
                        f"decode gave {image.dtype} {image.shape} where uint8 {shape[1:]} was expected"
                    )
                file.write(image.tobytes())
        record = {**sidecar, "shape": shape, "crc32": _crc32(temporary)}
        os.replace(temporary, path)
        temporary.write_text(json.dumps(record, indent=1))
        os.replace(temporary, path.with_suffix(".json"))
    finally:
        temporary.unlink(missing_ok=True)


def _remove_stale(folder: Path, stem: str, current: dict[str, object]) -> None:
    """Removes caches of this domain, read from the same root, whose files or version are no longer the current ones."""
    for sidecar in folder.glob(f"{stem}-*.json"):
        try:
            record = json.loads(sidecar.read_text())
            same = [
                record[field] == current[field] for field in ("name", "root", "files", "version")
            ]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if same[:2] == [True, True] and same[2:] != [True, True]:
            sidecar.with_suffix(".npy").unlink(missing_ok=True)
            sidecar.unlink(missing_ok=True)
    for unfinished in folder.glob(f"{stem}-*.tmp"):
        with suppress(FileNotFoundError):  # its process may finish it just now
            if time.time() - unfinished.stat().st_mtime > _ABANDONED:
                unfinished.unlink()
