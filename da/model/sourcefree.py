"""SHOT: a trained network goes to the target without its source data; the classifier stays, the features come to it.

    L = mean_i H(p_i) - H(mean_i p_i) + beta mean_i CE(p_i, y_i)

with p_i the network's predictions on target row i: each sure of itself, all together spread over the classes (information maximisation),
and like y_i, the class of the nearest centroid of the target's features, computed over the whole target once an epoch.

Liang, Hu, Feng: Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised Domain Adaptation. ICML 2020.
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

ROWS = 256  # of the target in one forward pass without gradients


def information_maximisation_loss(logits: Array) -> Array:
    """mean_i H(p_i) - H(mean_i p_i), p = softmax(logits) (n, K): a scalar from -log K to 0, in nats.

    Minus the mutual information of row and class: 0 where all rows have one prediction, -log K where all are certain and every class
    is as frequent. Raises ValueError on shape or values, TypeError for inputs not of floats.
    """
    z = as_matrix(logits, "logits")
    with full_precision(z):
        log_mean = z.log_softmax(dim=1).logsumexp(dim=0, keepdim=True) - math.log(len(z))  # (1, K)
        return like((entropies(z) - entropies(log_mean)).mean(), logits)


@torch.no_grad()
def centroid_pseudo_labels(features: Array, probabilities: Array, *, rounds: int = 2) -> Array:
    """The class of the nearest centroid for each row of features (n, d): int64 (n,), without gradient.

        c_k = sum_i w_ik z_i / sum_i w_ik,    y_i = argmax_k cos(z_i, c_k)

    with w = probabilities (n, K) in the first round, and w_ik = [y_i = k] by the labels of the round before in each other one. A class
    that has lost all its rows gets none back. A row of zeros, which has no direction, is of its most probable class.

    rounds: >= 1; 2 as in the paper.

    Raises ValueError for rounds < 1, negative probabilities, or other shapes; TypeError for inputs not of floats.

    Different from the authors' code: the features are neither extended by a 1 nor scaled to norm 1 before they are averaged.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1; got {rounds}")
    z, p = (
        as_matrix(features, "features").double(),
        as_matrix(probabilities, "probabilities").double(),
    )
    if len(z) != len(p) or bool((p < 0).any()):
        raise ValueError(
            f"probabilities must be >= 0, a row for each of features {tuple(z.shape)}; got {tuple(p.shape)}, smallest {p.min().item():g}"
        )
    with full_precision(z):
        labels, weights, directed = p.argmax(dim=1), p, z.any(dim=1)
        for _ in range(rounds):
            centroids = (weights / weights.sum(dim=0).clamp(min=1e-300)).T @ z  # (K, d)
            cosine = (
                functional.normalize(z, dim=1) @ functional.normalize(centroids, dim=1).T
            )  # (n, K)
            nearest = cosine.masked_fill(~centroids.any(dim=1), -math.inf).argmax(dim=1)  # (n,)
            labels = torch.where(directed, nearest, labels)
            weights = functional.one_hot(labels, p.shape[1]).double()
    return like(labels, features)


@final
class SHOT(Method[TargetBatch]):
    """`information_maximisation_loss` + beta * cross-entropy with `centroid_pseudo_labels`, on the target alone.

    The head is frozen, in evaluation mode too; backbone and bottleneck learn. The pseudo-labels of the whole target are computed at the
    first step and whenever as many rows have passed since as the target has: once an epoch, by the network in evaluation mode.

    Args:
        network: trained on the source (the paper smooths its labels by 0.1); changed in place.
        target: the rows that the batches are of, in the same order.
        transform: raw rows -> network input, without augmentation, for the pseudo-labels.
        beta: weight of the pseudo-labels' cross-entropy, >= 0: 0.3; for digits the authors take 0.1.

    Raises:
        TypeError: a labelled target. ValueError: a negative or infinite beta.

    Different from the authors' code: the network is the caller's, where theirs ends in a bottleneck with batch normalisation and a
    weight-normalised head.
    """

    pseudo_labels: Tensor  # (m,) class of each target row
    rows_left: Tensor  # () rows of this epoch still to come, before the next pseudo-labels

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
        """The head stays in evaluation mode."""
        super().train(mode)
        self.network.head.eval()
        return self

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        if self.rows_left <= 0:
            self.pseudo_labels.copy_(self._labels_of_the_target())
            self.rows_left.fill_(len(self.target))
        self.rows_left -= len(gather_rows(batch.target_index))  # what all processes see counts
        yield self.loss(batch, progress)

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        logits = everywhere(self.network(batch.target_x)).logits
        labels = self.pseudo_labels[gather_rows(batch.target_index)]
        pseudo = self.beta * functional.cross_entropy(logits, labels)
        return {"information": information_maximisation_loss(logits), "pseudo": pseudo}

    @torch.no_grad()
    def _labels_of_the_target(self) -> Tensor:
        generator = torch.Generator()  # a transform without augmentation draws nothing from it
        parts = [self.target.rows(rows) for rows in torch.arange(len(self.target)).split(ROWS)]
        with evaluating(self.network):
            outputs = [
                self.network(self.transform(rows, generator).to(self.pseudo_labels.device))
                for rows in parts
            ]
        features, logits = (torch.cat(values) for values in zip(*outputs, strict=True))
        return centroid_pseudo_labels(features, logits.float().softmax(dim=1))
