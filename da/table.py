"""Tables of target accuracy, made from finished run records and from nothing else.

    python -m da.table runs --experiment office31 --select last --baseline none --format markdown

A row is a method, a column a task (source>target), a cell the mean and standard deviation (ddof 1) over seeds, in percent. The rule that
selected the model stands in the heading: "last" (the last step), the name of a label-free score, or "oracle", which reads target labels.
Under the table stands every method's difference to a baseline row, paired by seed, with its 95 % t-interval (da.compare).
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import tyro
from tqdm import tqdm

from da.compare import Difference, paired_difference
from da.grids import aligned, piped, replace_marked
from da.records import NAMES, Record, read_runs

MISSING = "-"
AVERAGE = "average"
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Table:
    """Accuracies of one experiment under one selection rule; `Table.of(records)` makes it.

    accuracies[method, task][seed] is a fraction in [0, 1]; `baseline` is the row the others are compared with.
    """

    experiment: str
    select: str
    baseline: str
    rows: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracies: Mapping[tuple[str, str], Mapping[int, float]]

    @classmethod
    def of(
        cls, records: Iterable[Record], *, select: str = "last", baseline: str = "none", where: Mapping[str, Any] | None = None
    ) -> Table:
        """The table of `records`, kept to those whose configuration has every value in `where` (keys as in config.json, dots into parts).

        Raises ValueError without records, for records of two experiments, where a run lacks `select`, and, naming the folders, where the
        runs of one cell differ in more than their seed: such a mean would be of nothing.
        """
        kept = [record for record in records if all(_has(record, key, value) for key, value in (where or {}).items())]
        experiments = sorted({record.result["experiment"] for record in kept})
        if len(experiments) != 1:
            found = (
                f"of {', '.join(experiments)}: name one with --experiment" if experiments else "at all: check --runs-dir, names and where"
            )
            raise ValueError(f"a table is made from finished runs of one experiment; got runs {found}")
        cells: dict[tuple[str, str], list[Record]] = {}
        for record in kept:
            cells.setdefault((record.result["method"], f"{record.result['source']}>{record.result['target']}"), []).append(record)
        for cell, runs in cells.items():
            _check_alike(cell, runs)
        accuracies = {cell: {run.result["seed"]: _accuracy(run, select) for run in runs} for cell, runs in cells.items()}
        methods = sorted({method for method, _ in cells}, key=lambda method: (method != baseline, method))
        tasks = sorted({task for _, task in cells})
        seeds = sorted({seed for values in accuracies.values() for seed in values})
        return cls(experiments[0], select, baseline, tuple(methods), tuple(tasks), tuple(seeds), accuracies)

    def values(self, method: str, task: str) -> dict[int, float]:
        """Accuracy in percent by seed; for the task "average" the mean over all tasks, of the seeds that have every one of them."""
        if task != AVERAGE:
            return {seed: 100 * value for seed, value in self.accuracies.get((method, task), {}).items()}
        parts = [self.values(method, each) for each in self.tasks]
        return {seed: float(np.mean([part[seed] for part in parts])) for seed in self.seeds if all(seed in part for part in parts)}

    def mean(self, method: str, task: str) -> float | None:
        """Mean over seeds in percent, None where there is no run."""
        values = list(self.values(method, task).values())
        return float(np.mean(values)) if values else None

    def deviation(self, method: str, task: str) -> float | None:
        """Standard deviation over seeds (ddof 1) in percent, None below two seeds."""
        values = list(self.values(method, task).values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def difference(self, method: str, task: str) -> Difference | None:
        """`method` less the baseline over the seeds that both have; None where there is none."""
        return paired_difference(self.values(method, task), self.values(self.baseline, task))

    def to_text(self) -> str:
        """The table for a terminal, in aligned columns."""
        return "\n\n".join(f"{title}\n\n{aligned(grid)}" for title, grid in self._parts())

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return "\n\n".join(f"{title}\n\n{piped(grid)}" for title, grid in self._parts())

    def to_csv(self, path: Path | str) -> None:
        """One line a cell, unrounded: number of seeds, mean and std in percent, difference to the baseline and its interval in points."""
        Path(path).write_text(self.csv_text(), encoding="utf-8")

    def csv_text(self) -> str:
        """What `to_csv` writes."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["experiment", "select", "method", "task", "seeds", "mean", "std", "baseline", "difference", "low", "high"])
        for method in self.rows:
            for task in self._columns():
                gain = self.difference(method, task) if method != self.baseline else None
                numbers = (gain.mean, gain.low, gain.high) if gain else (None, None, None)
                cell = (len(self.values(method, task)), self.mean(method, task), self.deviation(method, task))
                writer.writerow([self.experiment, self.select, method, task, *cell, self.baseline, *numbers])
        return text.getvalue()

    def _columns(self) -> tuple[str, ...]:
        return (*self.tasks, AVERAGE) if len(self.tasks) > 1 else self.tasks

    def _parts(self) -> list[tuple[str, list[list[str]]]]:
        """Title and grid of the table and, where there is something to compare, of the differences."""
        header = ["method", *self._columns()]
        seeds = {frozenset(values) for values in self.accuracies.values()}  # one set of seeds, or several where runs are missing
        grid = [header, *([method, *(self._cell(method, task, len(seeds) > 1) for task in self._columns())] for method in self.rows)]
        title = f"{self.experiment}: target accuracy in percent, model selected by {self.select!r}"
        title += " (reads target labels: an upper bound)" if self.select == "oracle" else ""
        title += f"; {_over_seeds(self.seeds, alike=len(seeds) == 1)}."
        others = [method for method in self.rows if method != self.baseline]
        if self.baseline not in self.rows:
            return [(f"{title} No runs of the baseline {self.baseline!r} to compare with.", grid)]
        if not others:
            return [(title, grid)]
        gains = [header, *([method, *(self._gain(method, task) for task in self._columns())] for method in others)]
        words = f"Difference to {self.baseline!r} in percentage points, paired by seed, with its 95 % t-interval."
        return [(title, grid), (words, gains)]

    def _cell(self, method: str, task: str, counted: bool) -> str:
        values, mean, deviation = self.values(method, task), self.mean(method, task), self.deviation(method, task)
        if mean is None:
            return MISSING
        text = f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"
        return f"{text} ({len(values)})" if counted else text

    def _gain(self, method: str, task: str) -> str:
        gain = self.difference(method, task)
        return MISSING if gain is None else str(gain)


def load(runs_dir: Path | str, experiment: str | None = None) -> list[Record]:
    """The finished runs below `runs_dir`, of one experiment or of all. Raises FileNotFoundError where there is no such folder."""
    return read_runs(runs_dir, experiment=experiment)


def fill(cells: Sequence[T], run_cell: Callable[[T], R], *, finished: Callable[[T], bool] | None = None) -> list[R]:
    """Call `run_cell` for every cell in turn that is not `finished`, under a progress bar; returns what the calls returned.

    A cell is whatever `run_cell` takes. Runs are idempotent, so a `fill` that was interrupted is simply called again.
    """
    left = [cell for cell in cells if finished is None or not finished(cell)]
    results = []
    with tqdm(left, total=len(cells), initial=len(cells) - len(left), unit="run", disable=None) as bar:  # disable=None: only in a terminal
        for cell in bar:
            bar.set_postfix_str(str(cell))
            results.append(run_cell(cell))
    return results


def update_readme(path: Path | str, name: str, table: Table, *, command: str, check: bool = False) -> bool:
    """Put the table, and the command that made it, between `<!-- table: name -->` and `<!-- /table -->`; whether the file was up to date.

    With `check` nothing is written. Raises ValueError where the file does not hold the two marks exactly once.
    """
    return replace_marked(path, f"<!-- table: {name} -->", "<!-- /table -->", f"{table.to_markdown()}\n\n`{command}`", check=check)


def _has(record: Record, key: str, value: Any) -> bool:
    """Whether the name or configuration value at `key` ("optimizer.name") is `value`."""
    found: Any = {name: record.result[name] for name in NAMES} | record.config
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return False
        found = found[part]
    return bool(found == (list(value) if isinstance(value, tuple) else value))


def _check_alike(cell: tuple[str, str], runs: Sequence[Record]) -> None:
    """Runs of one cell may differ in their seed alone."""
    first: dict[int, Record] = {}
    for run in runs:
        other = first.setdefault(run.result["seed"], run)
        for against in (other, runs[0]):
            keys = sorted(key for key in run.config.keys() | against.config.keys() if run.config.get(key) != against.config.get(key))
            differing = [key for key in keys if key not in ("seed", "seeds")]
            if differing or (against is other and run is not other):
                words = ", ".join(differing) or "nothing but their folders"
                raise ValueError(
                    f"runs of {cell[0]} on {cell[1]} differ in {words}: {against.directory} and {run.directory}; "
                    "keep one configuration with where (--where key=value), or move the other folder away"
                )


def _accuracy(run: Record, select: str) -> float:
    selected = run.result.get("selected", {})
    if select not in selected:
        raise ValueError(f"{run.directory} has no selection {select!r}; it has {', '.join(sorted(selected)) or 'none'}")
    value = selected[select].get("target_accuracy")
    if value is None or not 0 <= value <= 1:
        raise ValueError(f"{run.directory}: target_accuracy under {select!r} must be a fraction in [0, 1]; got {value!r}")
    return float(value)


def _over_seeds(seeds: Sequence[int], *, alike: bool) -> str:
    listed = ", ".join(str(seed) for seed in seeds)
    if not alike:
        return f"mean ± standard deviation over DIFFERENT seeds of {listed}, their number in parentheses"
    return f"one seed ({listed})" if len(seeds) == 1 else f"mean ± standard deviation over {len(seeds)} seeds ({listed})"


@dataclass(frozen=True)
class Options:
    """Print the table of one experiment from its finished runs, or put it into a README."""

    runs_dir: Annotated[Path, tyro.conf.Positional]
    """Folder of runs."""
    experiment: str | None = None
    """Experiment to show; needed where the folder holds several."""
    select: str = "last"
    """Which model of a run counts: last, the name of a label-free score, or oracle (reads target labels)."""
    baseline: str = "none"
    """Row that the others are compared with."""
    where: tuple[str, ...] = ()
    """Keep the runs whose configuration has these values: key=value."""
    format: Literal["text", "markdown", "csv"] = "text"
    """How to print it."""
    readme: Path | None = None
    """File to update instead, between <!-- table: NAME --> and <!-- /table -->."""
    name: str | None = None
    """NAME of the marks in the file; the experiment's without it."""
    check: bool = False
    """Change nothing; fail where the file differs from the runs."""

    def command(self) -> str:
        """The command line that makes this table, without the file it is put into."""
        words = ["python -m da.table", str(self.runs_dir), f"--experiment {self.experiment}" if self.experiment else ""]
        words += [f"--select {self.select}", f"--baseline {self.baseline}", f"--where {' '.join(self.where)}" if self.where else ""]
        return " ".join(word for word in words if word)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: see `python -m da.table --help`."""
    options = tyro.cli(Options, args=arguments, prog="python -m da.table")
    try:
        records = matching(load(options.runs_dir, options.experiment), options.where)
        table = Table.of(records, select=options.select, baseline=options.baseline)
        if options.readme is None:
            formats = {"text": table.to_text, "markdown": table.to_markdown, "csv": table.csv_text}
            print(formats[options.format]().rstrip("\n"))
        else:
            name = options.name or table.experiment
            same = update_readme(options.readme, name, table, command=options.command(), check=options.check)
            if options.check and not same:
                sys.exit(f"{options.readme}: the table {name!r} differs from the runs; run without --check to update it")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def matching(records: Iterable[Record], where: Sequence[str]) -> list[Record]:
    """The records whose configuration has every value in `where`, each "key=value" as on the command line; ValueError for another form."""
    wanted = [_pair(text) for text in where]
    return [record for record in records if all(_has(record, key, value) for key, value in wanted)]


def _pair(text: str) -> tuple[str, Any]:
    """key=value, the value as JSON has it where it is JSON."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise ValueError(f"--where takes key=value; got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


if __name__ == "__main__":
    main()
