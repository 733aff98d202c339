"""Tables of target accuracy, or of another figure, made from finished runs and nothing else.

A row is a method, a column a task (source>target), and a cell the mean and standard deviation
(ddof 1) over seeds. The heading says by which rule the model of a run was selected: "last" (the
last step), the name of a label-free score, or "oracle", which reads target labels. Of several
configurations of a method, its trials, the rule takes one for each task and seed
(`da.records.trials`). All rows need equal budgets (`da.records.budgets`). Under the table come each
method's difference to a baseline row (`da.records.difference`), the methods that are significantly
worse than it, by tests that are corrected for their number, and what choosing by the scores costs
(`da.records.choice`). `da.records.table_text` writes all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from da.records.budgets import Cells, check_budgets, trials_by_seed
from da.records.cells import Metric, check_alike
from da.records.difference import Difference, corrected, paired_difference
from da.records.published import Published
from da.records.record import Record
from da.records.trials import (
    DEFAULT_SCORE,
    LAST,
    ORACLE,
    check_distinct,
    chosen,
    rule_of,
    scores_of,
)

AVERAGE = "average"
Measured = Mapping[tuple[str, str], Mapping[int, float]]


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
        runs: (method, task) -> its runs, of all trials and seeds.
        trials: Whether a method may have several runs for one task and seed.
        published: Values of papers on these tasks. They are in no average and in no test.

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
    measured: Measured
    metric: Metric = Metric()
    uncommitted: tuple[int, int] = (0, 0)
    lacking: int = 0
    runs: Cells = field(default_factory=dict, repr=False, compare=False)
    trials: bool = False
    published: tuple[Published, ...] = ()

    @classmethod
    def of(
        cls,
        records: Iterable[Record],
        *,
        select: str = LAST,
        baseline: str = "none",
        metric: str = Metric.name,
        methods: Sequence[str] = (),
        trials: bool = False,
        unequal_budgets: bool = False,
        published: Sequence[Published] = (),
    ) -> Table:
        """The table of `records`.

        Args:
            records: Finished runs of one experiment.
            select: The rule of selection.
            baseline: The row that the others are compared with.
            metric: The figure: a key that result.json has for every selected model. Runs without
                target labels have no accuracy; their table shows the score that selects instead, or
                else `da.records.trials.DEFAULT_SCORE`.
            methods: The rows in their order; none takes all, the baseline first, then by name.
            trials: True lets the rule choose among several configurations of a method, for each
                task and seed. "last" takes the row's own recipe.
            unequal_budgets: True admits rows with unequal numbers of trials or training steps.
            published: Values of papers; those on the tasks of the table are kept.

        Raises:
            ValueError: There are no records, or records of two experiments; a method has no runs; a
                run lacks `select` or `metric`; the runs of one cell differ in more than their seed
                though `trials` is False; or the budgets are unequal.
        """
        kept = list(records)
        experiment = _only_experiment(kept)
        rows = _rows(kept, baseline, methods)
        cells: dict[tuple[str, str], list[Record]] = {}
        for record in kept:
            if record.result["method"] in rows:
                cells.setdefault((record.result["method"], record.task), []).append(record)
        _check(cells, trials=trials, unequal_budgets=unequal_budgets)
        shown = [run for runs in cells.values() for run in runs]
        figure = _figure(shown, metric, select)
        measured, lacking = _measure(cells, figure, select, needed=True)
        tasks = sorted({task for _, task in cells}, key=_natural)
        seeds = sorted({seed for found in measured.values() for seed in found})
        dirty = [run for run in shown if (run.env.get("git") or {}).get("dirty")]
        made = (experiment, select, baseline, rows, tuple(tasks), tuple(seeds))
        counted = ((len(dirty), len(shown)), lacking)
        fitting = [value for value in published if value.fits(experiment, tasks, shown)]
        return cls(*made, measured, figure, *counted, cells, trials, tuple(fitting))

    def by_rule(self, select: str) -> Table:
        """The same runs under another rule of selection.

        Args:
            select: The rule. "last" leaves out the cells that have several trials but none with the
                row's own recipe.

        Raises:
            ValueError: A run has no such selection.
        """
        measured, lacking = _measure(self.runs, self.metric, select, needed=False)
        return replace(self, select=select, measured=measured, lacking=lacking)

    def has_rule(self, select: str) -> bool:
        """Whether every run has the figure of the model that a rule selects."""
        shown = [run for runs in self.runs.values() for run in runs]
        found = [run.result.get("selected", {}).get(select, {}) for run in shown]
        return bool(found) and all(self.metric.name in selection for selection in found)

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores by which all its runs have chosen a step, and have the figure there."""
        known = scores_of([run for runs in self.runs.values() for run in runs])
        return tuple(each for each in known if self.unlabelled or self.has_rule(each))

    @property
    def unlabelled(self) -> bool:
        """Whether the runs had no target labels, so that the figure is a score."""
        return self.metric.name in scores_of([run for runs in self.runs.values() for run in runs])

    @property
    def contenders(self) -> tuple[str, ...]:
        """The rows without `oracle`, which has read target labels and so can win nothing."""
        return tuple(row for row in self.rows if row != ORACLE)

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

    def pairs(self, method: str) -> dict[tuple[str, int], float]:
        """The figure by task and seed, in the unit that is shown."""
        found = {task: self.values(method, task) for task in self.tasks}
        return {(task, seed): v for task, values in found.items() for seed, v in values.items()}

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


def _rows(records: Sequence[Record], baseline: str, methods: Sequence[str]) -> tuple[str, ...]:
    """The methods that are named, or else all."""
    present = {record.result["method"] for record in records}
    if unknown := [method for method in methods if method not in present]:
        raise ValueError(
            f"methods: no runs of {', '.join(unknown)}; there are runs of "
            f"{', '.join(sorted(present))}"
        )
    by_name = sorted(present, key=lambda method: (method != baseline, method))
    return tuple(dict.fromkeys(methods)) or tuple(by_name)


def _check(cells: Cells, *, trials: bool, unequal_budgets: bool) -> None:
    """Raise a ValueError if runs stand beside each other that do not compare."""
    for cell, runs in cells.items():
        if trials:
            for own in trials_by_seed(runs).values():
                check_distinct(cell, own)
        else:
            check_alike(cell, runs, advice="choose one by a score with --trials, ")
    if not unequal_budgets:
        check_budgets(cells)


def _figure(runs: Sequence[Record], metric: str, select: str) -> Metric:
    """The figure that is asked for; of runs without target labels a score in place of accuracy."""
    scores = scores_of(runs)
    found = [run.result.get("selected", {}) for run in runs]
    labelled = any(
        ORACLE in each or any(metric in selection for selection in each.values()) for each in found
    )
    if labelled or not scores or metric != Metric.name:
        return Metric(metric)
    usual = DEFAULT_SCORE if DEFAULT_SCORE in scores else scores[0]
    return Metric(select if select in scores else usual)


def _measure(cells: Cells, figure: Metric, select: str, *, needed: bool) -> tuple[Measured, int]:
    """The figure of each cell by seed, and how many runs were recorded before the figure was."""
    measured: dict[tuple[str, str], dict[int, float]] = {}
    lacking = 0
    for cell, runs in cells.items():
        own: dict[int, float] = {}
        for seed, trials in trials_by_seed(runs).items():
            run = chosen(trials, select, figure)
            if run is None and needed:
                raise ValueError(
                    f"no trial of {cell[0]} on {cell[1]} with seed {seed} has the row's own "
                    f"recipe and all its steps, which {LAST!r} takes; choose by a score with "
                    "--select"
                )
            value = None if run is None else figure.read(run, rule_of(run, select))
            lacking += run is not None and value is None
            if value is not None:
                own[seed] = value
        measured[cell] = own
    return measured, lacking


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
