"""Values of papers, to stand beside one's own. They are in no average and in no test.

A folder of records may hold them in published.csv, a value a line:

    experiment,where,method,task,accuracy,paper,protocol
    office31_mmd,,DAN,amazon>webcam,80.5,"Long et al., ICML 2017","ResNet-50 ..."

`where` is a condition key=value that all runs of a table must meet, or empty. The accuracy is in
percent, with the digits of the paper.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from da.records.cells import has_value, parse_condition
from da.records.record import Record

FILE = "published.csv"
COLUMNS = ("experiment", "where", "method", "task", "accuracy", "paper", "protocol")


class Published(NamedTuple):
    """One value of a paper.

    Attributes:
        experiment: The experiment that it stands beside.
        where: A condition on the runs of a table, key=value; "" for none.
        method: The method's name in the paper.
        task: The task, source>target.
        accuracy: In percent, as the paper prints it.
        paper: Authors, venue and year.
        protocol: How it was reached.
    """

    experiment: str
    where: str
    method: str
    task: str
    accuracy: str
    paper: str
    protocol: str

    def fits(self, experiment: str, tasks: Collection[str], runs: Sequence[Record]) -> bool:
        """Whether a table of these runs has a place for it."""
        if self.experiment != experiment or self.task not in tasks:
            return False
        return not self.where or all(has_value(run, *parse_condition(self.where)) for run in runs)


def read_published(runs_dir: Path | str) -> list[Published]:
    """The values in the file beside the records; none without such a file.

    Args:
        runs_dir: The folder of runs.

    Raises:
        ValueError: The file has other columns, or an accuracy is no number from 0 to 100.

    Example:
        >>> import tempfile
        >>> from da.records.published import read_published
        >>> read_published(tempfile.mkdtemp())
        []
    """
    path = Path(runs_dir) / FILE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(
                f"{path} must have the columns {','.join(COLUMNS)}; got "
                f"{','.join(reader.fieldnames or ()) or 'none'}"
            )
        return [_value(line, f"{path}, line {reader.line_num}") for line in reader]


def _value(line: dict[str, str], where: str) -> Published:
    try:
        percent = 0 <= float(line["accuracy"]) <= 100
    except (TypeError, ValueError):
        percent = False
    if not percent:
        raise ValueError(f"{where}: accuracy must be in percent, 0 to 100; got {line['accuracy']}")
    return Published(**line)
