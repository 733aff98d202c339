"""timm's networks: what they expect, their weights, and their classifiers.

timm is the extra [timm]. Its names may carry the tag of their weights: resnet50.a1_in1k.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from da.networks.extras import extra
from da.networks.inputs import InputSettings
from da.networks.tensor_names import has_all, plain_name
from da.networks.transformer_names import is_torchvisions, timms_names

TRUNKS = ("blocks", "stages", "layers", "features")  # timm's names of a sequence of blocks


def library() -> Any:
    """timm.

    Raises:
        ImportError: It is not installed; the message says how to install it.
    """
    return extra("timm", of="timm", which="this backbone needs")


def installed() -> bool:
    """Whether timm is there."""
    return importlib.util.find_spec("timm") is not None


def knows(name: str) -> bool:
    """Whether timm has a network of that name, with the tag of its weights if it has one."""
    timm = library()
    if not name or not timm.is_model(name):
        return False
    try:
        return timm.get_pretrained_cfg(name) is not None
    except RuntimeError:  # no such tag
        return False


def similar(name: str) -> list[str]:
    """Names that timm has and that are like this one."""
    bare, _, tag = name.partition(".")
    timm = library()
    if tag and timm.is_model(bare):
        return timm.list_pretrained(f"{bare}.*")
    return difflib.get_close_matches(bare, timm.list_models(), n=3, cutoff=0.7)


def settings(name: str) -> InputSettings:
    """What the network's weights expect, from timm's configuration."""
    content = library().get_pretrained_cfg(name)
    return InputSettings(content.input_size[1], tuple(content.mean), tuple(content.std))


def build(name: str, *, classes: int | None = None) -> nn.Module:
    """The whole network with random weights, for the classes of its configuration or for so many.

    A transformer takes images of any multiple of its patches.
    """
    return _create(name, classes=classes, pretrained=False)


def published(name: str) -> nn.Module:
    """The network with the weights that its name stands for.

    Raises:
        ValueError: timm has no weights for it.
        FileNotFoundError: They are not in the cache and cannot be downloaded.
    """
    content = library().get_pretrained_cfg(name)
    if not content.has_weights:
        raise ValueError(
            f"weights: timm has none for {name}; pass a local state dict with --weights FILE.pt"
        )
    try:
        return _create(name, classes=None, pretrained=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise FileNotFoundError(
            f"weights: timm's weights of {name} ({content.hf_hub_id or content.url}) could not be "
            f"loaded: they are not in the cache, and the download failed ({error}); pass a local "
            "state dict with --weights FILE.pt"
        ) from error


def blocks(network: nn.Module, name: str) -> list[nn.Module]:
    """The blocks that can be frozen, from the input up: stem, then stages or layers of attention.

    Layers without parameters do not count.
    """
    last = network.get_classifier()  # type: ignore[operator]
    return [
        block
        for block in _blocks(network)
        if block is not last and any(True for _ in block.parameters())
    ]


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    for name, child in network.named_children():
        if name in TRUNKS and isinstance(child, nn.Sequential | nn.ModuleList):
            yield from child.children()
        else:
            yield child


def classifier(network: nn.Module, name: str) -> nn.Linear:
    """The network's last linear layer.

    Raises:
        ValueError: It has none, or its classifier is of another kind.
    """
    last = network.get_classifier()  # type: ignore[operator]
    if not isinstance(last, nn.Linear):
        raise ValueError(
            f"{name} has no linear classifier on its features, but {type(last).__name__}; choose "
            "another network"
        )
    return last


def without_classifier(network: nn.Module, name: str) -> tuple[nn.Module, int]:
    """The network up to its classifier, and the width of its output."""
    network.reset_classifier(0)  # type: ignore[operator]
    width = getattr(network, "head_hidden_size", None) or network.num_features
    return network, int(width)  # type: ignore[arg-type]


def converted(network: nn.Module, state: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """A state dict with timm's names, if it has torchvision's or those of the network's authors.

    timm keeps a function for its authors' names beside many networks, such as DINOv2 and CLIP.
    """
    given = network.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr, operator]
    classifiers = tuple(f"{part}." for part in ([given] if isinstance(given, str) else given))
    needed = [name for name in network.state_dict() if not name.startswith(classifiers)]
    if has_all(state, needed):
        return state
    plain = OrderedDict((plain_name(key), z) for key, z in state.items())
    if is_torchvisions(plain):
        return timms_names(plain)
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return OrderedDict(convert(dict(plain), network))
    except Exception:  # weights of another network: the caller says which names differ
        return state


def _create(name: str, *, classes: int | None, pretrained: bool) -> nn.Module:
    timm = library()
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    create: Callable[..., nn.Module] = timm.create_model
    if timm.get_pretrained_cfg(name).fixed_input_size:
        try:  # images of other sizes too
            return create(name, pretrained=pretrained, dynamic_img_size=True, **options)
        except TypeError:  # this network has no such option
            pass
    return create(name, pretrained=pretrained, **options)
