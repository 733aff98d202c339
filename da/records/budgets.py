"""What training the rows of a table was granted: a number of trials, and the steps of each.

Rows compare only if their budgets are equal. Runs that train no network, as those of shallow
methods, have trials alone. One such run is no search: it compares with rows of any number of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from da.records.cells import steps_of
from da.records.record import Record

Cells = Mapping[tuple[str, str], Sequence[Record]]  # (method, task) -> runs of all seeds


class Budget(NamedTuple):
    """The trials of one method on one task with one seed.

    Attributes:
        trials: Their number.
        steps: The training steps of each, ascending; empty if the configurations have none.
    """

    trials: int
    steps: tuple[int, ...]

    def equals(self, other: Budget) -> bool:
        """Whether two budgets are equal; steps count if both have some."""
        if bool(self.steps) == bool(other.steps):
            return self == other
        fixed = other if self.steps else self
        return fixed.trials == 1 or self.trials == other.trials


def trials_by_seed(runs: Iterable[Record]) -> dict[int, list[Record]]:
    """The runs of one method and task, by seed."""
    found: dict[int, list[Record]] = {}
    for run in runs:
        found.setdefault(run.result["seed"], []).append(run)
    return found


def budget_of(trials: Sequence[Record]) -> Budget:
    """The budget of the trials of one method, task and seed.

    Example:
        >>> from da.records.budgets import budget_of
        >>> budget_of([])
        Budget(trials=0, steps=())
    """
    steps = [found for run in trials if (found := steps_of(run)) is not None]
    return Budget(len(trials), tuple(sorted(steps)))


def budgets_of(cells: Cells) -> dict[str, list[Budget]]:
    """The budgets of each method, over its tasks and seeds."""
    found: dict[str, list[Budget]] = {}
    for (method, _), runs in cells.items():
        own = [budget_of(trials) for trials in trials_by_seed(runs).values()]
        found.setdefault(method, []).extend(own)
    return found


def unequal(cells: Cells) -> str:
    """Two rows, or two seeds of a row, whose budgets differ on a task, in words; else no words."""
    by_task: dict[str, list[tuple[str, int, Budget]]] = {}
    for (method, task), runs in cells.items():
        for seed, trials in trials_by_seed(runs).items():
            by_task.setdefault(task, []).append((method, seed, budget_of(trials)))
    for task, found in by_task.items():
        # Budgets with steps come first, so that all others are compared with one of them.
        first, *others = sorted(found, key=lambda entry: not entry[2].steps)
        for other in others:
            if not first[2].equals(other[2]):
                same = first[0] == other[0]
                named = [
                    f"seed {seed} of {method}" if same else method
                    for method, seed, _ in (first, other)
                ]
                return (
                    f"on {task} {named[0]} has {words([first[2]])}, "
                    f"{named[1]} has {words([other[2]])}"
                )
    return ""


def check_budgets(cells: Cells) -> None:
    """Raise a ValueError if rows of one task were trained with unequal budgets.

    Args:
        cells: (method, task) -> its runs.
    """
    if found := unequal(cells):
        raise ValueError(
            f"rows of a table need equal budgets; {found}: train them equally, keep some with "
            "--methods or --where, or show them on purpose with --unequal-budgets"
        )


def words(budgets: Sequence[Budget]) -> str:
    """Budgets in words; of several that differ, the least and the most.

    Example:
        >>> from da.records.budgets import Budget, words
        >>> words([Budget(2, (200, 200))]), words([Budget(1, (20,)), Budget(2, (20, 60))])
        ('2 trials of 200 steps', '1 to 2 trials of 20 to 60 steps')
        >>> words([Budget(1, ())])
        '1 trial'
    """
    counts = _range([budget.trials for budget in budgets])
    steps = [number for budget in budgets for number in budget.steps]
    text = f"{counts} trial{'' if counts == '1' else 's'}"
    return f"{text} of {_range(steps)} steps" if steps else text


def _range(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"
