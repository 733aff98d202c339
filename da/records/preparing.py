"""The folder of a run before its first step: what earlier processes left there, and its soundness.

Only the process that has the run's claim may call `prepare` and `tidy`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from da.records.checksums import CHECKPOINTS, CHECKSUMS, REMEDY
from da.records.claim import BusyError, empty, is_claim
from da.records.environment import environment
from da.records.files import mend_lines, read_json, same_run, write_json
from da.records.finding import data_of
from da.records.record import read_record


def is_sound(directory: Path, document: Mapping[str, Any]) -> bool:
    """Whether a folder holds a finished run of this configuration, and its JSON is undamaged."""
    if not (directory / "result.json").is_file():
        return False
    try:
        read_record(directory)
        return same_run(read_json(directory / "config.json"), document)
    except (OSError, ValueError):
        return False


def prepare(
    directory: Path,
    document: dict[str, Any],
    title: str,
    *,
    force: bool,
    device: str | None,
    data: str | None,
) -> None:
    """Make a folder ready for a run to begin or to go on; a finished run is only tidied.

    Args:
        directory: The folder, which this process has claimed.
        document: The content of its config.json.
        title: What a line calls the run.
        force: Remove what an earlier run left.
        device: What env.json names as the device; None names the processor's model.
        data: What identifies the data, if that is known.

    Raises:
        ValueError: A file of a finished run is damaged; the message says what to do.
        BusyError: Another process has begun this run with other data meanwhile.
    """
    if force:
        empty(directory)
    tidy(directory)
    if is_sound(directory, document):
        return
    _check_damage(directory, document, title)
    known = data_of(directory)
    if None not in (known, data) and known != data:
        raise BusyError(f"{title} was begun with other data by another process, in {directory}")
    for name in ("result.json", CHECKSUMS):
        (directory / name).unlink(missing_ok=True)
    if (directory / "config.json").exists() and not _holds(directory / "config.json", document):
        say(f"{title}: config.json in {directory} was damaged and is written again")
    write_json(directory / "config.json", document)
    seen = known if data is None else data
    write_json(directory / "env.json", environment(device) | ({"data": seen} if seen else {}))
    mend_lines(directory / "metrics.jsonl")


def untidy(directory: Path) -> bool:
    """Whether a finished run's folder holds what only an unfinished one needs, such as a claim."""
    return any(_passing(directory)) or any(map(is_claim, directory.iterdir()))


def tidy(directory: Path) -> None:
    """Remove what a killed process left half-written; from a finished run its checkpoints too."""
    for path in _passing(directory):
        with suppress(OSError):
            path.unlink()


def say(line: str) -> None:
    """Print one line on standard error."""
    print(line, file=sys.stderr, flush=True)


def _check_damage(directory: Path, document: Mapping[str, Any], title: str) -> None:
    """Raise a ValueError if a result can be read, but the run's files do not fit together.

    What can be read is never overwritten without being asked. A result that cannot is told in a
    line, and the run begins again.
    """
    path = directory / "result.json"
    if not path.is_file():
        return
    try:
        read_json(path)
    except ValueError as error:
        say(f"{title} begins again: its result is damaged ({error})")
        return
    read_record(directory)  # raises, and says which file is damaged
    raise ValueError(f"{directory / 'config.json'} was changed after its run began. {REMEDY}")


def _holds(path: Path, document: Mapping[str, Any]) -> bool:
    try:
        return same_run(read_json(path), document)
    except (ValueError, TypeError, AttributeError):
        return False


def _passing(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    finished = _has_ended(directory)
    return [
        path
        for path in directory.iterdir()
        if path.suffix == ".tmp"
        and not path.name.startswith("claim")
        or finished
        and path.name.startswith(CHECKPOINTS)
    ]


def _has_ended(directory: Path) -> bool:
    """Whether a run has a result and has not only paused, which keeps its checkpoint."""
    try:
        return "paused" not in read_json(directory / "result.json")
    except (OSError, ValueError, TypeError):
        return False
