"""Time, memory and accuracy of the squared MMD, beside other ways to the same number.

    pip install geomloss POT
    python experiments/benchmarks/mmd.py --large
    python experiments/benchmarks/mmd.py --device cuda
    python paper_figures/bench_mmd.py

n x d stands for two samples of n rows in d dimensions. A call computes the biased estimator with
five Gaussian kernels, and its gradient in both samples.

The contestants are da's back-ends, "autograd Gram" as one writes it by hand, the same with
torch.cdist, geomloss and POT. A contestant that does not fit into memory or takes longer than
--slowest is left out, and the CSV says so.

Time: in every round each contestant and bare matrix products run once, in a new random order. A
ratio compares two times of one round. The product is Z Z^T with Z (2n, d): three of them on a CPU,
two on a GPU. A CPU's time is processor time, or wall time with several threads. A GPU's time is
that of CUDA events, and its products have the precision of the row.

The allocator keeps what is freed, for all contestants, as it does in training (`keep_memory`). With
--plain it does not: large products can then take several times as long, and every ratio is lower.

Memory: what a call needs at its peak beyond its inputs, in a fresh process, after a call on 32
rows. On a CPU it is resident memory, including what the allocator cannot hand back (blocks below
32 MB). On a GPU it is what PyTorch allocates.

Errors are relative to float64. The tables are in docs/performance.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch
import tyro
from measured import place, write_csv
from mmd_contestants import (
    CONTESTANTS,
    Job,
    Size,
    bare_products,
    errors,
    exact,
    in_a_process,
    samples,
    value_and_gradient,
)
from mmd_report import LARGE, table, verdicts
from mmd_rounds import foreseen, in_turns, memory_of, summary
from torch import Tensor
from tqdm import tqdm

from da.records.environment import environment
from da.records.grids import aligned
from da.train.engine import keep_memory

PRODUCTS = {"cpu": 3, "cuda": 2}  # bare products that one call is compared with
# Names of torch.set_float32_matmul_precision.
PRECISIONS = {"float32": "highest", "tf32": "high", "bf16": "medium"}
SIZES = {
    "cpu": "32x256 64x2048 256x256 256x2048 1024x256 1024x2048 4096x256 4096x2048".split(),
    "cuda": [f"{n}x{d}" for n in (1024, 4096, 16384, 65536) for d in (256, 2048)],
}
COLUMNS = (
    *("machine", "torch", "commit", "clock", "threads", "contestant", "n", "d", "precision"),
    *("rounds", "seconds", "product_seconds", "ratio", "ratio_min", "ratio_max", "extra_mb"),
    *("value_error", "gradient_error", "note"),
)


@dataclass(frozen=True)
class Options:
    """Time, memory and accuracy of the squared MMD."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where to measure."""
    sizes: tuple[str, ...] = ()
    """Rows of each sample x width; none: eight, to 4096x2048 on a CPU, to 65536x2048 on a GPU."""
    precisions: tuple[Literal["float32", "tf32", "bf16"], ...] = ()
    """Of the matrix products; none: float32 on a CPU, all three on a GPU."""
    memory_sizes: tuple[str, ...] = ("4096x256",)
    """Sizes at which memory is measured."""
    large: bool = False
    """Also run 65536x256 by streaming tiles, once and on all cores. Some minutes on a CPU."""
    rounds: int = 7
    """Rounds at every size."""
    threads: int = 1
    """Threads of PyTorch."""
    plain: bool = False
    """Leave the allocator as it is: large products then take fresh pages each time."""
    least: float = 0.05
    """Seconds that a measurement takes at least. Short calls are repeated."""
    slowest: float = 60.0
    """Leave out a contestant whose call is foreseen to take more seconds, by the size before."""
    seconds: float | None = None
    """Leave out sizes that are foreseen not to fit into this time; none: no limit."""
    out: Path | None = None
    """The CSV; none: runs/bench_mmd_DEVICE.csv."""
    smoke_test: bool = False
    """Two rounds at two tiny sizes, to see that everything runs. The ratios mean nothing."""

    def __post_init__(self) -> None:
        for name in ("rounds", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"seconds must be positive; got {self.seconds}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is cuda, but PyTorch sees no CUDA device here")
        if self.device == "cpu" and set(self.precisions) - {"float32"}:
            raise ValueError(
                f"precisions must be float32 on a CPU; got {' '.join(self.precisions)}"
            )
        for size in (*self.sizes, *self.memory_sizes):
            Size.of(size)

    def shortened(self) -> Options:
        """Two rounds at two tiny sizes."""
        sizes = {"sizes": ("8x4", "16x4"), "memory_sizes": ("64x4",)}
        return replace(self, rounds=2, least=0.0, **sizes)  # type: ignore[arg-type]


class Bench:
    """Measure, and collect the rows of the CSV.

    The CSV is written after every size, so that an interrupted run leaves what it has.
    """

    def __init__(self, options: Options) -> None:
        self.options, self.device = options, options.device
        cuda = self.device == "cuda"
        self.clock = "cuda events" if cuda else "process" if options.threads == 1 else "wall"
        self.memory = memory_of(self.device)
        here = environment(torch.cuda.get_device_name() if cuda else None)
        self.cores = here["cores"]
        self.common = {**place(here), "clock": self.clock, "threads": options.threads}
        self.rows: dict[tuple[str, Size, str], dict[str, Any]] = {}
        # (contestant, width, precision) -> the largest n so far and its seconds
        self.slow: dict[tuple[str, int, str], tuple[int, float]] = {}
        self.exact: dict[int, tuple[int, float]] = {}  # width -> likewise, of the truth
        self.started = perf_counter()
        self.out = options.out or Path(f"runs/bench_mmd_{self.device}.csv")
        self.possible = [
            name for name, each in CONTESTANTS.items() if each.only in ("", self.device)
        ]
        self.names = [name for name in self.possible if find_spec(CONTESTANTS[name].package)]

    def run(self) -> None:
        """Measure everything that the options ask for."""
        sizes = sorted(Size.of(text) for text in self.options.sizes or SIZES[self.device])
        usual = ("float32",) if self.device == "cpu" else tuple(PRECISIONS)
        precisions = self.options.precisions or usual
        jobs = self.memory_jobs()
        total = len(sizes) * len(precisions) * self.options.rounds + len(jobs)
        with tqdm(total=total, unit="round", disable=None) as bar:
            for size in sizes:
                self.measure(size, precisions, bar)
            for job in jobs:
                bar.set_description(f"memory of {job.contestant}, {job.size}")
                self.add(job.contestant, job.size, "float32", **in_a_process(job))
                self.write()
                bar.update()

    def measure(self, size: Size, precisions: Sequence[str], bar: tqdm) -> None:
        """Time one size in every precision that fits."""
        truth: tuple[float, Tensor] | None = None
        for precision in precisions:
            bar.set_description(f"{size} {precision}")
            if note := self.late(size, precision, truth is None):
                for name in self.names:
                    self.add(name, size, precision, note=note)
                bar.update(self.options.rounds)
            else:
                if truth is None:
                    before = perf_counter()
                    truth = exact(*samples(size, self.device))
                    self.exact[size.d] = (size.n, perf_counter() - before)
                self.time(size, precision, truth, bar)
            self.write()

    def late(self, size: Size, precision: str, first: bool) -> str:
        """Why a size is left out for want of time, or an empty text."""
        if self.options.seconds is None:
            return ""
        before = {name: self.slow.get((name, size.d, precision)) for name in self.names}
        if first:
            before["exact"] = self.exact.get(size.d)
        known = {name: value for name, value in before.items() if value}
        needed = foreseen(size.n, known, self.options.rounds, self.options.least)
        left = self.options.seconds - (perf_counter() - self.started)
        if left > needed:
            return ""
        return f"left out: needs about {needed:.0f} s and {max(left, 0):.0f} s are left"

    def memory_jobs(self) -> list[Job]:
        """What runs in processes of their own. A smoke test starts one, because each takes time."""
        names = self.names[:1] if self.options.smoke_test else self.names
        sizes = [Size.of(text) for text in self.options.memory_sizes]
        threads = self.options.threads
        jobs = [Job(name, size, self.device, threads) for size in sizes for name in names]
        if self.options.large:
            jobs.append(Job("da stream", Size.of(LARGE), self.device, self.cores, once=True))
        return jobs

    def time(self, size: Size, precision: str, truth: tuple[float, Tensor], bar: tqdm) -> None:
        """Time one size in one precision. The errors come first, because they show what fits."""
        torch.set_float32_matmul_precision(PRECISIONS[precision])
        x, y = samples(size, self.device)
        z = torch.cat([x, y]).detach().to(torch.bfloat16 if precision == "bf16" else torch.float32)
        products = PRODUCTS[self.device]
        calls: dict[str, Callable[[], Any]] = {"products": lambda: bare_products(z, products)}
        for name in self.names:
            found = self.try_out(name, size, precision, truth)
            self.add(name, size, precision, **found)
            if "note" not in found:
                function = CONTESTANTS[name].function
                calls[name] = lambda function=function: value_and_gradient(function, x, y)
        times = []
        for each in in_turns(calls, self.options.rounds, self.options.least, self.clock):
            times.append(each)
            bar.update()
        for name in calls.keys() - {"products"}:
            found = summary(times, name)
            self.add(name, size, precision, **found)
            self.slow[name, size.d, precision] = (size.n, found["seconds"])

    def try_out(
        self, name: str, size: Size, precision: str, truth: tuple[float, Tensor]
    ) -> dict[str, Any]:
        """The errors of a contestant, or a note that says why it is left out."""
        need = 4 * CONTESTANTS[name].matrices * (2 * size.n) ** 2
        if need > 0.8 * self.memory:
            return {"note": f"left out: needs about {need / 1e9:.0f} GB"}
        n, seconds = self.slow.get((name, size.d, precision), (size.n, 0.0))
        if (foreseen := seconds * (size.n / n) ** 2) > self.options.slowest:
            return {"note": f"left out: would take about {foreseen:.0f} s"}
        try:
            return errors(CONTESTANTS[name], *samples(size, self.device), truth)
        except torch.OutOfMemoryError:
            return {"note": "left out: out of memory"}

    def add(self, name: str, size: Size, precision: str, **values: Any) -> None:
        """Put values into the row of this contestant and size."""
        row = self.rows.setdefault((name, size, precision), dict(self.common))
        row |= {"contestant": name, "n": size.n, "d": size.d, "precision": precision, **values}

    def write(self) -> None:
        """Write the CSV."""
        write_csv(self.out, COLUMNS, self.rows.values())


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        if options.smoke_test:
            options = options.shortened()
        if not options.plain:
            keep_memory()
        torch.set_num_threads(options.threads)
        bench = Bench(options)
        bench.run()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    rows = list(bench.rows.values())
    print(
        f"{bench.common['machine']}, torch {torch.__version__}, {options.threads} threads; "
        f"{bench.clock} time, {options.rounds} rounds.\n"
    )
    print(aligned(table(rows)), aligned(verdicts(rows, options.device)), sep="\n\n")
    missing = [name for name in bench.possible if name not in bench.names]
    print(f"\nleft out, not installed: {', '.join(missing) or 'none'}\nall numbers: {bench.out}")


if __name__ == "__main__":
    main()
