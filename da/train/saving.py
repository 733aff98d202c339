"""Files that torch writes, whole or not at all; a sealed one also says whether it is whole.

Behind the content of a sealed file stands one line of JSON, which `torch.load` does not look at:

    {"bytes": 1234, "digest": "<of the run>", "sealed": 1, "sha256": "...", "step": 40}

The SHA-256 is of the content and of the line's other entries. So a bit that has flipped anywhere, a
file that was cut short, and a file of another run are found.
"""

from __future__ import annotations

import hashlib
import json
import os
from errno import EIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

from da.records.files import canonical, replacing

_LONGEST = 4096  # bytes of the line at the end, at most
_BLOCK = 1 << 20  # bytes that are read at once


class DamagedError(ValueError):
    """A file is not what was written, or not of this run; the message says why."""


class Seal(NamedTuple):
    """What a sealed file says of itself.

    Attributes:
        digest: Of the run.
        step: The steps that were done.
        bytes: The length of the content before the line.
        sha256: Of the content and of the entries before this one.
    """

    digest: str
    step: int
    bytes: int
    sha256: str


def save_atomically(state: Any, path: Path) -> None:
    """Save with torch.save so that `path` always holds a whole file, even after a crash.

    The state goes into a temporary file beside `path`, to the disk, and is then renamed.

    Raises:
        OSError: The disk is full, or the folder cannot be written. An earlier file is kept.
    """
    with replacing(path) as file:
        _write(state, file)


def save_sealed(state: Any, path: Path, *, digest: str, step: int, previous: Path) -> None:
    """Save as `save_atomically` does, with a seal. The file that was there becomes `previous`.

    Args:
        state: What is saved.
        path: The file.
        digest: Of the run.
        step: The steps that were done.
        previous: The file that keeps what `path` held.
    """
    with replacing(path) as file:
        hashing = _Hashing(file)
        _write(state, hashing)
        entries = {"bytes": hashing.size, "digest": digest, "sealed": 1, "step": step}
        hashing.found.update(canonical(entries).encode())
        line = canonical({**entries, "sha256": hashing.found.hexdigest()})
        file.write(f"\n{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())
        if path.exists():
            os.replace(path, previous)


def read_seal(path: Path) -> Seal | None:
    """What a file says of itself, unchecked; None if it has no seal, as in earlier versions."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LONGEST))
        _, _, line = file.read().removesuffix(b"\n").rpartition(b"\n")
    try:
        found = json.loads(line)
        if found["sealed"] != 1:
            return None
        return Seal(str(found["digest"]), int(found["step"]), int(found["bytes"]), found["sha256"])
    except (ValueError, TypeError, KeyError):
        return None


def load_sealed(path: Path, digest: str) -> Any:
    """Load what `save_sealed` wrote, or a file from before there were seals.

    Args:
        path: The file.
        digest: Of the run that it must belong to.

    Raises:
        DamagedError: The file is not what was written, or is of another run.
        FileNotFoundError: There is no such file.
    """
    try:
        seal = read_seal(path)
        if seal is not None:
            _check(path, seal, digest)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except DamagedError:
        raise
    except OSError as error:
        if error.errno != EIO:
            raise
        raise DamagedError(f"the disk cannot read it: {error}") from None
    except Exception as error:  # whatever torch and pickle say of bytes that are none of theirs
        raise DamagedError(f"torch cannot read it: {_first_line(error)}") from None
    if seal is None and isinstance(state, dict) and state.get("sealed"):
        raise DamagedError("its end is gone")
    return state


def _check(path: Path, seal: Seal, digest: str) -> None:
    """Raise a DamagedError unless the file's content is what its seal says."""
    found, left = hashlib.sha256(), seal.bytes
    with open(path, "rb") as file:
        while left > 0 and (block := file.read(min(_BLOCK, left))):
            found.update(block)
            left -= len(block)
        rest = file.read(_LONGEST)
    entries = {"bytes": seal.bytes, "digest": seal.digest, "sealed": 1, "step": seal.step}
    found.update(canonical(entries).encode())
    line = canonical({**entries, "sha256": seal.sha256})
    if left or found.hexdigest() != seal.sha256 or rest != f"\n{line}\n".encode():
        raise DamagedError("it is not what was written")
    if seal.digest != digest:
        raise DamagedError(f"it is of the run {seal.digest}, and this one is {digest}")


def _write(state: Any, file: Any) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:
        # torch hides that a disk is full behind its own complaint about the file's position.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


class _Hashing:
    """A file that hashes what is written into it. torch writes from the beginning to the end."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.found, self.size = file, hashlib.sha256(), 0

    def write(self, content: Any) -> int:
        data = bytes(content)
        self.found.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:200]
