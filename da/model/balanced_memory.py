"""Which samples of a stream are kept, so that the kept ones have all classes.

The classes are the network's predictions. Both rules are functions that say which place a new
sample takes. `RowMemory` keeps the samples.

| rule | of | which one goes |
|---|---|---|
| `timely_place` | RoTTA | the one of the largest age and uncertainty in the largest classes |
| `reservoir_place` | NOTE | a random one of a largest class; within one class as in a reservoir |
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from da.arrays.integers import whole_number

FREE, NONE = -1, -2  # the sample takes a free place; it is not kept


def heuristic_scores(ages: Tensor, entropies: Tensor, *, capacity: int, classes: int) -> Tensor:
    """How much each kept sample should go: 1 / (1 + exp(-age / capacity)) + H / log K.

    Args:
        ages: Samples that came after it, (m,).
        entropies: H (m,), in nats.
        capacity: The most samples.
        classes: K.
    """
    return torch.sigmoid(ages / capacity) + entropies / math.log(classes)


def timely_place(
    kept: Tensor, scores: Tensor, new: int, score: float, *, capacity: int, classes: int
) -> int:
    """Say which place a new sample takes in a category-balanced memory (RoTTA).

    While its class has less than capacity / K samples and the memory is not full, it takes a free
    place. If the class has its share, it replaces the sample of its class with the largest score.
    If the memory is full, it replaces the one with the largest score of the largest classes. It is
    not kept if no such score is larger than its own.

    Args:
        kept: Classes (m,) of the kept samples, oldest first.
        scores: `heuristic_scores` (m,).
        new: The class of the new sample.
        score: Its score.
        capacity: The most samples.
        classes: K.

    Returns:
        The place of the sample that goes, FREE, or NONE.

    Example:
        >>> import torch
        >>> from da.model.balanced_memory import timely_place
        >>> kept, scores = torch.tensor([0, 0, 1]), torch.tensor([0.6, 0.9, 0.7])
        >>> timely_place(kept, scores, 0, 0.5, capacity=4, classes=2)  # class 0 has its two
        1
        >>> timely_place(kept, scores, 1, 0.5, capacity=4, classes=2)  # free
        -1
    """
    counts = kept.bincount(minlength=classes)
    if counts[new] < capacity / classes:
        if len(kept) < capacity:
            return FREE
        among = counts == counts.max()
    else:
        among = torch.arange(classes, device=kept.device) == new
    places = among[kept].nonzero()[:, 0].tolist()
    if not places:
        return FREE
    # Among equal scores the last of the last class goes.
    worst = max(places, key=lambda i: (scores[i].item(), kept[i].item(), i))
    return worst if scores[worst] > score else NONE


def reservoir_place(kept: Tensor, seen: int, new: int, *, capacity: int, classes: int) -> int:
    """Say which place a new sample takes in a prediction-balanced reservoir (NOTE).

    It takes a free place. If the memory is full and its class is none of the largest, it replaces
    a random sample of a random largest class. Otherwise it replaces a random sample of its own
    class with probability m / n: m are kept of this class, and n were seen.

    Args:
        kept: Classes (m,) of the kept samples.
        seen: Samples of the new one's class so far, it among them.
        new: The class of the new sample.
        capacity: The most samples.
        classes: K.

    Returns:
        The place of the sample that goes, FREE, or NONE. It draws from torch's global generator.
    """
    if len(kept) < capacity:
        return FREE
    counts = kept.bincount(minlength=classes)
    largest = (counts == counts.max()).nonzero()[:, 0].tolist()
    chosen = new
    if new not in largest:
        chosen = largest[int(torch.randint(len(largest), ()))]
    elif float(torch.rand(())) > int(counts[new]) / seen:
        return NONE
    places = (kept == chosen).nonzero()[:, 0].tolist()
    return places[int(torch.randint(len(places), ()))]


class RowMemory(nn.Module):
    """Samples of a stream with their classes, ages and entropies, in the order of their coming.

    It is a part of a method's state: a checkpoint holds it, whatever number of samples it has.

    Args:
        capacity: The most samples, >= 1.
    """

    rows: Tensor  # (m, ...)
    kept: Tensor  # (m,) classes
    ages: Tensor  # (m,) samples that came after each
    entropies: Tensor  # (m,)
    seen: Tensor  # (K,) samples of each class so far; () before the first

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = whole_number(capacity, "capacity", least=1)
        for name in ("rows", "ages", "entropies"):
            self.register_buffer(name, torch.zeros(0))
        for name in ("kept", "seen"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.long))

    def __len__(self) -> int:
        return len(self.kept)

    def clear(self) -> None:
        """Forget all samples."""
        for name in ("rows", "kept", "ages", "entropies", "seen"):
            setattr(self, name, getattr(self, name).new_zeros(0))

    def count(self, new: int, classes: int) -> int:
        """Count a sample of a class, and say how many there were."""
        if not len(self.seen):
            self.seen = self.seen.new_zeros(classes)
        self.seen[new] += 1
        return int(self.seen[new])

    def put(self, place: int, row: Tensor, new: int, entropy: float) -> None:
        """Keep a sample (...) in the place that a rule has said; then all are a sample older."""
        if place != NONE:
            first, stay = not len(self), torch.arange(len(self), device=self.kept.device) != place
            values = {
                "rows": row.detach()[None],
                "kept": torch.full((1,), new, device=row.device),
                "ages": torch.zeros(1, device=row.device),
                "entropies": torch.full((1,), entropy, device=row.device),
            }
            for name, value in values.items():
                old = getattr(self, name)
                setattr(self, name, value if first else torch.cat([old[stay], value]))
        self.ages = self.ages + 1

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *others: object
    ) -> None:
        for name in ("rows", "kept", "ages", "entropies", "seen"):
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(saved, device=self.kept.device))
        super()._load_from_state_dict(state_dict, prefix, *others)  # type: ignore[arg-type]
