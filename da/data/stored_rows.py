"""Batches whose images travel as they are stored and are augmented on the device that trains.

A pixel is one byte in storage and four in the network's input, and a GPU crops, flips and resamples
a batch much faster than a CPU thread. The random numbers are those of the stream, drawn on the CPU
in the same order. So a batch has the same crops and flips wherever it is augmented.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from da.data.batches import (
    Batch,
    LabelledBatch,
    LabelledBatches,
    PairedBatches,
    TargetBatch,
    TargetBatches,
)
from da.data.datasets import DatasetSamples
from da.data.domain import Unlabelled
from da.data.multisource import MultiSourceBatches
from da.data.sampling import seeded
from da.data.transforms import ImageTransform

BatchType = TypeVar("BatchType", Batch, LabelledBatch, TargetBatch)
Images = PairedBatches | LabelledBatches | TargetBatches | MultiSourceBatches
_INPUTS = ("source_x", "target_x", "x")  # in the order in which a stream draws for them


def as_stored(x: Tensor, generator: torch.Generator) -> Tensor:
    """Leave rows as they are; nothing is drawn."""
    return x


class StoredRows:
    """The batches of a stream before its transform, and the transform for later.

    Args:
        stream: A stream for which `can_wait` holds.

    Example:
        >>> import torch
        >>> from da.data import ImageTransform, PairedBatches, Unlabelled, read_digits
        >>> from da.data.stored_rows import StoredRows
        >>> digits, transform = read_digits("clean"), ImageTransform(12, augmentation="crop")
        >>> stream = PairedBatches(
        ...     digits, digits.unlabelled(), batch_size=4, seed=0, transform=transform
        ... )
        >>> stored = StoredRows(stream)
        >>> raw = stored.batch(5, 0, 1)
        >>> raw.source_x.dtype, raw.source_x.shape
        (torch.uint8, torch.Size([4, 1, 16, 16]))
        >>> torch.equal(stored.finished(raw, 5, 0, 1).source_x, stream.batch(5).source_x)
        True
    """

    def __init__(self, stream: Images) -> None:
        self.seed, self.transform, self.batch_size = (
            stream.seed,
            stream.transform,
            stream.batch_size,
        )
        self.stream = copy.copy(stream)
        self.stream.transform = as_stored

    def batch(self, step: int, rank: int, world_size: int) -> Batch | LabelledBatch | TargetBatch:
        """Make batch number `step` with the rows as they are stored."""
        return self.stream.batch(step, rank, world_size)

    def finished(self, batch: BatchType, step: int, rank: int, world_size: int) -> BatchType:
        """Transform the rows of batch number `step`, on the device where they are."""
        generator = seeded(self.seed, 2, step * world_size + rank)
        inputs = {
            name: self._transformed(getattr(batch, name), generator)
            for name in _INPUTS
            if hasattr(batch, name)
        }
        return replace(batch, **inputs)

    def _transformed(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Network input of rows (b, ...), source by source if there are several."""
        parts = [self.transform(rows, generator) for rows in x.split(self.batch_size)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def can_wait(stream: object) -> bool:
    """Whether the transform of a stream can be applied after its rows have been moved.

    Args:
        stream: Any stream.

    Returns:
        True for the streams of this package over images in memory or in a memory map with an
        `ImageTransform`. A transform of one's own may not know other devices, and a dataset draws
        from the generator before the transform does.

    Example:
        >>> import torch
        >>> from da.data import Labelled, LabelledBatches, identity
        >>> from da.data.stored_rows import can_wait
        >>> rows = Labelled(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))
        >>> can_wait(LabelledBatches(rows, batch_size=2, seed=0, transform=identity))
        False
    """
    if type(stream) not in (PairedBatches, LabelledBatches, TargetBatches, MultiSourceBatches):
        return False
    known = isinstance(stream.transform, ImageTransform)  # type: ignore[attr-defined]
    return known and not any(isinstance(each.x, DatasetSamples) for each in _domains(stream))


def _domains(stream: object) -> Sequence[Unlabelled]:
    named = [getattr(stream, name, None) for name in ("source", "target", "domain")]
    return [*getattr(stream, "sources", ()), *(each for each in named if each is not None)]
