"""What a report is made of: sections of words, tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CLASSES = 40  # classes that a picture or a line shows


@dataclass(frozen=True)
class Grid:
    """A table of a report.

    Attributes:
        head: Names of the columns.
        rows: The cells, as text.
        marked: Which rows stand out.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: Sequence[int] = ()


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: Its heading.
        lines: Paragraphs.
        grid: A table, or None.
        pictures: (caption, PNG) of each picture.
    """

    title: str
    lines: Sequence[str]
    grid: Grid | None = None
    pictures: Sequence[tuple[str, bytes]] = ()
