"""ADDA: a target encoder learns to pass for a source encoder that is trained already.

Use it if a source model exists and is to be adapted without its task loss or its labels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from da.data.batches import Batch
from da.feature.discriminator_loss import domain_confusion_loss, mean_softplus, one_a_row
from da.networks.adversary import adversary_group, fixed
from da.networks.adversary import discriminator as default_discriminator
from da.networks.network import Network, linear_head
from da.networks.statistics import frozen_statistics
from da.train.distributed import gather_rows
from da.train.method import Method, Terms


class ADDA(Method[Batch]):
    """Teach a target encoder to produce features that pass for those of the source encoder.

    It goes on from a network that is trained on the source. There is no task loss and no source
    label is read; the source's head judges the target features as it is. A step has two moves:

        discriminator     min    domain_confusion_loss(D(source_encoder(x_s)), D(encoder(x_t)))
        target encoder    min    mean log(1 + exp(-D(encoder(x_t))))

    The second is the discriminator's loss with inverted labels. Dropout is on in both encoders, so
    that it does not tell them apart.

    Args:
        network: A `da.networks.Network` that is trained on the source. Its backbone and bottleneck
            become the target encoder; its head learns no more. The attribute `source_network`, a
            frozen copy, is the source encoder.
        discriminator: Features (b, d) -> logits (b,); > 0 says source. None: two hidden layers of
            500, the paper's for digits; the network then needs a linear head.

    Raises:
        TypeError: The default discriminator is asked for and the head is not linear.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import ADDA
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = ADDA(mlp(3, classes=3))
        >>> [list(terms) for terms in method.step(Batch(x, y, x, y, y), progress=0.0)]
        [['discriminator'], ['encoder']]

    Paper:
        Tzeng, Hoffman, Saenko, Darrell: Adversarial Discriminative Domain Adaptation. CVPR 2017.

    Differences:
        The discriminator and the encoder move one after the other; in the paper both move at once.
        The source encoder keeps its batch statistics.
    """

    label_kind = "unread"

    def __init__(self, network: Network, discriminator: nn.Module | None = None) -> None:
        super().__init__(network)
        self.source_network = copy.deepcopy(network).requires_grad_(False)
        self.discriminator = discriminator or default_discriminator(
            linear_head(network).in_features, hidden=(500, 500), dropout=0.0
        )
        network.head.requires_grad_(False)

    def step(self, batch: Batch, progress: float) -> Iterator[Terms]:
        """The discriminator's move, then the target encoder's."""
        source, target = self.features(batch)
        source_logits = self.discriminator(source)
        target_logits = self.discriminator(target.detach())
        yield {"discriminator": domain_confusion_loss(source_logits, target_logits)}
        yield self.encoder_terms(target)

    def loss(self, batch: Batch, progress: float) -> Terms:
        """The target encoder's move alone."""
        return self.encoder_terms(self.features(batch)[1])

    def encoder_terms(self, target: Tensor) -> Terms:
        """The loss of the target encoder, from target features (m, d)."""
        with fixed(self.discriminator):
            logits = one_a_row("target_logits", self.discriminator(target))  # (m,)
        return {"encoder": mean_softplus(-logits)}

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Source features (n, d), without a graph, and target features (m, d)."""
        with torch.no_grad(), frozen_statistics(self.source_network):
            source = self.source_network(batch.source_x).features
        return gather_rows(source), gather_rows(self.network(batch.target_x).features)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return [
            *super().parameter_groups(learning_rate, backbone_factor),
            adversary_group(self.discriminator, learning_rate),
        ]
