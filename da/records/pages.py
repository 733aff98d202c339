"""Marked tables in pages of documentation: each says the command that makes it, and one command
makes them all again.

    <!-- table: digits_mmd -->
    ...
    `python -m da table experiments/records --experiment digits_mmd`
    <!-- /table -->

To add a table, write the two marks with the command between them and call
`python -m da table --refresh`. Marks inside a fenced code block are an example and stay as they
are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

# A fenced code block of Markdown, up to its closing fence or else the end of the page.
FENCED = r"^[ \t]*(?P<fence>`{3,}(?=[^`\n]*$)|~{3,}).*?(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)"
TABLE = r"(?P<opening><!-- table: (?P<name>\S+) -->\n)(?P<content>.*?)(?P<closing><!-- /table -->)"
MARKED = re.compile(f"{FENCED}|{TABLE}", flags=re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"`python -m da ((?:table|rank) [^`\n]+)`\s*\Z")
PLACES = ("README.md", "docs/**/*.md")


def pages_of(root: Path, places: Sequence[Path] = ()) -> list[Path]:
    """The pages to look at: the files that are named, else README.md and docs/ below `root`.

    Raises:
        FileNotFoundError: A page that was named is missing, or there is none at all.
    """
    for path in places:
        if not path.is_file():
            raise FileNotFoundError(f"pages: no file {path}")
    found = list(places) or [path for place in PLACES for path in sorted(root.glob(place))]
    if not found:
        raise FileNotFoundError(
            f"pages: neither README.md nor docs/ in {root.resolve()}; name files with --pages"
        )
    return found


def refresh(pages: Sequence[Path], make: Callable[[str], str], *, check: bool = False) -> list[str]:
    """Make every marked table of the pages again, but none inside a fenced code block.

    Args:
        pages: Files.
        make: The words of a command ("table experiments/records ...") -> the table in Markdown.
        check: Change nothing.

    Returns:
        The tables that differed, as "page: name".

    Raises:
        ValueError: A marked place does not end in a command, or its command fails. The message
            names the place.
    """
    stale = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        updated, at = [], 0
        for match in MARKED.finditer(text):
            if match["fence"] is not None:
                continue
            name, content = match["name"], match["content"]
            command = COMMAND.search(content)
            if command is None:
                raise ValueError(
                    f"{page}: the table {name!r} must end in its command, "
                    "`python -m da table FOLDER ...`"
                )
            try:
                made = f"{make(command[1])}\n\n`python -m da {command[1]}`\n"
            except ValueError as error:
                raise ValueError(f"{page}: the table {name!r}: {error}") from error
            if made != content:
                stale.append(f"{page}: {name}")
            updated += [text[at : match.start()], match["opening"], made, match["closing"]]
            at = match.end()
        if updated and not check:
            page.write_text("".join([*updated, text[at:]]), encoding="utf-8")
    return stale
