"""Bi-Tuning: two contrastive losses beside the cross-entropy.

    L = CE(head(h), y) + CCE + CCL          h (b, d): features of the batch x (b, ...) with labels y (b,)

    CCE  contrastive cross-entropy          the classifier's weights of class y look for features of class y among those of all
    CCL  categorical contrastive learning   projected features look for projected features of their own class

Both are one function, `contrast`, of anchors, of what belongs to each of them in the batch, and of keys: features of earlier batches, the
last few of each class, as a slowly following copy of the network saw them (the momentum encoder of MoCo, He et al. 2020).

Zhong, Wang, Kou, Wang, Long: Bi-tuning of Pre-trained Representations. arXiv 2011.06182, 2020.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays import at_least_single
from da.data.batches import LabelledBatch
from da.networks.network import Network, linear_head
from da.train.distributed import gather_rows
from da.train.method import Method, Terms


def contrast(
    anchors: Tensor,
    own: Tensor,
    labels: Tensor,
    keys: Tensor,
    key_labels: Tensor,
    *,
    temperature: float = 0.07,
) -> Tensor:
    """mean_i of -1 / |P_i| sum_{p in P_i} log( exp(<a_i, p> / t) / sum_{k in K_i} exp(<a_i, k> / t) ).

    K_i = {o_i} and all keys; P_i = {o_i} and the keys whose label is that of anchor i.

    Args:
        anchors: a (b, d), rows of norm 1; own: o (b, d), likewise, a positive of its anchor alone; labels: (b,).
        keys: (m, d), rows of norm 1, m may be 0; key_labels: (m,).
        temperature: t > 0, in units of the cosine.

    Returns:
        A scalar >= 0, in nats; it is 0 without keys.

    Raises:
        ValueError: the shapes are not these, or temperature is not positive.
    """
    b, d = anchors.shape
    if own.shape != (b, d) or labels.shape != (b,) or keys.shape != (len(key_labels), d):
        shapes = ", ".join(
            str(tuple(value.shape)) for value in (anchors, own, labels, keys, key_labels)
        )
        raise ValueError(
            f"anchors, own, labels, keys, key_labels must be (b, d), (b, d), (b,), (m, d), (m,); got {shapes}"
        )
    _check_positive("temperature", temperature)
    cosines = torch.cat(
        [(anchors * own).sum(1, keepdim=True), anchors @ keys.T], dim=1
    )  # (b, 1 + m)
    positive = torch.cat(
        [labels.new_ones(b, 1, dtype=torch.bool), labels[:, None] == key_labels], dim=1
    )  # (b, 1 + m)
    log_share = (cosines / temperature).log_softmax(1)
    return -((log_share * positive).sum(1) / positive.sum(1)).mean()


class _Keys(NamedTuple):
    """What a batch leaves in the queues."""

    features: Tensor  # (b, d + 1)
    projections: Tensor  # (b, p)
    labels: Tensor  # (b,)


@final
class BiTuning(Method[LabelledBatch]):
    """Cross-entropy + `contrast` of the classifier's weights + `contrast` of projected features, all with weight 1.

        CCE: a_i = w_{y_i}, o_i = h_i, keys h^k        w_c: row c of [W, bias], h_i: [features, 1], both scaled to norm 1
        CCL: a_i = z_i,     o_i = z^k_i, keys z^k      z: linear projection of the features, scaled to norm 1

    h^k and z^k come from copies of network and projection that get no gradient: after each optimiser step each of their parameters
    becomes momentum * copy + (1 - momentum) * original, and the batch's keys enter the queues, where they replace the oldest of their
    class. MoCo and Bi-Tuning update the copy before its forward pass, which after the first step, where both are equal, is the same.

    Args:
        network: x (b, ...) -> Outputs, with a linear head.
        queue_size: keys kept for each class; 40 as in the published code.
        momentum: of the copies, in [0, 1].
        temperature: of both contrasts, > 0, in units of the cosine.
        projection: p, dimensions of z.

    Raises:
        TypeError: the head is not linear, so that there are no class weights to look with.
        ValueError: a number is out of its range.

    Deviations: query and key see the same view x, because a batch carries one (the paper draws two augmentations), so z^k_i is an easy
    positive of z_i. A queue holds nothing until keys come (the published code fills it with random ones). The batch's keys come after the
    step (there, before the classifier's contrast). That contrast moves the classifier's weights as well (there it holds them fixed).
    The projection learns at the rate of new layers. With several processes, queues hold the keys of all.
    """

    feature_keys: Tensor
    projection_keys: Tensor
    seen: Tensor

    def __init__(
        self,
        network: Network,
        *,
        queue_size: int = 40,
        momentum: float = 0.999,
        temperature: float = 0.07,
        projection: int = 128,
    ) -> None:
        super().__init__(network)
        head = linear_head(network)
        for name, value in {
            "queue_size": queue_size,
            "temperature": temperature,
            "projection": projection,
        }.items():
            _check_positive(name, value)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1]; got {momentum}")
        self.queue_size, self.momentum, self.temperature = queue_size, momentum, temperature
        self.projection = nn.Linear(head.in_features, projection).to(head.weight)
        self.key_network = copy.deepcopy(network).requires_grad_(False)
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)
        self.register_buffer(
            "feature_keys",
            head.weight.new_zeros(head.out_features, queue_size, head.in_features + 1).detach(),
        )
        self.register_buffer(
            "projection_keys",
            head.weight.new_zeros(head.out_features, queue_size, projection).detach(),
        )
        self.register_buffer(
            "seen", torch.zeros(head.out_features, dtype=torch.long, device=head.weight.device)
        )  # keys so far, by class

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        """task, classifier (CCE) and projection (CCL); the queues stay as they are."""
        return self._terms(batch, self._keys(batch))

    def step(self, batch: LabelledBatch, progress: float) -> Iterator[Terms]:
        """One move; once the optimiser has stepped, the copies follow and the batch's keys enter the queues."""
        keys = self._keys(batch)
        yield self._terms(batch, keys)
        self._follow()
        self._enqueue(_Keys(*map(gather_rows, keys)))

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """The network's groups, and the projection at the full rate."""
        own = {"params": list(self.projection.parameters()), "lr": learning_rate}
        return [*super().parameter_groups(learning_rate, backbone_factor), own]

    def _terms(self, batch: LabelledBatch, keys: _Keys) -> Terms:
        features, logits = self.network(batch.x)
        head = linear_head(self.network)
        weights = functional.normalize(_extended(head.weight, head.bias), dim=1)  # (classes, d + 1)
        hidden = _extended_features(features)
        projected = functional.normalize(
            at_least_single(self.projection(features)), dim=1
        )  # (b, p)
        filled = (
            torch.arange(self.queue_size, device=self.seen.device) < self.seen[:, None]
        )  # (classes, queue)
        labels = filled.nonzero()[:, 0]  # (m,) class of each key
        feature_keys, projection_keys = (
            self.feature_keys[filled],
            self.projection_keys[filled],
        )  # (m, d + 1), (m, p)
        t = self.temperature
        return {
            "task": functional.cross_entropy(logits, batch.y),
            "classifier": contrast(
                weights[batch.y], hidden, batch.y, feature_keys, labels, temperature=t
            ),
            "projection": contrast(
                projected, keys.projections, batch.y, projection_keys, labels, temperature=t
            ),
        }

    @torch.no_grad()
    def _keys(self, batch: LabelledBatch) -> _Keys:
        features = self.key_network(batch.x).features
        projected = functional.normalize(at_least_single(self.key_projection(features)), dim=1)
        return _Keys(_extended_features(features), projected, batch.y)

    @torch.no_grad()
    def _follow(self) -> None:
        """copy <- momentum * copy + (1 - momentum) * original, parameters only: the copy's batch normalisation counts by itself."""
        for copied, original in (
            (self.key_network, self.network),
            (self.key_projection, self.projection),
        ):
            for slow, fast in zip(copied.parameters(), original.parameters(), strict=True):
                slow.lerp_(fast, 1 - self.momentum)

    @torch.no_grad()
    def _enqueue(self, keys: _Keys) -> None:
        """Row number r of class c in the batch goes to place (seen_c + r) modulo queue_size."""
        of_class = functional.one_hot(keys.labels, len(self.seen))  # (b, classes)
        rank = of_class.cumsum(0).gather(1, keys.labels[:, None])[:, 0] - 1  # (b,)
        counts = of_class.sum(0)
        place = (self.seen[keys.labels] + rank) % self.queue_size
        last = (
            rank >= counts[keys.labels] - self.queue_size
        )  # of more rows than places, only the last stay: no place is written twice
        self.feature_keys[keys.labels[last], place[last]] = keys.features[last].to(
            self.feature_keys
        )
        self.projection_keys[keys.labels[last], place[last]] = keys.projections[last].to(
            self.projection_keys
        )
        self.seen += counts


def _extended(weight: Tensor, bias: Tensor | None) -> Tensor:
    """[W, bias] (classes, d + 1); a head without a bias has bias 0."""
    column = weight.new_zeros(len(weight), 1) if bias is None else bias[:, None]
    return torch.cat([weight, column], dim=1)


def _extended_features(features: Tensor) -> Tensor:
    """[features, 1] (b, d + 1), rows of norm 1: with [W, bias] its inner product is the logit, but for the norms."""
    features = at_least_single(features)
    return functional.normalize(
        torch.cat([features, features.new_ones(len(features), 1)], dim=1), dim=1
    )


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive; got {value}")
