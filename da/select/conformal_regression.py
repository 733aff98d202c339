"""Prediction intervals that hold at their level on the target, for any regression.

    intervals = conformal_regressor(model.predict(x), y, weights=ulsif(x, target_x))
    intervals(model.predict(target_x))                                     (m, 2) lower, upper

See `da.select.conformal_quantiles` for what the weights do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, as_matrix, like
from da.select.conformal_quantiles import LEAST, Calibrated, calibrated_scores

ValueScore = Literal["absolute", "quantile"]


@dataclass(frozen=True, eq=False)
class PredictionIntervals:
    """What `conformal_regressor` finds; call it with a regression's predictions.

    Attributes:
        calibrated: The scores of the calibration rows and their weights.
        score: "absolute" or "quantile".
        scale: The mean of the calibration weights as given.

    Example:
        >>> import numpy as np
        >>> from da.select import conformal_regressor
        >>> predictions = np.zeros(99)
        >>> intervals = conformal_regressor(predictions, np.arange(1.0, 100.0), level=0.9)
        >>> intervals(np.array([5.0])).tolist()  # 90 of 99 residuals, and one for the row itself
        [[-85.0, 95.0]]
    """

    calibrated: Calibrated
    score: ValueScore
    scale: float

    def __call__(self, predictions: Array, *, weights: Tensor | np.ndarray | None = None) -> Array:
        """Give the interval of each row.

        Args:
            predictions: At target rows: (m,) for "absolute", (m, 2) for "quantile".
            weights: The density ratio at these rows (m,), in the units of the calibration weights.
                Default None: the target's mean weight.

        Returns:
            Lower and upper ends (m, 2), of the kind of `predictions`; infinite if the calibration
            rows cannot tell. An interval of "quantile" that would be turned round is one point.
        """
        ends = _ends(predictions, self.score)
        own = self.calibrated.own_weights(weights, self.scale, len(ends))
        width = self.calibrated.quantiles(own)
        lower, upper = ends[:, 0] - width, ends[:, 1] + width
        middle = (lower + upper) / 2
        turned = lower > upper
        found = torch.stack(
            [torch.where(turned, middle, lower), torch.where(turned, middle, upper)], dim=1
        )
        return like(found.to(torch.as_tensor(predictions).device), predictions)


@checked
def conformal_regressor(
    predictions: Array,
    values: Array,
    *,
    level: float = 0.9,
    score: ValueScore = "absolute",
    weights: Array | None = None,
    least_effective_size: float = LEAST,
) -> PredictionIntervals:
    """Calibrate intervals that hold the target's true value at a given level.

        absolute    s = |y - f(x)|                           the same width for every row
        quantile    s = max(low(x) - y, y - high(x))         widths that follow the row

    Args:
        predictions: Of a regression at calibration rows, which are source rows with values that it
            was not trained on: (n,) for "absolute"; (n, 2) for "quantile", a lower and an upper
            quantile, as of `sklearn.ensemble.GradientBoostingRegressor(loss="quantile")`.
        values: The true values (n,), floats.
        level: The share of target rows whose interval is to hold the true value, in (0, 1). Default
            0.9.
        score: "absolute" (default) or "quantile" (conformalised quantile regression).
        weights: For covariate shift: the density ratio target / source at the calibration rows
            (n,), from any function of `da.instance`, up to a factor. Default None.
        least_effective_size: The fewest effective rows, (sum w)^2 / sum w^2, that are accepted.
            Default 50.

    Returns:
        The intervals, a function of predictions.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, weights are negative or all 0, an
            option is out of range, or the weights rest on too few rows.
        TypeError: Predictions or values are no floats.

    Example:
        Errors grow with x, and the target has large x. Weights widen the interval:

        >>> import numpy as np
        >>> from da.select import conformal_regressor
        >>> x = np.linspace(0, 1, 500)
        >>> values = x * np.where(np.arange(500) % 2, 1.0, -1.0)
        >>> wide, narrow = (
        ...     conformal_regressor(np.zeros(500), values, weights=w)(np.zeros(1))[0, 1]
        ...     for w in (x**2, None)
        ... )
        >>> bool(wide > narrow)
        True

    Paper:
        Tibshirani, Barber, Candes, Ramdas: Conformal Prediction under Covariate Shift. NeurIPS
        2019.
        Romano, Patterson, Candes: Conformalized Quantile Regression. NeurIPS 2019.

    Differences:
        Where the weight of a target row is not given, the target's mean weight stands in.
    """
    if score not in get_args(ValueScore):
        raise ValueError(f"score must be 'absolute' or 'quantile'; got {score!r}")
    ends = _ends(predictions, score)
    y = _values(values)
    if y.shape != (len(ends),):
        raise ValueError(f"values must be ({len(ends)},), one for each row; got {tuple(y.shape)}")
    scores = torch.maximum(ends[:, 0] - y, y - ends[:, 1])
    calibrated, scale = calibrated_scores(scores, weights, level, least_effective_size)
    return PredictionIntervals(calibrated, score, scale)


def _ends(predictions: Array, score: ValueScore) -> Tensor:
    """The lower and upper ends (n, 2) that the score starts from, in float64 on the CPU."""
    if score == "quantile":
        ends = as_matrix(predictions, "predictions").detach().cpu().double()
        if ends.shape[1] != 2:
            raise ValueError(
                f"predictions must be (n, 2), lower and upper quantiles; got {tuple(ends.shape)}"
            )
        return ends
    middle = _values(predictions, "predictions")
    return torch.stack([middle, middle], dim=1)


def _values(x: Tensor | np.ndarray, name: str = "values") -> Tensor:
    """Numbers (n,) in float64 on the CPU."""
    if x.ndim != 1:
        raise ValueError(f"{name} must have shape (n,); got {tuple(x.shape)}")
    return as_matrix(x[:, None], name).detach().cpu().double()[:, 0]
