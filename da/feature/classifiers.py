"""Two classifiers on one feature extractor, and MCD, a game between them and the features.

Target features on which two classifiers disagree lie outside what the source supports. MCD widens
that disagreement with the classifiers and narrows it with the features; MDD (`da.feature.margin`)
does both at once by gradient reversal.

The network's own head is the first classifier; evaluation uses it alone. The second has the same
architecture and other initial weights. For the deep heads of the papers give the network one:
`Network(backbone, bottleneck, nn.Sequential(...))`. Every term is a mean over rows, so with several
processes each takes it of its own rows and the loop averages the gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from da.data.batches import Batch
from da.networks.adversary import fixed
from da.networks.network import Network, Outputs
from da.networks.statistics import frozen_statistics, kept_statistics, use_statistics
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant


class TwoClassifiers(Adapt):
    """The base of methods with a second head beside the network's own; arguments as in `Adapt`."""

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
        self.second_head = another_head(network.head)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """The network's groups, and the second head at `learning_rate`."""
        second = {"params": list(self.second_head.parameters()), "lr": learning_rate}
        return [*super().parameter_groups(learning_rate, backbone_factor), second]

    def classify(self, head: nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The head's logits of features (n, d) and (m, d).

        A deep head may hold batch normalisation; it follows batch_statistics as the network does.
        """
        if self.batch_statistics == "joint":
            logits = head(torch.cat([source, target]))
            return logits[: len(source)], logits[len(source) :]
        use_statistics(head, "source")
        source_logits = head(source)
        if self.batch_statistics == "source":
            with frozen_statistics(head):
                return source_logits, head(target)
        use_statistics(head, "target")
        return source_logits, head(target)


class MCD(TwoClassifiers):
    """Play a game: two classifiers disagree on the target, and the features bring them together.

    It moves target features into the support of the source. A step takes several times as long as
    one of DANN or of an MMD. It is a game of 2 + generator_steps moves. The optimiser steps after
    each; w = trade_off * ramp(progress):

        A   backbone, bottleneck, both heads     min   CE_1 + CE_2 on the source
        B   both heads                           min   CE_1 + CE_2 - w * discrepancy on the target
        C   backbone and bottleneck, k times     min   w * discrepancy on the target

    Both domains pass k + 1 times through the network, forward and backward: 5 times at k = 4. Most
    methods take one pass. The heads take one more. B and the first C share a forward pass, because
    only heads have moved between them. Every pass normalises by its own batch, as batch_statistics
    says. Running statistics are updated by A alone, once a step as in any other method.

    Args:
        network: Maps x (b, ...) to Outputs. Every layer of its head that has parameters needs
            `reset_parameters`.
        generator_steps: Moves C in a step (the paper's k), >= 1; default 4.
        trade_off: Factor of the discrepancy; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, generator_steps is below 1, or the
            head cannot be drawn anew (`another_head`).

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import MCD
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = MCD(mlp(3, classes=3), generator_steps=1)
        >>> [list(terms) for terms in method.step(Batch(x, y, x, y, y), progress=0.5)]
        [['task', 'second_task'], ['task', 'second_task', 'discrepancy'], ['discrepancy']]

    Paper:
        Saito, Watanabe, Ushiku, Harada: Maximum Classifier Discrepancy for Unsupervised Domain
        Adaptation. CVPR 2018.

    Differences:
        Source and target share a pass by default. Running statistics are updated once a step.
        There is no class balance loss, which the paper adds for VisDA. Evaluation uses the first
        head, not the mean of both.
    """

    def __init__(
        self,
        network: Network,
        *,
        generator_steps: int = 4,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        if generator_steps < 1:
            raise ValueError(f"generator_steps must be at least 1; got {generator_steps}")
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.generator_steps = generator_steps

    def step(self, batch: Batch, progress: float) -> Iterator[Terms]:
        """The moves A, B, C, ..., C."""
        weight = self.trade_off * self.ramp(progress)
        yield self.loss(batch, progress)
        with kept_statistics(self):
            features = self._features(batch)
            terms = self._heads_terms(features, batch.source_y)
        yield terms | {"discrepancy": -weight * terms["discrepancy"]}
        for move in range(self.generator_steps):
            with kept_statistics(self), fixed(self.network.head, self.second_head):
                if move > 0:
                    features = self._features(batch)
                terms = self.transfer(*self._judged(*features), batch.source_y)
            yield {"discrepancy": weight * terms["discrepancy"]}

    def loss(self, batch: Batch, progress: float) -> Terms:
        """Move A: the cross-entropies of both heads on the source."""
        source, target = self.outputs(batch)
        return {
            "task": self.task(source, batch.source_y),
            "second_task": self.transfer(source, target, batch.source_y)["second_task"],
        }

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        """The second head's cross-entropy on the source; the discrepancy on the target."""
        second, second_target = self.classify(self.second_head, source.features, target.features)
        task = self.task(Outputs(source.features, second), labels)
        return {
            "second_task": task,
            "discrepancy": discrepancy(target.logits.softmax(dim=1), second_target.softmax(dim=1)),
        }

    def _heads_terms(self, features: tuple[Tensor, Tensor], labels: Tensor) -> Terms:
        """Move B on features that stay: both cross-entropies, and the discrepancy unweighted."""
        source, target = self._judged(features[0].detach(), features[1].detach())
        return {"task": self.task(source, labels)} | self.transfer(source, target, labels)

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of source and target by the network as it is now."""
        source, target = self.outputs(batch)
        return source.features, target.features

    def _judged(self, source: Tensor, target: Tensor) -> tuple[Outputs, Outputs]:
        """Features with the first head's logits as it is now."""
        source_logits, target_logits = self.classify(self.network.head, source, target)
        return Outputs(source, source_logits), Outputs(target, target_logits)


def discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Measure how far the predictions of two heads on the same rows lie apart.

        mean_ic |p_ic - q_ic|

    Args:
        first: Probabilities p (n, classes) of one head.
        second: Probabilities q (n, classes) of the other.

    Returns:
        A scalar from 0 to 2 / classes; differentiable in both.

    Raises:
        ValueError: The shapes differ.

    Paper:
        Saito, Watanabe, Ushiku, Harada: Maximum Classifier Discrepancy for Unsupervised Domain
        Adaptation. CVPR 2018.

    Differences:
        None known.
    """
    if first.shape != second.shape:
        raise ValueError(
            "first and second must have the same rows and classes; got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    return (first - second).abs().mean()


def another_head(head: nn.Module) -> nn.Module:
    """Make a head of the same architecture with weights drawn anew; the given one stays as it is.

    Args:
        head: A module; each of its layers with parameters has `reset_parameters`.

    Raises:
        ValueError: The head has no parameters, or a layer with parameters cannot be drawn anew.
    """
    other = copy.deepcopy(head)
    layers = [layer for layer in other.modules() if list(layer.parameters(recurse=False))]
    fixed_layers = [
        type(layer).__name__ for layer in layers if not hasattr(layer, "reset_parameters")
    ]
    if not layers or fixed_layers:
        raise ValueError(
            "network.head must consist of layers with reset_parameters, which draws them anew; "
            f"got {fixed_layers or head}"
        )
    for layer in layers:
        layer.reset_parameters()  # type: ignore[operator]
    return other
