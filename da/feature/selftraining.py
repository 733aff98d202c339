"""Self-training: the target learns from the network's own confident predictions.

| method | what teaches |
|---|---|
| `PseudoLabels` | the most probable class of the row itself |
| `FixMatch` | the most probable class of an easy view, for a hard view |
| `MeanTeacher` (`da.feature.teacher`) | the probabilities of an average of past networks |

All need predictions that are mostly right from the start: none corrects a prediction that is
confidently wrong. The losses are in `da.feature.consistency`, views of images in
`da.feature.views`.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from da.data.batches import Batch
from da.feature.consistency import hard_consistency, pseudo_label_loss
from da.feature.views import View, check_fraction, random_translation, strong_view
from da.networks.network import Network, Outputs
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, sigmoid_ramp
from da.train.search_space import ADAPTATION


@final
class PseudoLabels(Adapt):
    """Train on the source, and on the target with the network's own confident predictions.

    It needs no second view of the data, so it suits every kind of input.
    trade_off * ramp(progress) * `pseudo_label_loss` of the target is added to the source's
    cross-entropy.

    Args:
        network: Maps x (b, ...) to Outputs.
        threshold: Least confidence of a label, in [0, 1]; default 0.9.
        ramp: Progress in [0, 1] -> factor of the trade-off; default `sigmoid_ramp`.
        trade_off: Largest factor of the loss; default 1.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes on the source, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, or threshold is not in [0, 1].

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import PseudoLabels
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = PseudoLabels(mlp(3, classes=3), threshold=0.9)
        >>> terms = method.loss(Batch(x, y, x, y, y), progress=0.5)
        >>> terms["pseudo"].item()  # a new network is sure of nothing
        0.0

    Paper:
        Lee: Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
        Networks. ICML 2013 workshop.

    Differences:
        Labels have a confidence threshold; 0 gives the paper's loss. The weight rises from 0 to 1
        by `sigmoid_ramp`; the paper's rises linearly to 3, in epochs 100 to 600.
    """

    search_space = {**ADAPTATION, "threshold": (0.8, 0.9, 0.95)}

    def __init__(
        self,
        network: Network,
        *,
        threshold: float = 0.9,
        ramp: Ramp = sigmoid_ramp,
        trade_off: float = 1.0,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        check_fraction("threshold", threshold)
        super().__init__(
            network,
            ramp=ramp,
            trade_off=trade_off,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.threshold = threshold

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return {"pseudo": pseudo_label_loss(target.logits, threshold=self.threshold)}


class TwoViews(Adapt):
    """The base of methods that see each target row twice: one view learns, the other teaches.

    The term is a mean over rows, so with several processes each takes it of its own rows.

    Args:
        network: Maps x (b, ...) to Outputs.
        consistency: (logits, teaching_logits, *, threshold) -> scalar, of `da.feature.consistency`.
        threshold: Least confidence of what teaches, in [0, 1].
        trade_off: As in `Adapt`.
        ramp: As in `Adapt`.
        batch_statistics: As in `Adapt`.
        label_smoothing: As in `Adapt`.
    """

    search_space = {**ADAPTATION, "threshold": (0.8, 0.9, 0.95)}

    def __init__(
        self,
        network: Network,
        consistency: Callable[..., Tensor],
        threshold: float,
        *,
        trade_off: float,
        ramp: Ramp,
        batch_statistics: BatchStatistics,
        label_smoothing: float,
    ) -> None:
        check_fraction("threshold", threshold)
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.consistency = consistency
        self.threshold = threshold

    @abstractmethod
    def seen(self, batch: Batch) -> tuple[Outputs, Outputs]:
        """Outputs of the source (b rows) and the target (2 b rows: what learns, what teaches)."""

    def loss(self, batch: Batch, progress: float) -> Terms:
        source, target = self.seen(batch)
        factor = self.trade_off * self.ramp(progress)
        terms = self.transfer(source, target, batch.source_y)
        terms = {name: factor * term for name, term in terms.items()}
        return {"task": self.task(source, batch.source_y)} | terms

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        learning, teaching = target.logits.chunk(2)
        return {"consistency": self.consistency(learning, teaching, threshold=self.threshold)}


@final
class FixMatch(TwoViews):
    """Train on the source, and teach hard views of the target with confident labels of easy views.

    The threshold makes the term start by itself: at first no prediction is sure enough. Both views
    pass as one target batch, with common batch statistics.
    trade_off * ramp(progress) * `hard_consistency` is added to the source's cross-entropy.

    Args:
        network: Maps x (b, ...) to Outputs.
        weak: The easy view, x (b, ...) -> (b, ...), random in each row. Default
            `random_translation`, for images.
        strong: The hard view, likewise. Default `strong_view`, for images.
        threshold: Least confidence of a label, in [0, 1]; default 0.95.
        trade_off: Factor of the loss; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant, as in the paper.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes on the source, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, or threshold is not in [0, 1]. The
            default views also raise it for inputs that are not images.

    Example:
        Vectors need views of their own, here small and large noise.

        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import FixMatch
        >>> from da.networks import mlp
        >>> def noise(scale):
        ...     return lambda x: x + scale * torch.randn_like(x)
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = FixMatch(mlp(3, classes=3), weak=noise(0.1), strong=noise(0.5))
        >>> terms = method.loss(Batch(x, y, x, y, y), progress=0.5)
        >>> terms["consistency"].item()  # a new network is sure of nothing
        0.0

    Paper:
        Sohn, Berthelot, Li, Zhang et al.: FixMatch: Simplifying Semi-Supervised Learning with
        Consistency and Confidence. NeurIPS 2020.

    Differences:
        The labelled rows come from another domain and are not augmented. There are as many
        unlabelled rows as the stream gives, not 7 times as many. No image is mirrored. The strong
        view is one affine map (turns of up to 30 degrees) and an erased rectangle, not two of
        RandAugment's 14 maps. The network as it is is evaluated, not an average of its weights.
    """

    def __init__(
        self,
        network: Network,
        *,
        weak: View = random_translation,
        strong: View = strong_view,
        threshold: float = 0.95,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            hard_consistency,
            threshold,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.weak = weak
        self.strong = strong

    def seen(self, batch: Batch) -> tuple[Outputs, Outputs]:
        views = torch.cat([self.strong(batch.target_x), self.weak(batch.target_x)])  # (2 b, ...)
        return self.outputs(dataclasses.replace(batch, target_x=views))
