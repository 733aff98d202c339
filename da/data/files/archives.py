"""Unpacking of archives that strangers made.

Only ordinary files and folders inside the destination are unpacked. An archive with anything else
is refused as a whole.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

_BLOCK = 1 << 20  # bytes that are copied at once
_SPECIAL = "device or other special file"
# What the readers of zip and tar files raise for damaged content.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class _Member:
    """A file or folder in an archive, whatever the archive's format."""

    name: str
    kind: str  # "file", "folder", or the name of what else it is
    size: int  # bytes when unpacked, as the archive declares them
    open: Callable[[], IO[bytes]]


def whole(folder: Path) -> Path:
    """The unpacked folder itself."""
    return folder


def unpack(archive: Path, destination: Path, *, select: Callable[[Path], Path] = whole) -> None:
    """Unpack a zip or tar file into a new folder and then move that folder into place, whole.

    If it fails, nothing is left behind.

    Args:
        archive: The zip or tar file.
        destination: The folder that appears; it must not exist.
        select: Gets the unpacked folder, and returns the folder in it, or itself, that becomes
            `destination`. Default `whole`.

    Raises:
        ValueError: A member is absolute, climbs out with "..", or is neither file nor folder, has
            another size than it declares, all of them are larger than the room on the disk, or the
            archive is damaged. Links and devices are refused because no data set needs them.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name}-"))
    try:
        folder = temporary / "unpacked"  # mkdtemp's own folder is closed to others
        folder.mkdir()
        with _members(archive) as members:
            for member in members:
                _check(archive, member)
            _check_room(archive, members, folder)
            for member in members:
                _write(archive, member, folder)
        os.replace(select(folder), destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(archive: Path, member: _Member) -> None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    climbs = path.is_absolute() or ".." in path.parts
    drive = ":" in member.name.split("/")[0]  # as in C:
    if climbs or drive or "\0" in member.name:
        raise ValueError(
            f"{archive} refused: its member {member.name!r} would lie outside the folder; "
            "nothing was unpacked"
        )
    if member.kind not in ("file", "folder"):
        raise ValueError(
            f"{archive} refused: its member {member.name!r} is a {member.kind}, not a file or "
            "folder; nothing was unpacked"
        )


def _check_room(archive: Path, members: list[_Member], folder: Path) -> None:
    """Refuse an archive that declares more than there is room for."""
    needed, free = sum(member.size for member in members), shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{archive} refused: it declares {needed / 1e6:,.0f} MB of files, and "
            f"{free / 1e6:,.0f} MB are free there; nothing was unpacked"
        )


def _write(archive: Path, member: _Member, folder: Path) -> None:
    parts = PurePosixPath(member.name.replace("\\", "/")).parts
    last = parts[-1] if parts else ""
    if "__MACOSX" in parts or last.startswith("._") or last == ".DS_Store":
        return  # what macOS adds to an archive: shadows of the files, with the same suffixes
    place = folder.joinpath(*parts)
    try:
        (place if member.kind == "folder" else place.parent).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(
            f"{archive} refused: its member {member.name!r} lies below a file; nothing was unpacked"
        ) from None
    if member.kind == "folder":
        return
    left = member.size
    with member.open() as content, open(place, "wb") as file:
        while block := content.read(min(_BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                break
            file.write(block)
    if left:
        raise ValueError(
            f"{archive} refused: its member {member.name!r} does not have the {member.size} bytes "
            "that it declares; nothing was unpacked"
        )


@contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    """The members of a zip or tar file. Whatever a damaged archive raises becomes a ValueError."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                yield [_zip_member(zipped, info) for info in zipped.infolist()]
        else:
            with tarfile.open(archive) as tar:
                yield [_tar_member(tar, info) for info in _tar_infos(tar)]
    except _DAMAGED as error:
        raise ValueError(
            f"{archive} is no archive that can be unpacked ({type(error).__name__}: {error}); "
            "nothing was unpacked"
        ) from error


def _tar_infos(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    try:
        return archive.getmembers()
    except OSError as error:  # of a member that would end behind the largest file there can be
        raise tarfile.ReadError(str(error)) from error


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    return _Member(info.filename, _zip_kind(info), info.file_size, lambda: archive.open(info))


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = stat.S_IFMT(info.external_attr >> 16)  # 0 if the archive was not made on a Unix
    if mode == 0:
        return "folder" if info.is_dir() else "file"
    kinds = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "symbolic link"}
    return kinds.get(mode, _SPECIAL)


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    def content() -> IO[bytes]:
        file = archive.extractfile(info)
        assert file is not None  # it is None for links and devices only, which were refused
        return file

    return _Member(info.name, _tar_kind(info), info.size, content)


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.isdir():
        return "folder"
    if info.issparse():
        return "file with holes"  # a few bytes can stand for any number of zeros
    if info.isfile():
        return "file"
    if info.issym():
        return "symbolic link"
    return "hard link" if info.islnk() else _SPECIAL
