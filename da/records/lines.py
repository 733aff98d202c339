"""metrics.jsonl while it grows: lines are added at its end, or it is cut back to an earlier end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from da.records.checksums import digest_of_file
from da.records.files import writing

METRICS = "metrics.jsonl"


class Lines:
    """The file of metrics of one run, opened when it is first written.

    Args:
        directory: The folder of the run.
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.path = directory, directory / METRICS
        self._file: IO[bytes] | None = None

    @property
    def is_open(self) -> bool:
        """Whether lines can be added."""
        return self._file is not None

    def open(self) -> IO[bytes]:
        """The file, opened for adding lines."""
        if self._file is None:
            with writing(self.directory):
                self._file = open(self.path, "ab")
        return self._file

    def append(self, line: str) -> None:
        """Add one line."""
        file = self.open()
        with writing(self.directory):
            file.write(line.encode() + b"\n")
            file.flush()

    def sync(self) -> None:
        """Bring every line to the disk."""
        if self.path.exists():
            with writing(self.directory):
                os.fsync(self.open().fileno())

    def position(self) -> int:
        """The length in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def mark(self) -> tuple[int, str]:
        """The length in bytes, and the SHA-256 of the content, which is then on the disk."""
        self.sync()
        position = self.position()
        return position, digest_of_file(self.path, position)

    def matches(self, position: int, digest: str) -> bool:
        """Whether the file still begins with what `mark` saw."""
        return self.position() >= position and digest_of_file(self.path, position) == digest

    def cut(self, position: int) -> None:
        """Cut the file back to `position` bytes. Raises ValueError if no line ends there."""
        file = self.open()
        if not self.ends_at(position):
            where = f"{METRICS} ({self.position()} bytes)"
            raise ValueError(f"position must be the end of a line of {where}; got {position}")
        with writing(self.directory):
            file.truncate(position)

    def ends_at(self, position: int) -> bool:
        """Whether a line ends at `position` bytes, or the file begins there."""
        if position == 0:
            return True
        if not 0 < position <= self.position():
            return False
        with open(self.path, "rb") as file:
            file.seek(position - 1)
            return file.read(1) == b"\n"

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
