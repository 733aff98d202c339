"""Several labelled sources and one unlabelled target: all of them aligned with each other.

To treat all sources as one needs nothing from this file: use `Align` with any discrepancy on the
batches of `da.data.multisource.MultiSourceBatches`. Matching every source on its own sees more:
two sources on opposite sides of the target differ from it, and their union may not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import narrowed, widened
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.data.batches import Batch
from da.data.multisource import MultiSourceBatch
from da.networks.network import Network, Outputs
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, everywhere


@checked
def moment_distance(sources: Sequence[Array], target: Array, *, order: int = 2) -> Array:
    """Measure how far apart several sources and a target are, from their moments.

    It compares every source with the target, and every source with every other source. Each source
    counts the same, whatever its number of rows. With one source it is the moment distance of this
    source to the target.

        sum_{k=1}^K [ 1/N sum_i ||E x_i^k - E t^k|| + 1/C(N, 2) sum_{i<j} ||E x_i^k - E x_j^k|| ]

    x_i^k are the features of source i, each to the power k on its own, t those of the target, and E
    is the mean over rows. Moments are raw: a shift of all samples changes those of order k > 1.

    Args:
        sources: N >= 1 samples (n_i, d), floats. Their order does not matter.
        target: Rows (m, d), m >= 1, of the kind of the sources.
        order: The highest power K >= 1; default 2, as in the paper's equation.

    Returns:
        A scalar >= 0 of the kind of `target`, a sum of the features' unit to the powers 1 to K;
        differentiable in all samples. The norms are not squared. So the gradient by a moment is of
        unit size if two moments differ, however little, and 0 if they are equal. Moments are
        computed in float64.

    Raises:
        ValueError: There is no source, `order` is < 1, widths or devices differ, or a value is not
            finite. The message names the source.
        TypeError: An input does not hold floats, or the inputs are of different kinds.

    Example:
        >>> import numpy as np
        >>> from da.feature import moment_distance
        >>> sources, target = [np.array([[1.0]]), np.array([[3.0]])], np.array([[0.0]])
        >>> float(moment_distance(sources, target, order=1))  # (1 + 3) / 2 + |1 - 3|
        4.0

    Paper:
        Peng, Bai, Xia, Huang et al.: Moment Matching for Multi-Source Domain Adaptation. ICCV 2019.

    Differences:
        It is the paper's equation, whose norms are not squared although its left side is called
        MD^2. The authors' code for digits has another formula: samples are centred, and powers go
        up to 5.
    """
    if len(sources) == 0:
        raise ValueError("sources must hold at least one sample (n, d); got none")
    checked: list[tuple[Tensor, Tensor]] = [
        check_two_samples(x, target, names=(f"sources[{i}]", "target"))
        for i, x in enumerate(sources)
    ]
    _check_order(order)
    samples = [x for x, _ in checked]
    samples.append(checked[0][1])  # the target is the last
    with full_precision(samples[0]):
        moments = torch.stack([_moments(x, order) for x in samples])  # (N + 1, order, d)
        of_sources, of_target = moments[:-1], moments[-1]
        first, second = torch.triu_indices(len(sources), len(sources), offset=1)  # (C(N, 2),) each
        to_target = torch.linalg.vector_norm(of_sources - of_target, dim=2)  # (N, order)
        gaps = of_sources[first] - of_sources[second]  # (C(N, 2), order, d)
        between = torch.linalg.vector_norm(gaps, dim=2)  # (C(N, 2), order)
        value = to_target.sum() / len(sources) + between.sum() / max(1, len(between))
    widest = max(samples, key=lambda x: x.dtype.itemsize)
    return like(narrowed(value, widest), target)


@final
class M3SDA(Adapt):
    """Learn from several labelled sources, and align every source with the target and the others.

    Use it if there are several labelled domains that differ among themselves. It trains on
    `da.data.MultiSourceBatches`, which say which rows are of which source.

        task       cross-entropy over the rows of all sources
        moments    trade_off * ramp(progress) * `moment_distance` of the features of each domain

    With equal numbers of rows from each source, the task is the mean over sources of their
    cross-entropies.

    Args:
        network: Maps x (b, ...) to Outputs(features, logits).
        order: The highest moment, >= 1; default 2.
        trade_off: Weight of the distance, >= 0, in units of cross-entropy per unit of the distance;
            default 0.1. The distance grows with the features' scale and number, and its norms are
            not squared. If trade_off is too large, the features become the same for every sample.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant. See
            `da.train.Adapt`.
        batch_statistics: "source", "joint" or "domain"; default "joint". See `da.train.Adapt`.
        label_smoothing: Share of label mass spread over the classes, in [0, 1); default 0.

    Raises:
        ValueError: `order` is < 1, or `batch_statistics` is unknown.
        TypeError: In training, a batch does not say which source each row is of.

    Example:
        >>> import torch
        >>> from da.data import MultiSourceBatch
        >>> from da.feature import M3SDA
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = MultiSourceBatch(x, y, x, y, y, source_domain=torch.tensor([0, 0, 1, 1]))
        >>> terms = M3SDA(mlp(4, classes=4)).loss(batch, progress=0.5)
        >>> list(terms), bool(terms["moments"] > 0)
        (['task', 'moments'], True)

    Paper:
        Peng, Bai, Xia, Huang et al.: Moment Matching for Multi-Source Domain Adaptation. ICCV 2019.

    Differences:
        There is one classifier for all sources. The paper has one for each source and predicts with
        their mean. Cross-entropies are averaged over sources, not summed. The default trade_off of
        0.1 is chosen for small networks and is not the paper's. M3SDA-beta is not included: there
        each source has a pair of classifiers whose disagreement on the target is a game against the
        features, as in `MCD`, and predictions are weighted by the accuracies that the single
        sources reach. The authors' code for digits has another formula than the paper: samples are
        centred, powers go up to 5, and the weight is 5e-4.
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
        _check_order(order)
        self.order = order

    def loss(self, batch: Batch, progress: float) -> Terms:
        """As `Adapt.loss`; the batch must say which source each row is of."""
        domains, labels = domains_of(batch), gather_rows(batch.source_y)
        source, target = self.outputs(batch)
        terms = self.transfer(everywhere(source), everywhere(target), labels, domains)
        factor = self.trade_off * self.ramp(progress)
        weighted = {name: factor * term for name, term in terms.items()}
        return {"task": self.task(source, batch.source_y)} | weighted

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, domains: Tensor | None = None
    ) -> Terms:
        """As `Adapt.transfer`; `domains` (n,) holds each row's source, None: all are of one."""
        if domains is None:
            sources = [source.features]
        else:
            sources = [source.features[domains == i] for i in domains.unique()]
        return {"moments": moment_distance(sources, target.features, order=self.order)}


def domains_of(batch: Batch) -> Tensor:
    """The source of each source row of a batch, of all processes, (n,).

    Raises:
        TypeError: The batch does not say it.
    """
    if not isinstance(batch, MultiSourceBatch):
        raise TypeError(
            f"batch must say which source each row is of; got {type(batch).__name__}: train on "
            "MultiSourceBatches"
        )
    return gather_rows(batch.source_domain)


def _check_order(order: int) -> None:
    """Raise an error for an order that is not a whole number >= 1."""
    whole_number(order, "order", least=1)


def _moments(x: Tensor, order: int) -> Tensor:
    """Raw moments 1 to `order` of each column of x (n, d): (order, d)."""
    x = widened(x)
    return torch.stack([(x**k).mean(dim=0) for k in range(1, order + 1)])
