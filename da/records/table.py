"""Tables of target accuracy, or of another figure, made from finished run records and from nothing else.

    python -m da.records.table runs --experiment office31 --select last --baseline none --format markdown
    python -m da.records.table runs --experiment digits_regression --metric target_r2 --methods none rsd

A row is a method, a column a task (source>target), a cell the mean and standard deviation (ddof 1) over seeds. The rule that selected
the model stands in the heading: "last" (the last step), the name of a label-free score, or "oracle", which reads target labels.
Under the table stands every method's difference to a baseline row, paired by seed, with its 95 % t-interval (da.records.difference), and in words
which are losses: negative transfer.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import tyro
from tqdm import tqdm

from da.records.cells import Metric, check_alike, has_value, parse_condition
from da.records.difference import Difference, paired_difference
from da.records.grids import aligned, piped, replace_marked
from da.records.run import Record, read_runs

MISSING = "-"
AVERAGE = "average"
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Table:
    """One figure of the runs of one experiment under one selection rule; `Table.of(records)` makes it.

    measured[method, task][seed] is the figure as it is stored; `baseline` is the row the others are compared with.
    """

    experiment: str
    select: str
    baseline: str
    rows: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    measured: Mapping[tuple[str, str], Mapping[int, float]]
    metric: Metric = Metric()

    @classmethod
    def of(
        cls,
        records: Iterable[Record],
        *,
        select: str = "last",
        baseline: str = "none",
        where: Mapping[str, Any] | None = None,
        metric: str = "target_accuracy",
        methods: Sequence[str] = (),
    ) -> Table:
        """The table of `records`, kept to those whose configuration has every value in `where` (keys as in config.json, dots into parts).

        metric: the figure that is shown: a key that result.json has for every selected model (`da.records.cells.Metric`).
        methods: the rows, in this order; none: all, the baseline first and the others by name.

        Raises ValueError without records, for records of two experiments, for a method without runs, where a run lacks `select` or
        `metric`, and, naming the folders, where the runs of one cell differ in more than their seed: such a mean would be of nothing.
        """
        kept = [
            record
            for record in records
            if all(has_value(record, key, value) for key, value in (where or {}).items())
        ]
        experiment = _only_experiment(kept)
        present = {record.result["method"] for record in kept}
        if unknown := [method for method in methods if method not in present]:
            raise ValueError(
                f"methods: no runs of {', '.join(unknown)}; there are runs of {', '.join(sorted(present))}"
            )
        rows = tuple(dict.fromkeys(methods)) or tuple(
            sorted(present, key=lambda method: (method != baseline, method))
        )
        cells: dict[tuple[str, str], list[Record]] = {}
        for record in kept:
            if record.result["method"] in rows:
                cells.setdefault(
                    (
                        record.result["method"],
                        f"{record.result['source']}>{record.result['target']}",
                    ),
                    [],
                ).append(record)
        for cell, runs in cells.items():
            check_alike(cell, runs)
        figure = Metric(metric)
        measured = {
            cell: {run.result["seed"]: figure.read(run, select) for run in runs}
            for cell, runs in cells.items()
        }
        tasks = sorted({task for _, task in cells}, key=_natural)
        seeds = sorted({seed for values in measured.values() for seed in values})
        return cls(experiment, select, baseline, rows, tuple(tasks), tuple(seeds), measured, figure)

    def values(self, method: str, task: str) -> dict[int, float]:
        """The figure by seed, in the unit that is shown (accuracy in percent).

        For the task "average" it is the mean over all tasks, of the seeds that have every one of them.
        """
        if task != AVERAGE:
            return {
                seed: self.metric.factor * value
                for seed, value in self.measured.get((method, task), {}).items()
            }
        parts = [self.values(method, each) for each in self.tasks]
        return {
            seed: float(np.mean([part[seed] for part in parts]))
            for seed in self.seeds
            if all(seed in part for part in parts)
        }

    def mean(self, method: str, task: str) -> float | None:
        """Mean over seeds, None where there is no run."""
        values = list(self.values(method, task).values())
        return float(np.mean(values)) if values else None

    def deviation(self, method: str, task: str) -> float | None:
        """Standard deviation over seeds (ddof 1), None below two seeds."""
        values = list(self.values(method, task).values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def difference(self, method: str, task: str) -> Difference | None:
        """`method` less the baseline over the seeds that both have; None where there is none."""
        return paired_difference(self.values(method, task), self.values(self.baseline, task))

    def to_text(self) -> str:
        """The table for a terminal, in aligned columns."""
        return "\n\n".join(
            [*(f"{title}\n\n{aligned(grid)}" for title, grid in self._parts()), *self._losses()]
        )

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return "\n\n".join(
            [*(f"{title}\n\n{piped(grid)}" for title, grid in self._parts()), *self._losses()]
        )

    def to_csv(self, path: Path | str) -> None:
        """One line a cell, unrounded: number of seeds, mean and std in the unit shown, difference to the baseline and its interval."""
        Path(path).write_text(self.csv_text(), encoding="utf-8")

    def csv_text(self) -> str:
        """What `to_csv` writes."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            [
                "experiment",
                "select",
                "metric",
                "method",
                "task",
                "seeds",
                "mean",
                "std",
                "baseline",
                "difference",
                "low",
                "high",
            ]
        )
        for method in self.rows:
            for task in self._columns():
                gain = self.difference(method, task) if method != self.baseline else None
                numbers = (gain.mean, gain.low, gain.high) if gain else (None, None, None)
                cell = (
                    len(self.values(method, task)),
                    self.mean(method, task),
                    self.deviation(method, task),
                )
                writer.writerow(
                    [
                        self.experiment,
                        self.select,
                        self.metric.name,
                        method,
                        task,
                        *cell,
                        self.baseline,
                        *numbers,
                    ]
                )
        return text.getvalue()

    def _columns(self) -> tuple[str, ...]:
        return (*self.tasks, AVERAGE) if len(self.tasks) > 1 else self.tasks

    def _parts(self) -> list[tuple[str, list[list[str]]]]:
        """Title and grid of the table and, where there is something to compare, of the differences."""
        header = ["method", *self._columns()]
        seeds = {
            frozenset(values) for values in self.measured.values()
        }  # one set of seeds, or several where runs are missing
        grid = [
            header,
            *(
                [method, *(self._cell(method, task, len(seeds) > 1) for task in self._columns())]
                for method in self.rows
            ),
        ]
        title = f"{self.experiment}: {self.metric.title}, model selected by {self.select!r}"
        title += " (reads target labels: an upper bound)" if self.select == "oracle" else ""
        title += f"; {_over_seeds(self.seeds, alike=len(seeds) == 1)}."
        others = [method for method in self.rows if method != self.baseline]
        if self.baseline not in self.rows:
            return [(f"{title} No row of the baseline {self.baseline!r} to compare with.", grid)]
        if not others:
            return [(title, grid)]
        gains = [
            header,
            *(
                [method, *(self._gain(method, task) for task in self._columns())]
                for method in others
            ),
        ]
        unit = " in percentage points" if self.metric.percent else ""
        words = f"Difference to {self.baseline!r}{unit}, paired by seed, with its 95 % t-interval."
        return [(title, grid), (words, gains)]

    def _losses(self) -> list[str]:
        """What became worse than the baseline, in one sentence; none where there is nothing to compare."""
        found = [
            (m, task, d)
            for m in self.rows
            if m != self.baseline
            for task in self.tasks
            if (d := self.difference(m, task))
        ]
        if not found:
            return []
        losses = [
            (f"{m} on {task}", d)
            for m, task, d in found
            if d.worse(smaller_is_better=self.metric.smaller_is_better)
        ]
        certain = [name for name, d in losses if d.certain]
        rest = len(losses) - len(certain)
        said = f"Negative transfer, significantly worse than {self.baseline!r}: {', '.join(certain) or 'none'}."
        return [
            said
            + (
                f" {rest} more of {len(found)} are worse, not significantly or by one seed alone."
                if rest
                else ""
            )
        ]

    def _cell(self, method: str, task: str, counted: bool) -> str:
        values, mean, deviation = (
            self.values(method, task),
            self.mean(method, task),
            self.deviation(method, task),
        )
        if mean is None:
            return MISSING
        digits = self.metric.decimals
        text = (
            f"{mean:.{digits}f}"
            if deviation is None
            else f"{mean:.{digits}f} ± {deviation:.{digits}f}"
        )
        return f"{text} ({len(values)})" if counted else text

    def _gain(self, method: str, task: str) -> str:
        gain = self.difference(method, task)
        if gain is None:
            return MISSING
        return gain.text(
            decimals=self.metric.decimals, smaller_is_better=self.metric.smaller_is_better
        )


def load(runs_dir: Path | str, experiment: str | None = None) -> list[Record]:
    """The finished runs below `runs_dir`, of one experiment or of all. Raises FileNotFoundError where there is no such folder."""
    return read_runs(runs_dir, experiment=experiment)


def fill(
    cells: Sequence[T], run_cell: Callable[[T], R], *, finished: Callable[[T], bool] | None = None
) -> list[R]:
    """Call `run_cell` for every cell in turn that is not `finished`, under a progress bar; returns what the calls returned.

    A cell is whatever `run_cell` takes. Runs are idempotent, so a `fill` that was interrupted is simply called again.
    """
    left = [cell for cell in cells if finished is None or not finished(cell)]
    results = []
    with tqdm(
        left, total=len(cells), initial=len(cells) - len(left), unit="run", disable=None
    ) as bar:  # disable=None: only in a terminal
        for cell in bar:
            bar.set_postfix_str(str(cell))
            results.append(run_cell(cell))
    return results


def update_readme(
    path: Path | str, name: str, table: Table, *, command: str, check: bool = False
) -> bool:
    """Put the table, and the command that made it, between `<!-- table: name -->` and `<!-- /table -->`; whether the file was up to date.

    With `check` nothing is written. Raises ValueError where the file does not hold the two marks exactly once.
    """
    return replace_marked(
        path,
        f"<!-- table: {name} -->",
        "<!-- /table -->",
        f"{table.to_markdown()}\n\n`{command}`",
        check=check,
    )


def _only_experiment(records: Sequence[Record]) -> str:
    experiments = sorted({record.result["experiment"] for record in records})
    if len(experiments) != 1:
        found = (
            f"of {', '.join(experiments)}: name one with --experiment"
            if experiments
            else "at all: check --runs-dir, names and where"
        )
        raise ValueError(f"a table is made from finished runs of one experiment; got runs {found}")
    return experiments[0]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts numbers within names by their size: amazon_5 before amazon_15."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _over_seeds(seeds: Sequence[int], *, alike: bool) -> str:
    listed = ", ".join(str(seed) for seed in seeds)
    if not alike:
        return f"mean ± standard deviation over DIFFERENT seeds of {listed}, their number in parentheses"
    return (
        f"one seed ({listed})"
        if len(seeds) == 1
        else f"mean ± standard deviation over {len(seeds)} seeds ({listed})"
    )


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
    metric: str = Metric.name
    """Figure to show: target_accuracy, or another that the results hold for every selected model: target_r2, target_mae ..."""
    methods: tuple[str, ...] = ()
    """Rows to show, in this order; none: all."""
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
        words = [
            "python -m da.records.table",
            str(self.runs_dir),
            f"--experiment {self.experiment}" if self.experiment else "",
        ]
        words += [f"--select {self.select}", f"--baseline {self.baseline}"]
        words += [f"--metric {self.metric}" if self.metric != Metric.name else ""]
        words += [
            f"--{name} {' '.join(values)}"
            for name, values in (("methods", self.methods), ("where", self.where))
            if values
        ]
        return " ".join(word for word in words if word)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: see `python -m da.records.table --help`."""
    options = tyro.cli(Options, args=arguments, prog="python -m da.records.table")
    try:
        records = matching(load(options.runs_dir, options.experiment), options.where)
        table = Table.of(
            records,
            select=options.select,
            baseline=options.baseline,
            metric=options.metric,
            methods=options.methods,
        )
        if options.readme is None:
            formats = {"text": table.to_text, "markdown": table.to_markdown, "csv": table.csv_text}
            print(formats[options.format]().rstrip("\n"))
        else:
            name = options.name or table.experiment
            same = update_readme(
                options.readme, name, table, command=options.command(), check=options.check
            )
            if options.check and not same:
                sys.exit(
                    f"{options.readme}: the table {name!r} differs from the runs; run without --check to update it"
                )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def matching(records: Iterable[Record], where: Sequence[str]) -> list[Record]:
    """The records whose configuration has every value in `where`, each "key=value" as on the command line; ValueError for another form."""
    wanted = [parse_condition(text) for text in where]
    return [
        record for record in records if all(has_value(record, key, value) for key, value in wanted)
    ]


if __name__ == "__main__":
    main()
