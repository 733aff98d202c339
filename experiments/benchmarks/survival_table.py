"""A small table that forked processes fill, and kills at random moments.

The processes are forked from one that has loaded torch, so that a round takes seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from da.data.batches import PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature import DANN, mmd2
from da.networks.small import mlp
from da.recipes.filling import cells_of, fill
from da.recipes.flags import Flags
from da.recipes.job import Cell, Job
from da.train import Align, Evaluation
from da.train.engine import launch

LIMIT = 600.0  # seconds after which a round that has not ended counts as hanging
LIBRARIES = ("da", "torch", "lightning_fabric", "lightning_utilities", "sympy", "transformers")
METHODS: dict[str, Callable] = {
    "none": partial(Align, alignment=None),
    "mmd": partial(Align, alignment=mmd2),
    "dann": DANN,
}


@dataclass(frozen=True)
class Config(Flags):
    """A table of six short runs."""

    loss: tuple[str, ...] = tuple(METHODS)
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 20
    batch_size: int = 16
    evaluate_every: int = 5
    log_every: int = 2
    threads: int | None = 1
    accelerator: str = "cpu"  # type: ignore[assignment]
    runs_dir: Path = field(default=Path("runs"))


def domain(shift: float) -> Labelled:
    """Three classes of 20 rows each."""
    generator = torch.Generator().manual_seed(int(10 * shift))
    y = torch.arange(60) % 3
    return Labelled(torch.randn(60, 6, generator=generator) + 3 * torch.eye(3, 6)[y] + shift, y)


def build(flags: Config, cell: Cell) -> Job:
    """The work of a cell; it notes which process begins it."""
    with open(flags.runs_dir / "begun.log", "a", encoding="utf-8") as log:
        log.write(f"{cell.method} {cell.seed} {os.getpid()}\n")
    source, target = domain(0.0), domain(0.5)
    stream = PairedBatches(
        source, target.unlabelled(), batch_size=flags.batch_size, seed=cell.seed, transform=identity
    )
    method = METHODS[cell.method](mlp(6, 3, hidden=16, features=8))
    return Job(method, stream, Evaluation(target, identity, source))


def fill_table(folder: Path) -> None:
    """Fill the table in this process."""
    flags = Config(runs_dir=folder, wandb="disabled")
    cells = cells_of(flags, [("a", "b")], {})
    filled = fill(flags, "toy", cells, build, None, launch(flags))
    if filled.failures or len(filled.directories) != len(cells):
        raise RuntimeError(f"not all of {len(cells)} cells are filled: {filled.failures}")


def forked(work: Callable[[], object], said: Path) -> int:
    """Carry work out in a process of its own, whose error is its exit status; its number.

    Args:
        work: What is carried out.
        said: The file that gets what an unexpected error says.
    """
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.environ["TQDM_DISABLE"] = "1"
        sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        work()
        status = 0
    except BaseException as error:
        said.write_text(repr(error), encoding="utf-8")
    finally:
        os._exit(status)


def carry_out(work: Callable[[], object], said: Path) -> float:
    """Carry work out in a process of its own, and wait for it; the seconds that it took.

    Raises:
        RuntimeError: It ended with an error.
    """
    began = time.monotonic()
    _, status = os.waitpid(forked(work, said), 0)
    if status:
        raise RuntimeError(said.read_text(encoding="utf-8") if said.exists() else f"{status}")
    return time.monotonic() - began


def load_what_is_needed(work: Callable[[], object], folder: Path) -> None:
    """Carry work out in another process, and import here what it imported, for those forked later.

    So this process loads much and computes nothing: a copy of one that has computed may hang.
    """
    listed = folder / "modules.txt"

    def work_and_list() -> None:
        work()
        listed.write_text("\n".join(sys.modules), encoding="utf-8")

    carry_out(work_and_list, folder / "error.txt")
    for name in listed.read_text(encoding="utf-8").split():
        if name.split(".")[0] in LIBRARIES:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of every run; of env.json without what tells the time."""
    found = {}
    for path in sorted(folder.glob("*/*/*/seed*/**/*")):
        if path.is_dir() or path.name == "checksums.json":  # it has env.json's
            continue
        content = path.read_bytes()
        if path.name == "env.json":
            content = json.dumps(json.loads(content) | {"started": ""}).encode()
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def kill_at_random(
    folder: Path, processes: int, *, seed: int, kills: int, seconds: float
) -> set[int]:
    """Fill a table by several processes of which some are killed and begun again.

    Args:
        folder: The folder of the table; it must exist.
        processes: How many fill it at once.
        seed: Of the moments and the victims.
        kills: How often one is killed, at most.
        seconds: The longest time between two kills.

    Returns:
        The numbers of the processes that were killed.

    Raises:
        RuntimeError: A process that nobody killed ended with an error, or the round hangs.
    """
    chance, killed = random.Random(seed), set[int]()
    work, said = partial(fill_table, folder), folder / "error.txt"
    alive = {forked(work, said) for _ in range(processes)}
    for _ in range(kills):
        time.sleep(chance.uniform(0.0, seconds))
        alive -= _ended(alive, said)
        if not alive:
            break
        victim = chance.choice(sorted(alive))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        alive = alive - {victim} | {forked(work, said)}
        killed.add(victim)
    end = time.monotonic() + LIMIT
    while alive:
        if time.monotonic() > end:
            for process in alive:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
            raise RuntimeError(f"{len(alive)} processes have not ended in {LIMIT:.0f} s")
        alive -= _ended(alive, said)
        time.sleep(0.02)
    return killed


def _ended(alive: set[int], said: Path) -> set[int]:
    """Those processes that have ended."""
    found = {process: os.waitpid(process, os.WNOHANG) for process in alive}
    for process, (number, status) in found.items():
        if number and status:
            told = said.read_text(encoding="utf-8") if said.exists() else ""
            raise RuntimeError(f"process {process} ended with {status}: {told}")
    return {process for process, (number, _) in found.items() if number}


def begun_twice(folder: Path, killed: set[int]) -> list[str]:
    """The cells that a process began though another, which was not killed, had begun them."""
    by_cell: dict[str, list[int]] = {}
    for line in (folder / "begun.log").read_text(encoding="utf-8").splitlines():
        method, seed, process = line.split()
        by_cell.setdefault(f"{method} {seed}", []).append(int(process))
    return [
        cell
        for cell, processes in by_cell.items()
        if not set(processes[:-1]) <= killed or len(set(processes)) < len(processes)
    ]


def differing(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """The files that are missing, too many, or not equal."""
    names = found.keys() | expected.keys()
    return sorted(name for name in names if found.get(name) != expected.get(name))
