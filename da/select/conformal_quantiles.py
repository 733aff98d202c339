"""The weighted quantile of split conformal prediction, which sets and intervals share.

Each calibration row has a score s_i, which is small if the model was right about it. Under shift a
row counts by its weight w_i, the density ratio target / source. A candidate answer of a target row
with weight w is taken if its score is at most the quantile

    q(w) = inf { t : sum_i w_i 1[s_i <= t] >= level (sum_i w_i + w) }

and any answer is taken if there is no such t. w is the target row's share of doubt. If its own
weight is not known, its mean over the target stands in, sum w_i^2 / sum w_i: then

    w / sum_i w_i = 1 / effective sample size

as 1 / n without weights. Few effective rows make wide and erratic sets, so they are refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from da.arrays.matrices import normalised_weights
from da.arrays.numbers import as_numbers
from da.instance.diagnostics import effective_sample_size

LEAST = 50  # effective rows: the coverage then varies by about 4 points from one sample to another


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The scores of the calibration rows, and how much each counts.

    Attributes:
        scores: Sorted, (n,), in float64.
        weights: In the same order, (n,), of mean 1.
        level: The share of target rows whose set is to hold the true answer.
        effective_size: The effective sample size of the weights.
    """

    scores: Tensor
    weights: Tensor
    level: float
    effective_size: float

    def quantiles(self, own: Tensor) -> Tensor:
        """q(w) for weights w (m,) of target rows, in the units of `weights`: (m,), or infinity."""
        total = self.weights.cumsum(0)
        needed = self.level * (total[-1] + own)
        # Rounding of the sum must not cost a score.
        place = torch.searchsorted(total, needed - 1e-9 * float(total[-1]))
        reached = torch.cat([self.scores, self.scores.new_tensor([math.inf])])
        return reached[place.clamp(max=len(self.scores))]

    def own_weights(self, given: Tensor | np.ndarray | None, scale: float, rows: int) -> Tensor:
        """The weights (rows,) of target rows in the units of `weights`.

        Args:
            given: Those of the caller (rows,), in his units; None takes the target's mean weight.
            scale: The mean of the caller's calibration weights.
            rows: How many there must be.
        """
        if given is None:
            return torch.full((rows,), len(self.weights) / self.effective_size, dtype=torch.float64)
        own = as_numbers(given, "weights").detach().cpu().double()
        if own.shape != (rows,) or not bool((own.isfinite() & (own >= 0)).all()):
            raise ValueError(
                f"weights must be ({rows},), one for each row, finite and >= 0; "
                f"got shape {tuple(own.shape)}: {own.flatten()[:5].tolist()} ..."
            )
        return own / scale


def calibrated_scores(
    scores: Tensor, weights: Tensor | np.ndarray | None, level: float, least: float
) -> tuple[Calibrated, float]:
    """Sort scores with their weights.

    Args:
        scores: Of the calibration rows (n,), in float64 on the CPU.
        weights: Of these rows (n,), >= 0; None: equal ones.
        level: The share of target rows whose set is to hold the true answer, in (0, 1).
        least: The fewest effective rows that are accepted.

    Returns:
        The calibration, and the mean of the weights as given.

    Raises:
        ValueError: An option is out of range, or the weights rest on too few rows.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1); got {level}")
    given = torch.ones_like(scores) if weights is None else as_numbers(weights, "weights").detach()
    w = normalised_weights(given.cpu().double(), len(scores))
    rows = effective_sample_size(w)
    if rows < least:
        raise ValueError(
            f"the weights rest on {rows:.1f} effective rows of {len(scores)}, fewer than "
            f"least_effective_size = {least:g}: sets would be wide and erratic; take more "
            "calibration rows, or weights that are less uneven"
        )
    order = scores.argsort()
    return Calibrated(scores[order], w[order], level, rows), float(given.double().mean())
