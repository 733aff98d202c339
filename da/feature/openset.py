"""Open-set adaptation: the target holds the source's classes and others besides, all of which count as one, unknown.

    OSBP            the head learns p(unknown | x_t) = t, the features learn to be surer, one way or the other
    RejectUnsure    no adaptation: unknown is what no class has enough probability for

A network for it has one output more than the source has classes, the last one for unknown; source labels never name it. Labels of
an evaluation's target give it to all samples of other classes.

Saito, Yamamoto, Ushiku, Harada: Open Set Domain Adaptation by Backpropagation. ECCV 2018.
Bucci, Loghmani, Tommasi: On the Effectiveness of Image Rotation for Open Set Domain Adaptation. ECCV 2020, for the metrics.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.networks.adversary import reverse_gradient
from da.networks.network import Network, Outputs
from da.networks.statistics import frozen_statistics, kept_statistics
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant

# ---- functions of tensors


def reject_unsure(logits: Tensor, *, threshold: float) -> Tensor:
    """Logits (n, k) with a column for unknown behind, logsumexp(logits) + log threshold: (n, k + 1).

    The largest is the last where the probability of every class is below the threshold, in (0, 1), else it is the class's: rejection
    by the maximum softmax probability. Their softmax is (p, threshold) / (1 + threshold), so that a cross-entropy of known labels is
    log(1 + threshold) larger than that of the logits, with the same gradients: a network learns from it as without the column.

    Raises ValueError for a threshold outside (0, 1). Hendrycks and Gimpel, ICLR 2017, A Baseline for Detecting Misclassified and
    Out-of-Distribution Examples in Neural Networks.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be in (0, 1); got {threshold}")
    return torch.cat([logits, logits.logsumexp(1, keepdim=True) + math.log(threshold)], dim=1)


def unknown_confusion(logits: Tensor, *, boundary: float = 0.5) -> Tensor:
    """mean_j -t log u_j - (1 - t) log(1 - u_j), u = softmax(logits)[:, -1] the probability of unknown, logits (m, k + 1): a scalar, nats.

    boundary: t in (0, 1), where the loss is least, entropy(t); 0.5 is the paper's. Computed as softplus(z) - t z of the log-odds
        z = logit_unknown - logsumexp(other logits), which is finite for every u, in float32 at least, under autocast too.

    Raises ValueError for t outside (0, 1), or fewer than two columns or no row. Saito et al. 2018, equation 2.
    """
    _check_boundary(boundary)
    if logits.ndim != 2 or logits.shape[1] < 2 or not len(logits):
        raise ValueError(
            f"logits must be (m, k + 1), k >= 1, the last column for unknown, at least one row; got {tuple(logits.shape)}"
        )
    x = logits if logits.dtype == torch.float64 else logits.float()
    odds = x[:, -1] - x[:, :-1].logsumexp(1)  # (m,), log u / (1 - u)
    return (functional.softplus(odds) - boundary * odds).mean()


# ---- networks and methods


@final
class RejectUnsure(nn.Module):
    """A head for `Network`: features (b, d) -> `reject_unsure` of another head's logits (b, k): (b, k + 1)."""

    def __init__(self, head: nn.Module, *, threshold: float) -> None:
        super().__init__()
        self.head, self.threshold = head, threshold

    def forward(self, features: Tensor) -> Tensor:
        return reject_unsure(self.head(features), threshold=self.threshold)


@final
class OSBP(Adapt):
    """Cross-entropy on the source + trade_off * ramp(progress) * `unknown_confusion` on the target, reversed below the head.

    The head lowers both terms, so that unknown gets probability t everywhere on the target; the features lower the first and raise the
    second, so that a target sample moves to where it is known, or to where it is not. Alignment of known and rejection of unknown
    samples is this one choice. For a target with the source's classes and others.

    Args:
        network: maps x (b, ...) to Outputs of (known classes + 1) logits, the last one for unknown.
        boundary: t in (0, 1); 0.5 is the paper's.
        options: of `Adapt`: trade_off (1), ramp (constant), batch_statistics, label_smoothing (which also smooths towards unknown).

    The second term has no upper bound in the features' scale, and SGD can drive plain ReLU features to infinity: give the network batch
    normalisation in front of the head, as the paper does.

    Saito et al. 2018. Source and target there are normalised apart, each by its own batch; here batch_statistics says. The head
    sees the target once more, above reversed features; batch normalisation in a deep head keeps the statistics of the first time.

    Raises ValueError where a source label names the last output.
    """

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
                f"source labels must be < {known}, as the last of {known + 1} outputs is for unknown; got {labels.max()}"
            )
        statistics = frozen_statistics if self.batch_statistics == "source" else kept_statistics
        with statistics(self.network.head):
            logits = self.network.head(reverse_gradient(target.features))
        return {"unknown": unknown_confusion(logits, boundary=self.boundary)}


def _check_boundary(boundary: float) -> None:
    if not 0 < boundary < 1:
        raise ValueError(f"boundary must be in (0, 1); got {boundary}")
