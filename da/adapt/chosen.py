"""What comes of a choice among candidates: the model, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from da.adapt.fitted import Fitted

KEPT = "source_only"
# Know of no classes in the target: the source's own model, on rows that are moved or not.
CLASS_BLIND = (KEPT, "centring", "standardising", "adabn")


class Scores(NamedTuple):
    """What is known of one row and trial without target labels.

    Attributes:
        source_risk: Minus the loss on held-out source rows; higher is better.
        information: Information maximisation of the target's answers; NaN for a regression.
        agreement: With the ensemble of the rows; NaN for trials that do not stand for their row.
        passes: Whether it passes the gate of the source.
        plausible: Of a regression, the p-value that its answers are spread as the source's numbers.
    """

    source_risk: float
    information: float
    agreement: float
    passes: bool
    plausible: float


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        model: The model to use: that of the chosen row, or the source's own.
        own: The source's own model.
        proposed: The row and trial that the scores name.
        keep: Whether the answer is to keep the source's own model.
        reasons: Why, in whole sentences.
        scores: Name of a candidate -> its scores.
        stands: The trial that stands for each row, rows that are not to be believed left out.
        gain: The estimated gain of accuracy of `proposed` over the source's model, and its standard
            error; NaN for a regression.
        absent: Classes that the target seems to lack, as numbers. Default ().
    """

    model: Fitted
    own: Fitted
    proposed: Fitted
    keep: bool
    reasons: tuple[str, ...]
    scores: dict[str, Scores]
    stands: tuple[Fitted, ...]
    gain: tuple[float, float]
    absent: tuple[int, ...] = ()

    @property
    def others(self) -> list[Fitted]:
        """The trials that stand for the rows other than the model's."""
        return [one for one in self.stands if one.row != self.model.row]

    @property
    def judges(self) -> list[Fitted]:
        """Of a classification, those of them that judge the model; see `judges_of`."""
        return judges_of(self.stands, (self.model.row,))


def by_row(fitted: Sequence[Fitted]) -> dict[str, list[Fitted]]:
    """The trials of each row.

    Args:
        fitted: All candidates.
    """
    rows: dict[str, list[Fitted]] = {}
    for one in fitted:
        rows.setdefault(one.row, []).append(one)
    return rows


def nothing_to_adapt_to(p_value: float) -> str:
    """The reason to keep a model if nothing has shifted."""
    return (
        f"The two samples cannot be told apart (p = {p_value:.3f}), so there is nothing to adapt "
        "to."
    )


def judges_of(stands: Sequence[Fitted], rows: Sequence[str]) -> list[Fitted]:
    """The models that can judge those of some rows: of other rows, and not class-blind.

    Class-blind rows repeat what the source's own model says, right or wrong. So their agreement
    with it means little, and neither does their disagreement with a row that has left it.

    Args:
        stands: A trial of each row.
        rows: The rows that are judged.

    Returns:
        The judges. If all other rows are class-blind, all of them.
    """
    others = [one for one in stands if one.row not in rows]
    return [one for one in others if one.row not in CLASS_BLIND] or others
