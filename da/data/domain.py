"""A domain in memory: samples with labels, or samples without.

Training on a target domain takes `Unlabelled`, a type that has no place for a label. So no target
label can reach a loss by mistake. Evaluation and fine-tuning take `Labelled`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.utils.data import Dataset

from da.data.conversion import Samples, as_labels, as_samples
from da.data.datasets import DatasetSamples, labels_of


@dataclass(frozen=True, init=False)
class Unlabelled:
    """The samples of a domain without labels: what a method may know of the target.

    Make it from your own arrays, a DataFrame or a dataset, or with `Labelled.unlabelled()`.

    Args:
        x: Samples (n, ...), n >= 1: features (n, d) or images (n, c, h, w), uint8 for images. It
            may be a tensor, an array, a memory-mapped array, a SciPy matrix (n, d) in CSR format, a
            DataFrame of numbers, or anything else that `numpy.asarray` makes numbers of. Of a
            memory map or a sparse matrix only the rows asked for are copied.
            It may also be a map-style `torch.utils.data.Dataset`, such as torchvision's
            `ImageFolder` with a transform that gives all images one size. Its labels are not read.

    Attributes:
        x: The samples. A DataFrame or a list is an array, a dataset is a `DatasetSamples`.

    Raises:
        ValueError: There is no sample, or samples have no axis of their own.
        TypeError: A sparse matrix is in another format than CSR, or `x` does not hold numbers.

    Example:
        >>> import torch
        >>> from da.data import Unlabelled
        >>> target = Unlabelled(torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
        >>> len(target)
        3
        >>> target.rows(torch.tensor([2, 0])).tolist()
        [[4.0, 5.0], [0.0, 1.0]]
    """

    x: Samples

    def __init__(self, x: Any) -> None:
        samples = as_samples(x)
        if samples.ndim < 2 or samples.shape[0] == 0:
            raise ValueError(
                "x must hold at least one sample of one or more values, shape (n, ...); "
                f"got {tuple(samples.shape)}"
            )
        object.__setattr__(self, "x", samples)

    def __len__(self) -> int:
        return self.x.shape[0]

    def rows(self, index: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Copy the samples at `index` (b,) out of `x`, as a dense tensor (b, ...).

        Args:
            index: Row numbers.
            generator: What the random transforms of a dataset draw from; no effect otherwise.
                Default None: the global random states.
        """
        if isinstance(self.x, Tensor):
            return self.x[index]
        if isinstance(self.x, DatasetSamples):
            return self.x.rows(index, generator)
        if sparse.issparse(self.x):
            return torch.from_numpy(self.x[index.numpy()].toarray())
        return torch.from_numpy(np.ascontiguousarray(self.x[index.numpy()]))

    def subset(self, index: Tensor) -> Unlabelled:
        """The samples at `index` (k,), as a domain of its own."""
        return Unlabelled(self._subset(index))

    def _subset(self, index: Tensor) -> Tensor | DatasetSamples:
        """The samples at `index` (k,); those of a dataset stay unread."""
        return self.x.subset(index) if isinstance(self.x, DatasetSamples) else self.rows(index)


@dataclass(frozen=True, init=False)
class Labelled(Unlabelled):
    """The samples of a domain with their labels: a source, or a target that is only evaluated.

    Args:
        x: Samples (n, ...), n >= 1, as in `Unlabelled`.
        y: Labels (n,), a tensor, an array, a column of a DataFrame or a list: whole numbers from 0
            for classes, or floats for a regression. For two or more tasks (n, tasks), one column a
            task. Labels that are one-hot rows are refused by `da.train.fit`; pass `y.argmax(1)`.

    Attributes:
        x: The samples.
        y: The labels as a tensor, int64 for classes.

    Raises:
        ValueError: There is not one label for each sample, or `y` has a single column.
        TypeError: As for `Unlabelled`, or the labels are text.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from da.data import Labelled
        >>> source = Labelled(np.zeros((4, 2)), np.array([0, 1, 0, 1], dtype=np.int32))
        >>> source.subset(torch.tensor([1, 3])).y
        tensor([1, 1])
        >>> hasattr(source.unlabelled(), "y")
        False
    """

    y: Tensor

    def __init__(self, x: Any, y: Any) -> None:
        super().__init__(x)
        labels = as_labels(y)
        one_task = labels.ndim == 1
        several_tasks = labels.ndim == 2 and labels.shape[1] > 1
        if not (one_task or several_tasks) or len(labels) != len(self):
            raise ValueError(
                f"y must hold one label a sample, shape ({len(self)},); got "
                f"{tuple(labels.shape)}: only for two or more tasks it has a second axis, "
                f"({len(self)}, tasks); for a single column pass y.ravel()"
            )
        object.__setattr__(self, "y", labels)

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Take samples and labels of a map-style dataset, such as torchvision's `ImageFolder`.

        `dataset[i]` must begin with the sample and its label. The labels are taken from where
        PyTorch and torchvision keep them; of another dataset every sample is read once.

        Raises:
            ValueError: The dataset has no labels.
            TypeError: It is not map-style, or its labels are text.

        Example:
            >>> import torch
            >>> from torch.utils.data import TensorDataset
            >>> from da.data import Labelled
            >>> Labelled.of(TensorDataset(torch.zeros(3, 2), torch.tensor([2, 0, 1]))).y
            tensor([2, 0, 1])
        """
        samples = DatasetSamples(dataset)
        labels = labels_of(dataset)
        if labels is None:
            raise ValueError(
                f"{type(dataset).__name__} has no labels; pass Labelled(dataset, labels), or "
                "Unlabelled(dataset)"
            )
        return cls(samples, labels)

    def unlabelled(self) -> Unlabelled:
        """The same samples without the labels."""
        return Unlabelled(self.x)

    def subset(self, index: Tensor) -> Labelled:
        """The samples and labels at `index` (k,), as a domain of its own."""
        return Labelled(self._subset(index), self.y[index])


def as_labelled(domain: Labelled | Dataset, name: str) -> Labelled:
    """A labelled domain, made of a dataset if it is one; a TypeError that names it otherwise."""
    if isinstance(domain, Labelled):
        return domain
    if isinstance(domain, Dataset):
        return Labelled.of(domain)
    hint = ": it has no labels" if isinstance(domain, Unlabelled) else ": pass Labelled(x, y)"
    raise TypeError(f"{name} must be Labelled, or a dataset; got {type(domain).__name__}{hint}")


def as_unlabelled(domain: Unlabelled | Dataset, name: str) -> Unlabelled:
    """A domain without labels, made of a dataset if it is one.

    Raises:
        TypeError: It is `Labelled`, whose labels could reach training, or no domain.
    """
    if isinstance(domain, Labelled):
        raise TypeError(
            f"{name} must be Unlabelled, so that no label can reach training; "
            f"got Labelled: pass {name}.unlabelled()"
        )
    if isinstance(domain, Unlabelled):
        return domain
    if isinstance(domain, Dataset):
        return Unlabelled(domain)
    raise TypeError(
        f"{name} must be Unlabelled, or a dataset; got {type(domain).__name__}: pass Unlabelled(x)"
    )
