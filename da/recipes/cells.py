"""One cell of a table after the other: each is skipped, begun, continued or interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from da.networks.network import Network
from da.recipes.failures import cell_error, constant_memory
from da.recipes.flags import CommonFlags, Flags, configuration, defaults_of
from da.recipes.job import Cell, Job, Work
from da.recipes.rows import RowFlags
from da.recipes.tasks import FlagsType
from da.records.checksums import check_file
from da.records.claim import BusyError
from da.records.paused import pauses_before, take_up
from da.records.run import Run
from da.train.checkpoint import kept_step
from da.train.engine import first_decides, launch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Build = Callable[[FlagsType, Cell], Work]
Describe = Callable[[FlagsType, Cell], Mapping[str, Any]]


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

    Raises:
        CellError: The cell failed; what it has written is kept.
        BusyError: Another process fills the cell.
    """
    flags = with_settings(flags, cell)
    run: Run | None = None
    work: Work | None = None
    try:
        run = begin_run(flags, experiment, cell, describe, fabric)
        if run.finished:
            return run.directory
        torch.manual_seed(cell.seed)
        work = build(flags, cell)
        if cell.until is not None and isinstance(work, Job) and isinstance(flags, Flags):
            work.carry_out_until(run, flags, fabric, until=cell.until)
        else:
            work.carry_out(run, flags, fabric)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left to close may take a while
            if run is not None:
                error.add_note(_kept(run, flags))
        if run is not None:
            with contextlib.suppress(OSError):  # a full disk says so a second time
                run.close(failed=True)
        if not isinstance(error, Exception) or isinstance(error, BusyError):
            raise
        constant = constant_memory(work.method) if isinstance(work, Job) else 0.0
        raise cell_error(error, getattr(flags, "batch_size", None), constant) from error
    return run.directory


def load_network(
    network: Network,
    flags: FlagsType,
    experiment: str,
    cell: Cell,
    build: Build,
    describe: Describe | None = None,
) -> None:
    """Load what another cell has learned; it is trained first if it has no result.

    It is trained with the flags as the user gave them. Settings of training that are of the recipe
    of the cell that starts from it do not count.

    What is drawn afterwards is the same, whether that cell is trained now or was before.

    Args:
        network: A network of the same shape; its weights are replaced.
        flags: The flags of the script.
        experiment: The name that the records carry.
        cell: The cell whose network is wanted.
        build: See `main`.
        describe: See `main`.

    Raises:
        FileNotFoundError: The result was kept without the network.
        ValueError: The network is damaged.
        CellError: That cell failed.

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
    # Forced or not, it is trained once.
    own = dataclasses.replace(flags.as_given or flags, force=False)
    with torch.random.fork_rng():
        folder = run_cell(own, experiment, cell, build, describe, start_engine(flags))
    weights = folder / "network.pt"
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights} is gone, though its run has a result. Remove its folder, and the same "
            "command trains it again"
        )
    check_file(weights)
    network.load_state_dict(torch.load(weights, weights_only=True))


def finished_cells(
    flags: FlagsType,
    experiment: str,
    cells: Iterable[Cell],
    describe: Describe | None = None,
) -> list[Cell]:
    """The cells that have a result already. Nothing is written; arguments as of `run_cell`."""
    found = []
    for cell in cells:
        own = with_settings(flags, cell)
        run = start_run(own, experiment, cell, describe, None, writes=False)
        if run.finished and not paused(run, cell):
            found.append(cell)
    return found


def paused(run: Run, cell: Cell) -> bool:
    """Whether a run has a result, but has paused before the step that the cell wants."""
    return run.finished and pauses_before(run.result(), cell.until)


def with_settings(flags: FlagsType, cell: Cell) -> FlagsType:
    """The flags with the settings of training that the cell's recipe has."""
    if not cell.settings:
        return flags
    own = dataclasses.replace(flags, **dict(cell.settings))
    object.__setattr__(own, "as_given", flags)  # for cells that this one starts from
    return own


def start_engine(flags: CommonFlags) -> Fabric | None:
    """The engine of a script that trains; for others only the number of threads is set."""
    if isinstance(flags, Flags):
        return launch(flags)
    threads = getattr(flags, "threads", None)
    if threads is not None:
        torch.set_num_threads(threads)
    return None


def begin_run(
    flags: FlagsType,
    experiment: str,
    cell: Cell,
    describe: Describe | None,
    fabric: Fabric | None,
) -> Run:
    """Begin or find the run of a cell in every process; what ends the first one ends all."""
    begun: list[Run] = []

    def begin() -> None:
        run = start_run(flags, experiment, cell, describe, fabric)
        if paused(run, cell):  # a packed run has no checkpoint to go on from, and begins again
            again = dataclasses.replace(flags, force=flags.force or not take_up(run, cell.until))
            run = start_run(again, experiment, cell, describe, fabric)
        begun.append(run)

    if fabric is None:
        begin()
    else:
        first_decides(fabric, begin)
    # The others see what the first one has left.
    return begun[0] if begun else start_run(flags, experiment, cell, describe, fabric)


def start_run(
    flags: FlagsType,
    experiment: str,
    cell: Cell,
    describe: Describe | None,
    fabric: Fabric | None,
    *,
    writes: bool = True,
) -> Run:
    """Begin or find the run of a cell. With `writes` False nothing is written or claimed."""
    settings = configuration(flags, cell.method) | dict(describe(flags, cell) if describe else {})
    usual = None
    if describe is not None and isinstance(flags, RowFlags):
        usual = describe(type(flags)(), cell.usual)
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
        usual=usual,
        data=cell.data,
        wandb=flags.wandb,
        force=flags.force and writes,
        device=torch.cuda.get_device_name(fabric.device) if fabric and on_gpu else None,
        rank_zero=writes and (fabric is None or fabric.is_global_zero),
    )


def stop(error: Exception) -> NoReturn:
    """One message and no traceback: the message says what to do."""
    sys.exit(f"error: {error}")


def _kept(run: Run, flags: CommonFlags) -> str:
    """What an interrupted run continues from."""
    step = kept_step(run.directory)
    if not step or not isinstance(flags, Flags):
        return f"{run.title} has no checkpoint yet and begins again"
    return f"{run.title} is kept up to step {step} of {flags.steps}"
