"""The layers that are new above a backbone: a bottleneck and a head."""

from __future__ import annotations

from torch import nn

from da.networks.network import Network, bottleneck


def with_new_layers(
    body: nn.Module,
    width: int,
    classes: int,
    *,
    features: int,
    dropout: float,
    scale: float | None,
    pretrained: bool,
) -> Network:
    """Put a bottleneck and a head with small weights on a backbone.

    Args:
        body: The backbone, x (b, ...) -> (b, width).
        width: Width of what it gives.
        classes: Number of classes.
        features, dropout, scale: See `da.networks.bottleneck`.
        pretrained: Whether the backbone starts from learned weights.
    """
    neck, narrow = bottleneck(width, features, dropout=dropout, scale=scale)
    head = nn.Linear(narrow, classes)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return Network(body, neck, head, pretrained=pretrained)
