"""Fetch one file, resume a broken transfer, and verify it before anything is made of it.

A file comes into `<name>.part`. A transfer that broke off resumes there. The file is compared with
its pinned SHA-256 or git blob id, and only then moved into place or unpacked, into a temporary
folder that is moved into place whole. So a file in the data root is complete and is what was
pinned. One process at a time works at a place; others wait for it, and then find what it has made.
Archives stay in <root>/downloads, because two benchmarks share some. They can be deleted at
any time.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from da.data.benchmarks import Source
from da.data.files.archives import unpack, whole
from da.data.progress import Progress, say
from da.records.claim import BusyError, claim, release

_TIMEOUT = 60  # seconds without a byte from the server
_WAIT = 0.5  # seconds before it is looked again whether another process has finished
_one_thread = threading.RLock()
_BLOCK = 1 << 18  # bytes


def fetch(source: Source, root: str | Path, *, select: Callable[[Path], Path] = whole) -> Path:
    """Bring one file or archive to its place under `root`, unless something is there already.

    A failure leaves nothing behind except the `.part` file, from which the next call resumes.

    Args:
        source: The file: address, digest and place.
        root: The folder of the data sets.
        select: Chooses, in an unpacked archive, the folder that becomes the place. Default: all.

    Returns:
        The file or folder.

    Raises:
        OSError: The transfer fails or breaks off; call again to resume it.
        ValueError: The content is not the pinned one, or the archive is damaged or not harmless.
    """
    place = Path(root) / source.place
    if place.exists():
        return place
    with _alone(place):
        if not place.exists():
            _fetch(source, root, place, select)
    return place


def _fetch(source: Source, root: str | Path, place: Path, select: Callable[[Path], Path]) -> None:
    """Bring a file or archive to its place, where there is nothing."""
    if not source.unpack:
        _obtain(source, place)
        return
    name = PurePosixPath(urlsplit(source.url).path).name
    archive = Path(root) / "downloads" / f"{source.digest[:8]}-{name}"
    with _alone(archive):  # two benchmarks share some
        if not _is_whole(source, archive):
            _obtain(source, archive)
        try:
            unpack(archive, place, select=select)
        except ValueError:
            archive.unlink(missing_ok=True)
            raise


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Inside, no other process makes `path`; until then this one waits."""
    folder, told = path.with_name(path.name + ".claim"), False
    with _one_thread:
        while True:
            try:
                held = claim(folder, path.name)
                break
            except BusyError:
                if not told:
                    say(f"waiting for another process, which fetches {path.name}")
                told = True
                time.sleep(_WAIT)
            except FileNotFoundError:  # whoever had it has just removed the folder
                continue
        try:
            yield
        finally:
            release(held)
            with suppress(OSError):  # another process may have claimed it
                folder.rmdir()


def _is_whole(source: Source, path: Path) -> bool:
    return path.exists() and digest(path, like=source.digest) == source.digest


def digest(path: Path, *, like: str) -> str:
    """Compute the digest of a file in hexadecimal.

    Args:
        path: The file.
        like: A digest of the wanted kind: 64 digits mean SHA-256, 40 digits a git blob id.

    Returns:
        The digest.

    Raises:
        ValueError: `like` has another number of digits.
    """
    kinds = {64: hashlib.sha256(), 40: hashlib.sha1(b"blob %d\0" % path.stat().st_size)}
    if len(like) not in kinds:
        raise ValueError(
            "a digest must have 64 hexadecimal digits (SHA-256) or 40 (git blob id); "
            f"got {len(like)}: {like!r}"
        )
    result = kinds[len(like)]
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            result.update(block)
    return result.hexdigest()


def _obtain(source: Source, path: Path) -> None:
    """Transfer `source` to `path`, where it appears verified or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    # A process that was killed just before the end has left a whole part.
    if not _is_whole(source, part):
        _transfer(source.url, part)
    found = digest(part, like=source.digest)
    if found != source.digest:
        part.unlink()
        raise ValueError(
            f"{source.url} is not what it was: expected {source.digest}, got {found}; "
            "the file was removed. Try again, or report it"
        )
    os.replace(part, path)


def _transfer(url: str, part: Path) -> None:
    """Complete `part` from `url`. If the transfer breaks off, an OSError, and what came is kept."""
    try:
        with _request(url, part) as response:
            have, total = _position(response, part)
            _receive(response, part, have, total)
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(
            f"{url} answers {error.code} {error.reason}; check the address or try again later"
        ) from error
    except (OSError, http.client.HTTPException) as error:  # timeouts, resets, IncompleteRead, ...
        raise OSError(
            f"the transfer of {url} broke off ({error}); run again to resume from {part}"
        ) from error


def _request(url: str, part: Path) -> http.client.HTTPResponse:
    """An answer that continues `part`, or one from the beginning if `part` proved useless."""
    headers = {"User-Agent": "da", "Accept-Encoding": "identity"}
    have = part.stat().st_size if part.exists() else 0
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        error.close()
    # Nothing follows what we have, and it is not the pinned file. So it is not its beginning.
    part.unlink()
    return _request(url, part)


def _position(response: http.client.HTTPResponse, part: Path) -> tuple[int, int | None]:
    """(bytes of `part` that this answer continues, size of the whole if the server says it)."""
    length = response.headers.get("Content-Length")
    have = part.stat().st_size if part.exists() else 0
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        have = 0  # the server ignored the range: this is the file from its beginning
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        raise OSError(
            f"asked for the bytes from {have} on; got {response.headers.get('Content-Range')!r}"
        )
    return have, have + int(length) if length is not None else None


def _receive(response: IO[bytes], part: Path, have: int, total: int | None) -> None:
    """Append the answer to the first `have` bytes of `part`; an OSError unless `total` came."""
    title = part.name.removesuffix(".part")
    with (
        open(part, "ab" if have else "wb") as file,
        Progress(title, total, done=have, unit="B") as progress,
    ):
        while block := response.read(_BLOCK):
            file.write(block)
            progress.advance(len(block))
    size = part.stat().st_size
    if total is not None and size != total:
        raise OSError(f"{size} of {total} bytes came")
