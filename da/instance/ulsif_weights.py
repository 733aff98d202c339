"""uLSIF and RuLSIF: the density ratio by least squares, in closed form.

Use them if speed matters: bandwidth and regularisation are chosen by leave-one-out scores that need
no refit.

    w(x) = sum_l theta_l k(x, c_l)        k(x, c) = exp(-||x - c||^2 / s)
    min over theta of  1/2 E_a[w(x)^2] - E_target[w(x)] + lambda/2 |theta|^2
    E_a = a E_target + (1 - a) E_source

`da.instance.least_squares` solves it. a = 0 estimates p_t / p_s (uLSIF). a > 0 estimates the
relative ratio p_t / (a p_t + (1 - a) p_s), which is at most 1 / a (RuLSIF).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, full_precision
from da.arrays.random_states import RandomState, seed_of
from da.instance.diagnostics import warn_if_uniform
from da.instance.least_squares import coefficients, leave_one_out_scores
from da.instance.samples import WIDTHS, Samples, distances_to, draw, draw_centres

REGULARIZATIONS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
LEFT_OUT = 2000  # pairs of rows, at most: more would hardly change a score that is their mean


@checked
def ulsif(
    source: Array,
    target: Array,
    *,
    n_centres: int = 100,
    bandwidth: float | None = None,
    regularization: float | None = None,
    random_state: RandomState = 0,
) -> Array:
    """Weight source rows by a density ratio fitted by least squares, in closed form.

    It is fast, and chooses bandwidth and regularisation itself. It computes in float64. If its
    weights are too uneven, use `rulsif`.

        w(x) = sum_l theta_l exp(-||x - c_l||^2 / s)
        min over theta of  1/2 E_source[w(x)^2] - E_target[w(x)] + lambda/2 |theta|^2

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), floats.
        n_centres: The number of centres c_l, >= 1. They are target rows, drawn without
            replacement; all of them if the target has no more. Default 100.
        bandwidth: s, a squared distance > 0. None (default) chooses among 2^-6, 2^-5, ..., 2^2
            times the median squared distance of the pooled rows, by leave-one-out scores.
        regularization: lambda > 0, without unit. None (default) chooses among 1e-4, 1e-3, ..., 10,
            by the same scores.
        random_state: Source of the centres and of the pairs that are left out, neither of which
            depends on the order of the rows: None, an int, or a RandomState or Generator of NumPy.
            Each call takes one number from such an object. Default 0.

    Returns:
        Weights (n,) of mean 1, of the kind of `source`, without gradient.

    Raises:
        ValueError: Widths or devices differ, a value is not finite, an option is out of range, or
            no source row is near the target. If bandwidth or regularisation are to be chosen, both
            samples need two rows.
        TypeError: The inputs are not two float arrays or two float tensors.

    Warns:
        UserWarning: The weights are uniform.

    Example:
        Half of the source lies at 0, three quarters of the target do:

        >>> import numpy as np
        >>> from da.instance import ulsif
        >>> source = np.array([[0.0], [0.0], [5.0], [5.0]])
        >>> target = np.array([[0.0], [0.0], [0.0], [5.0]])
        >>> ulsif(source, target, bandwidth=1.0, regularization=1e-4).round(2)
        array([1.5, 1.5, 0.5, 0.5])

    Paper:
        Kanamori, Hido, Sugiyama: A Least-squares Approach to Direct Importance Estimation.
        JMLR 10, 2009.

    Differences:
        The weights are divided by their mean.
        At most 2,000 pairs of rows are left out in turn for the leave-one-out score.
    """
    weights = _weights(source, target, n_centres, bandwidth, regularization, 0.0, random_state)
    warn_if_uniform(weights, "ulsif")
    return weights


@checked
def rulsif(
    source: Array,
    target: Array,
    *,
    alpha: float = 0.1,
    n_centres: int = 100,
    bandwidth: float | None = None,
    regularization: float | None = None,
    random_state: RandomState = 0,
) -> Array:
    """Weight source rows by a flattened density ratio, which is bounded and so steadier.

    Use it if the weights of `ulsif` or `kmm` rest on few rows. The weights are proportional to the
    relative ratio, which is at most 1 / alpha:

        p_t(x) / (alpha p_t(x) + (1 - alpha) p_s(x))

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), floats.
        alpha: The target's share in the denominator, in [0, 1). 0 is `ulsif`. Default 0.1.
        n_centres: The number of centres, >= 1; see `ulsif`. Default 100.
        bandwidth: The kernel's bandwidth, a squared distance > 0, or None (default) to choose it;
            see `ulsif`.
        regularization: lambda > 0, or None (default) to choose it; see `ulsif`.
        random_state: Source of the centres and of the pairs that are left out; see `ulsif`. Default
            0.

    Returns:
        Weights (n,) of mean 1, of the kind of `source`, without gradient.

    Raises:
        ValueError: As `ulsif`, and if `alpha` is out of range.
        TypeError: As `ulsif`.

    Warns:
        UserWarning: The weights are uniform.

    Example:
        At 0 the source has a share of 2/4, the target of 3/4. With alpha = 1/2 the relative ratios
        are 6/5 at 0 and 2/3 at 5, of mean 14/15:

        >>> import numpy as np
        >>> from da.instance import rulsif
        >>> source = np.array([[0.0], [0.0], [5.0], [5.0]])
        >>> target = np.array([[0.0], [0.0], [0.0], [5.0]])
        >>> rulsif(source, target, alpha=0.5, bandwidth=1.0, regularization=1e-4).round(2)
        array([1.29, 1.29, 0.71, 0.71])

    Paper:
        Yamada, Suzuki, Kanamori, Hachiya, et al.: Relative Density-Ratio Estimation for Robust
        Distribution Comparison. Neural Computation 25, 2013.

    Differences:
        Negative coefficients are set to 0, as in uLSIF.
        Bandwidth and regularisation are chosen as in uLSIF, by leave-one-out scores.
        The weights are divided by their mean.
        At most 2,000 pairs of rows are left out in turn for the leave-one-out score.
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must be in [0, 1); got {alpha}")
    weights = _weights(source, target, n_centres, bandwidth, regularization, alpha, random_state)
    warn_if_uniform(weights, "rulsif")
    return weights


def _weights(
    source: Array,
    target: Array,
    n_centres: int,
    bandwidth: float | None,
    regularization: float | None,
    alpha: float,
    random_state: RandomState,
) -> Array:
    """What `ulsif` and `rulsif` share."""
    if regularization is not None and not (math.isfinite(regularization) and regularization > 0):
        raise ValueError(f"regularization must be a finite number > 0; got {regularization}")
    whole_number(n_centres, "n_centres", least=1)
    seed = seed_of(random_state)
    chosen = bandwidth is None or regularization is None
    samples = Samples.of(source, target, least=2 if chosen else 1, widen=False)
    x, y = samples.x, samples.y
    with full_precision(x):
        centres = draw_centres(y, n_centres, seed)
        from_source = distances_to(centres, x)  # (n, b)
        from_target = distances_to(centres, y)  # (m, b)
        widths = _widths(samples, bandwidth)
        strengths = REGULARIZATIONS if regularization is None else (regularization,)
        s, strength = widths[0], strengths[0]
        if chosen:
            pairs = _pairs(len(x), len(y), seed).to(x.device)
            s, strength = _choose(from_source, from_target, widths, strengths, alpha, pairs)
        # In place: new memory of that size would cost more time than the exponentials.
        at_source, at_target = (each.div_(-s).exp_() for each in (from_source, from_target))
        theta = coefficients(at_source, at_target, regularization=strength, alpha=alpha)
        weights = at_source @ theta
        if not float(weights.sum()) > 0:
            raise ValueError(
                f"no source row is within reach of the target at the bandwidth {s:.3g}: "
                "give a larger bandwidth, or accept that no source row is like the target"
            )
        return samples.restore(weights / weights.mean(), source)


def _widths(samples: Samples, bandwidth: float | None) -> list[float]:
    """The bandwidths to choose from: the given one alone, or multiples of the median."""
    if bandwidth is not None:
        return [samples.bandwidth(bandwidth)]
    median = samples.bandwidth()
    return [factor * median for factor in WIDTHS]


def _pairs(n: int, m: int, seed: int) -> Tensor:
    """(k, 2): a source row and a target row each, no row twice."""
    k = min(n, m, LEFT_OUT)
    return torch.stack([draw(n, k, seed), draw(m, k, seed + 1)], dim=1)


def _choose(
    from_source: Tensor,
    from_target: Tensor,
    widths: list[float],
    strengths: tuple[float, ...],
    alpha: float,
    pairs: Tensor,
) -> tuple[float, float]:
    """The bandwidth and the regularisation with the least leave-one-out score."""
    candidates = [(math.inf, widths[0], strengths[0])]
    for s in widths:
        at_source, at_target = (-from_source / s).exp(), (-from_target / s).exp()
        scores = leave_one_out_scores(
            at_source, at_target, pairs, regularizations=strengths, alpha=alpha
        )
        candidates += [
            (score, s, strength) for score, strength in zip(scores, strengths, strict=True)
        ]
    _, s, strength = min(candidates)
    return s, strength
