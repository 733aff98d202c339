"""Tables of target accuracy, or of another figure, made from finished runs and nothing else.

A row is a method, a column a task (source>target), and a cell the mean and standard deviation
(ddof 1) over seeds. The heading says by which rule the model of a run was selected: "last" (the
last step), the name of a label-free score, or "oracle", which reads target labels. Under the table
come each method's difference to a baseline row (`da.records.difference`) and the methods that are
significantly worse than it, by tests that are corrected for their number.
`da.records.table_text` writes all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from da.records.cells import Metric, check_alike
from da.records.difference import Difference, corrected, paired_difference
from da.records.record import Record

AVERAGE = "average"


@dataclass(frozen=True)
class Table:
    """Hold one figure of the runs of one experiment under one rule of selection.

    `Table.of(records)` makes it, and `da.records.table_text` writes it.

    Attributes:
        experiment: Whose runs they are.
        select: The rule of selection.
        baseline: The row that the others are compared with.
        rows: The methods.
        tasks: The tasks.
        seeds: All seeds that any cell has.
        measured: (method, task) -> seed -> the figure as it is stored.
        metric: The figure.
        uncommitted: Of how many runs the code was in no commit, and of how many runs in all.
        lacking: How many runs were recorded before the figure was.

    Example:
        >>> import tempfile
        >>> from da.records import Run, Table, read_runs
        >>> folder = tempfile.mkdtemp()
        >>> for method, accuracy in {"none": 0.5, "mmd": 0.75}.items():
        ...     run = Run.start(folder, {}, experiment="toy", method=method, source="a", target="b",
        ...                     seed=0, wandb="disabled")
        ...     run.finish({"selected": {"last": {"step": 1, "target_accuracy": accuracy}}})
        >>> table = Table.of(read_runs(folder))
        >>> table.mean("mmd", "a>b"), table.difference("mmd", "a>b").mean
        (75.0, 25.0)
    """

    experiment: str
    select: str
    baseline: str
    rows: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    measured: Mapping[tuple[str, str], Mapping[int, float]]
    metric: Metric = Metric()
    uncommitted: tuple[int, int] = (0, 0)
    lacking: int = 0

    @classmethod
    def of(
        cls,
        records: Iterable[Record],
        *,
        select: str = "last",
        baseline: str = "none",
        metric: str = "target_accuracy",
        methods: Sequence[str] = (),
    ) -> Table:
        """The table of `records`.

        Args:
            records: Finished runs of one experiment.
            select: The rule of selection.
            baseline: The row that the others are compared with.
            metric: The figure: a key that result.json has for every selected model.
            methods: The rows in their order; none takes all, the baseline first, then by name.

        Raises:
            ValueError: There are no records, or records of two experiments; a method has no runs; a
                run lacks `select` or `metric`; or the runs of one cell differ in more than their
                seed.
        """
        kept = list(records)
        experiment = _only_experiment(kept)
        present = {record.result["method"] for record in kept}
        if unknown := [method for method in methods if method not in present]:
            raise ValueError(
                f"methods: no runs of {', '.join(unknown)}; there are runs of "
                f"{', '.join(sorted(present))}"
            )
        by_name = sorted(present, key=lambda method: (method != baseline, method))
        rows = tuple(dict.fromkeys(methods)) or tuple(by_name)
        cells: dict[tuple[str, str], list[Record]] = {}
        for record in kept:
            if record.result["method"] in rows:
                task = f"{record.result['source']}>{record.result['target']}"
                cells.setdefault((record.result["method"], task), []).append(record)
        figure = Metric(metric)
        measured = {cell: _by_seed(cell, runs, figure, select) for cell, runs in cells.items()}
        lacking = sum(map(len, cells.values())) - sum(map(len, measured.values()))
        tasks = sorted({task for _, task in cells}, key=_natural)
        seeds = sorted({seed for found in measured.values() for seed in found})
        shown = [run for runs in cells.values() for run in runs]
        dirty = [run for run in shown if (run.env.get("git") or {}).get("dirty")]
        made = (experiment, select, baseline, rows, tuple(tasks), tuple(seeds))
        return cls(*made, measured, figure, (len(dirty), len(shown)), lacking)

    @property
    def columns(self) -> tuple[str, ...]:
        """The tasks, and their average if there are several."""
        return (*self.tasks, AVERAGE) if len(self.tasks) > 1 else self.tasks

    def values(self, method: str, task: str) -> dict[int, float]:
        """The figure by seed, in the unit that is shown (accuracy in percent).

        For the task "average" it is the mean over all tasks, of the seeds that have all of them.
        """
        if task != AVERAGE:
            stored = self.measured.get((method, task), {})
            return {seed: self.metric.factor * value for seed, value in stored.items()}
        parts = [self.values(method, each) for each in self.tasks]
        return {
            seed: float(np.mean([part[seed] for part in parts]))
            for seed in self.seeds
            if all(seed in part for part in parts)
        }

    def mean(self, method: str, task: str) -> float | None:
        """Mean over seeds; None if there is no run."""
        values = list(self.values(method, task).values())
        return float(np.mean(values)) if values else None

    def deviation(self, method: str, task: str) -> float | None:
        """Standard deviation over seeds (ddof 1); None below two seeds."""
        values = list(self.values(method, task).values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def difference(self, method: str, task: str) -> Difference | None:
        """`method` less the baseline over the seeds that both have; None if there is none."""
        return paired_difference(self.values(method, task), self.values(self.baseline, task))

    def differences(self) -> dict[tuple[str, str], Difference]:
        """All differences of the table by method and column, with p-values corrected by Holm."""
        cells = [(row, task) for row in self.rows if row != self.baseline for task in self.columns]
        return corrected({cell: gain for cell in cells if (gain := self.difference(*cell))})


def _by_seed(
    cell: tuple[str, str], runs: Sequence[Record], figure: Metric, select: str
) -> dict[int, float]:
    """The figure of a cell's runs that hold it, by seed."""
    check_alike(cell, runs)
    values = {run.result["seed"]: figure.read(run, select) for run in runs}
    return {seed: value for seed, value in values.items() if value is not None}


def _only_experiment(records: Sequence[Record]) -> str:
    experiments = sorted({record.result["experiment"] for record in records})
    if not experiments:
        raise ValueError(
            "a table is made from finished runs of one experiment; got none: check the folder of "
            "runs, the name of the experiment and --where"
        )
    if len(experiments) > 1:
        raise ValueError(
            "a table is made from finished runs of one experiment; got runs of "
            f"{', '.join(experiments)}: name one with --experiment"
        )
    return experiments[0]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts numbers within names by their size: amazon_5 before amazon_15."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
