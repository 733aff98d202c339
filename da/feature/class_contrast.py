"""CAN: the same class of two domains is pulled together, and other classes are pushed apart.

    mean_c MMD^2(x of class c, y of class c) - mean_{c != c'} MMD^2(x of class c, y of class c')

Target rows have the class of their cluster. The clusters start from the mean directions of the
source's classes, and are found anew whenever all of the target has been seen.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.devices import narrowed, widened
from da.arrays.matrices import Array, at_least_single, check_two_samples, like
from da.arrays.numbers import as_numbers
from da.data.batches import Batch
from da.feature.class_weighted import weights_first
from da.feature.direction_clusters import spherical_clusters
from da.feature.growing_memory import GrowingMemory
from da.feature.mmd_estimators import MULTIPLIERS
from da.feature.views import check_fraction
from da.kernels.distances import gram_distances
from da.networks.network import Network, Outputs, linear_head
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, everywhere

FEWEST = 3  # rows of a cluster that counts, the paper's


@checked
def contrastive_discrepancy(
    source: Array, target: Array, source_labels: Array, target_labels: Array
) -> Array:
    """Measure how far apart the same classes of two domains are, less how far apart others are.

    Descending it pulls each class of the target onto the same class of the source, and away from
    the source's other classes.

        mean_c D(c, c) - mean_{c != c'} D(c, c')
        D(c, c') = MMD^2 of the source rows of class c and the target rows of class c'

    D is the biased squared MMD with five Gaussian kernels. Their bandwidth is the mean squared
    distance between the pooled rows of the two classes, for each pair its own. So the value does
    not depend on the common scale of all rows.

    Args:
        source: Rows (n, d), floats, n >= 1.
        target: Rows (m, d), m >= 1, of the kind of `source`.
        source_labels: Classes (n,), integers from 0.
        target_labels: Classes (m,), integers; a row with a label below 0 does not count.

    Returns:
        A scalar of the kind of `source`, differentiable in both samples. The means are over the
        classes that both samples have. Without such a class, value and gradient are 0; with one,
        the second mean is 0.

    Raises:
        ValueError: Labels do not fit the rows, widths or devices differ, or a value is not finite.
        TypeError: A sample does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import contrastive_discrepancy
        >>> x, labels = np.array([[0.0], [5.0]]), np.array([0, 1])
        >>> right = contrastive_discrepancy(x, x, labels, labels)
        >>> float(right) < 0 < float(contrastive_discrepancy(x, x, labels, labels[::-1]))
        True

    Paper:
        Kang, Jiang, Yang, Hauptmann: Contrastive Adaptation Network for Unsupervised Domain
        Adaptation. CVPR 2019.

    Differences:
        The gradient passes through the bandwidths; in the authors' code it does not. The means are
        over the classes of the batch; their code divides by the number of all classes.
    """
    x, y = check_two_samples(source, target)
    own = _labels(source_labels, "source_labels", x)
    other = _labels(target_labels, "target_labels", y)
    classes = own.unique()
    common = classes[(classes >= 0) & torch.isin(classes, other)]  # (K,)
    if not len(common):
        return like(0 * (x.sum() + y.sum()), source)
    wide = widened(torch.cat([x, y]))
    first, second = own[:, None] == common, other[:, None] == common  # (n, K), (m, K)
    kept = first.any(dim=1), second.any(dim=1)
    rows = wide[: len(x)][kept[0].to(wide.device)], wide[len(x) :][kept[1].to(wide.device)]
    # First the place and then the type: not every device has float64.
    members = [
        z[k].to(wide.device).to(wide.dtype) for z, k in zip((first, second), kept, strict=True)
    ]
    between = _between_classes(rows[0], rows[1], members[0], members[1])  # (K, K)
    within = between.diagonal().sum()
    k = len(common)
    value = within / k - (between.sum() - within) / max(1, k * (k - 1))
    return like(narrowed(value, x), source)


def _between_classes(x: Tensor, y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """D (K, K) of rows x (n, d) and y (m, d), whose classes u (n, K) and v (m, K) say by a 1."""
    xx, yy, xy = gram_distances(x, x), gram_distances(y, y), gram_distances(x, y)
    a, b = u.sum(dim=0), v.sum(dim=0)  # (K,)
    own_x, own_y = ((w * (d @ w)).sum(dim=0) for d, w in ((xx, u), (yy, v)))  # (K,), sums of pairs
    total = own_x[:, None] + own_y + 2 * (u.T @ xy @ v)
    size = a[:, None] + b
    s = total / (size * (size - 1))  # (K, K), the bandwidths
    s = torch.where(s > 0, s, 1)
    of_x, of_y = u.argmax(dim=1), v.argmax(dim=1)
    across = u.T @ _kernel(xy, s[of_x][:, of_y]) @ v / (a[:, None] * b)
    within_x = _within(xx, of_x, s) / a[:, None].square()
    within_y = _within(yy, of_y, s.T).T / b.square()
    return within_x + within_y - 2 * across


def _within(distances: Tensor, classes: Tensor, s: Tensor) -> Tensor:
    """Sum the kernel over the pairs of each class c: (K, K), with the bandwidths s[c] in row c."""
    i, j = (classes[:, None] == classes).nonzero(as_tuple=True)
    of = classes[i]
    return torch.zeros_like(s).index_add(0, of, _kernel(distances[i, j][:, None], s[of]))


def _kernel(distances: Tensor, s: Tensor) -> Tensor:
    """The sum of five Gaussian kernels, of bandwidths s times each of `MULTIPLIERS`."""
    return torch.stack([torch.exp(-distances / (a * s)) for a in MULTIPLIERS]).sum(dim=0)


def _labels(given: Array, name: str, rows: Tensor) -> Tensor:
    labels = as_numbers(given, name).to(rows.device)
    if labels.is_floating_point() or labels.shape != (len(rows),):
        raise ValueError(
            f"{name} must be integers, ({len(rows)},), one for each row; got {labels.dtype}, "
            f"{tuple(labels.shape)}"
        )
    return labels.long()


@final
class CAN(GrowingMemory, Adapt):
    """Align the domains class by class, and keep other classes apart (CAN).

    Use it if alignment of whole domains mixes classes. The target's classes come from clusters,
    which start from the mean directions of the source's classes. They are found anew, without a
    gradient, whenever as many rows have passed as the target has. Until then there is no alignment.

        task      cross-entropy on the source
        align     trade_off * ramp(progress) * sum of `contrastive_discrepancy` of the features
                  and of the probabilities

    A batch should hold several rows of most classes: `da.data.PairedBatches(..., balanced=True)`.

    Args:
        network: Maps x (b, ...) to Outputs; its head must be linear.
        distance: Rows further than this from their centre do not count, in [0, 1]; it is
            (1 - cosine) / 2. Default 1: all count, as in the paper for VisDA-2017. Its value for
            Office-31 is 0.05.
        trade_off: Factor of the alignment; default 0.3, the paper's.
        ramp: Progress in [0, 1] -> factor of the trade-off; default `weights_first`, because the
            network may start untrained, and clusters then mean nothing.
        batch_statistics: "source", "joint" or "domain" (default, as in the paper); see
            `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        TypeError: The network's head is not linear.
        ValueError: An option is out of its range.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import CAN
        >>> from da.networks import mlp
        >>> x, y, rows = torch.eye(3).repeat(3, 1), torch.arange(3).repeat(3), torch.arange(9)
        >>> method, batch = CAN(mlp(3, classes=3)), Batch(x, y, x, rows, rows)
        >>> terms = [method.loss(batch, progress=0.5)["align"].item() for _ in range(3)]
        >>> terms[:2], terms[2] < 0  # there are clusters once all rows have passed
        ([0.0, 0.0], True)

    Paper:
        Kang, Jiang, Yang, Hauptmann: Contrastive Adaptation Network for Unsupervised Domain
        Adaptation. CVPR 2019.

    Differences:
        Those of `contrastive_discrepancy` and `spherical_clusters`. Clusters are found in features
        that the training has passed, the target's latest and the source's since the last time; the
        paper runs the network over both domains. Its batches for the alignment hold a few classes
        with equally many rows of each domain; here the batch of the task is aligned. The alignment
        waits for the first tenth of the training; the paper starts from a trained backbone.
    """

    memory: Tensor  # (N, d), features, or 0 if a row was not seen yet
    labels: Tensor  # (N,), classes, or -1 if a row has none
    directions: Tensor  # (K, d), sums of the source's features of length 1
    passed: Tensor  # how many target rows, since the clusters were found

    growing = {"memory": 0.0, "labels": -1}

    def __init__(
        self,
        network: Network,
        *,
        distance: float = 1.0,
        trade_off: float = 0.3,
        ramp: Ramp = weights_first,
        batch_statistics: BatchStatistics = "domain",
        label_smoothing: float = 0.0,
    ) -> None:
        check_fraction("distance", distance)
        weight = linear_head(network).weight.detach()
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.distance = distance
        self.register_buffer("memory", torch.zeros_like(weight[:0]))
        self.register_buffer("labels", weight.new_zeros(0, dtype=torch.long))
        self.register_buffer("directions", torch.zeros_like(weight))
        self.register_buffer("passed", weight.new_zeros((), dtype=torch.long))

    def adaptation(self, source: Outputs, target: Outputs, batch: Batch, progress: float) -> Terms:
        source, target = everywhere(source), everywhere(target)
        labels, index = gather_rows(batch.source_y), gather_rows(batch.target_index)
        self.grow(int(index.max()) + 1)
        align = self.align(source, target, labels, self.labels[index])
        if self.training:
            with torch.no_grad():
                self._remember(source.features, labels, target.features, index)
        return {"align": self.trade_off * self.ramp(progress) * align}

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        """The alignment of target rows 0, 1, ..."""
        self.grow(len(target.features))
        own = self.labels[: len(target.features)]
        return {"align": self.align(source, target, labels, own)}

    def align(self, source: Outputs, target: Outputs, labels: Tensor, own: Tensor) -> Tensor:
        """The discrepancies of both layers, for labels (n,) of the source, (m,) of the target."""
        p, q = source.logits.softmax(dim=1), target.logits.softmax(dim=1)
        of_features = contrastive_discrepancy(source.features, target.features, labels, own)
        return of_features + contrastive_discrepancy(p, q, labels, own)

    def _remember(self, source: Tensor, labels: Tensor, target: Tensor, index: Tensor) -> None:
        unit = functional.normalize(at_least_single(source), dim=1).to(self.directions.dtype)
        self.directions.index_add_(0, labels, unit)
        self.memory[index] = target.to(self.memory.dtype)
        self.passed += len(index)
        there = (self.memory != 0).any(dim=1)  # (N,)
        if self.passed > there.sum():
            self._find_clusters(there)

    def _find_clusters(self, there: Tensor) -> None:
        labels, distance = spherical_clusters(self.memory[there], self.directions)
        near = distance <= self.distance
        rows = torch.bincount(labels[near], minlength=len(self.directions))  # (K,)
        counts = near & (rows[labels] >= FEWEST)
        self.labels.fill_(-1)
        self.labels[there] = torch.where(counts, labels, -1)
        self.directions.zero_()
        self.passed.zero_()
