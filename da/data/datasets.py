"""Map-style datasets of PyTorch and torchvision as domains: `ImageFolder`, `TensorDataset`, ...

A dataset is read row by row when a batch needs it. Its own random transforms draw from the batch's
generator, so that batches are the same in every process and after a restart.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from da.data.sampling import drawing_from

LABELS = ("targets", "labels")  # attributes in which torchvision's datasets keep their labels


class DatasetSamples:
    """The samples of a map-style dataset, without its labels.

    Args:
        dataset: It has a length, and `dataset[i]` is a sample or a tuple that begins with one. A
            sample is a tensor, an array or an image of PIL; all have one shape.

    Raises:
        TypeError: The dataset has no length or no rows by number.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from da.data.datasets import DatasetSamples
        >>> dataset = TensorDataset(torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 0]))
        >>> samples = DatasetSamples(dataset)
        >>> samples.shape, samples.rows(torch.tensor([2, 0])).tolist()
        ((3, 2), [[4.0, 5.0], [0.0, 1.0]])
    """

    def __init__(self, dataset: Dataset) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise TypeError(
                "a dataset must be map-style, with a length and rows by number; got "
                f"{type(dataset).__name__}"
            )
        self.dataset: Any = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Number of samples, then the shape of the first."""
        return (len(self), *(self._sample(0).shape if len(self) else ()))

    @property
    def ndim(self) -> int:
        """The number of axes, that of the samples included."""
        return len(self.shape)

    def rows(self, index: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The samples at `index` (b,) as one tensor (b, ...).

        Args:
            index: Row numbers.
            generator: What the dataset's own random transforms draw from. Default None: the global
                random states.

        Raises:
            ValueError: Samples differ in shape.
        """
        with drawing_from(generator):
            samples = [self._sample(row) for row in index.tolist()]
        shapes = {tuple(sample.shape) for sample in samples}
        if len(shapes) > 1:
            raise ValueError(
                f"the samples of {type(self.dataset).__name__} must have one shape; got "
                f"{' and '.join(map(str, sorted(shapes)))}: give the dataset a transform that "
                "resizes them, such as torchvision.transforms.Resize((256, 256))"
            )
        return torch.stack(samples)

    def subset(self, index: Tensor) -> DatasetSamples:
        """The samples at `index` (k,), still unread."""
        return DatasetSamples(Subset(self.dataset, index.tolist()))

    def _sample(self, row: int) -> Tensor:
        item = self.dataset[row]
        return _tensor(item[0] if isinstance(item, tuple | list) else item, self.dataset)


def _tensor(sample: Any, dataset: Dataset) -> Tensor:
    """One sample as a tensor; an image of PIL becomes (c, h, w) uint8."""
    if isinstance(sample, Tensor):
        return sample
    if isinstance(sample, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(sample))
    if getattr(sample, "mode", None) in ("L", "RGB"):  # an image of PIL
        pixels = torch.from_numpy(np.array(sample))
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    kind = f"a PIL image of mode {sample.mode}" if hasattr(sample, "mode") else repr(type(sample))
    raise TypeError(
        f"the samples of {type(dataset).__name__} must be tensors, arrays, or PIL images of mode L "
        f"or RGB; got {kind}: give the dataset a transform, such as torchvision's ToTensor()"
    )


def labels_of(dataset: Any) -> Any:
    """The labels of a map-style dataset, one for each sample; None if it has none.

    They are taken from where PyTorch's and torchvision's datasets keep them. Of another dataset
    every sample is read once.
    """
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[1] if len(dataset.tensors) > 1 else None
    if isinstance(dataset, Subset):
        every = labels_of(dataset.dataset)
        return None if every is None else np.asarray(every)[np.asarray(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        parts = [labels_of(part) for part in dataset.datasets]
        known = all(part is not None for part in parts)
        return np.concatenate([np.asarray(part) for part in parts]) if known else None
    if getattr(dataset, "target_transform", None) is None:
        for name in LABELS:
            found = getattr(dataset, name, None)
            if found is not None and len(found) == len(dataset):
                return found
    first = dataset[0]
    if not isinstance(first, tuple | list) or len(first) < 2:
        return None
    return [_label(dataset[row][1]) for row in range(len(dataset))]


def _label(label: Any) -> Any:
    """A label as a number or a list of numbers."""
    return label.tolist() if isinstance(label, Tensor | np.ndarray) else label
