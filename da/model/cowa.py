"""Pseudo-labels of a target, each with a weight that says how far it can be trusted (CoWA-JMDS).

Each class is a Gaussian in the features. A label is the class of the highest posterior. Its weight
is high if no other class comes near and if the network agrees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Generic, NamedTuple, final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.matrices import Array, as_matrix, at_least_single, full_precision, like
from da.data.batches import TargetBatch
from da.data.domain import Unlabelled, as_unlabelled
from da.data.one_by_one import AnyTransform, as_transform
from da.model.target_pass import target_outputs
from da.networks.network import Network, linear_head
from da.train.distributed import gather_rows
from da.train.method import Method, Terms
from da.train.search_space import RATE

RIDGE = 1e-6  # added to the variances, in units of features of length 1
HEAD_FACTOR = 0.1  # of the rate of the new layers


class WeightedLabels(NamedTuple, Generic[Array]):
    """Pseudo-labels and how far each can be trusted.

    Attributes:
        labels: Classes (n,), int64.
        weights: (n,), from 0 to 1.
    """

    labels: Array
    weights: Array


@torch.no_grad()
@checked
def weighted_pseudo_labels(features: Array, logits: Array) -> WeightedLabels[Array]:
    """Label target rows by a mixture of Gaussians, and weigh the labels (JMDS).

    It needs no training and no source data. Rows far from any other class, on whose label the
    network is sure too, have a weight near 1.

        means of the classes by the network's probabilities p, one covariance S + ridge I
        g_ik = posterior of class k; then mean and covariance of each class by g; g anew
        y_i  = argmax_k g_ik
        w_i  = gap_i / max_j gap_j * p_i,y_i,    gap_i = log g_i(first) - log g_i(second)

    Args:
        features: (n, d), floats; each row is scaled to length 1.
        logits: (n, K), floats, K >= 2.

    Returns:
        Labels (n,) and weights (n,), in float64, without gradient, of the kind of `features`. A
        class to which the network gives no probability at all gets no label.

    Raises:
        ValueError: The shapes do not match, there is one class, or a value is not finite.
        TypeError: The inputs are not floats.

    Example:
        >>> import torch
        >>> from da.model import weighted_pseudo_labels
        >>> features = torch.tensor([[1.0, 0.1], [1.0, -0.1], [0.1, 1.0], [-0.1, 1.0], [0.6, 0.7]])
        >>> logits = 4 * features
        >>> found = weighted_pseudo_labels(features, logits)
        >>> found.labels[:4].tolist(), bool(found.weights[4] < found.weights[:4].min())
        ([0, 0, 1, 1], True)

    Paper:
        Lee, Jung, Yim, Yoon: Confidence Score for Source-Free Unsupervised Domain Adaptation.
        ICML 2022.

    Differences:
        It is computed in float64. In the authors' code a covariance that is singular in float32
        gets a hundred times the ridge, 1e-4.
    """
    z = as_matrix(features, "features").double()
    scores = as_matrix(logits, "logits").double()
    if len(z) != len(scores) or scores.shape[1] < 2:
        raise ValueError(
            "logits must be (n, K), K >= 2, a row for each of the features "
            f"{tuple(z.shape)}; got {tuple(scores.shape)}"
        )
    with full_precision(z):
        z = functional.normalize(z, dim=1)
        p = scores.softmax(dim=1)  # (n, K)
        even = torch.full_like(p, 1 / p.shape[1])
        posterior = log_posterior(z, p, even)  # (n, K)
        shares = posterior.exp()
        posterior = log_posterior(z, shares, shares)
        first, second = posterior.topk(2, dim=1).values.clamp(min=-1e300).unbind(dim=1)
        labels = posterior.argmax(dim=1)  # (n,)
        gap = first - second
        sure = p.gather(1, labels[:, None])[:, 0]
        weights = gap / gap.max().clamp(min=torch.finfo(z.dtype).tiny) * sure
    return WeightedLabels(like(labels, features), like(weights, features))


def log_posterior(z: Tensor, shares: Tensor, spread: Tensor) -> Tensor:
    """The log-probabilities (n, K) of classes that are Gaussians in z (n, d).

    Class sizes and means are by `shares` (n, K), covariances by `spread` (n, K). A class without a
    share has minus infinity.
    """
    tiny = torch.finfo(z.dtype).tiny
    sizes = shares.sum(dim=0)  # (K,)
    means = (shares.T @ z) / sizes.clamp(min=tiny)[:, None]  # (K, d)
    eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    columns = []
    for k, size in enumerate(sizes):
        centred = z - means[k]  # (n, d)
        total = spread[:, k].sum().clamp(min=tiny)
        factor = torch.linalg.cholesky(
            (centred * spread[:, k, None]).T @ centred / total + RIDGE * eye
        )
        white = torch.linalg.solve_triangular(factor, centred.T, upper=False)  # (d, n)
        half_logdet = factor.diagonal().log().sum()
        columns.append(size.log() - half_logdet - white.square().sum(dim=0) / 2)
    return torch.stack(columns, dim=1).log_softmax(dim=1)


@final
class CoWA(Method[TargetBatch]):
    """Adapt a trained network without source data by weighted pseudo-labels and mixtures (CoWA).

    Every row of a batch is mixed with another row of it, in the input, the label and the weight:

        mean_i c_i CE(network(l_i x_i + (1 - l_i) x_j), l_i y_i + (1 - l_i) y_j),  l_i ~ Beta(a, a)
        c_i = l_i w_i + (1 - l_i) w_j,    j = a random permutation of the rows

    Labels and weights w are those of `weighted_pseudo_labels` of the whole target, by the network
    in evaluation mode. They are computed at the first step, and again once an epoch. The head
    learns at a tenth of the rate.

    Args:
        network: A network trained on the source, with a linear head; it is changed in place.
        target: The unlabelled rows that the batches are taken from, in the same order.
        transform: Raw rows -> network input, without augmentation, for the pseudo-labels.
        alpha: a, >= 0. Default 0.2, the authors' for Office-Home; 2 on VisDA. 0: rows stay as they
            are.

    Raises:
        TypeError: The target has labels, or the head is not linear.
        ValueError: `alpha` is negative or not finite.

    Example:
        >>> import torch
        >>> from da.data import TargetBatch, Unlabelled, identity
        >>> from da.model import CoWA
        >>> from da.networks import mlp
        >>> x = torch.rand(8, 4)
        >>> method = CoWA(mlp(4, classes=3), Unlabelled(x), identity)
        >>> for terms in method.step(TargetBatch(x[:3], torch.arange(3)), progress=0.0):
        ...     print(sorted(terms))
        ['pseudo']

    Paper:
        Lee, Jung, Yim, Yoon: Confidence Score for Source-Free Unsupervised Domain Adaptation.
        ICML 2022.

    Differences:
        Those of `weighted_pseudo_labels`. The network is the caller's; the authors' ends in a
        bottleneck with batch normalisation and a weight-normalised head.
    """

    labels: Tensor  # (m,) class of each target row
    weights: Tensor  # (m,)
    rows_left: Tensor  # () rows that pass before the next labels

    label_kind = "unread"
    search_space = {**RATE, "alpha": (0.0, 0.2, 2.0)}

    def __init__(
        self,
        network: Network,
        target: Unlabelled,
        transform: AnyTransform,
        *,
        alpha: float = 0.2,
    ) -> None:
        head = linear_head(network)
        super().__init__(network)
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha must be a finite number >= 0; got {alpha}")
        self.target = as_unlabelled(target, "target")
        self.transform = as_transform(transform)
        self.alpha = alpha
        m, device = len(self.target), head.weight.device
        self.register_buffer("labels", torch.zeros(m, dtype=torch.long, device=device))
        self.register_buffer("weights", torch.zeros(m, device=device))
        self.register_buffer("rows_left", torch.zeros((), dtype=torch.long, device=device))

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """As the network's, but the head is a group of its own, at a tenth of the rate."""
        own = list(self.network.head.parameters())
        groups = super().parameter_groups(learning_rate, backbone_factor)
        held = {id(parameter) for parameter in own}
        for group in groups:
            group["params"] = [each for each in group["params"] if id(each) not in held]
        groups = [group for group in groups if group["params"]]
        return [*groups, {"params": own, "lr": HEAD_FACTOR * learning_rate}]

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        """One move, after new labels if an epoch is over."""
        if self.rows_left <= 0:
            outputs = target_outputs(self.network, self.target, self.transform, self.labels.device)
            found = weighted_pseudo_labels(*map(at_least_single, outputs))
            self.labels.copy_(found.labels)
            self.weights.copy_(found.weights)
            self.rows_left.fill_(len(self.target))
        self.rows_left -= len(gather_rows(batch.target_index))  # rows of all processes
        yield self.loss(batch, progress)

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The term "pseudo" of mixed rows; the mean over the rows of all processes."""
        x, index = batch.target_x, batch.target_index
        share, other = self._mixture(len(x), x.device)
        along = share.view(-1, *(1,) * (x.ndim - 1)).to(x.dtype)
        logits = self.network(along * x + (1 - along) * x[other]).logits
        labels = functional.one_hot(self.labels[index], logits.shape[1]).to(share.dtype)
        wanted = share[:, None] * labels + (1 - share)[:, None] * labels[other]
        weights = share * self.weights[index] + (1 - share) * self.weights[index][other]
        with full_precision(logits):
            losses = functional.cross_entropy(at_least_single(logits), wanted, reduction="none")
            return {"pseudo": (weights * losses).mean()}

    def _mixture(self, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Each row's share of itself (n,) and the row that it is mixed with (n,)."""
        if self.alpha == 0:
            return torch.ones(n, device=device), torch.arange(n, device=device)
        beta = torch.distributions.Beta(self.alpha, self.alpha)
        return beta.sample((n,)).to(device), torch.randperm(n).to(device)
