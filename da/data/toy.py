"""Problems small enough to be solved in a second, whose answers are known.

`mean_shifted_axis` and `moved_gap` are for feature-based methods: where the source-trained classifier fails and what aligning can gain
follow from their numbers. `gaussian_covariate_shift` is for instance-based methods: its density ratio is a formula.
`moved_sensor` is a regression.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from da.data.domain import Labelled

WEAK, WEAK_NOISE = 0.5, 0.2
STRONG, STRONG_NOISE = 2.0, 0.5
SHIFT = 1.0
GAP_NOISE, GAP_SHIFT = 0.15, 1.0
SENSOR_NOISE, SENSOR_SHIFT = 0.25, 2.0


@dataclass(frozen=True)
class Problem:
    """Two labelled domains and the accuracy in [0, 1] on the target, in expectation, that no classifier exceeds (Bayes)."""

    source: Labelled
    target: Labelled
    best_accuracy: float


@dataclass(frozen=True)
class RegressionProblem:
    """Two domains with float labels and, in expectation, what the source-trained rule and the best transferable one reach as R^2."""

    source: Labelled
    target: Labelled
    source_only_r_squared: float
    transferable_r_squared: float


@dataclass(frozen=True)
class RatioProblem(Problem):
    """A problem whose density ratio p_target / p_source is known at the source rows: `ratio` (n,), of expectation 1."""

    ratio: Tensor


def mean_shifted_axis(n: int = 200, seed: int = 0) -> Problem:
    """Two classes, even odds, n rows a domain, x (n, 2) float32: column 0 tells them apart a little, column 1 easily but moved.

        source   x_0 = +-0.5 + 0.2 noise     x_1 = +-2 + 0.5 noise
        target   x_0 = +-0.5 + 0.2 noise     x_1 = +-2 + 0.5 noise + 4

    In the target, class 0 stands in column 1 where class 1 stood in the source, and class 1 beyond it: a classifier fit to the
    source calls all of it class 1, for an accuracy of 0.5. Column 0 alone is worth Phi(0.5 / 0.2) = 0.994 in both domains: what
    a method gains that stops using what differs. The domains differ in the mean alone: the noise is standardised within each
    class and domain (mean 0, covariance I, not only in expectation), so covariances are equal after any linear map, and a method
    that compares only these (CORAL) has nothing to go by. Raises ValueError for n < 8.
    """
    generator = _generator(n, seed, least=8)
    source, target = (_two_axes(n, shift, generator) for shift in (0.0, 2 * STRONG))
    return Problem(
        source,
        target,
        best_accuracy=_normal_cdf(math.hypot(WEAK / WEAK_NOISE, STRONG / STRONG_NOISE)),
    )


def moved_gap(n: int = 200, seed: int = 0) -> Problem:
    """Two classes, even odds, n rows a domain, x (n, 2) float32: one gap between the classes, which the target moves but does not close.

        source   x_0 = +-1 + 0.15 noise         x_1 = 0.15 noise
        target   x_0 = +-1 + 0.15 noise + 1   x_1 = 0.15 noise

    The source leaves the boundary free between -1 and 1, and a classifier fit to it takes the middle, 0, where the target's class 0
    stands: half of it is on the wrong side, for an accuracy of 0.75. A boundary at x_0 = 0.5 is worth more than Phi(0.5 / 0.15) = 0.9996
    in either domain. Unlike in `mean_shifted_axis` nothing has to be forgotten: it
    is enough that each class of the target meets the nearest class of the source. Raises ValueError for n < 2.
    """
    generator = _generator(n, seed, least=2)
    source, target = (_one_axis(n, shift, generator) for shift in (0.0, GAP_SHIFT))
    return Problem(source, target, best_accuracy=_normal_cdf(1 / GAP_NOISE))


def moved_sensor(n: int = 200, seed: int = 0) -> RegressionProblem:
    """A number read by two sensors, of which the target moves the better one; n rows a domain, x (n, 2) and y (n,) float32.

        y ~ N(0, 1)     x_0 = y + 0.25 noise     source   x_1 = y     target   x_1 = y + 2

    Least squares on the source is y = x_1, off by 2 in the target: mean absolute error 2, R^2 = 1 - 2^2 = -3. The rule that uses x_0
    alone, y = x_0 / (1 + 0.25^2), is the same in both domains: R^2 = 1 / (1 + 0.25^2) = 0.94, which is what a method
    gains that stops using what differs. Raises ValueError for n < 2.
    """
    generator = _generator(n, seed, least=2)
    source, target = (_two_sensors(n, shift, generator) for shift in (0.0, SENSOR_SHIFT))
    return RegressionProblem(
        source,
        target,
        source_only_r_squared=1 - SENSOR_SHIFT**2,
        transferable_r_squared=1 / (1 + SENSOR_NOISE**2),
    )


def gaussian_covariate_shift(n: int = 500, seed: int = 0) -> RatioProblem:
    """Inputs from different Gaussians under one rule for the label, n rows a domain, x (n, 2) float32.

        source   x ~ N(0, I)     target   x ~ N((1, 0), I)     y = 1 where x_1 > x_0^2 / 2, else 0

    p_target / p_source = exp(x_0 - 1/2): log-linear, so a logistic regression can express it. In expectation the effective sample
    size of these weights is n / e. The rule is a curve, so the best line differs between the domains, and weights move a linear
    classifier to the target's. Labels carry no noise: the best accuracy is 1. Raises ValueError for n < 2.
    """
    generator = _generator(n, seed, least=2)
    source, target = (torch.randn(n, 2, generator=generator) for _ in range(2))
    target[:, 0] += SHIFT
    ratio = torch.exp(SHIFT * source[:, 0] - SHIFT**2 / 2)
    return RatioProblem(_by_parabola(source), _by_parabola(target), best_accuracy=1.0, ratio=ratio)


def _two_axes(n: int, shift: float, generator: torch.Generator) -> Labelled:
    y = torch.arange(n) % 2
    sign = 2.0 * y - 1
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    for label in (0, 1):
        noise[y == label] = _standardised(noise[y == label])
    middle = sign[:, None] * torch.tensor([WEAK, STRONG]) + torch.tensor([0.0, shift])  # (n, 2)
    return Labelled(middle + (noise * torch.tensor([WEAK_NOISE, STRONG_NOISE])).float(), y)


def _two_sensors(n: int, shift: float, generator: torch.Generator) -> Labelled:
    y, noise = torch.randn(2, n, generator=generator)
    return Labelled(torch.stack([y + SENSOR_NOISE * noise, y + shift], dim=1), y)


def _one_axis(n: int, shift: float, generator: torch.Generator) -> Labelled:
    y = torch.arange(n) % 2
    middle = torch.stack([2.0 * y - 1 + shift, torch.zeros(n)], dim=1)  # (n, 2)
    return Labelled(middle + GAP_NOISE * torch.randn(n, 2, generator=generator), y)


def _standardised(x: Tensor) -> Tensor:
    """The rows nearest to x (n, d) whose mean is 0 and whose covariance (with 1/n) is I: the polar factor."""
    left, _, right = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False)
    return math.sqrt(len(x)) * left @ right


def _by_parabola(x: Tensor) -> Labelled:
    return Labelled(x, (x[:, 1] > x[:, 0] ** 2 / 2).long())


def _generator(n: int, seed: int, *, least: int) -> torch.Generator:
    if n < least:
        raise ValueError(f"n must be at least {least} rows a domain; got {n}")
    return torch.Generator().manual_seed(seed)


def _normal_cdf(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2
