"""Sides out of a table: which column is what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from da.adapt.read_labels import as_text, labels_of_column
from da.adapt.sides import Side
from da.data.files.csv_headings import LABELS


class Columns(NamedTuple):
    """The columns that the user has named.

    Attributes:
        label: The column of labels, or None.
        text: The column of texts, or None.
        drop: Columns that are left out.
        keep: Columns that are kept; (): all.
        categories: Columns of categories that look like numbers.
    """

    label: str | None = None
    text: str | None = None
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def as_text(self) -> tuple[str, ...]:
        """The columns that are read as text."""
        named = [name for name in (self.label, self.text) if name is not None]
        return (*named, *self.categories, *_spellings())

    def refuse(self, path: str, kind: str) -> None:
        """Refuse names of columns where there are none.

        Raises:
            ValueError: A name was given.
        """
        given = {"text": self.text, "drop": self.drop, "columns": self.keep}
        given["categories"] = self.categories
        if kind == "photographs":
            given["label"] = self.label
        for name, value in given.items():
            if value:
                what = "photographs" if kind == "photographs" else "rows of features"
                raise ValueError(f"{name} names a column of a table; {path} holds {what}")


def _spellings() -> tuple[str, ...]:
    """The names of a column of labels, as people write them."""
    return tuple(spell(name) for name in LABELS for spell in (str.lower, str.title, str.upper))


def table_side(
    table: pd.DataFrame,
    notes: Sequence[str],
    path: str,
    names: Columns,
    rows: tuple[str, ...],
) -> Side:
    """Make a side of a table: take labels and texts out of it, and leave columns out.

    Args:
        table: The table, with columns of labels and texts as text.
        notes: What reading has told.
        path: What the user called it.
        names: The columns that the user has named.
        rows: The names of the rows.

    Returns:
        A side of kind "table" or "texts".

    Raises:
        ValueError: There is no column of a name, labels are missing in part, or nothing is left.
    """
    _check_names(table, path, names)
    label = names.label if names.label in table.columns else _label_column(table, path, names)
    labels = None if label is None else labels_of_column(table[label], f"{path}: {label!r}")
    if names.text is not None:
        return _text_side(table, notes, path, names.text, labels, rows)
    left_out = {label, *names.drop}
    kept = [name for name in table.columns if name not in left_out]
    if names.keep:
        kept = [name for name in kept if name in names.keep]
    if not kept:
        raise ValueError(f"{path}: no column is left beside the labels")
    content = table[kept].copy()
    for name in names.categories:
        if name in content:
            content[name] = content[name].astype("category")
    return Side(path, "table", rows, labels, content, tuple(notes))


def domains_of(
    table: pd.DataFrame,
    notes: Sequence[str],
    path: str,
    names: Columns,
    column: str,
    source_value: str | None,
    target_value: str,
) -> tuple[tuple[Side, ...], Side]:
    """Divide one table into sources and a target by the values of a column.

    Args:
        table: The table.
        notes: What reading has told.
        path: What the user called it.
        names: The columns that the user has named.
        column: The column of domains, read as text.
        source_value: Its value for the source; None: each other value is a source.
        target_value: Its value for the target.

    Returns:
        The sources and the target. Row numbers are those of the table.

    Raises:
        ValueError: There is no such column, or no row of a value.
    """
    if column not in table.columns:
        raise ValueError(f"{path} has no column {column!r}; it has {_shown(table)}")
    missing = table[column].isna()
    domains = as_text(
        ["" if gap else value for gap, value in zip(missing, table[column], strict=True)]
    )
    present = sorted(set(domains.tolist()) - {""})
    for value in (source_value, target_value):
        if value is not None and value not in present:
            raise ValueError(
                f"{path}: no row has {value!r} in column {column!r}; it holds "
                f"{', '.join(present[:8])}{', ...' if len(present) > 8 else ''}"
            )
    if source_value == target_value:
        raise ValueError(f"source_value and target_value are the same ({target_value!r})")
    values = [source_value] if source_value is not None else present
    rest = table.drop(columns=column)

    def part(value: str) -> Side:
        mask = domains == value
        rows = tuple(str(row) for row in table.index[mask])
        own = rest[mask].reset_index(drop=True)
        return table_side(own, notes, f"{path} ({column} = {value})", names, rows)

    sources = tuple(part(value) for value in values if value != target_value)
    if not sources:
        raise ValueError(f"{path}: column {column!r} has no other value than {target_value!r}")
    return sources, part(target_value)


def _label_column(table: pd.DataFrame, path: str, names: Columns) -> str | None:
    """The column of labels that nobody has named: at most one."""
    if names.label is not None:
        return None
    own = [
        name
        for name in table.columns
        if name.lower() in LABELS and name not in (*names.drop, names.text, *names.categories)
    ]
    if len(own) > 1:
        raise ValueError(
            f"{path}: {', '.join(map(repr, own))} could all be the labels; name one with --label"
        )
    return own[0] if own else None


def _check_names(table: pd.DataFrame, path: str, names: Columns) -> None:
    """A name that is not in the table is a mistake; labels may be missing in a target."""
    given = {"text": [names.text] if names.text else [], "drop": names.drop}
    given |= {"columns": names.keep, "categories": names.categories}
    for flag, wanted in given.items():
        for name in wanted:
            if name not in table.columns and name != names.label:
                raise ValueError(f"{path} has no column {name!r} ({flag}); it has {_shown(table)}")


def _text_side(
    table: pd.DataFrame,
    notes: Sequence[str],
    path: str,
    text: str,
    labels: pd.Series | None,
    rows: tuple[str, ...],
) -> Side:
    missing = table[text].isna().to_numpy()
    if missing.all():
        raise ValueError(f"{path}: column {text!r} has no texts")
    texts = tuple(
        "" if gap else str(value) for gap, value in zip(missing, table[text], strict=True)
    )
    lines = list(notes)
    if missing.any():
        lines.append(f"{path}: {missing.sum()} texts are empty.")
    return Side(path, "texts", rows, labels, texts, tuple(lines), text)


def _shown(table: pd.DataFrame) -> str:
    names = [str(name) for name in table.columns]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
