"""Adversarial discriminative domain adaptation (ADDA): a target encoder learns to pass for the source encoder.

Tzeng, Hoffman, Saenko, Darrell: Adversarial Discriminative Domain Adaptation. CVPR 2017.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from da.data.batches import Batch
from da.feature.adversarial import domain_confusion_loss, mean_softplus, one_a_row
from da.networks.adversary import adversary_group, fixed
from da.networks.adversary import discriminator as default_discriminator
from da.networks.network import Network, linear_head
from da.networks.statistics import frozen_statistics
from da.train.distributed import gather_rows
from da.train.method import Method, Terms


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
        self.discriminator = discriminator or default_discriminator(
            linear_head(network).in_features, hidden=(500, 500), dropout=0.0
        )
        network.head.requires_grad_(False)

    def step(self, batch: Batch, progress: float) -> Iterator[Terms]:
        source, target = self.features(batch)
        yield {
            "discriminator": domain_confusion_loss(
                self.discriminator(source), self.discriminator(target.detach())
            )
        }
        yield self.encoder_terms(target)

    def loss(self, batch: Batch, progress: float) -> Terms:
        return self.encoder_terms(self.features(batch)[1])

    def encoder_terms(self, target: Tensor) -> Terms:
        """The second move, of target features (m, d)."""
        with fixed(self.discriminator):
            return {
                "encoder": mean_softplus(
                    -one_a_row("target_logits", self.discriminator(target)), "", None
                )
            }

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
