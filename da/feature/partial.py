"""Partial-set adaptation: the target holds some of the source's classes, and nobody says which.

Aligning all of the source with such a target puts target samples onto classes that the target does not have. So the source is
weighted first:

    PADA    by class:   how much of the target is predicted to be of it                     weighs source cross-entropy and discriminator
    IWAN    by sample:  how much a first discriminator takes it for a target sample         weighs a second discriminator alone

Both learn in one move, with gradient reversal. A discriminator's logit is > 0 for source. Weights carry no gradient, and are computed
in float32 at least, under autocast too. With several processes every term is that of the global batch, as in `da.train.method.Adapt`.

Cao, Ma, Long, Wang: Partial Adversarial Domain Adaptation. ECCV 2018.
Zhang, Ding, Li, Ogunbona: Importance Weighted Adversarial Nets for Partial Domain Adaptation. CVPR 2018.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays import at_least_single
from da.feature.adversarial import Reversed, domain_confusion_loss
from da.feature.target import entropy
from da.networks.adversary import adversary_group
from da.networks.adversary import discriminator as default_discriminator
from da.networks.network import Network, Outputs, linear_head
from da.train.method import BatchStatistics, Ramp, Terms, sigmoid_ramp

# ---- functions of tensors


def class_weights(probabilities: Tensor) -> Tensor:
    """gamma = mean_j q_j / max_k mean_j q_jk of target predictions q (m, k): (k,), each in [0, 1], the largest 1; constants.

    A class that no target sample is predicted to be of has weight 0. Cao et al. 2018, equation 2, divided by its maximum as they say;
    their code divides by the mean in the cross-entropy, and by the maximum over the batch in the discriminator's loss.

    Raises ValueError where predictions are not (m, k) with at least one row.
    """
    if probabilities.ndim != 2 or not probabilities.numel():
        raise ValueError(
            f"probabilities must be (m, k), at least one row; got {tuple(probabilities.shape)}"
        )
    share = at_least_single(probabilities.detach()).mean(0)  # (k,)
    return share / share.max()


def importance_weights(source_logits: Tensor) -> Tensor:
    """w_i = (1 - D_i) / mean_j (1 - D_j) of a discriminator's logits on source (n,), D = sigmoid(logit): (n,), of mean 1; constants.

    D is the probability of source, so that 1 - D = 1 / (1 + p_source / p_target) for the best discriminator: near 0 where there is no
    target. Computed from log(1 - D), which is finite also for a discriminator that takes every row for source beyond doubt. Logits may
    be (n, 1). Zhang et al. 2018, equations 7 and 8.

    Raises ValueError where there is not one logit for each row.
    """
    if source_logits.ndim not in (1, 2) or source_logits.shape[1:] not in ((), (1,)):
        raise ValueError(
            f"source_logits must be (n,) or (n, 1), one logit for each row; got {tuple(source_logits.shape)}"
        )
    log_weights = functional.logsigmoid(-at_least_single(source_logits.detach()).flatten())  # (n,)
    return len(log_weights) * log_weights.softmax(0)


# ---- methods


def weights_first(progress: float) -> float:
    """0 for the first tenth of the training, then `sigmoid_ramp` over the rest.

    Before a network has learned the source its predictions of the target mean nothing, nor do weights made from them. An adversary
    that is at work by then draws the target to the source's largest classes, there or not, and the weights follow it.
    """
    return sigmoid_ramp(max(0.0, (progress - 0.1) / 0.9))


@final
class PADA(Reversed):
    """DANN with source class y counted gamma_y times (`class_weights`), in its cross-entropy and in the discriminator's loss.

        task     mean_i gamma_y_i CE(logits_i, y_i)
        domain   [mean_i gamma_y_i log(1 + exp(-D(f_i))) + mean_j log(1 + exp(D(f_j)))] / 2, reversed below D

    For a target whose classes are among the source's, fewer of them.

    Args:
        network: maps x (b, ...) to Outputs, with a linear head.
        discriminator: features (b, d) -> logits (b,); None: two hidden layers of 1024 with dropout (`da.networks.adversary.discriminator`).
        decay: share in [0, 1) that the running average of the target's predictions keeps of itself in a training step: 0.99
            remembers about 100 batches. It starts even, with all weights 1.
        ramp: as for `da.feature.adversarial.DANN`, but `weights_first`: here it is not taken for granted that the network is trained.
        options: as for DANN: trade_off, batch_statistics, label_smoothing.

    Cao et al. 2018. They predict the whole target anew every 500 steps; here a running average over batches, which needs no second
    pass over the data, stands in for it: `target_share` (k,), a buffer, moved before it is used and only while training. Predictions
    and weights confirm each other, right or wrong: an average that forgets fast starves the classes that the target is not
    predicted to be of at first, and a source that has classes in unequal numbers biases it.
    """

    target_share: Tensor

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
        head = linear_head(network)
        super().__init__(
            network,
            discriminator or default_discriminator(head.in_features),
            ramp=ramp,
            trade_off=trade_off,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1); got {decay}")
        self.decay = decay
        self.register_buffer(
            "target_share",
            torch.full_like(head.weight[:, 0], 1 / head.out_features, requires_grad=False),
        )

    @property
    def weights(self) -> Tensor:
        """gamma (k,), from all batches so far."""
        return class_weights(self.target_share[None])

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        if self.training:
            share = at_least_single(target.logits.detach()).softmax(1).mean(0)  # (k,)
            self.target_share.lerp_(share.to(self.target_share.dtype), 1 - self.decay)
        return {
            "domain": self.confusion(source.features, target.features, factor, self.weights[labels])
        }

    def task(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Cross-entropy of the logits, each row times its class's weight; the mean is over rows, not over weights."""
        losses = functional.cross_entropy(
            outputs.logits, labels, reduction="none", label_smoothing=self.label_smoothing
        )  # (n,)
        return (self.weights[labels] * losses).mean()


@final
class IWAN(Reversed):
    """Two discriminators: the first weighs source samples (`importance_weights`), the second sees them weighted and is confused.

        weighting   domain_confusion_loss(D(f_s), D(f_t)), which reaches D alone
        domain      [mean_i w_i log(1 + exp(-D_0(f_i))) + mean_j log(1 + exp(D_0(f_j)))] / 2, reversed below D_0; w from D
        entropy     entropy_weight * mean_j H(p_j) of the target's predictions

    For a target whose classes are among the source's, fewer of them.

    Args:
        network: maps x (b, ...) to Outputs.
        discriminator: D_0, features (b, d) -> logits (b,); None: two hidden layers of 1024 with dropout (`da.networks.adversary.discriminator`).
        weighting_discriminator: D, likewise; another network than D_0.
        entropy_weight: >= 0, in units of cross-entropy per nat; 0.1 is the paper's.
        options: as for `da.feature.adversarial.DANN`: trade_off, ramp, batch_statistics, label_smoothing.

    Zhang et al. 2018. There source encoder and head are trained first and then stand still, as in ADDA; here one encoder serves both
    domains and goes on learning from the source, so that D sees features that move, and the entropy reaches the head too. Trade_off and
    ramp are DANN's for the same reason: the reversed gradient of their code, which no cross-entropy opposes, is scaled by less than 0.1.
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
        logits = self.weighting_discriminator(
            torch.cat([source.features, target.features]).detach()
        )
        weights = importance_weights(logits[:n])  # (n,)
        return {
            "weighting": domain_confusion_loss(logits[:n], logits[n:]),
            "domain": self.confusion(source.features, target.features, factor, weights),
            "entropy": self.entropy_weight * entropy(target.logits),
        }

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        groups = super().parameter_groups(learning_rate, backbone_factor)
        return [*groups, adversary_group(self.weighting_discriminator, learning_rate)]
