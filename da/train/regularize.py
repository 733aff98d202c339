"""Regularize: fine-tune on labelled samples while a penalty keeps what the source network knows.

This is the model-based family as one class, for classes and for numbers. The penalties are in
`da.model`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

from torch import Tensor
from torch.nn import functional

from da.arrays.choices import check_choice
from da.data.batches import LabelledBatch
from da.networks.network import Network, remember
from da.networks.statistics import frozen_statistics
from da.train.loss_weights import (
    ClassWeights,
    check_factor,
    checked_class_weights,
    weighted_cross_entropy,
)
from da.train.method import Method, Terms

BatchNormTreatment = Literal["train", "keep"]


def supervised_loss(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None
) -> Tensor:
    """Compute the loss that fits the labels: cross-entropy for classes, squared error for numbers.

    Args:
        logits: (b, classes) for integer labels, (b, 1) for float labels.
        labels: (b,), integer classes from 0 or floats.
        class_weights: (classes,), for integer labels; see `weighted_cross_entropy`. Default None.

    Returns:
        The mean over the batch, a scalar.

    Raises:
        ValueError: The labels are floats and the head has several outputs.
    """
    if not labels.is_floating_point():
        return weighted_cross_entropy(logits, labels, class_weights=class_weights)
    if logits.shape != (len(labels), 1):
        raise ValueError(
            f"labels are {labels.dtype}, a regression, and need logits ({len(labels)}, 1); "
            f"got {tuple(logits.shape)}: give the network one output, or pass integer labels"
        )
    return functional.mse_loss(logits.squeeze(1), labels.to(logits.dtype))


class Regularize(Method[LabelledBatch]):
    """Fine-tune a network on labelled samples, with a penalty for moving away from its start.

    Use it for transfer to a task with few labels. Without a penalty it is plain fine-tuning. Labels
    may be classes or numbers.

        supervised_loss(logits, labels) + strength * penalty(network, source_network, x)

    The optimiser's weight decay lambda adds lambda / 2 ||w||^2 unless `decay` is False.

    Args:
        network: The network that is trained; maps x (b, ...) to `Outputs`.
        penalty: (network, source_network, x) -> scalar. None: plain fine-tuning. A call
            network(x) inside it reuses the outputs that the loss computed.
        source_network: What training started from; a frozen copy is kept in evaluation mode.
            Default None: a copy of `network` as it is now, or no copy if `penalty` is None.
        strength: Factor of the penalty. Default 1.
        decay: Whether the optimiser's weight decay applies. Default True. Pass False for a penalty
            that replaces it, such as L2-SP and DELTA.
        batch_norm: What batch normalisation does in training.
            "train" (default): it normalises by each batch, and its running statistics move.
            "keep": it normalises by its running statistics, which stay as they are.
            Its scale and shift learn either way.
        class_weights: Weights (classes,) of the cross-entropy by class, such as
            `da.train.balanced_class_weights(labels)`; see `da.train.Adapt`. Default None: all 1.

    Raises:
        ValueError: `batch_norm` is neither "train" nor "keep", `strength` is negative or not
            finite, or class weights are not finite numbers >= 0, not all zero.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.data import LabelledBatch
        >>> from da.networks import Network
        >>> from da.train import Regularize
        >>> def distance_to_start(network, source_network, x):
        ...     return (network.head.weight - source_network.head.weight).square().sum()
        >>> network = Network(nn.Identity(), nn.Identity(), nn.Linear(2, 2, bias=False))
        >>> _ = nn.init.zeros_(network.head.weight)
        >>> method = Regularize(network, distance_to_start, strength=0.1)  # or l2_sp, bss, ...
        >>> _ = nn.init.ones_(network.head.weight)  # as if training had moved it
        >>> rows = torch.arange(2)
        >>> batch = LabelledBatch(x=torch.ones(2, 2), y=rows, index=rows)
        >>> terms = method.loss(batch, progress=0.0)
        >>> {name: round(term.item(), 3) for name, term in terms.items()}
        {'task': 0.693, 'penalty': 0.4}

    Paper:
        Li, Grandvalet, Davoine: Explicit Inductive Bias for Transfer Learning with Convolutional
        Networks. ICML 2018 (a task loss plus a penalty towards the source network).

    Differences:
        The penalty is an argument. Each penalty names its own differences.
    """

    class_weights: Tensor | None
    label_kind = "classes or numbers"

    def __init__(
        self,
        network: Network,
        penalty: Callable[[Network, Network, Tensor], Tensor] | None,
        *,
        source_network: Network | None = None,
        strength: float = 1.0,
        decay: bool = True,
        batch_norm: BatchNormTreatment = "train",
        class_weights: ClassWeights | None = None,
    ) -> None:
        super().__init__(network)
        check_choice("batch_norm", batch_norm, BatchNormTreatment)
        check_factor("strength", strength)
        self.penalty, self.strength = penalty, strength
        self.decay, self.batch_norm = decay, batch_norm
        # The caller gives it again, so a checkpoint need not hold it.
        self.register_buffer("class_weights", checked_class_weights(class_weights), False)
        start = network if source_network is None and penalty is not None else source_network
        self.source_network: Network | None = None
        if start is not None:
            self.source_network = copy.deepcopy(start).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Regularize:
        """Switch the trained network's mode; the source network stays in evaluation mode."""
        super().train(mode)
        if self.source_network is not None:
            self.source_network.eval()
        return self

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        keep = self.batch_norm == "keep"
        statistics = frozen_statistics(self.network) if keep else nullcontext()
        with remember(self.network), statistics:
            logits = self.network(batch.x).logits
            terms = {"task": supervised_loss(logits, batch.y, class_weights=self.class_weights)}
            if self.penalty is not None and self.source_network is not None:
                penalty = self.penalty(self.network, self.source_network, batch.x)
                terms["penalty"] = self.strength * penalty
        return terms

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        groups = super().parameter_groups(learning_rate, backbone_factor)
        return groups if self.decay else [group | {"weight_decay": 0.0} for group in groups]
