"""Checksums of the files of a finished run: a bit that has flipped is found when a file is read.

    checksums.json    {"files": {"config.json": "<SHA-256>", ...}, "sha256": of the object "files"}

The file is written just before result.json, for every file that then lies in the folder. A run from
before it existed has none, and is read without.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from da.records.claim import is_claim
from da.records.files import canonical, write_json

CHECKSUMS = "checksums.json"
REMEDY = "Restore the file; or remove the folder, and the same command runs it again"
CHECKPOINTS = "checkpoint"  # files that begin so are gone when a run is finished
_BLOCK = 1 << 20  # bytes that are read at once


def write_checksums(directory: Path, result: bytes) -> None:
    """Write checksums.json for the files of a run and for the result.json that it will have.

    Args:
        directory: The folder of the run.
        result: The content of its result.json, which is not there yet.
    """
    sums = {
        path.name: digest_of_file(path) for path in sorted(directory.iterdir()) if _counts(path)
    }
    sums["result.json"] = hashlib.sha256(result).hexdigest()
    write_json(directory / CHECKSUMS, {"files": sums, "sha256": _digest(sums)})


def read_checksums(directory: Path) -> dict[str, str]:
    """The checksums of a run's files by name; empty if it has none.

    Raises:
        ValueError: checksums.json is damaged.
    """
    path = directory / CHECKSUMS
    try:
        content = json.loads(path.read_bytes())
        sums = content["files"]
        if content["sha256"] == _digest(sums) and all(isinstance(v, str) for v in sums.values()):
            return dict(sums)
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise ValueError(
        f"{path} is damaged. {REMEDY}. Without this file the others are read unchecked"
    )


def checked(path: Path, sums: Mapping[str, str] | None = None) -> bytes:
    """The content of a file of a run.

    Args:
        path: The file.
        sums: From `read_checksums`. Default None: they are read.

    Raises:
        ValueError: The content is not what checksums.json says.
        FileNotFoundError: There is no such file.
    """
    content = path.read_bytes()
    sums = read_checksums(path.parent) if sums is None else sums
    _compare(path, hashlib.sha256(content).hexdigest(), sums)
    return content


def check_file(path: Path) -> None:
    """Raise a ValueError if a file of a run, such as its network.pt, is not as it was written."""
    if sums := read_checksums(path.parent):
        _compare(path, digest_of_file(path), sums)


def digest_of_file(path: Path, size: int | None = None) -> str:
    """The SHA-256 of a file, or of its first `size` bytes; a file that is not there is empty."""
    found, left = hashlib.sha256(), size
    if not path.exists():
        return found.hexdigest()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK if left is None else min(_BLOCK, left)):
            found.update(block)
            left = None if left is None else left - len(block)
    return found.hexdigest()


def _compare(path: Path, found: str, sums: Mapping[str, str]) -> None:
    if sums.get(path.name, found) != found:
        raise ValueError(
            f"{path} was changed or damaged: it is not what was written (SHA-256 {found[:12]}, was "
            f"{sums[path.name][:12]}). {REMEDY}"
        )


def _counts(path: Path) -> bool:
    """Whether a file stays with a finished run."""
    passing = path.name in (CHECKSUMS, "result.json") or path.name.startswith(CHECKPOINTS)
    return path.is_file() and not passing and not is_claim(path) and path.suffix != ".tmp"


def _digest(sums: Any) -> str:
    return hashlib.sha256(canonical(sums).encode()).hexdigest()
