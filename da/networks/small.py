"""Small networks, trained from scratch: a LeNet for digits, two hidden layers for vectors."""

from __future__ import annotations

from torch import nn

from da.networks.network import Network


def lenet(classes: int, *, channels: int = 1, width: int = 16, features: int = 128) -> Network:
    """A LeNet-like network for digits of 16 x 16 to 32 x 32 pixels, with batch normalisation; trained from scratch.

    Two 5 x 5 convolutions (`width` and twice `width` maps) with batch normalisation, ReLU and 2 x 2 pooling, then one hidden
    layer whose `features` outputs are the features.
    """
    backbone = nn.Sequential(
        nn.Conv2d(channels, width, 5, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 5, padding=2, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(),
    )  # fmt: skip
    bottleneck = nn.Sequential(
        nn.Linear(2 * width * 4 * 4, features, bias=False), nn.BatchNorm1d(features), nn.ReLU()
    )
    return Network(backbone, bottleneck, nn.Linear(features, classes))


def mlp(inputs: int, classes: int, *, hidden: int = 256, features: int = 128) -> Network:
    """Two hidden layers for vectors (n, inputs): features from a backbone, bags of words, tables."""
    backbone = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU())
    return Network(
        backbone,
        nn.Sequential(nn.Linear(hidden, features), nn.ReLU()),
        nn.Linear(features, classes),
    )
