"""Does label shift explain the target? A test, and intervals of the class shares.

`bbse` and `mlls` always give weights. If the classes look otherwise in the target, p(x | y) has
moved, and the weights make a model worse. `check_label_shift` tells the two cases apart:

    found = check_label_shift(held_out_probabilities, held_out_labels, target_probabilities)
    if found.fits:
        adjust(target_probabilities, found.class_weights)
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, check_two_samples
from da.arrays.random_states import RandomState, seed_of
from da.instance.class_arrays import frequencies, integers_of, probabilities_of
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
from da.instance.labelshift import bbse, mlls
from da.instance.labelshift_intervals import Method, asymptotic_intervals, bootstrap_intervals


class LabelShiftError(ValueError):
    """The error for a target that label shift does not explain, if `check_label_shift` raises it.

    Example:
        >>> from da.instance import LabelShiftError
        >>> issubclass(LabelShiftError, ValueError)
        True
    """


@dataclass(frozen=True, eq=False)
class LabelShiftCheck:
    """What `check_label_shift` finds.

    Attributes:
        class_weights: q / p (k,).
        shares: The target's class shares q (k,).
        bootstrap: The intervals (k, 2) of the shares by the bootstrap.
        asymptotic: The intervals (k, 2) of the shares by the delta method (bbse) or the
            information matrix (mlls).
        p_value: Of the hypothesis that label shift explains the target, in (0, 1].
        gap: The squared MMD between the reweighted source and the target, >= 0.
        effective_sample_size: Of the reweighted source rows.
        fits: Whether `p_value` is above the level of the test.

    Example:
        >>> import numpy as np
        >>> from da.instance import check_label_shift
        >>> y = np.arange(200) % 2
        >>> found = check_label_shift(np.eye(2)[y], y, np.eye(2)[np.arange(200) % 4 // 3])
        >>> found.shares.round(2).tolist(), found.fits
        ([0.75, 0.25], True)
    """

    class_weights: np.ndarray
    shares: np.ndarray
    bootstrap: np.ndarray
    asymptotic: np.ndarray
    p_value: float
    gap: float
    effective_sample_size: float
    fits: bool


@checked
def check_label_shift(
    source_predictions: Array,
    source_labels: Array,
    target_predictions: Array,
    *,
    features: tuple[Array, Array] | None = None,
    method: Method = "bbse",
    level: float = 0.9,
    alpha: float = 0.01,
    draws: int = 500,
    on_misfit: OnMisfit = "warn",
    random_state: RandomState = 0,
) -> LabelShiftCheck:
    """Estimate the target's class shares, and test whether label shift explains the target.

    Use it in place of `bbse` or `mlls` if you do not know that the classes look the same in both
    domains. The reweighted source is compared with the target by a kernel distance. Under label
    shift alone it is only as large as chance makes it:

        draw source rows of each class anew, and target rows from the source by the class shares q
        estimate the class weights from these draws, and compute the distance

    The p-value is the share of draws with a distance at least as large. The same draws give the
    bootstrap intervals of the shares.

    Args:
        source_predictions: Probabilities (n, k) on source rows that the classifier was not trained
            on. For "mlls" calibrate them first.
        source_labels: The true classes (n,) of these rows, integers from 0; each class must occur.
        target_predictions: Probabilities (m, k) on the target.
        features: Source rows (n, d) and target rows (m, d) to compare, in the order of the
            predictions; their columns are standardised. Default None compares the predictions. A
            classifier's features see more than its predictions.
        method: The estimate, "bbse" (default) or "mlls".
        level: The level of the intervals, in (0, 1). Default 0.9.
        alpha: The level of the test, in (0, 1). Default 0.01.
        draws: The number of bootstrap draws, >= 1. The least p-value is 1 / (1 + draws). Default
            500.
        on_misfit: What to do if label shift does not fit: "warn" (default), "raise" or "ignore".
        random_state: Source of the draws: None, an int, or a RandomState or Generator of NumPy.
            Beyond 2,000 rows of a domain, the test sees 2,000 random ones. Default 0.

    Returns:
        Class weights, shares with intervals, and the test.

    Raises:
        LabelShiftError: Label shift does not fit, and `on_misfit` is "raise".
        ValueError: Shapes do not fit, a class has no label, the confusion matrix is singular, or an
            option is out of range.
        TypeError: Predictions or labels have a wrong type.

    Warns:
        UserWarning: Label shift does not fit, and `on_misfit` is "warn".

    Example:
        In the first target only the shares move, in the second the rows of class 1 too:

        >>> import numpy as np
        >>> from da.instance import check_label_shift
        >>> def sample(seed, share, place):
        ...     generator = np.random.default_rng(seed)
        ...     y = (generator.random(500) < share).astype(int)
        ...     x = generator.normal(size=500) + np.where(y, place, 0.0)
        ...     p = 1 / (1 + np.exp(2 - 2 * x))
        ...     return np.stack([1 - p, p], 1), y
        >>> source, y = sample(0, 0.5, 2.0)
        >>> moved, _ = sample(1, 0.2, 2.0)
        >>> other, _ = sample(2, 0.2, 4.0)
        >>> check_label_shift(source, y, moved).fits
        True
        >>> check_label_shift(source, y, other, on_misfit="ignore").fits
        False

    Paper:
        Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black Box Predictors.
        ICML 2018 (the estimate).
        Gretton, Borgwardt, Rasch, Schoelkopf, et al.: A Kernel Two-Sample Test. JMLR 13, 2012 (the
        distance).

    Differences:
        The test and the intervals are added here.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be 'bbse' or 'mlls'; got {method!r}")
    check_misfit_options(on_misfit, alpha=alpha, level=level)
    draws = whole_number(draws, "draws", least=1)
    generator = torch.Generator().manual_seed(seed_of(random_state))
    y = integers_of(source_labels, "source_labels")
    p = probabilities_of(source_predictions, "source_predictions", None)
    target = probabilities_of(target_predictions, "target_predictions", p.shape[1])
    prior = frequencies(y, p.shape[1], len(p), "source_labels")
    weights = _estimate(method, p, y, target)
    shares = weights * prior
    rows, others, kernel = _kernel(*_compared(features, p, target), generator)
    gap = weighted_gap(kernel, weights[y[rows]])
    few = _Draws(p[rows], y[rows], shares, len(others), method)
    null, estimates = few.carry_out(kernel[: len(rows), : len(rows)], draws, generator)
    if (p_value := p_value_of(gap, null)) <= alpha:
        _tell_misfit(p_value, on_misfit)
    return LabelShiftCheck(
        weights.numpy(),
        shares.numpy(),
        bootstrap_intervals(shares, estimates, level, len(p) / len(rows)),
        asymptotic_intervals(method, p, y, target, shares, level),
        p_value,
        gap,
        effective_sample_size(weights[y]),
        p_value > alpha,
    )


def _kernel(x: Tensor, z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of both sides that are compared, and the kernel between all of these."""
    rows, others = some_rows(len(x), generator), some_rows(len(z), generator)
    return rows, others, kernel_matrix(torch.cat([x[rows], z[others]]))


def _tell_misfit(p_value: float, on_misfit: OnMisfit) -> None:
    told = (
        f"label shift does not explain the target (p = {p_value:.2g}): the rows of some class "
        "look otherwise there, so class weights can make a model worse"
    )
    tell("check_label_shift", told, on_misfit, LabelShiftError)


class _Draws:
    """Both samples drawn from the source, as label shift with these shares would have them."""

    def __init__(self, p: Tensor, y: Tensor, shares: Tensor, target_rows: int, method: Method):
        self.p, self.y, self.shares = p, y, shares
        self.target_rows, self.method = target_rows, method
        self.members = [(y == k).nonzero().flatten() for k in range(p.shape[1])]

    def carry_out(
        self, kernel: Tensor, draws: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The gaps (B,), and the estimated shares (B, k).

        The classes of the source are drawn too: `mlls` rests on their frequencies.
        """
        counts = torch.bincount(self.y, minlength=len(self.members))
        prior = counts.double() / len(self.y)
        source, target, weights, estimates = [], [], [], []
        for _ in range(draws):
            own = self._sample(prior, len(self.y), generator, least=1)
            other = self._sample(self.shares, self.target_rows, generator)
            source.append(own)
            target.append(other)
            weights.append(_estimate(self.method, self.p[own], self.y[own], self.p[other]))
            drawn = torch.bincount(self.y[own], minlength=len(self.members)).double()
            estimates.append(weights[-1] * drawn / len(own))
        w = torch.stack(weights)  # (B, k)
        weighted = counts_of(torch.stack(source), len(self.y)) * w[:, self.y]
        contrasts = weighted / weighted.sum(1, keepdim=True)
        contrasts -= counts_of(torch.stack(target), len(self.y)) / self.target_rows
        return gaps(kernel, contrasts), torch.stack(estimates)

    def _sample(
        self, shares: Tensor, rows: int, generator: torch.Generator, *, least: int = 0
    ) -> Tensor:
        """Positions of rows with these shares of the classes, drawn with replacement.

        There are `least` of each class or more.
        """
        classes = torch.multinomial(shares, rows, True, generator=generator)
        counts = torch.bincount(classes, minlength=len(self.members)).clamp(min=least)
        return torch.cat(
            [
                members[torch.randint(len(members), (int(count),), generator=generator)]
                for members, count in zip(self.members, counts, strict=True)
            ]
        )


def _compared(
    features: tuple[Array, Array] | None, p: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """The rows to compare: standardised features, or the predictions."""
    if features is None:
        return p, target
    names = ("features[0]", "features[1]")
    x, z = (each.detach().cpu() for each in check_two_samples(*features, names=names))
    for name, each, rows in zip(names, (x, z), (len(p), len(target)), strict=True):
        if len(each) != rows:
            raise ValueError(f"{name} must have {rows} rows, as the predictions; got {len(each)}")
    return standardised(x, z)


def _estimate(method: Method, p: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The class weights (k,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a draw near a singular matrix is a wide interval
        return bbse(p, y, target) if method == "bbse" else mlls(y, target, tolerance=1e-6)
