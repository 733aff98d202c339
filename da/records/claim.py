"""One process at a time fills the folder of a run, on one machine or on several that share it.

A claim is a file that says who has the run. It is made with its content in one operation of the
file system, which fails if the file is there. That holds over NFS too; no lock of the operating
system is used.

    claim            of whoever came first
    claim.<token>    of whoever took over from the claim with this token

So each claim has one successor at most, and the last of the chain counts. A claim ends with its
process. On the same machine the table of processes tells whether it lives. Elsewhere the file's
time tells: the owner renews it every `BEAT` seconds, and after `SILENCE` seconds of the watcher's
own clock without that it is dead. To give a run back, its owner succeeds itself, so that nobody
else can, and removes the first file. That ends the chain.

An owner that was thought dead, such as a machine that slept, finds its successor before it writes
(`Claim.check`).
"""

from __future__ import annotations

import atexit
import os
import shutil
import threading
import time
from contextlib import suppress
from errno import EMLINK, ENOENT, ENOSYS, ENOTSUP, EOPNOTSUPP, EPERM
from functools import cache
from pathlib import Path

from da.records.owner import Owner, new_owner, read_owner, still_runs, written

CLAIM = "claim"  # the name of the first in the folder
BEAT = 10.0  # seconds between two signs of life
SILENCE = 180.0  # seconds without one, seen from another machine, after which an owner is dead
TRIES = 20  # of a claim that others race for
LONGEST = 10_000  # claims of a chain; more are one that a damaged file has closed to a ring


class BusyError(RuntimeError):
    """A run is being filled by another process."""


class Claim:
    """A run's folder that this process has.

    Args:
        directory: The folder.
        path: The file of the claim.
        owner: This process.
        title: What an error calls the run.
    """

    def __init__(self, directory: Path, path: Path, owner: Owner, title: str) -> None:
        self.directory, self.path, self.owner, self.title = directory, path, owner, title

    @property
    def next(self) -> Path:
        """The file of a successor."""
        return self.directory / f"{CLAIM}.{self.owner.token}"

    def check(self) -> None:
        """Raise a BusyError if another process has taken the run over.

        Raises:
            FileNotFoundError: The folder is gone, perhaps with its disk.
        """
        if not self.directory.is_dir():
            raise FileNotFoundError(ENOENT, "it is gone")
        found = read_owner(self.path)
        if self.next.exists() or found is None or found.process not in (self.owner.process, 0):
            raise BusyError(
                f"{self.title} was taken over by another process, because this one gave no sign of "
                f"life for {SILENCE:.0f} s, or its file {self.path} was removed"
            )


_held: dict[str, Claim] = {}  # by folder; those of this process
_seen: dict[tuple[str, str], tuple[int, float]] = {}  # claims elsewhere: their time, and since when
_guard = threading.Lock()


def claim(directory: Path, title: str) -> Claim:
    """Keep other processes out of a run's folder, which is made if there is none.

    Args:
        directory: The folder.
        title: What an error calls the run.

    Returns:
        The claim. Within this process every claim on the folder is the same one.

    Raises:
        BusyError: Another process has the folder.
        OSError: The folder cannot be made or written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    held = _held.get(str(directory.resolve()))
    if held is not None and held.owner.process == os.getpid() and not held.next.exists():
        return held
    for _ in range(TRIES):
        place, chain = directory / CLAIM, _chain(directory)
        if chain:
            last, owner = chain[-1]
            place = directory / f"{CLAIM}.{owner.token}"
        if chain and _lives(owner, last):
            raise BusyError(_busy(title, last, owner))
        own = new_owner()
        if not _create(place, own):
            continue  # another was faster
        if own not in [each for _, each in _chain(directory)]:
            place.unlink(missing_ok=True)  # the chain was given back meanwhile
            continue
        return _hold(Claim(directory, place, own, title))
    raise BusyError(f"{title} is being claimed by several processes, in {directory}; try again")


def _busy(title: str, path: Path, owner: Owner) -> str:
    """What keeps a run's folder, and what to do."""
    if not owner.process:
        return (
            f"{title}: {path} is damaged and does not say which process fills the run; if none "
            f"does, remove it, or wait {SILENCE:.0f} s for a command that takes it over"
        )
    by = f"{owner.process} on {owner.host}"
    return (
        f"{title} is being filled by another process ({by}), in {path.parent}; wait for it, or "
        "stop it"
    )


def release(held: Claim | None) -> None:
    """Let others have the folder again; what has been taken over stays with its new owner."""
    if held is None or held.owner.process != os.getpid():
        return
    with _guard:
        if _held.get(str(held.directory.resolve())) is held:
            del _held[str(held.directory.resolve())]
    with suppress(OSError):  # of a disk that is gone; the claim then ends with the process
        if _create(held.next, new_owner()):
            rest = list(held.directory.glob(f"{CLAIM}[.-]*"))
            (held.directory / CLAIM).unlink(missing_ok=True)  # first: it ends the chain
            for path in rest:
                path.unlink(missing_ok=True)


def empty(directory: Path) -> None:
    """Remove what a folder holds, but claims."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not is_claim(path):
            path.unlink()


def is_claim(path: Path) -> bool:
    """Whether a file is one of this module's."""
    return path.name == CLAIM or path.name.startswith((f"{CLAIM}.", f"{CLAIM}-"))


def _chain(directory: Path) -> list[tuple[Path, Owner]]:
    """The claims from the first to the one that counts; none if the run is free."""
    found: list[tuple[Path, Owner]] = []
    place = directory / CLAIM
    while (owner := read_owner(place)) is not None and len(found) < LONGEST:
        found.append((place, owner))
        place = directory / f"{CLAIM}.{owner.token}"
    return found


def _create(place: Path, owner: Owner) -> bool:
    """Make a claim's file with its content, unless there is one; whether it was made."""
    content = written(owner)
    whole = place.with_name(f"{CLAIM}-{owner.token}.tmp")
    try:
        with open(whole, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(whole, place)
        return True
    except FileExistsError:
        return whole.stat().st_nlink == 2  # NFS can lose the answer and ask again
    except FileNotFoundError:
        if not place.parent.is_dir():
            raise
        return False  # who gave the run back has tidied up
    except OSError as error:
        if error.errno not in (EPERM, EMLINK, ENOSYS, ENOTSUP, EOPNOTSUPP):
            raise
        return _create_without_links(place, content)
    finally:
        with suppress(OSError):
            whole.unlink(missing_ok=True)


def _create_without_links(place: Path, content: bytes) -> bool:
    """The same on a file system without links, where others may see the file without content."""
    try:
        with open(place, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return True
    except FileExistsError:
        return False


def _lives(owner: Owner, path: Path) -> bool:
    """Whether the process of a claim still fills the run."""
    if (runs := still_runs(owner)) is not None:
        return runs
    try:
        with open(path, "rb") as file:  # opened, so that NFS asks the server for the time
            changed = os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return False
    key, now = (str(path), owner.token), time.monotonic()
    known, since = _seen.get(key, (None, now))
    if changed != known:
        since = now
    _seen[key] = (changed, since)
    return now - since < SILENCE


def _hold(own: Claim) -> Claim:
    """Note a claim, and renew it from now on."""
    with _guard:
        for key in [key for key, each in _held.items() if each.owner.process != os.getpid()]:
            del _held[key]  # of the process that this one was forked from
        _held[str(own.directory.resolve())] = own
    _start_beating(os.getpid())
    return own


@cache
def _start_beating(process: int) -> None:
    """Start the thread that renews the claims of this process; once in each process."""
    atexit.register(_release_all, process)
    threading.Thread(target=_beat, daemon=True, name="claims").start()


def _beat() -> None:
    while True:
        time.sleep(BEAT)
        for each in list(_held.values()):
            with suppress(OSError):
                os.utime(each.path)


def _release_all(process: int) -> None:
    if process == os.getpid():
        for each in list(_held.values()):
            release(each)
