"""A report as Markdown, and as one HTML page that needs no network."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from string import Template

from da.adapt.report_parts import Grid, Section

WIDE = 600  # pixels, from which a picture is scrolled, not made smaller, on a small screen
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f23; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid #ddd; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #e3e6e8; text-align: left;
  background: #fff; overflow-wrap: normal; }
td { white-space: nowrap; }
th { background: #f4f6f8; vertical-align: bottom; }
tr.marked td { background: #e8f4ea; font-weight: 600; }
th:first-child, td:first-child { position: sticky; left: 0; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 1rem; }
figure { margin: 0; max-width: 100%; overflow-x: auto; }
img { display: block; max-width: 100%; height: auto; } .wide img { max-width: none; }
figcaption { font-size: .85rem; color: #555; max-width: 27rem; position: sticky; left: 0; }
section:first-of-type { background: #f4f6f8; padding: .1rem 1rem 1rem; border-radius: .5rem; }
section:first-of-type h2 { border: 0; margin-top: 1rem; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


def as_markdown(title: str, sections: Sequence[Section]) -> str:
    """Write a report as Markdown; of pictures only the captions stay.

    Args:
        title: The heading.
        sections: The sections.

    Returns:
        The text.

    Example:
        >>> from da.adapt.report_parts import Section
        >>> from da.adapt.report_text import as_markdown
        >>> print(as_markdown("Report", [Section("The answer", ["Keep it."])]))
        # Report
        <BLANKLINE>
        ## The answer
        <BLANKLINE>
        Keep it.
        <BLANKLINE>
    """
    blocks = [f"# {title}"]
    for section in sections:
        blocks += [f"## {section.title}", *section.lines]
        if section.grid is not None:
            blocks.append(_markdown_grid(section.grid))
        blocks += [f"(Picture in report.html: {caption})" for caption, _ in section.pictures]
    return "\n\n".join(blocks) + "\n"


def as_html(title: str, sections: Sequence[Section]) -> str:
    """Write a report as one HTML page with its pictures inside.

    Args:
        title: The heading.
        sections: The sections.

    Returns:
        The page.

    Example:
        >>> from da.adapt.report_parts import Section
        >>> from da.adapt.report_text import as_html
        >>> "<p>a &lt; b</p>" in as_html("Report", [Section("The answer", ["a < b"])])
        True
    """
    body = "\n".join(_html_section(section) for section in sections)
    return PAGE.substitute(title=html.escape(title), body=body)


def _html_section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    parts += [f"<p>{_emphasis(line)}</p>" for line in section.lines]
    if section.grid is not None:
        parts.append(_html_grid(section.grid))
    if section.pictures:
        figures = "\n".join(_html_figure(caption, png) for caption, png in section.pictures)
        parts.append(f'<div class="pictures">\n{figures}\n</div>')
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _html_figure(caption: str, png: bytes) -> str:
    """A picture. A wide one keeps its size on a small screen and is scrolled."""
    data, says = base64.b64encode(png).decode(), html.escape(caption)
    wide = ' class="wide"' if int.from_bytes(png[16:20], "big") > WIDE else ""
    return (
        f'<figure{wide}><img alt="{says}" src="data:image/png;base64,{data}">'
        f"<figcaption>{says}</figcaption></figure>"
    )


def _html_grid(grid: Grid) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in grid.head)
    lines = []
    for number, row in enumerate(grid.rows):
        mark = ' class="marked"' if number in grid.marked else ""
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        lines.append(f"<tr{mark}>{cells}</tr>")
    return (
        '<div class="scroll"><table><thead><tr>'
        + head
        + "</tr></thead><tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def _markdown_grid(grid: Grid) -> str:
    lines = [list(grid.head), ["---"] * len(grid.head)]
    for number, row in enumerate(grid.rows):
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append([f"**{cell}**" if number in grid.marked and cell else cell for cell in cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _emphasis(line: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(line))
