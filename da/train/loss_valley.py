"""Any method with the average of its weights over the valley of a held-out loss (SWAD)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays.integers import whole_number
from da.data.batches import Batch, LabelledBatch, TargetBatch
from da.data.domain import Labelled, as_labelled
from da.data.one_by_one import AnyTransform, as_transform
from da.networks.averages import update_average
from da.train.distributed import gather_rows
from da.train.method import Method, Terms
from da.train.prediction import predict
from da.train.search_space import GENERALISATION


@final
class SWAD(Method[Any]):
    """Train a method as it is, and evaluate the average of its weights over a valley of the loss.

    Use it for domains that were not seen: an average over a flat valley suffers less from a shift
    than one network, and a valley's end keeps overfitted networks out. Any method can be wrapped;
    its training does not change. `network` is the average, and `method.network` what is trained.

    After every step the weights enter the average of their segment. A segment has `every` steps.
    At its end the trained network's cross-entropy l_i on held-out source samples is measured:

        start   the first segment s with l_s <= l_{s+1}, ..., l_{s+converged-1}
        bound   (1 + tolerance) mean(l_s, ..., l_{s+converged-1})
        end     the first segment e > s with l_e, ..., l_{e+patience-1} > bound
        result  the mean of the segments s, ..., e - 1

    If the training ends first, segments at its end whose losses are above the bound are left out.
    Before there is a start, the average is that of the newest segment. After the end it stays as
    it is, whatever is still trained.

    Args:
        method: What is trained; it must classify.
        held_out: Labelled samples of the training domains that are in no batch. Target samples must
            not be among them.
        transform: Raw rows -> network input, without augmentation, for the held-out samples.
        every: Batches in a segment, >= 1. Default 100, the authors' for PACS; 50 on VLCS, 500 on
            DomainNet. Take a divisor of the steps between two evaluations.
        converged: Losses that are compared for a start, >= 1. Default 3.
        patience: Losses in a row above the bound that are an end, >= 1. Default 6.
        tolerance: How far a loss may rise, >= 0, as a share. Default 0.3; 0.2 on VLCS.

    Raises:
        TypeError: `held_out` has no labels.
        ValueError: A number is out of its range.

    Example:
        >>> import torch
        >>> from da.data import DomainBatch, Labelled, identity
        >>> from da.feature import Risks
        >>> from da.networks import mlp
        >>> from da.train import SWAD
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = SWAD(Risks(mlp(3, classes=3)), Labelled(x, y), identity, every=2)
        >>> for t in range(3):
        ...     _ = list(method.step(DomainBatch(x, y, y, domain=y % 2), progress=t / 3))
        >>> int(method.waiting_count), int(method.taken)  # one segment, and a step of the next
        (1, 1)

    Paper:
        Cha, Chun, Lee, Cho et al.: SWAD: Domain Generalization by Seeking Flat Minima. NeurIPS
        2021.

    Differences:
        The paper measures the loss at every step; its code and this class do so once a segment. The
        code also adds segments before the start whose losses are below the bound, counts the first
        one twice, and ends the training with the valley. Each held-out row counts the same, in the
        code each domain. Running statistics are averaged; the code computes them anew.
    """

    followers = ("method.network",)
    label_kind = None
    search_space = GENERALISATION
    taken: Tensor  # () steps in the segment that goes on
    waiting_count: Tensor  # () segments of which it is not yet known whether they count
    losses: Tensor  # (most,) of those segments
    averaged: Tensor  # () segments in the average; 0 before the start
    bound: Tensor  # ()
    over: Tensor  # () whether the valley has ended

    def __init__(
        self,
        method: Method,
        held_out: Labelled,
        transform: AnyTransform,
        *,
        every: int = 100,
        converged: int = 3,
        patience: int = 6,
        tolerance: float = 0.3,
    ) -> None:
        self.every = whole_number(every, "every", least=1)
        self.converged = whole_number(converged, "converged", least=1)
        self.patience = whole_number(patience, "patience", least=1)
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"tolerance must be a finite number >= 0; got {tolerance}")
        average = copy.deepcopy(method.network).requires_grad_(False)
        super().__init__(average)
        self.method, self.tolerance = method, tolerance
        self.held_out, self.transform = as_labelled(held_out, "held_out"), as_transform(transform)
        self.label_kind = method.label_kind  # type: ignore[misc]
        most = max(self.converged, self.patience)
        self.segment = copy.deepcopy(average)
        self.waiting = nn.ModuleList(copy.deepcopy(average) for _ in range(most))
        for name in ("taken", "waiting_count", "averaged"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))
        self.register_buffer("losses", torch.zeros(most, dtype=torch.float64))
        self.register_buffer("bound", torch.zeros((), dtype=torch.float64))
        self.register_buffer("over", torch.zeros((), dtype=torch.bool))

    def step(self, batch: Any, progress: float) -> Iterator[Terms]:
        """The moves of the method; the averages follow after the last."""
        yield from self.method.step(batch, progress)
        if self.over:
            return
        self.taken += 1
        update_average(self.segment, self.method.network, 1 - 1 / int(self.taken))
        if self.averaged == 0:
            update_average(self.network, self.segment, 0.0)
        if self.taken >= self.every:
            self.taken.zero_()
            self._append(self._held_out_loss())
            self._settle()

    def loss(self, batch: Batch | LabelledBatch | TargetBatch, progress: float) -> Terms:
        return self.method.loss(batch, progress)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return self.method.parameter_groups(learning_rate, backbone_factor)

    def _held_out_loss(self) -> float:
        """The trained network's mean cross-entropy; over processes, whose statistics differ."""
        logits = predict(
            self.method.network,
            self.held_out,
            self.transform,
            statistics="source",
            device=self.bound.device,
        ).logits
        loss = functional.cross_entropy(logits.double(), self.held_out.y)
        return float(gather_rows(loss.to(self.bound)[None]).mean())

    def _append(self, loss: float) -> None:
        """The segment that ended waits. A lower loss before the start is a new candidate for it."""
        if self.averaged == 0 and self.waiting_count > 0 and loss < self.losses[0]:
            self.waiting_count.zero_()
        count = int(self.waiting_count)
        update_average(self.waiting[count], self.segment, 0.0)
        self.losses[count] = loss
        self.waiting_count += 1

    def _settle(self) -> None:
        """Find the start, take into the average what counts, and find the end."""
        count = int(self.waiting_count)
        if self.averaged == 0:
            if count < self.converged:
                return
            self.bound.copy_((1 + self.tolerance) * self.losses[:count].mean())
        while count := int(self.waiting_count):
            if self.losses[: min(count, self.patience)].min() <= self.bound:
                self._take()
            else:
                self.over.fill_(count >= self.patience)
                return

    def _take(self) -> None:
        """The first segment that waits enters the average, and the others move up."""
        self.averaged += 1
        update_average(self.network, self.waiting[0], 1 - 1 / int(self.averaged))
        for place, following in enumerate(self.waiting[1:]):
            update_average(self.waiting[place], following, 0.0)
        self.losses.copy_(self.losses.roll(-1))
        self.waiting_count -= 1
