"""A labelled source, a few labelled target samples and the rest of the target: batch and stream.

In unsupervised adaptation a target label has no place in a batch. Where a few are allowed, they
come by this stream alone, and a batch says which of its labelled rows are the target's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.data.batches import Batch, network_input, order_of, positive
from da.data.domain import Labelled, Unlabelled, as_labelled, as_unlabelled
from da.data.one_by_one import AnyTransform, as_transform
from da.data.sampling import Order, seeded


@dataclass(frozen=True)
class FewLabelsBatch(Batch):
    """One step of adaptation with a few labelled target samples.

    The source part holds the labelled samples of both domains, those of the source first. So every
    method that learns from source labels learns from the few target labels too.

    Attributes:
        source_x: Labelled samples after the transform, (b, ...).
        source_y: Their labels (b,).
        target_x: Unlabelled target samples after the transform, (b', ...).
        source_index: Row of each labelled sample in its own domain, (b,).
        target_index: Row of each unlabelled sample in its domain, (b',).
        of_target: Whether each labelled sample is of the target, (b,).

    Example:
        >>> import torch
        >>> from da.data import FewLabelsBatch
        >>> x, y, rows = torch.zeros(3, 2), torch.tensor([0, 1, 0]), torch.tensor([5, 8, 0])
        >>> batch = FewLabelsBatch(x, y, x, rows, rows, of_target=torch.tensor([0, 0, 1]).bool())
        >>> batch.source_y[batch.of_target]
        tensor([0])
    """

    of_target: Tensor


class FewLabelsBatches:
    """Feed a method with source samples, a few labelled target samples, and unlabelled ones.

    It is the stream of semi-supervised adaptation. Methods for `PairedBatches` train on it as they
    are: they take the few as more of the source. With joint batch statistics all rows of a batch
    are normalised together; with those of each domain the few are normalised as source rows.

    Args:
        source: The labelled domain, or a map-style dataset with labels.
        few: The labelled target samples. Each step has min(batch_size, their number) of them.
        target: Unlabelled target samples. They should not hold the few, nor what judges.
        batch_size: Samples of the source, and unlabelled ones, a step and process, >= 1.
        seed: Seed of the order and of the augmentation.
        transform: Raw rows (b, ...) and a generator -> network input; see `PairedBatches`.
        balanced: Whether all classes come equally often in the source part and among the few; see
            `PairedBatches`. Default False.

    Raises:
        TypeError: `target` has labels, or a domain is none.
        ValueError: `batch_size` is below 1, labels of the two domains differ in dtype, the few have
            a class that the source lacks, or `balanced` is True and labels are no classes.

    Example:
        >>> import torch
        >>> from da.data import FewLabelsBatches, Labelled, Unlabelled, identity
        >>> source = Labelled(torch.zeros(6, 2), torch.arange(6) % 2)
        >>> few, target = Labelled(torch.ones(2, 2), torch.arange(2)), Unlabelled(torch.ones(9, 2))
        >>> options = {"batch_size": 3, "seed": 0, "transform": identity}
        >>> batch = FewLabelsBatches(source, few, target, **options).batch(0)
        >>> batch.source_x.shape, batch.of_target.tolist()
        (torch.Size([5, 2]), [False, False, False, True, True])
    """

    @checked
    def __init__(
        self,
        source: Labelled | Dataset,
        few: Labelled | Dataset,
        target: Unlabelled | Dataset,
        *,
        batch_size: int,
        seed: int,
        transform: AnyTransform,
        balanced: bool = False,
    ) -> None:
        self.source, self.few = as_labelled(source, "source"), as_labelled(few, "few")
        self.target = as_unlabelled(target, "target")
        _check_labels(self.source.y, self.few.y)
        self.transform = as_transform(transform)
        self.batch_size = positive("batch_size", batch_size)
        self.seed = seed = whole_number(seed, "seed", least=0)
        self.balanced = balanced
        self._source_order = order_of(self.source, seed, 0, balanced=balanced)
        self._target_order = Order(len(self.target), seed, 1)
        self._few_order = order_of(self.few, seed, 3, balanced=balanced)  # 2: the augmentation

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> FewLabelsBatch:
        """Make batch number `step`, the shard of process `rank` of `world_size`."""
        shard, size = step * world_size + rank, self.batch_size
        small = min(size, len(self.few))
        generator = seeded(self.seed, 2, shard)
        index = self._source_order.rows(shard * size, (shard + 1) * size)
        chosen = self._few_order.rows(shard * small, (shard + 1) * small)
        target_index = self._target_order.rows(shard * size, (shard + 1) * size)
        source_x, few_x, target_x = (
            network_input(domain, rows, self.transform, generator)
            for domain, rows in (
                (self.source, index),
                (self.few, chosen),
                (self.target, target_index),
            )
        )
        return FewLabelsBatch(
            torch.cat([source_x, few_x]),
            torch.cat([self.source.y[index], self.few.y[chosen]]),
            target_x,
            torch.cat([index, chosen]),
            target_index,
            of_target=torch.arange(size + small) >= size,
        )


def _check_labels(source: Tensor, few: Tensor) -> None:
    """Raise a ValueError unless the few labels are of the source's kind and classes."""
    if source.dtype != few.dtype or source.ndim != few.ndim:
        raise ValueError(
            f"few must have labels as the source's, {source.dtype} with {source.ndim} axes; got "
            f"{few.dtype} with {few.ndim}"
        )
    if source.is_floating_point():
        return
    strange = sorted(set(few.unique().tolist()) - set(source.unique().tolist()))
    if strange:
        raise ValueError(f"few must have classes of the source; got {strange[:5]} besides")
