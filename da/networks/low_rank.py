"""LoRA: fine-tune an encoder by small matrices of low rank, while its own weights stay."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import nn

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.networks.extras import extra
from da.networks.network import Network
from da.networks.text_encoders import Encoder

_ATTENTION = ("qkv", "q", "v")  # the projections of timm's vision transformers


@checked
def lora(
    network: Network,
    *,
    rank: int = 8,
    alpha: float = 16,
    dropout: float = 0.0,
    target_modules: Sequence[str] | None = None,
) -> Network:
    """Prepare a network of texts or images for fine-tuning with few trainable parameters.

    The backbone's own weights are frozen. Chosen linear layers and convolutions get an adapter, and
    only adapters, bottleneck and head learn. Use it if a copy of all weights for each task costs
    too much.

        W x becomes W x + (alpha / rank) B A dropout(x)

    Of a convolution, A is a convolution of its size with `rank` outputs, and B one of size 1.

    A (rank, inputs) starts at random and B (outputs, rank) at zero, so that the copy starts with
    exactly the network's outputs. Nothing in the copy counts as pretrained: the adapters learn at
    the rate of the head.

    Args:
        network: Made by `text_network`, or a network with a convolutional backbone or a vision
            transformer. It is not changed.
        rank: Rank of B A, at least 1. Default 8.
        alpha: Scale of the adapters times `rank`, > 0. Default 16.
        dropout: Probability that an input of an adapter is dropped in training, in [0, 1).
            Default 0.
        target_modules: Names of the layers that get adapters, or the ends of their names. Default
            None: of a text encoder the query and value projections, as in the paper, if peft knows
            their names in this architecture; of other backbones the layers called "qkv", "q" or
            "v", else every linear layer and every convolution without groups.

    Returns:
        A copy of the network with adapters.

    Raises:
        ImportError: peft is not installed.
        ValueError: A number is out of range, or the backbone has no such layers.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.networks import lora, new_encoder, save_encoder, text_network
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_encoder(Path(folder), *new_encoder(["a good book"], layers=1, width=16))
        ...     adapted = lora(text_network(folder, classes=2), rank=1)
        >>> learning = [p for p in adapted.backbone.parameters() if p.requires_grad]
        >>> [tuple(p.shape) for p in learning]  # A and B of query and value
        [(1, 16), (16, 1), (1, 16), (16, 1)]

    Paper:
        Hu, Shen, Wallis, Allen-Zhu et al.: LoRA: Low-Rank Adaptation of Large Language Models.
        ICLR 2022.

    Differences:
        The paper adapts transformers alone. The adapters are those of the peft package. Batch
        statistics of a convolutional backbone follow the batches in training.
    """
    rank = whole_number(rank, "rank", least=1)
    if alpha <= 0 or not 0 <= dropout < 1:
        raise ValueError(
            f"alpha must be > 0 and dropout in [0, 1); got alpha {alpha} and dropout {dropout}"
        )
    own = copy.deepcopy(network)
    backbone = own.backbone
    model = backbone.model if isinstance(backbone, Encoder) else backbone
    peft = extra("peft")
    wanted = None if target_modules is None else list(target_modules)
    if wanted is None and not isinstance(backbone, Encoder):
        wanted = _adaptable(backbone)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=wanted)
    try:
        peft.inject_adapter_in_model(config, model.requires_grad_(False))
    except ValueError as error:
        raise ValueError(
            f"target_modules: {wanted or 'none given'} cannot be adapted in "
            f"{type(model).__name__}: {error}"
        ) from error
    own.head.requires_grad_(True)
    own.bottleneck.requires_grad_(True)
    own.pretrained = False
    return own


def _adaptable(backbone: nn.Module) -> list[str]:
    """The names of the layers of a backbone of images that get adapters."""
    layers = [
        name
        for name, layer in backbone.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    ]
    attention = [name for name in layers if name.rpartition(".")[2] in _ATTENTION]
    if not layers:
        raise ValueError(
            "network must have linear layers or convolutions without groups in its backbone; got "
            f"{type(backbone).__name__}"
        )
    return attention or layers
