"""What does a run lose to wandb when it is disturbed, and does a long one hold on to anything?

    python experiments/benchmarks/endurance.py

    wandb         Two runs after one another in a process of its own, of which the first is
                  disturbed: seconds of each, beyond those of the same runs without wandb; warnings;
                  lines of metrics in the records, which must be all of them. Servers are sockets on
                  this machine.
    memory        Resident memory of a process that trains for 10,000 steps.
    descriptors   Open files and resident memory of a process that fills 200 cells of a table.

Time: two to three minutes on two idle CPU cores. The tables are in docs/reliability.md.
"""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from measured import place, write_csv

from da.records import read_runs
from da.records.environment import environment

KEY = "0123456789" * 4
LOGS = 60  # lines of each run
PARTS: Any = ("memory", "descriptors", "wandb")
COLUMNS = ("part", "case", "first_seconds", "second_seconds", "warnings", "lines", "at", "value")
FEW, MANY = 1000, 10_000  # steps between which memory must not grow
CELLS = 201

# Two runs in a process of their own; what comes of the first one's tenth step.
RUNS = """
import json, os, signal, sys, time
from pathlib import Path
from da.records import Run
folder, mode, sent, logs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
def service():
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().split(" (", 1)[1].rsplit(") ", 1)
        except OSError:
            continue
        if name.startswith("wandb") and int(rest.split()[1]) == os.getpid():
            return int(stat.parent.name)
if mode != "disabled":
    import wandb
found = []
for seed in range(2):
    began = time.monotonic()
    run = Run.start(folder, {}, experiment="toy", method="m", source="a", target="b", seed=seed,
                    wandb=mode)
    if sent == "no folder":
        (run.directory / "wandb").write_text("")
    for step in range(1, logs + 1):
        run.log(step, {"loss": 1 / step})
        if step == 10 and seed == 0 and sent.startswith("SIG"):
            os.kill(service(), getattr(signal, sent))
    run.finish({"selected": {}})
    found.append(time.monotonic() - began)
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Options:
    """Measure what runs lose to wandb, and what long ones hold on to."""

    out: Path = Path("experiments/records/bench_endurance_cpu.csv")
    """The CSV; rows of parts that are not measured stay."""
    parts: tuple[Literal["wandb", "memory", "descriptors"], ...] = PARTS
    """What is measured."""
    smoke_test: bool = False
    """Few steps, few cells, and wandb without and with a frozen service."""


@dataclass(frozen=True)
class Case:
    """How wandb is disturbed.

    Attributes:
        mode: The mode of the mirror.
        sent: A signal for wandb's own process, or "no folder", or "".
        server: What the server does: "" if there is none, "refuses", "is silent", or a status.
        home: Whether the home folder can be written.
    """

    mode: str = "auto"
    sent: str = ""
    server: str = ""
    home: bool = True


CASES = {
    "offline, undisturbed": Case("offline"),
    "no key": Case(),
    "no key, asked to be online": Case("online"),
    "key, no network": Case(server="refuses"),
    "key, the server accepts and never answers": Case(server="is silent"),
    "bogus key, the server answers 401": Case(server="401"),
    "key, the server answers 500": Case(server="500"),
    "home cannot be written": Case("offline", home=False),
    "the run's wandb folder cannot be made": Case("offline", "no folder"),
    "wandb's own process is killed": Case("offline", "SIGKILL"),
    "wandb's own process is frozen": Case("offline", "SIGSTOP"),
}


@contextmanager
def address(kind: str) -> Iterator[str | None]:
    """The address of a server of this kind; None if there is none."""
    if not kind:
        yield None
        return
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if kind != "refuses":
            port.listen()
        if kind.isdecimal():
            threading.Thread(target=answer, args=(port, kind), daemon=True).start()
        yield f"http://127.0.0.1:{port.getsockname()[1]}"


def answer(port: socket.socket, status: str) -> None:
    """Give every request the same answer without content."""
    head = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    while True:
        try:
            connection, _ = port.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(head.encode())
        except OSError:
            return


def disturbed(case: Case) -> dict[str, Any]:
    """What two runs take, and what they keep."""
    with tempfile.TemporaryDirectory() as name, address(case.server) as url:
        home = Path(name) / "home"
        home.mkdir() if case.home else home.write_text("")  # below a file nobody can write
        own = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
        own |= {key: str(home) for key in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
        if url is not None:
            own |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        runs = Path(name) / "runs"
        words = [sys.executable, "-c", RUNS, str(runs), case.mode, case.sent, str(LOGS)]
        done = subprocess.run(words, env=own, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(f"it ended with {done.returncode}: {done.stderr}")
        first, second = json.loads(done.stdout.splitlines()[-1])
        lines = sum(len(record.metrics()) for record in read_runs(runs))
    warnings = done.stderr.count("RuntimeWarning: wandb")
    return {"first_seconds": first, "second_seconds": second, "warnings": warnings, "lines": lines}


def in_child(work: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What some work finds in a process of its own, which begins with what is loaded here."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.environ["TQDM_DISABLE"] = "1"
            os.write(writing, json.dumps(work()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = pipe.read()
    os.waitpid(process, 0)
    return json.loads(found)


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    """Open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def memory(steps: tuple[int, int]) -> list[dict[str, Any]]:
    """Resident memory at two steps of one run."""
    from survival_table import domain

    from da.data import PairedBatches, identity
    from da.feature import mmd2
    from da.networks import mlp
    from da.records import Run
    from da.train import Align, Evaluation, TrainConfig, fit

    found: list[dict[str, Any]] = []

    class Watching(PairedBatches):
        def batch(self, step: int, rank: int = 0, world_size: int = 1):  # type: ignore[no-untyped-def]
            if step + 1 in steps:
                found.append({"at": step + 1, "value": resident()})
            return super().batch(step, rank, world_size)

    source, target = domain(0.0), domain(0.5)
    names = {"experiment": "toy", "method": "m", "source": "a", "target": "b", "seed": 0}
    with tempfile.TemporaryDirectory() as folder:
        run = Run.start(folder, {}, **names, wandb="disabled")  # type: ignore[arg-type]
        config = TrainConfig(
            steps=steps[1], evaluate_every=steps[0], log_every=10, accelerator="cpu", threads=1
        )
        options = {"batch_size": 16, "seed": 0, "transform": identity}
        stream = Watching(source, target.unlabelled(), **options)  # type: ignore[arg-type]
        method = Align(mlp(6, 3, hidden=16, features=8), mmd2)
        fit(method, stream, config, run, Evaluation(target, identity))
    return [{"part": "memory", "case": "MB, steps of one run", **each} for each in found]


def descriptors(cells: int) -> list[dict[str, Any]]:
    """Open files and memory of a process after a tenth of its cells, and after all."""
    import survival_table
    from survival_table import Config, build

    from da.recipes.filling import cells_of, fill
    from da.train import launch

    found: list[dict[str, Any]] = []
    begun = 0

    def watched(flags: Config, cell: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun in (max(cells // 10, 1), cells):
            found.append({"case": "open files, cells", "at": begun, "value": open_files()})
            found.append({"case": "MB, cells", "at": begun, "value": resident()})
        return build(flags, cell)

    rows = len(survival_table.METHODS)
    with tempfile.TemporaryDirectory() as folder:
        seeds = tuple(range(-(-cells // rows)))
        flags = Config(
            runs_dir=Path(folder), wandb="disabled", seeds=seeds, steps=2, evaluate_every=2
        )
        every = cells_of(flags, [("a", "b")], {})[:cells]
        fill(flags, "toy", every, watched, None, launch(flags))
    return [{"part": "descriptors", **each} for each in found]


def main(options: Options) -> None:
    """Measure, and write the CSV."""
    where = place(environment())
    rows = _kept(options)

    def keep(more: list[dict[str, Any]]) -> None:
        for each in more:
            print(each, flush=True)
        rows.extend({**each, **where} for each in more)
        write_csv(options.out, (*COLUMNS, *where), rows)

    small = options.smoke_test
    steps, cells = ((10, 20), 6) if small else ((FEW, MANY), CELLS)
    if "memory" in options.parts:
        keep(in_child(lambda: memory(steps)))
    if "descriptors" in options.parts:
        keep(in_child(lambda: descriptors(cells)))
    if "wandb" not in options.parts:
        return
    names = ["offline, undisturbed", "wandb's own process is frozen"] if small else list(CASES)
    plain = disturbed(Case("disabled"))
    for name in names:
        found = disturbed(CASES[name])
        for key in ("first_seconds", "second_seconds"):
            found[key] -= plain[key]
        keep([{"part": "wandb", "case": name, **found}])


def _kept(options: Options) -> list[dict[str, Any]]:
    """The rows of the CSV that are not measured again."""
    if not options.out.is_file():
        return []
    with open(options.out, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["part"] not in options.parts]


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
