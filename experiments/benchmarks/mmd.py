"""Squared MMD, value and gradient, as a ratio to bare matrix products of the same size; its memory, its accuracy, and other ways to it.

    pip install geomloss POT
    python experiments/benchmarks/mmd.py --large
    python experiments/benchmarks/mmd.py --device cuda
    python paper_figures/bench_mmd.py

n x d: two samples of n rows in d dimensions, five Gaussian kernels, biased estimator, the gradient in both samples.
Time: in every round each contestant and the bare products run once, in an order drawn anew; a ratio pairs two times of one round. The
product is Z Z^T with Z (2n, d): three of them on a CPU (processor time, or wall time where there are several threads), two on a GPU
(CUDA events, the product in the precision named). The allocator keeps what is freed, for all alike, as it does in training
(`keep_memory`); with --plain it does not: large products themselves can then take several times as long, and every ratio is lower.

Memory: what a call needs beyond its inputs, at its peak, in a fresh process each, after a call on 32 rows. On a CPU it is resident memory,
with what the allocator cannot hand back (blocks below 32 MB); on a GPU what PyTorch allocates. Error: relative, against float64.

The others (`bench_mmd_contestants.py`): "autograd Gram" as one writes it by hand, torch.cdist in its place, geomloss, POT. What would not
fit into memory or take longer than --slowest is left out, and the CSV says so.
"""

from __future__ import annotations

import csv
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from mmd_contestants import (
    CONTESTANTS,
    Job,
    Size,
    bare_products,
    elapsed,
    errors,
    exact,
    in_a_process,
    samples,
    value_and_gradient,
)
from torch import Tensor
from tqdm import tqdm

from da.records.environment import environment
from da.records.grids import aligned
from da.train.engine import keep_memory

PRODUCTS = {"cpu": 3, "cuda": 2}  # bare products that one call is compared with
PRECISIONS = {
    "float32": "highest",
    "tf32": "high",
    "bf16": "medium",
}  # torch.set_float32_matmul_precision
SIZES = {
    "cpu": (
        "32x256",
        "64x2048",
        "256x256",
        "256x2048",
        "1024x256",
        "1024x2048",
        "4096x256",
        "4096x2048",
    ),
    "cuda": (
        "1024x256",
        "1024x2048",
        "4096x256",
        "4096x2048",
        "16384x256",
        "16384x2048",
        "65536x256",
        "65536x2048",
    ),
}
LARGE = "65536x256"
MEASURED = (
    "rounds",
    "seconds",
    "product_seconds",
    "ratio",
    "ratio_min",
    "ratio_max",
    "extra_mb",
    "value_error",
    "gradient_error",
    "note",
)
COLUMNS = (
    "machine",
    "torch",
    "commit",
    "clock",
    "threads",
    "contestant",
    "n",
    "d",
    "precision",
    *MEASURED,
)


@dataclass(frozen=True)
class Options:
    """Time, memory and accuracy of the squared MMD."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where to measure."""
    sizes: tuple[str, ...] = ()
    """Rows of each sample x width; none: eight from 32x256 to 4096x2048, on a GPU from 1024x256 to 65536x2048."""
    precisions: tuple[Literal["float32", "tf32", "bf16"], ...] = ()
    """Of the matrix products; none: float32 on a CPU, all three on a GPU."""
    memory_sizes: tuple[str, ...] = ("4096x256",)
    """Sizes at which memory is measured."""
    large: bool = False
    """Also run 65536x256 by streaming tiles, once and on all cores: memory and seconds. Some minutes on a CPU."""
    rounds: int = 7
    """Rounds at every size."""
    threads: int = 1
    """Threads of PyTorch."""
    plain: bool = False
    """Leave the allocator as it is: large products then take fresh pages each time, which counts as theirs."""
    least: float = 0.05
    """Seconds that a measurement takes at least; short calls are repeated."""
    slowest: float = 60.0
    """Seconds of a call, foreseen from the next smaller size, from which a contestant is left out."""
    out: Path | None = None
    """The CSV; none: runs/bench_mmd_DEVICE.csv."""
    smoke_test: bool = False
    """Two rounds at two tiny sizes, to see that everything runs; the ratios mean nothing."""

    def __post_init__(self) -> None:
        for name in ("rounds", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is cuda, but PyTorch sees no CUDA device here")
        if self.device == "cpu" and set(self.precisions) - {"float32"}:
            raise ValueError(
                f"precisions must be float32 on a CPU; got {' '.join(self.precisions)}"
            )
        for size in (*self.sizes, *self.memory_sizes):
            Size.of(size)


class Bar(NamedTuple):
    """A promise about one number of the CSV: it is at most `limit`."""

    contestant: str
    size: str
    precision: str
    column: str
    limit: float


RATIOS = {
    "64x2048": 1.5,
    "256x2048": 0.9,
    "1024x2048": 0.8,
    "4096x256": 0.8,
    "4096x2048": 0.75,
}  # to three products, one thread
BARS = (
    *(Bar("da auto", size, "float32", "ratio", limit) for size, limit in RATIOS.items()),
    Bar("da stream", "4096x256", "float32", "extra_mb", 48),
    Bar("da stream", LARGE, "float32", "extra_mb", 1000),
)
CUDA_RATIO = 1.5  # to two products of the same precision and shape, at every size
ERROR = 1e-5  # of value and gradient in float32, at every size


def in_turns(
    calls: dict[str, Callable[[], Any]], rounds: int, least: float, clock: str
) -> Iterator[dict[str, float]]:
    """Seconds a call of each, round by round, after a warm-up that says how often a short call is repeated."""
    repeats = {}
    for name, call in calls.items():
        seconds = elapsed(call, 1, clock)
        seconds = min(seconds, elapsed(call, 1, clock)) if seconds < 1 else seconds
        repeats[name] = max(1, math.ceil(least / max(seconds, 1e-6)))
    generator, names = np.random.default_rng(0), list(calls)
    for _ in range(rounds):
        yield {
            names[i]: elapsed(calls[names[i]], repeats[names[i]], clock)
            for i in generator.permutation(len(names))
        }


def summary(times: list[dict[str, float]], name: str) -> dict[str, Any]:
    """Medians over rounds of a contestant's seconds and of its ratio to the products, which pairs the two times of a round."""
    ratios = [each[name] / each["products"] for each in times]
    seconds, products = (
        float(np.median([each[key] for each in times])) for key in (name, "products")
    )
    extremes = {"ratio_min": min(ratios), "ratio_max": max(ratios)}
    return {
        "rounds": len(times),
        "seconds": seconds,
        "product_seconds": products,
        "ratio": float(np.median(ratios)),
        **extremes,
    }


class Bench:
    """The CSV's rows as they are measured. It is written after every size, so that an interrupted run leaves what it has."""

    def __init__(self, options: Options) -> None:
        self.options, self.device = options, options.device
        cuda = self.device == "cuda"
        self.clock = "cuda events" if cuda else "process" if options.threads == 1 else "wall"
        self.memory = (
            torch.cuda.mem_get_info()[1]
            if cuda
            else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        )
        here = environment(torch.cuda.get_device_name() if cuda else None)
        self.cores, commit = (
            here["cores"],
            f"{here['git']['commit']}{' changed' if here['git']['dirty'] else ''}",
        )
        self.common = {
            "machine": here["device"],
            "torch": torch.__version__,
            "commit": commit,
            "clock": self.clock,
            "threads": options.threads,
        }
        self.rows: dict[tuple[str, Size, str], dict[str, Any]] = {}
        self.slow: dict[
            tuple[str, int, str], tuple[int, float]
        ] = {}  # the largest n so far and its seconds
        self.out = options.out or Path(f"runs/bench_mmd_{self.device}.csv")
        self.names = [
            name
            for name, each in CONTESTANTS.items()
            if each.only in ("", self.device) and find_spec(each.package)
        ]

    def run(self) -> None:
        """Everything the options ask for."""
        sizes = [Size.of(text) for text in self.options.sizes or SIZES[self.device]]
        precisions = self.options.precisions or (
            ("float32",) if self.device == "cpu" else tuple(PRECISIONS)
        )
        jobs = self.memory_jobs()
        with tqdm(
            total=len(sizes) * len(precisions) * self.options.rounds + len(jobs),
            unit="round",
            disable=None,
        ) as bar:
            for size in sorted(sizes):
                truth = exact(*samples(size, self.device))
                for precision in precisions:
                    bar.set_description(f"{size} {precision}")
                    self.time(size, precision, truth, bar)
                    self.write()
            for job in jobs:
                bar.set_description(f"memory of {job.contestant}, {job.size}")
                self.add(job.contestant, job.size, "float32", **in_a_process(job))
                self.write()
                bar.update()

    def memory_jobs(self) -> list[Job]:
        names = (
            self.names[:1] if self.options.smoke_test else self.names
        )  # a process a contestant takes its time
        sizes = [Size.of(text) for text in self.options.memory_sizes]
        jobs = [
            Job(name, size, self.device, self.options.threads) for size in sizes for name in names
        ]
        return jobs + (
            [Job("da stream", Size.of(LARGE), self.device, self.cores, once=True)]
            if self.options.large
            else []
        )

    def time(self, size: Size, precision: str, truth: tuple[float, Tensor], bar: tqdm) -> None:
        """One size in one precision: errors first, which shows what fits, then the rounds."""
        torch.set_float32_matmul_precision(PRECISIONS[precision])
        x, y = samples(size, self.device)
        z = torch.cat([x, y]).detach().to(torch.bfloat16 if precision == "bf16" else torch.float32)
        calls: dict[str, Callable[[], Any]] = {
            "products": lambda: bare_products(z, PRODUCTS[self.device])
        }
        for name in self.names:
            found = self.try_out(name, size, precision, truth)
            self.add(name, size, precision, **found)
            if "note" not in found:
                calls[name] = lambda function=CONTESTANTS[name].function: value_and_gradient(
                    function, x, y
                )
        times = []
        for each in in_turns(calls, self.options.rounds, self.options.least, self.clock):
            times.append(each)
            bar.update()
        for name in calls.keys() - {"products"}:
            self.add(name, size, precision, **summary(times, name))
            self.slow[name, size.d, precision] = (
                size.n,
                float(np.median([each[name] for each in times])),
            )

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
        """Into the row of this contestant and size, which begins here if there is none."""
        row = self.rows.setdefault((name, size, precision), dict(self.common))
        row |= {"contestant": name, "n": size.n, "d": size.d, "precision": precision, **values}

    def write(self) -> None:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with open(self.out, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for row in self.rows.values():
                writer.writerow(
                    {
                        key: f"{value:.6g}" if isinstance(value, float) else value
                        for key, value in row.items()
                    }
                )


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A line for each contestant and size."""
    lines = [
        [
            "n x d",
            "precision",
            "contestant",
            "ms",
            "products, ms",
            "ratio",
            "lowest to highest",
            "extra MB",
            "value error",
            "gradient error",
        ]
    ]

    def cell(row: dict[str, Any], key: str, form: str, factor: float = 1) -> str:
        return f"{factor * row[key]:{form}}" if key in row else ""

    for row in rows:
        span = (
            f"{row['ratio_min']:.2f} to {row['ratio_max']:.2f}"
            if "ratio" in row
            else row.get("note", "")
        )
        times = [
            cell(row, "seconds", ".2f", 1000),
            cell(row, "product_seconds", ".2f", 1000),
            cell(row, "ratio", ".2f"),
            span,
        ]
        rest = [
            cell(row, "extra_mb", ".0f"),
            cell(row, "value_error", ".0e"),
            cell(row, "gradient_error", ".0e"),
        ]
        lines.append([f"{row['n']}x{row['d']}", row["precision"], row["contestant"], *times, *rest])
    return lines


def verdicts(rows: list[dict[str, Any]], device: str) -> list[list[str]]:
    """A line for each bar: what was promised, what was measured, and whether it is met."""
    found = {(row["contestant"], f"{row['n']}x{row['d']}", row["precision"]): row for row in rows}
    bars = (
        list(BARS)
        if device == "cpu"
        else [Bar(*key, "ratio", CUDA_RATIO) for key in found if key[0] == "da auto"]
    )
    for column in ("value_error", "gradient_error"):
        own = [
            key
            for key, row in found.items()
            if key[0].startswith("da ") and key[2] == "float32" and column in row
        ]
        if own:
            bars.append(
                Bar(*max(own, key=lambda key, column=column: found[key][column]), column, ERROR)
            )  # the worst
    lines = [["bar", "at most", "measured", ""]]
    for bar in bars:
        value = found.get(bar[:3], {}).get(bar.column)
        verdict = "not measured" if value is None else "met" if value <= bar.limit else "MISSED"
        words = f"{bar.contestant}, {bar.size}, {bar.precision}: {bar.column}"
        lines.append([words, f"{bar.limit:g}", "" if value is None else f"{value:.3g}", verdict])
    return lines


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        if options.smoke_test:
            options = replace(
                options, rounds=2, least=0.0, sizes=("8x4", "16x4"), memory_sizes=("64x4",)
            )
        if not options.plain:
            keep_memory()
        torch.set_num_threads(options.threads)
        bench = Bench(options)
        bench.run()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    rows = list(bench.rows.values())
    print(
        f"{bench.common['machine']}, torch {torch.__version__}, {options.threads} threads; {bench.clock} time, {options.rounds} rounds.\n"
    )
    print(aligned(table(rows)), aligned(verdicts(rows, options.device)), sep="\n\n")
    missing = [
        name
        for name, each in CONTESTANTS.items()
        if each.only in ("", options.device) and name not in bench.names
    ]
    print(f"\nleft out, not installed: {', '.join(missing) or 'none'}\nall numbers: {bench.out}")


if __name__ == "__main__":
    main()
