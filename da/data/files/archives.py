"""Unpacking of archives that strangers made: ordinary files and folders inside the destination, or nothing at all."""

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


@dataclass(frozen=True)
class _Member:
    name: str
    kind: str  # "file", "folder", or what else it is
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, destination: Path, *, select: Callable[[Path], Path] = lambda folder: folder
) -> None:
    """Unpacks a zip or tar file into a new folder beside `destination` and then moves it there, whole.

    `select` gets the unpacked folder and returns the folder in it (or itself) that becomes `destination`.
    Raises ValueError where a member is absolute, climbs out with "..", or is anything but a file or a folder (links and devices:
    no image set needs them), and where the archive is damaged; then nothing is left behind.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name}-"))
    try:
        folder = temporary / "unpacked"  # mkdtemp's own folder is closed to others
        folder.mkdir()
        with _members(archive) as members:
            for member in members:
                _check(archive, member)
            for member in members:
                _write(member, folder)
        os.replace(select(folder), destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(archive: Path, member: _Member) -> None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if (
        path.is_absolute()
        or ".." in path.parts
        or ":" in member.name.split("/")[0]
        or "\0" in member.name
    ):
        raise ValueError(
            f"{archive} refused: its member {member.name!r} would lie outside the folder; nothing was unpacked"
        )
    if member.kind not in ("file", "folder"):
        raise ValueError(
            f"{archive} refused: its member {member.name!r} is a {member.kind}, not a file or folder; nothing was unpacked"
        )


def _write(member: _Member, folder: Path) -> None:
    parts = PurePosixPath(member.name.replace("\\", "/")).parts
    if "__MACOSX" in parts or (parts and (parts[-1].startswith("._") or parts[-1] == ".DS_Store")):
        return  # what macOS adds to an archive: shadows of the files, with the same suffixes
    place = folder.joinpath(*parts)
    if member.kind == "folder":
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as content, open(place, "wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


@contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    """The members of a zip or tar file alike. Whatever a damaged archive raises becomes one ValueError."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                yield [_zip_member(zipped, info) for info in zipped.infolist()]
        else:
            with tarfile.open(archive) as tar:
                yield [_tar_member(tar, info) for info in tar.getmembers()]
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise ValueError(
            f"{archive} is no archive that can be unpacked ({type(error).__name__}: {error}); nothing was unpacked"
        ) from error


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on a Unix
    kind = (
        "folder"
        if info.is_dir() and mode in (0, stat.S_IFDIR)
        else "file"
        if mode in (0, stat.S_IFREG)
        else _other(mode)
    )
    return _Member(info.filename, kind, lambda: archive.open(info))


def _other(mode: int) -> str:
    return {stat.S_IFLNK: "symbolic link", stat.S_IFDIR: "folder"}.get(
        mode, "device or other special file"
    )


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    if info.isdir():
        kind = "folder"
    elif info.isfile():
        kind = "file"
    else:
        kind = (
            "symbolic link"
            if info.issym()
            else "hard link"
            if info.islnk()
            else "device or other special file"
        )

    def content() -> IO[bytes]:
        file = archive.extractfile(info)
        assert file is not None  # it is None for links and devices only, which were refused
        return file

    return _Member(info.name, kind, content)
