"""Two classifiers on one feature extractor: where they disagree on the target, its features lie outside what the source supports.

    MCD   min over features, max over both heads of   mean |p_1 - p_2| on the target                   a game of 2 + k moves
    MDD   max over the second head of                 -margin CE(p_2, y_1) on the source + mean log(1 - p_2[y_1]) on the target
          and min over features of the same           by gradient reversal, in one move

y_1 is what the first head says. The network's own head is the first; evaluation uses it alone. The second has its architecture and
other initial weights: for the papers' deep heads give the network one, `Network(backbone, bottleneck, nn.Sequential(...))`.
Every term is a mean over samples: with several processes each takes it of its own rows, and the loop averages the gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import Batch
from da.networks.adversary import fixed, reverse_gradient
from da.networks.network import Network, Outputs
from da.networks.statistics import frozen_statistics, kept_statistics, use_statistics
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, sigmoid_ramp


class _TwoClassifiers(Adapt):
    """A second head beside the network's own."""

    def __init__(self, network: Network, **options: Any) -> None:
        super().__init__(network, **options)
        self.second_head = another_head(network.head)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """The network's groups, and the second head at `learning_rate`."""
        second = {"params": list(self.second_head.parameters()), "lr": learning_rate}
        return [*super().parameter_groups(learning_rate, backbone_factor), second]

    def classify(self, head: nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The head's logits of features (n, d) and (m, d), by the chosen treatment of batch statistics, which deep heads may have."""
        if self.batch_statistics == "joint":
            logits = head(torch.cat([source, target]))
            return logits[: len(source)], logits[len(source) :]
        use_statistics(head, "source")
        first = head(source)
        if self.batch_statistics == "source":
            with frozen_statistics(head):
                return first, head(target)
        use_statistics(head, "target")
        return first, head(target)


class MCD(_TwoClassifiers):
    """Maximum classifier discrepancy. A step is a game of 2 + generator_steps moves, the optimiser steps after each:

        A   backbone, bottleneck and both heads     min   CE_1 + CE_2 on the source
        B   both heads                              min   CE_1 + CE_2 on the source - w * discrepancy on the target
        C   backbone and bottleneck, k times        min   w * discrepancy on the target

    Args:
        network: maps x (b, ...) to Outputs.
        generator_steps: k >= 1, moves C in a step.
        trade_off, ramp: w = trade_off * ramp(progress).
        options: of `Adapt`.

    Cost: k + 1 forward and backward passes of both domains through the network where one move takes one (5 at k = 4), and one pass
    of the heads. B and the first C share a forward pass: between them only heads have moved. Every pass normalises by its own batch's
    statistics, as `batch_statistics` says; running statistics are updated by A alone, once a step as in any other method.

    Paper: Saito, Watanabe, Ushiku, Harada: Maximum Classifier Discrepancy for Unsupervised Domain Adaptation. CVPR 2018. Different
    here: source and target share a pass by default; no class balance loss (VisDA there); evaluation is the first head's, not the mean's.
    Raises ValueError for generator_steps < 1, and as `another_head`.
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
        weight, labels = self.trade_off * self.ramp(progress), batch.source_y
        yield self.loss(batch, progress)
        with kept_statistics(self):
            features = self._features(batch)
            source, target = self._judged(*(f.detach() for f in features))
            terms = {"task": self.task(source, labels)} | self.transfer(source, target, labels)
        yield terms | {"discrepancy": -weight * terms["discrepancy"]}
        for move in range(self.generator_steps):
            with kept_statistics(self), fixed(self.network.head, self.second_head):
                features = self._features(batch) if move else features
                terms = self.transfer(*self._judged(*features), labels)
            yield {"discrepancy": weight * terms["discrepancy"]}

    def loss(self, batch: Batch, progress: float) -> Terms:
        """Move A: the cross-entropies of both heads on the source."""
        source, target = self.outputs(batch)
        return {
            "task": self.task(source, batch.source_y),
            "second_task": self.transfer(source, target, batch.source_y)["second_task"],
        }

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        """The second head's cross-entropy on the source, and the discrepancy of the heads on the target, unweighted."""
        second, second_target = self.classify(self.second_head, source.features, target.features)
        task = self.task(Outputs(source.features, second), labels)
        return {
            "second_task": task,
            "discrepancy": discrepancy(target.logits.softmax(dim=1), second_target.softmax(dim=1)),
        }

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of source and target by the network as it is now."""
        source, target = self.outputs(batch)
        return source.features, target.features

    def _judged(self, source: Tensor, target: Tensor) -> tuple[Outputs, Outputs]:
        """Features with the first head's logits as it is now."""
        logits = self.classify(self.network.head, source, target)
        return Outputs(source, logits[0]), Outputs(target, logits[1])


class MDD(_TwoClassifiers):
    """Margin disparity discrepancy: cross-entropy of the first head - `margin_disparity` of the two, with features that fight it.

        first head    min   CE(p_1, y) on the source
        second head   max   margin_disparity: agrees with the first head on the source, not on the target
        features      min   CE(p_1, y) on the source + w * margin_disparity

    Args:
        network: maps x (b, ...) to Outputs.
        margin: the factor gamma > 0 of the source part, the exponential of the paper's margin.
        trade_off, ramp: w = trade_off * ramp(progress), the factor of the reversed gradient; the second head learns at full rate.
        options: of `Adapt`.

    Cost: one pass of both domains, and one more of a head.

    Paper: Zhang, Liu, Long, Jordan: Bridging Theory and Algorithm for Domain Adaptation. ICML 2019. Different here: w rises with
    progress where the authors' code counts steps (to 0.1 either way). Raises ValueError for margin <= 0, and as `another_head`.
    """

    def __init__(
        self,
        network: Network,
        *,
        margin: float = 4.0,
        trade_off: float = 0.1,
        ramp: Ramp = sigmoid_ramp,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        _check_margin(margin)
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.margin = margin

    def loss(self, batch: Batch, progress: float) -> Terms:
        source, target = self.outputs(batch)
        weight = self.trade_off * self.ramp(progress)
        task = self.task(source, batch.source_y)
        source, target = (
            o._replace(features=reverse_gradient(o.features, weight)) for o in (source, target)
        )
        return {"task": task} | self.transfer(source, target, batch.source_y)

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        """What the second head minimises, - margin_disparity, on features whose gradient `loss` has reversed."""
        second, second_target = self.classify(self.second_head, source.features, target.features)
        return {
            "disparity": -margin_disparity(
                source.logits, second, target.logits, second_target, margin=self.margin
            )
        }


def discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """mean_ic |p_ic - q_ic| of two heads' probabilities p, q (n, classes) on the same rows: in [0, 2 / classes] (Saito et al. 2018)."""
    if first.shape != second.shape:
        raise ValueError(
            f"first and second must have the same rows and classes; got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    return (first - second).abs().mean()


def margin_disparity(
    source_logits: Tensor,
    source_second: Tensor,
    target_logits: Tensor,
    target_second: Tensor,
    *,
    margin: float = 4.0,
) -> Tensor:
    """-margin mean_i CE(p_i, y_i) on the source + mean_j log(1 - p_j[y_j]) on the target: a scalar <= 0.

    Args:
        source_logits, target_logits: of the first head, (n, classes) and (m, classes); y is their argmax, so no gradient reaches them.
        source_second, target_second: of the second head, the same shapes; p is their softmax.
        margin: gamma > 0, weight of the source.

    Near 0 where the second head says the same as the first on the source and never on the target. The logarithm is exact where
    p_j[y_j] rounds to 1. Raises ValueError for margin <= 0 or fewer than two classes.

    Paper: Zhang, Liu, Long, Jordan: Bridging Theory and Algorithm for Domain Adaptation. ICML 2019.
    """
    _check_margin(margin)
    if target_second.shape[1] < 2:
        raise ValueError(
            f"margin_disparity needs two classes or more; got {target_second.shape[1]}"
        )
    said = target_logits.argmax(dim=1)  # (m,)
    others = target_second.log_softmax(dim=1).scatter(1, said[:, None], -torch.inf)  # (m, classes)
    log_rest = others.logsumexp(dim=1)  # log(1 - p[y]), (m,)
    return (
        -margin * functional.cross_entropy(source_second, source_logits.argmax(dim=1))
        + log_rest.mean()
    )


def another_head(head: nn.Module) -> nn.Module:
    """A head of the same architecture, each layer's weights drawn anew by its `reset_parameters`; the given one is left alone.

    Raises ValueError for a head without parameters, or with parameters in a layer that has no `reset_parameters`.
    """
    other = copy.deepcopy(head)
    layers = [layer for layer in other.modules() if list(layer.parameters(recurse=False))]
    fixed_layers = [
        type(layer).__name__ for layer in layers if not hasattr(layer, "reset_parameters")
    ]
    if not layers or fixed_layers:
        raise ValueError(
            f"network.head must consist of layers with reset_parameters, to be drawn anew; got {fixed_layers or head}"
        )
    for layer in layers:
        layer.reset_parameters()  # type: ignore[operator]
    return other


def _check_margin(margin: float) -> None:
    if not margin > 0:
        raise ValueError(f"margin must be > 0; got {margin}")
