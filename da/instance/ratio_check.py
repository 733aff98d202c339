"""Do weights make the source look like the target? A test, a calibration, and how many rows count.

Use it before you train with weights from any function of `da.instance`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, check_two_samples, normalised_weights
from da.arrays.random_states import RandomState, seed_of
from da.instance.diagnostics import effective_sample_size
from da.instance.fit_checks import (
    OnMisfit,
    check_misfit_options,
    counts_of,
    gaps,
    kernel_matrix,
    p_value_of,
    some_rows,
    standardised,
    tell,
    weighted_gap,
)

REGIONS = 10


class DensityRatioError(ValueError):
    """The error for weights that do not fit, if `check_density_ratio` is told to raise it.

    Example:
        >>> from da.instance import DensityRatioError
        >>> issubclass(DensityRatioError, ValueError)
        True
    """


@dataclass(frozen=True, eq=False)
class DensityRatioCheck:
    """What `check_density_ratio` finds.

    Attributes:
        p_value: Of the hypothesis that the weighted source is distributed as the target, in (0, 1].
        gap: The squared MMD between the weighted source and the target, >= 0.
        unweighted_gap: The same without weights.
        effective_sample_size: Of the weights.
        calibration: For each of up to ten regions of the rows, the weighted share of the source and
            the share of the target in it (regions, 2). They agree if the weights are calibrated.
        fits: Whether `p_value` is above the level of the test and enough rows count.

    Example:
        >>> import numpy as np
        >>> from da.instance import check_density_ratio
        >>> x = np.random.default_rng(0).normal(size=(300, 1))
        >>> found = check_density_ratio(x[:150], x[150:], np.ones(150))
        >>> found.fits, found.effective_sample_size
        (True, 150.0)
    """

    p_value: float
    gap: float
    unweighted_gap: float
    effective_sample_size: float
    calibration: np.ndarray
    fits: bool


@checked
def check_density_ratio(
    source: Array,
    target: Array,
    weights: Array,
    *,
    alpha: float = 0.01,
    draws: int = 500,
    least_effective_size: float = 30,
    on_misfit: OnMisfit = "warn",
    random_state: RandomState = 0,
) -> DensityRatioCheck:
    """Test whether weighted source rows are distributed as the target's.

    It sees weights that are wrong, and target rows that are like no source row, which no weights
    can make up for. It cannot see whether p(y | x) has moved.

        gap = || sum_i a_i phi(x_i) - mean_j phi(z_j) ||^2        a_i the weights, of sum 1

    Both samples are drawn anew from the source, the target with probabilities a_i. The p-value is
    the share of draws with a gap at least as large. Weights that were fitted to the same rows make
    the gap smaller than a draw's, so the test then rejects less often than alpha says. To judge
    weights without that, keep some rows of both domains out of their fit and pass those.

    Args:
        source: Rows (n, d), floats; columns are standardised.
        target: Rows (m, d).
        weights: The weights of the source rows (n,), >= 0, from any function of `da.instance`.
        alpha: The level of the test, in (0, 1). Default 0.01.
        draws: The number of bootstrap draws, >= 1. Default 500.
        least_effective_size: The fewest effective rows, (sum w)^2 / sum w^2, that pass. Default 30.
        on_misfit: What to do if the weights do not fit: "warn" (default), "raise" or "ignore".
        random_state: Source of the draws: None, an int, or a RandomState or Generator of NumPy.
            Beyond 2,000 rows of a domain, the test sees 2,000 random ones. Default 0.

    Returns:
        The test, the effective sample size and the calibration.

    Raises:
        DensityRatioError: The weights do not fit, and `on_misfit` is "raise".
        ValueError: Shapes do not fit, a value is not finite, weights are negative or all 0, or an
            option is out of range.
        TypeError: The inputs are not two float arrays or two float tensors.

    Warns:
        UserWarning: The weights do not fit, and `on_misfit` is "warn".

    Example:
        >>> import numpy as np
        >>> from da.instance import check_density_ratio
        >>> generator = np.random.default_rng(0)
        >>> x, z = generator.normal(size=(400, 1)), 0.7 + 0.7 * generator.normal(size=(400, 1))
        >>> ratio = np.exp(x**2 / 2 - (x - 0.7) ** 2 / 2 / 0.49).ravel()
        >>> check_density_ratio(x, z, ratio).fits
        True
        >>> check_density_ratio(x, z, np.ones(400), on_misfit="ignore").fits
        False

    Paper:
        Gretton, Borgwardt, Rasch, Schoelkopf, et al.: A Kernel Two-Sample Test. JMLR 13, 2012 (the
        distance).

    Differences:
        Weights and their bootstrap are added here.
    """
    check_misfit_options(on_misfit, alpha=alpha)
    draws = whole_number(draws, "draws", least=1)
    generator = torch.Generator().manual_seed(seed_of(random_state))
    x, z = (each.detach().cpu() for each in check_two_samples(source, target, least=2))
    w = torch.as_tensor(normalised_weights(weights, len(x))).cpu().double()
    size = effective_sample_size(w)
    x, z = standardised(x, z)
    calibration = _calibration(x, z, w)
    rows, others = some_rows(len(x), generator), some_rows(len(z), generator)
    x, z, w = x[rows], z[others], w[rows]
    kernel = kernel_matrix(torch.cat([x, z]))
    gap, unweighted = (weighted_gap(kernel, own) for own in (w, torch.ones_like(w)))
    null = _null(kernel[: len(x), : len(x)], w, len(z), draws, generator)
    p_value = p_value_of(gap, null)
    fits = p_value > alpha and size >= least_effective_size
    if not fits:
        told = _reason(p_value, size, least_effective_size)
        tell("check_density_ratio", told, on_misfit, DensityRatioError)
    return DensityRatioCheck(p_value, gap, unweighted, size, calibration, fits)


def _null(
    kernel: Tensor, w: Tensor, target_rows: int, draws: int, generator: torch.Generator
) -> Tensor:
    """The gaps (B,) of samples that are drawn from the source."""
    rows = len(w)
    own = counts_of(torch.randint(rows, (draws, rows), generator=generator), rows) * w
    chosen = torch.multinomial(w, draws * target_rows, True, generator=generator)
    other = counts_of(chosen.view(draws, target_rows), rows) / target_rows
    total = own.sum(1, keepdim=True)
    return gaps(kernel, own / torch.where(total > 0, total, 1.0) - other)


def _calibration(x: Tensor, z: Tensor, w: Tensor) -> np.ndarray:
    """The weighted share of the source and the share of the target in regions of the rows."""
    from sklearn.cluster import KMeans  # here, because scikit-learn takes a second to import

    pooled = torch.cat([x, z]).numpy()
    count = min(REGIONS, len(np.unique(pooled, axis=0)))
    regions = KMeans(count, n_init=1, random_state=0).fit_predict(pooled)
    shares = [
        np.bincount(place, weights=weights, minlength=count) / weights.sum()
        for place, weights in (
            (regions[: len(x)], w.numpy()),
            (regions[len(x) :], np.ones(len(z))),
        )
    ]
    return np.stack(shares, axis=1)


def _reason(p_value: float, size: float, least: float) -> str:
    if size < least:
        return (
            f"the weights rest on {size:.1f} effective rows, fewer than {least:g}: a model would "
            "learn from a handful of rows"
        )
    return (
        f"the weighted source is not distributed as the target (p = {p_value:.2g}): the weights "
        "are off, or the target has rows that are like no source row"
    )
