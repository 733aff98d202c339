"""Partial-set adaptation: the target holds some of the source's classes, and nobody says which.

To align all of the source with such a target puts target rows onto classes that the target does not
have. So the source is weighted first:

| method | what is weighted | by what | weights count in |
|---|---|---|---|
| PADA | each class | predictions on the target | cross-entropy and discriminator |
| IWAN | each row | a first discriminator | a second discriminator alone |
| BA3US (`da.feature.balanced`) | each class | as PADA | both, and further terms |

All learn in one move, with gradient reversal. A discriminator's logit is > 0 for source. With
several processes every term is that of the global batch, as in `da.train.method.Adapt`.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from da.feature.adversarial import Reversed
from da.feature.class_weighted import ClassWeighted, weights_first
from da.feature.discriminator_loss import domain_confusion_loss
from da.feature.partial_weights import importance_weights
from da.feature.target import entropy
from da.networks.adversary import adversary_group
from da.networks.adversary import discriminator as default_discriminator
from da.networks.network import Network, Outputs, linear_head
from da.train.method import BatchStatistics, Ramp, Terms, sigmoid_ramp


@final
class PADA(ClassWeighted):
    """Do as DANN, with source classes that the target seems to lack counted less.

    Use it if the target's classes are among the source's, and fewer. Source class y counts gamma_y
    times (`da.feature.partial_weights.class_weights`), in the cross-entropy and for the
    discriminator D, below which the gradient is reversed:

        task      sum_i gamma_y_i CE(logits_i, y_i) / sum_i gamma_y_i
        domain    [mean_i w_i log(1 + exp(-D(f_i))) + mean_j log(1 + exp(D(f_j)))] / 2
        w_i = gamma_y_i / max_l gamma_y_l over the rows of the batch

    Predictions and weights confirm each other, right or wrong. An average that forgets fast starves
    classes that the target is not predicted to be of at first. A source with classes in unequal
    numbers biases it.

    Args:
        network: Maps x (b, ...) to Outputs; its head must be linear.
        discriminator: Features (b, d) -> logits (b,); > 0 says source. None: two hidden layers of
            1024 with dropout (`da.networks.discriminator`).
        decay: Share of the running average of predictions that stays in a training step, in
            [0, 1); default 0.99, which remembers about 100 batches. It starts even: all weights 1.
        ramp: Progress in [0, 1] -> share of trade_off; default `weights_first`, because the network
            may start untrained.
        trade_off: Largest factor of the reversed gradient; default 1.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        TypeError: The network's head is not linear.
        ValueError: `batch_statistics` is none of the three, or decay is not in [0, 1).

    Example:
        The head is made certain, and both target rows are of class 0.

        >>> import torch
        >>> from torch import nn
        >>> from da.data import Batch
        >>> from da.feature import PADA
        >>> from da.networks import Network
        >>> head = nn.Linear(2, 2, bias=False)
        >>> head.weight.data = 99 * torch.eye(2)
        >>> method = PADA(Network(nn.Identity(), nn.Identity(), head), decay=0.5)
        >>> x, y = torch.eye(2), torch.arange(2)
        >>> terms = method.loss(Batch(x, y, x[[0, 0]], y, y), progress=0.5)
        >>> method.target_share  # halfway from (1/2, 1/2) to (1, 0)
        tensor([0.7500, 0.2500])
        >>> method.weights
        tensor([1.0000, 0.3333])

    Paper:
        Cao, Ma, Long, Wang: Partial Adversarial Domain Adaptation. ECCV 2018.

    Differences:
        The paper predicts the whole target anew every 500 steps. Here a running average over
        batches takes its place, which needs no second pass over the data: the buffer
        `target_share` (k,), which moves before it is used and only in training. The adversary
        waits for the first tenth of the training. As in both published codes, the cross-entropy is
        a weighted mean and the discriminator's weights are divided by their maximum over the batch.
        The paper divides gamma by its maximum alone, so its gradient is smaller by the mean weight.
    """

    def __init__(
        self,
        network: Network,
        discriminator: nn.Module | None = None,
        *,
        decay: float = 0.99,
        ramp: Ramp = weights_first,
        trade_off: float = 1.0,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            discriminator or default_discriminator(linear_head(network).in_features),
            decay=decay,
            ramp=ramp,
            trade_off=trade_off,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        weights = self.row_weights(target, labels)  # (n,)
        weights = weights / weights.max().clamp(min=torch.finfo(weights.dtype).tiny)
        return {"domain": self.confusion(source.features, target.features, factor, weights)}


@final
class IWAN(Reversed):
    """Align by an adversary that sees source rows weighted by how much they look like the target.

    Use it if the target's classes are among the source's, and fewer. A first discriminator D makes
    the weights w (`da.feature.partial_weights.importance_weights`). A second, D_0, sees weighted
    source rows; the gradient is reversed below it alone:

        weighting    domain_confusion_loss(D(f_s), D(f_t)), which reaches D alone
        domain       [mean_i w_i log(1 + exp(-D_0(f_i))) + mean_j log(1 + exp(D_0(f_j)))] / 2
        entropy      entropy_weight * mean_j H(p_j) of the target's predictions

    Args:
        network: Maps x (b, ...) to Outputs; its head must be linear.
        discriminator: D_0, features (b, d) -> logits (b,); > 0 says source. None: two hidden layers
            of 1024 with dropout (`da.networks.discriminator`).
        weighting_discriminator: D, likewise; another network than D_0.
        entropy_weight: Factor of the entropy, >= 0; default 0.1, the paper's.
        trade_off: Largest factor of the reversed gradient; default 1.
        ramp: Progress in [0, 1] -> share of trade_off; default `sigmoid_ramp`.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        TypeError: The network's head is not linear.
        ValueError: `batch_statistics` is none of the three, entropy_weight is negative, or both
            discriminators are one network.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import IWAN
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = IWAN(mlp(3, classes=3), entropy_weight=0.1)
        >>> list(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['task', 'weighting', 'domain', 'entropy']

    Paper:
        Zhang, Ding, Li, Ogunbona: Importance Weighted Adversarial Nets for Partial Domain
        Adaptation. CVPR 2018.

    Differences:
        In the paper source encoder and head are trained first and then stay, as in ADDA. Here one
        encoder serves both domains and goes on learning from the source, so D sees features that
        move, and the entropy reaches the head too. For the same reason trade_off and ramp are as
        for DANN. In the authors' code no cross-entropy opposes the reversed gradient, and it is
        scaled by less than 0.1.
    """

    def __init__(
        self,
        network: Network,
        discriminator: nn.Module | None = None,
        *,
        weighting_discriminator: nn.Module | None = None,
        entropy_weight: float = 0.1,
        trade_off: float = 1.0,
        ramp: Ramp = sigmoid_ramp,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        width = linear_head(network).in_features
        super().__init__(
            network,
            discriminator or default_discriminator(width),
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        if not entropy_weight >= 0:
            raise ValueError(f"entropy_weight must not be negative; got {entropy_weight}")
        if weighting_discriminator is not None and weighting_discriminator is discriminator:
            raise ValueError(
                "weighting_discriminator must be another network than discriminator; got the same"
            )
        self.weighting_discriminator = weighting_discriminator or default_discriminator(width)
        self.entropy_weight = entropy_weight

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        n = len(source.features)
        features = torch.cat([source.features, target.features]).detach()
        logits = self.weighting_discriminator(features)  # (n + m,)
        weights = importance_weights(logits[:n])  # (n,)
        return {
            "weighting": domain_confusion_loss(logits[:n], logits[n:]),
            "domain": self.confusion(source.features, target.features, factor, weights),
            "entropy": self.entropy_weight * entropy(target.logits),
        }

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        groups = super().parameter_groups(learning_rate, backbone_factor)
        return [*groups, adversary_group(self.weighting_discriminator, learning_rate)]
