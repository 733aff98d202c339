"""Batches: endless, seeded, the same for any number of loading workers, and resumed by one number.

What step t sees is a pure function of (seed, t): the order of the samples is one random permutation after another, each drawn
from (seed, domain, epoch), and the augmentation of step t is drawn from (seed, t). So a sampler has no state to save but t,
a worker needs nothing from its neighbours, and several processes cut one global batch into shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from da.data.domain import Labelled, Unlabelled

Transform = Callable[
    [Tensor, torch.Generator], Tensor
]  # raw rows (b, ...), the step's random generator -> network input


class _Movable:
    """Moves every field of a frozen dataclass of tensors."""

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        return type(self)(
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        )  # type: ignore[arg-type]

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory, from where a GPU copies in the background."""
        return type(self)(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Batch(_Movable):
    """One step of adaptation. There is no target_y: a target label cannot leak into training, because it does not exist here."""

    source_x: Tensor  # (b, ...)
    source_y: Tensor  # (b,)
    target_x: Tensor  # (b, ...)
    source_index: (
        Tensor  # (b,) row of each sample in its domain: sample weights are looked up by it
    )
    target_index: Tensor  # (b,)


@dataclass(frozen=True)
class MultiSourceBatch(Batch):
    """A batch of several sources: all rows of the first, then all of the second, ... `source_index` counts within a row's own source."""

    source_domain: Tensor  # (b,) number of each row's source, from 0


@dataclass(frozen=True)
class LabelledBatch(_Movable):
    """One step of supervised training or fine-tuning on one labelled domain."""

    x: Tensor  # (b, ...)
    y: Tensor  # (b,), or (b, tasks)
    index: Tensor  # (b,)


@dataclass(frozen=True)
class TargetBatch(_Movable):
    """One step of adaptation without source data. It has neither a source part nor labels, so neither can be used."""

    target_x: Tensor  # (b, ...)
    target_index: Tensor  # (b,) row of each sample in its domain


BatchType = TypeVar("BatchType", Batch, LabelledBatch, TargetBatch, covariant=True)


class Stream(Protocol[BatchType]):
    """What the loop trains on: batch t for any t >= 0, drawn from `seed`."""

    seed: int

    def batch(self, step: int, rank: int, world_size: int) -> BatchType:
        """Batch number `step`, the shard of process `rank`."""


def _mix(*keys: int) -> int:
    """One 63-bit seed from several numbers (FNV-1a with a final shuffle), the same on every platform."""
    value = 0xCBF29CE484222325
    for key in keys:
        for shift in range(0, 64, 8):
            value = ((value ^ ((key >> shift) & 0xFF)) * 0x100000001B3) % 2**64
    value ^= value >> 29
    return value >> 1


def _generator(*keys: int) -> torch.Generator:
    return torch.Generator().manual_seed(_mix(*keys))


class _Order:
    """Sample positions 0, 1, 2, ... of an endless concatenation of permutations of n samples."""

    def __init__(self, n: int, seed: int, domain: int) -> None:
        self.n, self.seed, self.domain = n, seed, domain
        self._drawn: tuple[int, Tensor] = (
            -1,
            torch.empty(0),
        )  # the permutation in use, drawn once an epoch

    def rows(self, start: int, stop: int) -> Tensor:
        """The samples at positions start ... stop - 1: (stop - start,)."""
        first, last = start // self.n, (stop - 1) // self.n
        joined = torch.cat([self._permutation(epoch) for epoch in range(first, last + 1)])
        return joined[start - first * self.n : stop - first * self.n]

    def _permutation(self, epoch: int) -> Tensor:
        if self._drawn[0] != epoch:
            self._drawn = (
                epoch,
                torch.randperm(self.n, generator=_generator(self.seed, self.domain, epoch)),
            )
        return self._drawn[1]


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} must be at least 1; got {value}")
    return value


def without_labels(target: Unlabelled) -> Unlabelled:
    """`target` itself. Raises TypeError for `Labelled` samples, whose labels could otherwise reach training."""
    if isinstance(target, Labelled):
        raise TypeError(
            "target must be Unlabelled, so that no label can reach training; pass target.unlabelled()"
        )
    return target


class PairedBatches:
    """Source samples with labels beside target samples without, `batch_size` of each a step.

    Args:
        source: the labelled domain.
        target: the other domain, without labels (`Labelled.unlabelled()`).
        batch_size: samples of each domain a step and process.
        seed: of the order and of the augmentation.
        transform: raw rows -> network input, for both domains; see `da.data.transforms`.
    """

    def __init__(
        self,
        source: Labelled,
        target: Unlabelled,
        *,
        batch_size: int,
        seed: int,
        transform: Transform,
    ) -> None:
        self.source, self.target, self.transform = source, without_labels(target), transform
        self.batch_size, self.seed = _positive("batch_size", batch_size), seed
        self._orders = _Order(len(source), seed, 0), _Order(len(target), seed, 1)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Batch number `step`, the shard of process `rank`."""
        start = (step * world_size + rank) * self.batch_size
        source_index, target_index = (
            order.rows(start, start + self.batch_size) for order in self._orders
        )
        generator = _generator(self.seed, 2, step * world_size + rank)
        source_x = self.transform(self.source.rows(source_index), generator)
        target_x = self.transform(self.target.rows(target_index), generator)
        return Batch(source_x, self.source.y[source_index], target_x, source_index, target_index)


class MultiSourceBatches:
    """Samples of several labelled sources beside target samples without labels, `batch_size` of each domain a step.

    Every source goes through its own epochs, so that a small one is as frequent as a large one. With one source the batches are
    those of `PairedBatches`, which has the other arguments.

    Args:
        sources: at least one; all with the same classes and one kind of labels. After the transform their samples are of one shape.

    Raises ValueError where that is not so, TypeError for a labelled target.
    """

    def __init__(
        self,
        sources: Sequence[Labelled],
        target: Unlabelled,
        *,
        batch_size: int,
        seed: int,
        transform: Transform,
    ) -> None:
        if not sources or len({source.y.dtype for source in sources}) > 1:
            kinds = ", ".join(str(source.y.dtype) for source in sources)
            raise ValueError(
                f"sources must be one or more domains with one dtype of labels; got {kinds or 'none'}"
            )
        self.sources, self.target, self.transform = (
            tuple(sources),
            without_labels(target),
            transform,
        )
        self.batch_size, self.seed = _positive("batch_size", batch_size), seed
        keys = 0, *range(3, len(sources) + 2)  # 1 is the target's, 2 the augmentation's
        self._orders = [
            _Order(len(source), seed, key) for source, key in zip(sources, keys, strict=True)
        ]
        self._target_order = _Order(len(target), seed, 1)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> MultiSourceBatch:
        """Batch number `step`, the shard of process `rank`."""
        start = (step * world_size + rank) * self.batch_size
        generator = _generator(self.seed, 2, step * world_size + rank)
        index = [order.rows(start, start + self.batch_size) for order in self._orders]
        x = [
            self.transform(source.rows(rows), generator)
            for source, rows in zip(self.sources, index, strict=True)
        ]
        if len(shapes := {tuple(rows.shape[1:]) for rows in x}) > 1:
            raise ValueError(
                f"sources must have samples of one shape after the transform; got {', '.join(map(str, sorted(shapes)))}"
            )
        y = torch.cat([source.y[rows] for source, rows in zip(self.sources, index, strict=True)])
        target_index = self._target_order.rows(start, start + self.batch_size)
        target_x = self.transform(self.target.rows(target_index), generator)
        domain = torch.arange(len(index)).repeat_interleave(self.batch_size)
        return MultiSourceBatch(torch.cat(x), y, target_x, torch.cat(index), target_index, domain)


class LabelledBatches:
    """Samples of one labelled domain, `batch_size` a step: supervised training, and fine-tuning on few target labels."""

    def __init__(
        self, domain: Labelled, *, batch_size: int, seed: int, transform: Transform
    ) -> None:
        self.domain, self.transform = domain, transform
        self.batch_size, self.seed = _positive("batch_size", batch_size), seed
        self._order = _Order(len(domain), seed, 0)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> LabelledBatch:
        """Batch number `step`, the shard of process `rank`."""
        start = (step * world_size + rank) * self.batch_size
        index = self._order.rows(start, start + self.batch_size)
        x = self.transform(
            self.domain.rows(index), _generator(self.seed, 2, step * world_size + rank)
        )
        return LabelledBatch(x, self.domain.y[index], index)


class TargetBatches:
    """Samples of the target alone, without labels, `batch_size` a step: adaptation of a trained network without its source data.

    The rows and their order are those of the target in `PairedBatches` of the same seed. Raises TypeError for a labelled target.
    """

    def __init__(
        self, target: Unlabelled, *, batch_size: int, seed: int, transform: Transform
    ) -> None:
        self.target, self.transform = without_labels(target), transform
        self.batch_size, self.seed = _positive("batch_size", batch_size), seed
        self._order = _Order(len(target), seed, 1)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> TargetBatch:
        """Batch number `step`, the shard of process `rank`."""
        start = (step * world_size + rank) * self.batch_size
        index = self._order.rows(start, start + self.batch_size)
        return TargetBatch(
            self.transform(
                self.target.rows(index), _generator(self.seed, 2, step * world_size + rank)
            ),
            index,
        )


class _Steps(Dataset):
    """The stream as a map from step to batch, which is all that a DataLoader's workers need."""

    def __init__(self, stream: Stream, rank: int, world_size: int) -> None:
        self.stream, self.rank, self.world_size = stream, rank, world_size

    def __getitem__(self, step: int) -> Batch | LabelledBatch | TargetBatch:
        return self.stream.batch(step, self.rank, self.world_size)


def load(
    stream: Stream[BatchType],
    *,
    start: int,
    stop: int,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> Iterator[BatchType]:
    """Batches `start` ... `stop - 1` in order, prepared by `workers` background processes (0: in this one).

    The batches do not depend on `workers`, and torch's global random state is left alone.
    """
    steps = _Steps(stream, rank, world_size)
    own = torch.Generator()  # else each loader draws from the global one, and a continued run would meet other dropout masks
    return iter(
        DataLoader(
            steps,
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            pin_memory=pin_memory,
            generator=own,
        )
    )
