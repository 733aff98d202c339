"""TODO da.recipes.shallow.coral."""

from __future__ import annotations

from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision, like
from da.kernels.distances import covariance
from da.shallow.adapter import Adapter, Domain


@final
class CORAL(Adapter):
    """Source rows x -> x A, A = (C_s + r I)^(-1/2) (C_t + r I)^(1/2): whitened by the source, coloured by the target; target rows stay.

    As in the paper's algorithm nothing is centred: rows are to be standardised before, each domain by itself, or the means are mapped too.

    regularization: r > 0, in the features' units squared; 1 in the paper, for standardised features. It makes A exist for fewer rows than
        columns. The covariance of the mapped source is then the target's only up to terms of the order of r.
    Raises ValueError for r <= 0 and for fewer than two rows. Sun, Feng, Saenko, AAAI 2016.
    """

    def __init__(self, *, regularization: float = 1.0) -> None:
        self.regularization = regularization

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns A (d, d), kept as `map_`, from source (n, d) and target (m, d); labels are not used."""
        x, y = self._samples(source, target)
        self.map_ = coral_map(x, y, regularization=self.regularization)
        return self

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return x @ self.map_ if domain == "source" else x.clone()


def coral_map(source: Array, target: Array, *, regularization: float = 1.0) -> Array:
    """A = (C_s + r I)^(-1/2) (C_t + r I)^(1/2), (d, d), of source (n, d) and target (m, d), covariances with n - 1, r = regularization > 0.

    Symmetric square roots, by the eigenvalues of the covariances: O(d^3). Raises as `CORAL`.
    """
    x, y = check_two_samples(source, target, least=2)
    if not 0 < regularization < float("inf"):
        raise ValueError(f"regularization must be a finite number > 0; got {regularization}")
    with full_precision(x):
        whiten, colour = (
            _power(covariance(x.double()), regularization, -0.5),
            _power(covariance(y.double()), regularization, 0.5),
        )
        return like((whiten @ colour).to(x.dtype), source)


def _power(covariance: Tensor, shift: float, exponent: float) -> Tensor:
    """(covariance + shift I)^exponent, symmetric (d, d)."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * (values.clamp(min=0) + shift) ** exponent) @ vectors.T
