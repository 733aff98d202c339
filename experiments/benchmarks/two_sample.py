"""Two-sample tests at size: a million rows, level, power beside goodpoints, and FUSE.

    pip install goodpoints
    python experiments/benchmarks/two_sample.py

size: `block_mmd_test` on 1,000,000 + 1,000,000 standard normal rows of 10 columns in float32, each
time in a process of its own. Memory is what the call adds to the resident memory at its peak.

level: the share of p-values of at most 0.05 over pairs of samples that do not differ: two standard
normal samples of 400 and 300 rows, 32 blocks.

power: pairs of 16,384 rows of 10 columns. The first sample is standard normal, the second is moved
by `--shift` along the first column. Every test sees the same pairs, in a random order, with 39 and
more relabellings at the level 0.05. CTT of goodpoints is at compression level 4 with the median
bandwidth, as its authors' examples have it; blocks have 192 features, the default, and others.

null: the same tests on `--nulls-beside` pairs of that size that do not differ, so that no power is
that of a test which rejects everything.

fuse: `mmd_fuse` beside the same statistic by float64 matrices of all pairs, in random order; 10
columns, 1,000 relabellings, both kinds of kernels with 10 bandwidths.

Processor seconds, on one thread. The tables are in docs/results/two_sample_power.md.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from measured import place, write_csv
from scipy.spatial.distance import pdist
from tqdm import tqdm

from da.records.environment import environment
from da.shift import block_mmd_test, mmd_fuse
from da.shift.permutations import relabelled_mmd2, relabellings

COLUMNS = (
    *("machine", "torch", "commit", "part", "contestant", "rows", "columns", "round"),
    *("process_seconds", "extra_mb", "p_value", "statistic"),
)
RELABELLINGS = 199  # of CTT
PARTS = ("size", "level", "power", "null", "fuse")
MEASURED = """
import json, sys, time
import torch
torch.set_num_threads(1)
sys.path.insert(0, {folder!r})
from mmd_contestants import memory
from two_sample import samples, TESTS
x, y = samples({seed}, {rows}, {columns}, 0.0)
test = TESTS[{name!r}]
test(x[:64], y[:64])
before = memory("cpu", reset=True)
start = time.process_time()
found = test(x, y)
seconds = time.process_time() - start
extra = (memory("cpu") - before) / 1e6
values = dict(process_seconds=seconds, extra_mb=extra, p_value=found[0], statistic=found[1])
print(json.dumps(values))
"""


@dataclass(frozen=True)
class Options:
    """Measure the two-sample tests at size."""

    parts: tuple[str, ...] = PARTS
    """What is measured."""
    rounds: int = 5
    """Rounds of size and fuse."""
    nulls: int = 2000
    """Pairs of samples for the level."""
    pairs: int = 20
    """Pairs of samples for the power."""
    nulls_beside: int = 20
    """Pairs that do not differ, for all tests of the power."""
    shift: float = 0.05
    """How far the second sample is moved along the first column, for the power."""
    features: tuple[int, ...] = (192, 512, 1024, 2048)
    """Features of the blocks whose power is measured."""
    fuse_rows: int = 2048
    """Rows of each sample for FUSE."""
    out: Path = Path("runs/bench_two_sample_cpu.csv")
    """Where the figures of every round go."""
    smoke_test: bool = False
    """Few rows and rounds, to see that everything runs."""

    def __post_init__(self) -> None:
        if wrong := set(self.parts) - set(PARTS):
            raise ValueError(f"parts must be of {', '.join(PARTS)}; got {', '.join(sorted(wrong))}")


def samples(seed: int, rows: int, columns: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Two standard normal samples in float32, the second moved along its first column."""
    generator = np.random.default_rng(seed)
    x, y = generator.standard_normal((2, rows, columns), dtype=np.float32)
    y[:, 0] += shift
    return x, y


Test = Callable[[np.ndarray, np.ndarray], tuple[float, float]]


def fuse(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """P-value and statistic of `mmd_fuse`."""
    found = mmd_fuse(x, y)
    return found.p_value, found.statistic


def fuse_by_the_book(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The same by the formulas: float64 matrices of all pairs."""
    n = len(x)
    z = torch.from_numpy(np.concatenate([x, y])).double()
    members = relabellings(n, len(y), 1000, generator=torch.Generator().manual_seed(0))
    above = torch.triu_indices(len(z), len(z), offset=1)
    ratios = []
    for norm in (2.0, 1.0):
        distances = torch.cdist(z, z, p=norm, compute_mode="donot_use_mm_for_euclid_dist")
        pairs = distances[above[0], above[1]].sort().values
        low, high = (float(pairs[math.floor(q * (len(pairs) - 1))]) for q in (0.05, 0.95))
        for length in np.linspace(low / 2, 2 * high, 10):
            scaled = distances / length
            gram = torch.exp(-scaled.square() / 2 if norm == 2 else -math.sqrt(2) * scaled)
            gram.fill_diagonal_(0)
            size = math.sqrt(float(gram.square().sum()) / (n * (n - 1)))
            ratios.append(relabelled_mmd2(gram, members, unbiased=True) / size)
    sharpness = math.sqrt(n * (n - 1))
    values = torch.stack(ratios)
    statistics = (torch.logsumexp(sharpness * values, 0) - math.log(len(values))) / sharpness
    larger = int((statistics[1:] >= statistics[0] - 1e-10).sum())
    return (1 + larger) / len(statistics), float(statistics[0])


def blocks(features: int) -> Test:
    """`block_mmd_test` with so many features."""

    def test(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        found = block_mmd_test(x, y, features=features)
        return found.p_value, found.statistic

    return test


def compress_then_test(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """CTT of goodpoints at compression level 4, with the median bandwidth."""
    from goodpoints.ctt import ctt

    some = np.random.default_rng(0).choice(len(x), 500, replace=False)
    scale = float(np.median(pdist(np.concatenate([x[some], y[some]]).astype(float))))
    a, b = (np.ascontiguousarray(z, dtype=float) for z in (x, y))
    found = ctt(a, b, 4, B=RELABELLINGS, lam=scale, null_seed=1, statistic_seed=2)
    # Its values are those of the relabellings and of the given labels, in an order of their own.
    at_least = int((found.estimator_values >= found.statistic_values).sum())
    return at_least / len(found.estimator_values), float(found.statistic_values)


TESTS: dict[str, Test] = {"blocks": blocks(192), "fuse": fuse, "by the book": fuse_by_the_book}


class Bench:
    """Measure, and collect the rows of the CSV, which is written after every round."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rows: list[dict[str, Any]] = []
        self.common = place(environment())

    def run(self) -> None:
        """Measure everything that the options ask for."""
        for part in self.options.parts:
            for row in tqdm(getattr(self, part)(), desc=part, disable=None):
                self.rows.append({**self.common, "part": part, **row})
                write_csv(self.options.out, COLUMNS, self.rows)

    def size(self) -> Iterator[dict[str, Any]]:
        """A million rows and a million, in fresh processes."""
        rows = 10_000 if self.options.smoke_test else 1_000_000
        for k in range(self.options.rounds):
            yield apart("blocks", rows, k)

    def level(self) -> Iterator[dict[str, Any]]:
        """P-values of samples that do not differ."""
        generator = np.random.default_rng(0)
        for k in range(self.options.nulls):
            x, y = generator.normal(size=(400, 10)), generator.normal(size=(300, 10))
            found = block_mmd_test(x, y, blocks=32, permutations=199, random_state=k)
            yield row_of("blocks", 400, k, p_value=found.p_value)

    def power(self) -> Iterator[dict[str, Any]]:
        """P-values of samples that differ, and the time of each test."""
        yield from self.side_by_side(range(self.options.pairs), self.options.shift)

    def null(self) -> Iterator[dict[str, Any]]:
        """P-values of the same tests on samples that do not differ."""
        first = self.options.pairs
        yield from self.side_by_side(range(first, first + self.options.nulls_beside), 0.0)

    def side_by_side(self, seeds: range, shift: float) -> Iterator[dict[str, Any]]:
        """P-values and times of every test on the same pairs."""
        rows = 2048 if self.options.smoke_test else 16_384
        tests = {f"{count} features": blocks(count) for count in self.options.features}
        tests["CTT"] = compress_then_test
        for name in tests:
            tests[name](*samples(0, 512, 10, 0.0))  # loads what it needs
        order = np.random.default_rng(0)
        for k in seeds:
            x, y = samples(k, rows, 10, shift)
            for name in order.permutation(list(tests)).tolist():
                start = time.process_time()
                p_value, statistic = tests[name](x, y)
                seconds = time.process_time() - start
                yield row_of(name, rows, k, p_value, statistic, seconds)

    def fuse(self) -> Iterator[dict[str, Any]]:
        """FUSE before and after, in fresh processes."""
        order = np.random.default_rng(0)
        for k in range(self.options.rounds):
            for name in order.permutation(["fuse", "by the book"]).tolist():
                yield apart(name, self.options.fuse_rows, k)


def row_of(
    name: str,
    rows: int,
    k: int,
    p_value: float | None = None,
    statistic: float | None = None,
    process_seconds: float | None = None,
) -> dict[str, Any]:
    """A row of the CSV, of ten columns."""
    return {
        **{"contestant": name, "rows": rows, "columns": 10, "round": k, "p_value": p_value},
        **{"statistic": statistic, "process_seconds": process_seconds},
    }


def apart(name: str, rows: int, k: int) -> dict[str, Any]:
    """One call in a process of its own, with its time and memory."""
    folder = str(Path(__file__).resolve().parent)
    code = MEASURED.format(folder=folder, seed=k, rows=rows, columns=10, name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return row_of(name, rows, k) | json.loads(done.stdout)


def main() -> None:
    """The command line."""
    options = tyro.cli(Options)
    if options.smoke_test:
        few = {"rounds": 1, "nulls": 5, "pairs": 1, "nulls_beside": 1, "fuse_rows": 64}
        options = replace(options, **few, features=(64,))
    torch.set_num_threads(1)
    Bench(options).run()
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
