"""How often does a run survive? Processes are killed and files damaged at random, and counted.

    python experiments/benchmarks/survival.py --minutes 60

    table       2 and 4 processes fill one table of six runs and are killed at random moments.
                Right: no cell is begun twice unless its process was killed, and every file is that
                of a table which one process filled alone.
    kind        One run of each kind of method is killed at up to three random moments. Right: every
                file is that of a run which was never killed.
    flip, cut   A bit of a finished run is flipped, or a file cut short. Right: an error names the
                run when it is read, or everything reads as before.
    unfinished  A bit in the folder of an interrupted run is flipped, or a file cut short. Right:
                the run ends with the files of one that was never interrupted; or an error names
                the damaged claim, which has to grow old.

The parts take turns until each has as many rounds as were asked for, or the time is over. The CSV
has what was reached, and is written after every round.

Time: as --minutes says; all rounds take about an hour on two idle CPU cores. The table is in
docs/reliability.md.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import tyro
from measured import place, write_csv
from survival_damage import bits_of, damage_and_read, flip, lengths_of
from survival_kinds import kinds, left_out, train
from survival_table import (
    begun_twice,
    carry_out,
    contents,
    differing,
    fill_table,
    forked,
    kill_at_random,
    load_what_is_needed,
)

from da.records.claim import is_claim
from da.records.environment import environment

COLUMNS = ("part", "case", "rounds", "kills", "found", "harmless", "wrong", "seconds")
MOST_KILLS = 3  # of a run
AT_ONCE = 50  # damages of a turn
FLIPPED = "kind dann"  # whose folder is damaged


@dataclass(frozen=True)
class Options:
    """Count how often runs survive kills and damage."""

    out: Path = Path("experiments/records/bench_survival_cpu.csv")
    """The CSV."""
    minutes: float = 60.0
    """Time after which no round is begun."""
    tables: int = 100
    """Rounds of 2 processes on one table, and as many of 4."""
    runs: int = 300
    """Rounds of one run each, over all kinds of methods."""
    flips: int = 300
    """Flipped bits in a finished run, and a tenth as many in an interrupted one."""
    cuts: int = 100
    """Lengths that a large file is cut to."""
    seed: int = 0
    """Of the moments, the victims and the bits."""
    smoke_test: bool = False
    """One round of each."""


@dataclass
class Counts:
    """What came of the rounds of a part."""

    part: str
    case: str
    rounds: int = 0
    kills: int = 0
    found: int = 0
    harmless: int = 0
    wrong: int = 0
    seconds: float = 0.0


@dataclass
class Rounds:
    """All rounds, and what they share.

    Args:
        options: How many.
        folder: Where everything happens.
    """

    options: Options
    folder: Path
    counts: dict[tuple[str, str], Counts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.said = self.folder / "error.txt"
        self.chance = random.Random(self.options.seed)
        self.expected: dict[str, dict[str, str]] = {}
        self.alone: dict[str, float] = {}

    def of(self, part: str, case: str) -> Counts:
        """The counts of a part."""
        return self.counts.setdefault((part, case), Counts(part, case))

    def tables(self, processes: int) -> Iterator[Callable[[], None]]:
        """Rounds of several processes on one table."""
        for number in range(self.options.tables):
            yield partial(self._table, processes, number)

    def kinds(self) -> Iterator[Callable[[], None]]:
        """Rounds of one run each, kind by kind."""
        names = [name for name in kinds() if name not in left_out()]
        for number in range(self.options.runs):
            yield partial(self._kind, names[number % len(names)])

    def damages(self) -> Iterator[Callable[[], None]]:
        """Damaged files of a finished run: many a turn, because each takes little."""
        whole = self._finished()
        flips = [("flip", *each) for each in bits_of(whole, self.options.flips, self.options.seed)]
        cuts = [("cut", *each) for each in lengths_of(whole, self.options.cuts)]
        for all_of in (flips, cuts):
            for k in range(0, len(all_of), AT_ONCE):
                yield partial(self._damage, whole, all_of[k : k + AT_ONCE])

    def unfinished(self) -> Iterator[Callable[[], None]]:
        """Damaged files of an interrupted run, which goes on."""
        for number in range(self.options.flips // 10):
            yield partial(self._unfinished, number)

    def run(self) -> None:
        """Take turns until everything is done, or the time is over."""
        end = time.monotonic() + 60 * self.options.minutes
        turns = [self.tables(2), self.tables(4), self.kinds(), self.damages(), self.unfinished()]
        turns.insert(3, turns[2])  # three turns of the kinds in six
        turns.insert(0, turns[2])
        while turns:
            for turn in list(turns):
                if time.monotonic() > end:
                    return
                work = next(turn, None)
                if work is None:
                    turns = [each for each in turns if each is not turn]
                else:
                    work()
                    self.write()

    def write(self) -> None:
        """Write the CSV."""
        where = place(environment())
        rows = [{**vars(each), **where} for each in self.counts.values()]
        write_csv(self.options.out, (*COLUMNS, *where), rows)

    def _alone(self, name: str, work: Callable[[Path], object]) -> None:
        """Do the same without kills, once."""
        if name not in self.expected:
            folder = self._fresh("alone")
            self.alone[name] = carry_out(partial(work, folder), self.said)
            self.expected[name] = contents(folder)

    def _table(self, processes: int, number: int) -> None:
        self._alone("table", fill_table)
        counts = self.of("table", f"{processes} processes")
        folder, began = self._fresh("table"), _now()
        try:
            seed, seconds = self.options.seed + 1000 * processes + number, self.alone["table"] / 2
            killed = kill_at_random(
                folder, processes, seed=seed, kills=2 * processes, seconds=seconds
            )
            wrong = begun_twice(folder, killed)
            wrong += differing(contents(folder), self.expected["table"])
        except RuntimeError as error:
            killed, wrong = set(), [str(error)]
        self._count(counts, began, wrong, kills=len(killed))

    def _kind(self, name: str) -> None:
        work = partial(train, name)
        self._alone(f"kind {name}", work)
        counts, folder, began = self.of("kind", name), self._fresh("kind"), _now()
        again, seconds = partial(work, folder), self.alone[f"kind {name}"]
        kills = sum(self._killed(again, seconds) for _ in range(MOST_KILLS))
        try:
            carry_out(again, self.said)
            wrong = differing(contents(folder), self.expected[f"kind {name}"])
        except RuntimeError as error:
            wrong = [str(error)]
        self._count(counts, began, wrong, kills=kills)

    def _damage(self, whole: Path, damages: list[tuple[str, str, int]]) -> None:
        for part, name, number in damages:
            counts, began = self.of(part, name), _now()
            where = {"bit" if part == "flip" else "length": number}
            outcome = damage_and_read(whole, self.folder / "scratch", name, **where)  # type: ignore[arg-type]
            counts.found += outcome == "found"
            counts.harmless += outcome == "harmless"
            self._count(counts, began, [f"{name} {number}"] if outcome == "silent" else [])

    def _unfinished(self, number: int) -> None:
        """Interrupt a run, damage one of its files, and go on."""
        name = FLIPPED.removeprefix("kind ")
        self._alone(FLIPPED, partial(train, name))
        counts, folder, began = self.of("unfinished", name), self._fresh("unfinished"), _now()
        for _ in range(20):
            self._killed(partial(train, name, folder), self.alone[FLIPPED])
            place = next(iter(folder.glob("*/*/*/seed*")), None)
            if place is not None and (place / "checkpoint.pt").is_file():
                break
            shutil.rmtree(folder)
            folder.mkdir()
        else:
            return  # it was never met in the middle
        path = self.chance.choice(sorted(p for p in place.iterdir() if p.stat().st_size))
        size = path.stat().st_size
        if number % 2:
            flip(path, self.chance.randrange(8 * size))
        else:
            os.truncate(path, self.chance.randrange(size))
        try:
            carry_out(partial(train, name, folder), self.said)
            wrong = differing(contents(folder), self.expected[FLIPPED])
        except RuntimeError as error:  # of a claim it is found, and waited for by a whole script
            found = is_claim(path) and f"{path.name} is damaged" in str(error)
            counts.found += found
            wrong = [] if found else [f"{path.name}: {error}"]
        self._count(counts, began, wrong, kills=1)

    def _killed(self, work: Callable[[], object], seconds: float) -> bool:
        """Begin work and kill it at a random moment; whether it was still at it."""
        process = forked(work, self.said)
        time.sleep(self.chance.uniform(0.0, seconds))
        ended, _ = os.waitpid(process, os.WNOHANG)
        if not ended:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        return not ended

    def _finished(self) -> Path:
        """The folder of a finished run, which is kept."""
        folder = self.folder / "finished"
        folder.mkdir()
        carry_out(partial(train, FLIPPED.removeprefix("kind "), folder), self.said)
        return next(folder.glob("*/*/*/seed*"))

    def _fresh(self, name: str) -> Path:
        """An empty folder."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _count(self, counts: Counts, began: float, wrong: list[str], *, kills: int = 0) -> None:
        counts.rounds += 1
        counts.kills += kills
        counts.wrong += bool(wrong)
        counts.seconds += _now() - began
        if wrong:
            print(f"wrong: {counts.part} {counts.case}: {', '.join(wrong[:5])}", flush=True)


def _now() -> float:
    return time.monotonic()


def main(options: Options) -> None:
    """Count, and write the CSV."""
    if options.smoke_test:
        options = Options(options.out, 600.0, tables=1, runs=2, flips=10, cuts=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def warm_up() -> None:
            fill_table(folder / "first")
            train("mmd", folder / "first")

        (folder / "first").mkdir()
        load_what_is_needed(warm_up, folder)
        rounds = Rounds(options, folder)
        rounds.run()
    for case, reason in left_out().items():
        print(f"left out: {case}, because {reason}")
    for each in rounds.counts.values():
        print(f"{each.part} {each.case}: {each.rounds} rounds, {each.kills} kills, "
              f"{each.found} found, {each.harmless} harmless, {each.wrong} wrong")  # fmt: skip
    if any(each.wrong for each in rounds.counts.values()):
        sys.exit("error: not everything survived")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
