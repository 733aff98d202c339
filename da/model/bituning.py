"""Bi-Tuning: fine-tune with two contrastive losses beside the cross-entropy.

    L = CE(head(h), y) + CCE + CCL        h (b, d): features of the batch x (b, ...), labels y (b,)

| loss | pulls | to |
|---|---|---|
| CCE, contrastive cross-entropy | the classifier's weights of class y | features of class y |
| CCL, categorical contrastive learning | projected features | projected features of their class |

Both are the function `da.model.contrast.contrast`. The keys are features of earlier batches, the
last few of each class, as computed by a copy of the network that follows it slowly (the momentum
encoder of MoCo; He et al., CVPR 2020).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays.choices import check_choice
from da.arrays.matrices import at_least_single
from da.data.batches import LabelledBatch
from da.model.contrast import check_positive, contrast
from da.networks.network import Network, linear_head
from da.networks.statistics import frozen_statistics
from da.train.distributed import gather_rows
from da.train.method import Method, Terms
from da.train.regularize import BatchNormTreatment


class _Keys(NamedTuple):
    """What one batch adds to the queues."""

    features: Tensor  # (b, d + 1)
    projections: Tensor  # (b, p)
    labels: Tensor  # (b,)


@final
class BiTuning(Method[LabelledBatch]):
    """Fine-tune with cross-entropy and two contrastive losses, all with weight 1.

    Use it on few target labels: the contrasts use how the features of a class lie together, which
    the cross-entropy ignores.

        CE(head(h), y) + CCE + CCL, where both are `da.model.contrast.contrast` with
        CCE: a_i = w_{y_i}, o_i = h_i, keys h^k
        CCL: a_i = z_i, o_i = z^k_i, keys z^k

    w_c is row c of [W, bias] and h_i is [features, 1], both scaled to norm 1. z is a linear
    projection of the features, scaled to norm 1. h^k and z^k come from copies of network and
    projection, which get no gradient. After each step of the optimiser every parameter of a copy
    becomes momentum * copy + (1 - momentum) * original. Then the batch's keys enter the queues,
    where they replace the oldest of their class. The projection learns at the rate of new layers.
    With several processes the queues hold the keys of all.

    Args:
        network: The network that is trained; maps x (b, ...) to `Outputs`, with a linear head.
        queue_size: How many keys are kept for each class. Default 40, as in the published code.
        momentum: Momentum of the copies, in [0, 1]. Default 0.999.
        temperature: Temperature of both contrasts, > 0, in units of the cosine. Default 0.07.
        projection: Width of z. Default 128.
        batch_norm: "train" (default) or "keep", for the copy too; see `da.train.Regularize`.

    Raises:
        TypeError: The head is not linear, so that there are no weights of classes.
        ValueError: A number is out of its range, or `batch_norm` is none of the two words.

    Example:
        >>> import torch
        >>> from da.data import LabelledBatch
        >>> from da.model import BiTuning
        >>> from da.networks import mlp
        >>> method = BiTuning(mlp(inputs=4, classes=2), queue_size=8)
        >>> batch = LabelledBatch(torch.rand(3, 4), torch.tensor([0, 0, 1]), torch.arange(3))
        >>> for terms in method.step(batch, progress=0.0):
        ...     print(sorted(terms), terms["projection"].abs().item())  # the queues were empty
        ['classifier', 'projection', 'task'] 0.0
        >>> method.seen.tolist()  # keys of each class, after the step
        [2, 1]

    Paper:
        Zhong, Wang, Kou, Wang et al.: Bi-tuning of Pre-trained Representations. arXiv 2011.06182,
        2020. He, Fan, Wu, Xie et al.: Momentum Contrast for Unsupervised Visual Representation
        Learning. CVPR 2020 (the momentum encoder).

    Differences:
        Query and key see the same view x, because a batch carries one; the paper draws two
        augmentations. So z^k_i is an easy positive of z_i. A queue is empty until keys come; the
        published code fills it with random ones. The batch's keys enter after the step; in that
        code they enter before the classifier's contrast. This contrast moves the classifier's
        weights too; that code holds them fixed. The projection learns at the full rate, in that
        code at a tenth like the backbone. MoCo and Bi-Tuning update the copy before its forward
        pass. That is the same after the first step, in which both are equal.
    """

    feature_keys: Tensor
    projection_keys: Tensor
    seen: Tensor

    label_kind = "classes"
    followers = ("key_network",)

    def __init__(
        self,
        network: Network,
        *,
        queue_size: int = 40,
        momentum: float = 0.999,
        temperature: float = 0.07,
        projection: int = 128,
        batch_norm: BatchNormTreatment = "train",
    ) -> None:
        super().__init__(network)
        head = linear_head(network)
        check_positive("queue_size", queue_size)
        check_positive("temperature", temperature)
        check_positive("projection", projection)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1]; got {momentum}")
        check_choice("batch_norm", batch_norm, BatchNormTreatment)
        self.batch_norm = batch_norm
        self.queue_size, self.momentum, self.temperature = queue_size, momentum, temperature
        self.projection = nn.Linear(head.in_features, projection).to(head.weight)
        self.key_network = copy.deepcopy(network).requires_grad_(False)
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)
        classes, width = head.out_features, head.in_features
        self.register_buffer(
            "feature_keys", head.weight.new_zeros(classes, queue_size, width + 1).detach()
        )
        self.register_buffer(
            "projection_keys", head.weight.new_zeros(classes, queue_size, projection).detach()
        )
        seen = torch.zeros(classes, dtype=torch.long, device=head.weight.device)
        self.register_buffer("seen", seen)  # keys so far, by class

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        """The terms "task", "classifier" (CCE) and "projection" (CCL); the queues do not change."""
        with self._statistics():
            return self._terms(batch, self._keys(batch))

    def step(self, batch: LabelledBatch, progress: float) -> Iterator[Terms]:
        """One move. After the optimiser's step the copies follow and the keys enter the queues."""
        with self._statistics():
            keys = self._keys(batch)
            terms = self._terms(batch, keys)
        yield terms
        self._follow()
        self._enqueue(_Keys(*(gather_rows(rows) for rows in keys)))

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """The network's groups, and the projection at the full rate."""
        own = {"params": list(self.projection.parameters()), "lr": learning_rate}
        return [*super().parameter_groups(learning_rate, backbone_factor), own]

    def _statistics(self) -> AbstractContextManager:
        """Inside the context, batch normalisation does in both networks what `batch_norm` says."""
        return frozen_statistics(self) if self.batch_norm == "keep" else nullcontext()

    def _terms(self, batch: LabelledBatch, keys: _Keys) -> Terms:
        """The three terms, against the keys that are in the queues now."""
        features, logits = self.network(batch.x)
        head = linear_head(self.network)
        weights = functional.normalize(_extended(head.weight, head.bias), dim=1)  # (classes, d + 1)
        hidden = _extended_features(features)  # (b, d + 1)
        projected = _unit(self.projection(features))  # (b, p)
        places = torch.arange(self.queue_size, device=self.seen.device)
        filled = places < self.seen[:, None]  # (classes, queue)
        labels = filled.nonzero()[:, 0]  # (m,) class of each key
        return {
            "task": functional.cross_entropy(logits, batch.y),
            "classifier": contrast(
                weights[batch.y],
                hidden,
                batch.y,
                self.feature_keys[filled],  # (m, d + 1)
                labels,
                temperature=self.temperature,
            ),
            "projection": contrast(
                projected,
                keys.projections,
                batch.y,
                self.projection_keys[filled],  # (m, p)
                labels,
                temperature=self.temperature,
            ),
        }

    @torch.no_grad()
    def _keys(self, batch: LabelledBatch) -> _Keys:
        """The keys of a batch, by the copies."""
        features = self.key_network(batch.x).features
        projected = _unit(self.key_projection(features))
        return _Keys(_extended_features(features), projected, batch.y)

    @torch.no_grad()
    def _follow(self) -> None:
        """copy <- momentum * copy + (1 - momentum) * original, for parameters.

        The batch normalisation of the copy keeps running statistics of its own.
        """
        pairs = ((self.key_network, self.network), (self.key_projection, self.projection))
        for copied, original in pairs:
            for slow, fast in zip(copied.parameters(), original.parameters(), strict=True):
                slow.lerp_(fast, 1 - self.momentum)

    @torch.no_grad()
    def _enqueue(self, keys: _Keys) -> None:
        """Put the r-th row of class c in the batch to place (seen_c + r) modulo queue_size."""
        of_class = functional.one_hot(keys.labels, len(self.seen))  # (b, classes)
        rank = of_class.cumsum(0).gather(1, keys.labels[:, None])[:, 0] - 1  # (b,)
        counts = of_class.sum(0)
        place = (self.seen[keys.labels] + rank) % self.queue_size
        # If a class has more rows than places, its last rows stay: no place is written twice.
        last = rank >= counts[keys.labels] - self.queue_size
        where = (keys.labels[last], place[last])
        self.feature_keys[where] = keys.features[last].to(self.feature_keys)
        self.projection_keys[where] = keys.projections[last].to(self.projection_keys)
        self.seen += counts


def _extended(weight: Tensor, bias: Tensor | None) -> Tensor:
    """[W, bias] (classes, d + 1); without a bias the last column is 0."""
    column = weight.new_zeros(len(weight), 1) if bias is None else bias[:, None]
    return torch.cat([weight, column], dim=1)


def _extended_features(features: Tensor) -> Tensor:
    """[features, 1] (b, d + 1), rows scaled to norm 1.

    Before the scaling its inner product with [W, bias] is the logit.
    """
    features = at_least_single(features)
    ones = features.new_ones(len(features), 1)
    return functional.normalize(torch.cat([features, ones], dim=1), dim=1)


def _unit(x: Tensor) -> Tensor:
    """Rows scaled to norm 1, in float32 or float64."""
    return functional.normalize(at_least_single(x), dim=1)
