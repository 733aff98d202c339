"""From a script's flags to a table: what every script in experiments/ shares.

A script is a frozen dataclass of flags (a subclass of `CommonFlags`; the defaults are the recipe)
and a function that builds the work of one cell: a `Job` that trains a network, a `ShallowJob`, or
anything else that can fill a run. `main` parses the command line, carries out every cell (method,
task, seed) that has no result yet, and prints the table from the records.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import tyro

from da.arrays import NonFiniteError
from da.data.benchmarks import Benchmark
from da.data.progress import Progress
from da.networks.network import Network
from da.recipes.flags import CommonFlags, Flags, configuration, defaults_of
from da.recipes.job import Cell, Work
from da.recipes.tasks import FlagsType, Tasks, columns_of, fetch
from da.records.reading import read_runs
from da.records.record import Record
from da.records.run import Run
from da.records.table import Table
from da.records.table_text import to_csv, to_text
from da.records.wandb_mirror import log_table
from da.train.engine import launch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


Build = Callable[[FlagsType, Cell], Work]
Describe = Callable[[FlagsType, Cell], Mapping[str, Any]]


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
) -> None:
    """Run a script: parse the command line, fill the table and print it.

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

    Raises:
        SystemExit: Flags or data are wrong, or a cell fails; the message says what to do.

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
    try:
        flags = _parsed(flags_type)
        columns = columns_of(flags, benchmark, tasks)
        if flags.smoke_test:
            columns = columns[:1]
        elif flags.download and benchmark is not None:
            fetch(benchmark, flags)
        fabric = _start(flags)
    except (ValueError, OSError) as error:
        _stop(error)
    cells = [
        Cell(method, source, target, seed)
        for source, target in columns
        for seed in flags.seeds
        for method in flags.loss
    ]
    directories = [
        run_cell(flags, experiment, cell, build, describe, fabric)
        for cell in Progress(experiment, len(cells), unit="run").over(cells)
    ]
    if fabric is None or fabric.is_global_zero:
        records = _records(flags, experiment, directories)
        if table is not None:
            print(table(records))
        else:
            show(flags, records, baseline, metric, select, report)


def _parsed(flags_type: type[FlagsType]) -> FlagsType:
    """The flags of the command line, shortened for a smoke test."""
    flags = tyro.cli(flags_type, description=sys.modules["__main__"].__doc__)
    if not flags.smoke_test:
        return flags
    flags = flags.shortened()
    print(
        "smoke test: little work on embedded or made-up data; the results mean nothing. "
        f"Records: {flags.runs_dir}",
        file=sys.stderr,
    )
    return flags


def run_cell(
    flags: FlagsType,
    experiment: str,
    cell: Cell,
    build: Build,
    describe: Describe | None = None,
    fabric: Fabric | None = None,
) -> Path:
    """Carry out one cell unless its result exists; returns the run's folder.

    Args:
        flags: The flags of the script.
        experiment, cell: The names of the run.
        build, describe: See `main`.
        fabric: The engine, of scripts that train.
    """
    run: Run | None = None
    try:
        run = _start_run(flags, experiment, cell, describe, fabric)
        if fabric is not None:
            fabric.barrier()  # every process sees the folder as the first has left it
        if run.finished:
            return run.directory
        torch.manual_seed(cell.seed)
        build(flags, cell).carry_out(run, flags, fabric)
    except (ValueError, OSError, NonFiniteError) as error:
        _stop(error, run)
    return run.directory


def load_network(
    network: Network, flags: FlagsType, experiment: str, cell: Cell, build: Build
) -> None:
    """Load what another cell has learned; it is trained first if it has no result.

    What is drawn afterwards is the same, whether that cell is trained now or was before.

    Args:
        network: A network of the same shape; its weights are replaced.
        flags: The flags of the script.
        experiment: The name that the records carry.
        cell: The cell whose network is wanted.
        build: See `main`.

    Raises:
        FileNotFoundError: The result was kept without the network.

    Example:
        ADDA starts from the network that row none has learned. Here the cell trains for two steps.

        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.data import ImageTransform, PairedBatches, read_digits
        >>> from da.networks import lenet
        >>> from da.recipes import Cell, DigitFlags, Job, load_network
        >>> from da.train import Align, Evaluation
        >>> def build(flags, cell):
        ...     digits, transform = read_digits("clean"), ImageTransform(16)
        ...     stream = PairedBatches(digits, digits.unlabelled(), batch_size=8, seed=cell.seed,
        ...                            transform=transform)
        ...     return Job(Align(lenet(10), None), stream, Evaluation(digits, transform))
        >>> folder = Path(tempfile.mkdtemp())
        >>> flags = DigitFlags(steps=2, runs_dir=folder, wandb="disabled")
        >>> load_network(lenet(10), flags, "toy", Cell("none", "clean", "clean", 0), build)
        >>> len(list(folder.rglob("network.pt")))
        1
    """
    own = dataclasses.replace(flags, force=False)  # forced or not, it is trained once
    with torch.random.fork_rng():
        folder = run_cell(own, experiment, cell, build, None, _start(flags))
    weights = folder / "network.pt"
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights} is gone, though its run has a result; train it again with --force"
        )
    network.load_state_dict(torch.load(weights, weights_only=True))


def show(
    flags: CommonFlags,
    records: list[Record],
    baseline: str,
    metric: str,
    select: str = "last",
    report: Callable[[list[Record]], str] | None = None,
) -> None:
    """Print the table of the records and the text under it, and repeat the table in wandb."""
    table = Table.of(records, select=select, baseline=baseline, metric=metric)
    print(to_text(table) + (report or _facts)(records))
    print(f"records: {flags.runs_dir / table.experiment}")
    columns, *rows = csv.reader(io.StringIO(to_csv(table)))
    log_table(flags.runs_dir, table.experiment, columns=columns, rows=rows, wandb=flags.wandb)


def _start(flags: CommonFlags) -> Fabric | None:
    """The engine of a script that trains; for others only the number of threads is set."""
    if isinstance(flags, Flags):
        return launch(flags)
    threads = getattr(flags, "threads", None)
    if threads is not None:
        torch.set_num_threads(threads)
    return None


def _start_run(
    flags: FlagsType,
    experiment: str,
    cell: Cell,
    describe: Describe | None,
    fabric: Fabric | None,
) -> Run:
    settings = configuration(flags) | dict(describe(flags, cell) if describe else {})
    on_gpu = fabric is not None and fabric.device.type == "cuda"
    return Run.start(
        flags.runs_dir,
        settings,
        experiment=experiment,
        method=cell.method,
        source=cell.source,
        target=cell.target,
        seed=cell.seed,
        defaults=defaults_of(flags),
        wandb=flags.wandb,
        force=flags.force,
        device=torch.cuda.get_device_name(fabric.device) if fabric and on_gpu else None,
        rank_zero=fabric is None or fabric.is_global_zero,
    )


def _records(flags: CommonFlags, experiment: str, directories: list[Path]) -> list[Record]:
    """The records of these folders alone: a folder of runs may hold other recipes beside them."""
    wanted = {directory.resolve() for directory in directories}
    found = read_runs(flags.runs_dir, experiment=experiment)
    return [record for record in found if record.directory.resolve() in wanted]


def _facts(records: list[Record]) -> str:
    """The facts in the results: the mean over seeds, a line for each fact, method and task."""
    found: dict[tuple[str, ...], list[float]] = {}
    for record in records:
        task = f"{record.result['source']}>{record.result['target']}"
        for name, value in record.result.get("facts", {}).items():
            found.setdefault((name, record.result["method"], task), []).append(value)
    lines = [
        f"{name.replace('_', ' ')} of {method} on {task}: {sum(values) / len(values):.1f}"
        for (name, method, task), values in sorted(found.items())
    ]
    return "\n\n" + "\n".join(lines) if lines else ""


def _stop(error: Exception, run: Run | None = None) -> NoReturn:
    """One message and no traceback: the message says what to do."""
    if run is not None:
        run.close(failed=True)
    sys.exit(f"error: {error}")
