"""Makes the paper index in docs/methods.md from the docstrings of the package.

    python docs/make_index.py
    python docs/make_index.py --check

Every public name whose docstring has the sections `Paper:` and `Differences:` gets a line. With
--check nothing is written, and the exit status is 1 if the page differs from the docstrings.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import pkgutil
import re
import sys
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/methods.md"
MARKS = ("<!-- index -->\n", "<!-- /index -->")
HEADING = "| paper | name | where it runs | what differs |\n|---|---|---|---|"
FAMILIES = {
    "feature": "Feature-based",
    "instance": "Instance-based",
    "model": "Model-based",
    "shallow": "Without a network",
    "shift": "Two-sample tests and drift",
    "select": "Choosing without target labels",
    "train": "Training",
    "networks": "Networks and their parts",
    "data": "Data",
    "records": "Records",
}
NONE_KNOWN = "None known."
MOST_SCRIPTS = 4
# What these modules import runs in the scripts that import them. The rows of `da.recipes.methods`
# are found by `rows_by_object`.
PASSED_ON = re.compile(r"da\.(recipes\.(?!methods)|shift\.|model\.transferability)")

sys.path.insert(0, str(Path(__file__).parent))

from docstring_sections import differences, papers  # noqa: E402


@dataclass
class Line:
    """A line of the index: names of one family with the same papers."""

    papers: list[str]
    names: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    differences: dict[str, str] = field(default_factory=dict)

    def markdown(self, family: str) -> str:
        """The line as a row of a table."""
        names = "<br>".join(f"[`{_short(name)}`](api/{family}.md#{name})" for name in self.names)
        said = {k: v for k, v in self.differences.items() if v != NONE_KNOWN} or {"": NONE_KNOWN}
        alone = len(set(said.values())) == 1
        differing = (
            [next(iter(said.values()))]
            if alone
            else [f"`{_short(k)}`: {v}" for k, v in said.items()]
        )
        cells = ["<br>".join(self.papers), names, ", ".join(self.runs), "<br>".join(differing)]
        return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def index() -> str:
    """The whole index in Markdown, a heading and a table for each family."""
    rows = rows_by_object()
    blocks = []
    for family, title in FAMILIES.items():
        lines = lines_of(family, rows)
        if lines:
            table = "\n".join(line.markdown(family) for line in lines)
            blocks.append(f"## {title}\n\n{HEADING}\n{table}\n")
    return "\n" + "\n".join(blocks) + "\n"


def lines_of(family: str, rows: dict[int, list[str]]) -> list[Line]:
    """The lines of a family: what the image scripts offer first, in their order."""
    found: dict[tuple[str, ...], Line] = {}  # by the titles of the papers
    for name, thing in documented(family).items():
        docstring = inspect.getdoc(thing) or ""
        named = papers(docstring)
        line = found.setdefault(tuple(map(_title, named)), Line(named))
        line.names.append(name)
        line.differences[name] = differences(docstring) or NONE_KNOWN
        line.runs += [f"`{row}`" for row in rows.get(id(thing), [])]
        scripts = [] if rows.get(id(thing)) else scripts_with(_short(name))
        line.runs += [script for script in scripts if script not in line.runs]
    order = [f"`{row}`" for names in rows.values() for row in names]
    for line in found.values():
        in_scripts = [run for run in line.runs if run in order]
        line.runs = in_scripts or _few(line.runs)
    return sorted(found.values(), key=lambda line: _place(line, order))


def documented(family: str) -> dict[str, Any]:
    """Public names with a `Paper:` section: those of the face, then those of its modules."""
    package = importlib.import_module(f"da.{family}")
    found = {f"da.{family}.{name}": getattr(package, name) for name in package.__all__}
    known = {id(thing) for thing in found.values()}
    for module in _modules(package):
        for name, thing in vars(module).items():
            own = getattr(thing, "__module__", None) == module.__name__
            if own and not name.startswith("_") and id(thing) not in known:
                found[f"{module.__name__}.{name}"] = thing
    return {
        name: thing
        for name, thing in found.items()
        if (inspect.isclass(thing) or inspect.isfunction(thing))
        and papers(inspect.getdoc(thing) or "")
    }


def rows_by_object() -> dict[int, list[str]]:
    """id of a method's class or alignment -> the names of its rows in `METHODS`."""
    from da.networks import lenet
    from da.recipes.methods import METHODS
    from da.train import Align

    rows: dict[int, list[str]] = {}
    for row, make in METHODS.items():
        method = make(lenet(10))
        alignment = getattr(method, "alignment", None) if type(method) is Align else None
        thing: Any = type(method) if alignment is None else _function(alignment)
        rows.setdefault(id(thing), []).append(row)
    return rows


def scripts_with(name: str) -> list[str]:
    """Scripts that import a name, or a module of da/recipes that imports it, as code."""
    return [f"`{script}`" for script, names in _imports().items() if name in names]


@cache
def _imports() -> dict[str, set[str]]:
    """script -> names that it imports, or that a module of `PASSED_ON` imports for it."""
    return {
        script.name: _imported(script, set())
        for script in sorted((ROOT / "experiments").glob("*.py"))
    }


def _imported(path: Path, seen: set[Path]) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        module = getattr(node, "module", None) or ""
        if isinstance(node, ast.ImportFrom) and module.startswith("da."):
            names |= {alias.name for alias in node.names}
            file = ROOT / f"{module.replace('.', '/')}.py"
            if PASSED_ON.match(module) and file.is_file() and file not in seen:
                names |= _imported(file, seen | {file})
    return names


def _function(alignment: Any) -> Any:
    """The function inside `partial` or `FreshDraws`."""
    while isinstance(alignment, partial):
        alignment = alignment.func
    inner = [v for v in vars(alignment).values() if inspect.isfunction(v)]
    return alignment if inspect.isfunction(alignment) or not inner else inner[0]


def _modules(package: ModuleType) -> list[ModuleType]:
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [importlib.import_module(module.name) for module in found]


def _place(line: Line, order: list[str]) -> tuple[int, int, str]:
    first = [order.index(run) for run in line.runs if run in order]
    return (0, min(first), "") if first else (1, 0, line.names[0].rpartition(".")[2].lower())


def _few(scripts: list[str]) -> list[str]:
    return scripts if len(scripts) <= MOST_SCRIPTS else ["many scripts"]


def _title(paper: str) -> str:
    """The title's beginning in small letters: what follows it may name an equation."""
    return paper.partition(": ")[2][:40].lower()


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _cell(text: str) -> str:
    """Text without the sign that ends a cell."""
    return re.sub(r"\s+", " ", text).replace("|", "&#124;") if text else ""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    made = before + MARKS[0] + index() + MARKS[1] + after
    if check and made != text:
        sys.exit(f"error: {PAGE} differs from the docstrings; run python docs/make_index.py")
    if not check:
        PAGE.write_text(made, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {made.count('](api/')} names")


if __name__ == "__main__":
    main()
