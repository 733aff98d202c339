"""torchvision's classification networks: what they expect, their weights, and their classifiers."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from da.networks.inputs import InputSettings

# These have further classifiers between their layers, which no loss here would train.
AUXILIARY = ("googlenet", "inception_v3")


def names() -> list[str]:
    """The names of the networks, with those that have classifiers between their layers."""
    # The import takes two seconds, which digits and features should not pay for.
    from da._torchvision import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def settings(name: str) -> InputSettings:
    """What the network's first published weights expect."""
    from da._torchvision import torchvision

    published = next(iter(torchvision.models.get_model_weights(name)))
    transform = published.transforms()
    return InputSettings(transform.crop_size[0], tuple(transform.mean), tuple(transform.std))


def build(name: str, *, classes: int | None = None) -> nn.Module:
    """The whole network with random weights, for ImageNet's classes or for so many."""
    builder = _builder(name)
    return builder(weights=None) if classes is None else builder(weights=None, num_classes=classes)


def published(name: str) -> nn.Module:
    """The network with torchvision's first ImageNet weights, those of the published tables.

    Raises:
        FileNotFoundError: They are not in the cache and cannot be downloaded.
    """
    try:
        return _builder(name)(weights="IMAGENET1K_V1")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        # There is no connection, or the file in the cache is broken.
        raise FileNotFoundError(
            f"weights: torchvision's ImageNet weights of {name} could not be loaded: no complete "
            f"file in {torch.hub.get_dir()}/checkpoints, and the download failed ({error}); pass "
            "a local state dict with --weights FILE.pt"
        ) from error


def blocks(network: nn.Module, name: str) -> list[nn.Module]:
    """The blocks that can be frozen, from the input up; none of a transformer."""
    if name.startswith("vit"):
        return []
    return list(getattr(network, "features", network).children())


def classifier(network: nn.Module, name: str) -> nn.Linear:
    """The network's last linear layer.

    Raises:
        ValueError: The network is a SqueezeNet.
    """
    if name.startswith("squeezenet"):
        raise ValueError(
            f"{name} has no linear classifier on its features: it classifies each position and "
            "pools afterwards; choose another network"
        )
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


def without_classifier(network: nn.Module, name: str) -> tuple[nn.Module, int]:
    """The network up to its last linear layer, and the width of its output."""
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if name.startswith("squeezenet"):
        return nn.Sequential(network.features, pool), 512  # type: ignore[arg-type]
    if name == "mobilenet_v2":
        return nn.Sequential(network.features, pool), 1280  # type: ignore[arg-type]
    places = ("fc", "classifier", "heads", "head")  # torchvision's names of the classifier
    place = next(place for place in places if hasattr(network, place))
    last = getattr(network, place)
    layers = [last] if isinstance(last, nn.Linear) else list(last.children())
    width: int = layers.pop().in_features  # type: ignore[assignment]
    while layers and isinstance(layers[-1], nn.Dropout):
        layers.pop()
    setattr(network, place, nn.Sequential(*layers) if layers else nn.Identity())
    return network, width


def converted(network: nn.Module, state: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """The state dict as it is: no other names are known."""
    return state


def _builder(name: str) -> Callable[..., nn.Module]:
    from da._torchvision import torchvision

    return getattr(torchvision.models, name)
