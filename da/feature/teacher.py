"""A network learns on the target from a moving average of its own past.

| method | the student sees | the teacher sees |
|---|---|---|
| `MeanTeacher` | a random view | another random view |
| `MIC` (`da.feature.masked`) | an image with masked blocks | the whole image |
"""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import final

import torch
from torch import Tensor

from da.data.batches import Batch
from da.feature.consistency import soft_consistency
from da.feature.selftraining import TwoViews
from da.feature.views import View, check_fraction, random_translation
from da.networks.averages import update_average
from da.networks.network import Network, Outputs
from da.networks.statistics import unmoved_statistics, use_statistics
from da.train.method import BatchStatistics, Ramp, Terms, constant


class Averaged(TwoViews):
    """The base of methods whose teacher is a moving average of the network.

    A method says in `views` what student and teacher see of the target.

    Args:
        network: The student.
        consistency: As in `TwoViews`.
        threshold: As in `TwoViews`.
        decay: Share of the teacher that stays in each step, in [0, 1].
        trade_off: As in `Adapt`.
        ramp: As in `Adapt`.
        batch_statistics: As in `Adapt`.
        label_smoothing: As in `Adapt`.
    """

    followers = ("teacher",)

    def __init__(
        self,
        network: Network,
        consistency: Callable[..., Tensor],
        threshold: float,
        decay: float,
        *,
        trade_off: float,
        ramp: Ramp,
        batch_statistics: BatchStatistics,
        label_smoothing: float,
    ) -> None:
        check_fraction("decay", decay)
        super().__init__(
            network,
            consistency,
            threshold,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.decay = decay
        self.teacher = copy.deepcopy(network).requires_grad_(False)

    @abstractmethod
    def views(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """What the student and the teacher see of target samples (b, ...)."""

    def step(self, batch: Batch, progress: float) -> Iterator[Terms]:
        """One move; the teacher follows once the optimiser has stepped."""
        yield self.loss(batch, progress)
        update_average(self.teacher, self.network, self.decay)

    def seen(self, batch: Batch) -> tuple[Outputs, Outputs]:
        seen, teaching = self.views(batch.target_x)
        source, student = self.outputs(dataclasses.replace(batch, target_x=seen))
        teacher = self._taught(batch.source_x, teaching)
        features = torch.cat([student.features, teacher.features])  # (2 b, d)
        logits = torch.cat([student.logits, teacher.logits])  # (2 b, classes)
        return source, Outputs(features, logits)

    @torch.no_grad()
    def _taught(self, source: Tensor, target: Tensor) -> Outputs:
        """The teacher's outputs on the target, with batches normalised as the student's are.

        The teacher's running statistics do not move here; `update_average` moves them.
        """
        use_statistics(self.teacher, "target")
        frozen = self.batch_statistics == "source"
        with unmoved_statistics(self.teacher, frozen=frozen):
            if self.batch_statistics != "joint":
                return self.teacher(target)
            features, logits = self.teacher(torch.cat([source, target]))
        return Outputs(features[len(source) :], logits[len(source) :])


@final
class MeanTeacher(Averaged):
    """Train on the source, and teach the target with the predictions of an averaged network.

    The average, the teacher, is steadier than the network, the student. It starts as a copy, gets
    no gradient, and is saved with the method. trade_off * ramp(progress) * `soft_consistency` of
    student and teacher on two views of the target is added to the source's cross-entropy. After
    each step of the optimiser:

        teacher <- decay teacher + (1 - decay) student

    The average holds running statistics too. In training the teacher normalises batches as
    batch_statistics says and drops units, as the student does. Evaluation uses `method.network`,
    the student; `method.teacher` lags about 1 / (1 - decay) steps behind.

    Args:
        network: Maps x (b, ...) to Outputs; the student.
        decay: Share of the teacher that stays in each step, in [0, 1]; default 0.99.
        view: x (b, ...) -> (b, ...), random in each row; drawn once for the student and once for
            the teacher. Default `random_translation`, for images.
        threshold: Least confidence of the teacher for a row that counts, in [0, 1]; default 0.968.
        trade_off: Factor of the loss; default 3, as in the code of French et al.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes on the source, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, or decay or threshold is not in
            [0, 1]. The default view also raises it for inputs that are not images.

    Example:
        Vectors need a view of their own, here noise.

        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import MeanTeacher
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = MeanTeacher(
        ...     mlp(3, classes=3), view=lambda x: x + 0.1 * torch.randn_like(x), decay=0.9
        ... )
        >>> [sorted(terms) for terms in method.step(Batch(x, y, x, y, y), progress=0.5)]
        [['consistency', 'task']]
        >>> sum(p.requires_grad for p in method.teacher.parameters())
        0

    Paper:
        Tarvainen, Valpola: Mean teachers are better role models: Weight-averaged consistency
        targets improve semi-supervised deep learning results. NIPS 2017.
        French, Mackiewicz, Fisher: Self-ensembling for visual domain adaptation. ICLR 2018.

    Differences:
        Evaluation uses the student; both papers evaluate the teacher. The threshold takes the place
        of the slow rise of the weight in Tarvainen and Valpola. Beyond that, unlike French et al.:
        there is no class balance loss. Source and target share a pass by default; batch_statistics
        "domain" is theirs. The source is not augmented. Translation is the only noise. Running
        statistics are averaged too.
    """

    def __init__(
        self,
        network: Network,
        *,
        decay: float = 0.99,
        view: View = random_translation,
        threshold: float = 0.968,
        trade_off: float = 3.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            soft_consistency,
            threshold,
            decay,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.view = view

    def views(self, target: Tensor) -> tuple[Tensor, Tensor]:
        return self.view(target), self.view(target)
