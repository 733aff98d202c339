"""Weigh the source rows by a function of both samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from da.arrays.matrices import normalised_weights

# (source (n, d), target (m, d)) -> weights (n,)
Weigher = Callable[[np.ndarray, np.ndarray], np.ndarray]


def checked_weights(weigher: Weigher, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Compute the weights of the source rows, checked and divided by their mean.

    Args:
        weigher: A function (source, target) -> weights (n,).
        source: Rows (n, d).
        target: Rows (m, d).

    Returns:
        The weights (n,) in float64, of mean 1: an estimator's regularization keeps its strength.

    Raises:
        ValueError: The weights do not have the shape (n,), are not finite and >= 0, or are all 0.
    """
    weights = np.asarray(weigher(source, target), dtype=np.float64)
    return normalised_weights(weights, source.shape[0], name="the weights that weigher returns")
