"""All finished runs of a folder, from folders and from packed files beside each other."""

from __future__ import annotations

from pathlib import Path

from da.records.packing import packed_files, read_packed
from da.records.record import Record, read_record


def read_runs(runs_dir: Path | str, *, experiment: str | None = None) -> list[Record]:
    """Read every finished run of a folder, whether it is a folder of its own or packed.

    Args:
        runs_dir: The folder of runs.
        experiment: The experiment to read; None reads all.

    Returns:
        The records in the order of their folders. If a run stands in a folder and in a packed file,
        the folder counts.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A file is damaged, or its content does not match the run's digest. All damaged
            runs are listed.

    Example:
        >>> from da.records import read_runs
        >>> import tempfile
        >>> read_runs(tempfile.mkdtemp())
        []
    """
    records, damaged = read_sound(runs_dir, experiment=experiment)
    if damaged:
        raise ValueError("\n".join(damaged))
    return records


def read_sound(
    runs_dir: Path | str, *, experiment: str | None = None
) -> tuple[list[Record], list[str]]:
    """Read the finished runs of a folder that are undamaged, so that one does not hide the others.

    Args:
        runs_dir: The folder of runs.
        experiment: The experiment to read; None reads all.

    Returns:
        The records, as `read_runs` orders them; and a line for each folder that is damaged, which
        says what to do.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A packed file is damaged.
    """
    root = Path(runs_dir)
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder of runs at {runs_dir}: name another folder, or run an experiment first"
        )
    found, damaged = {}, []
    for path in sorted(root.glob(f"{experiment or '*'}/*/*/seed*/result.json")):
        try:
            found[path.parent] = read_record(path.parent)
        except ValueError as error:
            damaged.append(str(error))
    for path in packed_files(root, experiment):
        for record in read_packed(path):
            found.setdefault(record.directory, record)
    return [found[directory] for directory in sorted(found)], damaged
