"""NOTE: learn on a correlated stream from a reservoir that is balanced by predictions.

    L = mean_i H(p_i) over the rows of the memory

Running statistics follow the memory slowly and normalise what is answered, so that an answer
depends on no other row of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from da.arrays.integers import whole_number
from da.arrays.matrices import at_least_single
from da.data.batches import TargetBatch
from da.model.adapting_online import OnlineMethod
from da.model.balanced_memory import RowMemory, reservoir_place
from da.model.batchnorm import batch_norms
from da.networks.network import Network, entropies
from da.networks.statistics import evaluating
from da.train.method import Terms


@final
class NOTE(OnlineMethod):
    """Adapt to a stream whose classes come in blocks, by entropy on a balanced memory.

    Use it if consecutive samples are alike, as in video, and one pass at a time is all that can be
    paid. A step of learning is taken each time `every` samples have come. The answer is that of
    the network before it, by running statistics.

        mean_i H(p_i) over the rows of the memory

    Scales and shifts learn; see `da.model.OnlineMethod`.

    Args:
        network: A network trained on the source; it is changed in place.
        capacity: Samples in the memory, >= 1. Default 64, as in the paper.
        every: Samples between two steps, >= 1. Default 64, as in the paper.
        momentum: Share of the memory's statistics in each step of the running ones, in [0, 1].
            Default 0.01, as in the paper.

    Raises:
        ValueError: Nothing would learn, or an option is out of range.

    Example:
        >>> import torch
        >>> from da.model import NOTE, online
        >>> from da.networks import lenet
        >>> method = NOTE(lenet(classes=10), every=4)
        >>> optimizer = torch.optim.Adam(method.parameter_groups(1e-4, 1.0))
        >>> [len(z) for z in online(method, torch.rand(8, 1, 16, 16).split(4), optimizer)]
        [4, 4]

    Paper:
        Gong, Jeong, Kim, Kim, Shin, Lee: NOTE: Robust Continual Test-time Adaptation Against
        Temporal Correlation. NeurIPS 2022.

    Differences:
        It is the half of the paper with the memory. The other half, batch normalisation that looks
        at each instance, needs a network trained with it, and is left out. Layer and group
        normalisation learn too. The entropy is summed over classes; the authors' code averages it.
        Several processes have a memory each.
    """

    fills = False
    come: Tensor  # () samples so far

    def __init__(
        self, network: Network, *, capacity: int = 64, every: int = 64, momentum: float = 0.01
    ) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1]; got {momentum}")
        every = whole_number(every, "every", least=1)
        memory = RowMemory(capacity)
        super().__init__(network)
        for norm in batch_norms(network):
            norm.momentum = momentum
        self.every, self.memory = every, memory
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

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The term "entropy" of the memory; it does not read the batch."""
        logits = at_least_single(self.logits(self.memory.rows))
        return {"entropy": entropies(logits).mean()}

    @torch.no_grad()
    def _answer(self, x: Tensor) -> Tensor:
        with evaluating(self.network):
            return self.network(x).logits

    @torch.no_grad()
    def _remember(self, row: Tensor, logits: Tensor) -> None:
        """Offer a row with its logits (K,) to the memory."""
        memory, classes, new = self.memory, len(logits), int(logits.argmax())
        seen = memory.count(new, classes)
        place = reservoir_place(memory.kept, seen, new, capacity=memory.capacity, classes=classes)
        memory.put(place, row, new, float(entropies(logits[None])))

    def reset(self) -> None:
        """Restore the network as it was given, and forget all rows."""
        super().reset()
        self.memory.clear()
        self.come.zero_()
