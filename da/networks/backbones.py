"""torchvision's classification networks as backbones, with published, local or random weights.

A backbone is such a network without its classifier. `source_classifier` gives the classifier alone,
and `whole_network` both together.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from da.networks.network import Frozen
from da.networks.tensor_names import named_alike, places
from da.networks.weights import fill, naming, read_file, state_in

# These have further classifiers between their layers, which no loss here would train.
AUXILIARY = ("googlenet", "inception_v3")
CLASSES = 1000  # of ImageNet


def backbone(
    name: str, *, weights: Path | None = None, pretrained: bool = True, frozen_blocks: int = 0
) -> tuple[nn.Module, int]:
    """Take a torchvision network without its classifier, to build a `Network` on.

    The result has torchvision's published ImageNet weights, the weights of a local file, or random
    weights. All layers before the last linear layer stay, except dropout.

    | name | width |
    |---|---|
    | squeezenet1_1 | 512 |
    | resnet18 | 512 |
    | vit_b_16 (224 x 224 pixels only) | 768 |
    | mobilenet_v2 | 1280 |
    | resnet50 | 2048 |

    Args:
        name: A classification network of torchvision, but not GoogLeNet or Inception.
        weights: File with weights of torchvision's network of that name: a state dict, a checkpoint
            with one in it, or a network.pt of this library. Its classifier does not matter.
            Default None: torchvision's IMAGENET1K_V1, from its cache below $TORCH_HOME or by
            download.
        pretrained: False gives random weights. They are never a fallback. Default True.
        frozen_blocks: How many of the network's first blocks do not learn. Default 0.
            squeezenet1_1 has 13 blocks, mobilenet_v2 19, a ResNet 8 (4 in the stem, 4 stages).

    Returns:
        The backbone, x (b, 3, h, w) -> (b, width), and its width.

    Raises:
        ValueError: torchvision has no such network, `frozen_blocks` is out of range, or the file
            holds other weights.
        FileNotFoundError: The file does not exist, or the published weights cannot be loaded.

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
    read = weights if pretrained else None
    network = whole_network(name, pretrained=pretrained and read is None)
    blocks = list(getattr(network, "features", network).children())
    if name.startswith("vit"):
        blocks = []
    if not 0 <= frozen_blocks <= len(blocks):
        raise ValueError(
            f"frozen_blocks must be from 0 to {len(blocks)} for {name}; got {frozen_blocks}"
        )
    whole = network.state_dict(keep_vars=True)
    body, width = _without_classifier(network, name)
    if read is not None:
        _load_body(body, whole, name, read)
    for block in blocks[:frozen_blocks]:
        _freeze(body, block)
    return body, width


def source_classifier(name: str, *, weights: Path | None = None) -> nn.Linear:
    """Take the ImageNet classifier of a pretrained torchvision network, without its backbone.

    It holds what the source network knows about its own 1,000 classes. Learning without Forgetting,
    Co-Tuning, LEEP and NCE need it.

    Args:
        name: A network as for `backbone`, but not a SqueezeNet, which classifies each position and
            pools afterwards.
        weights: As for `backbone`; the file must hold a classifier, of any number of classes.

    Returns:
        The linear layer (b, width) -> (b, classes), on the features that `backbone` gives. classes
        is 1000, or what the file says.

    Raises:
        ValueError: The network is a SqueezeNet; also as for `backbone`.
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
    if name.startswith("squeezenet"):
        raise ValueError(
            f"{name} has no linear classifier on its features: it classifies each position and "
            "pools afterwards; choose another network"
        )
    modules = whole_network(name, weights=weights).modules()
    return [module for module in modules if isinstance(module, nn.Linear)][-1]


def fingerprint(weights: Path) -> str:
    """The first 12 hex digits of a weights file's SHA-256, which name the file in run records."""
    now = weights.stat()
    return _digest(weights.resolve(), now.st_size, now.st_mtime_ns)


@lru_cache(maxsize=16)  # every run of a table asks for the same large files
def _digest(weights: Path, size: int, changed: int) -> str:
    """The digits of a file, of this size, that was last changed at this time."""
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:12]


def whole_network(name: str, *, weights: Path | None = None, pretrained: bool = True) -> nn.Module:
    """torchvision's network with its classifier, x (b, 3, h, w) -> logits (b, 1000).

    Arguments and errors are those of `backbone`.
    """
    # The import takes two seconds, which digits and features should not pay for.
    from da._torchvision import torchvision

    every = torchvision.models.list_models(module=torchvision.models)
    known = [each for each in every if each not in AUXILIARY]
    if name not in known:
        raise ValueError(
            "backbone must be one of torchvision's classification networks, "
            f"{', '.join(known)}; got {name!r}"
        )
    builder: Callable[..., nn.Module] = getattr(torchvision.models, name)
    if pretrained and weights is None:
        return _published(builder, name)
    if pretrained and weights is not None:
        return _from_file(builder, name, weights)
    return builder(weights=None)


def _from_file(builder: Callable[..., nn.Module], name: str, weights: Path) -> nn.Module:
    """The whole network with the weights of a file, which says how many classes it has."""
    content = read_file(weights)
    network = builder(weights=None)
    with naming(weights, name):
        state = state_in(content)
        last = [each for each, z in network.state_dict().items() if z.ndim > 1][-1]
        found = [z for key, z in state.items() if f".{key}".endswith(f".{last}")]
        if len(found) == 1 and len(found[0]) != CLASSES:
            network = builder(weights=None, num_classes=len(found[0]))
        fill(network, named_alike(state, network.state_dict()))
    return network


def _load_body(body: nn.Module, whole: Mapping[str, Tensor], name: str, weights: Path) -> None:
    """Load the weights of a file into a network that has lost its classifier.

    The file may have the names of the whole network, or those of the body, as a network.pt has.
    """
    content = read_file(weights)
    own = body.state_dict(keep_vars=True)
    new_names = {id(z): each for each, z in own.items()}
    kept = {each: z for each, z in whole.items() if id(z) in new_names}
    unwanted = {each.rpartition(".")[0] for each in whole if each not in kept}
    with naming(weights, name):
        state = state_in(content)
        if not places(kept, state) and places(own, state, prefix="backbone."):
            fill(body, named_alike(state, own))
            return
        named = named_alike(state, kept, unwanted=unwanted)
        fill(body, OrderedDict((new_names[id(kept[each])], z) for each, z in named.items()))


def _published(builder: Callable[..., nn.Module], name: str) -> nn.Module:
    """The network with torchvision's first ImageNet weights, those of the published tables."""
    try:
        return builder(weights="IMAGENET1K_V1")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        # There is no connection, or the file in the cache is broken.
        raise FileNotFoundError(
            f"weights: torchvision's ImageNet weights of {name} could not be loaded: no complete "
            f"file in {torch.hub.get_dir()}/checkpoints, and the download failed ({error}); pass "
            "a local state dict with --weights FILE.pt"
        ) from error


def _freeze(body: nn.Module, block: nn.Module) -> None:
    """Put `Frozen` around `block` in every place of `body` that holds it."""
    for module in list(body.modules()):
        for name, child in list(module.named_children()):
            if child is block:
                setattr(module, name, Frozen(block))


def _without_classifier(network: nn.Module, name: str) -> tuple[nn.Module, int]:
    """The network up to its last linear layer, and the width of its output."""
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if name.startswith("squeezenet"):
        return nn.Sequential(network.features, pool), 512  # type: ignore[arg-type]
    if name == "mobilenet_v2":
        return nn.Sequential(network.features, pool), 1280  # type: ignore[arg-type]
    places = ("fc", "classifier", "heads", "head")  # torchvision's names of the classifier
    place = next(place for place in places if hasattr(network, place))
    classifier = getattr(network, place)
    layers = [classifier] if isinstance(classifier, nn.Linear) else list(classifier.children())
    width: int = layers.pop().in_features  # type: ignore[assignment]
    while layers and isinstance(layers[-1], nn.Dropout):
        layers.pop()
    setattr(network, place, nn.Sequential(*layers) if layers else nn.Identity())
    return network, width
