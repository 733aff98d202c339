"""A side out of files of one kind: tables or arrays, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from da.adapt.read_arrays import READERS, Domain, read_arrays
from da.adapt.read_tables import SUFFIXES, read_table
from da.adapt.sides import Side
from da.adapt.table_sides import Columns, table_side
from da.data.files.arrays import check_ordinary

ALL_SUFFIXES = (*SUFFIXES, *READERS)


def read_tables(files: Sequence[Path], path: str, names: Columns) -> Side:
    """The rows of all tables, one below the other."""
    read = [read_table(file, as_text=names.as_text) for file in files]
    for (table, _), file in zip(read[1:], files[1:], strict=True):
        apart = sorted(set(table.columns) ^ set(read[0][0].columns))
        if apart:
            raise ValueError(f"{file} and {files[0]} differ in columns: {', '.join(apart[:5])}")
    table = pd.concat([table for table, _ in read], ignore_index=True)
    notes = tuple(line for _, lines in read for line in lines)
    return table_side(table, notes, path, names, _row_names(files, [len(t) for t, _ in read]))


def read_array_files(files: Sequence[Path], path: str, names: Columns, domain: Domain) -> Side:
    """The rows of all files of features, one below the other."""
    read = [read_arrays(file, domain=domain, label=names.label) for file in files]
    widths = {x.shape[1] for x, _ in read}
    labelled = {labels is None for _, labels in read}
    if len(widths) > 1 or len(labelled) > 1:
        what = "columns" if len(widths) > 1 else "having labels"
        raise ValueError(f"the files in {path} differ in {what}")
    labels = None if labelled == {True} else np.concatenate([y for _, y in read if y is not None])
    rows = _row_names(files, [len(x) for x, _ in read])
    return Side(path, "features", rows, labels, np.concatenate([x for x, _ in read]))


def _row_names(files: Sequence[Path], counts: Sequence[int]) -> tuple[str, ...]:
    """Row numbers, with the file's name before them if there are several files."""
    alone = len(files) == 1
    return tuple(
        str(row) if alone else f"{file.name}:{row}"
        for file, count in zip(files, counts, strict=True)
        for row in range(count)
    )


def files_in(folder: Path) -> list[Path]:
    """The readable files of a folder, which must be of one suffix."""
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    readable = [file for file in files if file.suffix.lower() in ALL_SUFFIXES]
    if not readable:
        raise ValueError(
            f"{folder} holds no images and no files that end in {', '.join(ALL_SUFFIXES)}"
        )
    for file in readable:
        check_ordinary(file)
    suffixes = sorted({file.suffix.lower() for file in readable})
    if len(suffixes) > 1:
        raise ValueError(f"{folder} holds files of several kinds ({', '.join(suffixes)}); name one")
    return readable
