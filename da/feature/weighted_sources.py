"""Several labelled sources of which each counts by how much it resembles the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from da.arrays.numbers import as_numbers
from da.data.batches import Batch
from da.feature.multisource import domains_of
from da.networks.network import Network, Outputs
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, everywhere


@final
class WeightedSources(Adapt):
    """Learn from several labelled sources with a weight for each, and align each with the target.

    Use it if some sources are nearer to the target than others. The weights come from a rule that
    reads no target label, such as `da.shallow.similarity_weights`. It trains on
    `da.data.MultiSourceBatches`.

        sum_s v_s CE_s + trade_off * ramp(progress) * sum_s v_s alignment(f_s, f_target)

    Args:
        network: Maps x (b, ...) to Outputs.
        weights: v, one for each source, >= 0, not all 0; divided by their sum.
        alignment: (source (n, d), target (m, d)) -> scalar; None: no alignment.
        trade_off: Weight of the alignment; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Share of label mass spread over the classes, in [0, 1); default 0.

    Raises:
        ValueError: A weight is negative or not finite, all are 0, or there are not as many as
            sources in a batch.
        TypeError: In training, a batch does not say which source each row is of.

    Example:
        >>> import torch
        >>> from da.data import MultiSourceBatch
        >>> from da.feature import WeightedSources, mmd2
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = MultiSourceBatch(x, y, x, y, y, source_domain=torch.tensor([0, 0, 1, 1]))
        >>> method = WeightedSources(mlp(4, classes=4), [3.0, 1.0], mmd2)
        >>> method.weights.tolist(), list(method.loss(batch, progress=0.5))
        ([0.75, 0.25], ['task', 'align'])

    Paper:
        Mansour, Mohri, Rostamizadeh: Domain Adaptation with Multiple Sources. NIPS 2008 (mixtures
        of sources).

    Differences:
        The paper mixes the predictions of one model for each source. Here one network is trained on
        the mixture.
    """

    weights: Tensor

    def __init__(
        self,
        network: Network,
        weights: Sequence[float] | np.ndarray | Tensor,
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
        given = as_numbers(weights, "weights").float()
        if (
            given.ndim != 1
            or not torch.isfinite(given).all()
            or (given < 0).any()
            or not given.any()
        ):
            raise ValueError(
                "weights must be finite numbers >= 0, one for each source and not all 0; got "
                f"{given.tolist()}"
            )
        self.register_buffer("weights", given / given.sum())
        self.alignment = alignment

    def loss(self, batch: Batch, progress: float) -> Terms:
        domains = domains_of(batch)
        source, target = self.outputs(batch)
        labels = gather_rows(batch.source_y)
        terms = self.transfer(everywhere(source), everywhere(target), labels, domains)
        factor = self.trade_off * self.ramp(progress)
        return {n: term if n == "task" else factor * term for n, term in terms.items()}

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, domains: Tensor | None = None
    ) -> Terms:
        """All terms, the task's too; `domains` (n,) is each row's source, None: all are of one."""
        domains = torch.zeros_like(labels) if domains is None else domains
        rows = [domains == i for i in domains.unique()]
        if len(rows) != len(self.weights):
            raise ValueError(
                f"weights must be one for each source of a batch, {len(rows)}; got "
                f"{len(self.weights)}"
            )
        parts = [Outputs(source.features[own], source.logits[own]) for own in rows]
        tasks = [self.task(part, labels[own]) for part, own in zip(parts, rows, strict=True)]
        terms = {"task": (self.weights * torch.stack(tasks)).sum()}
        if self.alignment is not None:
            found = [self.alignment(part.features, target.features) for part in parts]
            terms["align"] = (self.weights * torch.stack(found)).sum()
        return terms
