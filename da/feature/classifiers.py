"""Two classifiers on one feature extractor, and MCD, a game between them and the features.

Target features on which two classifiers disagree lie outside what the source supports. MCD widens
that disagreement with the classifiers and narrows it with the features; MDD (`da.feature.margin`)
does both at once by gradient reversal.

The network's own head is the first classifier; evaluation uses it alone. The second has the same
architecture and other initial weights. Both papers have heads of two layers or more: `hidden` makes
such a head. With one linear layer each, MDD collapses on the embedded digits. Every term is a mean
over rows, so with several processes each takes it of its own rows and the loop averages the
gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from da.arrays.integers import is_whole
from da.data.batches import Batch
from da.networks.adversary import fixed
from da.networks.network import Network, Outputs, linear_head
from da.networks.statistics import frozen_statistics, kept_statistics, use_statistics
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant
from da.train.search_space import ADAPTATION


class TwoClassifiers(Adapt):
    """The base of methods with a second head beside the network's own; arguments as in `Adapt`."""

    search_space = {**ADAPTATION, "hidden": ((), (1024,))}

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
        hidden: Units of the hidden layers of both heads, each followed by batch normalisation and
            ReLU, as in the authors' code. The network's linear head is replaced in place. Default
            (): the network's own head stays, and the second is like it.
        generator_steps: Moves C in a step (the paper's k), >= 1; default 4.
        trade_off: Factor of the discrepancy; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, generator_steps is below 1, a hidden
            layer has no unit, or the head cannot be drawn anew (`another_head`).
        TypeError: Hidden layers are asked for and the network's head is not linear.

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
        Heads are as deep as the network's unless `hidden` says otherwise. The authors' have two
        layers for SVHN and MNIST (2048 hidden units) and three for USPS (100 and 100) and VisDA.
        The row `mcd` of the scripts has one hidden layer of 1024. Source and target share a pass by
        default. Running statistics are updated once a step. There is no class balance loss, which
        the paper adds for VisDA. Evaluation uses the first head, not the mean of both.
    """

    def __init__(
        self,
        network: Network,
        *,
        hidden: Sequence[int] = (),
        generator_steps: int = 4,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        if generator_steps < 1:
            raise ValueError(f"generator_steps must be at least 1; got {generator_steps}")
        if len(hidden):
            network.head = deep_head(linear_head(network), hidden, batch_norm=True)
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


def deep_head(
    head: nn.Linear, hidden: Sequence[int], *, batch_norm: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """Make a head with hidden layers in place of a linear one, on its device and in its precision.

    Args:
        head: The linear head; its widths are taken, and its weights are not.
        hidden: Units of each hidden layer, >= 1. A layer is Linear, batch normalisation if asked
            for, ReLU and dropout.
        batch_norm: Whether hidden layers normalise by the batch.
        dropout: Probability that a hidden unit is set to zero in training, in [0, 1).

    Returns:
        Features (b, d) -> logits (b, classes), with PyTorch's initial weights.

    Raises:
        ValueError: A layer has no unit.

    Example:
        >>> from torch import nn
        >>> from da.feature.classifiers import deep_head
        >>> [type(layer).__name__ for layer in deep_head(nn.Linear(8, 3), (16,), dropout=0.5)]
        ['Linear', 'ReLU', 'Dropout', 'Linear']
    """
    if not all(is_whole(units) and units >= 1 for units in hidden):
        raise ValueError(f"hidden must be units of layers, each at least 1; got {hidden!r}")
    layers: list[nn.Module] = []
    widths = [head.in_features, *hidden]
    for inputs, units in pairwise(widths):
        layers.append(nn.Linear(inputs, units))
        layers += [nn.BatchNorm1d(units)] if batch_norm else []
        layers.append(nn.ReLU())
        layers += [nn.Dropout(dropout)] if dropout else []
    layers.append(nn.Linear(widths[-1], head.out_features))
    return nn.Sequential(*layers).to(head.weight)


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
