"""Successive halving: at some steps the worse half of a row's trials pauses, by a label-free score.

--trials 8 --halving 50 100

Eight trials train for 50 steps, the better four of them for 100, and the better two to the end. A
trial is an ordinary run, and all of its runs up to any step are the same run. One that has paused
has a result up to there, and is continued by a command that wants more of it: the one without
--halving, for example. So what a trial has trained is never trained again.

A trial is judged by the highest value of the score up to the step. That is what a table chooses by,
so no trial that has paused would have been chosen before one that went on.

Paper:
    Jamieson, Talwalkar: Non-stochastic Best Arm Identification and Hyperparameter Optimization.
    AISTATS 2016.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from da.recipes.cells import Build, Describe, start_run, with_settings
from da.recipes.failures import Failure
from da.recipes.filling import Filled, fill
from da.recipes.job import Cell
from da.recipes.tasks import FlagsType
from da.records.reading import read_sound
from da.records.run import Run
from da.records.trials import DEFAULT_SCORE, LAST, ORACLE

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fill_by_halves(
    flags: FlagsType,
    experiment: str,
    cells: list[Cell],
    build: Build,
    describe: Describe | None,
    fabric: Fabric | None,
    check: Callable[[Sequence[Cell]], None] | None = None,
) -> Filled:
    """Carry out trials step by step of `flags.halving`, and after each go on with the better half.

    Args:
        flags: The flags of the script, `RowFlags` and `Flags`.
        experiment: The name that the records carry.
        cells: The trials of all rows, tasks and seeds; a row with one recipe is trained to its end.
        build: See `main`.
        describe: See `main`.
        fabric: The engine.
        check: See `da.recipes.filling.fill`.

    Returns:
        The folders of all cells with a result, that of a trial that has paused included, and what
        failed.

    Raises:
        ValueError: The steps or the score of the halving are wrong; the message says how.
    """
    rungs, score = check_halving(flags)
    alive = [own for own in by_row(cells).values()]
    if all(len(own) == 1 for own in alive):
        raise ValueError("halving chooses among trials: give --trials 2 or more; got 1")
    leading = fabric is None or fabric.is_global_zero
    failures: list[Failure] = []
    again = flags
    for rung in rungs:
        wanted = [cell._replace(until=rung) for own in alive if len(own) > 1 for cell in own]
        if leading and wanted:
            print(f"halving: {len(wanted)} trials up to step {rung}", file=sys.stderr)
        filled = fill(again, experiment, wanted, build, describe, fabric, check)
        failures += filled.failures
        again, check = dataclasses.replace(flags, force=False), None  # forced or not, once
        if any(failure.cell is None for failure in filled.failures):
            return Filled(filled.directories, failures)
        failed = {failure.cell for failure in filled.failures}
        values = _values(flags, experiment, [c for c in wanted if c not in failed], describe, score)
        alive = [_better_half(own, values, rung) for own in alive]
    last = [cell for own in alive for cell in own]
    filled = fill(again, experiment, last, build, describe, fabric, check)
    return Filled(_directories(flags, experiment, cells, describe), failures + filled.failures)


def filler(flags: Any) -> Callable[..., Filled]:
    """What fills a script's table: with halving, or without, as in a smoke test of few steps."""
    halved = bool(getattr(flags, "halving", ())) and not flags.smoke_test
    return fill_by_halves if halved else fill


def check_halving(flags: Any) -> tuple[tuple[int, ...], str]:
    """The steps of the halving, and the score that judges.

    Raises:
        ValueError: The steps do not ascend, no evaluation is made at one, one is not before the
            last, the score reads target labels, or runs take their steps together.
    """
    rungs = tuple(flags.halving)
    every, steps = flags.evaluate_every, flags.steps
    if list(rungs) != sorted(set(rungs)) or any(r % every or not 0 < r < steps for r in rungs):
        raise ValueError(
            f"halving must be ascending steps at which the target is evaluated: multiples of "
            f"--evaluate-every {every} below --steps {steps}; got {' '.join(map(str, rungs))}"
        )
    score = flags.select or DEFAULT_SCORE
    if score in (LAST, ORACLE) or score.startswith("target_"):
        raise ValueError(f"halving needs --select with a label-free score; got {score!r}")
    if getattr(flags, "at_once", 1) > 1:
        raise ValueError(
            "halving needs --at-once 1: runs that take their steps together keep no checkpoints; "
            f"got {flags.at_once}"
        )
    return rungs, score


def by_row(cells: Iterable[Cell]) -> dict[tuple[str, str, str, int], list[Cell]]:
    """The trials of each row, task and seed, in their order."""
    found: dict[tuple[str, str, str, int], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.method, cell.source, cell.target, cell.seed), []).append(cell)
    return found


def better_half(values: Sequence[float]) -> list[int]:
    """The places of the higher half of some values, in their order; an odd number is rounded up.

    Args:
        values: Scores; NaN is below all others. Of equal values the first counts as better.

    Example:
        >>> from da.recipes.halving import better_half
        >>> better_half([0.1, 0.9, float("nan"), 0.5, 0.5])
        [1, 3, 4]
    """
    finite = [value if math.isfinite(value) else -math.inf for value in values]
    ranked = sorted(range(len(values)), key=lambda place: -finite[place])
    return sorted(ranked[: -(-len(values) // 2)])


def _better_half(own: list[Cell], values: Mapping[Cell, float], rung: int) -> list[Cell]:
    """The trials of a row that go on. One that failed does not, if another can in its place."""
    if len(own) == 1:
        return own
    known = [values.get(cell._replace(until=rung), math.nan) for cell in own]
    kept = [own[place] for place in better_half(known)]
    return [cell for cell in kept if cell._replace(until=rung) in values]


def _values(
    flags: FlagsType,
    experiment: str,
    cells: Sequence[Cell],
    describe: Describe | None,
    score: str,
) -> dict[Cell, float]:
    """The highest value of a score that each run has logged until it was to pause."""
    runs, _ = read_sound(flags.runs_dir, experiment=experiment)
    records = {record.directory: record for record in runs}
    found = {}
    for cell in cells:
        directory = _run(flags, experiment, cell, describe).directory
        lines = records[directory].metrics()
        until = cell.until or math.inf
        logged = [line[score] for line in lines if score in line and line["step"] <= until]
        if not logged:
            names = sorted({name for line in lines for name in line} - {"step"})
            raise ValueError(
                f"{directory} has logged no {score!r} that halving could choose by; it has "
                f"{', '.join(names)}"
            )
        found[cell] = max((v for v in logged if math.isfinite(v)), default=math.nan)
    return found


def _run(flags: FlagsType, experiment: str, cell: Cell, describe: Describe | None) -> Run:
    """The run of a cell, looked at and not begun."""
    own = with_settings(flags, cell)
    return start_run(own, experiment, cell, describe, None, writes=False)


def _directories(
    flags: FlagsType, experiment: str, cells: Iterable[Cell], describe: Describe | None
) -> list[Path]:
    """The folders of the cells that have a result, whether they have paused or not."""
    runs = [_run(flags, experiment, cell, describe) for cell in cells]
    return [run.directory for run in runs if run.finished]
