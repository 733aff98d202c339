"""Problems that are solved in a second and whose answers are known.

    function                   for              what is known
    mean_shifted_axis          feature-based    accuracy of the source-trained rule and the best one
    moved_gap                  feature-based    the same
    moved_sensor               regression       R^2 of the source-trained rule and of the best one
    gaussian_covariate_shift   instance-based   the density ratio, as a formula

Use them in tests and examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from da.arrays.integers import whole_number
from da.data.domain import Labelled

WEAK, WEAK_NOISE = 0.5, 0.2
STRONG, STRONG_NOISE = 2.0, 0.5
SHIFT = 1.0
GAP_NOISE, GAP_SHIFT = 0.15, 1.0
SENSOR_NOISE, SENSOR_SHIFT = 0.25, 2.0


@dataclass(frozen=True)
class Problem:
    """Two labelled domains, and the best accuracy that is possible on the target.

    Attributes:
        source: The source domain.
        target: The target domain.
        best_accuracy: Accuracy in [0, 1] that no classifier exceeds in expectation (Bayes).
    """

    source: Labelled
    target: Labelled
    best_accuracy: float


@dataclass(frozen=True)
class RegressionProblem:
    """Two domains with float labels, and what two rules reach on the target in expectation.

    Attributes:
        source: The source domain.
        target: The target domain.
        source_only_r_squared: R^2 of least squares on the source.
        transferable_r_squared: R^2 of the best rule that is the same in both domains.
    """

    source: Labelled
    target: Labelled
    source_only_r_squared: float
    transferable_r_squared: float


@dataclass(frozen=True)
class RatioProblem(Problem):
    """A problem whose density ratio p_target / p_source is known at the source rows.

    Attributes:
        source: The source domain.
        target: The target domain.
        best_accuracy: Accuracy in [0, 1] that no classifier exceeds in expectation.
        ratio: The density ratio (n,) at the source rows, of expectation 1.
    """

    ratio: Tensor


def mean_shifted_axis(n: int = 200, seed: int = 0) -> Problem:
    """Make two classes that one column tells apart a little, and another easily but moved.

        source   x_0 = +-0.5 + 0.2 noise     x_1 = +-2 + 0.5 noise
        target   x_0 = +-0.5 + 0.2 noise     x_1 = +-2 + 0.5 noise + 4

    In column 1 class 0 of the target lies where class 1 of the source was, and class 1 beyond it. A
    classifier fit to the source therefore calls everything class 1, for an accuracy of 0.5. Column
    0 alone gives Phi(0.5 / 0.2) = 0.994 in both domains: that is what a method gains by not using
    what differs.

    The domains differ in the mean alone. The noise is standardised within each class and domain
    (mean 0, covariance I, not only in expectation), so covariances are equal after any linear map.
    A method that compares only covariances, such as CORAL, sees no difference.

    Args:
        n: Rows of each domain, >= 8; the classes have even odds. Default 200.
        seed: Seed of the noise. Default 0.

    Returns:
        Domains with x (n, 2) float32 and y (n,) int64.

    Raises:
        ValueError: n is below 8.
    """
    generator = _generator(n, seed, least=8)
    source = _two_axes(n, 0.0, generator)
    target = _two_axes(n, 2 * STRONG, generator)
    distance = math.hypot(WEAK / WEAK_NOISE, STRONG / STRONG_NOISE)  # of a class to the boundary
    return Problem(source, target, best_accuracy=_normal_cdf(distance))


def moved_gap(n: int = 200, seed: int = 0) -> Problem:
    """Make two classes with a gap between them, which the target moves but does not close.

        source   x_0 = +-1 + 0.15 noise       x_1 = 0.15 noise
        target   x_0 = +-1 + 0.15 noise + 1   x_1 = 0.15 noise

    The source leaves the boundary free between -1 and 1. A classifier fit to it takes the middle,
    0, where class 0 of the target lies. Half of that class is on the wrong side, for an accuracy of
    0.75. A boundary at x_0 = 0.5 has an accuracy above Phi(0.5 / 0.15) = 0.9996 in either domain.
    Nothing has to be forgotten, unlike in `mean_shifted_axis`: it is enough that each class of the
    target meets the nearest class of the source.

    Args:
        n: Rows of each domain, >= 2; the classes have even odds. Default 200.
        seed: Seed of the noise. Default 0.

    Returns:
        Domains with x (n, 2) float32 and y (n,) int64.

    Raises:
        ValueError: n is below 2.
    """
    generator = _generator(n, seed, least=2)
    source, target = _one_axis(n, 0.0, generator), _one_axis(n, GAP_SHIFT, generator)
    return Problem(source, target, best_accuracy=_normal_cdf(1 / GAP_NOISE))


def moved_sensor(n: int = 200, seed: int = 0) -> RegressionProblem:
    """Make a regression with two sensors of one number; the target moves the better sensor.

        y ~ N(0, 1)     x_0 = y + 0.25 noise     source   x_1 = y     target   x_1 = y + 2

    Least squares on the source is y = x_1. It is off by 2 in the target: mean absolute error 2,
    R^2 = 1 - 2^2 = -3. The rule of x_0 alone, y = x_0 / (1 + 0.25^2), is the same in both domains:
    R^2 = 1 / (1 + 0.25^2) = 0.94. That is what a method gains by not using what differs.

    Args:
        n: Rows of each domain, >= 2. Default 200.
        seed: Seed of labels and noise. Default 0.

    Returns:
        Domains with x (n, 2) and y (n,), both float32.

    Raises:
        ValueError: n is below 2.
    """
    generator = _generator(n, seed, least=2)
    source, target = _two_sensors(n, 0.0, generator), _two_sensors(n, SENSOR_SHIFT, generator)
    return RegressionProblem(
        source,
        target,
        source_only_r_squared=1 - SENSOR_SHIFT**2,
        transferable_r_squared=1 / (1 + SENSOR_NOISE**2),
    )


def gaussian_covariate_shift(n: int = 500, seed: int = 0) -> RatioProblem:
    """Make inputs from two Gaussians under one rule for the label: covariate shift.

        source   x ~ N(0, I)     target   x ~ N((1, 0), I)     y = 1 if x_1 > x_0^2 / 2, else 0

    The density ratio p_target / p_source = exp(x_0 - 1/2) is log-linear, so a logistic regression
    can express it. In expectation the effective sample size of these weights is n / e. The rule is
    a curve, so the best line differs between the domains, and weights move a linear classifier to
    the target's. Labels carry no noise: the best accuracy is 1.

    Args:
        n: Rows of each domain, >= 2. Default 500.
        seed: Seed of the inputs. Default 0.

    Returns:
        Domains with x (n, 2) float32 and y (n,) int64, and the ratio at the source rows.

    Raises:
        ValueError: n is below 2.
    """
    generator = _generator(n, seed, least=2)
    source = torch.randn(n, 2, generator=generator)
    target = torch.randn(n, 2, generator=generator)
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
    """The rows nearest to x (n, d) with mean 0 and covariance I (divisor n): the polar factor."""
    left, _, right = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False)
    return math.sqrt(len(x)) * left @ right


def _by_parabola(x: Tensor) -> Labelled:
    return Labelled(x, (x[:, 1] > x[:, 0] ** 2 / 2).long())


def _generator(n: int, seed: int, *, least: int) -> torch.Generator:
    if whole_number(n, "n") < least:
        raise ValueError(f"n must be at least {least}, the rows of each domain; got {n}")
    return torch.Generator().manual_seed(whole_number(seed, "seed", least=0))


def _normal_cdf(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2
