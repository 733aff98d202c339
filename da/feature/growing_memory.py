"""Buffers with a place for every target row that was seen, for methods that remember the target.

How many rows the target has is not known beforehand. So the buffers grow with the largest index
that a batch brings, and a checkpoint may hold more rows than a new method has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn


class GrowingMemory(nn.Module):
    """The base of methods with such buffers, before another base.

    Attributes:
        growing: Name of each buffer -> what stands in a row that was not seen yet.
    """

    growing: ClassVar[Mapping[str, float]] = {}

    def grow(self, rows: int) -> None:
        """Make room for target rows 0 to `rows` - 1."""
        for name, empty in self.growing.items():
            old = getattr(self, name)
            if len(old) < rows:
                new = old.new_full((rows - len(old), *old.shape[1:]), empty)
                setattr(self, name, torch.cat([old, new]))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *others: Any, **named: Any
    ) -> None:
        for name, empty in self.growing.items():
            if f"{prefix}{name}" in state_dict:
                old = getattr(self, name)
                rows = len(state_dict[f"{prefix}{name}"])
                setattr(self, name, old.new_full((rows, *old.shape[1:]), empty))
        super()._load_from_state_dict(state_dict, prefix, *others, **named)  # type: ignore[misc]
