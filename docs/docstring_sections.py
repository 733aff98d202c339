"""Reads the sections `Paper:` and `Differences:` of docstrings, with the standard library alone."""

from __future__ import annotations

import re
import textwrap

SECTION = r"^{title}:\n((?:[ \t]+\S.*(?:\n|\Z)|[ \t]*\n)+)"
NAME = r"[A-Z][\w'’-]+(?: [A-Z][\w'’-]+)*"
# A new paper begins with its authors and a colon, after a year or a bracket.
NEXT_PAPER = re.compile(rf"(?<=[0-9)]\.) (?={NAME}(?:, {NAME})*,?(?: et al\.)?: )")


def section(docstring: str, title: str) -> list[str]:
    """The lines of a section without their indent, or none if there is no such section."""
    found = re.search(SECTION.format(title=title), docstring, flags=re.MULTILINE)
    return textwrap.dedent(found[1]).strip().splitlines() if found else []


def papers(docstring: str) -> list[str]:
    """The papers that a docstring names, one string for each."""
    words = " ".join(" ".join(section(docstring, "Paper")).split())
    return NEXT_PAPER.split(words) if words else []


def differences(docstring: str) -> str:
    """What differs from the paper, as one paragraph; empty if the docstring does not say."""
    return " ".join(" ".join(section(docstring, "Differences")).split())


def readable(docstring: str) -> str:
    """The docstring with the forms that Griffe shows well.

    Its examples become code. Papers become a list and differences a paragraph, each under a title
    in bold like those of the arguments.
    """
    text = re.sub(r"^Example:$", "Examples:", docstring, flags=re.MULTILINE)
    listed = "\n".join(f"- {paper}" for paper in papers(text))
    for title, content in (("Paper", listed), ("Differences", differences(text))):
        if content:
            pattern = re.compile(SECTION.format(title=title), flags=re.MULTILINE)
            replacement = f"**{title}:**\n\n{content}\n\n"
            text = pattern.sub(lambda _, new=replacement: new, text, count=1)
    return text
