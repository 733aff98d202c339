"""Networks: input -> Outputs(features, logits), alike in training and evaluation.

    x -> backbone -> pooled (b, width) -> bottleneck -> features (b, d) -> head -> logits (b, classes)

A discrepancy is measured on `features`. The backbone of a pretrained network learns at a tenth of the rate of the new layers
(`Network.parameter_groups`), because a random head's first gradients would otherwise undo what the backbone knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional


class Outputs(NamedTuple):
    """What a Network says of a batch."""

    features: Tensor  # (b, d)
    logits: Tensor  # (b, classes)


class Normalise(nn.Module):
    """Rows scaled to the 2-norm `scale`: z = scale x / max(||x||, 1e-12), (b, d) -> (b, d)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * functional.normalize(x, dim=1)


class Frozen(nn.Module):
    """A module that no longer learns: no gradient for its parameters, and evaluation mode, so that batch statistics stay too."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Frozen:
        """Evaluation mode whatever is asked for."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """The module's output."""
        return self.module(x)


class Network(nn.Module):
    """A backbone, a bottleneck and a linear head.

    Args:
        backbone: x -> (b, width).
        bottleneck: (b, width) -> (b, d); `nn.Identity()` for none.
        head: (b, d) -> (b, classes).
        pretrained: whether the backbone starts from learned weights, and so learns more slowly.
    """

    def __init__(
        self,
        backbone: nn.Module,
        bottleneck: nn.Module,
        head: nn.Module,
        *,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.bottleneck, self.head, self.pretrained = (
            backbone,
            bottleneck,
            head,
            pretrained,
        )

    def forward(self, x: Tensor) -> Outputs:
        features = self.bottleneck(self.backbone(x))
        return Outputs(features, self.head(features))

    def parameter_groups(self, learning_rate: float, *, backbone_factor: float = 0.1) -> list[dict]:
        """Optimiser groups: a pretrained backbone at `backbone_factor` times the rate, everything else at `learning_rate`."""
        factor = backbone_factor if self.pretrained else 1.0
        new = [*self.bottleneck.parameters(), *self.head.parameters()]
        groups = [(list(self.backbone.parameters()), factor), (new, 1.0)]
        return [
            {"params": trainable, "lr": learning_rate * f}
            for p, f in groups
            if (trainable := [q for q in p if q.requires_grad])
        ]


@contextmanager
def remember(network: Network) -> Iterator[None]:
    """Within, `network(x)` asked again with the same tensor x gives the outputs of the first pass: a penalty costs no second one."""
    passes: list[tuple[Tensor, Outputs]] = []

    def once(x: Tensor) -> Outputs:
        for known, outputs in passes:
            if known is x:
                return outputs
        passes.append((x, type(network).forward(network, x)))
        return passes[-1][1]

    vars(network)["forward"] = once  # an attribute of the object hides the method of its class
    try:
        yield
    finally:
        del vars(network)["forward"]


def bottleneck(
    width: int, features: int, *, dropout: float = 0.5, scale: float | None = None
) -> tuple[nn.Module, int]:
    """Rows scaled to 2-norm `scale` if one is given, then Linear + ReLU to `features` dimensions (0: the input's), then dropout.

    Returns the module and its output width. The layer starts at N(0, 0.005^2) with bias 0.1, as in DAN's published code, so that
    its units are alive and small at first.
    """
    layers: list[nn.Module] = [] if scale is None else [Normalise(scale)]
    if features:
        linear = nn.Linear(width, features)
        nn.init.normal_(linear.weight, std=0.005)
        nn.init.constant_(linear.bias, 0.1)
        layers += [linear, nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers), features or width


def entropies(logits: Tensor) -> Tensor:
    """Shannon entropy in nats of each row of softmax(logits): (n, K) -> (n,), from 0 to log K."""
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def linear_head(network: Network) -> nn.Linear:
    """The head of a network that ends in a linear layer, which says how wide features are; TypeError for another."""
    if not isinstance(network.head, nn.Linear):
        raise TypeError(
            f"network must end in a linear head, which says how wide features are; got {type(network.head).__name__}"
        )
    return network.head
