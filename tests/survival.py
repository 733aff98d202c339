"""A small table that forked processes fill, and kills at random moments.

The processes are forked from one that has loaded torch, so that hundreds of rounds take minutes.
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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from da.data.batches import PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature import DANN, coral, mmd2
from da.networks.small import mlp
from da.recipes.filling import cells_of, fill
from da.recipes.flags import Flags
from da.recipes.job import Cell, Job
from da.train.align import Align
from da.train.engine import launch
from da.train.evaluation import Evaluation

ROUNDS = int(os.environ.get("DA_ROUNDS", "3"))  # of each kind; the page on reliability ran more
METHODS = {
    "none": lambda network: Align(network, None),
    "mmd": lambda network: Align(network, mmd2),
    "coral": lambda network: Align(network, coral),
    "dann": DANN,
}


@dataclass(frozen=True)
class Config(Flags):
    """A table of 12 short runs."""

    loss: tuple[str, ...] = tuple(METHODS)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 40
    batch_size: int = 16
    evaluate_every: int = 10
    log_every: int = 5
    threads: int | None = 1
    accelerator: str = "cpu"  # type: ignore[assignment]
    runs_dir: Path = field(default=Path("runs"))


def domain(shift: float) -> Labelled:
    generator = torch.Generator().manual_seed(int(10 * shift))
    y = torch.arange(120) % 3
    return Labelled(torch.randn(120, 6, generator=generator) + 3 * torch.eye(3, 6)[y] + shift, y)


def build(flags: Config, cell: Cell) -> Job:
    with open(flags.runs_dir / "begun.log", "a") as log:
        log.write(f"{cell.method} {cell.seed} {os.getpid()}\n")
    source, target = domain(0.0), domain(0.5)
    stream = PairedBatches(
        source, target.unlabelled(), batch_size=flags.batch_size, seed=cell.seed, transform=identity
    )
    return Job(METHODS[cell.method](mlp(6, 3, hidden=16, features=8)), stream,
               Evaluation(target, identity, source))  # fmt: skip


def fill_table(folder: Path) -> None:
    """Fill the table in this process."""
    flags = Config(runs_dir=folder, wandb="disabled")
    cells = cells_of(flags, [("a", "b")], {})
    filled = fill(flags, "toy", cells, build, None, launch(flags))
    assert not filled.failures, filled.failures
    assert len(filled.directories) == len(cells)


def forked(work: Callable[[], None]) -> int:
    """Carry work out in a process of its own, whose error is its exit status; its number."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.environ["TQDM_DISABLE"] = "1"
        sys.stderr = open(os.devnull, "w")
        work()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:
        Path(f"/tmp/survival-{os.getpid()}.txt").write_text(repr(error))
    finally:
        os._exit(status)


def load_what_is_needed(folder: Path) -> None:
    """Fill a table in another process, and import here what it imported, for those forked later."""
    listed = folder.with_name(folder.name + ".modules")

    def work() -> None:
        fill_table(folder)
        listed.write_text("\n".join(sys.modules))

    assert os.waitpid(forked(work), 0)[1] == 0
    for name in listed.read_text().split():
        if name.split(".")[0] in (
            "da",
            "torch",
            "lightning_fabric",
            "lightning_utilities",
            "sympy",
        ):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of every run; of env.json what does not tell the time."""
    found = {}
    for path in sorted(folder.glob("toy/*/*/seed*/**/*")):
        if path.is_dir() or path.name == "checksums.json":
            continue
        content = path.read_bytes()
        if path.name == "env.json":
            content = json.dumps(json.loads(content) | {"started": ""}).encode()
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def kill_at_random(folder: Path, processes: int, seed: int, kills: int) -> tuple[int, set[int]]:
    """Fill a table by several processes of which some are killed and begun again.

    Returns:
        How many were killed, and their numbers.
    """
    chance = random.Random(seed)
    killed: set[int] = set()
    alive = {forked(lambda: fill_table(folder)) for _ in range(processes)}
    end = time.monotonic() + 300
    for _ in range(kills):
        time.sleep(chance.uniform(0.05, 1.5))
        ended = {p for p in alive if os.waitpid(p, os.WNOHANG)[0]}
        alive -= ended
        if not alive:
            break
        victim = chance.choice(sorted(alive))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        alive.remove(victim)
        killed.add(victim)
        alive.add(forked(lambda: fill_table(folder)))
    while alive:
        assert time.monotonic() < end, "it hangs"
        for process in list(alive):
            number, status = os.waitpid(process, os.WNOHANG)
            if number:
                assert status == 0, (process, status)
                alive.remove(process)
        time.sleep(0.02)
    return len(killed), killed


def check_begun(folder: Path, killed: set[int]) -> None:
    """Every cell was begun by one process after the other, and all but the last were killed."""
    by_cell: dict[str, list[int]] = {}
    for line in (folder / "begun.log").read_text().splitlines():
        method, seed, process = line.split()
        by_cell.setdefault(f"{method} {seed}", []).append(int(process))
    for cell, processes in by_cell.items():
        assert set(processes[:-1]) <= killed, (cell, processes, killed)
        assert len(set(processes)) == len(processes), (cell, processes)
