"""From a script's flags to a table: what every script in experiments/ shares.

A script is a frozen dataclass of flags (a subclass of `CommonFlags`; the defaults are the recipe)
and a function that builds the work of one cell: a `Job` that trains a network, a `ShallowJob`, or
anything else that can fill a run. `main` parses the command line, carries out every cell (method,
task, seed) that has no result yet, and prints the table from the records.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from da.data.benchmarks import Benchmark
from da.recipes.cells import Build, Describe, start_engine, stop
from da.recipes.checks import Check, check_inputs, with_data
from da.recipes.command_line import parse_flags
from da.recipes.failures import CellError, list_failures
from da.recipes.filling import cells_of
from da.recipes.flags import CommonFlags
from da.recipes.halving import filler
from da.recipes.rows import RowFlags
from da.recipes.tasks import FlagsType, Task, Tasks, columns_of, fetch
from da.records.reading import read_sound
from da.records.record import Record
from da.records.table import Table
from da.records.table_text import to_csv, to_text
from da.records.trials import DEFAULT_SCORE
from da.records.wandb_mirror import log_table
from da.train.interrupts import exit_status, interrupt_on_sigterm


def main(
    flags_type: type[FlagsType],
    *,
    experiment: str,
    benchmark: Benchmark | None,
    build: Build,
    describe: Describe | None = None,
    tasks: Tasks | None = None,
    baseline: str = "none",
    metric: str = "target_accuracy",
    select: str = "last",
    report: Callable[[list[Record]], str] | None = None,
    table: Callable[[list[Record]], str] | None = None,
    rows: Mapping[str, object] | None = None,
    check: Check | None = None,
) -> None:
    """Run a script: parse the command line, fill the table and print it.

    Weights and the data of all tasks are looked for before the first cell is begun. If a cell
    fails, the others go on: the table of what is finished is printed, and under it what failed. If
    Ctrl-C ends it, one line says what is kept. The same command then continues.

    Args:
        flags_type: The flags of the script. Their field `loss` says which rows to fill.
        experiment: The name that the records carry.
        benchmark: What is downloaded on request; its tasks are the columns. None if `tasks` is a
            function and `build` fetches its data itself.
        build: A cell -> its work. It is called for cells without a result only, after the seed was
            set.
        describe: What else, beside the flags, the result of a cell depends on: settings by name.
        tasks: The columns if neither source nor target is named; None takes all tasks of the
            benchmark. A function of the flags gives the columns whatever is named.
        baseline: The row that the others are compared with.
        metric: The figure in the table, by its name in the results.
        select: The rule by which the model of a run is selected.
        report: The text under the table, made from its records; None lists facts of the results.
        table: The text in place of the table, made from its records.
        rows: What each row is, by its name: a line, or something whose docstring begins with that
            line. `--help` lists them. None: it lists the names alone.
        check: A cell -> reads or checks its data. It is called for a cell of each column, before
            the first is begun. None: the files of the benchmark are looked for.

    Raises:
        SystemExit: Flags or data are wrong, cells failed (status 1), or Ctrl-C was pressed (status
            130) or SIGTERM came (143); the message says what to do.

    Example:
        The end of experiments/digits_mmd.py is

            main(Config, experiment="digits_mmd", benchmark=DIGITS, build=build)

        >>> import sys
        >>> from da.data import DIGITS
        >>> from da.recipes import CommonFlags, main
        >>> sys.argv = ["script.py", "--source", "clean", "--target", "upside-down"]
        >>> main(CommonFlags, experiment="toy", benchmark=DIGITS, build=None)
        Traceback (most recent call last):
        SystemExit: error: --source clean --target upside-down: no such task; ...
    """
    interrupt_on_sigterm()
    try:
        flags = parse_flags(flags_type, rows)
        columns = _columns(flags, benchmark, tasks)
        fabric = start_engine(flags)
        cells = with_data(flags, benchmark, cells_of(flags, columns, rows or {}))
        needed = partial(check_inputs, flags, benchmark, check)
        directories, failures = filler(flags)(
            flags, experiment, cells, build, describe, fabric, needed
        )
        if fabric is not None and not fabric.is_global_zero:
            return
        records, whole = _records(flags, experiment, directories), not failures
        if records or whole:
            with _as_far_as_it_goes(whole):
                show(flags, records, baseline, metric, select, report, table, whole=whole)
        if not whole:
            sys.exit(list_failures(failures, len(cells), len(directories)))
    except (ValueError, OSError, CellError) as error:
        stop(error)
    except KeyboardInterrupt as interrupt:
        print("interrupted. The same command continues.", file=sys.stderr)
        sys.exit(exit_status(interrupt))


def _columns(
    flags: FlagsType, benchmark: Benchmark | None, tasks: Tasks | None
) -> tuple[Task, ...]:
    """The columns that are asked for; their data are downloaded if that is asked for too."""
    columns = columns_of(flags, benchmark, tasks)
    if flags.smoke_test:
        return columns[:1]
    if flags.download and benchmark is not None:
        fetch(benchmark, flags)
    return columns


def show(
    flags: CommonFlags,
    records: list[Record],
    baseline: str,
    metric: str,
    select: str = "last",
    report: Callable[[list[Record]], str] | None = None,
    text: Callable[[list[Record]], str] | None = None,
    *,
    whole: bool = True,
) -> None:
    """Print the table of the records and the text under it, and repeat the table in wandb.

    A script may have a text of its own in place of both. A table that is not whole, because cells
    failed, may have rows with fewer trials than others.
    """
    if text is not None:
        print(text(records))
        return
    trials = isinstance(flags, RowFlags) and flags.trials > 1
    if isinstance(flags, RowFlags):
        select = flags.select or (DEFAULT_SCORE if trials else select)
    table = Table.of(
        records,
        select=select,
        baseline=baseline,
        metric=metric,
        trials=trials,
        unequal_budgets=not whole,
    )
    print(to_text(table) + (report or _facts)(records))
    print(f"records: {flags.runs_dir / table.experiment}")
    columns, *rows = csv.reader(io.StringIO(to_csv(table)))
    log_table(flags.runs_dir, table.experiment, columns=columns, rows=rows, wandb=flags.wandb)


@contextmanager
def _as_far_as_it_goes(whole: bool) -> Iterator[None]:
    """Inside, a table or report that needs the cells that failed is one line."""
    try:
        yield
    except Exception as error:
        if whole:
            raise
        print(f"there is no table of the finished runs alone: {error}")


def _records(flags: CommonFlags, experiment: str, directories: list[Path]) -> list[Record]:
    """The records of these folders alone: a folder of runs may hold other recipes beside them."""
    wanted = {directory.resolve() for directory in directories}
    found, _ = read_sound(flags.runs_dir, experiment=experiment)  # those of `wanted` are sound
    return [record for record in found if record.directory.resolve() in wanted]


def _facts(records: list[Record]) -> str:
    """The facts in the results: the mean over seeds, a line for each fact, method and task."""
    found: dict[tuple[str, ...], list[float]] = {}
    for record in records:
        for name, value in record.result.get("facts", {}).items():
            found.setdefault((name, record.result["method"], record.task), []).append(value)
    lines = [
        f"{name.replace('_', ' ')} of {method} on {task}: {sum(values) / len(values):.1f}"
        for (name, method, task), values in sorted(found.items())
    ]
    return "\n\n" + "\n".join(lines) if lines else ""
