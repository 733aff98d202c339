"""Neighbours vote on pseudo-labels, and a momentum encoder gives rows to be unlike (AdaContrast).

    L = CE(p, y) + L_ctr - H(mean_i p_i),    y = argmax of the neighbours' mean prediction
    L_ctr = mean_i log(1 + sum_{j in K_i} exp((q_i . k_j - q_i . k_i) / t))

p is the prediction of a strong view, q its features. The neighbours of a weak view are rows of the
target as the momentum encoder saw them last. k_i are the momentum encoder's features of another
strong view. K_i are the keys of earlier batches with another pseudo-label than row i.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, as_matrix, at_least_single, full_precision, like
from da.data.batches import TargetBatch
from da.data.domain import Unlabelled
from da.data.one_by_one import AnyTransform
from da.model.contrast import check_positive
from da.model.feature_bank import FeatureBank, Remembering
from da.model.information import unevenness
from da.networks.averages import update_average
from da.networks.network import Network, Outputs
from da.networks.statistics import kept_statistics
from da.train.distributed import gather_rows
from da.train.method import Terms, everywhere
from da.train.search_space import RATE

View = Callable[[Tensor], Tensor]


@torch.no_grad()
@checked
def neighbour_vote(features: Array, bank: FeatureBank[Array], *, neighbours: int = 10) -> Array:
    """Predict the class of each row by the predictions of the nearest rows of a bank.

    A wrong prediction among right neighbours is outvoted. The arg max of the result is a refined
    pseudo-label.

        1/k sum_{j in N(i)} p_j,    N(i) = the k rows of the bank with the largest cosine to row i

    Args:
        features: (n, d), floats.
        bank: Features (m, d) and probabilities (m, K).
        neighbours: k, from 1 to m. Default 10. A row that is itself in the bank may vote too.

    Returns:
        Probabilities (n, K) of the kind of `features`, without gradient.

    Raises:
        ValueError: Shapes do not match, a value is not finite, or the bank has too few rows.
        TypeError: Features or bank are not floats.

    Example:
        >>> import torch
        >>> from da.model.adacontrast import neighbour_vote
        >>> from da.model.feature_bank import FeatureBank
        >>> votes = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
        >>> bank = FeatureBank(torch.eye(2)[[0, 0, 1]], votes)
        >>> neighbour_vote(torch.tensor([[3.0, 1.0]]), bank, neighbours=2)
        tensor([[0.7500, 0.2500]])

    Paper:
        Chen, Wang, Darrell, Ebrahimi: Contrastive Test-Time Adaptation. CVPR 2022 (AdaContrast).

    Differences:
        None known.
    """
    z = as_matrix(features, "features")
    kept = as_matrix(bank.features, "bank.features").to(z.dtype)
    p = as_matrix(bank.probabilities, "bank.probabilities").to(z.dtype)
    if len(kept) != len(p) or kept.shape[1] != z.shape[1]:
        raise ValueError(
            "bank must hold features (m, d) and probabilities (m, K) for features (n, d); got "
            f"{tuple(kept.shape)}, {tuple(p.shape)} and {tuple(z.shape)}"
        )
    count = whole_number(neighbours, "neighbours", least=1)
    if count > len(kept):
        raise ValueError(
            f"neighbours must be at most the {len(kept)} rows of the bank; got {count}"
        )
    with full_precision(z):
        cosine = functional.normalize(z, dim=1) @ functional.normalize(kept, dim=1).T  # (n, m)
        return like(p[cosine.topk(count, dim=1).indices].mean(dim=1), features)


def contrast_with_other_classes(
    queries: Tensor,
    own: Tensor,
    labels: Tensor,
    keys: Tensor,
    key_labels: Tensor,
    *,
    temperature: float = 0.07,
) -> Tensor:
    """Pull each query to its own key, and away from keys that have another label.

    Keys of the same label do not count. So rows of one class are not pushed apart, as they are by
    a contrast without labels.

        mean_i -log( e(o_i) / (e(o_i) + sum_{j: l_j != y_i} e(k_j)) ),    e(k) = exp(q_i . k / t)

    Args:
        queries: q (b, d), rows of norm 1.
        own: o (b, d), rows of norm 1.
        labels: y, the pseudo-labels (b,) of the queries.
        keys: k (m, d), rows of norm 1; m may be 0.
        key_labels: l, the pseudo-labels (m,) of the keys.
        temperature: t > 0, in units of the cosine. Default 0.07.

    Returns:
        A scalar >= 0, in nats; it is 0 if there is no key of another label.
    """
    with_own = (queries * own).sum(dim=1, keepdim=True)  # (b, 1)
    same = labels[:, None] == key_labels  # (b, m)
    others = (queries @ keys.T).masked_fill(same, -torch.inf)  # (b, m)
    cosines = torch.cat([with_own, others], dim=1)  # (b, 1 + m)
    return -(cosines / temperature).log_softmax(dim=1)[:, 0].mean()


class _Seen(NamedTuple):
    """What a step has seen, of all processes: pseudo-labels (n,) and the momentum keys (n, d)."""

    labels: Tensor
    keys: Tensor


@final
class AdaContrast(Remembering):
    """Adapt a trained network without source data, by refined pseudo-labels and a contrast.

    A row is seen three times: in a weak view, which is labelled by `neighbour_vote`, and in two
    strong views, which learn.

        cross-entropy of a strong view + contrast of both + unevenness of the mean prediction

    The second strong view passes through the average of the network, the momentum encoder. Its
    features are the keys of the contrast. The last `memory` keys are kept with their pseudo-labels.
    After each step the average follows, and writes what it sees in the weak views into the bank.

    Args:
        network: A network trained on the source, with a linear head; it is changed in place.
        target: The unlabelled rows that the batches are taken from, in the same order.
        transform: Raw rows -> network input, without augmentation, for filling the bank.
        weak: x (b, ...) -> (b, ...), random in each row, such as
            `da.feature.views.random_translation` for images.
        strong: The same, drawn twice, such as `da.feature.views.strong_view` for images.
        neighbours: How many rows vote, >= 1. Default 10.
        memory: How many keys are kept, >= 1, and never more than the target has rows. Default
            16384, the authors' for VisDA.
        momentum: Share of the average that stays in each step, in [0, 1]. Default 0.999.
        temperature: Of the contrast, > 0, in units of the cosine. Default 0.07.

    Raises:
        TypeError: The target has labels, or the head is not linear.
        ValueError: A number is out of its range. In training also: `neighbours` is more than the
            target's rows.

    Example:
        >>> import torch
        >>> from da.data import TargetBatch, Unlabelled, identity
        >>> from da.model import AdaContrast
        >>> from da.networks import mlp
        >>> x = torch.rand(12, 4)
        >>> noise = lambda x: x + 0.1 * torch.randn_like(x)
        >>> method = AdaContrast(mlp(4, classes=3), Unlabelled(x), identity, noise, noise)
        >>> for terms in method.step(TargetBatch(x[:3], torch.arange(3)), progress=0.0):
        ...     print(sorted(terms), terms["contrast"].abs().item())  # there were no keys
        ['contrast', 'pseudo', 'unevenness']  0.0

    Paper:
        Chen, Wang, Darrell, Ebrahimi: Contrastive Test-Time Adaptation. CVPR 2022.

    Differences:
        The bank has each target row once, as it was last seen; the authors' is a queue as long as
        the target, which can hold a row twice. Their queue of keys starts with random ones, here it
        is empty. Their average follows before the keys are computed, here after the step, and
        running statistics are averaged too; theirs has its own. The views are the caller's; theirs
        crop, blur and change colours. The network is the caller's; theirs ends in a bottleneck with
        batch normalisation and a weight-normalised head.
    """

    keys: Tensor  # (memory, d), of length 1
    key_labels: Tensor  # (memory,), -1 where there is no key yet
    place: Tensor  # () where the next key goes

    followers = ("average",)
    search_space = {**RATE, "neighbours": (3, 5, 10), "momentum": (0.99, 0.999)}

    def __init__(
        self,
        network: Network,
        target: Unlabelled,
        transform: AnyTransform,
        weak: View,
        strong: View,
        *,
        neighbours: int = 10,
        memory: int = 16384,
        momentum: float = 0.999,
        temperature: float = 0.07,
    ) -> None:
        super().__init__(network, target, transform)
        check_positive("temperature", temperature)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1]; got {momentum}")
        self.weak, self.strong = weak, strong
        self.neighbours = whole_number(neighbours, "neighbours", least=1)
        self.momentum, self.temperature = momentum, temperature
        self.average = copy.deepcopy(network).requires_grad_(False)
        count = min(whole_number(memory, "memory", least=1), len(self.target))
        none = torch.full((count,), -1, device=self.features.device)
        self.register_buffer("keys", self.features.new_zeros(count, self.features.shape[1]))
        self.register_buffer("key_labels", none)
        self.register_buffer("place", torch.zeros_like(none[0]))

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        """One move; then the average follows, and keys and bank are renewed."""
        weak = self.weak(batch.target_x)
        terms, seen = self._terms(batch.target_x, weak)
        yield terms
        self._keep(seen)
        update_average(self.average, self.network, self.momentum)
        self.write(everywhere(self._averaged(weak)), gather_rows(batch.target_index))

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The terms "pseudo", "contrast" and "unevenness"; keys and bank stay as they are."""
        return self._terms(batch.target_x, self.weak(batch.target_x))[0]

    def _terms(self, x: Tensor, weak: Tensor) -> tuple[Terms, _Seen]:
        """The terms of rows x (b, ...), of which `weak` is a weak view."""
        self.fill()
        with torch.no_grad():
            asked = gather_rows(at_least_single(self.network(weak).features))
        labels = neighbour_vote(asked, self.bank, neighbours=self.neighbours).argmax(dim=1)
        features, logits = map(at_least_single, everywhere(self.network(self.strong(x))))
        key = gather_rows(at_least_single(self._averaged(self.strong(x)).features))
        with full_precision(features):
            seen = _Seen(labels, functional.normalize(key, dim=1))
            there = self.key_labels >= 0
            contrast = contrast_with_other_classes(
                functional.normalize(features, dim=1),
                seen.keys,
                labels,
                self.keys[there].to(features),
                self.key_labels[there],
                temperature=self.temperature,
            )
            pseudo = functional.cross_entropy(logits, labels)
        terms = {"pseudo": pseudo, "contrast": contrast, "unevenness": unevenness(logits)}
        return terms, seen

    @torch.no_grad()
    def _averaged(self, x: Tensor) -> Outputs:
        """What the average says of x; its statistics move only with the network's."""
        with kept_statistics(self.average):
            return self.average(x)

    @torch.no_grad()
    def _keep(self, seen: _Seen) -> None:
        """Put the keys in the places of the oldest."""
        count, size = len(seen.labels), len(self.key_labels)
        places = (self.place + torch.arange(count, device=self.place.device)) % size
        last = slice(max(0, count - size), None)  # no place is written twice
        self.keys[places[last]] = seen.keys[last].to(self.keys)
        self.key_labels[places[last]] = seen.labels[last]
        self.place.copy_((self.place + count) % size)
