"""The columns of a table: tasks of a benchmark, chosen by flags, and the data they need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from da.data.benchmarks import Benchmark
from da.data.downloading import download
from da.recipes.flags import CommonFlags

FlagsType = TypeVar("FlagsType", bound=CommonFlags)
Task = tuple[str, str]
Tasks = Iterable[Task] | Callable[[FlagsType], Iterable[Task]]


def choose_tasks(tasks: Iterable[Task], source: str | None, target: str | None) -> tuple[Task, ...]:
    """The tasks with this source and target; None stands for any. ValueError if there is none."""
    every = tuple(tasks)
    chosen = tuple(t for t in every if source in (None, t[0]) and target in (None, t[1]))
    if not chosen:
        names = ", ".join(f"{source}>{target}" for source, target in every)
        flags = {"--source": source, "--target": target}
        asked = " ".join(f"{flag} {name}" for flag, name in flags.items() if name is not None)
        raise ValueError(f"{asked}: no such task; the tasks are {names}")
    return chosen


def fetch(benchmark: Benchmark, flags: CommonFlags) -> None:
    """Download what the data root lacks of the benchmark."""
    root = Path(flags.data_root or os.environ.get("DA_DATA") or "data")
    root.mkdir(parents=True, exist_ok=True)
    download(benchmark, root)


def columns_of(
    flags: FlagsType, benchmark: Benchmark | None, tasks: Tasks | None
) -> tuple[Task, ...]:
    """The columns of a script's table; for the arguments see `da.recipes.main`."""
    if callable(tasks):
        return tuple(tasks(flags))
    assert benchmark is not None
    if flags.source is None and flags.target is None:
        return tuple(tasks or benchmark.tasks)
    return choose_tasks(benchmark.tasks, flags.source, flags.target)
