"""Any method with an average of its weights over the training, which is what is evaluated."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor

from da.data.batches import Batch, LabelledBatch, TargetBatch
from da.networks.averages import update_average
from da.train.method import Method, Terms
from da.train.search_space import GENERALISATION


@final
class WeightAverage(Method[Any]):
    """Train a method as it is, and evaluate the average of its network's weights.

    The average lies in a flatter place than any network on the way, and changes less from step to
    step, so it is better on domains that were not seen, and it matters less which step is taken.
    Any method can be wrapped; its training does not change. `network` is the average, and
    `method.network` what is trained. After each step of the optimiser, once a share `start` of the
    training is over:

        decay None    average of all networks since then, each with the same weight
        decay d       average <- d average + (1 - d) network

    Before that the average is the network itself.

    Args:
        method: What is trained.
        decay: Share of an exponential moving average (EMA) that stays, in [0, 1). Default None: all
            networks count the same (simple moving average).
        start: Share of the training before the average begins, in [0, 1); default 0.1.

    Raises:
        ValueError: decay or start is not in [0, 1).

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import MCC
        >>> from da.networks import mlp
        >>> from da.train import WeightAverage
        >>> method = WeightAverage(MCC(mlp(3, classes=3)), decay=0.999)
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> [list(terms) for terms in method.step(Batch(x, y, x, y, y), progress=0.5)]
        [['task', 'mcc']]

    Paper:
        Arpit, Wang, Zhou, Xiong: Ensemble of Averages: Improving Model Selection and Boosting
        Performance in Domain Generalization. NeurIPS 2022 (simple moving average).
        Izmailov, Podoprikhin, Garipov, Vetrov, Wilson: Averaging Weights Leads to Wider Optima and
        Better Generalization. UAI 2018.

    Differences:
        One run is averaged; Arpit et al. also take the mean prediction of several runs. Running
        statistics are averaged too; Izmailov et al. compute them anew.
    """

    followers = ("method.network",)
    label_kind = None
    search_space = GENERALISATION
    count: Tensor

    def __init__(self, method: Method, *, decay: float | None = None, start: float = 0.1) -> None:
        for name, value in {"decay": decay, "start": start}.items():
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1); got {value}")
        super().__init__(copy.deepcopy(method.network).requires_grad_(False))
        self.method, self.decay, self.start = method, decay, start
        self.label_kind = method.label_kind  # type: ignore[misc]
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def step(self, batch: Any, progress: float) -> Iterator[Terms]:
        """The moves of the method; the average follows after the last."""
        yield from self.method.step(batch, progress)
        if progress >= self.start:
            self.count += 1
        seen = int(self.count)
        decay = 1 - 1 / max(1, seen) if self.decay is None or seen == 0 else self.decay
        update_average(self.network, self.method.network, decay)

    def loss(self, batch: Batch | LabelledBatch | TargetBatch, progress: float) -> Terms:
        return self.method.loss(batch, progress)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return self.method.parameter_groups(learning_rate, backbone_factor)
