"""Grids of text: aligned for a terminal, in Markdown, or in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What LaTeX would take for a command, and a few letters beyond ASCII that tables have.
LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    ">": r"$\to$",  # a task, source>target
    " > ": " $>$ ",
    "<=": r"$\le$",
    "<": "$<$",
    "-": "$-$",
    "±": r"$\pm$",
}
# Longer signs first; a minus is one only before a number.
SIGNS = re.compile(r" > |<=|(?<![\w.])-(?=\d)|[\\&%$#_{}~^><±]")


class Best(str):
    """The text of a cell that is marked as one of the best."""


def aligned(grid: Sequence[Sequence[str]]) -> str:
    """Rows of cells in aligned columns, the first row as the heading; the best end in a star."""
    shown = [[f"{text} *" if isinstance(text, Best) else text for text in row] for row in grid]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def piped(grid: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table, the first row as the heading; the best are bold."""
    shown = [[f"**{text}**" if isinstance(text, Best) else text for text in row] for row in grid]
    lines = ["| " + " | ".join(row) + " |" for row in shown]
    return "\n".join([lines[0], "|---" * len(grid[0]) + "|", *lines[1:]])


def booktabs(grid: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a LaTeX tabular with the rules of booktabs; the best are bold."""
    shown = [
        [rf"\textbf{{{latex(text)}}}" if isinstance(text, Best) else latex(text) for text in row]
        for row in grid
    ]
    head, *lines = [" & ".join(row) + r" \\" for row in shown]
    columns = "l" + "c" * (len(grid[0]) - 1)
    rules = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *lines]
    return "\n".join([*rules, r"\bottomrule", r"\end{tabular}"])


def latex(text: str) -> str:
    r"""Text with every sign that LaTeX would take for a command in its own command.

    Example:
        >>> from da.records.grids import latex
        >>> latex("cdan_e on a>b: 50 %")
        'cdan\\_e on a$\\to$b: 50 \\%'
    """
    return SIGNS.sub(lambda found: LATEX[found[0]], text)
