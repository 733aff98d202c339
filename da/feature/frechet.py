"""Fréchet distance: the Wasserstein distance between two normal distributions.

The normal distributions have the means and covariances of the two samples.
"""

from __future__ import annotations

import torch

from da.arrays.arguments import checked
from da.arrays.devices import narrowed, widened
from da.arrays.matrices import Array, check_two_samples, full_precision, like


@checked
def frechet_distance(source: Array, target: Array) -> Array:
    """Measure how far apart the means and covariances of two samples are, in one number.

    Use it if `coral`, which does not see the means, is not enough, or to compare with values known
    from generative models (FID).

        ||mean x - mean y||^2 + tr(C_x + C_y - 2 (C_x^1/2 C_y C_x^1/2)^1/2)

    The covariances C are over n and m. The last trace is ||X Y^T||_* / sqrt(n m), the sum of the
    singular values of X Y^T, with X and Y the centred samples. So no root of a matrix is taken, and
    any rank will do. It costs O(n m (d + min(n, m))), in float64.

    Args:
        source: Rows (n, d), floats, n >= 1.
        target: Rows (m, d), m >= 1, of the kind of `source`.

    Returns:
        A scalar >= 0, a squared length in the features' unit squared, of the kind of `source`;
        differentiable in both.

    Raises:
        ValueError: Widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import frechet_distance
        >>> source = np.array([[0.0, 0.0], [1.0, 0.0]])
        >>> round(float(frechet_distance(source, source + 3)), 6)  # a shift alone: 3^2 + 3^2
        18.0

    Paper:
        Dowson, Landau: The Fréchet distance between multivariate normal distributions. Journal of
        Multivariate Analysis 12, 1982.
        Heusel, Ramsauer, Unterthiner, Nessler et al.: GANs Trained by a Two Time-Scale Update Rule
        Converge to a Local Nash Equilibrium. NIPS 2017 (as a distance of network features).

    Differences:
        It compares the features of two domains, not of images and generated images. No root of a
        matrix is taken.
    """
    x, y = check_two_samples(source, target)
    with full_precision(x):
        a = widened(x) - widened(x).mean(dim=0)  # (n, d)
        b = widened(y) - widened(y).mean(dim=0)  # (m, d)
        means = (widened(x).mean(dim=0) - widened(y).mean(dim=0)).square().sum()
        spread = a.square().sum() / len(a) + b.square().sum() / len(b)
        singular_values = torch.linalg.svdvals(a @ b.T)  # of an (n, m) matrix
        value = means + spread - 2 * singular_values.sum() / (len(a) * len(b)) ** 0.5
    return like(narrowed(value, x), source)
