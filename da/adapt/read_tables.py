"""Tables of one's own: CSV and Parquet files as a DataFrame with the right type for each column.

A column is numbers (float64, missing ones NaN), dates (datetime64), or text (missing ones None).
Decimal commas are read where columns are divided by another sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from da.data.class_names import composed
from da.data.files.arrays import check_declared
from da.data.files.csv_headings import heading
from da.data.files.csv_layout import decimal_comma, is_number, read_rows
from da.data.files.folders import naming

SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")
MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none", "-", "?", "."))
NONE: tuple[str, ...] = ()
_INDEX = ("", "Unnamed: 0")  # names that pandas gives to row numbers


def read_table(path: Path, *, as_text: Sequence[str] = ()) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table whose first row names the columns.

    Args:
        path: A .csv, .tsv, .parquet or .pq file.
        as_text: Columns that stay text whatever they hold: labels, texts, codes such as postcodes.
            A cell of them is missing only if it is empty.

    Returns:
        The table, and what was done to it, in whole lines.

    Raises:
        ValueError: The file is damaged, has no rows or no names, rows differ in length, two columns
            have one name, or a number is infinite. The message names the file.
        ImportError: A Parquet file, and pyarrow is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.adapt.read_tables import read_table
        >>> file = Path(tempfile.mkdtemp()) / "sizes.csv"
        >>> _ = file.write_text("height;colour\\n1,5;red\\n?;blue\\n")
        >>> table, _ = read_table(file)
        >>> table["height"].tolist(), table["colour"].tolist()
        ([1.5, nan], ['red', 'blue'])
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        table, notes = _read_parquet(path, as_text), NONE
    else:
        table, notes = _read_csv(path, as_text)
    if table.empty:
        raise ValueError(f"{path} has no rows")
    for name in table.columns[[kind.kind == "f" for kind in table.dtypes]]:
        rows = np.flatnonzero(np.isinf(table[name].to_numpy()))
        if len(rows):
            raise ValueError(
                f"{path}: column {name!r} is infinite in row {rows[0]}; leave the cell empty, or "
                f"leave the column out with --drop {name}"
            )
    return table, notes


def _read_csv(path: Path, as_text: Sequence[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    delimiter, rows = read_rows(path, words=True)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{path} has no rows")
    names, numbered = _names(first.cells, path, as_text)
    cells: list[list[str]] = []
    for row in rows:
        if len(row.cells) != len(first.cells):
            raise ValueError(
                f"{path}, line {row.line}: {len(row.cells)} cells, but the first line has "
                f"{len(first.cells)}"
            )
        cells.append(row.cells[1:] if numbered else row.cells)
    columns = list(zip(*cells, strict=True)) or [()] * len(names)
    table = {
        name: _text(column) if name in as_text else _typed(column, delimiter, f"{path}: {name!r}")
        for name, column in zip(names, columns, strict=True)
    }
    notes = (f"{path}: the first column numbers the rows and is left out.",) if numbered else ()
    return pd.DataFrame(table), notes


def _names(first: Sequence[str], path: Path, wanted: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """The names of the columns, and whether there is a column of row numbers before them."""
    cells = [composed(cell.strip()) for cell in first]
    numbered = cells[0] in _INDEX and len(cells) > 1
    cells = cells[1:] if numbered else cells
    if set(wanted) & set(cells):  # a heading, even if it has numbers such as wavelengths
        doubles = [name for name in cells if cells.count(name) > 1]
        if doubles:
            raise ValueError(f"{path}: two columns are called {doubles[0]!r}; rename one")
        return tuple(cells), numbered
    names = heading(cells, path)
    if names is None:
        raise ValueError(
            f"{path}: the first row holds only numbers ({', '.join(cells[:3])}, ...); the first "
            "row of a table must name its columns"
        )
    return names, numbered


def _text(cells: Sequence[str]) -> pd.Series:
    """A column of text; empty cells are missing."""
    return pd.Series([composed(cell.strip()) or None for cell in cells], dtype=object)


def _typed(cells: Sequence[str], delimiter: str, where: str) -> pd.Series:
    """A column as numbers if all of its cells are, else as text."""
    stripped = [composed(cell.strip()) for cell in cells]
    present = [None if cell.lower() in MISSING else cell for cell in stripped]
    values: list[float] = []
    commas = points = False
    for cell in present:
        if cell is None:
            values.append(np.nan)
        elif is_number(cell):
            values.append(float(cell))
            points = points or "." in cell
        elif delimiter != "," and (value := decimal_comma(cell)) is not None:
            values.append(value)
            commas = True
        else:
            return pd.Series(present, dtype=object)
    if commas and points:
        raise ValueError(f"{where} has numbers with a comma and numbers with a point; write one")
    return pd.Series(values, dtype=np.float64)


def _read_parquet(path: Path, as_text: Sequence[str]) -> pd.DataFrame:
    """Column by column, so that only one of them is in memory twice."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f'{path}: Parquet files need pyarrow: pip install -e ".[parquet]"'
        ) from error
    with naming(path):
        file = parquet.ParquetFile(path)
        about = file.metadata
        groups = [about.row_group(k).total_byte_size for k in range(about.num_row_groups)]
        check_declared(path, max(8 * about.num_rows * about.num_columns, sum(groups)))
        told = file.schema_arrow.pandas_metadata or {}
        index = [name for name in told.get("index_columns", ()) if isinstance(name, str)]
        stored = [name for name in file.schema_arrow.names if name not in index]
    names = [composed(name) for name in stored]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path}: two columns are called {name!r}; rename one")
    columns = {}
    for name, own in zip(names, stored, strict=True):
        with naming(path):
            column = file.read(columns=[own]).column(own).to_pandas().rename(name)
        columns[name] = _parquet_column(column, name in as_text, path)
    return pd.DataFrame(columns, copy=False)


def _parquet_column(column: pd.Series, as_text: bool, path: Path) -> pd.Series:
    """A typed column as numbers, dates or text."""
    present = column.notna()
    if pd.api.types.is_datetime64_any_dtype(column) and not as_text:
        return column
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        if not as_text:
            return column.astype(np.float64)
    elif len(first := column[present].head(1)) and isinstance(
        first.iloc[0], (list, dict, np.ndarray)
    ):
        raise ValueError(
            f"{path}: column {column.name!r} holds lists; leave it out with --drop {column.name}"
        )
    texts = [
        composed(str(value)) if told else None for value, told in zip(column, present, strict=True)
    ]
    return pd.Series(texts, dtype=object, index=column.index)
