"""BA3US: partial-set adaptation with a balanced adversary, and less certain source rows made fair.

    balanced adversary     a share of the source stands among the target, so no class is left alone
    complement entropy     what a source row gives to wrong classes is spread evenly over them

Source classes count by the share of the target that is predicted to be of each, as in `PADA`.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from da.arrays.matrices import at_least_single
from da.data.batches import Batch
from da.feature.class_weighted import ClassWeighted, weights_first
from da.feature.discriminator_loss import mean_softplus, one_a_row
from da.feature.target import entropy
from da.feature.views import check_fraction
from da.networks.adversary import discriminator as default_discriminator
from da.networks.adversary import reverse_gradient
from da.networks.network import Network, Outputs, entropies, linear_head
from da.train.distributed import gather_rows
from da.train.loss_weights import check_factor
from da.train.method import BatchStatistics, Ramp, Terms, everywhere


def balanced_confusion_loss(
    source_logits: Tensor,
    target_logits: Tensor,
    *,
    share: float = 0.25,
    source_weights: Tensor | None = None,
    target_weights: Tensor | None = None,
) -> Tensor:
    """Measure how badly a discriminator tells source from target, with source among the target.

    A partial target lacks classes. If a share r of the source's rows counts as target rows too, the
    classes on both sides are more alike, and rows of lacking classes are not drawn to others.

        [mean_i w_i l(-s_i) + r mean_i w_i l(s_i) + mean_j v_j l(t_j)] / (2 + r)
        l(x) = log(1 + exp(x))

    Args:
        source_logits: Logits s of the source rows, (n,) or (n, 1); > 0 says source.
        target_logits: Logits t of the target rows, (m,) or (m, 1).
        share: r, in [0, 1]. Default 0.25. With 0 it is `domain_confusion_loss`.
        source_weights: Weights w of the source rows, (n,), of mean 1; None: 1 for each row.
        target_weights: Weights v of the target rows, (m,), of mean 1; None: 1 for each row.

    Returns:
        A scalar >= 0 in nats, in float32 at least; differentiable in the logits and the weights.

    Raises:
        ValueError: There is not one logit for each row, or share is not in [0, 1].

    Example:
        >>> import torch
        >>> from da.feature.balanced import balanced_confusion_loss
        >>> round(balanced_confusion_loss(torch.zeros(3), torch.zeros(5)).item(), 3)
        0.693

    Paper:
        Liang, Wang, Hu, He et al.: A Balanced and Uncertainty-aware Approach for Partial Domain
        Adaptation. ECCV 2020 (BA3US).

    Differences:
        Every source row counts r times as a target row. The paper draws r n of them, so the value
        is the mean over its draws but for how the weights are normalised.
    """
    check_fraction("share", share)
    s = one_a_row("source_logits", source_logits)
    t = one_a_row("target_logits", target_logits)
    as_source, as_target = mean_softplus(-s, source_weights), mean_softplus(s, source_weights)
    return (as_source + share * as_target + mean_softplus(t, target_weights)) / (2 + share)


def complement_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Measure how evenly predictions are spread over the wrong classes; -1 is evenly.

    A network that confuses a row with one wrong class would hand this mistake on to the target.
    Rows whose own class is less probable count more.

        sum_i a_i sum_{k != y_i} q_ik log q_ik / (log(K - 1) sum_i a_i)
        q_ik = p_ik / (1 - p_iy),    a_i = w_i (1 - p_iy)

    Args:
        logits: (n, K), K >= 3; p is their softmax.
        labels: Classes y (n,).
        weights: w (n,), >= 0. Default None: all 1.

    Returns:
        A scalar from -1 to 0, in float32 at least; differentiable in the logits through q alone.

    Raises:
        ValueError: The shapes do not fit.

    Example:
        >>> import torch
        >>> from da.feature.balanced import complement_entropy
        >>> round(complement_entropy(torch.tensor([[2.0, 1.0, 1.0]]), torch.tensor([0])).item(), 6)
        -1.0

    Paper:
        Liang, Wang, Hu, He et al.: A Balanced and Uncertainty-aware Approach for Partial Domain
        Adaptation. ECCV 2020 (adaptive uncertainty suppression).

    Differences:
        None known. The authors' code adds 1e-7 and 1e-10 within.
    """
    if logits.ndim != 2 or logits.shape[1] < 3 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "logits must be (n, K), K >= 3, and labels (n,); got "
            f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    z, own = at_least_single(logits), labels[:, None]
    log_q = z.scatter(1, own, -torch.inf).log_softmax(dim=1)  # (n, K)
    evenness = -(log_q.exp() * log_q.clamp(min=-1e30)).sum(dim=1) / math.log(z.shape[1] - 1)
    a = 1 - z.detach().softmax(dim=1).gather(1, own)[:, 0]  # (n,)
    a = a if weights is None else weights * a
    return -(a * evenness).sum() / a.sum().clamp(min=torch.finfo(z.dtype).tiny)


@final
class BA3US(ClassWeighted):
    """Do as PADA, with a balanced adversary and source rows that spread their doubt evenly (BA3US).

    Use it if the target's classes are among the source's, and fewer. Source class y counts gamma_y
    times, the share of the target that is predicted to be of it:

        task          sum_i gamma_y_i CE(logits_i, y_i) / sum_i gamma_y_i
        domain        `balanced_confusion_loss` of features, reversed below D, with the share
                      share * (1 - progress), and rows weighted by 1 + exp(-H(p)), in the source
                      times gamma_y
        complement    complement_weight * `complement_entropy` of the source, weighted by gamma_y
        entropy       entropy_weight * mean_j H(p_j) of the target's predictions

    Args:
        network: Maps x (b, ...) to Outputs of three classes or more; its head must be linear.
        discriminator: Features (b, d) -> logits (b,); > 0 says source. None: two hidden layers of
            1024 with dropout (`da.networks.discriminator`).
        share: Of the source that stands among the target at first, in [0, 1]; default 0.25, the
            paper's.
        complement_weight: Factor of the complement entropy, >= 0; default 1, the paper's for
            Office-Home. It has 5 for Office-31.
        entropy_weight: Factor of the entropy, >= 0; default 0.1, the paper's.
        decay: Share of the running average of predictions that stays in a training step, in
            [0, 1); default 0.99. See `PADA`.
        ramp: Progress in [0, 1] -> share of trade_off; default `weights_first`, because the network
            may start untrained.
        trade_off: Largest factor of the reversed gradient; default 1.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        TypeError: The network's head is not linear.
        ValueError: An option is out of its range, or there are fewer than three classes.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import BA3US
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> sorted(BA3US(mlp(3, classes=3)).loss(Batch(x, y, x, y, y), progress=0.5))
        ['complement', 'domain', 'entropy', 'task']

    Paper:
        Liang, Wang, Hu, He et al.: A Balanced and Uncertainty-aware Approach for Partial Domain
        Adaptation. ECCV 2020.

    Differences:
        Those of `balanced_confusion_loss`. The paper predicts the whole target anew ten times in
        the training, and counts all classes the same until the first time. Here a running average
        over batches takes its place, as in `PADA`, and the adversary waits for the first tenth of
        the training. The share falls evenly; the paper's falls in ten steps.
    """

    def __init__(
        self,
        network: Network,
        discriminator: nn.Module | None = None,
        *,
        share: float = 0.25,
        complement_weight: float = 1.0,
        entropy_weight: float = 0.1,
        decay: float = 0.99,
        ramp: Ramp = weights_first,
        trade_off: float = 1.0,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        check_fraction("share", share)
        check_factor("complement_weight", complement_weight)
        check_factor("entropy_weight", entropy_weight)
        head = linear_head(network)
        if head.out_features < 3:
            raise ValueError(f"network must have three classes or more; got {head.out_features}")
        super().__init__(
            network,
            discriminator or default_discriminator(head.in_features),
            decay=decay,
            ramp=ramp,
            trade_off=trade_off,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.share, self.complement_weight = share, complement_weight
        self.entropy_weight = entropy_weight

    def adaptation(self, source: Outputs, target: Outputs, batch: Batch, progress: float) -> Terms:
        factor, labels = self.trade_off * self.ramp(progress), gather_rows(batch.source_y)
        share = self.share * (1 - progress)
        return self.transfer(everywhere(source), everywhere(target), labels, factor, share)

    def transfer(
        self,
        source: Outputs,
        target: Outputs,
        labels: Tensor,
        factor: float = 1.0,
        share: float = 0.0,
    ) -> Terms:
        n = len(source.logits)
        gamma = self.row_weights(target, labels)  # (n,)
        z = at_least_single(torch.cat([source.logits, target.logits]))
        certainty = 1 + torch.exp(-entropies(reverse_gradient(z, factor)))  # (n + m,)
        features = torch.cat([source.features, target.features])
        logits = self.discriminator(reverse_gradient(features, factor))  # (n + m,)
        domain = balanced_confusion_loss(
            logits[:n],
            logits[n:],
            share=share,
            source_weights=_of_mean_one(gamma * certainty[:n]),
            target_weights=_of_mean_one(certainty[n:]),
        )
        complement = complement_entropy(source.logits, labels, gamma)
        return {
            "domain": domain,
            "complement": self.complement_weight * complement,
            "entropy": self.entropy_weight * entropy(target.logits),
        }


def _of_mean_one(weights: Tensor) -> Tensor:
    mean = weights.detach().mean()
    return weights / mean.clamp(min=torch.finfo(weights.dtype).tiny)
