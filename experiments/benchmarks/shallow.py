"""Time and memory of the shallow methods, beside skada, adapt and the textbook.

    pip install skada adapt
    DA_DATA=/path/to/data python experiments/benchmarks/shallow.py --slow-peers

n x d stands for two Gaussian samples of n rows in d dimensions that differ in mean and variance.
JDA runs on caltech>amazon of Office-Caltech10 as SURF histograms (1,123 + 958 rows of 800) for ten
rounds, if the data folder has them. A call is a fit. CORAL's call also maps the source.

Time: in every round each contestant runs once, in a new random order. A ratio compares two
processor times of one round, so a busy machine slows both. "times da" is how many times as long as
da's default a contestant takes. With one thread, the default, the processor time is what an idle
core takes. Every contestant first runs on 64 rows, which loads what it needs. A slow peer is left
out; with --slow-peers it runs in one round.

Memory: what a call needs at its peak beyond its inputs, as resident memory, in a fresh process, at
the largest size that a contestant runs at.

`reached` shows whether contestants solved the same problem: the accuracy on the target for JDA, and
for KMM the squared MMD that is left between the weighted source and the target.

The tables are in docs/performance.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from measured import place, write_csv
from mmd_contestants import Size
from shallow_contestants import (
    CONTESTANTS,
    Contestant,
    Job,
    Problem,
    in_a_process,
    reached,
    shifted,
    surf,
    timed,
)
from shallow_report import table, verdicts
from tqdm import tqdm

from da.data import data_root
from da.records.environment import environment
from da.records.grids import aligned

COLUMNS = (
    *("machine", "torch", "commit", "threads", "method", "problem", "contestant", "round"),
    *("wall_seconds", "process_seconds", "extra_mb", "reached", "note"),
)
JUDGED = 10_000  # rows up to which `reached` is computed


@dataclass(frozen=True)
class Options:
    """Time and memory of the shallow methods."""

    sizes: tuple[str, ...] = ("1000x100", "3000x100", "10000x100", "30000x100")
    """Rows of each sample x width."""
    methods: tuple[str, ...] = ()
    """Of JDA, TCA, KMM, KLIEP, CORAL; none: all."""
    rounds: int = 5
    """Rounds at every size."""
    slow_peers: bool = False
    """Run the slow peers too, in one round each. It takes ten minutes or more."""
    threads: int = 1
    """Threads of PyTorch."""
    data_root: Path | None = None
    """Folder of the data sets; none: $DA_DATA, else data/. JDA needs the SURF histograms."""
    out: Path = Path("runs/bench_shallow_cpu.csv")
    """Where the times of every round go."""
    smoke_test: bool = False
    """Two rounds at one tiny size, to see that everything runs. The ratios mean nothing."""

    def __post_init__(self) -> None:
        for name in ("rounds", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        known = dict.fromkeys(each.method for each in CONTESTANTS)
        if wrong := set(self.methods) - set(known):
            raise ValueError(
                f"methods must be of {', '.join(known)}; got {', '.join(sorted(wrong))}"
            )
        for size in self.sizes:
            Size.of(size)


class Bench:
    """Measure, and collect the rows of the CSV.

    The CSV is written after every problem, so that an interrupted run leaves what it has.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rows: list[dict[str, Any]] = []
        self.common = {**place(environment()), "threads": options.threads}
        self.names = dict.fromkeys(options.methods or [each.method for each in CONTESTANTS])
        self.missing = sorted({each.package for each in CONTESTANTS if not find_spec(each.package)})

    def run(self) -> None:
        """Measure everything that the options ask for."""
        sizes = sorted(map(Size.of, self.options.sizes))
        problems = [*self.labelled(), *map(shifted, sizes)]
        pairs = [
            (method, each)
            for each in problems
            for method in self.names
            if (method == "JDA") == (each.source_labels is not None)
        ]
        for method, problem in (bar := tqdm(pairs, unit="case", disable=None)):
            bar.set_description(f"{method}, {problem.name}")
            self.time(method, problem)
            self.write()
        for each, size in tqdm(self.own(sizes), unit="process", disable=None):
            job = Job(each.method, each.name, size, self.options.threads)
            self.add(each, str(size), **in_a_process(job))
            self.write()

    def labelled(self) -> list[Problem]:
        """The problem of JDA. Without its data there is none."""
        if self.options.smoke_test:
            return [shifted(Size(32, 16), classes=4)]
        try:
            return [surf(data_root(self.options.data_root))] if "JDA" in self.names else []
        except FileNotFoundError as error:
            self.missing.append(f"JDA ({error})")
            return []

    def own(self, sizes: list[Size]) -> list[tuple[Contestant, Size]]:
        """da's contestants, each with the largest of these sizes that it runs at."""
        names, found = self.names.keys() - {"JDA"}, []
        for each in CONTESTANTS:
            if each.method in names and each.name.startswith("da"):
                fitting = [size for size in sizes if size.n <= each.largest]
                found += [(each, max(fitting))] if fitting else []
        return found[:1] if self.options.smoke_test else found

    def time(self, method: str, problem: Problem) -> None:
        """Time one method on one problem, round by round."""
        every = [each for each in CONTESTANTS if each.method == method]
        every = [each for each in every if each.package not in self.missing]
        often = [each for each in every if self.runs(each, problem, often=True)]
        rest = [each for each in every if each not in often]
        once = [each for each in rest if self.runs(each, problem, often=False)]
        for each in rest:
            if each not in once:
                reason = "too slow" if each.slow else "a kernel of all rows is too large"
                self.add(each, problem.name, note=f"left out: {reason}")
        few = shifted(Size(64, problem.source.shape[1]), classes=4 if method == "JDA" else 0)
        for each in often + once:
            timed(each, few)  # imports at the first call do not count
        generator, begin = np.random.default_rng(0), len(self.rows)
        for number in range(self.options.rounds):
            turns = often + (once if number == 0 else [])
            for i in generator.permutation(len(turns)):
                self.measure(turns[i], problem, number)
        names = [each.name for each in every]
        self.rows[begin:] = sorted(
            self.rows[begin:], key=lambda row: (names.index(row["contestant"]), row["round"])
        )

    def runs(self, contestant: Contestant, problem: Problem, *, often: bool) -> bool:
        """Whether a contestant runs on a problem in every round, or else in one."""
        n = max(len(problem.source), len(problem.target))
        if often:
            return n <= contestant.largest
        return self.options.slow_peers and n <= contestant.slow

    def measure(self, contestant: Contestant, problem: Problem, number: int) -> None:
        """Time one call and add its row."""
        wall, process, result, warning = timed(contestant, problem)
        values: dict[str, Any] = {"wall_seconds": wall, "process_seconds": process}
        if number == 0 and len(problem.source) <= JUDGED:
            values["reached"] = reached(contestant.method, problem, result)
        self.add(contestant, problem.name, round=number, note=warning, **values)

    def add(self, contestant: Contestant, problem: str, **values: Any) -> None:
        """Add a row."""
        names = {"method": contestant.method, "problem": problem, "contestant": contestant.name}
        self.rows.append({**self.common, **names, **values})

    def write(self) -> None:
        """Write the CSV."""
        write_csv(self.options.out, COLUMNS, self.rows)


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        if options.smoke_test:
            options = replace(options, rounds=2, sizes=("64x4",))
        torch.set_num_threads(options.threads)
        bench = Bench(options)
        bench.run()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(
        f"{bench.common['machine']}, torch {torch.__version__}, {options.threads} threads; "
        f"processor time, {options.rounds} rounds.\n"
    )
    print(aligned(table(bench.rows)), aligned(verdicts(bench.rows)), sep="\n\n")
    missing = ", ".join(bench.missing) or "none"
    print(f"\nleft out, not installed: {missing}\nall numbers: {options.out}")


if __name__ == "__main__":
    main()
