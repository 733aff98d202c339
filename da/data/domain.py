"""What a domain is in memory: samples with labels, or samples without.

Training on a target domain takes `Unlabelled`, a type that has no place for a label; so a target label cannot
reach a loss by mistake. Evaluation and fine-tuning take `Labelled`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Unlabelled:
    """Samples alone. `x` is indexed along its first axis: (n, d) features or (n, c, h, w) images, uint8 for images."""

    x: Tensor | np.ndarray

    def __post_init__(self) -> None:
        if self.x.ndim < 2 or len(self.x) == 0:
            raise ValueError(f"x must hold at least one sample of one or more values, shape (n, ...); got {tuple(self.x.shape)}")

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Tensor) -> Tensor:
        """The samples at `index` (b,), copied out of `x` (which may be a memory-mapped file): (b, ...)."""
        if isinstance(self.x, Tensor):
            return self.x[index]
        return torch.from_numpy(np.ascontiguousarray(self.x[index.numpy()]))


@dataclass(frozen=True)
class Labelled(Unlabelled):
    """Samples and their labels `y` (n,): int64 classes from 0, or floats for regression."""

    y: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.y.ndim != 1 or len(self.y) != len(self.x):
            raise ValueError(f"y must hold one label a sample, shape ({len(self.x)},); got {tuple(self.y.shape)}")

    def unlabelled(self) -> Unlabelled:
        """The same samples with the labels left behind."""
        return Unlabelled(self.x)

    def subset(self, index: Tensor) -> Labelled:
        """The samples and labels at `index` (k,), as a domain of its own."""
        return Labelled(self.rows(index), self.y[index])
