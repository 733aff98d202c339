"""Several labelled sources and one unlabelled target: moments matched between every source and the target, and between the sources.

    MD^2 = sum_{k=1}^K [ 1/N sum_i ||E x_i^k - E t^k||_2 + 1/C(N, 2) sum_{i<j} ||E x_i^k - E x_j^k||_2 ]

x_i^k is source i's features, each to the power k on its own; E is the mean over rows. To pool the sources ("source-combined")
needs nothing from here: `Align` with any discrepancy, or none, on the batches of `da.data.batches.MultiSourceBatches`.

Peng, Bai, Xia, Huang, Saenko, Wang: Moment Matching for Multi-Source Domain Adaptation. ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision, like
from da.data.batches import Batch, MultiSourceBatch
from da.networks.network import Network, Outputs
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, everywhere


def moment_distance(sources: Sequence[Array], target: Array, *, order: int = 2) -> Array:
    """MD^2 of N sources (n_i, d) and target (m, d): a scalar >= 0, a sum of features' units^k over k = 1 ... order.

    sources: N >= 1 samples; their order does not matter, and each counts the same whatever its number of rows. Of one source
             nothing but its distance to the target is left.
    order:   K >= 1, the highest power; 2 in the paper's equation.

    Despite the name of the left side the norms are not squared: the gradient by a moment is of unit size wherever two moments differ,
    however little, and 0 where they are equal. Moments are raw, as in the equation, so that a shift of all samples changes those beyond
    the first. In float64. Raises ValueError for no source and for order < 1, else as every discrepancy, naming the source.
    """
    if len(sources) == 0:
        raise ValueError("sources must hold at least one sample (n, d); got none")
    checked: list[tuple[Tensor, Tensor]] = [
        check_two_samples(x, target, names=(f"sources[{i}]", "target"))
        for i, x in enumerate(sources)
    ]
    samples = [*(x for x, _ in checked), checked[0][1]]  # the target is the last
    with full_precision(samples[0]):
        moments = torch.stack([_moments(x, _whole(order)) for x in samples])  # (N + 1, order, d)
        of_sources, of_target = moments[:-1], moments[-1]
        first, second = torch.triu_indices(len(sources), len(sources), offset=1)  # (C(N, 2),) each
        to_target = torch.linalg.vector_norm(of_sources - of_target, dim=2)  # (N, order)
        between = torch.linalg.vector_norm(
            of_sources[first] - of_sources[second], dim=2
        )  # (C(N, 2), order)
        value = to_target.sum() / len(sources) + between.sum() / max(1, len(between))
    single = all(x.dtype == torch.float32 for x in samples)
    return like(value.float() if single else value, target)


def _whole(order: int) -> int:
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueError(f"order must be a whole number >= 1; got {order!r}")
    return order


def _moments(x: Tensor, order: int) -> Tensor:
    """Raw moments 1 ... order of each column of x (n, d): (order, d)."""
    x = x.double()
    return torch.stack([(x**k).mean(dim=0) for k in range(1, order + 1)])


@final
class M3SDA(Adapt):
    """Cross-entropy over the rows of all sources + trade_off * ramp(progress) * `moment_distance` of the features of each domain.

        task      mean over all source rows: with equal numbers of each, the mean over sources of their cross-entropies
        moments   moment_distance([features of source 1, ..., features of source N], features of the target)

    It trains on `da.data.batches.MultiSourceBatches`, which say which rows are of which source; TypeError for other batches.

    Args:
        network: maps x (b, ...) to Outputs.
        order: highest moment, >= 1.
        trade_off: in units of cross-entropy per unit of the distance. Its norms grow with the features' scale and number and are not
            squared: where trade_off is too large, features that are the same for every sample win over the sources' labels. 0.1
            is this project's choice for small networks, not the paper's.
        options: others of `Adapt`: ramp, batch_statistics, label_smoothing.

    Peng et al. 2019. Different here: one classifier for all sources, where the paper has one for each and predicts with their mean;
    cross-entropies are averaged, not summed, over sources. M3SDA-beta is not this: there each source has a pair of classifiers
    whose disagreement on the target is a game against the features, as in MCD, and predictions are weighted by the accuracies that
    the single sources reach. The authors' code for digits has another formula than the paper: samples centred, powers up to 5,
    weight 5e-4.
    """

    def __init__(
        self,
        network: Network,
        *,
        order: int = 2,
        trade_off: float = 0.1,
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
        self.order = _whole(order)

    def loss(self, batch: Batch, progress: float) -> Terms:
        if not isinstance(batch, MultiSourceBatch):
            raise TypeError(
                f"batch must say which source each row is of; got {type(batch).__name__}: train on MultiSourceBatches"
            )
        source, target = self.outputs(batch)
        domains = gather_rows(batch.source_domain)
        terms = self.transfer(
            everywhere(source), everywhere(target), gather_rows(batch.source_y), domains
        )
        factor = self.trade_off * self.ramp(progress)
        return {"task": self.task(source, batch.source_y)} | {
            name: factor * term for name, term in terms.items()
        }

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, domains: Tensor | None = None
    ) -> Terms:
        """As `Adapt.transfer`; domains (n,) are the sources of the rows, None: they are all of one."""
        rows = (
            [torch.ones_like(labels, dtype=torch.bool)]
            if domains is None
            else [domains == i for i in domains.unique()]
        )
        return {
            "moments": moment_distance(
                [source.features[mine] for mine in rows], target.features, order=self.order
            )
        }
