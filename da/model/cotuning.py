"""Co-Tuning: keep the source network's classifier and let it learn from the target too.

    L = CE(head(h), y) + trade_off * CE(source head(h), p(. | y))

h (b, d) are the features of the batch and y (b,) its labels. p(y_s | y_t) (classes, S) is the
category relationship from `da.model.relationship`: which of the S source classes a target class
looks like.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from da.arrays.choices import check_choice
from da.data.batches import LabelledBatch
from da.model.relationship import check_probabilities
from da.networks.network import Network, linear_head
from da.networks.statistics import frozen_statistics
from da.train.method import Method, Terms
from da.train.regularize import BatchNormTreatment


@final
class CoTuning(Method[LabelledBatch]):
    """Fine-tune with the source network's classifier as a second teacher.

    Use it if the target's classes resemble source classes, and few target labels are known. The
    source's classifier goes on learning, on the target's labels as the source would have put them.

        cross_entropy(head(h), y) + trade_off * cross_entropy(source head(h), p(. | y))

    h (b, d) are the features being trained. The source's head learns as slowly as a pretrained
    backbone, because it is pretrained too.

    Args:
        network: The network that is trained. It starts from `source_network`, with a new linear
            head for the target's classes.
        source_network: Its linear head is copied. The head must read features of the same width.
        relationship: p(y_s | y_t) (classes, S), from `category_relationship`.
        trade_off: Weight of the source's cross-entropy, >= 0. Default 2.3, as in the published
            code.
        batch_norm: "train" (default) or "keep"; see `da.train.Regularize`.

    Raises:
        TypeError: A head is not linear.
        ValueError: Widths or shapes do not match, a row of `relationship` is not a distribution,
            `trade_off` is negative, or `batch_norm` is none of the two words.

    Example:
        >>> import torch
        >>> from da.data import LabelledBatch
        >>> from da.model import CoTuning
        >>> from da.networks import mlp
        >>> source, network = mlp(inputs=4, classes=3), mlp(inputs=4, classes=2)
        >>> relationship = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
        >>> method = CoTuning(network, source, relationship)
        >>> batch = LabelledBatch(torch.rand(5, 4), torch.arange(5) % 2, torch.arange(5))
        >>> sorted(method.loss(batch, progress=0.0))
        ['source', 'task']

    Paper:
        You, Kou, Long, Wang: Co-Tuning for Transfer Learning. NeurIPS 2020.

    Differences:
        The relationship is estimated in another way than in the published code; see
        `category_relationship`. That code multiplies the logits of the source network by 0.884,
        which calibrates its ResNet-50. The scripts take them as they are, because no held-out
        source samples are there.
    """

    relationship: Tensor

    label_kind = "classes"

    def __init__(
        self,
        network: Network,
        source_network: Network,
        relationship: Tensor,
        *,
        trade_off: float = 2.3,
        batch_norm: BatchNormTreatment = "train",
    ) -> None:
        super().__init__(network)
        head, source_head = linear_head(network), source_network.head
        if not isinstance(source_head, nn.Linear):
            raise TypeError(
                "source_network must end in a linear head, which Co-Tuning goes on training; "
                f"got {type(source_head).__name__}"
            )
        if source_head.in_features != head.in_features:
            raise ValueError(
                "source_network's head must read features of the network's width "
                f"{head.in_features}; it reads {source_head.in_features}"
            )
        expected = (head.out_features, source_head.out_features)
        if relationship.shape != expected:
            raise ValueError(
                f"relationship must be (classes, source classes) = {expected}; "
                f"got {tuple(relationship.shape)}"
            )
        check_probabilities("relationship", relationship)
        if not trade_off >= 0:
            raise ValueError(f"trade_off must not be negative; got {trade_off}")
        check_choice("batch_norm", batch_norm, BatchNormTreatment)
        self.trade_off, self.batch_norm = trade_off, batch_norm
        self.source_head = copy.deepcopy(source_head).requires_grad_(True).to(head.weight)
        self.register_buffer("relationship", relationship.detach().to(head.weight, copy=True))

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        """The terms "task" and "source"."""
        with frozen_statistics(self) if self.batch_norm == "keep" else nullcontext():
            features, logits = self.network(batch.x)
        likely = self.relationship[batch.y]  # (b, S) distributions over source classes
        source = functional.cross_entropy(self.source_head(features), likely)
        return {
            "task": functional.cross_entropy(logits, batch.y),
            "source": self.trade_off * source,
        }

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """The network's groups, and the source's head at the rate of the backbone."""
        rate = learning_rate * (backbone_factor if self.network.pretrained else 1.0)
        return [
            *super().parameter_groups(learning_rate, backbone_factor),
            {"params": list(self.source_head.parameters()), "lr": rate},
        ]
