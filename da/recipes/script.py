"""From a script's flags to a table: what every script in experiments/ shares.

A script is a frozen dataclass of flags (a subclass of `Flags`: the defaults are the recipe), a dict of what is compared, and a
function that builds one cell: `Job(method, stream, evaluation)`. `main` does the rest: parses the command line, trains every cell
(method, task, seed) that has no result yet, and prints the table from the records.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeVar

import torch
import tyro

from da.arrays import NonFiniteError
from da.data.batches import Stream
from da.data.benchmarks import Benchmark
from da.data.download import download
from da.networks.network import Network
from da.recipes.flags import CommonFlags, Flags, configuration
from da.records.run import Record, Run, read_runs
from da.records.table import Table, fill
from da.records.wandb_mirror import log_table
from da.select.scores import SCORES
from da.train.engine import launch
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.method import Method

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Cell(NamedTuple):
    """One run of a table."""

    method: str
    source: str
    target: str
    seed: int


class Job(NamedTuple):
    """What `fit` needs for one cell."""

    method: Method
    stream: Stream
    evaluation: Evaluation
    facts: Mapping[str, float] = {}  # what else the result should say, by name


FlagsType = TypeVar("FlagsType", bound=Flags)
Task = tuple[str, str]


def main(
    flags_type: type[FlagsType],
    *,
    experiment: str,
    benchmark: Benchmark | None,
    build: Callable[[FlagsType, Cell], Job],
    tasks: Iterable[Task] | Callable[[FlagsType], Iterable[Task]] | None = None,
    baseline: str = "none",
    metric: str = "target_accuracy",
    select: str = "last",
    report: Callable[[list[Record]], str] | None = None,
) -> None:
    """Runs a script: parses `sys.argv` into `flags_type`, fills the table and prints it.

    Args:
        flags_type: the script's flags; a field `loss` says which rows to fill.
        experiment: the name the records carry.
        benchmark: what is downloaded on request; its tasks are the columns. None where `build` fetches, and `tasks` is a function.
        build: a cell -> what to train; called for cells without a result only, after the seed was set.
        tasks: the columns when neither source nor target is named; none: all tasks of the benchmark. A function of the flags gives the
            columns whatever is named.
        baseline: the row that the others are compared with.
        metric: the figure in the table, as the results name it: target_r2 for a regression.
        select: whose figure it is: the last step's, or that of the step which a score or a validation set would have picked.
        report: what is printed under the table, made from its records; none: the facts of the results, a line each.
    """
    try:
        flags = tyro.cli(flags_type, description=sys.modules["__main__"].__doc__)
        if flags.smoke_test:
            flags = _shortened(flags)
        chosen = _columns(flags, benchmark, tasks)
        if flags.download and not flags.smoke_test and benchmark is not None:
            fetch(benchmark, flags)
        cells = [
            Cell(m, s, t, seed)
            for s, t in chosen[: 1 if flags.smoke_test else None]
            for seed in flags.seeds
            for m in flags.loss
        ]
        fabric = launch(flags)
    except (ValueError, OSError) as error:
        _stop(error)
    directories = fill(cells, lambda cell: run_cell(flags, experiment, cell, build, fabric))
    if fabric.is_global_zero:
        show(flags, experiment, directories, baseline, metric, select, report)


def run_cell(
    flags: FlagsType,
    experiment: str,
    cell: Cell,
    build: Callable[[FlagsType, Cell], Job],
    fabric: Fabric,
) -> Path:
    """Trains one cell unless its result exists; returns the run's folder."""
    run: Run | None = None
    try:
        run = start_run(flags, experiment, cell, fabric)
        fabric.barrier()  # every process sees the folder as the first has left it
        if run.finished:
            return run.directory
        torch.manual_seed(cell.seed)
        job = build(flags, cell)
    except (ValueError, OSError) as error:
        _stop(error, run)
    try:
        evaluation = dataclasses.replace(job.evaluation, scores=SCORES)
        fit(job.method, job.stream, flags, run, evaluation, facts=job.facts, fabric=fabric)
    except (NonFiniteError, OSError) as error:
        _stop(error, run)
    return run.directory


def start_run(flags: Flags, experiment: str, cell: Cell, fabric: Fabric) -> Run:
    """The record of one cell under the flags' configuration."""
    return Run.start(
        flags.runs_dir, configuration(flags), experiment=experiment, method=cell.method, source=cell.source, target=cell.target,
        seed=cell.seed, wandb=flags.wandb, force=flags.force, rank_zero=fabric.is_global_zero, device=device_name(fabric.device),
    )  # fmt: skip


def load_network(
    network: Network,
    flags: FlagsType,
    experiment: str,
    cell: Cell,
    build: Callable[[FlagsType, Cell], Job],
) -> None:
    """Loads into `network` what another cell of the experiment has learned, which is trained first where it has no result.

    What is drawn afterwards is the same, whether that cell is trained now or was before.

    Raises FileNotFoundError where the result was kept without the network.
    """
    own = dataclasses.replace(flags, force=False)  # forced or not, it is trained once
    with torch.random.fork_rng():
        weights = run_cell(own, experiment, cell, build, launch(flags)) / "network.pt"
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights} is gone, though its run has a result; train it again with --force"
        )
    network.load_state_dict(torch.load(weights, weights_only=True))


def device_name(device: torch.device) -> str | None:
    """The GPU's name; None for a CPU, which the record names itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def _columns(
    flags: FlagsType,
    benchmark: Benchmark | None,
    tasks: Iterable[Task] | Callable[[FlagsType], Iterable[Task]] | None,
) -> tuple[Task, ...]:
    if callable(tasks):
        return tuple(tasks(flags))
    assert benchmark is not None
    unnamed = flags.source is None and flags.target is None
    return (
        tuple(tasks or benchmark.tasks)
        if unnamed
        else choose_tasks(benchmark.tasks, flags.source, flags.target)
    )


def choose_tasks(
    tasks: tuple[Task, ...], source: str | None, target: str | None
) -> tuple[Task, ...]:
    """The tasks with this source and target, None meaning any."""
    chosen = tuple(
        task for task in tasks if source in (None, task[0]) and target in (None, task[1])
    )
    if not chosen:
        names = ", ".join(f"{s}>{t}" for s, t in tasks)
        raise ValueError(
            f"--source {source} --target {target}: no such task; the tasks are {names}"
        )
    return chosen


def show(
    flags: CommonFlags,
    experiment: str,
    directories: list[Path],
    baseline: str,
    metric: str,
    select: str = "last",
    report: Callable[[list[Record]], str] | None = None,
) -> None:
    """Prints the table of the runs in `directories`, under it what `report` makes of them, and mirrors the table to wandb."""
    wanted = {directory.resolve() for directory in directories}
    records = [
        record
        for record in read_runs(flags.runs_dir, experiment=experiment)
        if record.directory.resolve() in wanted
    ]
    table = Table.of(records, select=select, baseline=baseline, metric=metric)
    print(table.to_text() + (report or _facts)(records))
    print(f"records: {flags.runs_dir / experiment}")
    columns, *rows = csv.reader(io.StringIO(table.csv_text()))
    log_table(flags.runs_dir, experiment, columns=columns, rows=rows, wandb=flags.wandb)


def _facts(records: list[Record]) -> str:
    """What the results say beside what was measured on the target, its mean over seeds, a line for each method and task."""
    found: dict[tuple[str, ...], list[float]] = {}
    for record in records:
        for name, value in record.result.get("facts", {}).items():
            found.setdefault(
                (
                    name,
                    record.result["method"],
                    f"{record.result['source']}>{record.result['target']}",
                ),
                [],
            ).append(value)
    lines = [
        f"{name.replace('_', ' ')} of {method} on {task}: {sum(v) / len(v):.1f}"
        for (name, method, task), v in sorted(found.items())
    ]
    return "\n\n" + "\n".join(lines) if lines else ""


def _shortened(flags: FlagsType) -> FlagsType:
    """Two steps, one seed, small batches, a folder of their own."""
    runs_dir = flags.runs_dir / "smoke"
    print(
        f"smoke test: two steps on embedded or made-up data; the results mean nothing. Records: {runs_dir}",
        file=sys.stderr,
    )
    short = {
        "steps": 2,
        "batch_size": 8,
        "evaluate_every": 2,
        "log_every": 1,
        "seeds": flags.seeds[:1],
    }
    return dataclasses.replace(flags, runs_dir=runs_dir, **short)  # type: ignore[arg-type]


def fetch(benchmark: Benchmark, flags: CommonFlags) -> None:
    """Downloads what the data root lacks of the benchmark."""
    root = Path(flags.data_root or os.environ.get("DA_DATA") or "data")
    root.mkdir(parents=True, exist_ok=True)
    download(benchmark, root)


def _stop(error: Exception, run: Run | None = None) -> NoReturn:
    """One message, no traceback: what went wrong is the user's to mend, and the message says how."""
    if run is not None:
        run.close(failed=True)
    sys.exit(f"error: {error}")
