"""Target rows gather around a class or around each other, and unsure ones are unknown (DANCE).

    clustering    entropy of each target row's likeness to prototypes and all other target rows
    separation    the entropy of predictions is driven away from half of its largest value

A row that finds no prototype may cluster with other target rows, so unknown classes are not pulled
into known ones. The last logit of the head is for unknown: it wins if the entropy of the others is
more than half of log K.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays.integers import whole_number
from da.arrays.matrices import at_least_single
from da.data.batches import Batch
from da.data.domain import Unlabelled, as_unlabelled
from da.networks.network import Network, Outputs, entropies, linear_head, unwrapped
from da.train.distributed import gather_rows
from da.train.loss_weights import check_factor
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, everywhere

TEMPERATURE = 0.05


def neighbourhood_entropy(
    features: Tensor, logits: Tensor, memory: Tensor, index: Tensor, *, temperature: float = 0.05
) -> Tensor:
    """Measure how unsure it is what each target row is like: a prototype, or another target row.

        mean_i H(softmax([logits_i, f_i . v_j / T for j != i]))

    Args:
        features: f (b, d), of length 1, of the rows of a batch.
        logits: (b, K), their likeness to the prototypes, divided by T.
        memory: v (m, d), of length 1 or 0: what is remembered of all target rows.
        index: Row of each sample in the memory, (b,).
        temperature: T, > 0. Default 0.05.

    Returns:
        A scalar from 0 to log(K + m - 1) in nats, in float32 at least; differentiable in features
        and logits.

    Example:
        >>> import torch
        >>> from da.feature.neighbourhood_entropy import neighbourhood_entropy
        >>> memory = torch.eye(3)  # unlike the row, which is like no prototype either
        >>> found = neighbourhood_entropy(memory[:1], torch.zeros(1, 2), memory, torch.tensor([0]))
        >>> round(found.item(), 3)  # log of 2 prototypes and 2 other rows
        1.386

    Paper:
        Saito, Kim, Sclaroff, Saenko: Universal Domain Adaptation through Self-Supervision.
        NeurIPS 2020 (DANCE).

    Differences:
        The rows of the batch are compared with the memory alone, as in the paper; the authors' code
        compares them with each other too.
    """
    likeness = at_least_single(features) @ memory.to(at_least_single(features)).T / temperature
    likeness = likeness.scatter(1, index[:, None], -torch.inf)  # (b, m)
    log_p = torch.cat([at_least_single(logits), likeness], dim=1).log_softmax(dim=1)
    return -(log_p.exp() * log_p.clamp(min=-1e30)).sum(dim=1).mean()


def entropy_separation(logits: Tensor, *, margin: float = 0.5) -> Tensor:
    """Drive the entropy of predictions away from half of its largest value.

        -mean_i [|H_i - r| > margin] |H_i - r|,    r = log(K) / 2

    Rows within the margin do not count: it is not clear on which side they belong.

    Args:
        logits: (n, K).
        margin: In nats, >= 0. Default 0.5, the paper's.

    Returns:
        A scalar <= 0 in nats, in float32 at least; differentiable.

    Example:
        >>> import torch
        >>> from da.feature.neighbourhood_entropy import entropy_separation
        >>> round(entropy_separation(torch.zeros(1, 8)).item(), 3)  # -|log 8 - log(8) / 2|
        -1.04

    Paper:
        Saito, Kim, Sclaroff, Saenko: Universal Domain Adaptation through Self-Supervision.
        NeurIPS 2020 (DANCE).

    Differences:
        None known. The authors' code counts a row within the margin by the margin, a constant.
    """
    check_factor("margin", margin)
    z = at_least_single(logits)
    away = (entropies(z) - math.log(z.shape[1]) / 2).abs()  # (n,)
    return -(away * (away > margin)).mean()


@final
class PrototypeHead(nn.Module):
    """Cosines to K prototypes, and "unknown" if their softmax is unsure.

    The last logit is the largest of the others plus H(p) - log(K) / 2, in nats.

    Args:
        features: Width d of the features.
        known: Number K of known classes, >= 2.

    Example:
        >>> import torch
        >>> from da.feature import PrototypeHead
        >>> PrototypeHead(4, known=3)(torch.zeros(2, 4)).argmax(dim=1).tolist()  # like no class
        [3, 3]
    """

    def __init__(self, features: int, known: int) -> None:
        super().__init__()
        features = whole_number(features, "features", least=1)
        known = whole_number(known, "known", least=2)
        self.prototypes = nn.Parameter(torch.randn(known, features))

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, d) -> logits (n, K + 1)."""
        directions = functional.normalize(self.prototypes, dim=1)
        logits = functional.normalize(features, dim=1) @ directions.T / TEMPERATURE  # (n, K)
        unsure = entropies(logits) - math.log(logits.shape[1]) / 2  # (n,)
        unknown = logits.max(dim=1).values + unsure
        return torch.cat([logits, unknown[:, None]], dim=1)


@final
class DANCE(Adapt):
    """Train a network for targets with unknown classes, by clusters of the target (DANCE).

    Use it if nobody knows which classes source and target share. The network's linear head of
    K + 1 outputs is replaced in place by a `PrototypeHead`.

        task          cross-entropy of the known classes on the source
        clustering    trade_off * ramp(progress) * `neighbourhood_entropy` of the target
        separation    trade_off * ramp(progress) * `entropy_separation` of the target

    Args:
        network: Maps x (b, ...) to Outputs of (known classes + 1) logits, the last for unknown; its
            head must be linear.
        target: The unlabelled rows that the batches are taken from, in the same order.
        margin: Of the separation, in nats, >= 0. Default 0.5, the paper's.
        trade_off: Factor of both terms; default 0.05, the paper's.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" or "domain" (default, as in the paper); see
            `da.train.Adapt`.
        label_smoothing: Probability mass spread over the known classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        TypeError: The network's head is not linear, or the target has labels.
        ValueError: There are fewer than three outputs, or an option is out of its range.

    Example:
        >>> import torch
        >>> from da.data import Batch, Unlabelled
        >>> from da.feature import DANCE
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = DANCE(mlp(3, classes=3 + 1), Unlabelled(x))  # three known classes
        >>> sorted(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['clustering', 'separation', 'task']

    Paper:
        Saito, Kim, Sclaroff, Saenko: Universal Domain Adaptation through Self-Supervision.
        NeurIPS 2020.

    Differences:
        Those of the two functions. The memory starts with rows of zeros, which are like nothing.
    """

    memory: Tensor  # (m, d), of length 1, or 0 before a row has been seen

    label_kind = "known classes"

    def __init__(
        self,
        network: Network,
        target: Unlabelled,
        *,
        margin: float = 0.5,
        trade_off: float = 0.05,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "domain",
        label_smoothing: float = 0.0,
    ) -> None:
        head = linear_head(network)
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        check_factor("margin", margin)
        self.target, self.margin = as_unlabelled(target, "target"), margin
        own = PrototypeHead(head.in_features, head.out_features - 1).to(head.weight)
        unwrapped(network).head = own
        rows = torch.zeros(len(self.target), head.in_features, device=head.weight.device)
        self.register_buffer("memory", rows)

    def task(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The cross-entropy of the known classes."""
        logits = outputs.logits[:, :-1]
        return functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def loss(self, batch: Batch, progress: float) -> Terms:
        source, target = self.outputs(batch)
        target, index = everywhere(target), gather_rows(batch.target_index)
        features = functional.normalize(at_least_single(target.features), dim=1)
        factor = self.trade_off * self.ramp(progress)
        # A copy: what is written below must not change what the gradient is taken of.
        seen = neighbourhood_entropy(
            features, target.logits[:, :-1], self.memory.clone(), index, temperature=TEMPERATURE
        )
        terms = {"clustering": factor * seen}
        terms |= {k: factor * v for k, v in self.transfer(source, target, batch.source_y).items()}
        with torch.no_grad():
            self.memory[index] = features.to(self.memory.dtype)
        return {"task": self.task(source, batch.source_y)} | terms

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return {"separation": entropy_separation(target.logits[:, :-1], margin=self.margin)}
