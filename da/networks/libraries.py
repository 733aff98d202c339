"""Which library a backbone comes from, by its name: torchvision or timm."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from torch import Tensor, nn

from da.networks import timm_networks, torchvision_networks
from da.networks.inputs import InputSettings

PREFIX = "timm:"  # before a name that torchvision has too


class Library(Protocol):
    """What a module here does for the networks of one library."""

    def settings(self, name: str) -> InputSettings:
        """What the weights of the network expect."""

    def build(self, name: str, *, classes: int | None = None) -> nn.Module:
        """The whole network with random weights."""

    def published(self, name: str) -> nn.Module:
        """The whole network with its published weights."""

    def blocks(self, network: nn.Module, name: str) -> list[nn.Module]:
        """The blocks that can be frozen, from the input up."""

    def classifier(self, network: nn.Module, name: str) -> nn.Linear:
        """The last linear layer."""

    def without_classifier(self, network: nn.Module, name: str) -> tuple[nn.Module, int]:
        """The network up to its last linear layer, and the width of its output."""

    def converted(
        self, network: nn.Module, state: OrderedDict[str, Tensor]
    ) -> OrderedDict[str, Tensor]:
        """A state dict with the library's names, if it has other ones that are known."""


def find_library(name: str) -> tuple[Library, str]:
    """The library that has a network, and the network's name there.

    Raises:
        ValueError: Neither has one of that name.
        ImportError: The name begins with "timm:" and timm is not installed.
    """
    every = torchvision_networks.names()
    known = [each for each in every if each not in torchvision_networks.AUXILIARY]
    if name in known:
        return torchvision_networks, name
    bare = name.removeprefix(PREFIX)
    theirs = name not in every and (name != bare or timm_networks.installed())
    if theirs and timm_networks.knows(bare):
        return timm_networks, bare
    similar = timm_networks.similar(bare) if theirs else []
    hint = f", such as {', '.join(similar)}" if similar else ""
    lacking = "" if timm_networks.installed() else ' (pip install -e ".[timm]")'
    raise ValueError(
        f"backbone must be one of torchvision's classification networks, {', '.join(known)}, or "
        f"one of timm's{lacking}{hint}; got {name!r}"
    )
