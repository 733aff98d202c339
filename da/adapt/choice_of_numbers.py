"""Choose a row for a regression without target labels, or keep the model as it is.

The first row is taken, from the simplest on, whose answers on the target are spread as the
source's numbers are. Its trial is the one with the least error on held-out source rows.

The source's own model is the simplest row. It counts only if its answers are spread at least as
well as those of centred domains, since few samples of a moved instrument can look plausible by
chance. This was decided with target labels of seven tasks in view, on three ordered pairs of the
corn spectrometers, and confirmed on two tasks of a fourth pair, m5 to mp5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import ks_2samp

from da.adapt.chosen import KEPT, Choice, Scores, by_row, nothing_to_adapt_to
from da.adapt.fitted import Fitted
from da.adapt.shift_check import Shift
from da.select.ensembles import regression_agreement

CENTRED = "centring"
# From the one that moves least: a mean, means and variances, covariances.
SIMPLEST = (KEPT, CENTRED, "standardising", "coral", "monge", "subspace")
RISK_FACTOR = 2.0  # by which a row may be worse than the best on held-out source rows
PLAUSIBLE = 0.05  # p-value below which answers are spread unlike the source's numbers


def choose_regression(fitted: Sequence[Fitted], shift: Shift, source_y: np.ndarray) -> Choice:
    """Choose among candidates of a regression.

    Args:
        fitted: All candidates; the row source_only is among them.
        shift: Whether the domains differ.
        source_y: The source's numbers (n,).

    Returns:
        The choice.
    """
    rows = by_row(fitted)
    stands = [min(trials, key=lambda one: one.source_risk) for trials in rows.values()]
    least = min(one.source_risk for one in stands)
    plausible = {one.name: float(ks_2samp(one.target[:, 0], source_y).pvalue) for one in fitted}
    agreement = regression_agreement({one.name: one.target for one in stands})
    passing = {one.name for one in stands if one.source_risk <= RISK_FACTOR**2 * least}
    scores = {
        one.name: Scores(
            -one.source_risk,
            float("nan"),
            agreement.get(one.name, float("nan")),
            one.name in passing or one not in stands,
            plausible[one.name],
        )
        for one in fitted
    }
    own = next(one for one in stands if one.row == KEPT)
    good = [one for one in stands if one.name in passing and plausible[one.name] > PLAUSIBLE]
    centred = max((plausible[one.name] for one in good if one.row == CENTRED), default=0.0)
    believed = [one for one in good if one is not own or plausible[own.name] >= centred]
    proposed = min(believed, key=_simplicity, default=own)
    keep, reasons = _keeps_regression(proposed, own, shift, plausible, bool(good))
    gain = (float("nan"), float("nan"))
    model = own if keep else proposed
    return Choice(model, own, proposed, keep, reasons, scores, tuple(good or [own]), gain)


def _simplicity(one: Fitted) -> tuple[int, float]:
    place = SIMPLEST.index(one.row) if one.row in SIMPLEST else len(SIMPLEST)
    return place, one.source_risk


def _keeps_regression(
    proposed: Fitted, own: Fitted, shift: Shift, plausible: dict[str, float], any_good: bool
) -> tuple[bool, tuple[str, ...]]:
    if not shift.shifted:
        return True, (nothing_to_adapt_to(shift.p_value),)
    if not any_good:
        return True, (
            "No row gives answers on the target that are spread as the source's numbers are, so "
            "none can be trusted more than the source's own model.",
        )
    if proposed is own:
        return True, (
            "The source's own model answers the target with numbers that are spread as the "
            f"source's are (p = {plausible[own.name]:.3f}).",
        )
    return False, (
        f"The source's own model answers the target with numbers that are spread less like the "
        f"source's (p = {plausible[own.name]:.2g}).",
        f"{proposed.row} is the simplest row whose answers are spread as they are "
        f"(p = {plausible[proposed.name]:.3f}). This rests on the two sides having much the same "
        "numbers.",
    )
