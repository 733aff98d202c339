"""CORAL for fixed features: a linear map that gives the source the covariance of the target.

Use it before any classifier if the domains differ in the scale and correlation of their features.
The loss of the same name for networks is `da.feature.coral`.

    A = (C_s + r I)^(-1/2) (C_t + r I)^(1/2),    source rows x -> x A
"""

from __future__ import annotations

from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.kernels.distances import covariance
from da.shallow.adapter import Adapter, Domain
from da.shallow.many_rows import has_many_rows, sums_of


@final
class CORAL(Adapter):
    """Give source rows the covariance of the target; target rows stay as they are.

    It is the cheapest adapter and needs no labels. Standardise the rows of each domain by
    themselves before it: nothing is centred here, so the map moves the means too.

        x -> x A,    A = (C_s + r I)^(-1/2) (C_t + r I)^(1/2)

    The source is whitened by its own covariance and coloured by that of the target. `fit` keeps A
    (d, d) as `map_`.

    Args:
        regularization: r > 0, in squared units of the features. The default 1 is the paper's, for
            standardised features. It makes A exist if a sample has fewer rows than columns. The
            covariance of the mapped source equals the target's up to terms of the order of r.

    Raises:
        ValueError: In `fit`, if `regularization` is not a finite number > 0 or a sample has fewer
            than two rows.

    Example:
        >>> import numpy as np
        >>> from da.shallow import CORAL
        >>> source, target = np.array([[-1.0], [1.0]]), np.array([[-3.0], [3.0]])
        >>> adapter = CORAL(regularization=1e-6).fit(source, target)
        >>> adapter.transform(source).round(3).tolist()
        [[-3.0], [3.0]]

    Paper:
        Sun, Feng, Saenko: Return of frustratingly easy domain adaptation. AAAI 2016, algorithm 1.

    Differences:
        None known. As in the paper's algorithm, nothing is centred.
    """

    def __init__(self, *, regularization: float = 1.0) -> None:
        self.regularization = regularization

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn A from source (n, d) and target (m, d); labels are not used."""
        x, y = self._rows(source, target, least=2)
        self.map_ = _coral_map(x, y, self.regularization)
        return self

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return x @ self.map_ if domain == "source" else x.clone()


@checked
def coral_map(source: Array, target: Array, *, regularization: float = 1.0) -> Array:
    """Compute the matrix that gives source rows the covariance of the target.

    Use it instead of `CORAL` if only the matrix is wanted.

        A = (C_s + r I)^(-1/2) (C_t + r I)^(1/2)

    Covariances are divided by n - 1. The square roots are symmetric, from the eigenvalues of the
    covariances. The time is O(d^3).

    Args:
        source: Rows (n, d), floats, n >= 2.
        target: Rows (m, d), floats, m >= 2.
        regularization: r > 0, in squared units of the features; default 1.

    Returns:
        A (d, d), of the kind of `source`.

    Raises:
        TypeError: The input does not hold floats.
        ValueError: Widths or devices differ, a value is not finite, a sample has fewer than two
            rows, or `regularization` is not a finite number > 0.

    Example:
        >>> import numpy as np
        >>> from da.shallow import coral_map
        >>> source, target = np.array([[-1.0], [1.0]]), np.array([[-3.0], [3.0]])
        >>> coral_map(source, target, regularization=1e-6).round(3).tolist()
        [[3.0]]

    Paper:
        Sun, Feng, Saenko: Return of frustratingly easy domain adaptation. AAAI 2016, algorithm 1.

    Differences:
        None known.
    """
    x, y = check_two_samples(source, target, least=2)
    return like(_coral_map(x, y, regularization).to(x.dtype), source)


def _coral_map(x: Tensor, y: Tensor, regularization: float) -> Tensor:
    """`coral_map` of checked rows, in float64."""
    if not 0 < regularization < float("inf"):
        raise ValueError(f"regularization must be a finite number > 0; got {regularization}")
    with full_precision(x):
        whiten = _power(_covariance(x), regularization, -0.5)
        colour = _power(_covariance(y), regularization, 0.5)
        return whiten @ colour


def _covariance(x: Tensor) -> Tensor:
    """The covariance (d, d) of rows in float64; without copies of them if they are many."""
    if x.requires_grad or not has_many_rows(*x.shape):
        return covariance(x.double())
    return sums_of(x).scatter / (len(x) - 1)


def _power(matrix: Tensor, shift: float, exponent: float) -> Tensor:
    """(matrix + shift I)^exponent for a symmetric matrix (d, d)."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * (values.clamp(min=0) + shift) ** exponent) @ vectors.T
