"""Small networks that are trained from scratch: for digits, for vectors, for windows in time."""

from __future__ import annotations

from torch import nn

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.networks.network import Network


@checked
def lenet(classes: int, *, channels: int = 1, width: int = 16, features: int = 128) -> Network:
    """Make a LeNet-like network for small images such as digits, with random weights.

    Two 5 x 5 convolutions with batch normalisation, ReLU and 2 x 2 pooling come first. One hidden
    layer with batch normalisation and ReLU gives the features.

    Args:
        classes: Number of classes.
        channels: Channels of the images: 1 for grey, 3 for colour. Default 1.
        width: Maps of the first convolution; the second has twice as many. Default 16.
        features: Width of the features. Default 128.

    Returns:
        A network x (b, channels, h, w) -> Outputs. It is made for 16 x 16 to 32 x 32 pixels.

    Example:
        >>> import torch
        >>> from da.networks import lenet
        >>> lenet(classes=10)(torch.zeros(2, 1, 28, 28)).logits.shape
        torch.Size([2, 10])

    Paper:
        LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition.
        Proceedings of the IEEE 86, 1998.

    Differences:
        Batch normalisation, ReLU and max pooling replace the paper's layers. The numbers of maps
        and units differ too.
    """
    _check_sizes(classes=classes, channels=channels, width=width, features=features)
    backbone = nn.Sequential(
        nn.Conv2d(channels, width, 5, padding=2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 5, padding=2, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
    )
    bottleneck = nn.Sequential(
        nn.Linear(2 * width * 4 * 4, features, bias=False), nn.BatchNorm1d(features), nn.ReLU()
    )
    return Network(backbone, bottleneck, nn.Linear(features, classes))


@checked
def temporal_cnn(
    classes: int, *, channels: int = 3, width: int = 64, features: int = 128, dropout: float = 0.5
) -> Network:
    """Make a convolutional network for windows of time series, with random weights.

    Use it on sensor data of equal length, such as accelerometer windows. Three blocks of
    convolution over time, batch normalisation, ReLU and pooling by two come first. The mean over
    time of each map is a feature.

    Args:
        classes: Number of classes.
        channels: Sensor channels. Default 3, the axes of an accelerometer.
        width: Maps of the first block; the second has twice as many. Default 64.
        features: Maps of the third block, the width of the features. Default 128.
        dropout: Share of the first block's outputs that are dropped in training. Default 0.5.

    Returns:
        A network x (b, channels, time) -> Outputs, for windows of any length.

    Example:
        >>> import torch
        >>> from da.networks import temporal_cnn
        >>> temporal_cnn(classes=6)(torch.zeros(2, 3, 128)).features.shape
        torch.Size([2, 128])

    Paper:
        Ragab, Eldele, Tan, Foo et al.: AdaTime: A Benchmarking Suite for Domain Adaptation on Time
        Series Data. ACM TKDD 17, 2023.
    """
    _check_sizes(classes=classes, channels=channels, width=width, features=features)
    backbone = nn.Sequential(
        *_temporal_block(channels, width, 5),
        nn.Dropout(dropout),
        *_temporal_block(width, 2 * width, 8),
        *_temporal_block(2 * width, features, 8),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
    )
    return Network(backbone, nn.Identity(), nn.Linear(features, classes))


def _check_sizes(**sizes: int) -> None:
    """Raise an error that names the first size that is below 1."""
    for name, size in sizes.items():
        whole_number(size, name, least=1)


def _temporal_block(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    return [
        nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
        nn.MaxPool1d(2, padding=1),
    ]


@checked
def mlp(inputs: int, classes: int, *, hidden: int = 256, features: int = 128) -> Network:
    """Make a network with two hidden layers for vectors, with random weights.

    Use it on tables, bags of words or features that another network has computed.

    Args:
        inputs: Width of the vectors.
        classes: Number of classes.
        hidden: Units of the first hidden layer. Default 256.
        features: Units of the second hidden layer, the width of the features. Default 128.

    Returns:
        A network x (b, inputs) -> Outputs.

    Example:
        >>> import torch
        >>> from da.networks import mlp
        >>> network = mlp(inputs=5, classes=2, features=3)
        >>> network(torch.zeros(4, 5)).features.shape
        torch.Size([4, 3])
    """
    _check_sizes(inputs=inputs, classes=classes, hidden=hidden, features=features)
    backbone = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU())
    bottleneck = nn.Sequential(nn.Linear(hidden, features), nn.ReLU())
    return Network(backbone, bottleneck, nn.Linear(features, classes))


def feature_network(
    inputs: int, outputs: int, *, hidden: int = 256, normalised: bool = False
) -> Network:
    """Make the network that is trained on features: one hidden layer, normalised, and a head.

    Args:
        inputs: Width d of the feature rows.
        outputs: Classes, or 1 for a regression.
        hidden: Units of the hidden layer, the width of its features. Default 256.
        normalised: Whether the columns of the input are normalised first, which with statistics of
            each domain standardises each domain by itself. Default False.

    Returns:
        A network with random weights.

    Example:
        >>> import torch
        >>> from da.networks.small import feature_network
        >>> feature_network(5, 3)(torch.zeros(4, 5)).features.shape
        torch.Size([4, 256])
    """
    layers = nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU())
    below = nn.BatchNorm1d(inputs, affine=False) if normalised else nn.Identity()
    return Network(below, layers, nn.Linear(hidden, outputs))
