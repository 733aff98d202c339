"""LogME: the evidence of a linear model of the labels on the features."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import widened
from da.arrays.matrices import as_matrix
from da.model.score_inputs import class_numbers, indicator, label_tensor, principal_components

# The largest logarithm of beta / alpha, in units of the inverse mean squared singular value.
LARGEST = 46 * math.log(2)
ROUNDING = 1e-10  # a residual in float64 of this relative size counts as nothing


@torch.no_grad()
@checked
def logme(features: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """Score how well a linear model on the features predicts the labels, classes or numbers.

    Use it to rank source networks before any training. Unlike the accuracy of a fitted classifier
    it does not overfit, and it also serves regression.

        max over alpha, beta of log p(y | F, alpha, beta) / n, in nats a sample
        y ~ N(F w, I / beta), w ~ N(0, I / alpha); so y ~ N(0, I / beta + F F^T / alpha)

    Integer labels are replaced by a column of zeros and ones for each class that occurs, and the
    result is the mean over the columns. Float labels are one column, a regression. The features
    are not centred and get no constant, as in the paper. Their scale has no effect.

    Args:
        features: F (n, d), floats, from the source network on labelled target samples.
        labels: y (n,), integers of two or more classes, or floats.

    Returns:
        A float. Higher is better.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, there is only one class, or all float
            labels are equal.
        TypeError: The features are not floats, or the labels are not numbers.

    Example:
        >>> import numpy as np
        >>> from da.model import logme
        >>> noise = np.random.default_rng(0).normal(size=(20, 2))
        >>> labels = np.arange(20) % 2
        >>> shifted = noise + 4 * labels[:, None]  # tells the classes apart
        >>> logme(shifted, labels) > logme(noise, labels)
        True

    Paper:
        You, Liu, Wang, Long: LogME: Practical Assessment of Pre-trained Models for Transfer
        Learning. ICML 2021.

    Differences:
        The maximum is found by a search over beta / alpha, with beta in closed form. The paper's
        fixed-point iteration finds it too, but may creep, or stay at a smaller maximum. The noise
        is bounded below: features of a rank below n that reproduce a column exactly have evidence
        without a bound (with d >= n a photograph that occurs twice is enough). So the noise is at
        least the rounding of single precision: alpha / beta >= 2^-46 times the mean squared
        singular value of F.
    """
    x = as_matrix(features, "features")
    y = _columns(labels, x)  # (n, K)
    u, s = principal_components(x)
    projected = u.T @ y  # (r, K)
    rest = (y - u @ projected).square().sum(0)  # (K,) no weights reach this part
    rest = torch.where(rest <= ROUNDING**2 * y.square().sum(0), 0.0, rest)
    squares = s.square(), projected.square(), rest
    ratio = _ratio(*squares, len(x))
    return float((_log_evidence(ratio, *squares, len(x)) / len(x)).mean())


def _log_evidence(
    ratio: Tensor, variances: Tensor, projected: Tensor, rest: Tensor, n: int
) -> Tensor:
    """log p(y | F, alpha, beta) (K,) at ratio = beta / alpha (K,) and the best beta for it.

    Args:
        ratio: (K,).
        variances: Squared singular values of F (r,).
        projected: Squares of U^T y (r, K).
        rest: Square of the part of y that U does not span (K,).
        n: Number of samples.
    """
    scale = 1 + ratio * variances[:, None]  # (r, K)
    misfit = (projected / scale).sum(0) + rest  # y^T (I + ratio F F^T)^-1 y
    # The best beta is n / misfit.
    return -n / 2 * (math.log(2 * math.pi / n) + 1 + misfit.log()) - scale.log().sum(0) / 2


def _ratio(variances: Tensor, projected: Tensor, rest: Tensor, n: int) -> Tensor:
    """beta / alpha (K,) of greatest evidence; arguments as for `_log_evidence`.

    The best point of a grid comes first, then a search by thirds around it.
    """
    if len(variances) == 0:  # all features are zero, and the ratio does not matter
        return torch.ones_like(rest)

    def evidence(log_ratio: Tensor) -> Tensor:
        return _log_evidence(log_ratio.exp(), variances, projected, rest, n)

    points = torch.linspace(-18, LARGEST, 51, dtype=rest.dtype, device=rest.device)
    grid = points - variances.mean().log()  # logarithms, about 1 apart
    centre = grid[torch.stack([evidence(point) for point in grid]).argmax(0)]  # (K,)
    low, high = centre - 1, (centre + 1).clamp(max=grid[-1])
    for _ in range(50):  # a bracket of 2 shrinks to 3e-9, in which the evidence is flat
        third = (high - low) / 3
        rising = evidence(low + third) < evidence(high - third)
        low, high = torch.where(rising, low + third, low), torch.where(rising, high, high - third)
    return ((low + high) / 2).exp()


def _columns(labels: Tensor | np.ndarray, x: Tensor) -> Tensor:
    """The columns (n, K), float64, that a linear model of x (n, d) is to predict."""
    given = label_tensor(labels, "labels", x)
    if not given.is_floating_point():
        return indicator(class_numbers(labels, "labels", x))
    y = widened(as_matrix(given[:, None], "labels"))
    if bool((y == y[0]).all()):
        raise ValueError(f"labels must not all be equal; got {len(y)} times {y[0].item():g}")
    return y
