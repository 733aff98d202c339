"""Command lines made from dataclasses, by tyro: flags in named groups, and one line for an error.

tyro puts all flags of a flat dataclass into one box, and draws a box around an error. Here each
group of fields has a box of its own, under the same flag names. An error is a `ValueError` of one
line, which the caller prints.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import io
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_type_hints

import tyro

Options = TypeVar("Options")

INTERRUPTED = 130  # the exit status of a command that Ctrl-C has ended
REST = "experiment"  # the group of the fields that no other group names
# What Python or tyro says of a value, and how a command line says it.
_CLEARER = (
    (r"invalid literal for int\(\) with base 10: ", "must be an integer; got "),
    (r"could not convert string to float: ", "must be a number; got "),
    (r"no type matching (.+) could be instantiated from \[(.*)\]\.", r"must be \1; got \2"),
    (r"^Missing value for argument '(.+)'\. .*", r"\1 needs a value"),
    (r": Could not find valid parse for arguments: \[(.*)\]", r": must be other values; got \1"),
    (r"^Error parsing (-[\w/-]+): ", r"\1: "),
    (r"^Error parsing \w+: ", ""),
    (r": must be ", " must be "),
)


class Group(NamedTuple):
    """A box of flags in the help text.

    Attributes:
        says: What the flags are for, in a line.
        names: The fields. Names that the dataclass lacks are passed over.
    """

    says: str
    names: Sequence[str]


def parse(
    options_type: type[Options],
    arguments: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    description: str | None = None,
    groups: Mapping[str, Group] | None = None,
    listed: Sequence[str] = (),
) -> Options:
    """Make a dataclass of the words of a command line. `--help` prints the help and exits.

    Args:
        options_type: A dataclass whose docstrings are the help. Its field types are those that tyro
            knows.
        arguments: The words. Default None: those this process was started with.
        prog: The command's name in the help. Default None: that of this process.
        description: The text above the flags. Default None: the docstring of the dataclass.
        groups: The boxes of the help, by a one-word name. Default None: one box.
        listed: Fields whose words the description lists, so that the flags need not.

    Returns:
        The dataclass.

    Raises:
        ValueError: A flag is unknown or its value is not possible. The message is one line.

    Example:
        >>> from dataclasses import dataclass
        >>> from da.records.command_line import parse
        >>> @dataclass
        ... class Options:
        ...     steps: int = 100
        >>> parse(Options, ["--steps", "5"])
        Options(steps=5)
        >>> parse(Options, ["--step", "5"])
        Traceback (most recent call last):
        ValueError: --step is no flag; did you mean --steps? --help lists all
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    form = options_type if groups is None else _grouped(options_type, groups, listed)
    # tyro puts two empty lines before an indented one; so it gets none.
    text = description or inspect.getdoc(options_type) or ""
    with _one_line(options_type, words):
        parsed: Any = tyro.cli(
            form,
            args=words,
            prog=prog,
            # tyro puts two empty lines before an indented one; so it gets none of its own.
            description=re.sub(r"\n\n(?= )", "\n", text),
            config=(tyro.conf.OmitArgPrefixes,),
        )
    if groups is None:
        return parsed
    boxes = [getattr(parsed, box.name) for box in dataclasses.fields(parsed)]
    return options_type(**{name: value for box in boxes for name, value in vars(box).items()})


def _grouped(options_type: type, groups: Mapping[str, Group], listed: Sequence[str]) -> type:
    """A dataclass with a field for each group: a dataclass of the group's own fields."""
    types = get_type_hints(options_type, include_extras=True)
    texts = field_texts(options_type)
    fields = {field.name: field for field in dataclasses.fields(options_type)}
    named = {name for group in groups.values() for name in group.names}
    rest = Group("What belongs to this experiment.", [n for n in fields if n not in named])
    boxes = []
    for title, group in groups.items():
        own = []
        for name in (rest if title == REST else group).names:
            if name not in fields:
                continue
            words = tyro.conf.arg(
                help=texts.get(name, ""),
                metavar=f"[{name.upper()} ...]" if name in listed else None,
            )
            default = dataclasses.field(
                default=fields[name].default, default_factory=fields[name].default_factory
            )
            own.append((name, Annotated[types[name], words], default))
        if own:
            box = dataclasses.make_dataclass(title, own)
            box.__doc__ = group.says
            boxes.append((title, box))
    return dataclasses.make_dataclass(options_type.__name__, boxes)


def field_texts(options_type: type) -> dict[str, str]:
    """What the docstrings of a dataclass and its bases say of each field.

    Read are the sections "Attributes:" and the strings below fields. A subclass overrides its
    bases, and a string below a field overrides the section.
    """
    texts: dict[str, str] = {}
    for base in reversed(options_type.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        section = re.search(
            r"^Attributes:\n(.*?)(?=^\S|\Z)", inspect.getdoc(base) or "", re.DOTALL | re.MULTILINE
        )
        if section:
            entries = re.findall(
                r"^    (\w+): (.*?)(?=^    \w|\Z)", section[1], re.DOTALL | re.MULTILINE
            )
            texts |= {name: " ".join(text.split()) for name, text in entries}
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for field, below in zip(body, body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                text = ast.literal_eval(below.value)
                texts[ast.unparse(field.target)] = " ".join(text.split())
    return texts


@contextmanager
def _one_line(options_type: type, words: Sequence[str]) -> Iterator[None]:
    """Inside, an error that tyro would print in a box is a ValueError of one line."""
    if {"-h", "--help"} & set(words):
        yield
        return
    columns, said = os.environ.get("COLUMNS"), io.StringIO()
    os.environ["COLUMNS"] = "10000"  # so that no line of the box is broken
    try:
        with redirect_stderr(said):
            yield
    except SystemExit as stop:
        raise ValueError(_message(said.getvalue(), options_type, words)) from stop
    finally:
        del os.environ["COLUMNS"]
        if columns is not None:
            os.environ["COLUMNS"] = columns


def _message(box: str, options_type: type, words: Sequence[str]) -> str:
    """What a box of tyro's says first below its title, in the words of a command line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)  # without colours
    lines = [line.strip("│| ") for line in plain.splitlines() if re.search(r"\w", line)]
    _, line, *more = [*lines, "", ""]
    choice = re.match(r"invalid choice '(.*)' for argument '--([\w-]+)", line)
    if choice:
        value, name = choice[1], choice[2].replace("-", "_")
        flag = f"--{name.replace('_', '-')}"
        return not_a_choice(value, flag, _words_of(get_type_hints(options_type).get(name)))
    if line.startswith("Unrecognized options: "):
        return _unknown(line.split(": ", 1)[1].split(", ")[0], options_type, words)
    if line.startswith("Missing from"):
        says = more[1].removesuffix("(required)").strip(" .")
        return f"{more[0]} is missing: {says}. --help shows an example"
    for pattern, clearer in _CLEARER:
        line = re.sub(pattern, clearer, line)
    return line


def not_a_choice(value: str, what: str, words: Sequence[str]) -> str:
    """The error of a value that is none of the words, with those that it is like.

    Args:
        value: What was given.
        what: The flag or argument.
        words: The values that are possible.
    """
    close = difflib.get_close_matches(value, words, n=3)
    guess = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{what} must be one of {', '.join(words)}; got {value!r}{guess}"


def _words_of(annotation: Any) -> list[str]:
    """The words of the Literals in a type, wherever in it, in their order."""
    if isinstance(annotation, str):
        return [annotation]
    return [word for part in get_args(annotation) for word in _words_of(part)]


def _unknown(word: str, options_type: type, words: Sequence[str]) -> str:
    if not word.startswith("-"):
        before = words[: words.index(word)] if word in words else []
        flags = [each for each in before if each.startswith("--")]
        after = f" after {flags[-1]}" if flags else ""
        return f"{word!r}{after} is one word too many; --help shows the form of the command"
    flags = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(options_type)]  # type: ignore[arg-type]
    close = difflib.get_close_matches(word.partition("=")[0], flags, n=1)
    guess = f"; did you mean {close[0]}?" if close else ";"
    return f"{word} is no flag{guess} --help lists all"
