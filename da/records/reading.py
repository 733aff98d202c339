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
        ValueError: A file is damaged, or its content does not match the run's digest.

    Example:
        >>> from da.records import read_runs
        >>> import tempfile
        >>> read_runs(tempfile.mkdtemp())
        []
    """
    root = Path(runs_dir)
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder of runs at {runs_dir}: name another folder, or run an experiment first"
        )
    results = root.glob(f"{experiment or '*'}/*/*/seed*/result.json")
    found = {path.parent: read_record(path.parent) for path in results}
    for path in packed_files(root, experiment):
        for record in read_packed(path):
            found.setdefault(record.directory, record)
    return [found[directory] for directory in sorted(found)]
