"""UniOT: transport between target rows and classes finds what both domains have, and what not.

    detection    unbalanced transport between target rows and prototypes of the source's classes;
                 rows that it is sure of learn their class
    discovery    balanced transport between target rows and clusters of the target's own; a row and
                 its nearest neighbour learn each other's cluster

Nobody has to say how many classes are unknown, nor to choose a threshold for them.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import at_least_single, full_precision
from da.data.batches import Batch
from da.feature.growing_memory import GrowingMemory
from da.feature.target_clusters import discovery_loss, nearest_others
from da.feature.unbalanced_transport import (
    REGULARIZATION,
    RELAXATION,
    ROUGHLY,
    common_labels,
    filled,
    plan_and_potential,
)
from da.feature.views import check_fraction
from da.networks.adversary import adversary_group
from da.networks.network import Network, Outputs, linear_head, unwrapped
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, everywhere

TEMPERATURE = 0.1
FIRST = 0.01  # share of the training before detection begins


@final
class TransportHead(nn.Module):
    """Cosines to K prototypes, and "unknown" for rows that get too little mass in a transport.

    The last logit is the largest of the others, plus T times by how much the row's plan falls short
    of the mass of a row. Nothing is unknown before the first transport.

    Args:
        features: Width d of the features.
        known: Number K of known classes, >= 2.

    Example:
        >>> import torch
        >>> from da.feature import TransportHead
        >>> TransportHead(4, known=3)(torch.zeros(2, 4)).shape
        torch.Size([2, 4])
    """

    potential: Tensor  # (K,), of the classes, in units of the regularization
    level: Tensor  # the least log of a plan's entry with which a row is of a class

    @checked
    def __init__(self, features: int, known: int) -> None:
        super().__init__()
        features = whole_number(features, "features", least=1)
        known = whole_number(known, "known", least=2, most=2**31)
        self.prototypes = nn.Parameter(torch.randn(known, features))
        self.register_buffer("potential", torch.zeros(known))
        self.register_buffer("level", torch.tensor(-1e4))

    def directions(self) -> Tensor:
        """The prototypes, of length 1, (K, d)."""
        return functional.normalize(self.prototypes, dim=1)

    def cosines(self, features: Tensor) -> Tensor:
        """Features (n, d) -> cosines with the prototypes (n, K)."""
        return functional.normalize(features, dim=1) @ self.directions().T

    def remember(self, potential: Tensor, mass: Tensor, rows: Tensor) -> None:
        """Take the potentials of a transport of `rows` equal rows whose plan has the sum `mass`."""
        share = RELAXATION / (RELAXATION + REGULARIZATION)
        self.potential.copy_(potential)
        self.level.copy_(mass.log() - (1 - share) * rows.log())

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, d) -> logits (n, K + 1)."""
        cosines = self.cosines(features)
        share = RELAXATION / (RELAXATION + REGULARIZATION)
        log_plan = at_least_single(cosines) / REGULARIZATION + self.potential  # (n, K)
        most = log_plan.max(dim=1).values - share * log_plan.logsumexp(dim=1)  # (n,)
        unknown = cosines.max(dim=1).values / TEMPERATURE + TEMPERATURE * (self.level - most)
        return torch.cat([cosines / TEMPERATURE, unknown[:, None].to(cosines.dtype)], dim=1)


@final
class UniOT(GrowingMemory, Adapt):
    """Train a network for targets with unknown classes, by two transports (UniOT).

    Use it if nobody knows which classes source and target share. The network's linear head of
    K + 1 outputs is replaced in place by a `TransportHead`.

        task         cross-entropy of the known classes on the source
        discovery    trade_off * ramp(progress) * `discovery_loss` of the target
        detection    trade_off * ramp(progress) * cross-entropy of target rows with a label

    The labels are the `common_labels` of an `unbalanced_plan` of the batch and a memory of the
    target's latest rows, `filled`. The masses of the classes follow the plans by a running mean.

    Args:
        network: Maps x (b, ...) to Outputs of (known classes + 1) logits, the last for unknown; its
            head must be linear.
        clusters: Of the target, >= 2. Default 50, the authors' for Office-31. They have 150 for
            Office-Home, 500 for VisDA-2017 and 1000 for DomainNet.
        memory: How many of the latest target rows are remembered, >= 1. Default 2000, the authors'
            for Office-31. They have 4000 and 5000 for the others.
        threshold: A row is like a class if its largest cosine is above it, in [0, 1]; see `filled`.
            Default 0.7, the authors'.
        momentum: Share of the running mean of the masses that stays, in [0, 1]. Default 0.7, the
            authors' for Office-31 and VisDA-2017. They have 1 for Office-Home and DomainNet: the
            masses stay equal.
        trade_off: Factor of both terms; default 0.1, the authors'.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" or "domain" (default); see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the known classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        TypeError: The network's head is not linear.
        ValueError: There are fewer than three outputs, or an option is out of its range.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import UniOT
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = UniOT(mlp(3, classes=3 + 1), clusters=4)  # three known classes
        >>> sorted(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['detection', 'discovery', 'task']

    Paper:
        Chang, Shi, Tuan, Wang: Unified Optimal Transport Framework for Universal Domain Adaptation.
        NeurIPS 2022.

    Differences:
        Those of `filled`. In evaluation the paper finds a plan of all target rows at once; here a
        row gets its part of the latest plan of the training, by the potentials of the classes.
        The memory starts empty; the paper's starts full. The balanced transport takes all of the
        memory; the paper draws as many rows of it as there are clusters. Detection begins after a
        hundredth of the training, as 100 of the paper's 10,000 steps. The paper puts two layers
        between the backbone and the prototypes; here the network's bottleneck has this place.
        Prototypes are scaled to length 1 where they are used; the authors scale them after a step.
    """

    memory: Tensor  # (N, d), of length 1
    memory_index: Tensor  # (N,), which rows of the target they are
    shares: Tensor  # (K,), masses of the classes

    label_kind = "known classes"
    growing = {"memory": 0.0, "memory_index": -1}

    def __init__(
        self,
        network: Network,
        *,
        clusters: int = 50,
        memory: int = 2000,
        threshold: float = 0.7,
        momentum: float = 0.7,
        trade_off: float = 0.1,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "domain",
        label_smoothing: float = 0.0,
    ) -> None:
        check_fraction("threshold", threshold)
        check_fraction("momentum", momentum)
        head = linear_head(network)
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        clusters = whole_number(clusters, "clusters", least=2)
        self.rows = whole_number(memory, "memory", least=1)
        self.threshold, self.momentum = threshold, momentum
        d, k = head.in_features, head.out_features - 1
        unwrapped(network).head = TransportHead(d, k).to(head.weight)
        self.clusters = nn.Linear(d, clusters, bias=False).to(head.weight)
        self.register_buffer("memory", head.weight.new_zeros(0, d))
        self.register_buffer("memory_index", head.weight.new_zeros(0, dtype=torch.long))
        self.register_buffer("shares", head.weight.new_full((k,), 1 / k))

    def task(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The cross-entropy of the known classes."""
        logits = outputs.logits[:, :-1]
        return functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def loss(self, batch: Batch, progress: float) -> Terms:
        source, target = self.outputs(batch)
        target, index = everywhere(target), gather_rows(batch.target_index)
        factor = self.trade_off * self.ramp(progress)
        features = functional.normalize(at_least_single(target.features), dim=1)  # (b, d)
        with full_precision(features):
            near = nearest_others(features, index, self.memory, self.memory_index)
            prototypes = functional.normalize(self.clusters.weight, dim=1)
            discovery = discovery_loss(
                features, near, self.memory, prototypes, temperature=TEMPERATURE
            )
            labels = self._detected(features.detach())
        if self.training:
            self.memory = torch.cat([self.memory, features.detach().to(self.memory)])[-self.rows :]
            self.memory_index = torch.cat([self.memory_index, index])[-self.rows :]
        if progress <= FIRST:
            labels = torch.full_like(labels, -1)
        terms = self.transfer(source, target, labels) | {"discovery": discovery}
        task = {"task": self.task(source, batch.source_y)}
        return task | {name: factor * term for name, term in terms.items()}

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        """The cross-entropy of target rows that have labels (b,); -1 is no label."""
        sure = labels >= 0
        losses = functional.cross_entropy(
            at_least_single(target.logits[:, :-1]), labels.clamp(min=0), reduction="none"
        )
        return {"detection": (losses * sure).sum() / sure.sum().clamp(min=1)}

    @torch.no_grad()
    def _detected(self, features: Tensor) -> Tensor:
        """Labels (b,) of rows of the batch by a plan of them and the memory, or -1."""
        rows = torch.cat([self.memory.to(features), features])  # (n, d)
        prototypes = self._head.directions().to(features)
        cosines, counts = filled(rows, prototypes, self.shares, threshold=self.threshold)
        # A row that stands for several has a larger part in the reference of the entropy too.
        cost = -cosines - REGULARIZATION * counts.log()[:, None]
        total = counts.sum()
        plan, potential = plan_and_potential(
            cost, counts / total, self.shares, tolerance=ROUGHLY, start=self._head.potential
        )
        labels, shares = common_labels(plan, counts)
        if self.training:
            self.shares.lerp_(shares.to(self.shares), 1 - self.momentum)
            self._head.remember(potential, plan.sum(), total)
        return labels[: len(rows)][-len(features) :]

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        groups = super().parameter_groups(learning_rate, backbone_factor)
        return [*groups, adversary_group(self.clusters, learning_rate)]

    @property
    def _head(self) -> TransportHead:
        head = unwrapped(self.network).head
        assert isinstance(head, TransportHead)
        return head
