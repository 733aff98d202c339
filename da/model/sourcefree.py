"""SHOT: adapt a trained network to the target without its source data.

    L = mean_i H(p_i) - diversity H(mean_i p_i) + beta mean_i CE(p_i, y_i)

The classifier stays, and the features come to it. p_i are the network's predictions on target row
i. The first two terms (information maximisation) make each prediction sure, and spread all of them
over the classes. y_i is the class of the nearest centroid of the target's features, computed over
the whole target once an epoch.

The second term asks for classes of equal size. On a target of unequal classes it does harm: pass
the expected shares of the classes as `prior`, or a smaller `diversity`. Batch normalisation does
harm there too, because a batch of nearly one class is centred at that class.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.callers import warn_caller
from da.arrays.devices import widened
from da.arrays.matrices import Array, as_matrix, full_precision, like
from da.data.batches import TargetBatch, Transform
from da.data.domain import Unlabelled, as_unlabelled
from da.data.one_by_one import as_transform
from da.model.information import (
    Shares,
    class_shares,
    information_maximisation_loss,
)
from da.model.target_pass import target_outputs
from da.networks.network import Network
from da.train.distributed import gather_rows
from da.train.loss_weights import check_factor
from da.train.method import Method, Terms, everywhere

# `SHOT` warns if more than this share of the predictions would have to change for equal classes.
UNEQUAL = 0.25


@torch.no_grad()
def centroid_pseudo_labels(features: Array, probabilities: Array, *, rounds: int = 2) -> Array:
    """Label each row by the class whose centroid is nearest to its features.

        c_k = sum_i w_ik z_i / sum_i w_ik,    y_i = argmax_k cos(z_i, c_k)

    In the first round w are the probabilities. In each later one w_ik = [y_i = k] by the labels of
    the round before. A class that is the most probable one of no row gets no label. Neither does a
    class that has lost all its rows. A row of zeros has no direction, and gets its most probable
    class.

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
        them to norm 1 first. Classes without a predicted row are left out as in the authors' code
        for photographs; their code for digits keeps them.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1; got {rounds}")
    z = widened(as_matrix(features, "features"))
    p = widened(as_matrix(probabilities, "probabilities"))
    if len(z) != len(p) or bool((p < 0).any()):
        raise ValueError(
            f"probabilities must be >= 0, a row for each of features {tuple(z.shape)}; "
            f"got {tuple(p.shape)}, smallest {p.min().item():g}"
        )
    with full_precision(z):
        labels, weights = p.argmax(dim=1), p
        directed = z.any(dim=1)  # (n,) False for rows of zeros
        for _ in range(rounds):
            totals = weights.sum(dim=0).clamp(min=torch.finfo(p.dtype).tiny)  # (K,)
            centroids = (weights / totals).T @ z  # (K, d)
            directions = functional.normalize(centroids, dim=1)  # (K, d)
            cosine = functional.normalize(z, dim=1) @ directions.T  # (n, K)
            present = torch.zeros_like(totals, dtype=torch.bool).index_fill(0, labels, True)
            absent = ~(present & centroids.any(dim=1))  # (K,)
            nearest = cosine.masked_fill(absent, -math.inf).argmax(dim=1)  # (n,)
            labels = torch.where(directed, nearest, labels)
            weights = functional.one_hot(labels, p.shape[1]).to(p.dtype)
    return like(labels.to(torch.as_tensor(features).device), features)


@final
class SHOT(Method[TargetBatch]):
    """Adapt a trained network to unlabelled target samples without any source data.

    Use it if the source data may not leave its place. The head is frozen and in evaluation mode;
    backbone and bottleneck learn.

        mean_i H(p_i) - diversity * H(mean_i p_i) + beta * cross_entropy(logits, pseudo-labels)

    The first two terms are `da.model.information.information_maximisation_loss`. The pseudo-labels
    are `da.model.sourcefree.centroid_pseudo_labels` of the whole target, by the network in
    evaluation mode. They are computed at the first step, and again whenever as many rows have
    passed as the target has: once an epoch.

    The second term asks for equally frequent classes. A warning says so if the predictions before
    the first step are far from that. They may be wrong; no label is read.

    Args:
        network: A network trained on the source; it is changed in place. The paper trains it with
            label smoothing of 0.1.
        target: The unlabelled rows that the batches are taken from, in the same order.
        transform: Raw rows -> network input, without augmentation, for the pseudo-labels.
        beta: Weight of the cross-entropy of the pseudo-labels, >= 0. Default 0.3; for digits the
            authors take 0.1.
        prior: (K,), > 0, of sum 1: the expected shares of the target's classes, such as those of
            the source, or an estimate by `da.instance.mlls`. H(mean_i p_i) then becomes
            -KL(mean_i p_i || prior). Default None: equal shares.
        diversity: Weight of the second term, >= 0. Default 1, as in the paper.

    Raises:
        TypeError: The target has labels.
        ValueError: `beta` or `diversity` is negative or not finite, or `prior` is not as above.

    Warns:
        UserWarning: Before the first step more than a quarter of the predictions would have to
            change for equal classes, and there is no prior.

    Example:
        >>> import torch
        >>> from da.data import TargetBatch, Unlabelled, identity
        >>> from da.model import SHOT
        >>> from da.networks import mlp
        >>> x = torch.rand(6, 4)
        >>> network, prior = mlp(inputs=4, classes=3), [0.5, 0.3, 0.2]  # the classes are unequal
        >>> method = SHOT(network, Unlabelled(x), identity, prior=prior).train()
        >>> for terms in method.step(TargetBatch(x[:2], torch.arange(2)), progress=0.0):
        ...     print(sorted(terms))
        ['information', 'pseudo']
        >>> method.pseudo_labels.shape  # one for each target row
        torch.Size([6])

    Paper:
        Liang, Hu, Feng: Do We Really Need to Access the Source Data? Source Hypothesis Transfer for
        Unsupervised Domain Adaptation. ICML 2020.

    Differences:
        The prior is not in the paper. The network is the caller's. The authors' network ends in a
        bottleneck with batch normalisation and a weight-normalised head. The centroids average the
        features as they are; see `da.model.sourcefree.centroid_pseudo_labels`.
    """

    pseudo_labels: Tensor  # (m,) class of each target row
    rows_left: Tensor  # () rows that pass before the next pseudo-labels
    prior: Tensor | None  # (K,)

    label_kind = "unread"

    def __init__(
        self,
        network: Network,
        target: Unlabelled,
        transform: Transform,
        *,
        beta: float = 0.3,
        prior: Shares | None = None,
        diversity: float = 1.0,
    ) -> None:
        super().__init__(network)
        check_factor("beta", beta)
        check_factor("diversity", diversity)
        self.target = as_unlabelled(target, "target")
        self.transform = as_transform(transform)
        self.beta, self.diversity = beta, diversity
        self._looked = False  # at how unequal the predicted classes are
        network.head.requires_grad_(False)
        device = next(network.parameters()).device
        self.register_buffer(
            "pseudo_labels", torch.zeros(len(target), dtype=torch.long, device=device)
        )
        self.register_buffer("rows_left", torch.zeros((), dtype=torch.long, device=device))
        if prior is not None:
            classes = getattr(network.head, "out_features", None)
            prior = class_shares(prior, classes).float().to(device)
        self.register_buffer("prior", prior, persistent=False)  # it comes from the caller

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
        information = information_maximisation_loss(
            logits, prior=self.prior, diversity=self.diversity
        )
        return {"information": information, "pseudo": pseudo}

    @torch.no_grad()
    def _label_target(self) -> Tensor:
        """The pseudo-labels (m,) of the whole target, by the network in evaluation mode."""
        device = self.pseudo_labels.device
        features, logits = target_outputs(self.network, self.target, self.transform, device)
        self._warn_of_unequal_classes(logits)
        return centroid_pseudo_labels(features, logits.float().softmax(dim=1))

    def _warn_of_unequal_classes(self, logits: Tensor) -> None:
        """Warn once if the classes that are predicted by logits (m, K) are far from equal."""
        if self._looked or self.prior is not None or self.diversity == 0:
            return
        self._looked = True
        classes = logits.shape[1]
        shares = logits.argmax(dim=1).bincount(minlength=classes) / len(logits)  # (K,)
        moved = (shares - 1 / classes).clamp(min=0).sum().item()
        if moved > UNEQUAL:
            warn_caller(
                f"the network predicts unequal classes on the target, with shares from "
                f"{shares.min():.1%} to {shares.max():.1%}. SHOT's second term asks for equal "
                f"ones: {moved:.0%} of the predictions would have to change. If the target's "
                "classes are unequal, pass prior=(their expected shares) or a smaller diversity",
            )
