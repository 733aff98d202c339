"""Photographs in the user's own folders as a benchmark: what scripts with the flag --data share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from da.data.benchmarks import Benchmark
from da.data.checking import check_domain
from da.data.files.image_lists import image_files
from da.data.own_folders import LAYOUT, ClassSet, folder_benchmark
from da.recipes.class_selection import select
from da.recipes.job import Cell
from da.recipes.photographs import ImageFlags
from da.recipes.rows import Make, describe_rows
from da.recipes.tasks import Task, choose_tasks
from da.train.config import NO_RESULT

# A smoke test without a folder: three classes, fewer than the digits have.
SMOKE = Benchmark(
    name="smoke",
    title="Smoke test",
    domains={"home": None, "street": None},
    classes=("cat", "dog", "owl"),
    tasks=(("home", "street"), ("street", "home")),
    citation="",
)


@dataclass(frozen=True)
class FolderFlags(ImageFlags):
    """The flags of a script for photographs in the user's own folders.

    Example:
        >>> from da.recipes import FolderFlags
        >>> FolderFlags(data="pets").classes
        'shared'
    """

    # A record has what the folder holds, not where it is.
    data: Path | None = field(default=None, metadata=NO_RESULT)
    """Folder whose sub-folders are the domains, and theirs the classes: DATA/home/cat/1.jpg."""
    classes: ClassSet = field(default="shared", metadata=NO_RESULT)
    """Classes of the benchmark: shared: those that all domains have; union: all of them."""


def benchmark_of(flags: FolderFlags) -> Benchmark:
    """The benchmark that the flag --data names.

    Raises:
        ValueError: The flag is missing, or the folder is no benchmark.
        FileNotFoundError: There is no such folder.
    """
    if flags.data is not None:
        return _read(flags.data, flags.classes)
    if flags.smoke_test:
        return SMOKE
    raise ValueError(f"--data FOLDER is missing; {LAYOUT}")


@cache  # the folder is listed once a process, not once a run
def _read(folder: Path, classes: ClassSet) -> Benchmark:
    return folder_benchmark(folder, classes=classes)


def folder_tasks(flags: FolderFlags) -> tuple[Task, ...]:
    """The columns: all pairs of domains, or those that --source and --target name.

    A line says what the folder holds.
    """
    benchmark = benchmark_of(flags)
    columns = choose_tasks(benchmark.tasks, flags.source, flags.target)
    select(flags, benchmark.classes)
    if benchmark is not SMOKE:
        print(_said(benchmark))
    return columns


def folder_check(flags: FolderFlags, cell: Cell) -> None:
    """Look for the photographs of both domains. Raises what `check_domain` raises."""
    benchmark = benchmark_of(flags)
    for domain in (cell.source, cell.target):
        check_domain(benchmark, domain, Path(benchmark.folder).parent)


def describe_folder(rows: Mapping[str, Make]) -> Callable[[Any, Cell], dict[str, Any]]:
    """Make the function that says what a run records of its row and of its photographs.

    A run is another one if photographs were added or removed. Pass it to `main` as `describe`.

    Args:
        rows: Row -> what it stands for.
    """
    return partial(_describe, rows)


def _describe(rows: Mapping[str, Make], flags: FolderFlags, cell: Cell) -> dict[str, Any]:
    row = describe_rows(rows)(flags, cell)
    if flags.data is None:
        return row
    benchmark = benchmark_of(flags)
    photographs = {
        side: f"{benchmark.domains[domain]} sha256:{_digest(benchmark, domain)}"
        for side, domain in (("source", cell.source), ("target", cell.target))
    }
    return row | {"classes": list(benchmark.classes), "photographs": photographs}


@cache
def _digest(benchmark: Benchmark, domain: str) -> str:
    """The first digits of a SHA-256 of the names and sizes of a domain's files."""
    home = Path(benchmark.folder)
    files, _ = image_files(benchmark, domain, home.parent)
    listing = [f"{file.relative_to(home).as_posix()} {file.stat().st_size}" for file in files]
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()[:12]


def _said(benchmark: Benchmark) -> str:
    """For example "pets: home 12 images, street 9; 3 classes"."""
    counts = ", ".join(f"{domain} {count} images" for domain, count in benchmark.domains.items())
    line = f"{benchmark.title}: {counts}; {len(benchmark.classes)} classes"
    if benchmark.ignored:
        left_out = ", ".join(benchmark.ignored)
        line += f"; left out, because not every domain has them: {left_out} (--classes union)"
    return line
