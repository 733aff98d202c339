"""Estimated accuracy: the mean confidence after a temperature was fitted without target labels."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.matrices import Array, normalised_weights
from da.instance.diagnostics import effective_sample_size
from da.select.accuracy import (
    LEAST_ROWS,
    AccuracyEstimate,
    SourceRows,
    check_level,
    checked_logits,
    checked_source,
    doubts_about,
    estimate_of,
    variance_of_mean,
)
from da.select.accuracy_confidence import confidence

COLDEST = 0.01  # the temperature stays within this and its inverse
_STEP = 1e-3  # of a difference quotient, in log temperature
_FLAT = 1e-6  # a curvature of the mean Brier score that counts as none


@checked
def scaled_confidence(
    source_logits: Array,
    source_labels: Array,
    target_logits: Array,
    *,
    source_weights: Array | None = None,
    level: float = 0.9,
) -> AccuracyEstimate:
    """Estimate target accuracy by the mean confidence after temperature scaling (CPCS).

    The temperature is fitted on held-out source rows. With weights that make these rows resemble
    the target, it is fitted for the target, without a target label. It holds under covariate shift.

        T = argmin of  sum_j w_j ||softmax(z_j / T) - onehot(y_j)||^2        (the Brier score)
        mean_i max_k softmax(z_i / T)_k

    Args:
        source_logits: Logits z (v, classes) of source rows that were not trained on.
        source_labels: Their classes y (v,), integers from 0.
        target_logits: Logits (n, classes) of target rows.
        source_weights: The density ratio target / source at the source rows (v,), >= 0, up to a
            factor, as from `da.instance.discriminator_weights` on features. Default None: equal
            weights, the temperature of the source.
        level: The level of the interval, in (0, 1). Default 0.9.

    Returns:
        The estimate. Its interval is that of sampling error alone, by the delta method. It is not
        reliable if the weights rest on fewer than 50 rows, or if the source rows do not determine
        the temperature: if all of them are predicted correctly, the best one is 0.

    Raises:
        TypeError: Logits are not floats or labels not integers.
        ValueError: Shapes do not fit, a value is not finite, a label is no class, or `level` is
            out of range.

    Example:
        The classifier says 98.2 %, but is right in three of four rows:

        >>> import torch
        >>> from da.select import scaled_confidence
        >>> source = torch.tensor([[4.0, 0.0]]).repeat(100, 1)
        >>> labels = torch.tensor([0, 0, 0, 1]).repeat(25)
        >>> target = torch.tensor([[4.0, 0.0], [0.0, 4.0]]).repeat(50, 1)
        >>> round(scaled_confidence(source, labels, target).accuracy, 3)
        0.75

    Paper:
        Park, Bastani, Weimer, Lee: Calibrated Prediction with Covariate Shift via Unsupervised
        Domain Adaptation. AISTATS 2020 (CPCS).
        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks. ICML 2017
        (temperature scaling).

    Differences:
        The paper also learns features that the domains share; here the caller chooses the features
        that the weights are made from. The loss is the Brier score, as in the code of TransCal
        (NeurIPS 2020) for this method. The temperature stays within 0.01 and 100. The mean
        confidence as an estimate of accuracy, and its interval, are added here.
    """
    check_level(level)
    target = checked_logits(target_logits, "target_logits")
    source = checked_source(source_logits, source_labels, target.shape[1])
    doubts = doubts_about(target, source)
    weights = torch.ones(len(source.labels), dtype=torch.float64)
    if source_weights is not None:
        given = normalised_weights(source_weights, len(weights), name="source_weights")
        weights = torch.as_tensor(given).cpu().double()
        rows = effective_sample_size(weights)
        if rows < LEAST_ROWS:
            doubts.append(f"the weights rest on {rows:.0f} source rows, fewer than {LEAST_ROWS}")
    temperature = _temperature(source, weights)
    sure = confidence(target / temperature)  # (n,)
    of_temperature = _temperature_variance(source, weights, target, temperature)
    if math.isinf(of_temperature):
        doubts.append("the source rows do not determine the temperature")
    variance = variance_of_mean(sure) + of_temperature
    return estimate_of(float(sure.mean()), variance, level, doubts)


def _brier_scores(source: SourceRows, log_temperature: float) -> Tensor:
    """The Brier score of each source row at a temperature, (v,)."""
    p = (source.logits / math.exp(log_temperature)).softmax(1)
    truth = functional.one_hot(source.labels, p.shape[1]).double()  # (v, classes)
    return (p - truth).square().sum(1)


def _temperature(source: SourceRows, weights: Tensor) -> float:
    """The temperature with the least weighted Brier score on the source."""

    def loss(log_temperature: float) -> float:
        return float(weights @ _brier_scores(source, log_temperature))

    # The score can have several minima; a coarse grid finds the valley of the least one.
    grid = np.linspace(math.log(COLDEST), -math.log(COLDEST), 25)
    best = int(np.argmin([loss(value) for value in grid]))
    valley = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    return math.exp(minimize_scalar(loss, bounds=valley, method="bounded").x)


def _temperature_variance(
    source: SourceRows, weights: Tensor, target: Tensor, temperature: float
) -> float:
    """How much the fit of the temperature adds to the variance of the mean confidence.

    The delta method: the variance of an estimate that minimises a sum, times the squared slope of
    the mean confidence. It is infinite if the sum is flat at its minimum, or the
    minimum at the edge. Derivatives are central differences in log temperature.
    """
    middle = math.log(temperature)
    below, here, above = (_brier_scores(source, middle + d) for d in (-_STEP, 0.0, _STEP))
    gradients = weights * (above - below) / (2 * _STEP)  # (v,)
    curvature = float(weights @ (above - 2 * here + below)) / _STEP**2
    at_edge = not 1.01 * COLDEST < temperature < 1 / (1.01 * COLDEST)
    if at_edge or curvature <= _FLAT * float(weights.sum()):
        return math.inf
    colder, warmer = (
        float(confidence(target / math.exp(middle + d)).mean()) for d in (-_STEP, _STEP)
    )
    slope = (warmer - colder) / (2 * _STEP)
    return slope**2 * float(gradients.square().sum()) / curvature**2
