"""Feature maps: the outputs of layers below a network's head, and the layers that end a stage.

DELTA compares such maps between two networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.networks.layers import block_names, single, watched
from da.networks.network import Network
from da.networks.statistics import frozen_statistics, kept_statistics

_STAGES = 4
_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)


def stage_layers(network: Network, x: Tensor) -> list[str]:
    """Find the blocks that end the last stages of a convolutional backbone, at most four.

    The map of a residual block is its output after sum and ReLU. `stage_convolutions` finds the
    layers that DELTA's authors take. The blocks are the backbone's children; plain sequences are
    opened, and pooling is left out. A stage is the blocks whose maps (1, c, h, w) of x[:1] have the
    same h x w.

    | backbone | layers |
    |---|---|
    | ResNet-18 | layer1.1, layer2.1, layer3.1, layer4.1 |
    | SqueezeNet 1.1 | 0.1 (in the stem), and the fires 0.4, 0.7, 0.12 |

    Args:
        network: A network with a convolutional backbone.
        x: Input (b, c, h, w); its first row passes through the backbone once.

    Returns:
        Dotted names below `network.backbone`, from the input up.

    Raises:
        ValueError: No block gives such maps, as in a transformer or an MLP. Name the layers then.
    """
    blocks = [
        name
        for name in block_names(network.backbone)
        if not isinstance(network.backbone.get_submodule(name), _POOLING)
    ]
    with torch.no_grad(), frozen_statistics(network), watched(network.backbone, blocks) as runs:
        network.backbone(x[:1])
    last_of_size: dict[torch.Size, str] = {}
    for name, maps in runs.items():
        if len(maps) == 1 and maps[0].ndim == 4:
            last_of_size[maps[0].shape[2:]] = name  # a later block of the same size takes the place
    if not last_of_size:
        raise ValueError(
            "layers must be named for a backbone without a block that gives maps (b, c, h, w); "
            "got None"
        )
    return list(last_of_size.values())[-_STAGES:]


@checked
def stage_convolutions(network: Network, x: Tensor) -> list[str]:
    """Find the last convolutions of the last stages of a backbone, at most four.

    These are the layers that DELTA's authors take for a ResNet. Their maps are raw: what the
    convolution gives, before batch normalisation, sum and ReLU. Pass the names as `layers` to
    `Delta`, and to `channel_attention` before it. For the stages see `da.model.maps.stage_layers`;
    of each one it is the last convolution that runs before its last block has finished.

    | backbone | layers |
    |---|---|
    | ResNet-18 | layer1.1.conv2, layer2.1.conv2, layer3.1.conv2, layer4.1.conv2 |
    | ResNet-50 | layer1.2.conv3, layer2.3.conv3, layer3.5.conv3, layer4.2.conv3 |

    Args:
        network: A network with a convolutional backbone.
        x: Input (b, c, h, w); its first row passes through the backbone twice.

    Returns:
        Dotted names below `network.backbone`, from the input up.

    Raises:
        ValueError: No block gives maps (b, c, h, w), or no convolution runs.

    Example:
        >>> import torch
        >>> from da.model import stage_convolutions
        >>> from da.networks import lenet
        >>> stage_convolutions(lenet(classes=3), torch.zeros(1, 1, 16, 16))
        ['0', '4']
    """
    blocks = stage_layers(network, x)
    named = network.backbone.named_modules()
    convolutions = [name for name, module in named if isinstance(module, nn.Conv2d)]
    layers = list(dict.fromkeys([*convolutions, *blocks]))
    with torch.no_grad(), frozen_statistics(network), watched(network.backbone, layers) as runs:
        network.backbone(x[:1])
    order = list(runs)
    before = [
        [name for name in order[: order.index(block) + 1] if name in convolutions]
        for block in blocks
    ]
    if not before[0]:
        raise ValueError("network must have convolutions in every stage; its backbone has not")
    return [names[-1] for names in before]


def feature_maps(network: Network, x: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Compute the outputs of some layers; the running statistics stay as they are.

    Args:
        network: Any network.
        x: Input (b, ...).
        layers: Dotted names below `network.backbone`.

    Returns:
        One tensor (b, c, ...) for each layer.

    Raises:
        ValueError: There is no such layer, or it does not give one tensor in one run.
    """
    with kept_statistics(network), watched(network.backbone, layers) as runs:
        network.backbone(x)
    return single(runs, layers)
