"""Feature maps: what the layers below a network's head say of a batch, and which of them end a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from da.networks.network import Network
from da.networks.statistics import frozen_statistics, kept_statistics

_STAGES = 4
_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)


def stage_layers(network: Network, x: Tensor) -> list[str]:
    """The names, below `backbone`, of the blocks that end its last stages (at most four), as the paper takes for a ResNet.

    Blocks are the backbone's children, plain sequences opened. A stage is the blocks whose maps (1, c, h, w) of x[:1] have one h x w,
    pooling aside: layer1.1 ... layer4.1 of a ResNet-18, fires 0.4, 0.7 and 0.12 and the stem of a SqueezeNet 1.1.

    Raises ValueError where no block has such maps (a transformer, an MLP): name the layers.
    """
    blocks = [
        name
        for name in block_names(network.backbone)
        if not isinstance(network.backbone.get_submodule(name), _POOLING)
    ]
    with torch.no_grad(), frozen_statistics(network), watched(network.backbone, blocks) as runs:
        network.backbone(x[:1])
    last = {
        maps[0].shape[2:]: name
        for name, maps in runs.items()
        if len(maps) == 1 and maps[0].ndim == 4
    }
    if not last:
        raise ValueError(
            "layers must be named for a backbone none of whose blocks gives maps (b, c, h, w); got None"
        )
    return list(last.values())[-_STAGES:]


def feature_maps(network: Network, x: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """The outputs (b, c, ...) of `layers`, dotted names below `backbone`, for x; running statistics stay as they are.

    Raises ValueError for a layer that is not there, or does not give one tensor in one run.
    """
    with kept_statistics(network), watched(network.backbone, layers) as runs:
        network.backbone(x)
    return single(runs, layers)


def block_names(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """The names of the module's children, in order; those of a plain sequence stand in for it."""
    for name, child in module.named_children():
        if type(child) is nn.Sequential:  # not one of its subclasses, which are layers of a kind
            yield from block_names(child, f"{prefix}{name}.")
        else:
            yield prefix + name


@contextmanager
def watched(backbone: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Within, name -> outputs of the layers as they run, one a run, in the order in which the layers first finish.

    An output that is not a tensor is passed over. Raises ValueError for a layer that is not there.
    """
    runs: dict[str, list[Tensor]] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return output
            runs.setdefault(name, []).append(output)
            return output.clone()  # what follows may work in place, as a ReLU does

        return hook

    handles = [submodule(backbone, name).register_forward_hook(note(name)) for name in layers]
    try:
        yield runs
    finally:
        for handle in handles:
            handle.remove()


def submodule(backbone: nn.Module, name: str) -> nn.Module:
    """The module of that name below the backbone; ValueError where there is none."""
    try:
        return backbone.get_submodule(name)
    except AttributeError as error:
        raise ValueError(
            f"layers must be names of modules below the backbone, such as {next(block_names(backbone), None)}; got {name!r}"
        ) from error


def single(runs: dict[str, list[Tensor]], layers: Sequence[str]) -> list[Tensor]:
    """The one output of each layer that was `watched`; ValueError for a layer that gave none or several."""
    for name in layers:
        if len(runs.get(name, [])) != 1:
            raise ValueError(
                f"layers must give one tensor each in a pass; {name} gave {len(runs.get(name, []))}"
            )
    return [runs[name][0] for name in layers]
