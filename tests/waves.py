"""Tensors that anyone can make again, sines of whole numbers; values of others are of these."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wave(*shape: int, phase: float = 0.0, scale: float = 1.0) -> Tensor:
    """scale sin(1.7 i + phase) for i = 0, 1, ..., in float64."""
    places = torch.arange(math.prod(shape), dtype=torch.float64)
    return scale * torch.sin(1.7 * places + phase).reshape(shape)
