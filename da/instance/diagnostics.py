"""How good are weights: how many rows they rest on, and how near they are to a known ratio.

Look at the effective sample size before you train with weights. If it is a handful of rows, the
weighted model learns from a handful of rows. If it is nearly n, the weights change nothing.
`ratio_error` and `reliability` need the true density ratio, so they are for simulations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.callers import warn_caller
from da.arrays.integers import whole_number
from da.arrays.numbers import as_numbers

UNIFORM = 0.999  # weights whose effective sample size is above this share of n count as uniform


class WeightReport(NamedTuple):
    """What `describe` says about n weights; `print` shows it in one line.

    Attributes:
        rows: The number of weights, n.
        effective_sample_size: (sum w)^2 / sum w^2, from 1 to n.
        largest: The largest weight as a multiple of the mean weight, from 1 to n.
        largest_share: The largest weight's share of the sum, from 1 / n to 1.
        zeros: The share of rows with weight exactly 0, in [0, 1].

    Example:
        >>> import numpy as np
        >>> from da.instance import describe
        >>> report = describe(np.array([2.0, 2.0, 0.0, 0.0]))
        >>> report.effective_sample_size, report.zeros
        (2.0, 0.5)
    """

    rows: int
    effective_sample_size: float
    largest: float
    largest_share: float
    zeros: float

    def __str__(self) -> str:
        """The report in one line."""
        return (
            f"effective sample size {self.effective_sample_size:.1f} of {self.rows}; "
            f"largest weight {self.largest:.1f} times the mean, "
            f"{100 * self.largest_share:.1f} % of the sum; "
            f"{100 * self.zeros:.1f} % of the weights are 0"
        )


class Reliability(NamedTuple):
    """What `reliability` finds in each of k bins; weights and ratios have mean 1 over all rows.

    Attributes:
        weight: The mean weight (k,) of each bin.
        ratio: The mean true ratio (k,) of each bin.
        rows: The number of rows (k,) in each bin.
    """

    weight: np.ndarray
    ratio: np.ndarray
    rows: np.ndarray


@checked
def describe(weights: Tensor | np.ndarray) -> WeightReport:
    """Summarise weights: effective sample size, largest weight, share of zeros.

    Args:
        weights: Weights (n,), finite, >= 0, not all 0. Their scale does not matter.

    Returns:
        The report.

    Raises:
        ValueError: The weights are not as described above.

    Example:
        >>> import numpy as np
        >>> from da.instance import describe
        >>> print(describe(np.array([2.0, 2.0, 0.0, 0.0])))
        effective sample size 2.0 of 4; largest weight 2.0 times the mean, 50.0 % of the sum;
        50.0 % of the weights are 0
    """
    w = _checked(weights)
    share = float(w.max() / w.sum())
    zeros = float((w == 0).double().mean())
    return WeightReport(len(w), effective_sample_size(w), len(w) * share, share, zeros)


@checked
def ratio_error(weights: Tensor | np.ndarray, ratio: Tensor | np.ndarray) -> float:
    """Measure how far weights are from the true density ratio; 0 is exact, 1 as bad as uniform.

    It needs the true ratio, so it is for simulations.

        mean (w - r)^2 / mean (1 - r)^2        w and r each divided by its mean

    Args:
        weights: Weights (n,), finite, >= 0, not all 0.
        ratio: The true ratio (n,) at the same rows, up to a factor; not constant.

    Returns:
        The error, >= 0.

    Raises:
        ValueError: The inputs are not as described above, or their lengths differ.

    Example:
        >>> import numpy as np
        >>> from da.instance import ratio_error
        >>> ratio = np.array([3.0, 1.0])
        >>> ratio_error(ratio, ratio), ratio_error(np.array([1.0, 1.0]), ratio)
        (0.0, 1.0)
    """
    w, r = _same_rows(weights, ratio)
    uniform = (1 - r).square().mean()
    if not bool(uniform > 1e-24):
        raise ValueError(
            "ratio must not be constant: uniform weights have no error to compare with"
        )
    return float((w - r).square().mean() / uniform)


@checked
def reliability(
    weights: Tensor | np.ndarray, ratio: Tensor | np.ndarray, *, bins: int = 10
) -> Reliability:
    """Compare mean weight and mean true ratio in bins of rows, sorted by weight.

    It answers: are rows of weight 2 twice as frequent in the target? Weights are calibrated if
    mean weight and mean ratio agree in every bin. It needs the true ratio, so it is for
    simulations.

    Args:
        weights: Weights (n,), finite, >= 0, not all 0.
        ratio: The true ratio (n,) at the same rows, up to a factor.
        bins: The most bins, >= 1, of equal count. Rows of equal weight share a bin, so there may
            be fewer. Default 10.

    Returns:
        Mean weight, mean ratio and number of rows of each bin, in order of weight.

    Raises:
        ValueError: The inputs are not as described above, or their lengths differ.

    Example:
        >>> import numpy as np
        >>> from da.instance import reliability
        >>> weights, ratio = np.array([1.0, 1.0, 3.0, 3.0]), np.array([2.0, 0.0, 2.0, 4.0])
        >>> found = reliability(weights, ratio, bins=2)
        >>> found.weight, found.ratio
        (array([0.5, 1.5]), array([0.5, 1.5]))
    """
    w, r = _same_rows(weights, ratio)
    bins = whole_number(bins, "bins", least=1)
    edges = w.sort().values[[len(w) * k // bins for k in range(1, bins)]]
    place = torch.searchsorted(edges, w, right=True)
    counts = torch.bincount(place, minlength=bins)
    kept = counts > 0
    weight, truth = (torch.bincount(place, z, minlength=bins)[kept] / counts[kept] for z in (w, r))
    return Reliability(weight.numpy(), truth.numpy(), counts[kept].numpy())


@checked
def effective_sample_size(weights: Tensor | np.ndarray) -> float:
    """Count how many equally weighted rows would give a mean of the same variance.

    It is n for uniform weights and 1 if a single row has all the weight. A small value means that
    the weighted model learns from few rows.

        (sum w)^2 / sum w^2

    Args:
        weights: Weights (n,), finite, >= 0, not all 0. Their scale does not matter.

    Returns:
        The effective sample size, from 1 to n, in rows.

    Raises:
        ValueError: The weights are not as described above.

    Example:
        >>> import numpy as np
        >>> from da.instance import effective_sample_size
        >>> effective_sample_size(np.array([1.0, 1.0, 0.0, 0.0]))
        2.0

    Paper:
        Kong, Liu, Wong: Sequential Imputations and Bayesian Missing Data Problems. JASA 89, 1994.

    Differences:
        None known.
    """
    w = _checked(weights)
    return float(w.sum().square() / w.square().sum())


def warn_if_uniform(weights: Tensor | np.ndarray, method: str) -> None:
    """Warn if the weights are nearly equal, since training with them changes nothing.

    Args:
        weights: Weights (n,).
        method: The weight function's name, shown in the message.
    """
    if len(weights) > 1 and effective_sample_size(weights) > UNIFORM * len(weights):
        warn_caller(
            f"{method}: the weights are uniform, so reweighting changes nothing. Either the method "
            "finds no difference between source and target, or no row of one is near a row of the "
            "other",
        )


def _checked(weights: Tensor | np.ndarray, name: str = "weights") -> Tensor:
    """The weights in float64 on the CPU, divided by the largest."""
    w = as_numbers(weights, name).detach().double().cpu()
    if w.ndim != 1 or not bool((w.isfinite() & (w >= 0)).all()) or not bool(w.sum() > 0):
        raise ValueError(
            f"{name} must be (n,), finite, >= 0 and not all 0; "
            f"got shape {tuple(w.shape)}: {w.flatten()[:5].tolist()} ..."
        )
    return w / w.max()


def _same_rows(weights: Tensor | np.ndarray, ratio: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    """Weights and ratio, each checked and divided by its mean."""
    w, r = _checked(weights), _checked(ratio, "ratio")
    if len(w) != len(r):
        raise ValueError(f"weights and ratio must have as many rows; got {len(w)} and {len(r)}")
    return w / w.mean(), r / r.mean()
