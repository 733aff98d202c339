"""What one step of training sees, and the streams that make it: endless, seeded, resumable.

    stream            batch           for
    PairedBatches     Batch           adaptation from one labelled source
    LabelledBatches   LabelledBatch   supervised training and fine-tuning
    TargetBatches     TargetBatch     adaptation without source data

Streams of several sources are in `multisource.py`. Batch t of a stream depends on its seed and on t
alone (`sampling.py`). So batches are the same for any number of loading processes, and a run
resumes from one number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from da.arrays.arguments import checked
from da.arrays.devices import sent
from da.arrays.integers import is_whole, whole_number
from da.data.domain import Labelled, Unlabelled, as_labelled, as_unlabelled
from da.data.one_by_one import AnyTransform, Transform, as_transform
from da.data.sampling import BalancedOrder, Order, seeded


class Movable:
    """Moves every field of a frozen dataclass of tensors."""

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        return self._each(lambda values: sent(values, device))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory, from where a GPU copies in the background."""
        return self._each(lambda values: values.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        named = fields(self)  # type: ignore[arg-type]
        return type(self)(**{each.name: change(getattr(self, each.name)) for each in named})


@dataclass(frozen=True)
class Batch(Movable):
    """One step of adaptation: labelled source samples and target samples without labels.

    There is no target_y. A target label cannot leak into training, because it does not exist here.

    Attributes:
        source_x: Source samples after the transform, (b, ...).
        source_y: Their labels (b,).
        target_x: Target samples after the transform, (b, ...).
        source_index: Row of each source sample in its domain, (b,); sample weights are looked up
            by it.
        target_index: Row of each target sample in its domain, (b,).

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> rows = torch.arange(2)
        >>> batch = Batch(torch.zeros(2, 3), rows, torch.ones(2, 3), rows, rows)
        >>> batch.to("cpu").target_x.shape
        torch.Size([2, 3])
    """

    source_x: Tensor
    source_y: Tensor
    target_x: Tensor
    source_index: Tensor
    target_index: Tensor


@dataclass(frozen=True)
class LabelledBatch(Movable):
    """One step of supervised training or fine-tuning on one labelled domain.

    Attributes:
        x: Samples after the transform, (b, ...).
        y: Their labels, (b,) or (b, tasks).
        index: Row of each sample in its domain, (b,).

    Example:
        >>> import torch
        >>> from da.data import LabelledBatch
        >>> batch = LabelledBatch(torch.zeros(2, 3), torch.tensor([1, 0]), torch.arange(2))
        >>> batch.y.tolist()
        [1, 0]
    """

    x: Tensor
    y: Tensor
    index: Tensor


@dataclass(frozen=True)
class TargetBatch(Movable):
    """One step of adaptation without source data.

    It has neither a source part nor labels, so a method can use neither.

    Attributes:
        target_x: Target samples after the transform, (b, ...).
        target_index: Row of each sample in its domain, (b,).

    Example:
        >>> import torch
        >>> from da.data import TargetBatch
        >>> batch = TargetBatch(target_x=torch.zeros(2, 3), target_index=torch.tensor([7, 4]))
        >>> batch.target_index.tolist()
        [7, 4]
    """

    target_x: Tensor
    target_index: Tensor


def positive(name: str, value: int) -> int:
    """`value` itself; a ValueError if it is below 1 or no whole number."""
    if not is_whole(value) or value < 1:
        raise ValueError(f"{name} must be at least 1; got {value}")
    return int(value)


def network_input(
    domain: Unlabelled, index: Tensor, transform: Transform, generator: torch.Generator
) -> Tensor:
    """The samples at `index` (b,), transformed: (b, ...)."""
    return transform(domain.rows(index, generator), generator)


def order_of(domain: Labelled, seed: int, key: int, *, balanced: bool) -> Order | BalancedOrder:
    """The order of a labelled domain's samples, in which all classes come equally often or not."""
    return BalancedOrder(domain.y, seed, key) if balanced else Order(len(domain), seed, key)


class PairedBatches:
    """Feed a method with source samples and target samples side by side.

    It is the stream of unsupervised adaptation. Each domain goes through random permutations of its
    samples without end, so the domains may differ in size.

    Args:
        source: The labelled domain, or a map-style dataset with labels, such as torchvision's
            `ImageFolder`.
        target: The other domain, without labels; `Labelled.unlabelled()` makes it. Of a map-style
            dataset the labels are not read.
        batch_size: Samples of each domain a step and process, >= 1.
        seed: Seed of the order and of the augmentation.
        transform: Raw rows (b, ...) and a generator -> network input, for both domains, for example
            `ImageTransform` or `identity`. A callable of one argument, such as a transform of
            torchvision, gets one sample at a time; its random numbers follow from the seed.
        balanced: Whether all classes come equally often in the source part of a batch, whatever
            their shares in the source are. Samples of rare classes then come more often than
            others. The numbers of two classes in a batch differ by two at most. Default False.

    Raises:
        TypeError: The target has labels, or a domain is none.
        ValueError: `batch_size` is below 1, or `balanced` is True and labels are no classes.

    Example:
        >>> import torch
        >>> from da.data import Labelled, PairedBatches, Unlabelled, identity
        >>> source = Labelled(torch.zeros(6, 2), torch.arange(6) % 2)
        >>> target = Unlabelled(torch.ones(4, 2))
        >>> stream = PairedBatches(source, target, batch_size=3, seed=0, transform=identity)
        >>> first, second = stream.batch(0), stream.batch(1)
        >>> sorted(torch.cat([first.source_index, second.source_index]).tolist())  # one epoch
        [0, 1, 2, 3, 4, 5]
        >>> first.target_x.shape
        torch.Size([3, 2])
    """

    @checked
    def __init__(
        self,
        source: Labelled | Dataset,
        target: Unlabelled | Dataset,
        *,
        batch_size: int,
        seed: int,
        transform: AnyTransform,
        balanced: bool = False,
    ) -> None:
        self.source, self.target = as_labelled(source, "source"), as_unlabelled(target, "target")
        self.transform = as_transform(transform)
        self.batch_size, self.balanced = positive("batch_size", batch_size), balanced
        self.seed = seed = whole_number(seed, "seed", least=0)
        self._source_order = order_of(self.source, seed, 0, balanced=balanced)
        self._target_order = Order(len(self.target), seed, 1)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Make batch number `step`, the shard of process `rank` of `world_size`."""
        shard = step * world_size + rank
        start, stop = shard * self.batch_size, (shard + 1) * self.batch_size
        source_index = self._source_order.rows(start, stop)
        target_index = self._target_order.rows(start, stop)
        generator = seeded(self.seed, 2, shard)
        source_x = network_input(self.source, source_index, self.transform, generator)
        target_x = network_input(self.target, target_index, self.transform, generator)
        return Batch(source_x, self.source.y[source_index], target_x, source_index, target_index)


class LabelledBatches:
    """Feed a method with the samples of one labelled domain.

    It is the stream of supervised training, and of fine-tuning on few target labels.

    Args:
        domain: The labelled domain, or a map-style dataset with labels.
        batch_size: Samples a step and process, >= 1.
        seed: Seed of the order and of the augmentation.
        transform: Raw rows (b, ...) and a generator -> network input; see `PairedBatches`.
        repeat: Whether a batch may be larger than the domain. Each sample then comes several times
            in a batch, all equally often but for one. Pass True for training on very few labels;
            with False (default) `da.train.fit` refuses such a batch.
        balanced: Whether all classes come equally often; see `PairedBatches`. Default False.

    Raises:
        ValueError: `batch_size` is below 1, or `balanced` is True and labels are no classes.
        TypeError: The domain has no labels, or is none.

    Example:
        >>> import torch
        >>> from da.data import Labelled, LabelledBatches, identity
        >>> domain = Labelled(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))
        >>> stream = LabelledBatches(domain, batch_size=4, seed=0, transform=identity)
        >>> sorted(stream.batch(0).y.tolist())
        [0, 0, 1, 1]
    """

    @checked
    def __init__(
        self,
        domain: Labelled | Dataset,
        *,
        batch_size: int,
        seed: int,
        transform: AnyTransform,
        repeat: bool = False,
        balanced: bool = False,
    ) -> None:
        self.domain, self.transform = as_labelled(domain, "domain"), as_transform(transform)
        self.batch_size = positive("batch_size", batch_size)
        self.seed = seed = whole_number(seed, "seed", least=0)
        self.repeat, self.balanced = repeat, balanced
        self._order = order_of(self.domain, seed, 0, balanced=balanced)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> LabelledBatch:
        """Make batch number `step`, the shard of process `rank` of `world_size`."""
        shard = step * world_size + rank
        index = self._order.rows(shard * self.batch_size, (shard + 1) * self.batch_size)
        x = network_input(self.domain, index, self.transform, seeded(self.seed, 2, shard))
        return LabelledBatch(x, self.domain.y[index], index)


class TargetBatches:
    """Feed a method with target samples alone, without labels.

    It is the stream of source-free and test-time adaptation. The rows come in the same order as the
    target's rows in `PairedBatches` with the same seed.

    Args:
        target: The domain, without labels; `Labelled.unlabelled()` makes it. Of a map-style dataset
            the labels are not read.
        batch_size: Samples a step and process, >= 1.
        seed: Seed of the order and of the augmentation.
        transform: Raw rows (b, ...) and a generator -> network input; see `PairedBatches`.

    Raises:
        TypeError: The target has labels, or is no domain.
        ValueError: `batch_size` is below 1.

    Example:
        >>> import torch
        >>> from da.data import TargetBatches, Unlabelled, identity
        >>> target = Unlabelled(torch.ones(4, 2))
        >>> stream = TargetBatches(target, batch_size=4, seed=0, transform=identity)
        >>> sorted(stream.batch(0).target_index.tolist())
        [0, 1, 2, 3]
    """

    @checked
    def __init__(
        self, target: Unlabelled | Dataset, *, batch_size: int, seed: int, transform: AnyTransform
    ) -> None:
        self.target, self.transform = as_unlabelled(target, "target"), as_transform(transform)
        self.batch_size = positive("batch_size", batch_size)
        self.seed = seed = whole_number(seed, "seed", least=0)
        self._order = Order(len(self.target), seed, 1)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> TargetBatch:
        """Make batch number `step`, the shard of process `rank` of `world_size`."""
        shard = step * world_size + rank
        index = self._order.rows(shard * self.batch_size, (shard + 1) * self.batch_size)
        x = network_input(self.target, index, self.transform, seeded(self.seed, 2, shard))
        return TargetBatch(x, index)
