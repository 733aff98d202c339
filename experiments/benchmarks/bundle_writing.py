"""The folder and the file of `gpu_bundle.py`: what is in them, how large it is, and the limit."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".tar.xz", ".tar.gz", ".tar.zst")
MIB = 2**20


@dataclass(frozen=True)
class Bundle:
    """A folder that is filled, and then packed.

    Attributes:
        folder: The folder, empty at first.
    """

    folder: Path

    def place(self, name: str) -> Path:
        """Where a file of the bundle belongs; its folder is made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def files(self) -> Iterator[tuple[str, Path]]:
        """Name and path of every file, by name."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                yield path.relative_to(self.folder).as_posix(), path

    def digests(self) -> dict[str, str]:
        """Name -> SHA-256 in hexadecimal digits."""
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.files()}

    def sizes(self) -> Counter[str]:
        """About the bytes that each part takes in the packed file: a folder, or a single wheel."""
        total: Counter[str] = Counter()
        for name, path in self.files():
            first = name.split("/")[0]
            part = name if first in ("wheels", "weights") else first
            total[part] += len(zlib.compress(path.read_bytes(), 1))
        return total


def report(bundle: Bundle, most: int = 8) -> str:
    """The largest parts, a line each."""
    largest = bundle.sizes().most_common(most)
    return "\n".join(f"{size / MIB:6.1f} MiB  {part}" for part, size in largest)


def write_archive(bundle: Bundle, out: Path, limit: float) -> int:
    """Pack the folder.

    Args:
        bundle: What is packed.
        out: The file; its name says the compression.
        limit: Largest size in MiB.

    Returns:
        Its size in bytes.

    Raises:
        ValueError: It is larger than the limit. The message lists the largest parts, and no file is
            left.
        FileNotFoundError: .tar.zst was asked for, and there is no zstd.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.part")
    try:
        if out.name.endswith(".tar.zst"):
            _zstd(bundle, temporary)
        else:
            with tarfile.open(temporary, "w:xz" if out.name.endswith(".xz") else "w:gz") as file:
                _add(file, bundle)
        size = temporary.stat().st_size
        if size > limit * MIB:
            raise ValueError(
                f"{out.name} would have {size / MIB:.1f} MiB, and the limit is {limit:g}; nothing "
                "was written. Pass --leave-out with wheels that the machine has, a lower --quality "
                f"or .tar.xz. The largest parts, roughly:\n{report(bundle)}"
            )
        os.replace(temporary, out)
        return size
    finally:
        temporary.unlink(missing_ok=True)


def _add(file: tarfile.TarFile, bundle: Bundle) -> None:
    """Every file, without owner and with a fixed time, so that equal content gives equal bytes."""
    for name, path in bundle.files():
        entry = file.gettarinfo(path, name)
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = 0
        with open(path, "rb") as content:
            file.addfile(entry, content)


def _zstd(bundle: Bundle, out: Path) -> None:
    program = shutil.which("zstd")
    if program is None:
        raise FileNotFoundError("there is no program zstd here; pass --out NAME.tar.xz")
    command = [program, "-q", "-f", "-19", "--long=27", "-o", str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        with tarfile.open(fileobj=process.stdin, mode="w|") as file:
            _add(file, bundle)
        process.stdin.close()
    if process.returncode:
        raise OSError(f"zstd failed with status {process.returncode}")
