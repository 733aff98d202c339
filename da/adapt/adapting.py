"""From features of two sides to a chosen model and everything that is reported of it.

`adapt_prepared` is the whole of `python -m da adapt` between reading and writing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from da.adapt.choice import choose
from da.adapt.chosen import KEPT, Choice
from da.adapt.estimate import estimate_accuracy, least_error
from da.adapt.fine_tuning import FINE_TUNED, RECIPE, fine_tune, why_not
from da.adapt.fitted import Fitted
from da.adapt.linear_models import softmax
from da.adapt.problem import Problem, Scale, make_problem
from da.adapt.shift_check import LabelShift, Shift, check_label_shift, check_shift
from da.adapt.sides import Prepared
from da.adapt.trying import EXPERIMENT, Place, Tried, digest_of, run_of, try_rows
from da.select.accuracy import AccuracyEstimate

UNSURE_PROBABILITY = 0.5  # of the predicted class, below which an answer is unsure
UNSURE_VOTES = 2 / 3  # of the rows' models that must name the predicted class


@dataclass(frozen=True)
class Adapted:
    """What came of adapting to one's own data.

    Attributes:
        prepared: What was read, as features.
        problem: The rows that candidates learned from.
        shift: Whether the features have shifted.
        label_shift: The estimated shares of classes; None for a regression.
        tried: All candidates.
        choice: What was chosen, and why.
        estimate: The estimated accuracy on the target; None for a regression.
        error: What the root mean squared error is at least likely to be, and its part from the
            source; None for classes.
        probabilities: Of each target row (m, k); (m, 0) for a regression.
        numbers: Predicted numbers (m,) of a regression; (0,) for classes.
        unsure: Which target rows are unsure, (m,) bool.
        seconds: How long everything after reading took.
    """

    prepared: Prepared
    problem: Problem
    shift: Shift
    label_shift: LabelShift | None
    tried: Tried
    choice: Choice
    estimate: AccuracyEstimate | None
    error: tuple[float, float] | None
    probabilities: np.ndarray
    numbers: np.ndarray
    unsure: np.ndarray
    seconds: float

    @property
    def model(self) -> Fitted:
        """The model for use."""
        return self.choice.model

    @property
    def predicted(self) -> np.ndarray:
        """The predicted classes (m,) as numbers, or the predicted numbers (m,)."""
        return self.probabilities.argmax(axis=1) if self.prepared.classes else self.numbers


def adapt_prepared(
    prepared: Prepared,
    place: Place,
    *,
    trials: int = 2,
    until: float | None = None,
    rows: Sequence[str] | None = None,
    scale: Scale | None = None,
    seed: int = 0,
) -> Adapted:
    """Ask for a shift, try the rows, choose, and estimate.

    Args:
        prepared: Features of both sides.
        place: Where the runs go.
        trials: Recipes of each row, from 1 to 4. Default 2.
        until: The moment, as of `time.monotonic`, after which no further row begins; None: never.
        rows: The rows to try; None: all that suit the data. The source's own model is always one.
        scale: How features are scaled; None: as `scale_for` says.
        seed: The seed of all that is drawn.

    Returns:
        Everything that is reported.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from da.adapt.adapting import adapt_prepared
        >>> from da.adapt.prepare_sides import prepare
        >>> from da.adapt.sides import Side
        >>> from da.adapt.trying import Place
        >>> rows = np.random.default_rng(0).normal(size=(60, 3))
        >>> rows[:, 0] += 6 * (np.arange(60) % 2)
        >>> names = tuple(map(str, range(60)))
        >>> labels = np.array(["cup", "mug"] * 30)
        >>> source = Side("a.npy", "features", names, labels, rows)
        >>> made = prepare([source], Side("b.npy", "features", names, None, rows + 3))
        >>> place = Place(Path(tempfile.mkdtemp()), "a", "b")
        >>> adapted = adapt_prepared(made, place, trials=1, rows=["centring", "coral"])
        >>> adapted.shift.shifted, (adapted.predicted == np.arange(60) % 2).mean() > 0.9
        (True, np.True_)
    """
    start = time.monotonic()
    problem = _problem(prepared, scale_for(prepared) if scale is None else scale, seed)
    shift = check_shift(problem)
    wanted = None if rows is None else (KEPT, *(r for r in rows if r not in (KEPT, FINE_TUNED)))
    tried = try_rows(problem, place, trials=trials, until=until, rows=wanted)
    if rows is None or FINE_TUNED in rows:
        tried = _with_fine_tuning(tried, prepared, problem, place, until)
    choice = choose(tried.fitted, shift, problem.y)
    own = next(one for one in tried.fitted if one.row == KEPT)
    model = choice.model
    return Adapted(
        prepared=prepared,
        problem=problem,
        shift=shift,
        label_shift=check_label_shift(problem, own.held, own.held_y, own.target),
        tried=tried,
        choice=choice,
        estimate=None if problem.regression else estimate_accuracy(model, choice.judges),
        error=least_error(model, choice.others, problem.y) if problem.regression else None,
        probabilities=np.zeros((len(model.target), 0))
        if problem.regression
        else softmax(model.target),
        numbers=model.target[:, 0] if problem.regression else np.zeros(0),
        unsure=_unsure(choice, problem),
        seconds=time.monotonic() - start,
    )


def _problem(prepared: Prepared, scale: Scale, seed: int) -> Problem:
    return make_problem(
        prepared.source_x,
        prepared.source_y,
        prepared.target_x,
        classes=len(prepared.classes),
        domains=prepared.source_domain,
        scale=scale,
        seed=seed,
    )


def _with_fine_tuning(
    tried: Tried, prepared: Prepared, problem: Problem, place: Place, until: float | None
) -> Tried:
    """The candidates and the one that trains the backbone, or why it is left out."""
    left = math.inf if until is None else until - time.monotonic()
    begun = (place.runs_dir / EXPERIMENT / FINE_TUNED).is_dir()
    reason = why_not(prepared, problem, math.inf if begun else left)
    if not reason:
        run = run_of(FINE_TUNED, place, digest_of(problem), problem.seed, RECIPE)
        found = fine_tune(prepared, problem, run)
        if found is not None:
            return Tried([*tried.fitted, found], tried.left_out)
        reason = "its training diverged"
    return Tried(tried.fitted, {**tried.left_out, FINE_TUNED: reason})


def scale_for(prepared: Prepared) -> Scale:
    """How features are scaled before anything is learned from them.

    Tables and arrays come scaled by column. Photographs and texts: each row to one length, since
    directions count.

    Args:
        prepared: The features.

    Returns:
        A word that `make_problem` takes.
    """
    return "rows" if prepared.features.kind in ("photographs", "texts") else "none"


def _unsure(choice: Choice, problem: Problem) -> np.ndarray:
    """Rows whose class is improbable, or that the other rows' models name otherwise.

    Of a regression: rows whose answers of the plausible rows lie further apart than the numbers'
    standard deviation / 2.
    """
    model = choice.model
    if problem.regression:
        spread = np.std([one.target[:, 0] for one in choice.stands], axis=0)
        return spread > 0.5 * float(problem.y.std())
    predicted = model.target.argmax(axis=1)
    low = softmax(model.target).max(axis=1) < UNSURE_PROBABILITY
    if not choice.judges:
        return low
    votes = np.mean([one.target.argmax(axis=1) == predicted for one in choice.judges], axis=0)
    return low | (votes < UNSURE_VOTES)


def true_figures(adapted: Adapted, one: Fitted) -> dict[str, float]:
    """Judge a candidate by the target's labels, for the final report alone.

    Args:
        adapted: What came of adapting; its target has labels.
        one: The candidate.

    Returns:
        {"accuracy": ...} over the rows whose class the source knows, or {"rmse": ...}; {} if the
        target has no labels.
    """
    labels = adapted.prepared.target.labels
    if labels is None:
        return {}
    if adapted.problem.regression:
        error = one.target[:, 0] - labels.astype(np.float64)
        return {"rmse": math.sqrt(float(np.square(error).mean()))}
    names = np.array(adapted.prepared.classes)[one.target.argmax(axis=1)]
    return {"accuracy": float((names == labels).mean())}
