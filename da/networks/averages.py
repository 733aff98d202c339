"""Averages of weights: of one network over its training, or of several networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
