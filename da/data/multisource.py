"""Several labelled sources beside one target: their batch and their stream."""

from __future__ import annotations

from collections.abc import Sequence
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
class MultiSourceBatch(Batch):
    """One step of adaptation from several sources.

    The source part holds all rows of the first source, then all of the second, and so on.

    Attributes:
        source_x: Samples of all sources after the transform, (b, ...).
        source_y: Their labels (b,).
        target_x: Target samples after the transform, (b', ...).
        source_index: Row of each source sample in its own source, (b,).
        target_index: Row of each target sample in its domain, (b',).
        source_domain: Number of each row's source, from 0, (b,).

    Example:
        >>> import torch
        >>> from da.data import MultiSourceBatch
        >>> x, y, rows = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]), torch.tensor([5, 8, 0, 3])
        >>> batch = MultiSourceBatch(x, y, x, rows, rows, source_domain=torch.tensor([0, 0, 1, 1]))
        >>> batch.source_x[batch.source_domain == 1].shape  # the second source
        torch.Size([2, 2])
    """

    source_domain: Tensor


class MultiSourceBatches:
    """Feed a method with samples of several labelled sources beside target samples.

    Every source goes through its own epochs, so a small source is as frequent as a large one. With
    one source it makes the same batches as `PairedBatches`.

    Args:
        sources: The labelled domains or map-style datasets, at least one, with the same classes and
            one dtype of labels. After the transform their samples must have one shape.
        target: The other domain, without labels; `Labelled.unlabelled()` makes it.
        batch_size: Samples of each domain a step and process, >= 1.
        seed: Seed of the order and of the augmentation.
        transform: Raw rows (b, ...) and a generator -> network input, for all domains; see
            `PairedBatches`.
        balanced: Whether all classes of a source come equally often; see `PairedBatches`. Default
            False.

    Raises:
        ValueError: There is no source, dtypes of labels differ, `batch_size` is below 1, `balanced`
            is True and labels are no classes, or (when a batch is made) samples differ in shape.
        TypeError: The target has labels, or a domain is none.

    Example:
        >>> import torch
        >>> from da.data import Labelled, MultiSourceBatches, Unlabelled, identity
        >>> sources = [Labelled(torch.zeros(5, 2), torch.arange(5) % 2) for _ in range(3)]
        >>> target = Unlabelled(torch.ones(4, 2))
        >>> stream = MultiSourceBatches(sources, target, batch_size=2, seed=0, transform=identity)
        >>> stream.batch(0).source_domain.tolist()
        [0, 0, 1, 1, 2, 2]
    """

    @checked
    def __init__(
        self,
        sources: Sequence[Labelled | Dataset],
        target: Unlabelled | Dataset,
        *,
        batch_size: int,
        seed: int,
        transform: AnyTransform,
        balanced: bool = False,
    ) -> None:
        self.sources = tuple(as_labelled(each, f"sources[{i}]") for i, each in enumerate(sources))
        if not sources or len({source.y.dtype for source in self.sources}) > 1:
            kinds = ", ".join(str(source.y.dtype) for source in self.sources) or "none"
            raise ValueError(
                f"sources must be one or more domains with one dtype of labels; got {kinds}"
            )
        self.target = as_unlabelled(target, "target")
        self.batch_size = positive("batch_size", batch_size)
        self.seed = seed = whole_number(seed, "seed", least=0)
        self.transform, self.balanced = as_transform(transform), balanced
        keys = 0, *range(3, len(sources) + 2)  # 1 is the target's, 2 the augmentation's
        self._orders = [
            order_of(source, seed, key, balanced=balanced)
            for source, key in zip(self.sources, keys, strict=True)
        ]
        self._target_order = Order(len(self.target), seed, 1)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> MultiSourceBatch:
        """Make batch number `step`, the shard of process `rank` of `world_size`."""
        shard = step * world_size + rank
        start, stop = shard * self.batch_size, (shard + 1) * self.batch_size
        generator = seeded(self.seed, 2, shard)
        index = [order.rows(start, stop) for order in self._orders]
        chosen = list(zip(self.sources, index, strict=True))
        x = [network_input(source, rows, self.transform, generator) for source, rows in chosen]
        _check_shapes(x)
        y = torch.cat([source.y[rows] for source, rows in chosen])
        target_index = self._target_order.rows(start, stop)
        target_x = network_input(self.target, target_index, self.transform, generator)
        domain = torch.arange(len(index)).repeat_interleave(self.batch_size)
        return MultiSourceBatch(torch.cat(x), y, target_x, torch.cat(index), target_index, domain)


def _check_shapes(parts: Sequence[Tensor]) -> None:
    shapes = {tuple(rows.shape[1:]) for rows in parts}
    if len(shapes) > 1:
        raise ValueError(
            "sources must have samples of one shape after the transform; "
            f"got {', '.join(map(str, sorted(shapes)))}"
        )
