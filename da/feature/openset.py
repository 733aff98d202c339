"""Open-set adaptation: the target holds the source's classes and others, which count as unknown.

`OSBP` trains a network to recognise unknown rows; `RejectUnsure` calls unknown what no class has
enough probability for, without adaptation.

A network for open sets has one output more than the source has classes, the last one for unknown.
Source labels never name it. In evaluation the labels of all other classes count as this one;
`da.train.open_set_metrics` says how well both kinds are recognised.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.matrices import as_matrix, at_least_single
from da.networks.adversary import reverse_gradient
from da.networks.network import Network, Outputs
from da.networks.statistics import unmoved_statistics
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant


@checked
def reject_unsure(logits: Tensor, *, threshold: float) -> Tensor:
    """Add a class "unknown" to logits; it wins if no other class is probable enough.

    This is rejection by the maximum softmax probability. The new last column is

        logsumexp(logits) + log threshold

    The softmax of the result is (p, threshold) / (1 + threshold). So the cross-entropy of known
    labels is log(1 + threshold) larger than without the column and has the same gradients: a
    network learns from it as before.

    Args:
        logits: Rows (n, k) over the known classes.
        threshold: Least probability of a class that is not rejected, in (0, 1).

    Returns:
        Logits (n, k + 1). The last is the largest if every class is less probable than threshold.

    Raises:
        ValueError: threshold is not in (0, 1), or the logits are not finite rows.
        TypeError: The logits are no floats.

    Example:
        >>> import torch
        >>> from da.feature import reject_unsure
        >>> logits = torch.tensor([[5.0, 0.0], [0.5, 0.0]])  # probabilities 0.99 and 0.62
        >>> reject_unsure(logits, threshold=0.9).argmax(dim=1).tolist()  # 2 is unknown
        [0, 2]

    Paper:
        Hendrycks, Gimpel: A Baseline for Detecting Misclassified and Out-of-Distribution Examples
        in Neural Networks. ICLR 2017.

    Differences:
        One threshold is fixed in advance; the paper compares all thresholds.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be in (0, 1); got {threshold}")
    return _with_unknown(as_matrix(logits, "logits"), threshold).to(logits.dtype)


def _with_unknown(logits: Tensor, threshold: float) -> Tensor:
    unknown = logits.logsumexp(1, keepdim=True) + math.log(threshold)  # (n, 1)
    return torch.cat([logits, unknown], dim=1)


def unknown_confusion(logits: Tensor, *, boundary: float = 0.5) -> Tensor:
    """Measure how far the probability of unknown is from a boundary between known and unknown.

    It is least if u = t for every row, with u = softmax(logits)[:, -1] the probability of unknown
    and t the boundary.

        mean_j -t log u_j - (1 - t) log(1 - u_j)

    Args:
        logits: Rows (m, k + 1), the last column for unknown; k >= 1, m >= 1.
        boundary: t in (0, 1); default 0.5, the paper's.

    Returns:
        A scalar in nats, at least the entropy of (t, 1 - t); finite for every u, in float32 at
        least, under autocast too.

    Raises:
        ValueError: boundary is not in (0, 1), or there are fewer than two columns or no row.

    Example:
        >>> import torch
        >>> from da.feature.openset import unknown_confusion
        >>> round(unknown_confusion(torch.zeros(4, 2)).item(), 3)  # u = 1/2: log 2, the least
        0.693

    Paper:
        Saito, Yamamoto, Ushiku, Harada: Open Set Domain Adaptation by Backpropagation. ECCV 2018,
        equation 2.

    Differences:
        It is computed from the log-odds of u, so no logarithm of 0 occurs.
    """
    _check_boundary(boundary)
    if logits.ndim != 2 or logits.shape[1] < 2 or not len(logits):
        raise ValueError(
            "logits must be (m, k + 1), k >= 1, the last column for unknown, at least one row; "
            f"got {tuple(logits.shape)}"
        )
    x = at_least_single(logits)
    odds = x[:, -1] - x[:, :-1].logsumexp(1)  # (m,), log u / (1 - u)
    return (functional.softplus(odds) - boundary * odds).mean()


@final
class RejectUnsure(nn.Module):
    """Give a network's head one class more, "unknown", for rows that it is not sure of.

    Use it as a baseline for open sets: the network is trained as without it, and its answers have
    one class more. It is `reject_unsure` of another head's logits.

    Args:
        head: Features (b, d) -> logits (b, k); attribute `head`.
        threshold: Least probability of a class that is not rejected, in (0, 1).

    Example:
        >>> import torch
        >>> from da.feature import RejectUnsure
        >>> from da.networks import mlp
        >>> network = mlp(2, classes=3)
        >>> network.head = RejectUnsure(network.head, threshold=0.9)
        >>> logits = network(torch.zeros(4, 2)).logits
        >>> logits.argmax(dim=1).tolist()  # a new network is sure of nothing
        [3, 3, 3, 3]

    Paper:
        Hendrycks, Gimpel: A Baseline for Detecting Misclassified and Out-of-Distribution Examples
        in Neural Networks. ICLR 2017.

    Differences:
        One threshold is fixed in advance, 0.9 in the experiment with digits; the paper compares all
        thresholds.
    """

    @checked
    def __init__(self, head: nn.Module, *, threshold: float) -> None:
        super().__init__()
        self.head = head
        self.threshold = threshold

    def forward(self, features: Tensor) -> Tensor:
        """Features (b, d) -> logits (b, k + 1)."""
        return _with_unknown(self.head(features), self.threshold)


@final
class OSBP(Adapt):
    """Train a network that recognises target rows of classes which the source does not have.

    Use it if the target has the source's classes and others. Cross-entropy on the source is joined
    by trade_off * ramp(progress) * `unknown_confusion` on the target, reversed below the head. The
    head lowers this term, so unknown gets probability t on all of the target. The features raise
    it, so a target row moves until it is clearly known or clearly unknown.

    The term has no upper bound in the scale of the features, and SGD can drive plain ReLU features
    to infinity. Give the network batch normalisation in front of the head, as the paper does.

    Args:
        network: Maps x (b, ...) to Outputs of (known classes + 1) logits, the last for unknown.
        boundary: t in (0, 1); default 0.5, the paper's.
        trade_off: Factor of the term; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, unknown among them, in [0, 1);
            see `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, or boundary is not in (0, 1). A source
            label names the last output; `da.train.fit` says so before the first step.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import OSBP
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = OSBP(mlp(3, classes=3 + 1))  # three known classes
        >>> sorted(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['task', 'unknown']

    Paper:
        Saito, Yamamoto, Ushiku, Harada: Open Set Domain Adaptation by Backpropagation. ECCV 2018.

    Differences:
        In the paper source and target are normalised apart, each by its own batch. Here
        batch_statistics says; with "domain" each domain has its own statistics, in evaluation too.
        The head sees the target twice, the second time above reversed features; batch normalisation
        in a deep head keeps the statistics of the first time.
    """

    label_kind = "known classes"

    def __init__(
        self,
        network: Network,
        *,
        boundary: float = 0.5,
        trade_off: float = 1.0,
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
        _check_boundary(boundary)
        self.boundary = boundary

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        known = source.logits.shape[1] - 1
        if labels.max() >= known:
            raise ValueError(
                f"source labels must be < {known}, because the last of {known + 1} outputs is for "
                f"unknown; got {labels.max()}"
            )
        frozen = self.batch_statistics == "source"
        with unmoved_statistics(self.network.head, frozen=frozen):
            logits = self.network.head(reverse_gradient(target.features))
        return {"unknown": unknown_confusion(logits, boundary=self.boundary)}


def _check_boundary(boundary: float) -> None:
    if not 0 < boundary < 1:
        raise ValueError(f"boundary must be in (0, 1); got {boundary}")
