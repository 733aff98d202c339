"""Pretrained classification networks as backbones, with published, local or random weights.

A backbone is such a network without its classifier. `source_classifier` gives the classifier alone,
and `whole_network` both together. `input_settings` says which images the network expects.

    resnet50                            torchvision's
    timm:resnet50                       timm's
    tf_efficientnet_lite0               timm's, because torchvision has none of that name
    vit_base_patch16_clip_224.openai    timm's, with the weights of that tag
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from da.arrays.arguments import checked
from da.arrays.choices import check_choice
from da.networks.inputs import InputSettings, Normalisation, changed
from da.networks.libraries import Library, find_library
from da.networks.parts import Frozen
from da.networks.statistics import BatchNorm
from da.networks.tensor_names import named_alike, places
from da.networks.weights import fill, naming, read_file, state_in


@checked
def backbone(
    name: str,
    *,
    weights: Path | str | None = None,
    pretrained: bool = True,
    frozen_blocks: int = 0,
    batch_norm: Literal["train", "keep"] = "train",
) -> tuple[nn.Module, int]:
    """Take a network of torchvision or timm without its classifier, to build a `Network` on.

    The result has published weights, the weights of a local file, or random weights. All layers
    before the last linear layer stay, except dropout. A name that both libraries have stands for
    torchvision's network; "timm:resnet50" is timm's. timm is the extra [timm].

    | name | width |
    |---|---|
    | squeezenet1_1 | 512 |
    | resnet18 | 512 |
    | vit_b_16 (224 x 224 pixels only) | 768 |
    | mobilenet_v2 | 1280 |
    | resnet50 | 2048 |
    | tf_efficientnet_lite0 | 1280 |
    | deit_tiny_patch16_224 | 192 |
    | vit_small_patch14_dinov2 | 384 |
    | vit_base_patch16_clip_224 | 768 |

    Args:
        name: A classification network of torchvision, but not GoogLeNet or Inception, or a network
            of timm, with or without the tag of its weights.
        weights: File with weights of that network: a state dict, a checkpoint with one in it, a
            safetensors file, or a network.pt of this library. Its classifier does not matter, and
            half precision becomes float32. A transformer of timm also takes torchvision's names,
            and those of its authors. Default None: torchvision's IMAGENET1K_V1, from its cache
            below $TORCH_HOME or by download, or timm's, from $HF_HOME or by download.
        pretrained: False gives random weights. They are never a fallback. Default True.
        frozen_blocks: How many of the network's first blocks do not learn. Default 0.
            squeezenet1_1 has 13 blocks, mobilenet_v2 19, a ResNet 8 (4 in the stem, 4 stages).
            A network of timm has its stem and each of its stages or layers of attention:
            tf_efficientnet_lite0 11, deit_tiny_patch16_224 14. Tokens and positions are frozen
            with the first block.
        batch_norm: What batch normalisation does in training. "train" (default): it normalises by
            the batch. "keep": it normalises by what it knows, and neither its statistics nor its
            weights change, which small batches ask for.

    Returns:
        The backbone, x (b, 3, h, w) -> (b, width), and its width.

    Raises:
        ValueError: There is no such network, `frozen_blocks` is out of range, or the file holds
            other weights; the message lists the first names that differ.
        FileNotFoundError: The file does not exist, or the published weights cannot be loaded.
        ImportError: timm is asked for and not installed.

    Example:
        >>> import torch
        >>> from da.networks import backbone
        >>> body, width = backbone("squeezenet1_1", pretrained=False)
        >>> width, body(torch.zeros(2, 3, 64, 64)).shape
        (512, torch.Size([2, 512]))

    Paper:
        Long, Cao, Wang, Jordan: Learning Transferable Features with Deep Adaptation Networks.
        ICML 2015. It freezes the first three convolutions of AlexNet (`frozen_blocks`).

    Differences:
        None known.
    """
    check_choice("batch_norm", batch_norm, Literal["train", "keep"])
    library, own = find_library(name)
    read = weights if pretrained else None
    network = library.published(own) if pretrained and read is None else library.build(own)
    blocks = library.blocks(network, own)
    if not 0 <= frozen_blocks <= len(blocks):
        raise ValueError(
            f"frozen_blocks must be from 0 to {len(blocks)} for {name}; got {frozen_blocks}"
        )
    state = _state_in_file(read, library, network, name) if read is not None else None
    whole = network.state_dict(keep_vars=True)
    body, width = library.without_classifier(network, own)
    if read is not None and state is not None:
        with naming(read, name):
            _load_body(body, whole, state)
    if frozen_blocks:
        for parameter in network.parameters(recurse=False):  # tokens and positions
            parameter.requires_grad_(False)
    for block in blocks[:frozen_blocks]:
        _freeze(body, block)
    if batch_norm == "keep":
        for module in [each for each in body.modules() if isinstance(each, BatchNorm)]:
            _freeze(body, module)
    return body, width


@checked
def input_settings(
    name: str, *, size: int | None = None, normalisation: Normalisation = "auto"
) -> InputSettings:
    """Look up the images that a backbone expects: their size, mean and standard deviation.

    The numbers come from the library of the network: of torchvision from its first published
    weights, of timm from its configuration. A file of other weights may expect others.

    Args:
        name: As for `backbone`.
        size: Another side of the images in pixels. Default None: the library's.
        normalisation: "auto" (default): the library's mean and standard deviation. "imagenet":
            those of ImageNet. "half": 0.5 and 0.5 for each channel.

    Returns:
        Size, mean and standard deviation.

    Raises:
        ValueError: There is no such network, or an argument is out of range.
        ImportError: timm is asked for and not installed.

    Example:
        >>> from da.networks import input_settings
        >>> input_settings("resnet50")
        InputSettings(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        >>> input_settings("resnet50", size=192, normalisation="half").mean
        (0.5, 0.5, 0.5)
    """
    check_choice("normalisation", normalisation, Normalisation)
    library, own = find_library(name)
    return changed(library.settings(own), size=size, normalisation=normalisation)


@checked
def source_classifier(name: str, *, weights: Path | str | None = None) -> nn.Linear:
    """Take the classifier of a pretrained network, without its backbone.

    It holds what the source network knows about its own classes, such as ImageNet's 1,000.
    Learning without Forgetting, Co-Tuning, LEEP and NCE need it.

    Args:
        name: A network as for `backbone`, but not a SqueezeNet, which classifies each position and
            pools afterwards.
        weights: As for `backbone`; the file must hold a classifier, of any number of classes.

    Returns:
        The linear layer (b, width) -> (b, classes), on the features that `backbone` gives. classes
        is that of the published weights, such as 1000, or what the file says.

    Raises:
        ValueError: The network has no linear classifier, as a SqueezeNet; also as for `backbone`.
        FileNotFoundError: As for `backbone`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from da.networks import source_classifier
        >>> from da.networks.backbones import whole_network
        >>> network = whole_network("shufflenet_v2_x0_5", pretrained=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(network.state_dict(), Path(folder) / "weights.pt")
        ...     head = source_classifier("shufflenet_v2_x0_5", weights=Path(folder) / "weights.pt")
        >>> head.in_features, head.out_features, torch.equal(head.weight, network.fc.weight)
        (1024, 1000, True)
    """
    library, own = find_library(name)
    library.classifier(library.build(own), own)  # before a large file is read
    return library.classifier(whole_network(name, weights=weights), own)


def fingerprint(weights: Path | str) -> str:
    """The first 12 hex digits of a weights file's SHA-256, which name the file in run records."""
    now = Path(weights).stat()
    return _digest(Path(weights).resolve(), now.st_size, now.st_mtime_ns)


@lru_cache(maxsize=16)  # every run of a table asks for the same large files
def _digest(weights: Path, size: int, changed: int) -> str:
    """The digits of a file, of this size, that was last changed at this time."""
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:12]


def whole_network(
    name: str, *, weights: Path | str | None = None, pretrained: bool = True
) -> nn.Module:
    """The network with its classifier, x (b, 3, h, w) -> logits (b, classes).

    Arguments and errors are those of `backbone`.
    """
    library, own = find_library(name)
    if pretrained and weights is None:
        return library.published(own)
    network = library.build(own)
    if pretrained and weights is not None:
        return _from_file(library, own, network, weights)
    return network


def _from_file(library: Library, name: str, network: nn.Module, weights: Path | str) -> nn.Module:
    """The whole network with the weights of a file, which says how many classes it has."""
    state = _state_in_file(weights, library, network, name)
    with naming(weights, name):
        last, own = [(each, z) for each, z in network.state_dict().items() if z.ndim > 1][-1]
        found = [z for key, z in state.items() if f".{key}".endswith(f".{last}")]
        if len(found) == 1 and len(found[0]) != len(own):
            network = library.build(name, classes=len(found[0]))
        fill(network, named_alike(state, network.state_dict()))
    return network


def _state_in_file(
    weights: Path | str, library: Library, network: nn.Module, name: str
) -> OrderedDict[str, Tensor]:
    """The state dict in a file, with the library's names if it had other ones that are known."""
    content = read_file(weights)
    with naming(weights, name):
        return library.converted(network, state_in(content))


def _load_body(
    body: nn.Module, whole: Mapping[str, Tensor], state: OrderedDict[str, Tensor]
) -> None:
    """Load a state dict into a network that has lost its classifier.

    It may have the names of the whole network, or those of the body, as a network.pt has.
    """
    own = body.state_dict(keep_vars=True)
    new_names = {id(z): each for each, z in own.items()}
    kept = {each: z for each, z in whole.items() if id(z) in new_names}
    unwanted = {each.rpartition(".")[0] for each in whole if each not in kept}
    if not places(kept, state) and places(own, state, prefix="backbone."):
        fill(body, named_alike(state, own))
        return
    named = named_alike(state, kept, unwanted=unwanted)
    fill(body, OrderedDict((new_names[id(kept[each])], z) for each, z in named.items()))


def _freeze(body: nn.Module, block: nn.Module) -> None:
    """Put `Frozen` around `block` in every place of `body` that holds it."""
    for module in list(body.modules()):
        for name, child in list(module.named_children()):
            if child is block:
                setattr(module, name, Frozen(block))
