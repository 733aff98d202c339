"""Named streams of test batches: in which order the samples of one or several domains come.

    [arrangement-]order-batch size        shuffled-64, sorted-16, continual-correlated-16, ...

| order | the rows of a domain |
|---|---|
| shuffled | at random |
| sorted | one class after another |
| correlated | by a Dirichlet distribution: a slot of the stream holds few classes, in blocks |

| arrangement | the domains |
|---|---|
| none | the first one alone |
| mixed | all in every batch, in proportion to their sizes |
| changing | another one with each batch, at random |
| continual | one after another, and nobody says when |
| resets | one after another; the first batch of each says so |

A stream is a function of its name, the domains and a seed. It reads labels to order the rows; what
it yields has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from da.arrays.integers import whole_number
from da.data.batches import network_input
from da.data.domain import Labelled
from da.data.one_by_one import AnyTransform, as_transform
from da.data.sampling import seeded

OrderName = Literal["shuffled", "sorted", "correlated"]
Arrangement = Literal["mixed", "changing", "continual", "resets"]
# Twelve streams that differ in one thing from one of the others.
STREAMS = (
    "shuffled-64",
    "shuffled-16",
    "shuffled-4",
    "shuffled-1",
    "sorted-64",
    "sorted-16",
    "correlated-64",
    "correlated-16",
    "mixed-shuffled-64",
    "changing-shuffled-64",
    "continual-shuffled-64",
    "resets-shuffled-64",
)


@dataclass(frozen=True)
class StreamBatch:
    """What comes at once in a stream.

    Attributes:
        x: Samples after the transform, (b, ...).
        domain: Which domain each is of, (b,).
        index: Its row in that domain, (b,).
        reset: Whether the stream says that a new domain begins here.
    """

    x: Tensor
    domain: Tensor
    index: Tensor
    reset: bool


def shuffled_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A random permutation (n,) of the rows."""
    return torch.randperm(len(labels), generator=generator)


def sorted_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """The rows (n,) one class after another: classes at random, rows of a class at random."""
    rows = torch.randperm(len(labels), generator=generator)
    classes = labels.unique()
    classes = classes[torch.randperm(len(classes), generator=generator)]
    return torch.cat([rows[labels[rows] == k] for k in classes])


def correlated_order(
    labels: Tensor, generator: torch.Generator, *, concentration: float = 0.1
) -> Tensor:
    """The rows (n,) in slots that hold few classes each.

    There are as many slots as classes. The share of a class that falls into each slot is drawn from
    a symmetric Dirichlet distribution. In a slot the classes come in blocks of random order. So
    neighbours are mostly of one class, and classes come back later.

    Args:
        labels: Classes (n,).
        generator: What it draws from.
        concentration: Of the Dirichlet distribution, > 0: small for few classes in a slot, large
            for all of them. Default 0.1, as in the papers.

    The streams of Yuan et al. 2023 (RoTTA) and Gong et al. 2022 (NOTE) are made so.
    """
    classes = labels.unique()
    numbers = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    shares = torch.from_numpy(
        numbers.dirichlet([concentration] * len(classes), len(classes))
    )  # (classes, slots)
    slots: list[list[Tensor]] = [[] for _ in classes]
    for k, share in zip(classes, shares, strict=True):
        rows = (labels == k).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)]
        cuts = (share.cumsum(0)[:-1] * len(rows)).long().clamp(max=len(rows))
        for slot, part in zip(slots, rows.tensor_split(cuts.tolist()), strict=True):
            slot.append(part)
    orders = [torch.randperm(len(classes), generator=generator).tolist() for _ in slots]
    blocks = [slot[i] for slot, order in zip(slots, orders, strict=True) for i in order]
    return torch.cat(blocks)


ORDERS = {"shuffled": shuffled_order, "sorted": sorted_order, "correlated": correlated_order}


@dataclass(frozen=True)
class NamedStream:
    """A stream of test batches by its name, for methods that adapt while they are tested.

    Iterate over it as often as you like; the batches are the same each time.

    Attributes:
        name: `[arrangement-]order-batch size`; see `da.data.streams`. `STREAMS` has twelve.
        domains: Labelled domains. Labels order the rows, and `labels` gives them for counting. A
            name without arrangement takes the first domain alone.
        seed: Seed of the order.
        transform: Raw rows -> network input, without augmentation.
        rows: The most rows of each domain, drawn at random by the seed. Default None: all.

    Raises:
        ValueError: The name is none, or there is no domain, or labels are no classes.

    Example:
        >>> import torch
        >>> from da.data import Labelled, NamedStream, identity
        >>> domain = Labelled(torch.arange(6.0)[:, None], torch.tensor([0, 1, 0, 1, 0, 1]))
        >>> stream = NamedStream("sorted-4", [domain], seed=0, transform=identity)
        >>> [batch.x.shape[0] for batch in stream], stream.labels.tolist() in (
        ...     [0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
        ([4, 2], True)
    """

    name: str
    domains: Sequence[Labelled]
    seed: int
    transform: AnyTransform
    rows: int | None = None

    def __post_init__(self) -> None:
        self._parts()
        if not self.domains:
            raise ValueError("domains must be one or more; got none")
        for domain in self.domains:
            if domain.y.ndim != 1 or domain.y.is_floating_point():
                raise ValueError(
                    "labels must be classes, whole numbers (n,); got "
                    f"{domain.y.dtype} {tuple(domain.y.shape)}"
                )
        if self.rows is not None:
            whole_number(self.rows, "rows", least=1)
        object.__setattr__(self, "transform", as_transform(self.transform))

    def __iter__(self) -> Iterator[StreamBatch]:
        """The batches in their order."""
        draws = torch.Generator()  # a transform without augmentation draws nothing from it
        transform = as_transform(self.transform)
        for domain, index, reset in self._places():
            x: Tensor | None = None
            for number in domain.unique().tolist():
                own = domain == number
                part = network_input(self.domains[number], index[own], transform, draws)
                x = part.new_empty(len(index), *part.shape[1:]) if x is None else x
                x[own] = part
            assert x is not None
            yield StreamBatch(x, domain, index, reset)

    @property
    def labels(self) -> Tensor:
        """The labels (n,) of all rows in the order of the stream, to count what was right."""
        return torch.cat(
            [
                torch.stack([self.domains[d].y[i] for d, i in zip(domain, index, strict=True)])
                for domain, index, _ in self._places()
            ]
        )

    def _parts(self) -> tuple[str, OrderName, int]:
        """Arrangement ("" for none), order and batch size."""
        pieces = self.name.split("-")
        arrangement, order, size = ["", *pieces] if len(pieces) == 2 else (pieces * 3)[:3]
        known = len(pieces) == 2 or (len(pieces) == 3 and arrangement in get_args(Arrangement))
        if not (known and order in get_args(OrderName) and size.isdecimal() and int(size) > 0):
            raise ValueError(
                "name must be [arrangement-]order-batch size, with an arrangement of "
                f"{', '.join(get_args(Arrangement))} and an order of "
                f"{', '.join(get_args(OrderName))}; got {self.name!r}"
            )
        return arrangement, order, int(size)  # type: ignore[return-value]

    def _places(self) -> Iterator[tuple[Tensor, Tensor, bool]]:
        """Domain (b,), row (b,) and reset of each batch."""
        arrangement, order, size = self._parts()
        generator = seeded(self.seed, size, *map(ord, self.name))
        used = range(len(self.domains) if arrangement else 1)
        rows = [self._ordered(number, order, generator) for number in used]
        tags = [torch.full((len(own),), number) for number, own in zip(used, rows, strict=True)]
        if arrangement == "mixed":
            domain = torch.cat(tags)
            domain = domain[torch.randperm(len(domain), generator=generator)]
            index = torch.empty_like(domain)
            for number, own in zip(used, rows, strict=True):
                index[domain == number] = own  # each domain keeps its own order
            parts = zip(domain.split(size), index.split(size), strict=True)
            yield from ((d, i, False) for d, i in parts)
            return
        each = [
            list(zip(tag.split(size), own.split(size), strict=True))
            for tag, own in zip(tags, rows, strict=True)
        ]
        if arrangement == "changing":
            every = torch.tensor([number for number in used for _ in each[number]])
            turns = every[torch.randperm(len(every), generator=generator)].tolist()
        else:
            order_of_domains = torch.randperm(len(each), generator=generator).tolist()
            turns = [number for number in order_of_domains for _ in each[number]]
        waiting = [iter(batches) for batches in each]
        before = None
        for number in turns:
            domain, index = next(waiting[number])
            yield domain, index, arrangement == "resets" and number != before
            before = number

    def _ordered(self, number: int, order: OrderName, generator: torch.Generator) -> Tensor:
        """The rows of a domain in their order."""
        labels = self.domains[number].y
        chosen = torch.arange(len(labels))
        if self.rows is not None and self.rows < len(labels):
            chosen = torch.randperm(len(labels), generator=generator)[: self.rows]
        return chosen[ORDERS[order](labels[chosen], generator)]
