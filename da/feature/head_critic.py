"""DALN: the task's own classifier is the critic that tells the domains apart."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.data.batches import Batch
from da.networks.adversary import reverse_gradient
from da.networks.network import Network, Outputs
from da.networks.statistics import unmoved_statistics
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, everywhere, sigmoid_ramp


@checked
def nuclear_wasserstein(source_logits: Array, target_logits: Array) -> Array:
    """Measure how much surer and more varied predictions are on the source than on the target.

    The nuclear norm of a batch of predictions is large if rows are certain and classes differ.
    Trained classifiers have a larger one on the source, so the classifier itself is a critic.

        ||P||_* / n - ||Q||_* / m,    P = softmax(source logits), Q = softmax(target logits)

    It is not symmetric: exchanging source and target changes the sign.

    Args:
        source_logits: Rows (n, K), floats, n >= 1.
        target_logits: Rows (m, K), of the kind of `source_logits`, m >= 1.

    Returns:
        A scalar in [-1, 1], of the kind of `source_logits`; differentiable in both.

    Raises:
        ValueError: Widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import nuclear_wasserstein
        >>> sure, unsure = 1e3 * np.eye(4), np.zeros((4, 4))
        >>> round(float(nuclear_wasserstein(sure, unsure)), 3)  # 1 - 1/4
        0.75

    Paper:
        Chen, Chen, Wei, Jin et al.: Reusing the Task-specific Classifier as a Discriminator:
        Discriminator-free Adversarial Domain Adaptation. CVPR 2022, equation 8.

    Differences:
        Each norm is divided by its own number of rows. The authors' batches have equal numbers.
    """
    x, y = check_two_samples(source_logits, target_logits, names=("source_logits", "target_logits"))
    with full_precision(x):
        norms = [torch.linalg.svdvals(z.softmax(dim=1)).sum() / len(z) for z in (x, y)]
        return like(norms[0] - norms[1], source_logits)


@final
class DALN(Adapt):
    """Align by an adversary without a second network: the classifier plays against the features.

    The head raises `nuclear_wasserstein` on the features as they are, and the features lower it,
    through a reversed gradient. No discriminator has to be chosen or trained.

        head        min    CE on the source - trade_off * nuclear_wasserstein
        features    min    CE on the source + trade_off * ramp(progress) * nuclear_wasserstein

    Args:
        network: Maps x (b, ...) to Outputs.
        trade_off: Factor of the discrepancy; default 1.
        ramp: Progress in [0, 1] -> share of trade_off that reaches the features; default
            `sigmoid_ramp`.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import DALN
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> terms = DALN(mlp(3, classes=3)).loss(Batch(x, y, x, y, y), progress=0.5)
        >>> round(abs(terms["nuclear"].item()), 6)  # both domains are the same
        0.0

    Paper:
        Chen, Chen, Wei, Jin et al.: Reusing the Task-specific Classifier as a Discriminator:
        Discriminator-free Adversarial Domain Adaptation. CVPR 2022.

    Differences:
        The share of the reversed gradient rises as in DANN. The authors' rises by
        2 / (1 + exp(-steps / 1000)) - 1. The head sees the features twice, the second time above
        reversed gradients; batch normalisation in a deep head keeps the statistics of the first.
    """

    def __init__(
        self,
        network: Network,
        *,
        trade_off: float = 1.0,
        ramp: Ramp = sigmoid_ramp,
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

    def adaptation(self, source: Outputs, target: Outputs, batch: Batch, progress: float) -> Terms:
        share = self.ramp(progress)
        source = source._replace(features=reverse_gradient(source.features, share))
        target = target._replace(features=reverse_gradient(target.features, share))
        labels = gather_rows(batch.source_y)
        terms = self.transfer(everywhere(source), everywhere(target), labels)
        return {name: self.trade_off * term for name, term in terms.items()}

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        n = len(source.features)
        frozen = self.batch_statistics == "source"
        with unmoved_statistics(self.network.head, frozen=frozen):
            logits = self.network.head(torch.cat([source.features, target.features]))
        return {"nuclear": -nuclear_wasserstein(logits[:n], logits[n:])}
