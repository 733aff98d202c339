"""What weights say about themselves: on how many samples they rest, and whether they say anything at all; and, where the true density
ratio is known, how near they are to it.

Kong, Liu, Wong: Sequential Imputations and Bayesian Missing Data Problems. JASA 89, 1994 (the effective sample size).
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

UNIFORM = 0.999


class WeightReport(NamedTuple):
    """What `describe` says of n weights."""

    rows: int
    """n."""
    effective_sample_size: float
    """(sum w)^2 / sum w^2, from 1 to n."""
    largest: float
    """The largest weight, as a multiple of the mean weight: from 1 to n."""
    largest_share: float
    """The largest weight's share of the sum: from 1/n to 1."""
    zeros: float
    """The share of rows whose weight is exactly 0: those that were dropped."""

    def __str__(self) -> str:
        """In a line."""
        return (
            f"effective sample size {self.effective_sample_size:.1f} of {self.rows}; largest weight {self.largest:.1f} times the mean, "
            f"{100 * self.largest_share:.1f} % of the sum; {100 * self.zeros:.1f} % of the weights are 0"
        )


class Reliability(NamedTuple):
    """Mean weight and mean true ratio of each bin of rows, both of mean 1 over all rows, and the number of rows in it: (k,) each."""

    weight: np.ndarray
    ratio: np.ndarray
    rows: np.ndarray


def describe(weights: Tensor | np.ndarray) -> WeightReport:
    """On how many rows weights (n,) rest. Raises as `effective_sample_size`."""
    w = _checked(weights)
    share = float(w.max() / w.sum())
    return WeightReport(
        len(w), effective_sample_size(w), len(w) * share, share, float((w == 0).double().mean())
    )


def ratio_error(weights: Tensor | np.ndarray, ratio: Tensor | np.ndarray) -> float:
    """mean (w - r)^2 / mean (1 - r)^2 of weights (n,) and true ratio r (n,), each divided by its mean: 0 is exact, 1 as uniform.

    Raises ValueError as `effective_sample_size`, for another number of rows, and for a constant ratio.
    """
    w, r = _same_rows(weights, ratio)
    uniform = (1 - r).square().mean()
    if not bool(uniform > 1e-24):
        raise ValueError(
            "ratio must not be constant: uniform weights have no error to compare with"
        )
    return float((w - r).square().mean() / uniform)


def reliability(
    weights: Tensor | np.ndarray, ratio: Tensor | np.ndarray, *, bins: int = 10
) -> Reliability:
    """Are rows of weight 2 twice as frequent in the target? The rows in at most `bins` bins of equal count, by weight, ascending.

    Calibrated weights have bins of equal mean weight and mean ratio. Rows of equal weight share a bin, so that there may be fewer.
    Raises ValueError as `ratio_error` does on shapes and values, and for bins < 1.
    """
    w, r = _same_rows(weights, ratio)
    if bins < 1:
        raise ValueError(f"bins must be >= 1; got {bins}")
    edges = w.sort().values[[len(w) * k // bins for k in range(1, bins)]]
    place = torch.searchsorted(edges, w, right=True)
    counts = torch.bincount(place, minlength=bins)
    kept = counts > 0
    means = [torch.bincount(place, z, minlength=bins)[kept] / counts[kept] for z in (w, r)]
    return Reliability(*(z.numpy() for z in (*means, counts[kept])))


def effective_sample_size(weights: Tensor | np.ndarray) -> float:
    """(sum w)^2 / sum w^2 of weights (n,): how many equally weighted samples vary as much; n for uniform weights, 1 for a single one.

    Raises ValueError unless the weights are one or more finite numbers >= 0 that are not all 0.
    """
    w = _checked(weights)
    return float(w.sum().square() / w.square().sum())


def warn_if_uniform(weights: Tensor | np.ndarray, method: str) -> None:
    """Warn when `method`'s weights have an effective sample size above 0.999 n: training with them is training without."""
    if len(weights) > 1 and effective_sample_size(weights) > UNIFORM * len(weights):
        warnings.warn(
            f"{method}: the weights are uniform, so reweighting changes nothing: to this method source and target are alike, or have no "
            "row near each other",
            stacklevel=3,
        )


def _checked(weights: Tensor | np.ndarray, name: str = "weights") -> Tensor:
    """The weights in float64 on the CPU, divided by the largest."""
    w = torch.as_tensor(weights).detach().double().cpu()
    if w.ndim != 1 or not bool((w.isfinite() & (w >= 0)).all()) or not bool(w.sum() > 0):
        raise ValueError(
            f"{name} must be (n,), finite, >= 0 and not all 0; got shape {tuple(w.shape)}: {w.flatten()[:5].tolist()} ..."
        )
    return w / w.max()


def _same_rows(weights: Tensor | np.ndarray, ratio: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    w, r = _checked(weights), _checked(ratio, "ratio")
    if len(w) != len(r):
        raise ValueError(f"weights and ratio must have as many rows; got {len(w)} and {len(r)}")
    return w / w.mean(), r / r.mean()
