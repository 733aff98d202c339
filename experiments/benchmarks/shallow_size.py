"""Time and memory of the shallow methods at size, beside the matrix products that they need.

    python experiments/benchmarks/shallow_size.py

Two Gaussian samples in float32 that differ in mean and variance, of 184,052 rows each in 240
columns, and of 30,000 rows each for KMM. A call is a fit, or the weights; that of an adapter maps
nothing. JDA has ten classes, one round, and the nearest class centre as its classifier.

floor: the products that the method cannot do without, in float32 and in blocks: the Gram matrix of
all rows for the linear adapters; the kernel to the landmarks and its Gram matrix for TCA's rbf
kernel; the kernel to landmarks and its projection for KMM; the kernel to the centres for uLSIF and
KLIEP, whose bandwidth is given.

Every call runs in a process of its own, in random order, `--rounds` times, on one thread, after a
call on few rows. Processor seconds count. Memory is what the call adds to the resident memory at
its peak. The CSV says how many other processes were ready to run, because they slow memory and
caches for all. The table is in docs/performance.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro
from measured import place, write_csv
from mmd_contestants import memory
from sklearn.neighbors import NearestCentroid
from tqdm import tqdm

from da.instance import kliep, kmm, ulsif
from da.records.environment import environment
from da.shallow import CORAL, JDA, TCA, LinearMongeMap, SubspaceAlignment

COLUMNS = (
    *("machine", "torch", "commit", "method", "rows", "columns", "contestant", "round"),
    *("process_seconds", "wall_seconds", "extra_mb", "load"),
)
WIDTH, LANDMARKS, CENTRES, BLOCK = 240, 500, 100, 2048
FEW = 600  # rows of the call that loads what is needed


class Rows(NamedTuple):
    """Two samples in float32, with labels of the source."""

    x: np.ndarray
    y: np.ndarray
    labels: np.ndarray


def samples(rows: int, columns: int) -> Rows:
    """Two Gaussian samples that differ in mean and variance; class k is moved along axis k."""
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2, rows, columns), dtype=np.float32)
    y *= 1.1
    y += 0.2
    labels = np.arange(rows) % 10
    for sample in (x, y):
        sample[np.arange(rows), labels] += 3
    return Rows(x, y, labels)


def gram_floor(r: Rows) -> None:
    """X^T X of all rows, in blocks."""
    for sample in (r.x, r.y):
        whole = torch.from_numpy(sample)
        total = torch.zeros(whole.shape[1], whole.shape[1])
        for part in whole.split(BLOCK):
            total.addmm_(part.T, part)


def kernel_floor(r: Rows, count: int, *, gram: bool, both: bool = True) -> None:
    """The products with `count` rows, and with `gram` what makes of them (count, count)."""
    centres = torch.from_numpy(r.y[:count])
    square = torch.zeros(count, count)
    for sample, squared in ((r.x, gram), (r.y, gram and both)):
        for part in torch.from_numpy(sample).split(BLOCK):
            kernel = part @ centres.T
            if squared:
                square.addmm_(kernel.T, kernel)


class Case(NamedTuple):
    """A method at one size, and the floor of its time."""

    run: Callable[[Rows], Any]
    floor: Callable[[Rows], None]
    rows: int = 184_052


def _jda(r: Rows) -> Any:
    # Not the nearest neighbour, which compares every target row with every source row.
    return JDA(n_iter=1, classifier=NearestCentroid()).fit(r.x, r.y, r.labels)


def _rbf(r: Rows) -> Any:
    gamma = 1 / r.x.shape[1]
    return TCA(kernel="rbf", gamma=gamma, n_landmarks=LANDMARKS).fit(r.x, r.y)


def _kmm(r: Rows) -> Any:
    return kmm(r.x, r.y, bandwidth=2.0 * r.x.shape[1], n_landmarks=LANDMARKS)


def _ulsif(r: Rows) -> Any:
    options = {"n_centres": CENTRES, "bandwidth": 2.0 * r.x.shape[1]}
    return ulsif(r.x, r.y, regularization=0.1, **options)


CASES = {
    "TCA, linear": Case(lambda r: TCA().fit(r.x, r.y), gram_floor),
    "TCA, rbf, 500 landmarks": Case(_rbf, lambda r: kernel_floor(r, LANDMARKS, gram=True)),
    "JDA, linear": Case(_jda, gram_floor),
    "SA": Case(lambda r: SubspaceAlignment(n_components=50).fit(r.x, r.y), gram_floor),
    "CORAL": Case(lambda r: CORAL().fit(r.x, r.y), gram_floor),
    "linear Monge map": Case(lambda r: LinearMongeMap().fit(r.x, r.y), gram_floor),
    "KMM, 500 landmarks": Case(
        _kmm, lambda r: kernel_floor(r, LANDMARKS, gram=True, both=False), 30_000
    ),
    "uLSIF": Case(_ulsif, lambda r: kernel_floor(r, CENTRES, gram=True)),
    "KLIEP": Case(
        lambda r: kliep(r.x, r.y, n_centres=CENTRES, bandwidth=2.0 * r.x.shape[1]),
        lambda r: kernel_floor(r, CENTRES, gram=False),
    ),
}


@dataclass(frozen=True)
class Options:
    """Time and memory of the shallow methods at size."""

    methods: tuple[str, ...] = ()
    """Names of methods, such as CORAL; none: all."""
    rounds: int = 3
    """Calls of each method and each floor."""
    out: Path = Path("runs/bench_shallow_size_cpu.csv")
    """Where the figures of every call go."""
    smoke_test: bool = False
    """Few rows and one round, to see that everything runs."""
    one: tuple[str, str, int] | None = None
    """Method, da or floor, and rows: measure one call here and print it; for the processes."""

    def __post_init__(self) -> None:
        if wrong := set(self.methods) - set(CASES):
            raise ValueError(f"methods must be of {', '.join(CASES)}; got {', '.join(wrong)}")


def measured(method: str, contestant: str, rows: int) -> dict[str, float]:
    """Time and memory of one call in this process."""
    torch.set_num_threads(1)
    case = CASES[method]
    run = case.run if contestant == "da" else case.floor
    run(samples(FEW, WIDTH))
    data = samples(rows, WIDTH)
    load, before = os.getloadavg()[0], memory("cpu", reset=True)
    wall, process = time.perf_counter(), time.process_time()
    result = run(data)
    times = time.perf_counter() - wall, time.process_time() - process
    extra = (memory("cpu") - before) / 1e6
    del result
    return {
        **{"wall_seconds": times[0], "process_seconds": times[1]},
        **{"extra_mb": extra, "load": load},
    }


def apart(method: str, contestant: str, rows: int) -> dict[str, Any]:
    """The same in a process of its own."""
    words = [sys.executable, __file__, "--one", method, contestant, str(rows)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """The command line."""
    options = tyro.cli(Options)
    if options.one:
        print(json.dumps(measured(*options.one)))
        return
    if options.smoke_test:
        options = replace(options, rounds=1)
    common, rows = place(environment()), []
    calls = [(name, who) for name in options.methods or CASES for who in ("da", "floor")]
    order = np.random.default_rng(0)
    for k in range(options.rounds):
        for place_of_call in tqdm(order.permutation(len(calls)), disable=None):
            method, who = calls[place_of_call]
            size = 1000 if options.smoke_test else CASES[method].rows
            row = {"method": method, "rows": size, "columns": WIDTH, "contestant": who, "round": k}
            rows.append({**common, **row, **apart(method, who, size)})
            write_csv(options.out, COLUMNS, rows)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
