"""Time and memory of the shallow methods, beside skada's, adapt's and the textbook's ways to the same.

    pip install skada adapt
    DA_DATA=/path/to/data python experiments/benchmarks/shallow.py --slow-peers

n x d: two Gaussian samples of n rows in d dimensions, which differ in mean and variance. JDA runs on caltech>amazon of Office-Caltech10
as SURF histograms, 1,123 + 958 rows of 800, for ten rounds, where the data folder has them. A call is a fit; of CORAL, with the source
mapped by it.

In every round each contestant runs once, in an order drawn anew; a ratio pairs two processor times of one round, so that a busy machine
slows both. "times da" is how many times as long as da a contestant takes, as da does it by default. One thread, unless told otherwise:
the processor time is then what an idle core takes. Every contestant first runs on 64 rows, which loads what it needs.

A peer that takes long is left out, or runs in one round alone with --slow-peers. `reached` tells whether contestants solved the same
problem: the target's accuracy for JDA, and for KMM the squared MMD left between the weighted source and the target.

Memory: what a call needs beyond its inputs, at its peak: resident memory, in a fresh process each, at the
largest size that a contestant runs at.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro
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
from tqdm import tqdm

from da.data import data_root
from da.records.environment import environment
from da.records.grids import aligned

COLUMNS = (
    *("machine", "torch", "commit", "threads", "method", "problem", "contestant", "round"),
    *("wall_seconds", "process_seconds", "extra_mb", "reached", "note"),
)
SURF = "1123+958x800"
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
    """Run the slow peers too, in one round each: ten minutes or more."""
    threads: int = 1
    """Threads of PyTorch."""
    data_root: Path | None = None
    """Folder of the data sets; none: $DA_DATA, else data/. Without Office-Caltech10's SURF histograms JDA is left out."""
    out: Path = Path("runs/bench_shallow_cpu.csv")
    """Where the times of every round go."""
    smoke_test: bool = False
    """Two rounds at one tiny size, to see that everything runs; the ratios mean nothing."""

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


class Bar(NamedTuple):
    """A promise about one contestant: that a peer takes at least `limit` times as long, or that a column is at most `limit`."""

    method: str
    problem: str
    contestant: str
    column: str  # "process_seconds", "extra_mb", or the peer's name
    limit: float


LARGE = (
    ("TCA", "da, landmarks"),
    ("KMM", "da, landmarks"),
    ("KLIEP", "da"),
    ("KLIEP", "da, bandwidth chosen"),
    ("CORAL", "da"),
)
BARS = (
    Bar("JDA", SURF, "da", "process_seconds", 4.3),
    Bar("JDA", SURF, "da", "by the book", 3),
    *(Bar("TCA", "3000x100", name, "skada", 50) for name in ("da", "da, landmarks")),
    *(Bar("KMM", "10000x100", name, "skada", 10) for name in ("da", "da, landmarks")),
    *(
        Bar(*each, "process_seconds", 10)
        for each in [(method, "30000x100", name) for method, name in LARGE]
    ),
    *(
        Bar(*each, "extra_mb", 1000)
        for each in [(method, "30000x100", name) for method, name in LARGE]
    ),
)


class Bench:
    """The CSV's rows as they are measured. It is written after every problem, so that an interrupted run leaves what it has."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rows: list[dict[str, Any]] = []
        here = environment()
        commit = f"{here['git']['commit']}{' changed' if here['git']['dirty'] else ''}"
        self.common = {
            "machine": here["device"],
            "torch": torch.__version__,
            "commit": commit,
            "threads": options.threads,
        }
        self.names = dict.fromkeys(options.methods or [each.method for each in CONTESTANTS])
        self.missing = sorted({each.package for each in CONTESTANTS if not find_spec(each.package)})

    def run(self) -> None:
        """Everything the options ask for."""
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
            self.add(
                each,
                str(size),
                **in_a_process(Job(each.method, each.name, size, self.options.threads)),
            )
            self.write()

    def labelled(self) -> list[Problem]:
        """The problem of JDA, unless there is none to be had."""
        if self.options.smoke_test:
            return [shifted(Size(32, 16), classes=4)]
        try:
            return [surf(data_root(self.options.data_root))] if "JDA" in self.names else []
        except FileNotFoundError as error:
            self.missing.append(f"JDA ({error})")
            return []

    def own(self, sizes: list[Size]) -> list[tuple[Contestant, Size]]:
        """da's contestants, each with the largest of these sizes that it runs at."""
        names = self.names.keys() - {"JDA"}
        own = [each for each in CONTESTANTS if each.method in names and each.name.startswith("da")]
        found = [
            (each, max(fitting))
            for each in own
            if (fitting := [size for size in sizes if size.n <= each.largest])
        ]
        return found[:1] if self.options.smoke_test else found

    def time(self, method: str, problem: Problem) -> None:
        """One method on one problem, round by round."""
        every = [
            each
            for each in CONTESTANTS
            if each.method == method and each.package not in self.missing
        ]
        often = [each for each in every if self.runs(each, problem, often=True)]
        once = [
            each for each in every if each not in often and self.runs(each, problem, often=False)
        ]
        for each in every:
            if each not in often + once:
                self.add(
                    each,
                    problem.name,
                    note="left out: too slow"
                    if each.slow
                    else "left out: a kernel of all rows is too large",
                )
        for each in often + once:  # what is imported at the first call shall not count
            timed(
                each,
                shifted(Size(64, problem.source.shape[1]), classes=4 if method == "JDA" else 0),
            )
        generator, begin, names = (
            np.random.default_rng(0),
            len(self.rows),
            [each.name for each in every],
        )
        for number in range(self.options.rounds):
            turns = often + (once if number == 0 else [])
            for place in generator.permutation(len(turns)):
                self.measure(turns[place], problem, number)
        self.rows[begin:] = sorted(
            self.rows[begin:], key=lambda row: (names.index(row["contestant"]), row["round"])
        )

    def runs(self, contestant: Contestant, problem: Problem, *, often: bool) -> bool:
        n = max(len(problem.source), len(problem.target))
        return (
            n <= contestant.largest if often else self.options.slow_peers and n <= contestant.slow
        )

    def measure(self, contestant: Contestant, problem: Problem, number: int) -> None:
        wall, process, result, warning = timed(contestant, problem)
        values: dict[str, Any] = {
            "round": number,
            "wall_seconds": wall,
            "process_seconds": process,
            "note": warning,
        }
        if number == 0 and len(problem.source) <= JUDGED:
            values["reached"] = reached(contestant.method, problem, result)
        self.add(contestant, problem.name, **values)

    def add(self, contestant: Contestant, problem: str, **values: Any) -> None:
        self.rows.append(
            {
                **self.common,
                "method": contestant.method,
                "problem": problem,
                "contestant": contestant.name,
                **values,
            }
        )

    def write(self) -> None:
        self.options.out.parent.mkdir(parents=True, exist_ok=True)
        with open(self.options.out, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for row in self.rows:
                writer.writerow(
                    {
                        key: f"{value:.6g}" if isinstance(value, float) else value
                        for key, value in row.items()
                    }
                )


Case = tuple[str, str, str]  # method, problem, contestant


def seconds(
    rows: list[dict[str, Any]], column: str = "process_seconds"
) -> dict[Case, dict[int, float]]:
    """Of each case, the time of each round."""
    found: dict[Case, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if column in row:
            found[row["method"], row["problem"], row["contestant"]][row["round"]] = row[column]
    return found


def ratio(times: dict[int, float], others: dict[int, float]) -> np.ndarray:
    """times / others, of the rounds that have both."""
    return np.array([times[number] / others[number] for number in times.keys() & others.keys()])


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A line for each method, problem and contestant: medians over rounds."""
    lines = [
        [
            "method",
            "problem",
            "contestant",
            "rounds",
            "s",
            "s of wall time",
            "times da",
            "lowest to highest",
            "extra MB",
            "reached",
            "",
        ]
    ]
    process, wall = seconds(rows), seconds(rows, "wall_seconds")
    for case in dict.fromkeys((row["method"], row["problem"], row["contestant"]) for row in rows):
        own = [row for row in rows if (row["method"], row["problem"], row["contestant"]) == case]
        cells = [""] * 5
        if case in process:
            first = next(
                times for other, times in process.items() if other[:2] == case[:2]
            )  # da's is the first of the list
            ratios = ratio(process[case], first)
            medians = [f"{np.median(list(times[case].values())):.3g}" for times in (process, wall)]
            cells = [
                str(len(ratios)),
                *medians,
                f"{np.median(ratios):.3g}",
                f"{min(ratios):.3g} to {max(ratios):.3g}",
            ]
        memory = [f"{row['extra_mb']:.0f}" for row in own if "extra_mb" in row]
        judged = [f"{row['reached']:.4g}" for row in own if row.get("reached") is not None]
        notes = [row["note"] for row in own if row.get("note")]
        lines.append([*case, *cells, *(memory or [""]), *(judged or [""]), (notes or [""])[0][:60]])
    return lines


def verdicts(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A line for each bar: what was promised, what was measured, and whether it is met."""
    lines = [["bar", "", "measured", ""]]
    process = seconds(rows)
    memory = {
        (row["method"], row["problem"], row["contestant"]): row["extra_mb"]
        for row in rows
        if "extra_mb" in row
    }
    for bar in BARS:
        own, fast = process.get(bar[:3], {}), bar.column not in ("process_seconds", "extra_mb")
        if fast:
            values = ratio(process.get((*bar[:2], bar.column), {}), own)
            words = f"{bar.method}, {bar.problem}, {bar.contestant}: {bar.column} takes"
        else:
            values = np.array(
                list(own.values())
                if bar.column == "process_seconds"
                else [memory[bar[:3]]]
                if bar[:3] in memory
                else []
            )
            words = f"{bar.method}, {bar.problem}, {bar.contestant}: {bar.column}"
        value = float(np.median(values)) if len(values) else None
        met = value is not None and (value >= bar.limit if fast else value <= bar.limit)
        verdict = "not measured" if value is None else "met" if met else "MISSED"
        limit = f"at least {bar.limit:g} times as long" if fast else f"at most {bar.limit:.3g}"
        lines.append([words, limit, "" if value is None else f"{value:.3g}", verdict])
    return lines


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
        f"{bench.common['machine']}, torch {torch.__version__}, {options.threads} threads; processor time, {options.rounds} rounds.\n"
    )
    print(aligned(table(bench.rows)), aligned(verdicts(bench.rows)), sep="\n\n")
    print(
        f"\nleft out, not installed: {', '.join(bench.missing) or 'none'}\nall numbers: {options.out}"
    )


if __name__ == "__main__":
    main()
