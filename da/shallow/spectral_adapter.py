"""The common part of TCA, SSTCA, JDA, BDA and TJM: a linear map of kernel rows, z = A^T k(x).

One needs it to write another adapter of that form: `fit` lifts the rows and sets `components_`.
"""

from __future__ import annotations

from abc import ABC
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from da.arrays.integers import whole_number, whole_number_or_none
from da.arrays.random_states import RandomState, seed_of
from da.shallow.adapter import Adapter, Domain
from da.shallow.kernel_rows import Kernel, KernelRows, kernel_features, kernel_rows
from da.shallow.many_rows import has_many_rows
from da.shallow.pooled_rows import HeldRows, PooledRows, Prepared, SummedRows
from da.shallow.spectral import DENSE


class SpectralAdapter(Adapter, ABC):
    """Embed rows of both domains by z = A^T k(x), whether they were seen in `fit` or not.

    A subclass sets `lift_`, the map from x to its kernel row k(x), and `components_`, A (r, p).

    Args:
        n_components: Width p of the embedding, >= 1. None: 100, or fewer if the rank of the data is
            lower.
        kernel: "linear", "rbf" (exp(-gamma ||x - y||^2)) or "primal" (A acts on x itself, K = X^T).
        gamma: For "rbf", one over a squared length, > 0. None: one over the mean squared distance.
        regularization: Weight of ||A||^2 beside M, whose norm is 1; > 0. Small values bring the
            means together. Large values leave PCA in the feature space.
        n_landmarks: For "rbf". None: the exact kernel, in O(N^2) memory. A number: Nystroem's
            approximation by that many rows, in O(N n_landmarks) memory.
        random_state: Source of the draw of landmarks, as scikit-learn takes it: None, an int, or a
            RandomState or Generator of NumPy. Each `fit` takes one number from such an object.
    """

    lift_: KernelRows
    components_: Tensor

    def __init__(
        self,
        *,
        n_components: int | None = None,
        kernel: Kernel = "linear",
        gamma: float | None = None,
        regularization: float = 1.0,
        n_landmarks: int | None = None,
        random_state: RandomState = 0,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.regularization = regularization
        self.n_landmarks = n_landmarks
        self.random_state = random_state

    def _pooled(self, x: Tensor, y: Tensor, prepared: Prepared) -> PooledRows:
        """Choose `lift_` for prepared rows of x (n, d) and y (m, d); return their kernel rows."""
        width = x.shape[1] if self.kernel != "rbf" else self.n_landmarks
        if width is None or width > DENSE or not has_many_rows(len(x) + len(y), width):
            return self._held(x, y, prepared)
        # Only the rbf kernel looks at the rows, to draw its landmarks.
        looked_at = prepared(torch.cat([x, y]).double()) if self.kernel == "rbf" else x
        features = kernel_features(looked_at, **self._kernel_options())
        primal = self.kernel == "primal"
        rows = SummedRows(x, y, features, primal=primal, prepared=prepared)
        self.lift_ = rows.lift
        return rows

    def _held(self, x: Tensor, y: Tensor, prepared: Prepared) -> HeldRows:
        """The same, with all rows in memory, in float64."""
        z = prepared(torch.cat([x, y]).double())
        self.lift_ = kernel_rows(z, **self._kernel_options())
        return HeldRows(self.lift_, z, len(x))

    def _kernel_options(self) -> dict[str, Any]:
        return {
            "kernel": self.kernel,
            "gamma": self.gamma,
            "n_landmarks": self.n_landmarks,
            "random_state": seed_of(self.random_state),
        }

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return self.lift_(x) @ self.components_


def check_spectral(n_components: int | None, regularization: float) -> None:
    """Check two parameters of a spectral adapter.

    Raises:
        ValueError: `n_components` is neither None nor a whole number >= 1, or `regularization` is
            not a finite number > 0.
    """
    whole_number_or_none(n_components, "n_components", least=1)
    if not (regularization > 0 and isfinite(regularization)):
        raise ValueError(f"regularization must be a finite number > 0; got {regularization!r}")


def check_rounds(n_iter: int) -> None:
    """Check a number of rounds.

    Raises:
        ValueError: It is not a whole number >= 1.
    """
    whole_number(n_iter, "n_iter", least=1)
