"""Grids of text: aligned for a terminal, in Markdown, and put between two marks of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def aligned(grid: Sequence[Sequence[str]]) -> str:
    """Rows of cells in aligned columns, the first row as the heading."""
    widths = [max(len(row[column]) for row in grid) for column in range(len(grid[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in grid
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def piped(grid: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table, the first row as the heading."""
    lines = ["| " + " | ".join(row) + " |" for row in grid]
    return "\n".join([lines[0], "|---" * len(grid[0]) + "|", *lines[1:]])


def replace_marked(
    path: Path | str, opening: str, closing: str, content: str, *, check: bool = False
) -> bool:
    """Put `content` on lines of its own between the first `opening` and the next `closing`; whether it stood there already.

    With `check` nothing is written. Raises ValueError where `opening` does not stand in the file exactly once, with `closing` after it.
    """
    text = Path(path).read_text(encoding="utf-8")
    before, found, rest = text.partition(opening)
    _, closed, after = rest.partition(closing)
    if not found or not closed or opening in rest:
        raise ValueError(
            f"{path} must hold {opening} exactly once, and {closing} after it: write the two lines where the table belongs"
        )
    updated = f"{before}{opening}\n{content}\n{closing}{after}"
    if updated != text and not check:
        Path(path).write_text(updated, encoding="utf-8")
    return updated == text
