"""Backbones: torchvision's networks without their classifiers, with published or local weights, and the classifiers alone."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from da.networks.network import Frozen

AUXILIARY = (
    "googlenet",
    "inception_v3",
)  # with classifiers in their midst, which no loss here would train


def backbone(
    name: str, *, weights: Path | None = None, pretrained: bool = True, frozen_blocks: int = 0
) -> tuple[nn.Module, int]:
    """A torchvision backbone without its classifier, x (b, 3, h, w) -> (b, width), and its width.

    Args:
        name: any of torchvision's classification networks but GoogLeNet and Inception: squeezenet1_1 (512), mobilenet_v2 (1280), resnet18
            (512), resnet50 (2048), vit_b_16 (768, 224 x 224 only) ... Whatever stands before the last linear layer stays, but for dropout.
        weights: a file with a state dict of torchvision's network of that name; none: torchvision's IMAGENET1K_V1, from its cache
            under $TORCH_HOME or from the network.
        pretrained: False asks for random weights; they are never a fallback.
        frozen_blocks: that many of the network's first blocks (squeezenet1_1 has 13, mobilenet_v2 19, a ResNet 8: stem of 4 and
            4 stages) do not learn, as in DAN, which keeps AlexNet's first three convolutions.

    Raises:
        FileNotFoundError, ValueError: there is no such network or fewer blocks; the weights are missing, cannot be had, or belong to
            another network.
    """
    network = whole_network(name, weights=weights, pretrained=pretrained)
    blocks = (
        [] if name.startswith("vit") else list(getattr(network, "features", network).children())
    )
    if not 0 <= frozen_blocks <= len(blocks):
        raise ValueError(
            f"frozen_blocks must be from 0 to {len(blocks)} for {name}; got {frozen_blocks}"
        )
    body, width = _without_classifier(network, name)
    for block in blocks[:frozen_blocks]:
        _freeze(body, block)
    return body, width


def source_classifier(name: str, *, weights: Path | None = None) -> nn.Linear:
    """The linear classifier of the pretrained network, of ImageNet's 1,000 classes, on the features that `backbone` gives.

    What the source network knew of its own task, for Learning without Forgetting, Co-Tuning, LEEP and NCE.

    Raises what `backbone` raises, and ValueError for a SqueezeNet, which classifies every position and pools afterwards.
    """
    if name.startswith("squeezenet"):
        raise ValueError(
            f"{name} has no linear classifier on its features: it classifies each position and pools afterwards"
        )
    return [
        module
        for module in whole_network(name, weights=weights).modules()
        if isinstance(module, nn.Linear)
    ][-1]


def fingerprint(weights: Path) -> str:
    """First 12 hex digits of the SHA-256 of a weights file: what a run record says it started from."""
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:12]


def whole_network(name: str, *, weights: Path | None = None, pretrained: bool = True) -> nn.Module:
    """torchvision's network with its classifier, x (b, 3, h, w) -> logits (b, 1000). Arguments and errors as of `backbone`."""
    from da._torchvision import (
        torchvision,
    )  # two seconds of import that digits and features do without

    known = [
        each
        for each in torchvision.models.list_models(module=torchvision.models)
        if each not in AUXILIARY
    ]
    if name not in known:
        raise ValueError(
            f"backbone must be one of torchvision's classification networks, {', '.join(known)}; got {name!r}"
        )
    builder: Callable[..., nn.Module] = getattr(torchvision.models, name)
    if pretrained and weights is None:
        return _published(builder, name)
    network = builder(weights=None)
    if pretrained and weights is not None:
        _load_state(network, name, weights)
    return network


def _load_state(network: nn.Module, name: str, weights: Path) -> None:
    if not weights.is_file():
        raise FileNotFoundError(
            f"weights: no file {weights}; give a state dict of torchvision's {name} (--weights FILE.pt)"
        )
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"weights: {weights} is not a state dict that torch.load(weights_only=True) reads: {error}"
        ) from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).strip().splitlines()
        detail = " ".join(line.strip() for line in first[1:2]) or first[0]
        raise ValueError(
            f"weights: {weights} does not hold the weights of {name}: {detail[:200]}"
        ) from error


def _published(builder: Callable[..., nn.Module], name: str) -> nn.Module:
    try:
        return builder(
            weights="IMAGENET1K_V1"
        )  # the weights of the published tables; for some networks there are newer ones
    except (
        OSError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:  # no network, or a broken download
        raise FileNotFoundError(
            f"weights: torchvision's ImageNet weights of {name} are neither whole in its cache ({torch.hub.get_dir()}/checkpoints) nor to "
            f"be had from the network ({error}); pass a local state dict with --weights FILE.pt"
        ) from error


def _freeze(body: nn.Module, block: nn.Module) -> None:
    """Puts Frozen around `block`, wherever it stands in `body`."""
    for module in list(body.modules()):
        for name, child in list(module.named_children()):
            if child is block:
                setattr(module, name, Frozen(block))


def _without_classifier(network: nn.Module, name: str) -> tuple[nn.Module, int]:
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if name.startswith("squeezenet"):
        return nn.Sequential(network.features, pool), 512  # type: ignore[arg-type]
    if name == "mobilenet_v2":
        return nn.Sequential(network.features, pool), 1280  # type: ignore[arg-type]
    place = next(
        place for place in ("fc", "classifier", "heads", "head") if hasattr(network, place)
    )
    classifier = getattr(network, place)
    layers = [classifier] if isinstance(classifier, nn.Linear) else list(classifier.children())
    width: int = layers.pop().in_features  # type: ignore[assignment]
    while layers and isinstance(layers[-1], nn.Dropout):
        layers.pop()
    setattr(network, place, nn.Sequential(*layers) if layers else nn.Identity())
    return network, width
