"""GVB: parts of a classifier and of a discriminator that bridge the domains, and that shrink.

    classifier       logits = head(f) - bridge(f)
    discriminator    logit = d(p) - bridge(p),    p = softmax(logits)

A bridge takes up what differs between the domains. The mean size of both bridges is lowered, so
they vanish bit by bit, and the domains have to agree without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.arrays.matrices import at_least_single
from da.feature.adversarial import Reversed
from da.feature.discriminator_loss import domain_confusion_loss
from da.networks.adversary import discriminator as default_discriminator
from da.networks.adversary import reverse_gradient
from da.networks.network import Network, Outputs, entropies, linear_head, unwrapped
from da.train.loss_weights import check_factor
from da.train.method import BatchStatistics, Ramp, Terms, sigmoid_ramp


@final
class BridgedHead(nn.Module):
    """A linear head and a linear bridge of the same widths, which is taken from its logits.

    Args:
        head: Features (b, d) -> logits (b, K). It is kept, not copied.

    Raises:
        TypeError: The head is no nn.Linear.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.feature import BridgedHead
        >>> head = BridgedHead(nn.Linear(4, 3))
        >>> features = torch.ones(2, 4)
        >>> torch.equal(head(features), head.closed(features) - head.bridge(features))
        True
    """

    @checked
    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        if not isinstance(head, nn.Linear):
            raise TypeError(f"head must be an nn.Linear; got {type(head).__name__}")
        self.closed = head
        self.bridge = nn.Linear(head.in_features, head.out_features).to(head.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Features (b, d) -> logits (b, K)."""
        return self.closed(features) - self.bridge(features)


@checked
def bridged_discriminator(
    width: int, *, hidden: Sequence[int] = (1024, 1024), dropout: float = 0.5
) -> nn.Module:
    """Make a discriminator with two outputs, its logit and the bridge that is taken from it.

    Args:
        width: Width of the rows.
        hidden: Units of the hidden layers. Default (1024, 1024).
        dropout: Probability that a hidden unit is set to zero in training, in [0, 1). Default 0.5.

    Returns:
        A module (b, width) -> (b, 2).

    Example:
        >>> import torch
        >>> from da.feature.bridges import bridged_discriminator
        >>> bridged_discriminator(3, hidden=(8,))(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """
    *layers, _, _ = default_discriminator(width, hidden=hidden, dropout=dropout).children()
    return nn.Sequential(*layers, nn.Linear([width, *hidden][-1], 2))


@final
class GVB(Reversed):
    """Do as DANN on the predictions, with bridges between the domains that vanish (GVB-GD).

    The discriminator sees probabilities, and certain rows count more. The network's linear head is
    replaced in place by a `BridgedHead`.

        domain         domain_confusion_loss of the logits d(p) - bridge(p), reversed below p, with
                       the weights exp(-H(p_i)) of each domain, divided by their mean
        bridge         bridge_weight * mean |bridge(f)|, of the classifier
        adversary      adversary_weight * mean |bridge(p)|, of the discriminator

    Args:
        network: Maps x (b, ...) to Outputs; its head must be linear.
        discriminator: Probabilities (b, K) -> (b, 2), the logit before the bridge and the bridge; a
            logit > 0 says source. None: two hidden layers of 1024 with dropout
            (`bridged_discriminator`).
        bridge_weight: Factor of the classifier's bridge, >= 0; default 1, the paper's.
        adversary_weight: Factor of the discriminator's bridge, >= 0; default 1, the paper's.
        trade_off: Largest factor of the reversed gradient; default 1.
        ramp: Progress in [0, 1] -> share of trade_off; default `sigmoid_ramp`, the paper's.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        TypeError: The network's head is not linear.
        ValueError: A factor is negative, or `batch_statistics` is none of the three.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import GVB
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = GVB(mlp(3, classes=3))
        >>> sorted(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['adversary', 'bridge', 'domain', 'task']

    Paper:
        Cui, Wang, Zhuo, Su et al.: Gradually Vanishing Bridge for Adversarial Domain Adaptation.
        CVPR 2020 (GVB-GD).

    Differences:
        None known in the loss. As in the authors' code, the weights pass a reversed gradient, their
        mean passes none, and the discriminator's bridge is reversed below p too. Their logarithms
        add 1e-8 or 1e-5; here they are exact.
    """

    def __init__(
        self,
        network: Network,
        discriminator: nn.Module | None = None,
        *,
        bridge_weight: float = 1.0,
        adversary_weight: float = 1.0,
        trade_off: float = 1.0,
        ramp: Ramp = sigmoid_ramp,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        check_factor("bridge_weight", bridge_weight)
        check_factor("adversary_weight", adversary_weight)
        head = linear_head(network)
        super().__init__(
            network,
            discriminator or bridged_discriminator(head.out_features),
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.bridge_weight, self.adversary_weight = bridge_weight, adversary_weight
        unwrapped(network).head = BridgedHead(head)

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        n = len(source.logits)
        z = at_least_single(torch.cat([source.logits, target.logits]))  # (n + m, K)
        z = reverse_gradient(z, factor)
        judged = at_least_single(self.discriminator(z.softmax(dim=1)))  # (n + m, 2)
        logits = judged[:, 0] - judged[:, 1]
        certainty = torch.exp(-entropies(z))  # (n + m,)
        w, v = (each / each.mean().detach() for each in (certainty[:n], certainty[n:]))
        bridge = self._head.bridge(torch.cat([source.features, target.features]))  # (n + m, K)
        return {
            "domain": domain_confusion_loss(
                logits[:n], logits[n:], source_weights=w, target_weights=v
            ),
            "bridge": self.bridge_weight * at_least_single(bridge).abs().mean(),
            "adversary": self.adversary_weight * judged[:, 1].abs().mean(),
        }

    @property
    def _head(self) -> BridgedHead:
        head = unwrapped(self.network).head
        assert isinstance(head, BridgedHead)
        return head
