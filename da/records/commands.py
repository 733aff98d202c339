"""The commands that read records: `python -m da table | rank | pack | unpack`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from da.records import table_text
from da.records.cells import Metric, has_value, parse_condition
from da.records.command_line import INTERRUPTED, parse
from da.records.grids import aligned, piped
from da.records.packing import pack, unpack
from da.records.pages import pages_of, refresh
from da.records.published import read_published
from da.records.rankings import ranking, written
from da.records.reading import read_runs, read_sound
from da.records.record import Record
from da.records.table import Table

Folder = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class TableOptions:
    """Print the table of an experiment from its finished runs, or refresh the tables of all pages.

    For example:
        python -m da table runs --experiment digits_mmd --methods none mmd
        python -m da table experiments/records --experiment digits_mmd --format csv
        python -m da table runs --trials --select information_maximisation
        python -m da table --refresh
    """

    runs_dir: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of runs, in folders or packed."""
    experiment: str | None = None
    """Experiment to show; needed if the folder holds several."""
    select: str = "last"
    """Which model of a run counts: last, a label-free score, or oracle (reads target labels)."""
    baseline: str = "none"
    """Row that the others are compared with."""
    metric: str = Metric.name
    """Figure to show: target_accuracy, target_r2, target_mae ..., as the results hold it."""
    methods: tuple[str, ...] = ()
    """Rows to show, in this order; none: all."""
    where: tuple[str, ...] = ()
    """Keep the runs whose configuration has these values: key=value."""
    trials: bool = False
    """Choose among several configurations of a method by --select, for each task and seed."""
    unequal_budgets: bool = False
    """Show rows that were trained with unequal numbers of trials or steps."""
    format: Literal["text", "markdown", "latex", "csv"] = "text"
    """How to print it."""
    refresh: bool = False
    """Instead: make every marked table in README.md and docs/ again."""
    check: bool = False
    """As --refresh, but change nothing and fail if a table differs from the runs."""
    pages: tuple[Path, ...] = ()
    """With --refresh or --check: the pages; none: README.md and docs/."""


@dataclass(frozen=True)
class RankOptions:
    """Print how well each transferability score ranks the candidates, from finished runs.

    For example:
        python -m da rank experiments/records --experiment rank_sources
    """

    runs_dir: Folder
    """Folder of runs, in folders or packed."""
    experiment: str = "rank_sources"
    """Experiment to show."""
    format: Literal["text", "markdown"] = "text"
    """How to print it."""


@dataclass(frozen=True)
class PackOptions:
    """Pack finished runs into two text files an experiment, which git can hold.

    For example:
        python -m da pack runs --out experiments/records --experiment digits_mmd
    """

    runs_dir: Folder
    """Folder of runs; it stays as it is."""
    out: Path = Path("experiments/records")
    """Folder of the packed files; what is packed there already stays."""
    experiment: str | None = None
    """Experiment to pack; none: all."""


@dataclass(frozen=True)
class UnpackOptions:
    """Write packed runs back into folders, to the byte as they were.

    For example:
        python -m da unpack experiments/records --out runs --experiment digits_mmd
    """

    packed_dir: Folder
    """Folder of the packed files."""
    out: Path = Path("runs")
    """Folder of runs; a run that is there already is left alone."""
    experiment: str | None = None
    """Experiment to unpack; none: all."""


def table(arguments: Sequence[str]) -> None:
    """`python -m da table`."""
    options = parse(TableOptions, arguments, prog="python -m da table")
    if options.refresh or options.check:
        stale = refresh(pages_of(Path(), options.pages), _made_by, check=options.check)
        if options.check and stale:
            raise ValueError(
                f"these tables differ from the runs: {'; '.join(stale)}. "
                "Make them again with: python -m da table --refresh"
            )
        print(f"{len(stale)} tables made again" if stale else "every table is as its runs are")
        return
    print(_table(options).rstrip("\n"))


def rank(arguments: Sequence[str]) -> None:
    """`python -m da rank`."""
    print(_rank(parse(RankOptions, arguments, prog="python -m da rank")))


def pack_runs(arguments: Sequence[str]) -> None:
    """`python -m da pack`."""
    options = parse(PackOptions, arguments, prog="python -m da pack")
    written_files = pack(options.runs_dir, options.out, experiment=options.experiment)
    if not written_files:
        raise ValueError(f"runs_dir: no finished runs in {options.runs_dir}")
    print("\n".join(map(str, written_files)))


def unpack_runs(arguments: Sequence[str]) -> None:
    """`python -m da unpack`."""
    options = parse(UnpackOptions, arguments, prog="python -m da unpack")
    count = unpack(options.packed_dir, options.out, experiment=options.experiment)
    print(f"{count} runs written into {options.out}")


def matching(records: Iterable[Record], where: Sequence[str]) -> list[Record]:
    """The records whose configuration has every value in `where`.

    Args:
        records: Finished runs.
        where: Conditions as on the command line, each "key=value".

    Raises:
        ValueError: A condition has another form.
    """
    wanted = [parse_condition(text) for text in where]
    return [
        record for record in records if all(has_value(record, key, value) for key, value in wanted)
    ]


def run(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Call a command; an error of the user's becomes one line and the exit status 1.

    Ctrl-C becomes a line and the status 130.
    """
    try:
        command(arguments)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted. The same command continues.", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _table(options: TableOptions, *, strict: bool = False) -> str:
    if options.runs_dir is None:
        raise ValueError(
            "name the folder of runs, as in python -m da table runs, or use --refresh or --check"
        )
    records = matching(_read(options.runs_dir, options.experiment, strict), options.where)
    made = Table.of(
        records,
        select=options.select,
        baseline=options.baseline,
        metric=options.metric,
        methods=options.methods,
        trials=options.trials,
        unequal_budgets=options.unequal_budgets,
        published=read_published(options.runs_dir),
    )
    formats = {
        "text": table_text.to_text,
        "markdown": table_text.to_markdown,
        "latex": table_text.to_latex,
        "csv": table_text.to_csv,
    }
    return formats[options.format](made)


def _read(runs_dir: Path, experiment: str | None, strict: bool) -> list[Record]:
    """The finished runs; a damaged one is left out with a line, or is an error if `strict`."""
    if strict:
        return read_runs(runs_dir, experiment=experiment)
    records, damaged = read_sound(runs_dir, experiment=experiment)
    for line in damaged:
        print(f"left out: {line}", file=sys.stderr)
    return records


def _rank(options: RankOptions, *, strict: bool = False) -> str:
    found = ranking(_read(options.runs_dir, options.experiment, strict))
    return written(found, piped if options.format == "markdown" else aligned)


def _made_by(command: str) -> str:
    """The Markdown that a command of a marked table makes: "table FOLDER ..." or "rank ..."."""
    name, *words = [*shlex.split(command), "--format", "markdown"]
    if name == "rank":
        return _rank(parse(RankOptions, words, prog="python -m da rank"), strict=True)
    return _table(parse(TableOptions, words, prog="python -m da table"), strict=True)
