"""What a domain is in memory: samples with labels, or samples without.

Training on a target domain takes `Unlabelled`, a type that has no place for a label; so a target label cannot
reach a loss by mistake. Evaluation and fine-tuning take `Labelled`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


@dataclass(frozen=True)
class Unlabelled:
    """Samples alone. `x` is indexed along its first axis: (n, d) features or (n, c, h, w) images, uint8 for images.

    Features that are mostly zeros may be a SciPy matrix in CSR format (n, d), of which only the rows asked for become dense.
    Raises ValueError for no samples, TypeError for a sparse matrix in another format.
    """

    x: Tensor | np.ndarray | sparse.csr_matrix

    def __post_init__(self) -> None:
        layout = getattr(self.x, "format", "csr")  # which SciPy's sparse matrices alone have
        if layout != "csr":
            raise TypeError(
                f"x: a sparse matrix must be in CSR format, whose rows are at hand; got {layout}: pass x.tocsr()"
            )
        if self.x.ndim < 2 or self.x.shape[0] == 0:
            raise ValueError(
                f"x must hold at least one sample of one or more values, shape (n, ...); got {tuple(self.x.shape)}"
            )

    def __len__(self) -> int:
        return self.x.shape[0]

    def rows(self, index: Tensor) -> Tensor:
        """The samples at `index` (b,), copied out of `x` (which may be a memory-mapped file, or sparse): (b, ...), dense."""
        if isinstance(self.x, Tensor):
            return self.x[index]
        if sparse.issparse(self.x):
            return torch.from_numpy(self.x[index.numpy()].toarray())
        return torch.from_numpy(np.ascontiguousarray(self.x[index.numpy()]))


@dataclass(frozen=True)
class Labelled(Unlabelled):
    """Samples and their labels `y` (n,): int64 classes from 0, or floats for regression.

    Where a sample has a label for each of several tasks, `y` is (n, tasks), a column a task; a single column is an error.
    """

    y: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        one, several = self.y.ndim == 1, self.y.ndim == 2 and self.y.shape[1] > 1
        if not (one or several) or len(self.y) != len(self):
            raise ValueError(
                f"y must hold one label a sample, shape ({len(self)},); got {tuple(self.y.shape)}: "
                f"only for two or more tasks it has a second axis, ({len(self)}, tasks)"
            )

    def unlabelled(self) -> Unlabelled:
        """The same samples with the labels left behind."""
        return Unlabelled(self.x)

    def subset(self, index: Tensor) -> Labelled:
        """The samples and labels at `index` (k,), as a domain of its own."""
        return Labelled(self.rows(index), self.y[index])
