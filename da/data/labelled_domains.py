"""Several labelled domains and no target: the batch and the stream of domain generalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from da.arrays.integers import whole_number
from da.data.batches import LabelledBatch, network_input, order_of, positive
from da.data.domain import Labelled, as_labelled
from da.data.one_by_one import AnyTransform, as_transform
from da.data.sampling import seeded


@dataclass(frozen=True)
class DomainBatch(LabelledBatch):
    """One step of training on several labelled domains.

    The batch holds all rows of the first domain, then all of the second, and so on.

    Attributes:
        x: Samples of all domains after the transform, (b, ...).
        y: Their labels (b,).
        index: Row of each sample in its own domain, (b,).
        domain: Number of each row's domain, from 0, (b,).

    Example:
        >>> import torch
        >>> from da.data import DomainBatch
        >>> rows = torch.arange(4)
        >>> batch = DomainBatch(torch.zeros(4, 2), rows % 2, rows, domain=rows // 2)
        >>> batch.y[batch.domain == 1].tolist()  # the second domain
        [0, 1]
    """

    domain: Tensor


class DomainBatches:
    """Feed a method with samples of several labelled domains.

    It is the stream of domain generalisation, where the target is not seen in training. Every
    domain goes through its own epochs, so a small one is as frequent as a large one.

    Args:
        sources: The labelled domains or map-style datasets, at least one, with the same classes and
            samples of one shape.
        batch_size: Samples of each domain a step and process, >= 1.
        seed: Seed of the order and of the augmentation.
        transform: Raw rows (b, ...) and a generator -> network input, for all domains; see
            `PairedBatches`.

    Raises:
        ValueError: There is no domain, `batch_size` is below 1, or (when a batch is made) samples
            differ in shape.
        TypeError: A domain has no labels, or is none.

    Example:
        >>> import torch
        >>> from da.data import DomainBatches, Labelled, identity
        >>> sources = [Labelled(torch.zeros(5, 2), torch.arange(5) % 2) for _ in range(3)]
        >>> stream = DomainBatches(sources, batch_size=2, seed=0, transform=identity)
        >>> stream.batch(0).domain.tolist()
        [0, 0, 1, 1, 2, 2]
    """

    def __init__(
        self,
        sources: Sequence[Labelled | Dataset],
        *,
        batch_size: int,
        seed: int,
        transform: AnyTransform,
    ) -> None:
        if not isinstance(sources, Sequence):
            raise TypeError(f"sources must be a sequence of domains; got {type(sources).__name__}")
        self.sources = tuple(as_labelled(each, f"sources[{i}]") for i, each in enumerate(sources))
        if not self.sources:
            raise ValueError("sources must be one or more labelled domains; got none")
        self.batch_size = positive("batch_size", batch_size)
        self.seed = seed = whole_number(seed, "seed", least=0)
        self.transform = as_transform(transform)
        keys = 0, *range(3, len(sources) + 2)  # as in `MultiSourceBatches`
        self._orders = [
            order_of(source, seed, key, balanced=False)
            for source, key in zip(self.sources, keys, strict=True)
        ]

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> DomainBatch:
        """Make batch number `step`, the shard of process `rank` of `world_size`."""
        shard = step * world_size + rank
        start, stop = shard * self.batch_size, (shard + 1) * self.batch_size
        generator = seeded(self.seed, 2, shard)
        index = [order.rows(start, stop) for order in self._orders]
        chosen = list(zip(self.sources, index, strict=True))
        x = [network_input(source, rows, self.transform, generator) for source, rows in chosen]
        if len(shapes := {tuple(rows.shape[1:]) for rows in x}) > 1:
            raise ValueError(
                "sources must have samples of one shape after the transform; "
                f"got {', '.join(map(str, sorted(shapes)))}"
            )
        y = torch.cat([source.y[rows] for source, rows in chosen])
        domain = torch.arange(len(index)).repeat_interleave(self.batch_size)
        return DomainBatch(torch.cat(x), y, torch.cat(index), domain)
