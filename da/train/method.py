"""Method, the one interface that the training loop knows, and the three signatures made trainable.

    Align        (source, target) -> scalar               feature-based
    Reweight     (source, target) -> weights (n,)         instance-based
    Regularize   (network, source_network, x) -> scalar   model-based

`loss` returns named terms, trade-offs included; their sum is what the loop differentiates, their names are the metrics' names.
A method with logits, labels or an adversary is a small `Adapt` with its own `transfer`. Only a game of several moves overrides
`step`, and yields the terms of one move after another: the loop steps the optimiser after each.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Generic, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import Batch, LabelledBatch, TargetBatch
from da.networks.network import Network, Outputs, remember
from da.networks.statistics import frozen_statistics, split_statistics, use_statistics
from da.train.distributed import gather_rows

BatchType = TypeVar("BatchType", Batch, LabelledBatch, TargetBatch)
Terms = dict[str, Tensor]
BatchStatistics = Literal["source", "joint", "domain"]
BatchNormTreatment = Literal["train", "keep"]
Ramp = Callable[[float], float]  # progress in [0, 1] -> factor of the trade-off


class Method(nn.Module, ABC, Generic[BatchType]):
    """What can be trained: a network and a loss. Everything that must survive a restart is a parameter or a buffer."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    @abstractmethod
    def loss(self, batch: BatchType, progress: float) -> Terms:
        """The named terms whose sum is minimised; `progress` goes from 0 at the first step towards 1 at the last."""

    def step(self, batch: BatchType, progress: float) -> Iterator[Terms]:
        """The moves of one step, in order; one optimiser step follows each. One move unless the method is a game."""
        yield self.loss(batch, progress)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """Optimiser groups; a method with parameters of its own adds them here."""
        return self.network.parameter_groups(learning_rate, backbone_factor=backbone_factor)


def constant(progress: float) -> float:
    """Trade-off 1 throughout."""
    return 1.0


def sigmoid_ramp(progress: float) -> float:
    """2 / (1 + exp(-10 progress)) - 1: from 0 to 1, so that alignment waits for features worth aligning (Ganin et al. 2016)."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


def everywhere(outputs: Outputs) -> Outputs:
    """The outputs of all processes (`da.train.distributed`)."""
    return Outputs(*map(gather_rows, outputs))


def supervised_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits (b, classes) for integer labels (b,); mean squared error of logits (b, 1) for float labels (b,).

    Raises ValueError for float labels under a head with several outputs.
    """
    if not labels.is_floating_point():
        return functional.cross_entropy(logits, labels)
    if logits.shape != (len(labels), 1):
        raise ValueError(
            f"float labels ask for a regression by a head with one output; got logits {tuple(logits.shape)}"
        )
    return functional.mse_loss(logits.squeeze(1), labels.to(logits.dtype))


class Adapt(Method[Batch]):
    """Cross-entropy on the source + the terms of `transfer`, which a method adds by looking at both domains: one pass, one move.

    Args:
        network: maps x (b, ...) to Outputs.
        trade_off: weight of the transfer terms, in units of cross-entropy per unit of theirs.
        ramp: progress in [0, 1] -> factor of the trade-off.
        batch_statistics: what batch normalisation sees.
            source: statistics of source batches only; target batches are normalised by the running ones.
            joint: source and target pass as one batch, with common statistics.
            domain: each domain has statistics of its own, in training and at evaluation.
        label_smoothing: probability mass spread evenly over the classes in the cross-entropy, in [0, 1).
    """

    def __init__(
        self,
        network: Network,
        *,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(network)
        if batch_statistics not in get_args(BatchStatistics):
            raise ValueError(
                f"batch_statistics must be one of {', '.join(get_args(BatchStatistics))}; got {batch_statistics!r}"
            )
        self.trade_off, self.ramp = trade_off, ramp
        self.batch_statistics, self.label_smoothing = batch_statistics, label_smoothing
        if batch_statistics == "domain":
            split_statistics(network)

    @abstractmethod
    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        """The named terms beside the task's, before trade-off and ramp; labels (n,) are the source's.

        With several processes it sees the rows of all of them, as `da.train.distributed` explains.
        """

    def loss(self, batch: Batch, progress: float) -> Terms:
        source, target = self.outputs(batch)
        factor = self.trade_off * self.ramp(progress)
        terms = self.transfer(everywhere(source), everywhere(target), gather_rows(batch.source_y))
        terms = {name: factor * term for name, term in terms.items()}
        return {"task": self.task(source, batch.source_y)} | terms

    def task(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Cross-entropy of the logits."""
        return functional.cross_entropy(
            outputs.logits, labels, label_smoothing=self.label_smoothing
        )

    def outputs(self, batch: Batch) -> tuple[Outputs, Outputs]:
        """The network's outputs on source and target, by the chosen treatment of batch statistics."""
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


class Align(Adapt):
    """Feature-based: cross-entropy on the source + trade_off * ramp(progress) * alignment(source features, target features).

    Args:
        network: maps x (b, ...) to Outputs.
        alignment: (source (n, d), target (m, d)) -> scalar; None trains on the source alone (with batch_statistics "domain" this
            is AdaBN: source-only training, target statistics at evaluation).
        options: of `Adapt`: trade_off, ramp, batch_statistics, label_smoothing.
    """

    def __init__(
        self,
        network: Network,
        alignment: Callable[[Tensor, Tensor], Tensor] | None,
        *,
        trade_off: float = 1.0,
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
        self.alignment = alignment

    def loss(self, batch: Batch, progress: float) -> Terms:
        if self.alignment is None:
            return {"task": self.task(self._source_only(batch), batch.source_y)}
        return super().loss(batch, progress)

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        assert self.alignment is not None
        return {"align": self.alignment(source.features, target.features)}

    def _source_only(self, batch: Batch) -> Outputs:
        if self.batch_statistics == "domain":  # the target is seen for its statistics alone
            use_statistics(self.network, "target")
            with torch.no_grad():
                self.network(batch.target_x)
        use_statistics(self.network, "source")
        return self.network(batch.source_x)


class Reweight(Method[Batch]):
    """Instance-based: the mean of weight_i * cross-entropy_i over source samples.

    Args:
        weights: (n,) one for each source sample, >= 0; they are divided by their mean, so that the loss keeps its scale.
    """

    weights: Tensor

    def __init__(self, network: Network, weights: Tensor) -> None:
        super().__init__(network)
        if (
            weights.ndim != 1
            or not torch.isfinite(weights).all()
            or (weights < 0).any()
            or weights.sum() <= 0
        ):
            raise ValueError(
                f"weights must be finite, (n,), >= 0 and not all zero; got shape {tuple(weights.shape)}"
            )
        self.register_buffer("weights", (weights / weights.mean()).detach().float())

    def loss(self, batch: Batch, progress: float) -> Terms:
        losses = functional.cross_entropy(
            self.network(batch.source_x).logits, batch.source_y, reduction="none"
        )  # (b,)
        return {"task": (self.weights[batch.source_index] * losses).mean()}


class Regularize(Method[LabelledBatch]):
    """Model-based: `supervised_loss` + strength * penalty(network, source_network, x) on labelled samples, of classes or numbers.

    The loss is a mean over samples, to which the optimiser's weight decay lambda adds lambda / 2 ||w||^2.

    Args:
        penalty: (network, source_network, x) -> scalar; None for plain fine-tuning. Its network(x) costs no second pass.
        source_network: what the network started from; a frozen copy is kept. None: the network as it is now, or nothing where there is no
            penalty to ask for it.
        strength: factor of the penalty.
        decay: whether weight decay is added; not where the penalty replaces it (L2-SP, DELTA).
        batch_norm: train: batch normalisation uses each batch's statistics and its running ones move towards the target's; keep: it
            normalises by the running statistics it came with, which stay. Scale and shift learn either way.
    """

    def __init__(
        self,
        network: Network,
        penalty: Callable[[Network, Network, Tensor], Tensor] | None,
        *,
        source_network: Network | None = None,
        strength: float = 1.0,
        decay: bool = True,
        batch_norm: BatchNormTreatment = "train",
    ) -> None:
        super().__init__(network)
        if batch_norm not in ("train", "keep"):
            raise ValueError(f"batch_norm must be train or keep; got {batch_norm!r}")
        self.penalty, self.strength, self.decay, self.batch_norm = (
            penalty,
            strength,
            decay,
            batch_norm,
        )
        start = source_network or (None if penalty is None else network)
        self.source_network = (
            None if start is None else copy.deepcopy(start).requires_grad_(False).eval()
        )

    def train(self, mode: bool = True) -> Regularize:
        super().train(mode)
        if self.source_network is not None:
            self.source_network.eval()
        return self

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        with (
            remember(self.network),
            frozen_statistics(self.network) if self.batch_norm == "keep" else nullcontext(),
        ):
            terms = {"task": supervised_loss(self.network(batch.x).logits, batch.y)}
            if self.penalty is not None and self.source_network is not None:
                terms["penalty"] = self.strength * self.penalty(
                    self.network, self.source_network, batch.x
                )
        return terms

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        groups = super().parameter_groups(learning_rate, backbone_factor)
        return groups if self.decay else [group | {"weight_decay": 0.0} for group in groups]
