"""The interface between a method and the training loop, and the base of adaptation methods.

A method holds a network and says what its loss is. `da.train.loop.fit` does the rest. Read this
file if you want to train with a loss of your own:

- A loss that compares two batches of features is a function. Pass it to `Align`.
- A loss that needs logits, labels or an adversary is a small `Adapt` with its own `transfer`.
- A game of several moves overrides `Method.step`. It yields the terms of one move after another,
  and the loop steps the optimiser after each.

Each of the three families of domain adaptation has one class that takes a function of yours:

    align.py        Align        (source, target) -> scalar               feature-based
    reweight.py     Reweight     (source, target) -> weights (n,)         instance-based
    regularize.py   Regularize   (network, source_network, x) -> scalar   model-based
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.arrays.checked_classes import CheckedConstructor
from da.arrays.choices import check_choice
from da.data.batches import Batch, LabelledBatch, TargetBatch
from da.networks.network import Network, Outputs, checked_network
from da.networks.statistics import frozen_statistics, split_statistics, use_statistics
from da.train.distributed import gather_rows
from da.train.label_checks import LabelKind
from da.train.loss_weights import (
    ClassWeights,
    check_factor,
    checked_class_weights,
    weighted_cross_entropy,
)
from da.train.search_space import ADAPTATION, RATE, SearchSpace

BatchType = TypeVar("BatchType", Batch, LabelledBatch, TargetBatch)
Terms = dict[str, Tensor]
BatchStatistics = Literal["source", "joint", "domain"]
Ramp = Callable[[float], float]  # progress in [0, 1] -> factor of the trade-off


class Method(CheckedConstructor, nn.Module, ABC, Generic[BatchType]):
    """Anything that `fit` can train: a network together with its loss.

    Derive from it if none of `Adapt`, `Align`, `Reweight` and `Regularize` fits. Only `loss` must
    be written. State that has to survive a restart must be a parameter or a buffer.

    Args:
        network: The network that is trained and evaluated; maps x (b, ...) to `Outputs`.

    Attributes:
        label_kind: What the labels of the stream must be, which `fit` checks before the first step:
            "classes", "known classes" (the head's last output is for unknown ones), "numbers",
            "classes or numbers", "tasks" or "unread". None, the default of a method of your own, is
            not checked.
        followers: Names of its other copies of the network that follow the weights, such as
            "teacher" or "method.network". Default: none.
        search_space: What may be tuned and in which range; see `da.train.search_space`. Default:
            the learning rate.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.data import LabelledBatch
        >>> from da.networks import Network
        >>> from da.train import Method
        >>> class Supervised(Method):
        ...     def loss(self, batch, progress):
        ...         logits = self.network(batch.x).logits
        ...         return {"task": nn.functional.cross_entropy(logits, batch.y)}
        >>> network = Network(nn.Identity(), nn.Identity(), nn.Identity())  # logits are x itself
        >>> rows = torch.arange(2)
        >>> batch = LabelledBatch(x=torch.zeros(2, 2), y=rows, index=rows)
        >>> terms = Supervised(network).loss(batch, progress=0.0)
        >>> round(terms["task"].item(), 3)  # log 2: both classes are equally likely
        0.693
    """

    label_kind: ClassVar[LabelKind | None] = None
    followers: ClassVar[tuple[str, ...]] = ()
    search_space: ClassVar[SearchSpace] = RATE

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = checked_network(network)

    @abstractmethod
    def loss(self, batch: BatchType, progress: float) -> Terms:
        """Compute the named terms whose sum is minimised.

        Args:
            batch: What the stream yields: `Batch`, `LabelledBatch` or `TargetBatch`.
            progress: Steps done / steps in all, from 0 at the first step towards 1 at the last.

        Returns:
            Name -> scalar, trade-offs included. The loop logs each as "loss/<name>".
        """

    def step(self, batch: BatchType, progress: float) -> Iterator[Terms]:
        """Yield the terms of each move of one step; the loop steps the optimiser after each move.

        By default there is one move, `loss`. What follows a `yield` runs once for each batch.
        """
        yield self.loss(batch, progress)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """Say what the optimiser updates and how fast; a method's own parameters need a group.

        Args:
            learning_rate: Rate of new layers at the start.
            backbone_factor: A pretrained backbone learns at this multiple of the rate.

        Returns:
            Groups as `torch.optim` takes them, each with "params" and "lr".
        """
        return self.network.parameter_groups(learning_rate, backbone_factor=backbone_factor)


def constant(progress: float) -> float:
    """Keep the trade-off as it is from the first step to the last: the default of most methods.

    Args:
        progress: Steps done / steps in all, in [0, 1]; ignored.

    Returns:
        The factor 1.

    Example:
        >>> from da.train import constant
        >>> constant(0.0), constant(1.0)
        (1.0, 1.0)
    """
    return 1.0


@checked
def sigmoid_ramp(progress: float) -> float:
    """Let the trade-off rise smoothly from 0 to its full value.

    Use it if early features are too poor to be worth aligning. Adversarial methods do.

        2 / (1 + exp(-10 progress)) - 1

    Args:
        progress: Steps done / steps in all, in [0, 1].

    Returns:
        The factor of the trade-off, from 0 to 0.9999.

    Example:
        >>> from da.train import sigmoid_ramp
        >>> [round(sigmoid_ramp(progress), 2) for progress in (0.0, 0.1, 0.5, 1.0)]
        [0.0, 0.46, 0.99, 1.0]

    Paper:
        Ganin, Ustinova, Ajakan, Germain et al.: Domain-Adversarial Training of Neural Networks.
        JMLR 17, 2016 (the schedule of lambda_p, with gamma = 10).

    Differences:
        None known.
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


def everywhere(outputs: Outputs) -> Outputs:
    """Collect the outputs of all processes; see `da.train.distributed`."""
    return Outputs(*map(gather_rows, outputs))


class Adapt(Method[Batch]):
    """The base of methods that learn from source labels and look at both domains.

    Its loss is the cross-entropy on the source plus the terms of `transfer`, the one function that
    a subclass has to write. Both domains pass through the network once and there is one move a
    step.

        cross_entropy(source) + trade_off * ramp(progress) * sum of the terms of `transfer`

    Args:
        network: Maps x (b, ...) to `Outputs`.
        trade_off: Weight of the transfer terms, in units of cross-entropy per unit of theirs.
            Default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off. Default `constant`, the factor 1;
            `sigmoid_ramp` rises from 0 to 1.
        batch_statistics: What batch normalisation normalises by; no effect without such layers.
            "source": the statistics of source batches. Target batches are normalised by the
            running statistics, and leave them alone.
            "joint" (default): both domains pass as one batch and share its statistics.
            "domain": each domain has statistics of its own, in training and at evaluation.
            The layers of `network` are replaced in place for that.
        label_smoothing: Probability mass that the cross-entropy spreads evenly over the classes,
            in [0, 1). Default 0.
        class_weights: Weights (classes,) of a row's cross-entropy by its class, such as
            `balanced_class_weights(source.y)`; the mean is over rows. Default None: all 1.

    Raises:
        ValueError: `batch_statistics` is none of the three, `trade_off` is negative or not finite,
            `label_smoothing` is outside [0, 1), or the class weights are not as above.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.data import Batch
        >>> from da.networks import Network
        >>> from da.train import Adapt
        >>> class ConfidentTarget(Adapt):  # pushes target logits away from 0
        ...     def transfer(self, source, target, labels):
        ...         return {"confidence": -target.logits.abs().mean()}
        >>> network = Network(nn.Identity(), nn.Identity(), nn.Identity())  # logits are x itself
        >>> method = ConfidentTarget(network, trade_off=0.5)
        >>> rows = torch.arange(2)
        >>> batch = Batch(torch.zeros(2, 2), rows, torch.full((2, 2), 3.0), rows, rows)
        >>> terms = method.loss(batch, progress=0.0)
        >>> {name: round(term.item(), 3) for name, term in terms.items()}
        {'task': 0.693, 'confidence': -1.5}
    """

    class_weights: Tensor | None
    label_kind: ClassVar[LabelKind | None] = "classes"
    search_space: ClassVar[SearchSpace] = ADAPTATION

    def __init__(
        self,
        network: Network,
        *,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
        class_weights: ClassWeights | None = None,
    ) -> None:
        super().__init__(network)
        check_choice("batch_statistics", batch_statistics, BatchStatistics)
        check_factor("trade_off", trade_off)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1); got {label_smoothing}")
        self.trade_off, self.ramp = trade_off, ramp
        self.batch_statistics, self.label_smoothing = batch_statistics, label_smoothing
        # The caller gives it again, so a checkpoint need not hold it.
        self.register_buffer("class_weights", checked_class_weights(class_weights), False)
        if batch_statistics == "domain":
            split_statistics(network)

    @abstractmethod
    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        """Compute the terms that stand beside the cross-entropy.

        With several processes it sees the rows of all of them; see `da.train.distributed`.

        Args:
            source: Features (n, d) and logits (n, classes) of the source batch.
            target: Features (m, d) and logits (m, classes) of the target batch.
            labels: Classes (n,) of the source batch.

        Returns:
            Name -> scalar, before trade-off and ramp.
        """

    def loss(self, batch: Batch, progress: float) -> Terms:
        source, target = self.outputs(batch)
        terms = self.adaptation(source, target, batch, progress)
        return {"task": self.task(source, batch.source_y)} | terms

    def adaptation(self, source: Outputs, target: Outputs, batch: Batch, progress: float) -> Terms:
        """Compute the terms of `transfer` with trade-off and ramp, from outputs that are there."""
        factor = self.trade_off * self.ramp(progress)
        terms = self.transfer(everywhere(source), everywhere(target), gather_rows(batch.source_y))
        return {name: factor * term for name, term in terms.items()}

    def task(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Compute the cross-entropy of the logits (b, classes) at the labels (b,)."""
        return weighted_cross_entropy(
            outputs.logits,
            labels,
            class_weights=self.class_weights,
            label_smoothing=self.label_smoothing,
        )

    def outputs(self, batch: Batch) -> tuple[Outputs, Outputs]:
        """Run the network on the source batch, then the target's, as `batch_statistics` says."""
        if self.batch_statistics == "joint":
            features, logits = self.network(torch.cat([batch.source_x, batch.target_x]))
            n = len(batch.source_x)
            return Outputs(features[:n], logits[:n]), Outputs(features[n:], logits[n:])
        use_statistics(self.network, "source")
        source = self.network(batch.source_x)
        if self.batch_statistics == "source":
            with frozen_statistics(self.network):
                return source, self.network(batch.target_x)
        use_statistics(self.network, "target")
        return source, self.network(batch.target_x)
