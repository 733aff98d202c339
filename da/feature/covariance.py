"""Correlation alignment: the distance between the covariances of two samples.

The map that gives source rows the target's covariance is `da.shallow.coral`.
"""

from __future__ import annotations

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.kernels.distances import covariance


@checked
def coral(source: Array, target: Array) -> Array:
    """Measure how far apart the covariances of two samples are.

    Use it as a cheap alignment loss: it has no bandwidth and costs two products of size d x d. It
    does not see the means, so it does not change if all rows of one sample are shifted.

        ||C_s - C_t||_F^2 / (4 d^2),    C the covariances with n - 1

    The factor 1 / (4 d^2) makes it small for wide features. With the 256 features of a bottleneck
    on photographs it starts at about 1e-5 of the cross-entropy, and `Align(network, coral)` trains
    as on the source alone. A trade-off of 4 d^2 leaves the plain squared distance of the
    covariances, which is alike in size there. A run says at its end if the term was lost.

    Args:
        source: Rows (n, d), floats, n >= 2.
        target: Rows (m, d), m >= 2, of the kind of `source`.

    Returns:
        A scalar >= 0 in the features' unit to the power 4, of the kind of `source`; twice
        differentiable in both.

    Raises:
        ValueError: A sample has fewer than two rows, widths or devices differ, or a value is not
            finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import coral
        >>> float(coral(np.array([[0.0], [2.0]]), np.array([[0.0], [4.0]])))  # (2 - 8)^2 / 4
        9.0

    Paper:
        Sun, Saenko: Deep CORAL: Correlation Alignment for Deep Domain Adaptation. ECCV workshops
        2016, equations 1 to 3.

    Differences:
        The paper chooses the trade-off so that both losses are alike in size at the end of the
        training; here it is 1 unless given.
    """
    x, y = check_two_samples(source, target, least=2)
    with full_precision(x):
        difference = covariance(x) - covariance(y)  # (d, d)
        return like(difference.square().sum() / (4 * x.shape[1] ** 2), source)
