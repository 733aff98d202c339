"""A domain in memory: samples with labels, or samples without.

Training on a target domain takes `Unlabelled`, a type that has no place for a label. So no target
label can reach a loss by mistake. Evaluation and fine-tuning take `Labelled`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


@dataclass(frozen=True)
class Unlabelled:
    """The samples of a domain without labels: what a method may know of the target.

    Make it from your own arrays, or with `Labelled.unlabelled()`.

    Attributes:
        x: Samples (n, ...), n >= 1: features (n, d) or images (n, c, h, w), uint8 for images. It
            may be a tensor, an array, a memory-mapped array or a SciPy matrix (n, d) in CSR format.
            Of a memory map or a sparse matrix only the rows asked for are copied.

    Raises:
        ValueError: There is no sample, or samples have no axis of their own.
        TypeError: A sparse matrix is in another format than CSR.

    Example:
        >>> import torch
        >>> from da.data import Unlabelled
        >>> target = Unlabelled(torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
        >>> len(target)
        3
        >>> target.rows(torch.tensor([2, 0])).tolist()
        [[4.0, 5.0], [0.0, 1.0]]
    """

    x: Tensor | np.ndarray | sparse.csr_matrix

    def __post_init__(self) -> None:
        layout = getattr(self.x, "format", "csr")  # only SciPy's sparse matrices have a format
        if layout != "csr":
            raise TypeError(
                "x: a sparse matrix must be in CSR format, which gives rows quickly; "
                f"got {layout}: pass x.tocsr()"
            )
        if self.x.ndim < 2 or self.x.shape[0] == 0:
            raise ValueError(
                "x must hold at least one sample of one or more values, shape (n, ...); "
                f"got {tuple(self.x.shape)}"
            )

    def __len__(self) -> int:
        return self.x.shape[0]

    def rows(self, index: Tensor) -> Tensor:
        """Copy the samples at `index` (b,) out of `x`, as a dense tensor (b, ...)."""
        if isinstance(self.x, Tensor):
            return self.x[index]
        if sparse.issparse(self.x):
            return torch.from_numpy(self.x[index.numpy()].toarray())
        return torch.from_numpy(np.ascontiguousarray(self.x[index.numpy()]))


@dataclass(frozen=True)
class Labelled(Unlabelled):
    """The samples of a domain with their labels: a source, or a target that is only evaluated.

    Attributes:
        x: Samples (n, ...), n >= 1, as in `Unlabelled`.
        y: Labels (n,): int64 classes from 0, or floats for a regression. For two or more tasks
            (n, tasks), one column a task.

    Raises:
        ValueError: There is not one label for each sample, or `y` has a single column.
        TypeError: A sparse matrix is in another format than CSR.

    Example:
        >>> import torch
        >>> from da.data import Labelled
        >>> source = Labelled(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))
        >>> source.subset(torch.tensor([1, 3])).y.tolist()
        [1, 1]
        >>> hasattr(source.unlabelled(), "y")
        False
    """

    y: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        one_task = self.y.ndim == 1
        several_tasks = self.y.ndim == 2 and self.y.shape[1] > 1
        if not (one_task or several_tasks) or len(self.y) != len(self):
            raise ValueError(
                f"y must hold one label a sample, shape ({len(self)},); got {tuple(self.y.shape)}: "
                f"only for two or more tasks it has a second axis, ({len(self)}, tasks)"
            )

    def unlabelled(self) -> Unlabelled:
        """The same samples without the labels."""
        return Unlabelled(self.x)

    def subset(self, index: Tensor) -> Labelled:
        """The samples and labels at `index` (k,), as a domain of its own."""
        return Labelled(self.rows(index), self.y[index])
