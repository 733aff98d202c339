"""Choose a row without target labels, or say that the model should be kept as it is.

Classification:

    1. gate       a trial must be about as good on held-out source rows as the best of its row
    2. trial      of those that pass, the one with the highest information maximisation
    3. votes      rows that fail on the source are left out
    4. row        of the rows' trials, the one with the least sum of two ranks: by agreement with
                  the ensemble of all rows, and by information maximisation

Many rows are nearly the source's own model, and agree with each other for that reason. The second
rank counters it.

The gate and the two scores are those of docs/results/selection_study.md. The sum of ranks and the
limit SOUND were picked among some twenty rules with target labels of thirteen tasks in view:
digits, reviews, persons' movements, Office photographs. So on tasks of these kinds the rule looks
better than it is; other tasks have to judge it. On the stored trials of the digits the sum loses
4.9 points where agreement alone loses 5.0.

If the target seems to lack classes that the source has, both scores mislead: they ask for all
classes, and rows that make the domains alike give the absent ones target rows. Then only rows that
do not know of classes can be taken, by agreement alone. What counts as absent was fixed with target
labels of nine pairs of persons' movements in view. It raises no false alarm on 18 tasks of Office
photographs, which were looked at afterwards.

A regression is chosen by `da.adapt.choice_of_numbers`.

The chosen row replaces the source's own model only if the domains differ and if, where the two
models differ, the models of the other rows side with the chosen one. Class-blind rows do not judge,
since they repeat the source's own model. This was decided on 26 tasks with target labels in view,
ten of them the cases of docs/results/own_data.md, which has sixteen further ones as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from da.adapt.choice_of_numbers import choose_regression
from da.adapt.chosen import (
    CLASS_BLIND,
    KEPT,
    Choice,
    Scores,
    by_row,
    judges_of,
    nothing_to_adapt_to,
)
from da.adapt.fitted import Fitted
from da.adapt.linear_models import softmax
from da.adapt.shift_check import Shift
from da.select.ensembles import ensemble_agreement
from da.select.gate import TOLERANCE, best_candidate, within_gate
from da.train.label_free_certainty import information_maximisation

SOUND = 0.75  # of the best accuracy on held-out source rows, below which a row has no vote
SURE = 1.645  # standard errors by which a row must be better: 95 %, one-sided
ABSENT = 0.2  # of a class's share in the source, below which it seems to be absent
LEAST_MASS = 0.04  # of the source that absent classes must hold


def choose(fitted: Sequence[Fitted], shift: Shift, source_y: np.ndarray) -> Choice:
    """Choose among candidates.

    Args:
        fitted: All candidates; the row source_only is among them.
        shift: Whether the domains differ.
        source_y: The source's labels (n,), with which answers on the target are compared.

    Returns:
        The choice.

    Raises:
        ValueError: The row source_only is missing.
    """
    if not any(one.row == KEPT for one in fitted):
        raise ValueError(f"the row {KEPT} must be among the candidates")
    if fitted[0].held.shape[1] == 1:
        return choose_regression(fitted, shift, source_y)
    return _choose_classifier(fitted, shift, source_y.astype(np.int64))


def _choose_classifier(fitted: Sequence[Fitted], shift: Shift, source_y: np.ndarray) -> Choice:
    rows = by_row(fitted)
    stands = _sound([_trial(trials) for trials in rows.values()])
    passing = {name for trials in rows.values() for name in _passing(trials)}
    agreement = ensemble_agreement({one.name: one.target for one in stands})
    information = {one.name: information_maximisation(one.target) for one in fitted}
    blind = [one for one in stands if one.row in CLASS_BLIND]
    absent = absent_classes([one.target for one in blind], source_y)
    if absent:
        proposed = max(blind, key=lambda one: agreement[one.name])
    else:
        places = _places(agreement, information)
        proposed = max(stands, key=lambda one: (places[one.name], agreement[one.name]))
    own = next(one for one in stands if one.row == KEPT)
    # Where classes are absent the rows that know of classes mislead; so all rows judge.
    judges = stands if absent else judges_of(stands, (proposed.row, KEPT))
    gain = gain_over(proposed, own, judges)
    keep, reasons = _keeps(proposed, own, shift, gain)
    if absent and shift.shifted:
        reasons = (_told(absent, source_y), *reasons)
    scores = {
        one.name: Scores(
            -one.source_risk,
            information[one.name],
            agreement.get(one.name, float("nan")),
            one.name in passing,
            float("nan"),
        )
        for one in fitted
    }
    model = own if keep else proposed
    return Choice(model, own, proposed, keep, reasons, scores, tuple(stands), gain, absent)


def absent_classes(blind: Sequence[np.ndarray], source_y: np.ndarray) -> tuple[int, ...]:
    """Name the classes that the target seems to lack.

    A class seems to be absent if no class-blind row names it on the target a fifth as often as it
    is in the source. One class of many may be missed by mistake, so together they must be 4 % of
    the source.

    Args:
        blind: Logits (m, k) of the class-blind rows on the target.
        source_y: The source's classes (n,), integers.

    Returns:
        Their numbers; () if they are too few of the source.

    Example:
        >>> import numpy as np
        >>> from da.adapt.choice import absent_classes
        >>> logits = np.eye(3)[[0, 0, 1, 1, 0, 1]]
        >>> absent_classes([logits], np.array([0, 1, 2, 0, 1, 2]))
        (2,)
    """
    k = blind[0].shape[1]
    source = np.bincount(source_y, minlength=k) / len(source_y)
    named = [np.bincount(z.argmax(axis=1), minlength=k) / len(z) for z in blind]
    missed = (np.max(named, axis=0) < ABSENT * source) & (source > 0)
    return tuple(np.flatnonzero(missed).tolist()) if source[missed].sum() >= LEAST_MASS else ()


def _told(absent: Sequence[int], source_y: np.ndarray) -> str:
    share = float(np.isin(source_y, absent).mean())
    count = "a class" if len(absent) == 1 else f"{len(absent)} classes"
    return (
        f"The target seems to lack {count} that {'is' if len(absent) == 1 else 'are'} "
        f"{100 * share:.0f} % of the source. Rows that make both sides alike class by class would "
        f"name it all the same, so only {', '.join(CLASS_BLIND)} can be chosen."
    )


def _sound(stands: Sequence[Fitted]) -> list[Fitted]:
    """Without rows that fail on the source: what they say of the target is worth no vote."""
    best = max(one.source_accuracy for one in stands)
    return [one for one in stands if one.row == KEPT or one.source_accuracy >= SOUND * best]


def _trial(trials: Sequence[Fitted]) -> Fitted:
    """The trial that stands for its row."""
    risks = {one.name: -one.source_risk for one in trials}
    if trials[0].row == KEPT:  # its answers on the target were not adapted to look certain
        return max(trials, key=lambda one: risks[one.name])
    scores = {one.name: information_maximisation(one.target) for one in trials}
    named = best_candidate(scores, risks, tolerance=TOLERANCE)
    return next(one for one in trials if one.name == named)


def _places(first: dict[str, float], second: dict[str, float]) -> dict[str, int]:
    """How many candidates each is above, by one score and by the other, added up."""
    scores = ({name: each[name] for name in first} for each in (first, second))
    found = dict.fromkeys(first, 0)
    for each in scores:
        for name, value in each.items():
            found[name] += sum(other < value for other in each.values())
    return found


def _passing(trials: Sequence[Fitted]) -> list[str]:
    """The trials of a row that are about as good on the source as its best."""
    return within_gate({one.name: -one.source_risk for one in trials}, tolerance=TOLERANCE)


def gain_over(proposed: Fitted, own: Fitted, judges: Sequence[Fitted]) -> tuple[float, float]:
    """Estimate by how much one model is more accurate than another, from the models of other rows.

    Where the two name one class, they are right or wrong together. Where they do not, every
    judge gives its probabilities for both classes.

        mean over target rows of  mean over judges of  p(class of proposed) - p(class of own)

    Args:
        proposed: The model that may be better.
        own: The one it is compared with.
        judges: Models of rows; those of these two rows are left out.

    Returns:
        The gain, a difference of fractions, and its standard error over the target rows.
    """
    first, second = proposed.target.argmax(axis=1), own.target.argmax(axis=1)
    asked = [one for one in judges if one.row not in (proposed.row, own.row)]
    if not asked:
        return 0.0, 0.0
    p = np.mean([softmax(one.target) for one in asked], axis=0)  # (m, k)
    rows = np.arange(len(p))
    difference = np.where(first != second, p[rows, first] - p[rows, second], 0.0)
    return float(difference.mean()), float(difference.std() / np.sqrt(len(difference)))


def _keeps(
    proposed: Fitted, own: Fitted, shift: Shift, gain: tuple[float, float]
) -> tuple[bool, tuple[str, ...]]:
    """Whether the source's own model is kept, and why."""
    if not shift.shifted:
        return True, (nothing_to_adapt_to(shift.p_value),)
    if proposed.row == own.row:
        return True, ("The scores name the source's own model.",)
    mean, error = gain
    said = (
        f"Where {proposed.row} and the source's own model differ, the models of the other rows "
        f"side with {proposed.row} by {100 * mean:.1f} points of accuracy "
        f"(standard error {100 * error:.1f})."
    )
    if mean - SURE * error <= 0:
        return True, (said, "That is not safely more than nothing.")
    return False, (said,)
