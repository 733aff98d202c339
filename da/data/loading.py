"""Batches in order, prepared by background processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from da.data.batches import Batch, LabelledBatch, TargetBatch
from da.data.stored_rows import StoredRows, can_wait

BatchType = TypeVar("BatchType", Batch, LabelledBatch, TargetBatch, covariant=True)


class Stream(Protocol[BatchType]):
    """What the loop trains on: batch t for any t >= 0, drawn from `seed`.

    Every class with these two members is one, such as `PairedBatches`.
    """

    seed: int

    def batch(self, step: int, rank: int, world_size: int) -> BatchType:
        """Make batch number `step`, the shard of process `rank` of `world_size`."""


class _Steps(Dataset):
    """The stream as a map from step to batch, which is all that a DataLoader's workers need."""

    def __init__(self, stream: Stream, rank: int, world_size: int) -> None:
        self.stream, self.rank, self.world_size = stream, rank, world_size

    def __getitem__(self, step: int) -> Batch | LabelledBatch | TargetBatch:
        return self.stream.batch(step, self.rank, self.world_size)


def _end_if_orphaned(parent: int, worker: int) -> None:
    """End a background process whose parent was killed while it started.

    PyTorch's own watch takes whoever is its parent then for the right one, and would wait for ever.
    """
    if os.getppid() != parent:
        sys.exit()


def load(
    stream: Stream[BatchType],
    *,
    start: int,
    stop: int,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    device: torch.device | str = "cpu",
) -> Iterator[BatchType]:
    """Go through batches `start` ... `stop - 1` of a stream in order.

    The batches do not depend on `workers`, and torch's global random state is left alone.

    Args:
        stream: Where the batches come from.
        start: Number of the first batch.
        stop: Number after the last batch.
        workers: Background processes that prepare batches. Default 0: this process does it.
        rank: Number of this process among those that train together. Default 0.
        world_size: How many processes train together. Default 1.
        pin_memory: Whether batches are put into page-locked memory, for a GPU. Default False.
        device: Where the batches are wanted. On a CUDA device stored images are moved as bytes and
            augmented there, with the crops and flips that they have on a CPU. Default "cpu".

    Returns:
        An iterator of batches.
    """
    late = torch.device(device).type == "cuda" and can_wait(stream)
    stored = StoredRows(stream) if late else None  # type: ignore[arg-type]
    steps = _Steps(stored or stream, rank, world_size)
    # Without a generator of its own each loader draws from the global one, and a continued run
    # would meet other dropout masks.
    own = torch.Generator()
    batches = DataLoader(
        steps,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        pin_memory=pin_memory,
        generator=own,
        worker_init_fn=partial(_end_if_orphaned, os.getpid()),
    )
    if stored is None:
        return iter(batches)
    return (
        stored.finished(batch.to(device), step, rank, world_size)
        for step, batch in enumerate(batches, start)
    )
