"""A table of small heads is filled by groups of runs that take their steps together.

The runs of one row and trial, over all tasks and seeds, are a group for `da.train.fit_stacked`.
Every run has the record that it would have alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from da.arrays.matrices import NonFiniteError
from da.recipes.cells import Build, Describe, start_engine, start_run, with_settings
from da.recipes.failures import cell_error
from da.recipes.job import Cell, Job
from da.recipes.launchers import in_processes
from da.recipes.tasks import FlagsType
from da.records.claim import BusyError
from da.train.members import Member
from da.train.stacked import fit_stacked

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Ended = tuple[Cell, Path | Exception]


def fill_stacked(
    flags: FlagsType, experiment: str, cells: list[Cell], build: Build, describe: Describe | None
) -> Iterator[Ended]:
    """Carry out cells in groups, with `flags.processes` groups at once.

    Args:
        flags: The flags of the script; `at_once` says how many runs take their steps together.
        experiment, build, describe: See `da.recipes.main`.
        cells: What to carry out.

    Returns:
        Each cell with its folder, or with the error that ended it: a loss that was not finite, or a
        run that another process fills.
    """
    parts = groups_of(cells)
    calls = [(flags, experiment, part, build, describe) for part in parts]
    if flags.processes == 1 or len(parts) == 1:
        for part, call in zip(parts, calls, strict=True):
            yield from zip(part, carry_out_group(*call), strict=True)
        return
    for number, ended in in_processes(_in_worker, calls, processes=flags.processes):
        yield from zip(parts[number], ended, strict=True)


def groups_of(cells: list[Cell]) -> list[list[Cell]]:
    """The cells of one row and recipe together, over tasks and seeds."""

    def kind(cell: Cell) -> str:
        return repr((cell.method, cell.recipe, cell.settings))

    return [list(group) for _, group in groupby(sorted(cells, key=kind), key=kind)]


def carry_out_group(
    flags: FlagsType,
    experiment: str,
    cells: list[Cell],
    build: Build,
    describe: Describe | None,
) -> list[Path | Exception]:
    """Carry out one group; what is finished is left alone, and what trains no head runs alone."""
    fabric = start_engine(flags)
    ended: list[Path | Exception] = []
    members: dict[int, Member] = {}
    for number, cell in enumerate(cells):
        try:
            folder, member = _begin(flags, experiment, cell, build, describe, fabric)
        except BusyError as error:
            ended.append(error)
            continue
        except Exception as error:  # of this cell's data, for example
            ended.append(cell_error(error))
            continue
        ended.append(folder)
        if member is not None:
            members[number] = member
    try:
        outcomes: Sequence[object] = fit_stacked(
            list(members.values()), fabric=fabric, at_once=getattr(flags, "at_once", 1)
        )
    except BusyError as error:  # this process slept, and another has taken a run over
        outcomes = [each.run.finished or error for each in members.values()]
    for number, outcome in zip(members, outcomes, strict=True):
        if isinstance(outcome, NonFiniteError | BusyError):
            ended[number] = outcome
            members[number].run.close(failed=True)
    return ended


def _begin(
    flags: FlagsType,
    experiment: str,
    cell: Cell,
    build: Build,
    describe: Describe | None,
    fabric: Fabric | None,
) -> tuple[Path, Member | None]:
    """The folder of a cell, and the member of its group that it becomes if it has no result."""
    own = with_settings(flags, cell)
    run = start_run(own, experiment, cell, describe, fabric)
    if run.finished:
        return run.directory, None
    try:
        torch.manual_seed(cell.seed)
        job = build(own, cell)
        if not isinstance(job, Job):
            job.carry_out(run, own, fabric)
            return run.directory, None
    except BaseException:
        run.close(failed=True)  # others may have it
        raise
    return run.directory, Member(job.method, job.stream, own, run, job.scored, job.facts)  # type: ignore[arg-type]


def _in_worker(
    flags: FlagsType,
    experiment: str,
    cells: list[Cell],
    build: Build,
    describe: Describe | None,
) -> list[Path | Exception]:
    """Carry a group out in a process without a bar of its own."""
    os.environ["TQDM_DISABLE"] = "1"
    return carry_out_group(flags, experiment, cells, build, describe)
