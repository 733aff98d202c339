"""Adversarial alignment: features from which a second network cannot tell the domains apart.

| method | second network | moves of a step |
|---|---|---|
| DANN | a discriminator of features | one, with the gradient reversed below it |
| CDAN | a discriminator of features and predictions together | one, likewise |
| ADDA (`da.feature.adda`) | a discriminator of features | discriminator, then target encoder |
| WDGRL (`da.feature.wasserstein`) | a critic of slope 1 | critic several times, then network |

A discriminator's logit is > 0 for source. With several processes every term is that of the global
batch, as in `da.train.method.Adapt`.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from da.arrays.matrices import at_least_single
from da.data.batches import Batch
from da.feature.discriminator_loss import domain_confusion_loss, entropy_weights
from da.networks.adversary import MultilinearMap, adversary_group, reverse_gradient
from da.networks.adversary import discriminator as default_discriminator
from da.networks.network import Network, Outputs, linear_head
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, everywhere, sigmoid_ramp


class Reversed(Adapt):
    """The base of methods with a discriminator above reversed gradients.

    The discriminator always learns at full strength. trade_off and ramp scale the reversed
    gradient that reaches the network, not the loss. A method says in `transfer` what its
    discriminator sees.

    Args:
        network: Maps x (b, ...) to Outputs.
        discriminator: Maps the rows that `confusion` is given to logits (b,); > 0 says source.
        ramp: Progress in [0, 1] -> share of trade_off; default `sigmoid_ramp`.
        trade_off: Largest factor of the reversed gradient; default 1.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.
        domain_smoothing: Share of the other domain in the discriminator's labels, in [0, 0.5]; see
            `domain_confusion_loss`. Default None: 0.
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
        domain_smoothing: float | None = None,
    ) -> None:
        super().__init__(
            network,
            ramp=ramp,
            trade_off=trade_off,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        if domain_smoothing is not None and not 0 <= domain_smoothing <= 0.5:
            raise ValueError(f"domain_smoothing must be in [0, 0.5]; got {domain_smoothing}")
        self.discriminator = discriminator
        self.domain_smoothing = domain_smoothing

    @abstractmethod
    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        """As `Adapt.transfer`; the network gets -factor times the discriminator's gradient."""

    def confusion(
        self,
        source: Tensor,
        target: Tensor,
        factor: float,
        source_weights: Tensor | None = None,
        target_weights: Tensor | None = None,
    ) -> Tensor:
        """The discriminator's loss, whose gradient reaches the rows multiplied by -factor.

        Args:
            source: Rows (n, w) that the discriminator sees of the source.
            target: Rows (m, w) that it sees of the target.
            factor: Factor of the reversed gradient, >= 0.
            source_weights: (n,), as in `domain_confusion_loss`.
            target_weights: (m,), as in `domain_confusion_loss`.
        """
        logits = self.discriminator(reverse_gradient(torch.cat([source, target]), factor))
        n = len(source)
        return domain_confusion_loss(
            logits[:n],
            logits[n:],
            source_weights=source_weights,
            target_weights=target_weights,
            smoothing=self.domain_smoothing or 0.0,
        )

    def adaptation(self, source: Outputs, target: Outputs, batch: Batch, progress: float) -> Terms:
        factor = self.trade_off * self.ramp(progress)
        labels = gather_rows(batch.source_y)
        return self.transfer(everywhere(source), everywhere(target), labels, factor)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return [
            *super().parameter_groups(learning_rate, backbone_factor),
            adversary_group(self.discriminator, learning_rate),
        ]


class DANN(Reversed):
    """Learn features from which a discriminator cannot tell source rows from target rows.

    This is the standard adversarial method. It needs no bandwidth and no statistics of the batch,
    only a second network that learns along. The discriminator minimises `domain_confusion_loss`;
    its gradient is reversed before it reaches the network:

        discriminator    min    domain_confusion_loss(D(f_source), D(f_target))
        network          min    CE on the source - w * domain_confusion_loss
        w = trade_off * ramp(progress)

    Args:
        network: Maps x (b, ...) to Outputs.
        discriminator: Features (b, d) -> logits (b,); > 0 says source. None: two hidden layers of
            1024 with dropout (`da.networks.discriminator`); the network then needs a linear head.
        trade_off: Largest factor of the reversed gradient (the paper's lambda); default 1. The
            discriminator always learns at full strength.
        ramp: Progress in [0, 1] -> share of trade_off; default `sigmoid_ramp`, the paper's.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.
        domain_smoothing: Share of the other domain in the discriminator's labels, in [0, 0.5]
            (environment label smoothing; see `domain_confusion_loss`). Default None: 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, or domain_smoothing is out of range.
        TypeError: The default discriminator is asked for and the head is not linear.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import DANN
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = DANN(mlp(3, classes=3))
        >>> terms = method.loss(Batch(x, y, x, y, y), progress=0.5)
        >>> round(terms["domain"].item(), 1)  # log 2: a new discriminator knows nothing
        0.7

    Paper:
        Ganin, Ustinova, Ajakan, Germain et al.: Domain-Adversarial Training of Neural Networks.
        JMLR 17, 2016.

    Differences:
        The mean of each domain counts half; the paper counts both whole. The default discriminator
        has dropout 0.5, as in the published code of CDAN; the paper's has none.
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
        domain_smoothing: float | None = None,
    ) -> None:
        super().__init__(
            network,
            discriminator or default_discriminator(linear_head(network).in_features),
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
            domain_smoothing=domain_smoothing,
        )

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        return {"domain": self.confusion(source.features, target.features, factor)}


class CDAN(Reversed):
    """Do as DANN, with a discriminator that sees features together with the predicted classes.

    Use it if classes must be matched, not only whole domains. The discriminator sees T(f, g), the
    multilinear map of features f and probabilities g (`da.networks.MultilinearMap`):

        discriminator    min    domain_confusion_loss(D(T(f, g)_source), D(T(f, g)_target))

    Args:
        network: Maps x (b, ...) to Outputs; its head must be linear.
        discriminator: T (b, `MultilinearMap.width`) -> logits (b,); > 0 says source. None: as for
            `DANN`.
        entropy_conditioning: True gives CDAN+E: within each domain, rows are weighted by the
            certainty of their predictions (`entropy_weights`). Default False.
        random_map: False (default) takes the outer product of features and probabilities, d k wide,
            as the published code does. True takes a random sketch of 1024 of it if d k > 4096, the
            paper's rule: it costs less if there are many classes (Office-31: 256 * 31 = 7,936).
        trade_off: Largest factor of the reversed gradient (the paper's lambda); default 1.
        ramp: Progress in [0, 1] -> share of trade_off; default `sigmoid_ramp`.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.
        domain_smoothing: Share of the other domain in the discriminator's labels, in [0, 0.5]
            (environment label smoothing; see `domain_confusion_loss`). Default None: 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, or domain_smoothing is out of range.
        TypeError: The network's head is not linear.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import CDAN
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = CDAN(mlp(3, classes=3, features=8), entropy_conditioning=True)
        >>> method.multilinear.width  # 8 features times 3 classes
        24
        >>> sorted(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['domain', 'task']

    Paper:
        Long, Cao, Wang, Jordan: Conditional Adversarial Domain Adaptation. NeurIPS 2018.

    Differences:
        Predictions reach the discriminator and the entropy weights without their gradient, so the
        adversary teaches the features alone. The published code also detaches the predictions that
        it maps, but sends a reversed gradient through its weights. The paper's minimax runs
        through both. The mean of each domain counts half, as in the published code. The random map
        is an option; the paper takes it if d k > 4096, and the published code if it is asked to.
    """

    def __init__(
        self,
        network: Network,
        discriminator: nn.Module | None = None,
        *,
        entropy_conditioning: bool = False,
        random_map: bool = False,
        trade_off: float = 1.0,
        ramp: Ramp = sigmoid_ramp,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
        domain_smoothing: float | None = None,
    ) -> None:
        head = linear_head(network)
        d, k = head.in_features, head.out_features
        multilinear = MultilinearMap(d, k) if random_map else MultilinearMap(d, k, limit=d * k)
        super().__init__(
            network,
            discriminator or default_discriminator(multilinear.width),
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
            domain_smoothing=domain_smoothing,
        )
        self.multilinear = multilinear
        self.entropy_conditioning = entropy_conditioning

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        p = at_least_single(source.logits.detach()).softmax(1)  # (n, k)
        q = at_least_single(target.logits.detach()).softmax(1)  # (m, k)
        source_weights = entropy_weights(p) if self.entropy_conditioning else None
        target_weights = entropy_weights(q) if self.entropy_conditioning else None
        source_rows = self.multilinear(source.features, p)  # (n, width)
        target_rows = self.multilinear(target.features, q)  # (m, width)
        return {
            "domain": self.confusion(
                source_rows, target_rows, factor, source_weights, target_weights
            )
        }
