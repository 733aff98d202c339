"""Adversarial alignment: features from which a second network cannot tell the domains apart.

    DANN    discriminator on features, gradient reversed below it                      one move
    CDAN    the same on features x predicted probabilities; CDAN+E trusts the certain  one move
    ADDA    a target encoder learns to pass for the source's, which stays              discriminator, then encoder
    WDGRL   a critic of slope 1 measures the Wasserstein distance, features shrink it  critic several times, then features

A discriminator's logit is > 0 for source. The logit's loss and the critic's slopes are computed in float32 at least, under
autocast too. With several processes every term is that of the global batch, as in `da.method.Adapt`.

Ganin et al.: Domain-Adversarial Training of Neural Networks. JMLR 2016.
Long et al.: Conditional Adversarial Domain Adaptation. NeurIPS 2018.
Tzeng et al.: Adversarial Discriminative Domain Adaptation. CVPR 2017.
Shen et al.: Wasserstein Distance Guided Representation Learning for Domain Adaptation. AAAI 2018.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays import full_precision
from da.data.batches import Batch
from da.heads import MultilinearMap, adversary_group, at_least_single, discriminator, fixed, linear_head, reverse_gradient
from da.method import Adapt, Method, Terms, everywhere, sigmoid_ramp
from da.networks import Network, Outputs, frozen_statistics
from da.ops.gather import gather_rows

# ---- functions of tensors


def domain_confusion_loss(
    source_logits: Tensor, target_logits: Tensor, *, source_weights: Tensor | None = None, target_weights: Tensor | None = None
) -> Tensor:
    """[mean_i w_i log(1 + exp(-s_i)) + mean_j v_j log(1 + exp(t_j))] / 2 of logits s (n,) and t (m,): binary cross-entropy, in nats.

    Each domain counts half, whatever n and m; a discriminator that knows nothing (all logits 0, weights of mean 1) has log 2.
    Weights w (n,) and v (m,) are 1 if not given. Logits may be (n, 1). The halves are those of CDAN's published code; Ganin et
    al. write the sum of the two means.

    Raises ValueError where there is not one logit, or not one weight, for each row.
    """
    source = _mean_softplus(-_one_a_row("source_logits", source_logits), "source_weights", source_weights)
    target = _mean_softplus(_one_a_row("target_logits", target_logits), "target_weights", target_weights)
    return (source + target) / 2


def entropy_weights(probabilities: Tensor) -> Tensor:
    """w_i = (1 + exp(-H_i)) / mean_j (1 + exp(-H_j)) of predictions p (n, k), H_i = -sum_c p_ic log p_ic in nats: (n,), of mean 1.

    Certain predictions weigh up to twice as much as uncertain ones (Long et al. 2018, CDAN+E). 0 log 0 is 0 here; the published
    code adds 1e-5 within the logarithm. The derivative is infinite where a probability is 0: detach the predictions.
    """
    weights = 1 + torch.exp(-torch.special.entr(at_least_single(probabilities)).sum(1))  # (n,)
    return weights / weights.mean()


def wasserstein_gap(critic: nn.Module, source: Tensor, target: Tensor) -> Tensor:
    """mean critic(source) - mean critic(target) of rows (n, d) and (m, d): for the best critic of slope <= 1 the Wasserstein distance.

    A scalar, in the features' units. Shen et al. 2018, equation 2.
    """
    return at_least_single(critic(source)).mean() - at_least_single(critic(target)).mean()


def gradient_penalty(critic: nn.Module, source: Tensor, target: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """mean_i (||grad critic(z_i)|| - 1)^2 over source (n, d), target (m, d) and min(n, m) points between them: a scalar >= 0.

    Points between are a_i source_i + (1 - a_i) target_i, a_i uniform in [0, 1] from `generator` (of the features' device; None:
    torch's global one), for the first min(n, m) rows. Its gradient reaches the critic alone: source and target are taken as given.
    Shen et al. 2018, equation 5, and their code, which takes the slopes at both samples too.
    """
    with full_precision(source):
        x, y = at_least_single(source.detach()), at_least_single(target.detach())
        k = min(len(x), len(y))
        share = torch.rand(k, 1, device=x.device, dtype=x.dtype, generator=generator)
        points = torch.cat([x, y, share * x[:k] + (1 - share) * y[:k]]).requires_grad_()  # (n + m + k, d)
        with torch.enable_grad():
            (slopes,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)  # (n + m + k, d)
        return (slopes.norm(dim=1) - 1).square().mean()


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
        self, network: Network, discriminator: nn.Module, *, ramp: Callable[[float], float] = sigmoid_ramp, **options: Any
    ) -> None:
        super().__init__(network, ramp=ramp, **options)
        self.discriminator = discriminator

    @abstractmethod
    def transfer(self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0) -> Terms:
        """As `Adapt.transfer`; `factor` of the discriminator's gradient, reversed, reaches the network."""

    def confusion(
        self, source: Tensor, target: Tensor, factor: float, source_weights: Tensor | None = None, target_weights: Tensor | None = None
    ) -> Tensor:
        """`domain_confusion_loss` of the discriminator's logits on rows (n, w) and (m, w), whose gradient comes back times -factor."""
        logits = self.discriminator(reverse_gradient(torch.cat([source, target]), factor))
        n = len(source)
        return domain_confusion_loss(logits[:n], logits[n:], source_weights=source_weights, target_weights=target_weights)

    def loss(self, batch: Batch, progress: float) -> Terms:
        source, target = self.outputs(batch)
        terms = self.transfer(everywhere(source), everywhere(target), gather_rows(batch.source_y), self.trade_off * self.ramp(progress))
        return {"task": self.task(source, batch.source_y)} | terms

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return [*super().parameter_groups(learning_rate, backbone_factor), adversary_group(self.discriminator, learning_rate)]


class DANN(Reversed):
    """min_D domain_confusion_loss(D(features)), whose gradient reaches the network times -trade_off * ramp(progress).

    Args:
        network: maps x (b, ...) to Outputs.
        discriminator: features (b, d) -> logits (b,); None: two hidden layers of 1024 with dropout (`da.heads.discriminator`).
        options: trade_off (1): largest factor of the reversed gradient, lambda; the discriminator always learns at full strength.
            ramp (`sigmoid_ramp`, the paper's): progress in [0, 1] -> share of trade_off. Others as for `Adapt`.

    Ganin et al. 2016; they count each domain's mean whole, here half (`domain_confusion_loss`).
    """

    def __init__(self, network: Network, discriminator: nn.Module | None = None, **options: Any) -> None:
        super().__init__(network, discriminator or _default(network), **options)

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0) -> Terms:
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
        self, network: Network, discriminator: nn.Module | None = None, *, entropy_conditioning: bool = False, **options: Any
    ) -> None:
        head = linear_head(network)
        multilinear = MultilinearMap(head.in_features, head.out_features)
        super().__init__(network, discriminator or _default(network, multilinear.width), **options)
        self.multilinear, self.entropy_conditioning = multilinear, entropy_conditioning

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0) -> Terms:
        p, q = (at_least_single(outputs.logits.detach()).softmax(1) for outputs in (source, target))
        weights = (entropy_weights(p), entropy_weights(q)) if self.entropy_conditioning else (None, None)
        return {"domain": self.confusion(self.multilinear(source.features, p), self.multilinear(target.features, q), factor, *weights)}


class ADDA(Method[Batch]):
    """A target encoder is taught to pass for the source encoder, under the source's head. No task loss, and no source label.

        discriminator   min_D  domain_confusion_loss(D(source encoder(x_s)), D(target encoder(x_t)))
        target encoder  min    mean log(1 + exp(-D(target encoder(x_t)))): the discriminator's loss with inverted labels

    Args:
        network: trained on the source already. Its backbone and bottleneck become the target encoder, its head learns no more; a frozen
            copy of it, `source_network`, is the source encoder.
        discriminator: features (b, d) -> logits (b,); None: two hidden layers of 500, the paper's for digits.

    The source encoder keeps its batch statistics; dropout, where there is any, is on in both encoders, so that it does not tell them
    apart. Tzeng et al. 2017; there the two move at once, here one after the other.
    """

    def __init__(self, network: Network, discriminator: nn.Module | None = None) -> None:
        super().__init__(network)
        self.source_network = copy.deepcopy(network).requires_grad_(False)
        self.discriminator = discriminator or _default(network, hidden=(500, 500), dropout=0.0)
        network.head.requires_grad_(False)

    def step(self, batch: Batch, progress: float) -> Iterator[Terms]:
        source, target = self.features(batch)
        yield {"discriminator": domain_confusion_loss(self.discriminator(source), self.discriminator(target.detach()))}
        yield self.encoder_terms(target)

    def loss(self, batch: Batch, progress: float) -> Terms:
        return self.encoder_terms(self.features(batch)[1])

    def encoder_terms(self, target: Tensor) -> Terms:
        """The second move, of target features (m, d)."""
        with fixed(self.discriminator):
            return {"encoder": _mean_softplus(-_one_a_row("target_logits", self.discriminator(target)), "", None)}

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Source features (n, d), without a graph, and target features (m, d)."""
        with torch.no_grad(), frozen_statistics(self.source_network):
            source = self.source_network(batch.source_x).features
        return gather_rows(source), gather_rows(self.network(batch.target_x).features)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return [*super().parameter_groups(learning_rate, backbone_factor), adversary_group(self.discriminator, learning_rate)]


class WDGRL(Adapt):
    """Cross-entropy on the source + trade_off * the Wasserstein distance of the features, as a critic measures it.

        critic    several moves: max  wasserstein_gap - penalty * gradient_penalty, the features as they are
        features  one move:      min  task + trade_off * ramp(progress) * wasserstein_gap

    Args:
        network: maps x (b, ...) to Outputs.
        critic: features (b, d) -> values (b,); None: one hidden layer of 100, the paper's.
        critic_steps: moves of the critic in each step, on one batch.
        penalty: factor of the gradient penalty (gamma).
        options: of `Adapt`: trade_off (1 in the paper's code for Amazon reviews, 0.01 for digits), ramp, batch_statistics,
            label_smoothing.

    Shen et al. 2018, algorithm 1. The network sees the batch once a step, in front of the critic's moves, which do not change it.
    """

    def __init__(
        self, network: Network, critic: nn.Module | None = None, *, critic_steps: int = 5, penalty: float = 10.0, **options: Any
    ) -> None:
        super().__init__(network, **options)
        if critic_steps < 1:
            raise ValueError(f"critic_steps must be at least 1; got {critic_steps}")
        self.critic = critic or _default(network, hidden=(100,), dropout=0.0)
        self.critic_steps, self.penalty = critic_steps, penalty

    def step(self, batch: Batch, progress: float) -> Iterator[Terms]:
        source, target = self.outputs(batch)
        seen = everywhere(source), everywhere(target)
        features = seen[0].features.detach(), seen[1].features.detach()
        for _ in range(self.critic_steps):
            penalty = self.penalty * gradient_penalty(self.critic, *features)
            yield {"critic": -wasserstein_gap(self.critic, *features), "penalty": penalty}
        factor = self.trade_off * self.ramp(progress)
        terms = {name: factor * term for name, term in self.transfer(*seen, gather_rows(batch.source_y)).items()}
        yield {"task": self.task(source, batch.source_y)} | terms

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        with fixed(self.critic):
            return {"wasserstein": wasserstein_gap(self.critic, source.features, target.features)}

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return [*super().parameter_groups(learning_rate, backbone_factor), adversary_group(self.critic, learning_rate)]


# ---- shared


def _one_a_row(name: str, logits: Tensor) -> Tensor:
    """(n,) or (n, 1) -> (n,)."""
    if logits.ndim not in (1, 2) or logits.shape[1:] not in ((), (1,)):
        raise ValueError(f"{name} must be (n,) or (n, 1), one logit for each row; got {tuple(logits.shape)}")
    return at_least_single(logits).flatten()


def _mean_softplus(logits: Tensor, name: str, weights: Tensor | None) -> Tensor:
    losses = functional.softplus(logits)  # (n,)
    if weights is None:
        return losses.mean()
    if weights.shape != losses.shape:
        raise ValueError(f"{name} must be ({len(losses)},), one for each logit; got {tuple(weights.shape)}")
    return (weights * losses).mean()


def _default(network: Network, width: int | None = None, **options: Any) -> nn.Module:
    return discriminator(width or linear_head(network).in_features, **options)
