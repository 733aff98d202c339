"""MFSAN: a bottleneck and a classifier for each of several sources, which agree on the target."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import final

import torch
from torch import Tensor, nn

from da.arrays.integers import whole_number
from da.arrays.matrices import at_least_single
from da.data.batches import Batch
from da.feature.classifiers import another_head, discrepancy
from da.feature.mmd import mmd2
from da.feature.multisource import domains_of
from da.networks.network import Network, Outputs
from da.networks.statistics import frozen_statistics, kept_statistics, use_statistics
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, everywhere, sigmoid_ramp


class Branches(nn.Module):
    """A bottleneck and a head for each source, above a common backbone; together they are one head.

    Args:
        bottleneck: The first branch's bottleneck, (b, width) -> (b, d).
        head: The first branch's head, (b, d) -> (b, K). Other branches are drawn anew.
        count: How many branches there are.
    """

    def __init__(self, bottleneck: nn.Module, head: nn.Module, count: int) -> None:
        super().__init__()
        first = nn.Sequential(bottleneck, head)
        self.branches = nn.ModuleList([first, *(another_head(first) for _ in range(count - 1))])

    def forward(self, x: Tensor) -> Tensor:
        """The logarithm of the branches' mean prediction, (b, K), of rows x (b, width)."""
        each = [at_least_single(branch(x)).log_softmax(dim=1) for branch in self.branches]
        return torch.stack(each).logsumexp(dim=0) - math.log(len(each))


@final
class MFSAN(Adapt):
    """Learn a classifier from each of several sources, aligned with the target, and average them.

    Sources that differ among themselves need not be alike in one space: each has a space of its own
    with the target. It trains on `da.data.MultiSourceBatches`. The network's bottleneck and head
    are replaced, in place, by `Branches`; its features are then the backbone's.

        task            mean_s CE of branch s on source s
        align           w mean_s alignment(z_s of source s, z_s of the target)
        disagreement    w mean_{s < r} mean |p_s - p_r| on the target
        w = trade_off * ramp(progress)

    z_s is what the bottleneck of branch s gives, p_s what the branch predicts. The network predicts
    the mean over the branches.

    Args:
        network: Maps x (b, ...) to Outputs. Every layer of its bottleneck and its head that has
            parameters needs `reset_parameters`.
        sources: How many sources the batches have, >= 1.
        alignment: (source (n, d), target (m, d)) -> scalar; default `mmd2`.
        trade_off: Largest weight of both terms; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default `sigmoid_ramp`, the paper's.
        batch_statistics: "source", "joint" or "domain"; default "joint": in a branch its source and
            the target share a batch. See `da.train.Adapt`.
        label_smoothing: Share of label mass spread over the classes, in [0, 1); default 0.

    Raises:
        ValueError: `sources` is below 1 or not that of a batch, or a layer cannot be drawn anew.
        TypeError: In training, a batch does not say which source each row is of.

    Example:
        >>> import torch
        >>> from da.data import MultiSourceBatch
        >>> from da.feature import MFSAN
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = MultiSourceBatch(x, y, x, y, y, source_domain=torch.tensor([0, 0, 1, 1]))
        >>> list(MFSAN(mlp(4, classes=4), sources=2).loss(batch, progress=0.5))
        ['task', 'align', 'disagreement']

    Paper:
        Zhu, Zhuang, Wang: Aligning Domain-specific Distribution and Classifier for Cross-domain
        Classification from Multiple Sources. AAAI 2019.

    Differences:
        Cross-entropies are averaged over sources, not summed. The kernels are those of `mmd2`. A
        step sees all sources; in the authors' code it sees one.
    """

    def __init__(
        self,
        network: Network,
        sources: int,
        *,
        alignment: Callable[[Tensor, Tensor], Tensor] = mmd2,
        trade_off: float = 1.0,
        ramp: Ramp = sigmoid_ramp,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        count = whole_number(sources, "sources", least=1)
        network.head = Branches(network.bottleneck, network.head, count)
        network.bottleneck = nn.Identity()
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.alignment = alignment

    def loss(self, batch: Batch, progress: float) -> Terms:
        domains = domains_of(batch)
        with kept_statistics(self.network.head):  # the branches move theirs below
            source, target = self.outputs(batch)
        labels = gather_rows(batch.source_y)
        terms = self.transfer(everywhere(source), everywhere(target), labels, domains)
        factor = self.trade_off * self.ramp(progress)
        return {n: term if n == "task" else factor * term for n, term in terms.items()}

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, domains: Tensor | None = None
    ) -> Terms:
        """All terms, the task's too; `domains` (n,) is each row's source, None: all are of one."""
        branches = self.network.head.branches  # type: ignore[union-attr]
        domains = torch.zeros_like(labels) if domains is None else domains
        rows = [domains == i for i in domains.unique()]
        if len(rows) != len(branches):  # type: ignore[arg-type]
            raise ValueError(
                f"sources must be the number of sources of a batch, {len(rows)}; got "
                f"{len(branches)}"  # type: ignore[arg-type]
            )
        tasks, aligned, predictions = [], [], []
        for branch, own in zip(branches, rows, strict=True):  # type: ignore[arg-type]
            mine, seen = self._through(branch, source.features[own], target.features)
            tasks.append(self.task(mine, labels[own]))
            aligned.append(self.alignment(mine.features, seen.features))
            predictions.append(at_least_single(seen.logits).softmax(dim=1))
        apart = [discrepancy(p, q) for p, q in combinations(predictions, 2)]
        terms = {"task": torch.stack(tasks).mean(), "align": torch.stack(aligned).mean()}
        return terms | ({"disagreement": torch.stack(apart).mean()} if apart else {})

    def _through(
        self, branch: nn.Sequential, source: Tensor, target: Tensor
    ) -> tuple[Outputs, Outputs]:
        """A branch on rows of its source and of the target, as `batch_statistics` says."""
        if self.batch_statistics == "joint":
            z = branch[0](torch.cat([source, target]))
            logits, n = branch[1](z), len(source)
            return Outputs(z[:n], logits[:n]), Outputs(z[n:], logits[n:])
        use_statistics(branch, "source")
        z = branch[0](source)
        first = Outputs(z, branch[1](z))
        use_statistics(branch, "target")
        if self.batch_statistics == "source":
            with frozen_statistics(branch):
                z = branch[0](target)
                return first, Outputs(z, branch[1](z))
        z = branch[0](target)
        return first, Outputs(z, branch[1](z))
