"""Target rows whose strongest features are the same should get the same class (CDAC).

    s_ij = 1 if the k largest features of rows i and j are the same ones, else 0
    c    = -mean_ij [s_ij log p_i . p'_j + (1 - s_ij) log(1 - p_i . p'_j)]

p_i are predictions, p'_j those of another view of the rows. The features lower c and the head
raises it, as in MME. Confident labels and agreement of two hard views stand beside it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from da.arrays.integers import whole_number
from da.arrays.matrices import Array, as_matrix, check_two_samples, full_precision, like
from da.data.batches import Batch
from da.feature.consistency import hard_consistency
from da.feature.views import View, check_fraction, strong_view
from da.networks.adversary import reverse_gradient
from da.networks.network import Network, Outputs
from da.networks.statistics import unmoved_statistics
from da.train.loss_weights import check_factor
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant

EPSILON = 1e-7  # the authors', within both logarithms


def pairwise_clustering_loss(
    features: Array, logits: Array, view_logits: Array, *, top: int = 5
) -> Array:
    """Measure whether rows with the same strongest features have the same predictions.

        -mean_ij [s_ij log p_i . p'_j + (1 - s_ij) log(1 - p_i . p'_j)]

    s_ij is 1 if the `top` largest features of rows i and j are the same set, else 0.

    Args:
        features: (n, d), floats; held constant.
        logits: (n, K), floats; p is their softmax.
        view_logits: (n, K) of another view of the same rows; p' is their softmax.
        top: How many features are compared, from 1 to d. Default 5.

    Returns:
        A scalar >= 0 of the kind of `logits`; differentiable in both logits.

    Raises:
        ValueError: Shapes do not match, a value is not finite, or `top` is out of its range.
        TypeError: The inputs are not floats.

    Example:
        >>> import torch
        >>> from da.feature.adaptive_clustering import pairwise_clustering_loss
        >>> features, sure = torch.eye(2), 99 * torch.eye(2)
        >>> pairwise_clustering_loss(features, sure, sure, top=1).item() < 1e-6
        True

    Paper:
        Li, Li, Shi, Yu: Cross-Domain Adaptive Clustering for Semi-Supervised Domain Adaptation.
        CVPR 2021 (CDAC).

    Differences:
        None known. 1e-7 within the logarithms is the authors'.
    """
    x = as_matrix(features, "features").detach()
    z, view = check_two_samples(logits, view_logits, names=("logits", "view_logits"))
    top = whole_number(top, "top", least=1)
    if len(x) != len(z) or z.shape != view.shape or top > x.shape[1]:
        raise ValueError(
            "features must be (n, d), d >= top, and both logits (n, K); got "
            f"{tuple(x.shape)}, {tuple(z.shape)}, {tuple(view.shape)} and top {top}"
        )
    with full_precision(z):
        strongest = x.topk(top, dim=1).indices
        among = torch.zeros_like(x).scatter_(1, strongest, 1.0)  # (n, d), ones and zeros
        same = (among @ among.T > top - 0.5).to(z.dtype)  # (n, n), s_ij
        agreement = z.softmax(dim=1) @ view.softmax(dim=1).T  # (n, n)
        yes, no = (agreement + EPSILON).log(), (1 - agreement + EPSILON).log()
        return like(-(same * yes + (1 - same) * no).mean(), logits)


def consistency_ramp(progress: float) -> float:
    """The share exp(-5 (1 - progress / 0.4)^2) of the consistency, 1 from progress 0.4 on."""
    return math.exp(-5 * (1 - min(1.0, progress / 0.4)) ** 2)


@final
class CDAC(Adapt):
    """Learn from source labels and a few target labels, by clusters of the target (CDAC).

    Train it on `da.data.FewLabelsBatches`. The unlabelled target is seen three times: as it is (p)
    and in two hard views (p', p''), which pass as one target batch.

        task           cross-entropy of the labelled rows
        clustering     -trade_off * `pairwise_clustering_loss`(p, p'), reversed below the head
        pseudo         trade_off * cross-entropy of p'' at confident labels of p
        consistency    trade_off * consistency * consistency_ramp(progress) * mean (p' - p'')^2

    Args:
        network: Maps x (b, ...) to Outputs. Give it a `da.networks.cosine_head`, as in the paper.
        view: The hard view, x (b, ...) -> (b, ...), random in each row. Default `strong_view`, for
            images.
        top: How many of the strongest features are compared, >= 1. Default 5.
        threshold: Least confidence of a label, in [0, 1]; default 0.95.
        consistency: Largest factor of the consistency, >= 0; default 30.
        trade_off: Factor of the three terms; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: An option is out of its range, or the head has fewer than `top` features.

    Example:
        >>> import torch
        >>> from da.data import FewLabelsBatch
        >>> from da.feature import CDAC
        >>> from da.networks import mlp
        >>> x, y, few = torch.eye(3), torch.arange(3), torch.tensor([False, False, True])
        >>> method = CDAC(mlp(3, classes=3), view=torch.tanh)
        >>> sorted(method.loss(FewLabelsBatch(x, y, x, y, y, of_target=few), progress=0.5))
        ['clustering', 'consistency', 'pseudo', 'task']

    Paper:
        Li, Li, Shi, Yu: Cross-Domain Adaptive Clustering for Semi-Supervised Domain Adaptation.
        CVPR 2021.

    Differences:
        All terms make one step of the optimiser; the authors take two, labelled rows first. Their
        views are RandAugment's; here the view is the caller's. The consistency rises over the first
        0.4 of the training, as their 20,000 of 50,000 steps.
    """

    def __init__(
        self,
        network: Network,
        *,
        view: View = strong_view,
        top: int = 5,
        threshold: float = 0.95,
        consistency: float = 30.0,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        check_fraction("threshold", threshold)
        check_factor("consistency", consistency)
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.view, self.top = view, whole_number(top, "top", least=1)
        self.threshold, self.consistency = threshold, consistency

    def loss(self, batch: Batch, progress: float) -> Terms:
        x = batch.target_x
        terms = super().loss(
            dataclasses.replace(batch, target_x=torch.cat([x, self.view(x), self.view(x)])),
            progress,
        )
        terms["consistency"] = consistency_ramp(progress) * terms["consistency"]
        return terms

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        own, _, hard = target.logits.chunk(3)  # each (b, K)
        features = target.features.chunk(3)[0]
        frozen = self.batch_statistics == "source"
        # The head sees the target a second time.
        with unmoved_statistics(self.network.head, frozen=frozen):
            again = self.network.head(reverse_gradient(target.features)).chunk(3)
        first, second = (part.float().softmax(dim=1) for part in target.logits.chunk(3)[1:])
        return {
            "clustering": -pairwise_clustering_loss(features, again[0], again[1], top=self.top),
            "pseudo": hard_consistency(hard, own, threshold=self.threshold),
            "consistency": self.consistency * (first - second).square().mean(),
        }
