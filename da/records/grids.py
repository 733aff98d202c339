"""Grids of text: aligned for a terminal, or in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


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
