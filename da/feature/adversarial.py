"""Adversarial alignment: features from which a second network cannot tell the domains apart.

    DANN    discriminator on features, gradient reversed below it                      one move
    CDAN    the same on features x predicted probabilities; CDAN+E trusts the certain  one move
    ADDA    a target encoder learns to pass for the source's, which stays              discriminator, then encoder
    WDGRL   a critic of slope 1 measures the Wasserstein distance, features shrink it  critic several times, then features

A discriminator's logit is > 0 for source. The logit's loss and the critic's slopes are computed in float32 at least, under
autocast too. With several processes every term is that of the global batch, as in `da.train.method.Adapt`.

Ganin et al.: Domain-Adversarial Training of Neural Networks. JMLR 2016.
Long et al.: Conditional Adversarial Domain Adaptation. NeurIPS 2018.
Tzeng et al.: Adversarial Discriminative Domain Adaptation. CVPR 2017.
Shen et al.: Wasserstein Distance Guided Representation Learning for Domain Adaptation. AAAI 2018.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays import at_least_single
from da.data.batches import Batch
from da.networks.adversary import MultilinearMap, adversary_group, reverse_gradient
from da.networks.adversary import discriminator as default_discriminator
from da.networks.network import Network, Outputs, linear_head
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, everywhere, sigmoid_ramp

# ---- functions of tensors


def domain_confusion_loss(
    source_logits: Tensor,
    target_logits: Tensor,
    *,
    source_weights: Tensor | None = None,
    target_weights: Tensor | None = None,
) -> Tensor:
    """[mean_i w_i log(1 + exp(-s_i)) + mean_j v_j log(1 + exp(t_j))] / 2 of logits s (n,) and t (m,): binary cross-entropy, in nats.

    Each domain counts half, whatever n and m; a discriminator that knows nothing (all logits 0, weights of mean 1) has log 2.
    Weights w (n,) and v (m,) are 1 if not given. Logits may be (n, 1). The halves are those of CDAN's published code; Ganin et
    al. write the sum of the two means.

    Raises ValueError where there is not one logit, or not one weight, for each row.
    """
    source = mean_softplus(
        -one_a_row("source_logits", source_logits), "source_weights", source_weights
    )
    target = mean_softplus(
        one_a_row("target_logits", target_logits), "target_weights", target_weights
    )
    return (source + target) / 2


def entropy_weights(probabilities: Tensor) -> Tensor:
    """w_i = (1 + exp(-H_i)) / mean_j (1 + exp(-H_j)) of predictions p (n, k), H_i = -sum_c p_ic log p_ic in nats: (n,), of mean 1.

    Certain predictions weigh up to twice as much as uncertain ones (Long et al. 2018, CDAN+E). 0 log 0 is 0 here; the published
    code adds 1e-5 within the logarithm. The derivative is infinite where a probability is 0: detach the predictions.
    """
    weights = 1 + torch.exp(-torch.special.entr(at_least_single(probabilities)).sum(1))  # (n,)
    return weights / weights.mean()


# ---- methods


class Reversed(Adapt):
    """A discriminator above reversed gradients, which learns at full strength whatever trade_off and ramp are.

    Args:
        network: maps x (b, ...) to Outputs.
        discriminator: what `confusion` is given, in rows, -> logits (b,).
        ramp: progress in [0, 1] -> share of trade_off, by which the reversed gradient, not the loss, is multiplied.
        options: others of `Adapt`.
    """

    def __init__(
        self,
        network: Network,
        discriminator: nn.Module,
        *,
        ramp: Ramp = sigmoid_ramp,
        trade_off: float = 1.0,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            ramp=ramp,
            trade_off=trade_off,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.discriminator = discriminator

    @abstractmethod
    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        """As `Adapt.transfer`; `factor` of the discriminator's gradient, reversed, reaches the network."""

    def confusion(
        self,
        source: Tensor,
        target: Tensor,
        factor: float,
        source_weights: Tensor | None = None,
        target_weights: Tensor | None = None,
    ) -> Tensor:
        """`domain_confusion_loss` of the discriminator's logits on rows (n, w) and (m, w), whose gradient comes back times -factor."""
        logits = self.discriminator(reverse_gradient(torch.cat([source, target]), factor))
        n = len(source)
        return domain_confusion_loss(
            logits[:n], logits[n:], source_weights=source_weights, target_weights=target_weights
        )

    def loss(self, batch: Batch, progress: float) -> Terms:
        source, target = self.outputs(batch)
        terms = self.transfer(
            everywhere(source),
            everywhere(target),
            gather_rows(batch.source_y),
            self.trade_off * self.ramp(progress),
        )
        return {"task": self.task(source, batch.source_y)} | terms

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return [
            *super().parameter_groups(learning_rate, backbone_factor),
            adversary_group(self.discriminator, learning_rate),
        ]


class DANN(Reversed):
    """min_D domain_confusion_loss(D(features)), whose gradient reaches the network times -trade_off * ramp(progress).

    Args:
        network: maps x (b, ...) to Outputs.
        discriminator: features (b, d) -> logits (b,); None: two hidden layers of 1024 with dropout (`da.networks.adversary.discriminator`).
        options: trade_off (1): largest factor of the reversed gradient, lambda; the discriminator always learns at full strength.
            ramp (`sigmoid_ramp`, the paper's): progress in [0, 1] -> share of trade_off. Others as for `Adapt`.

    Ganin et al. 2016; they count each domain's mean whole, here half (`domain_confusion_loss`).
    """

    def __init__(
        self,
        network: Network,
        discriminator: nn.Module | None = None,
        *,
        trade_off: float = 1.0,
        ramp: Ramp = sigmoid_ramp,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            discriminator or default_discriminator(linear_head(network).in_features),
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        return {"domain": self.confusion(source.features, target.features, factor)}


class CDAN(Reversed):
    """As DANN, with a discriminator of features and predictions together: T(f, g), the multilinear map of features and probabilities.

    Args:
        network: maps x (b, ...) to Outputs, with a linear head.
        discriminator: T (b, `MultilinearMap.width`) -> logits (b,); None as for DANN.
        entropy_conditioning: CDAN+E: samples are weighted by `entropy_weights` of their predictions, in each domain by itself.
        options: as for DANN.

    Long et al. 2018. Predictions are given to the discriminator, and to the weights, without their gradient: the adversary teaches
    the features alone. So does the published code with the predictions it maps, though not with its weights, through which it sends
    a reversed gradient; the paper's minimax runs through both.
    """

    def __init__(
        self,
        network: Network,
        discriminator: nn.Module | None = None,
        *,
        entropy_conditioning: bool = False,
        trade_off: float = 1.0,
        ramp: Ramp = sigmoid_ramp,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        head = linear_head(network)
        multilinear = MultilinearMap(head.in_features, head.out_features)
        super().__init__(
            network,
            discriminator or default_discriminator(multilinear.width),
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.multilinear, self.entropy_conditioning = multilinear, entropy_conditioning

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        p, q = (at_least_single(outputs.logits.detach()).softmax(1) for outputs in (source, target))
        weights = (
            (entropy_weights(p), entropy_weights(q)) if self.entropy_conditioning else (None, None)
        )
        return {
            "domain": self.confusion(
                self.multilinear(source.features, p),
                self.multilinear(target.features, q),
                factor,
                *weights,
            )
        }


# ---- shared


def one_a_row(name: str, logits: Tensor) -> Tensor:
    """(n,) or (n, 1) -> (n,)."""
    if logits.ndim not in (1, 2) or logits.shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{name} must be (n,) or (n, 1), one logit for each row; got {tuple(logits.shape)}"
        )
    return at_least_single(logits).flatten()


def mean_softplus(logits: Tensor, name: str, weights: Tensor | None) -> Tensor:
    """mean_i w_i log(1 + exp(l_i)) of logits l (n,); weights (n,), which `name` calls in an error, None: 1 each."""
    losses = functional.softplus(logits)  # (n,)
    if weights is None:
        return losses.mean()
    if weights.shape != losses.shape:
        raise ValueError(
            f"{name} must be ({len(losses)},), one for each logit; got {tuple(weights.shape)}"
        )
    return (weights * losses).mean()
