"""SHOT: adapt a trained network to the target without its source data.

    L = mean_i H(p_i) - H(mean_i p_i) + beta mean_i CE(p_i, y_i)

The classifier stays, and the features come to it. p_i are the network's predictions on target row
i. The first two terms (information maximisation) make each prediction sure, and spread all of them
over the classes. y_i is the class of the nearest centroid of the target's features, computed over
the whole target once an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays import Array, as_matrix, full_precision, like
from da.data.batches import TargetBatch, Transform, without_labels
from da.data.domain import Unlabelled
from da.networks.network import Network, entropies
from da.networks.statistics import evaluating
from da.train.distributed import gather_rows
from da.train.method import Method, Terms, everywhere

ROWS = 256  # target rows in one forward pass without gradients


def information_maximisation_loss(logits: Array) -> Array:
    """Measure how sure the predictions are, and how evenly they use the classes.

    It is minus the mutual information of row and class: 0 if all rows have the same prediction,
    -log K if all are certain and all classes are equally frequent.

        mean_i H(p_i) - H(mean_i p_i),    p = softmax(logits)

    Args:
        logits: (n, K), floats.

    Returns:
        A scalar from -log K to 0, in nats, of the kind of `logits`.

    Raises:
        ValueError: The logits are not a matrix, or a value is not finite.
        TypeError: The logits are not floats.

    Paper:
        Liang, Hu, Feng: Do We Really Need to Access the Source Data? Source Hypothesis Transfer for
        Unsupervised Domain Adaptation. ICML 2020.

    Differences:
        None known.
    """
    z = as_matrix(logits, "logits")
    with full_precision(z):
        log_mean = z.log_softmax(dim=1).logsumexp(dim=0, keepdim=True) - math.log(len(z))  # (1, K)
        return like((entropies(z) - entropies(log_mean)).mean(), logits)


@torch.no_grad()
def centroid_pseudo_labels(features: Array, probabilities: Array, *, rounds: int = 2) -> Array:
    """Label each row by the class whose centroid is nearest to its features.

        c_k = sum_i w_ik z_i / sum_i w_ik,    y_i = argmax_k cos(z_i, c_k)

    In the first round w are the probabilities. In each later one w_ik = [y_i = k] by the labels of
    the round before. A class that has lost all its rows gets none back. A row of zeros has no
    direction, and gets its most probable class.

    Args:
        features: z (n, d), floats.
        probabilities: (n, K), floats >= 0.
        rounds: How many rounds, >= 1. Default 2, as in the paper.

    Returns:
        Classes (n,), int64, without gradient, of the kind of `features`.

    Raises:
        ValueError: `rounds` is less than 1, a probability is negative, or the shapes do not match.
        TypeError: The inputs are not floats.

    Paper:
        Liang, Hu, Feng: Do We Really Need to Access the Source Data? Source Hypothesis Transfer for
        Unsupervised Domain Adaptation. ICML 2020.

    Differences:
        The features are averaged as they are. The authors' code extends them by a 1 and scales
        them to norm 1 first.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1; got {rounds}")
    z = as_matrix(features, "features").double()
    p = as_matrix(probabilities, "probabilities").double()
    if len(z) != len(p) or bool((p < 0).any()):
        raise ValueError(
            f"probabilities must be >= 0, a row for each of features {tuple(z.shape)}; "
            f"got {tuple(p.shape)}, smallest {p.min().item():g}"
        )
    with full_precision(z):
        labels, weights = p.argmax(dim=1), p
        directed = z.any(dim=1)  # (n,) False for rows of zeros
        for _ in range(rounds):
            centroids = (weights / weights.sum(dim=0).clamp(min=1e-300)).T @ z  # (K, d)
            directions = functional.normalize(centroids, dim=1)  # (K, d)
            cosine = functional.normalize(z, dim=1) @ directions.T  # (n, K)
            nearest = cosine.masked_fill(~centroids.any(dim=1), -math.inf).argmax(dim=1)  # (n,)
            labels = torch.where(directed, nearest, labels)
            weights = functional.one_hot(labels, p.shape[1]).double()
    return like(labels, features)


@final
class SHOT(Method[TargetBatch]):
    """Adapt a trained network to unlabelled target samples without any source data.

    Use it if the source data may not leave its place. The head is frozen and in evaluation mode;
    backbone and bottleneck learn.

        mean_i H(p_i) - H(mean_i p_i) + beta * cross_entropy(logits, pseudo-labels)

    The first two terms are `da.model.sourcefree.information_maximisation_loss`. The pseudo-labels
    are `da.model.sourcefree.centroid_pseudo_labels` of the whole target, by the network in
    evaluation mode. They are computed at the first step, and again whenever as many rows have
    passed as the target has: once an epoch.

    Args:
        network: A network trained on the source; it is changed in place. The paper trains it with
            label smoothing of 0.1.
        target: The unlabelled rows that the batches are taken from, in the same order.
        transform: Raw rows -> network input, without augmentation, for the pseudo-labels.
        beta: Weight of the cross-entropy of the pseudo-labels, >= 0. Default 0.3; for digits the
            authors take 0.1.

    Raises:
        TypeError: The target has labels.
        ValueError: `beta` is negative or not finite.

    Example:
        >>> import torch
        >>> from da.data import TargetBatch, Unlabelled, identity
        >>> from da.model import SHOT
        >>> from da.networks import mlp
        >>> x = torch.rand(6, 4)
        >>> method = SHOT(mlp(inputs=4, classes=3), Unlabelled(x), identity).train()
        >>> for terms in method.step(TargetBatch(x[:2], torch.arange(2)), progress=0.0):
        ...     print(sorted(terms))
        ['information', 'pseudo']
        >>> method.pseudo_labels.shape  # one for each target row
        torch.Size([6])

    Paper:
        Liang, Hu, Feng: Do We Really Need to Access the Source Data? Source Hypothesis Transfer for
        Unsupervised Domain Adaptation. ICML 2020.

    Differences:
        The network is the caller's. The authors' network ends in a bottleneck with batch
        normalisation and a weight-normalised head. The centroids average the features as they are;
        see `da.model.sourcefree.centroid_pseudo_labels`.
    """

    pseudo_labels: Tensor  # (m,) class of each target row
    rows_left: Tensor  # () rows that pass before the next pseudo-labels

    def __init__(
        self, network: Network, target: Unlabelled, transform: Transform, *, beta: float = 0.3
    ) -> None:
        super().__init__(network)
        if not (math.isfinite(beta) and beta >= 0):
            raise ValueError(f"beta must be a finite number >= 0; got {beta}")
        self.target, self.transform, self.beta = without_labels(target), transform, beta
        network.head.requires_grad_(False)
        device = next(network.parameters()).device
        self.register_buffer(
            "pseudo_labels", torch.zeros(len(target), dtype=torch.long, device=device)
        )
        self.register_buffer("rows_left", torch.zeros((), dtype=torch.long, device=device))

    def train(self, mode: bool = True) -> SHOT:
        """Sets the mode; the head stays in evaluation mode."""
        super().train(mode)
        self.network.head.eval()
        return self

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        """One move, after new pseudo-labels if an epoch is over."""
        if self.rows_left <= 0:
            self.pseudo_labels.copy_(self._label_target())
            self.rows_left.fill_(len(self.target))
        self.rows_left -= len(gather_rows(batch.target_index))  # rows of all processes
        yield self.loss(batch, progress)

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The terms "information" and "pseudo"."""
        logits = everywhere(self.network(batch.target_x)).logits
        labels = self.pseudo_labels[gather_rows(batch.target_index)]
        pseudo = self.beta * functional.cross_entropy(logits, labels)
        return {"information": information_maximisation_loss(logits), "pseudo": pseudo}

    @torch.no_grad()
    def _label_target(self) -> Tensor:
        """The pseudo-labels (m,) of the whole target, by the network in evaluation mode."""
        generator = torch.Generator()  # a transform without augmentation draws nothing from it
        parts = [self.target.rows(rows) for rows in torch.arange(len(self.target)).split(ROWS)]
        with evaluating(self.network):
            outputs = [
                self.network(self.transform(rows, generator).to(self.pseudo_labels.device))
                for rows in parts
            ]
        features, logits = (torch.cat(values) for values in zip(*outputs, strict=True))
        return centroid_pseudo_labels(features, logits.float().softmax(dim=1))
