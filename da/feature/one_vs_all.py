"""One open-set classifier for each class: unknown is what the nearest class rejects (OVANet).

Beside the closed classifier there are K classifiers, each of which says whether a row is of its
class. Each learns most from the nearest other class, so its boundary is between the two, and no
threshold has to be chosen. The last logit of the head is for unknown.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays.integers import whole_number
from da.arrays.matrices import at_least_single
from da.networks.network import Network, Outputs, linear_head, unwrapped
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant


def one_vs_all_loss(open_logits: Tensor, labels: Tensor) -> Tensor:
    """Measure how well K classifiers of one class each accept their own rows and reject others'.

    Of the K - 1 classifiers that should reject a row the worst one counts alone, that of the
    nearest other class.

        1/2 mean_i [-log q_i,y_i + max_{k != y_i} -log(1 - q_ik)]
        q_ik = softmax over (not k, k) of open_logits_i,:,k at k

    Args:
        open_logits: (n, 2, K), K >= 2: for each class the logits of "not k" and "k".
        labels: Classes (n,).

    Returns:
        A scalar >= 0 in nats, in float32 at least; differentiable.

    Raises:
        ValueError: The shapes do not fit.

    Example:
        >>> import torch
        >>> from da.feature.one_vs_all import one_vs_all_loss
        >>> round(one_vs_all_loss(torch.zeros(4, 2, 3), torch.tensor([0, 1, 2, 0])).item(), 3)
        0.693

    Paper:
        Saito, Saenko: OVANet: One-vs-All Network for Universal Domain Adaptation. ICCV 2021.

    Differences:
        The logarithms are exact. The authors' code adds 1e-8 within them.
    """
    if open_logits.ndim != 3 or open_logits.shape[1] != 2 or open_logits.shape[2] < 2:
        raise ValueError(f"open_logits must be (n, 2, K), K >= 2; got {tuple(open_logits.shape)}")
    if labels.shape != open_logits.shape[:1]:
        raise ValueError(f"labels must be ({len(open_logits)},); got {tuple(labels.shape)}")
    log_q = at_least_single(open_logits).log_softmax(dim=1)  # (n, 2, K)
    own = labels[:, None]  # (n, 1)
    accepted = -log_q[:, 1].gather(1, own)[:, 0]  # (n,)
    rejected = (-log_q[:, 0]).scatter(1, own, -torch.inf)  # (n, K)
    return (accepted + rejected.max(dim=1).values).mean() / 2


def open_entropy(open_logits: Tensor) -> Tensor:
    """The mean over rows and classes of the entropy of (not k, k), for open_logits (n, 2, K)."""
    log_q = at_least_single(open_logits).log_softmax(dim=1)
    return -(log_q.exp() * log_q).sum(dim=1).mean()


@final
class OneVsAll(nn.Module):
    """A head of a closed classifier and one open-set classifier for each class.

    The last logit is the largest of the others plus the log-odds of "not k" for that class k. So
    unknown is answered if the classifier of the most probable class rejects the row.

    Args:
        features: Width d of the features.
        known: Number K of known classes, >= 2.

    Example:
        >>> import torch
        >>> from da.feature import OneVsAll
        >>> OneVsAll(4, known=3)(torch.zeros(2, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(self, features: int, known: int) -> None:
        super().__init__()
        features = whole_number(features, "features", least=1)
        known = whole_number(known, "known", least=2)
        self.closed = nn.Linear(features, known, bias=False)
        self.open = nn.Linear(features, 2 * known, bias=False)

    def open_logits(self, features: Tensor) -> Tensor:
        """Features (n, d) -> logits (n, 2, K) of "not k" and "k"."""
        return self.open(features).view(len(features), 2, -1)

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, d) -> logits (n, K + 1)."""
        logits, both = self.closed(features), self.open_logits(features)
        top = logits.max(dim=1, keepdim=True)  # (n, 1)
        odds = (both[:, 0] - both[:, 1]).gather(1, top.indices)  # (n, 1)
        return torch.cat([logits, top.values + odds], dim=1)


@final
class OVANet(Adapt):
    """Train a network for targets with unknown classes, by one classifier for each class (OVANet).

    Use it if the target may have classes that the source lacks, and may lack some of the source's.
    The network's linear head of K + 1 outputs is replaced in place by a `OneVsAll`.

        task    cross-entropy of the known classes + `one_vs_all_loss`, on the source
        open    trade_off * ramp(progress) * `open_entropy` of the target

    Args:
        network: Maps x (b, ...) to Outputs of (known classes + 1) logits, the last for unknown; its
            head must be linear.
        trade_off: Factor of the target's entropy; default 0.1, the paper's.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the known classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        TypeError: The network's head is not linear.
        ValueError: There are fewer than three outputs, or `batch_statistics` is none of the three.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import OVANet
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = OVANet(mlp(3, classes=3 + 1))  # three known classes
        >>> sorted(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['open', 'task']

    Paper:
        Saito, Saenko: OVANet: One-vs-All Network for Universal Domain Adaptation. ICCV 2021.

    Differences:
        Those of `one_vs_all_loss`. The authors' features are normalised by the source's batch
        statistics and by the target's, each by its own batch; here batch_statistics says.
    """

    label_kind = "known classes"

    def __init__(
        self,
        network: Network,
        *,
        trade_off: float = 0.1,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        head = linear_head(network)
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        own = OneVsAll(head.in_features, head.out_features - 1).to(head.weight)
        unwrapped(network).head = own

    def task(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The cross-entropy of the known classes and the loss of the open-set classifiers."""
        closed = functional.cross_entropy(
            outputs.logits[:, :-1], labels, label_smoothing=self.label_smoothing
        )
        return closed + one_vs_all_loss(self._head.open_logits(outputs.features), labels)

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return {"open": open_entropy(self._head.open_logits(target.features))}

    @property
    def _head(self) -> OneVsAll:
        head = unwrapped(self.network).head
        assert isinstance(head, OneVsAll)
        return head
