"""ATDOC: labels for target rows from a memory of the target, not from the source's classifier.

| method | the memory holds | a row's label is that of |
|---|---|---|
| `ATDOC` | features and sharpened predictions of every target row | its nearest neighbours |
| `CentroidATDOC` | the mean features of each predicted class | the nearest mean |
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.integers import whole_number
from da.arrays.matrices import at_least_single
from da.data.batches import Batch
from da.feature.growing_memory import GrowingMemory
from da.feature.neighbour_labels import linear_ramp, neighbour_labels, sharpened
from da.feature.views import check_fraction
from da.networks.network import Network, Outputs, linear_head
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, everywhere


class TargetMemory(Adapt):
    """The base of methods that label target rows by a memory of the target.

    The memory takes the features and predictions of each batch, without a gradient, once the batch
    has its labels. A method says in `pseudo_loss` what it learns and in `remember` what it keeps.
    """

    def __init__(
        self,
        network: Network,
        *,
        trade_off: float,
        ramp: Ramp,
        batch_statistics: BatchStatistics,
        label_smoothing: float,
    ) -> None:
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )

    @abstractmethod
    def pseudo_loss(self, target: Outputs, index: Tensor) -> Tensor:
        """The loss of the target's rows (m, ...), of which `index` (m,) says which they are."""

    @abstractmethod
    def remember(self, features: Tensor, probabilities: Tensor, index: Tensor) -> None:
        """Take rows (m, d) and their predictions (m, K) into the memory."""

    def adaptation(self, source: Outputs, target: Outputs, batch: Batch, progress: float) -> Terms:
        target, index = everywhere(target), gather_rows(batch.target_index)
        term = self.trade_off * self.ramp(progress) * self.pseudo_loss(target, index)
        if self.training:
            features = at_least_single(target.features.detach())
            self.remember(features, at_least_single(target.logits.detach()).softmax(1), index)
        return {"pseudo": term}

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return {"pseudo": self.pseudo_loss(target, torch.arange(len(target.logits)))}


@final
class ATDOC(GrowingMemory, TargetMemory):
    """Train on the source, and teach each target row with the predictions of its neighbours.

    The labels come from a memory of all target rows and their predictions, so they follow the
    target's own clusters and not the source's boundaries. Predictions are `sharpened` before they
    are kept. trade_off * ramp(progress) * the weighted cross-entropy is added to the source's:

        sum_i v_i CE(p_i, y_i) / sum_i v_i,    (y_i, v_i) from `neighbour_labels`

    Args:
        network: Maps x (b, ...) to Outputs; its head must be linear.
        neighbours: How many neighbours give a label, >= 1; default 5, as in the paper.
        trade_off: Largest factor of the loss; default 0.2, as in the paper for neighbours.
        ramp: Progress in [0, 1] -> factor of the trade-off; default `linear_ramp`, as in the
            paper.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes on the source, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: neighbours is below 1, or `batch_statistics` is none of the three.
        TypeError: The network's head is not linear.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import ATDOC
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = ATDOC(mlp(3, classes=3), neighbours=1)
        >>> method.loss(Batch(x, y, x, y, y), progress=0.5)["pseudo"].item()  # an empty memory
        0.0
        >>> method.memory.shape[0]  # and now the three rows are there
        3

    Paper:
        Liang, Hu, Feng: Domain Adaptation with Auxiliary Target Domain-Oriented Classifier. CVPR
        2021 (ATDOC-NA).

    Differences:
        The memory takes the outputs of the pass that is trained. The authors' code runs the network
        again after the step, in evaluation mode. The memory starts empty and grows; theirs starts
        with random features and equal predictions.
    """

    memory: Tensor
    predictions: Tensor

    growing = {"memory": 0.0, "predictions": 0.0}

    def __init__(
        self,
        network: Network,
        *,
        neighbours: int = 5,
        trade_off: float = 0.2,
        ramp: Ramp = linear_ramp,
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
        self.neighbours = whole_number(neighbours, "neighbours", least=1)
        head = linear_head(network)
        self.register_buffer("memory", head.weight.new_zeros(0, head.in_features))
        self.register_buffer("predictions", head.weight.new_zeros(0, head.out_features))

    def pseudo_loss(self, target: Outputs, index: Tensor) -> Tensor:
        self.grow(int(index.max()) + 1)
        features = at_least_single(target.features.detach())
        labels, weights = neighbour_labels(
            features.to(self.memory.dtype),
            index,
            self.memory,
            self.predictions,
            neighbours=self.neighbours,
        )
        losses = functional.cross_entropy(
            at_least_single(target.logits), labels, reduction="none"
        )  # (m,)
        return (weights * losses).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

    def remember(self, features: Tensor, probabilities: Tensor, index: Tensor) -> None:
        self.memory[index] = functional.normalize(features, dim=1).to(self.memory.dtype)
        self.predictions[index] = sharpened(probabilities).to(self.predictions.dtype)


@final
class CentroidATDOC(TargetMemory):
    """Train on the source, and teach each target row with the class of the nearest mean.

    The means of the target's predicted classes take the place of the source's classifier. It keeps
    one row a class, so it suits a target of any size. trade_off * ramp(progress) * the
    cross-entropy with these labels is added to the source's. After each batch:

        m_k <- (1 - momentum) m_k + momentum * mean of the batch's rows that are predicted as k

    Args:
        network: Maps x (b, ...) to Outputs; its head must be linear.
        momentum: Share of a batch in the means, in [0, 1]; default 0.1, as in the authors' code.
        trade_off: Largest factor of the loss; default 0.1, as in the paper for means.
        ramp: Progress in [0, 1] -> factor of the trade-off; default `linear_ramp`.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes on the source, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: momentum is not in [0, 1], or `batch_statistics` is none of the three.
        TypeError: The network's head is not linear.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import CentroidATDOC
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = CentroidATDOC(mlp(3, classes=3))
        >>> method.loss(Batch(x, y, x, y, y), progress=0.5)["pseudo"].item()  # no means yet
        0.0

    Paper:
        Liang, Hu, Feng: Domain Adaptation with Auxiliary Target Domain-Oriented Classifier. CVPR
        2021 (ATDOC-NC).

    Differences:
        The means take the outputs of the pass that is trained; the authors' code runs the network
        again after the step. They start at 0, and a class without a mean labels no row. Theirs
        start at random.
    """

    means: Tensor

    def __init__(
        self,
        network: Network,
        *,
        momentum: float = 0.1,
        trade_off: float = 0.1,
        ramp: Ramp = linear_ramp,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        check_fraction("momentum", momentum)
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.momentum = momentum
        self.register_buffer("means", torch.zeros_like(linear_head(network).weight).detach())

    def pseudo_loss(self, target: Outputs, index: Tensor) -> Tensor:
        features = at_least_single(target.features.detach()).to(self.means.dtype)
        cosines = features @ functional.normalize(self.means, dim=1).T  # (m, K), up to row factors
        there = (self.means != 0).any(dim=1)  # (K,)
        labels = cosines.masked_fill(~there, -torch.inf).argmax(dim=1)
        return functional.cross_entropy(at_least_single(target.logits), labels) * there.any()

    def remember(self, features: Tensor, probabilities: Tensor, index: Tensor) -> None:
        said = functional.one_hot(probabilities.argmax(dim=1), probabilities.shape[1])  # (m, K)
        said = said.to(features.dtype)
        sums = said.T @ features  # (K, d)
        means = sums / said.sum(dim=0).clamp(min=1)[:, None]
        self.means.lerp_(means.to(self.means.dtype), self.momentum)
