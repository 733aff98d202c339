"""Classifier and features play against each other on the target's entropy (MME).

    head       raises the entropy of unlabelled target rows: prototypes move towards the target
    features   lower it: target rows gather around prototypes

The labelled rows of both domains keep the prototypes where their classes are.
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from da.feature.target import entropy
from da.networks.adversary import reverse_gradient
from da.networks.network import Network, Outputs
from da.networks.statistics import unmoved_statistics
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant


@final
class MME(Adapt):
    """Learn from source labels and a few target labels, by minimax entropy on the rest (MME).

    Train it on `da.data.FewLabelsBatches`. Without labelled target rows nothing ties the prototypes
    to the classes of the target. The gradient of the entropy is reversed between head and features:

        task       cross-entropy of the labelled rows
        entropy    -trade_off * ramp(progress) * mean_j H(p_j), reversed below the head

    Args:
        network: Maps x (b, ...) to Outputs. Give it a `da.networks.cosine_head`, as in the paper.
        trade_off: Factor of the entropy; default 0.1, the paper's.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, or the trade-off is negative.

    Example:
        >>> import torch
        >>> from da.data import FewLabelsBatch
        >>> from da.feature import MME
        >>> from da.networks import cosine_head, mlp
        >>> network = mlp(3, classes=3)
        >>> network.head = cosine_head(128, 3)
        >>> x, y, few = torch.eye(3), torch.arange(3), torch.tensor([False, False, True])
        >>> batch = FewLabelsBatch(x, y, x, y, y, of_target=few)
        >>> sorted(MME(network).loss(batch, progress=0.5))
        ['entropy', 'task']

    Paper:
        Saito, Kim, Sclaroff, Darrell et al.: Semi-supervised Domain Adaptation via Minimax Entropy.
        ICCV 2019.

    Differences:
        Both terms make one step of the optimiser, as in the paper's equations; the authors' code
        takes two, one after the other, and adds 1e-5 within the logarithm. The head is the
        caller's.
    """

    def __init__(
        self,
        network: Network,
        *,
        trade_off: float = 0.1,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        frozen = self.batch_statistics == "source"
        # The head sees the target a second time.
        with unmoved_statistics(self.network.head, frozen=frozen):
            logits = self.network.head(reverse_gradient(target.features))
        return {"entropy": -entropy(logits)}
