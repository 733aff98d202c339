"""What the shallow methods share: fit on two samples, then map rows of either into a space where the two are alike.

    adapter = JDA().fit(source, target, source_labels)
    adapter.transform(source), adapter.transform(new_target_rows, domain="target")

Tensors or NumPy arrays in, the same kind, precision and device out; what is learned is kept in float64. Nothing depends on the order
of the rows: permuted rows give the permuted result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Self, get_args

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from da.arrays import Array, as_matrix, check_two_samples, like

Domain = Literal["source", "target"]


class Adapter(BaseEstimator, ABC):
    """A map learned from two samples. Parameters are kept as given (`get_params`, `set_params` and `clone` are scikit-learn's)."""

    needs_labels = False  # whether `fit` refuses to do without source_labels

    @abstractmethod
    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns from source (n, d), target (m, d) and, where the method uses them, the source's labels (n,)."""

    def transform(self, x: Array, *, domain: Domain = "source") -> Array:
        """Rows x (k, d) of `domain`, seen in `fit` or not, in the common space: (k, p). Some methods map both domains alike.

        Raises ValueError before `fit`, for another width than in `fit` and for another domain than source and target.
        """
        if domain not in get_args(Domain):
            raise ValueError(f"domain must be 'source' or 'target'; got {domain!r}")
        if not hasattr(self, "n_features_in_"):
            raise ValueError(
                f"{type(self).__name__} must be fitted before transform: call fit(source, target) first"
            )
        rows = as_matrix(x, "x")
        if rows.shape[1] != self.n_features_in_:
            raise ValueError(
                f"x must have {self.n_features_in_} columns as in fit; got shape {tuple(rows.shape)}"
            )
        return like(self._map(rows.double(), domain).to(rows.dtype), x)

    @abstractmethod
    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        """`transform` of checked rows in float64: (k, d) -> (k, p)."""

    def _samples(self, source: Array, target: Array) -> tuple[Tensor, Tensor]:
        """Both samples checked, in float64; notes their width for `transform`."""
        x, y = check_two_samples(source, target)
        self.n_features_in_ = x.shape[1]
        return x.detach().double(), y.detach().double()


def check_labels(
    labels: Tensor | np.ndarray | None, like_rows: Tensor, name: str = "source_labels"
) -> tuple[np.ndarray, Tensor]:
    """The distinct classes (c,), sorted, and each row's position among them (n,) as int64 on the rows' device.

    Raises TypeError without labels, or where they are no integers or strings; ValueError where there is not one a row, or one class only.
    """
    if labels is None:
        raise TypeError(f"{name} must be given: this method learns from the source's labels")
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.dtype.kind not in "iubUSO":
        raise TypeError(f"{name} must hold classes, as integers or strings; got {values.dtype}")
    if values.shape != (len(like_rows),):
        raise ValueError(
            f"{name} must hold one label a row, shape ({len(like_rows)},); got {values.shape}"
        )
    classes, codes = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{name} must have at least two classes; got {classes.tolist()}")
    return classes, torch.from_numpy(codes.astype(np.int64)).to(like_rows.device)


def nearest(known: Tensor, x: Tensor, *, tile: int = 2048) -> Tensor:
    """The nearest row of known (n, d), by squared Euclidean distance, for each row of x (k, d): (k,) int64, O(tile n) memory."""
    squares = known.square().sum(1)  # (n,)
    return torch.cat([(squares - 2 * rows @ known.T).argmin(1) for rows in x.split(tile)])
