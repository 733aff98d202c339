"""RoTTA: learn on a correlated stream from a memory that has all classes.

    L = mean_i E(age_i) CE(student(view(x_i)), teacher(x_i)),    E(a) = exp(-a) / (1 + exp(-a))

The rows x_i are those of a category-balanced memory; `da.model.balanced_memory` says which are
kept. Batch normalisation has slowly moving statistics; see `da.model.mixed_statistics`. The teacher
is a moving average of the student, and answers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import final

import torch
from torch import Tensor

from da.arrays.integers import whole_number
from da.arrays.matrices import at_least_single
from da.data.batches import TargetBatch
from da.model.adapting_online import OnlineMethod
from da.model.balanced_memory import RowMemory, heuristic_scores, timely_place
from da.model.batchnorm import batch_norms
from da.model.cotta import follow, soft_cross_entropies
from da.model.mixed_statistics import with_mixed_statistics
from da.networks.network import Network, entropies
from da.networks.statistics import evaluating
from da.train.method import Terms

View = Callable[[Tensor], Tensor]


def timeliness_weights(ages: Tensor) -> Tensor:
    """exp(-a) / (1 + exp(-a)) of ages a (m,) in units of the memory's capacity."""
    return torch.sigmoid(-ages)


@final
class RoTTA(OnlineMethod):
    """Adapt to a stream whose classes come in blocks, by a balanced memory and a teacher.

    Use it if consecutive samples are alike, as in video. The answer is the teacher's, by running
    statistics, so that it depends on no other row of the batch. A step of learning is taken each
    time `every` samples have come.

        mean_i E(age_i) CE(student(view(x_i)), teacher(x_i))

    Scales and shifts learn; see `da.model.OnlineMethod`. The batch normalisations are replaced in
    place. The names of parameters and buffers stay.

    Args:
        network: A network trained on the source, the student; it is changed in place.
        view: x (b, ...) -> (b, ...), random in each row, such as
            `da.feature.views.random_translation` for images.
        capacity: Samples in the memory, >= 1. Default 64, as in the paper.
        every: Samples between two steps, >= 1. Default 64, as in the paper.
        decay: Share of the teacher that stays in each step, in [0, 1]. Default 0.999.
        source_share: Share of the running statistics that stays in each step, in [0, 1]. Default
            0.95, as in the paper.

    Raises:
        ValueError: Nothing would learn, or an option is out of range.

    Example:
        >>> import torch
        >>> from da.feature.views import random_translation
        >>> from da.model import RoTTA, online
        >>> from da.networks import lenet
        >>> method = RoTTA(lenet(classes=10), random_translation, every=4)
        >>> optimizer = torch.optim.Adam(method.parameter_groups(1e-3, 1.0))
        >>> [len(z) for z in online(method, torch.rand(8, 1, 16, 16).split(4), optimizer)]
        [4, 4]
        >>> len(method.memory.rows) > 0
        True

    Paper:
        Yuan, Xie, Li: Robust Test-Time Adaptation in Dynamic Scenarios. CVPR 2023.

    Differences:
        The views are the caller's. Layer and group normalisation learn too. Several processes have
        a memory each.
    """

    followers = ("teacher",)
    fills = False
    come: Tensor  # () samples so far

    def __init__(
        self,
        network: Network,
        view: View,
        *,
        capacity: int = 64,
        every: int = 64,
        decay: float = 0.999,
        source_share: float = 0.95,
    ) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be in [0, 1]; got {decay}")
        if not 0 <= source_share <= 1:
            raise ValueError(f"source_share must be in [0, 1]; got {source_share}")
        every = whole_number(every, "every", least=1)
        memory = RowMemory(capacity)
        super().__init__(network)
        if batch_norms(network):
            with_mixed_statistics(network, source_share=source_share, moves=True)
        self.view, self.every, self.decay, self.memory = view, every, decay, memory
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        device = next(network.parameters()).device
        self.register_buffer("come", torch.zeros((), dtype=torch.long, device=device))

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        """The answer; then the memory takes the rows, with a move for each `every` of them."""
        self.predicted = self._answer(batch.target_x)
        for row, logits in zip(batch.target_x, self.predicted, strict=True):
            self._remember(row, at_least_single(logits))
            self.come += 1
            if self.come % self.every == 0:
                yield self.loss(batch, progress)
                follow(self.teacher, self.network, self.decay)

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The term "consistency" of the memory; it does not read the batch."""
        rows = self.memory.rows
        taught = self._taught(rows)
        each = soft_cross_entropies(self.network(self.view(rows)).logits, taught)  # (m,)
        weights = timeliness_weights(self.memory.ages / self.memory.capacity).to(each)
        return {"consistency": (weights * each).mean()}

    @torch.no_grad()
    def _answer(self, x: Tensor) -> Tensor:
        with evaluating(self.teacher):
            return self.teacher(x).logits

    @torch.no_grad()
    def _taught(self, rows: Tensor) -> Tensor:
        """The teacher's logits of the memory, whose statistics move."""
        with evaluating(self.teacher):
            for norm in batch_norms(self.teacher):
                norm.train()
            return self.teacher(rows).logits

    @torch.no_grad()
    def _remember(self, row: Tensor, logits: Tensor) -> None:
        """Offer a row with the teacher's logits (K,) to the memory."""
        memory, classes = self.memory, len(logits)
        entropy, new = float(entropies(logits[None])), int(logits.argmax())
        sizes = {"capacity": memory.capacity, "classes": classes}
        scores = heuristic_scores(memory.ages, memory.entropies, **sizes)
        own = 1 / 2 + entropy / math.log(classes)  # its age is 0
        memory.put(timely_place(memory.kept, scores, new, own, **sizes), row, new, entropy)

    def reset(self) -> None:
        """Restore student and teacher as they were given, and forget all rows."""
        super().reset()
        self.teacher.load_state_dict(self.start.state_dict())
        self.memory.clear()
        self.come.zero_()
