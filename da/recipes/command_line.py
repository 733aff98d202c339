"""The command line of a script: its flags in groups, and a line on each row of the table."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import sys
import textwrap
from collections.abc import Mapping
from functools import partial
from typing import Any

from da.recipes.tasks import FlagsType
from da.records.command_line import REST, Group, parse
from da.train.config import TrainConfig

_MACHINE = (
    "precision",
    "accelerator",
    "devices",
    "sync_batch_norm",
    "threads",
    "workers",
    "processes",
    "launcher",
    "slurm",
)
_TRAINING = [f.name for f in dataclasses.fields(TrainConfig) if f.name not in _MACHINE]
# The boxes of `--help`. The flags that one script or its recipe adds are in the second.
GROUPS = {
    "comparison": Group(
        "What is compared: the rows of the table, and its columns (a source and a target).",
        (
            "loss",
            "source",
            "target",
            "source_classes",
            "target_classes",
            "threshold",
            "percent",
            "seeds",
        ),
    ),
    REST: Group("What belongs to this experiment alone.", ()),
    "data": Group(
        "Where the data sets come from, and how they are read.",
        ("data", "classes", "data_root", "download", "stored_size", "image_size", "augmentation"),
    ),
    "training": Group("How the network is trained.", _TRAINING),
    "machine": Group("What it runs on.", _MACHINE),
    "recording": Group("What is kept, and where.", ("runs_dir", "wandb", "force", "smoke_test")),
}


def parse_flags(flags_type: type[FlagsType], rows: Mapping[str, object] | None = None) -> FlagsType:
    """Make the flags of a script of the words it was started with, shortened for a smoke test.

    Args:
        flags_type: The flags of the script.
        rows: See `da.recipes.main`.

    Returns:
        The flags.

    Raises:
        ValueError: A flag is unknown, or its value is not possible.
    """
    flags = parse(
        flags_type,
        description=_header() + (_listed(rows) if rows else ""),
        groups=GROUPS,
        listed=("loss",) if rows else (),
    )
    if not flags.smoke_test:
        return flags
    flags = flags.shortened()
    print(
        "smoke test: little work on embedded or made-up data; the results mean nothing. "
        f"Records: {flags.runs_dir}",
        file=sys.stderr,
    )
    return flags


def row_line(row: object) -> str:
    """What a row of a table is, in one line.

    Args:
        row: A text, which is the line; a function, a class or an object, whose docstring begins
            with the line; or a partial of `da.train.Align`, of which the alignment counts.

    Returns:
        The line.

    Example:
        >>> from da.recipes.command_line import row_line
        >>> from da.recipes.methods import METHODS
        >>> row_line(METHODS["coral"])
        'Measure how far apart the covariances of two samples are.'
    """
    if isinstance(row, str):
        return row
    if isinstance(row, partial):
        if "alignment" not in row.keywords:
            own = " ".join(name for name, value in row.keywords.items() if value is True)
            return row_line(row.func) + (f" With {own}." if own else "")
        if row.keywords["alignment"] is not None:
            return row_line(row.keywords["alignment"])
        domain = row.keywords.get("batch_statistics") == "domain"
        with_statistics = ", with the batch statistics of each domain" if domain else ""
        return f"Train on the source alone{with_statistics}."
    if hasattr(row, "adapter") and hasattr(row, "estimator"):
        return _describe_estimator(row)
    documented = row if inspect.isroutine(row) or inspect.isclass(row) else type(row)
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def _describe_estimator(row: Any) -> str:
    """The line of a `DomainAdaptationClassifier`: how it adapts, and what it trains."""
    adapts = row.adapter or row.weigher
    line = row_line(adapts) if adapts else "Train on the source alone."
    estimator = row.estimator or row._default()
    return f"{line} Then {type(estimator).__name__}."


def _listed(rows: Mapping[str, object]) -> str:
    """The rows, each with a line, as wide as the terminal."""
    name_width = max(map(len, rows)) + 2
    lines = [
        textwrap.fill(
            f"    {name:{name_width}}{row_line(row)}",
            width=shutil.get_terminal_size().columns,
            subsequent_indent=" " * (name_width + 4),
        )
        for name, row in rows.items()
    ]
    return "\n\nThe rows that --loss can name are\n" + "\n".join(lines)


def _header() -> str:
    """The docstring of the script."""
    return (sys.modules["__main__"].__doc__ or "").rstrip()
