"""The common part of TCA, SSTCA, JDA, BDA and TJM: a linear map of kernel rows, z = A^T k(x).

One needs it to write another adapter of that form: `fit` lifts the rows and sets `components_`.
"""

from __future__ import annotations

from abc import ABC
from math import isfinite

import torch
from torch import Tensor

from da.arrays.integers import whole_number, whole_number_or_none
from da.arrays.random_states import RandomState, seed_of
from da.shallow.adapter import Adapter, Domain
from da.shallow.kernel_rows import Kernel, KernelRows, kernel_features, kernel_rows


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

    def _lifted(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Choose `lift_` for rows z (N, d); return their centred kernel rows and the mean.

        The rows have shape (N, r), the mean (r,).
        """
        self.lift_ = kernel_rows(
            z,
            kernel=self.kernel,
            gamma=self.gamma,
            n_landmarks=self.n_landmarks,
            random_state=seed_of(self.random_state),
        )
        rows = self.lift_(z)
        mean = rows.mean(0)
        rows -= mean
        return rows, mean

    def _features_of_both(self, x: Tensor, y: Tensor) -> KernelRows:
        """The features of the kernel for both samples (n, d) and (m, d); see `kernel_features`."""
        return kernel_features(
            torch.cat([x, y]).double() if self.kernel == "rbf" else x,
            kernel=self.kernel,
            gamma=self.gamma,
            n_landmarks=self.n_landmarks,
            random_state=seed_of(self.random_state),
        )

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
