"""A module of one's own, taken apart into what gives the features and the head above them."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import Tensor, nn

SHOWN = 12  # names in an error


class FeaturesReached(RuntimeError):
    """Carries the features out of a pass of a module whose head was taken away."""

    def __init__(self, features: object, name: str) -> None:
        super().__init__(
            f"the module has lost its layer {name!r} to Network.wrap: call the network instead, or "
            f"put the layer back: module.{name} = network.head"
        )
        self.features = features


class _End(nn.Module):
    """Stands where the head was, and ends the pass with the features."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, features: object, *others: object, **named: object) -> NoReturn:
        """Raises `FeaturesReached`."""
        raise FeaturesReached(features, self.name)


class UpToHead(nn.Module):
    """A module up to the place of its head: input -> features (b, d).

    What the module does after its head is not run.

    Args:
        module: The module, with an `_End` in the place of the head.
        name: The name of that place, for errors.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module = module
        self.name = name

    def forward(self, x: Any) -> Tensor:
        """The features (b, d)."""
        try:
            self.module(x)
        except FeaturesReached as reached:
            return _rows(reached.features, self.name)
        raise ValueError(
            f"features must name a layer that every pass of the module runs; {self.name!r} did not "
            "run"
        )


def take_apart(module: nn.Module, features: str | None) -> tuple[nn.Module, nn.Module, str]:
    """Take the head out of a module, in place.

    Args:
        module: Any module.
        features: Name of the layer that is the head, whose input are the features. None: the last
            `nn.Linear`.

    Returns:
        The module up to the head, the head, and its name.

    Raises:
        ValueError: There is no such layer.
    """
    layers = dict(module.named_modules())
    linear = [name for name, layer in layers.items() if isinstance(layer, nn.Linear)]
    if features is None and not linear:
        raise ValueError(
            f"module must have an nn.Linear, whose input are the features; {type(module).__name__} "
            f"has none: name another layer with features=, such as {_some(layers)}"
        )
    name = linear[-1] if features is None else features
    if name not in layers or (name == "" and features is not None):
        raise ValueError(
            f"features must name a layer of the module, such as {_some(linear or layers)}; "
            f"got {name!r}"
        )
    head = layers[name]
    if head is module:
        return nn.Identity(), head, name
    for parent in list(layers.values()):
        for place, child in list(parent.named_children()):
            if child is head:
                setattr(parent, place, _End(name))
    return UpToHead(module, name), head, name


def new_linear(head: nn.Module, classes: int, name: str) -> nn.Linear:
    """A new linear layer in place of a head, on features of the same width.

    Raises:
        ValueError: The head does not begin with a linear layer, so the width is not known.
    """
    first = next((layer for layer in head.modules() if not list(layer.children())), head)
    if not isinstance(first, nn.Linear):
        raise ValueError(
            f"classes must be left out, or features must name a layer that begins with nn.Linear; "
            f"{name!r} begins with {type(first).__name__}"
        )
    own = first.weight
    return nn.Linear(first.in_features, classes, device=own.device, dtype=own.dtype)


def _rows(features: object, name: str) -> Tensor:
    """Features as rows: maps of one position are flattened."""
    if isinstance(features, Tensor) and set(features.shape[2:]) == {1}:
        features = features.flatten(1)
    if isinstance(features, Tensor) and features.ndim == 2:
        return features
    got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    raise ValueError(f"the input of {name!r} must be features (b, d); got {got}")


def _some(names: Any) -> str:
    """The last names, where heads are."""
    known = [name for name in names if name]
    return ", ".join(known[-SHOWN:]) if known else "(it has no layers)"
