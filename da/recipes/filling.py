"""A table is filled: cell by cell in this process, or by several processes at once.

A run's folder is claimed by one process at a time (`da.records.run`). So two commands on one folder
of runs share the work too, and a process that was killed leaves its cell to the others.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from da.data.progress import Progress, say
from da.recipes.cells import Build, Describe, finished_cells, run_cell, start_engine
from da.recipes.failures import CellError, Failure, cell_error
from da.recipes.flags import CommonFlags
from da.recipes.job import Cell
from da.recipes.launchers import in_processes, on_ray, on_slurm, with_absolute_paths
from da.recipes.rows import RowFlags
from da.recipes.stacked_filling import Ended, fill_stacked
from da.recipes.tasks import FlagsType, Task
from da.recipes.trials import check_recipes, recipe_cells
from da.records.claim import BusyError
from da.train.interrupts import exit_status

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WAIT = 1.0  # seconds before a cell that another process has is looked at again


class Filled(NamedTuple):
    """What became of the cells of a table.

    Attributes:
        directories: The folders of those that have a result.
        failures: Those that failed.
    """

    directories: list[Path]
    failures: list[Failure]


def cells_of(flags: FlagsType, columns: Iterable[Task], rows: Mapping[str, object]) -> list[Cell]:
    """List the cells of a table, column by column; a row with several trials has a cell for each.

    Raises:
        ValueError: --recipe or --trials asks for what a row does not have.
    """
    cells = [
        Cell(method, source, target, seed)
        for source, target in columns
        for seed in flags.seeds
        for method in flags.loss
    ]
    if not isinstance(flags, RowFlags):
        return cells
    check_recipes(flags.recipe, flags.loss)
    # A script that does not say what its rows are has one recipe a row.
    return [each for cell in cells for each in recipe_cells(cell, flags, rows.get(cell.method, ""))]


def fill(
    flags: FlagsType,
    experiment: str,
    cells: list[Cell],
    build: Build,
    describe: Describe | None,
    fabric: Fabric | None,
    check: Callable[[Sequence[Cell]], None] | None = None,
) -> Filled:
    """Carry out every cell that has no result. If one fails, the others go on.

    Args:
        flags: The flags of the script; `processes` says how many cells are carried out at once.
        experiment, build, describe: See `main`.
        cells: What to fill.
        fabric: The engine, of scripts that train.
        check: Gets the cells without a result, before the first of them is begun, and raises if
            something that they need is missing. Default None: nothing is checked.

    Returns:
        The folders of all cells with a result, and what failed.

    Raises:
        CellError: A cell failed that several devices carried out together.
    """
    leading = fabric is None or fabric.is_global_zero
    done = set() if flags.force else set(finished_cells(flags, experiment, cells, describe))
    if done and leading:
        print(
            f"already finished: {len(done)} of {len(cells)} runs (--force runs them again)",
            file=sys.stderr,
        )
    if check is not None:
        check([cell for cell in cells if cell not in done])
    stacked = getattr(flags, "at_once", 1) > 1 and flags.launcher == "local"
    several = flags.processes > 1 and len(cells) > 1 and (fabric is None or fabric.world_size == 1)
    if stacked:
        ended = _stacked(flags, experiment, cells, build, describe, fabric)
    elif several or flags.launcher != "local":
        ended = _at_once(flags, experiment, cells, build, describe)
    else:
        ended = _one_by_one(flags, experiment, cells, build, describe, fabric)
    directories: dict[Cell, Path] = {}
    failures: list[Failure] = []
    try:
        with Progress(experiment, len(cells), unit="run", hidden=not leading) as progress:
            _collect(ended, directories, failures, progress)
    except KeyboardInterrupt as interrupt:
        if leading:
            print(_interrupted(interrupt, flags, cells, done | set(directories)), file=sys.stderr)
        # Only the first process tells. Lightning kills it if another ends with a status before it.
        sys.exit(exit_status(interrupt) if leading else 0)
    except (ValueError, OSError) as error:  # of what carries cells out, such as a killed process
        failures.append(Failure(None, str(cell_error(error))))
    return Filled([directories[cell] for cell in cells if cell in directories], failures)


def _collect(
    ended: Iterator[Ended],
    directories: dict[Cell, Path],
    failures: list[Failure],
    progress: Progress,
) -> None:
    """Note each cell as it ends, until one fails for a reason that all others share."""
    for cell, outcome in ended:
        progress.advance()
        if isinstance(outcome, Path):
            directories[cell] = outcome
            continue
        failures.append(Failure(cell, str(outcome)))
        if (progress.total or 0) > 1:
            progress.say(f"failed: {failures[-1].title}: {outcome}")
        if isinstance(outcome, CellError) and outcome.final:
            break


def _one_by_one(
    flags: FlagsType,
    experiment: str,
    cells: list[Cell],
    build: Build,
    describe: Describe | None,
    fabric: Fabric | None,
) -> Iterator[Ended]:
    """Carry cells out here; one that another process has comes last, when it is free."""
    waiting, told = list(cells), False
    while waiting:
        busy = []
        for cell in waiting:
            try:
                outcome: Path | Exception = run_cell(
                    flags, experiment, cell, build, describe, fabric
                )
            except BusyError as error:
                busy.append(cell)
                reason = str(error)
                continue
            except CellError as error:
                if fabric is not None and fabric.world_size > 1:
                    raise  # the other processes may be waiting for this one
                outcome = cell_error(error)  # without the frames, which hold on to the network
            yield cell, outcome
        if len(busy) == len(waiting):
            if not told and (fabric is None or fabric.is_global_zero):
                say(f"waiting for {len(busy)} runs: {reason}")
            told = True
            time.sleep(WAIT)
        waiting = busy


def _stacked(
    flags: FlagsType,
    experiment: str,
    cells: list[Cell],
    build: Build,
    describe: Describe | None,
    fabric: Fabric | None,
) -> Iterator[Ended]:
    """Carry groups of cells out; those that another process has come last, one by one."""
    busy = []
    for cell, outcome in fill_stacked(flags, experiment, cells, build, describe):
        if isinstance(outcome, BusyError):
            busy.append(cell)
        else:
            yield cell, outcome
    yield from _one_by_one(flags, experiment, busy, build, describe, fabric)


def _at_once(
    flags: FlagsType,
    experiment: str,
    cells: list[Cell],
    build: Build,
    describe: Describe | None,
) -> Iterator[Ended]:
    """Carry several cells out at once, where the flags say; see `da.recipes.launchers`."""
    if flags.launcher != "local":
        flags = with_absolute_paths(flags)
    elif getattr(flags, "threads", 1) is None:  # each process has its share
        share = max(1, (os.cpu_count() or 1) // flags.processes)
        flags = dataclasses.replace(flags, threads=share)  # type: ignore[call-arg]
    calls = [(flags, experiment, cell, build, describe) for cell in cells]
    if flags.launcher == "ray":
        ended = on_ray(_in_worker, calls, threads=getattr(flags, "threads", None) or 1)
    elif flags.launcher == "slurm":
        folder = flags.runs_dir / experiment / "slurm"
        ended = on_slurm(_in_worker, calls, folder=folder, options=flags.slurm)
    else:
        ended = in_processes(_in_worker, calls, processes=flags.processes)
    busy = []
    for number, outcome in ended:
        if isinstance(outcome, BusyError):
            busy.append(cells[number])
        else:
            yield cells[number], outcome
    if busy:  # nearly all of them are finished by now
        yield from _one_by_one(flags, experiment, busy, build, describe, start_engine(flags))


def _in_worker(
    flags: FlagsType, experiment: str, cell: Cell, build: Build, describe: Describe | None
) -> Path | Exception:
    """Carry one cell out, without a bar of its own; here, one that another process has is told."""
    os.environ["TQDM_DISABLE"] = "1"
    fabric = start_engine(flags)
    if flags.launcher != "local":  # nobody else could carry it out there
        ((_, outcome),) = _one_by_one(flags, experiment, [cell], build, describe, fabric)
        return outcome
    try:
        return run_cell(flags, experiment, cell, build, describe, fabric)
    except BusyError as error:
        return error
    except CellError as error:
        return cell_error(error)


def _interrupted(
    interrupt: KeyboardInterrupt, flags: CommonFlags, cells: list[Cell], done: set[Cell]
) -> str:
    """One line: what is kept of the run that was going on, which are done, and how to go on."""
    every, finished = Counter(c.method for c in cells), Counter(c.method for c in done)
    by_row = ", ".join(f"{row} {count} of {every[row]}" for row, count in finished.items())
    sentences = [
        "interrupted",
        *getattr(interrupt, "__notes__", ()),
        f"{len(done)} of {len(cells)} runs are finished" + (f" ({by_row})" if done else ""),
        f"The same command{' without --force' if flags.force else ''} continues",
    ]
    return ". ".join(sentences) + "."
