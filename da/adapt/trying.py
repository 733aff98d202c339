"""Fit every row that suits the case, at equal trials, within a time budget; keep each as a run.

A run that is finished is read again, so the same command continues and repeats nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from da.adapt import deep_candidates, shallow_candidates
from da.adapt.fitted import Fitted, temperature_of
from da.adapt.heads import answers, linear_head
from da.adapt.problem import Problem
from da.arrays.arguments import check_fields
from da.arrays.matrices import NonFiniteError
from da.data.progress import Progress
from da.records.checksums import check_file
from da.records.predictions import FILE
from da.records.run import Run
from da.train.label_free_certainty import information_maximisation
from da.train.saving import save_atomically

EXPERIMENT = "adapt"
VERSION = 2  # raise it when a row of the same name becomes another one
# Cheap and telling rows first: a budget may end before the last.
ORDER = (
    *("source_only", "centring", "standardising", "adabn", "mmd", "coral", "subspace"),
    *("mcc", "dsan", "dann", "importance_weights", "label_shift", "dare_gram", "monge"),
    *("transport", "jda", "meda"),
)
# How a numerical failure of a row's libraries shows; anything else is an error of the program.
FAILURES = (ValueError, ArithmeticError, np.linalg.LinAlgError, torch.linalg.LinAlgError)


@dataclass(frozen=True)
class Place:
    """Where runs go and what they are called.

    Attributes:
        runs_dir: The folder of runs.
        source: The source's name, fit for a folder.
        target: The target's name.
    """

    runs_dir: Path
    source: str
    target: str

    def __post_init__(self) -> None:
        check_fields(self)


class Tried(NamedTuple):
    """What came of trying.

    Attributes:
        fitted: Every row and trial that could be fitted.
        left_out: Row -> why it was not fitted.
    """

    fitted: list[Fitted]
    left_out: dict[str, str]


def try_rows(
    problem: Problem,
    place: Place,
    *,
    trials: int = 2,
    until: float | None = None,
    rows: Sequence[str] | None = None,
) -> Tried:
    """Fit all rows that suit the problem.

    Args:
        problem: The problem.
        place: Where the runs go.
        trials: Recipes of each row, from 1 to 4.
        until: The moment, as of `time.monotonic`, after which no further row begins; None: never.
            The first row is always fitted.
        rows: The rows to try; None: all that suit the problem.

    Returns:
        The candidates, and the rows that are left out.

    Raises:
        ValueError: A row is unknown, or the number of trials is out of its range.
    """
    if not 1 <= trials <= 4:
        raise ValueError(f"trials must be from 1 to 4; got {trials}")
    wanted = tuple(ORDER if rows is None else rows)
    if unknown := [row for row in wanted if row not in ORDER]:
        raise ValueError(f"rows must be of {', '.join(ORDER)}; got {unknown[0]!r}")
    trained = deep_candidates.rows_for(problem)
    digest = digest_of(problem)
    fitted: list[Fitted] = []
    left_out: dict[str, str] = {}
    progress = Progress("trying", len(wanted), unit="row")
    for row in progress.over(wanted):
        if row != wanted[0] and until is not None and time.monotonic() > until:
            left_out[row] = "no time was left; --minutes gives more"
            continue
        deep = row in deep_candidates.CLASSIFIERS or row in deep_candidates.REGRESSIONS
        if (deep and row not in trained) or (
            not deep and not shallow_candidates.fits(row, problem)
        ):
            left_out[row] = "it is not for data of this size or task"
            continue
        try:
            found = (_train if deep else _solve)(row, problem, place, digest, trials)
        except shallow_candidates.NotSuited as error:
            left_out[row] = str(error)
            continue
        except (NonFiniteError, *FAILURES) as error:
            left_out[row] = f"it failed: {str(error).splitlines()[0][:150]}"
            progress.say(f"{row}: {left_out[row]}")
            continue
        fitted += found
        progress.note({row: found[0].seconds} if found else {})
    return Tried(fitted, left_out)


def digest_of(problem: Problem) -> str:
    """Digits that stand for all numbers of a problem.

    Args:
        problem: The problem.
    """
    found = hashlib.sha256(f"{VERSION} {problem.classes} {problem.scale}".encode())
    for array in (problem.x, problem.y, problem.domains, problem.fold, problem.target):
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:16]


def _solve(row: str, problem: Problem, place: Place, digest: str, trials: int) -> list[Fitted]:
    """The trials of a shallow row."""
    found = []
    for trial in range(trials):
        recipe = {"trial": trial}
        run = run_of(row, place, digest, problem.seed, recipe)
        if not run.finished:
            start = time.perf_counter()
            try:
                given = shallow_candidates.answer(row, problem, trial)
                head = linear_head(given.model.weights, given.model.bias)
                _check_finite(row, given.held, given.model.weights, given.model.bias)
                save_atomically(head.state_dict(), run.directory / "network.pt")
                arrays = {"source_logits": given.held, "source_labels": given.held_y}
                _finish(run, problem, head, arrays, time.perf_counter() - start, given.facts)
            except BaseException:
                run.close(failed=True)
                raise
        found.append(_read(row, trial, recipe, problem, run, None))
    return found


def _train(row: str, problem: Problem, place: Place, digest: str, trials: int) -> list[Fitted]:
    """The trials of a row that trains a network."""
    recipes = [
        {"trial": trial, **deep_candidates.recipe_of(trial), "steps": deep_candidates.STEPS}
        for trial in range(trials)
    ]
    runs = [run_of(row, place, digest, problem.seed, recipe) for recipe in recipes]
    start = time.perf_counter()
    trained = deep_candidates.train_row(row, problem, runs, steps=deep_candidates.STEPS)
    seconds = (time.perf_counter() - start) / trials
    return [
        _of_network(row, trial, recipes[trial], problem, each, seconds)
        for trial, each in enumerate(trained)
        if each is not None
    ]


def run_of(row: str, place: Place, digest: str, seed: int, recipe: Mapping[str, Any]) -> Run:
    """The record of a row and trial, begun or finished."""
    return Run.start(
        place.runs_dir,
        {"data": digest, **recipe},
        experiment=EXPERIMENT,
        method=row,
        source=place.source,
        target=place.target,
        seed=seed,
        wandb="disabled",
    )


def _finish(
    run: Run,
    problem: Problem,
    head: nn.Module,
    arrays: dict[str, np.ndarray],
    seconds: float,
    facts: Mapping[str, float],
) -> None:
    """Keep the predictions and the result of a shallow run."""
    target = answers(head, problem.target)
    every = {"target_logits": target, **arrays}
    np.savez_compressed(run.directory / FILE, **every)  # type: ignore[arg-type]
    last: dict[str, Any] = {"step": 1}
    if not problem.regression:
        last["information_maximisation"] = information_maximisation(target)
    run.log(1, {name: value for name, value in last.items() if name != "step"} or {"done": 1.0})
    run.finish({"selected": {"last": last}, "facts": {**facts, "seconds": seconds}})


def _read(
    row: str,
    trial: int,
    recipe: Mapping[str, Any],
    problem: Problem,
    run: Run,
    head: nn.Module | None,
) -> Fitted:
    """A finished shallow run as a candidate."""
    for name in ("network.pt", FILE):
        check_file(run.directory / name)
    weights = torch.load(run.directory / "network.pt", weights_only=True)
    head = linear_head(weights["weight"].numpy(), weights["bias"].numpy())
    with np.load(run.directory / FILE) as arrays:
        held, held_y = arrays["source_logits"], arrays["source_labels"]
    facts = dict(run.result()["facts"])
    return _fitted(row, trial, recipe, problem, held, held_y, head, facts.pop("seconds"), facts)


def _of_network(
    row: str,
    trial: int,
    recipe: Mapping[str, Any],
    problem: Problem,
    trained: deep_candidates.Trained,
    seconds: float,
) -> Fitted:
    held, held_y, head = trained
    return _fitted(row, trial, recipe, problem, held, held_y, head, seconds, {})


def _fitted(
    row: str,
    trial: int,
    recipe: Mapping[str, Any],
    problem: Problem,
    held: np.ndarray,
    held_y: np.ndarray,
    head: nn.Module,
    seconds: float,
    facts: Mapping[str, float],
) -> Fitted:
    """The candidate, with its temperature."""
    target = answers(head, problem.target)
    temperature = 1.0 if problem.regression else temperature_of(held, held_y)
    t = np.float32(temperature)
    return Fitted(
        row, trial, recipe, held / t, held_y, target / t, head, temperature, seconds, facts
    )


def _check_finite(row: str, *arrays: np.ndarray) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise NonFiniteError(f"{row} gave numbers that are not finite")
