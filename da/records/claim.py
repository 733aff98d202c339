"""One process at a time fills the folder of a run.

The claim is a lock of the operating system on a file in the folder. It ends with the process, even
if that is killed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = "lock"  # its name in the folder
Claim = FileLock


class BusyError(RuntimeError):
    """A run is being filled by another process."""


def claim(directory: Path, title: str) -> Claim:
    """Keep other processes out of a run's folder, which is made if there is none.

    Args:
        directory: The folder.
        title: What an error calls the run.

    Returns:
        The lock. Within this process every claim on the folder is the same lock.

    Raises:
        BusyError: Another process has the folder.
        OSError: The folder cannot be made or written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"{title} is being filled by another process, in {directory}; wait for it, or stop it"
        ) from None
    return lock


def release(lock: Claim | None, *, finished: bool) -> None:
    """Let others have the folder again.

    The file stays in an unfinished run: removed, it could be locked twice by two processes at once.
    """
    if lock is not None:
        lock.release(force=True)
        if finished:
            Path(lock.lock_file).unlink(missing_ok=True)


def empty(directory: Path) -> None:
    """Remove what a folder holds, but the lock."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
