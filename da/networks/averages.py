"""Averages of weights: of one network over its training, or of several networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked

Module = TypeVar("Module", bound=nn.Module)


@checked
@torch.no_grad()
def average_networks(
    networks: Sequence[Module], *, weights: Sequence[float] | None = None
) -> Module:
    """Make the network whose weights are the average of those of several networks.

    It costs no more than one of them. Networks that were fine-tuned from one start, with other
    seeds, recipes or rates, lie in one basin, and their average is often better than each (a model
    soup). Networks of different starts have nothing in common, and their average is useless.

        sum_i w_i theta_i / sum_i w_i

    Args:
        networks: One or more of the same architecture. They are not changed.
        weights: w, one for each network, of sum other than 0. Default None: all the same.

    Returns:
        A copy of the first network with the average. Running statistics are averaged too; buffers
        of whole numbers are those of the first.

    Raises:
        ValueError: There is no network, parameters or buffers differ in name or shape, there are
            not as many weights as networks, or their sum is 0 or not finite.

    Example:
        >>> from torch import nn
        >>> from da.networks import average_networks
        >>> first, second = nn.Linear(1, 1), nn.Linear(1, 1)
        >>> _ = first.weight.data.fill_(1.0), second.weight.data.fill_(4.0)
        >>> average_networks([first, second], weights=[2, 1]).weight.item()
        2.0

    Paper:
        Wortsman, Ilharco, Gadre, Roelofs et al.: Model Soups: Averaging Weights of Multiple
        Fine-Tuned Models Improves Accuracy without Increasing Inference Time. ICML 2022 (uniform
        soup).

    Differences:
        Running statistics are averaged too. The paper's networks have none.
    """
    if len(networks) == 0:
        raise ValueError("networks must be one or more; got none")
    shares = [1.0] * len(networks) if weights is None else [float(w) for w in weights]
    total = sum(shares)
    if len(shares) != len(networks) or total == 0 or not math.isfinite(total):
        raise ValueError(
            f"weights must be {len(networks)} numbers, one for each network, of sum other than 0; "
            f"got {shares}"
        )
    tensors = [_parameters_and_buffers(network) for network in networks]
    if any(_shapes(each) != _shapes(tensors[0]) for each in tensors[1:]):
        raise ValueError(
            "networks must have parameters and buffers of the same names and shapes; got others"
        )
    average = copy.deepcopy(networks[0])
    for name, value in _parameters_and_buffers(average).items():
        if value.is_floating_point():
            parts = [w / total * each[name] for w, each in zip(shares, tensors, strict=True)]
            value.copy_(torch.stack([part.to(value.device) for part in parts]).sum(dim=0))
    return average


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move a running average of a module's parameters and buffers, in place.

        average <- decay average + (1 - decay) module

    Args:
        average: The average, of the same architecture as `module`.
        module: What is averaged. Buffers of whole numbers (counts of batches) are copied.
        decay: Share of the old average that stays, in [0, 1].

    Raises:
        ValueError: decay is not in [0, 1], or parameters and buffers differ in name or shape.

    Paper:
        Tarvainen, Valpola: Mean teachers are better role models: Weight-averaged consistency
        targets improve semi-supervised deep learning results. NIPS 2017.

    Differences:
        Running statistics are averaged too.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay must be in [0, 1]; got {decay}")
    old, new = _parameters_and_buffers(average), _parameters_and_buffers(module)
    if _shapes(old) != _shapes(new):
        raise ValueError(
            "average and module must have parameters and buffers of the same names and shapes"
        )
    for name, value in old.items():
        if value.is_floating_point():
            value.lerp_(new[name].to(value.dtype), 1 - decay)
        else:
            value.copy_(new[name])


def _parameters_and_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Each once. A state dict names a tensor twice that two layers share (`DomainBatchNorm`)."""
    return dict([*module.named_parameters(), *module.named_buffers()])


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in tensors.items()}
