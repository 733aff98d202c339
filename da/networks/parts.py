"""Parts of networks: layers that do not learn, and rows of one length."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from da.arrays.arguments import checked


class Normalise(nn.Module):
    """Scales each row to the 2-norm `scale`: z = scale x / max(||x||, 1e-12), (b, d) -> (b, d)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """The scaled rows (b, d)."""
        return self.scale * functional.normalize(x, dim=1)


class Frozen(nn.Module):
    """A wrapper around a module that must not learn.

    The parameters of the module get no gradient. The module is always in evaluation mode, so that
    its batch statistics do not move either, even if `train()` is called on the whole network.

    Args:
        module: Any module. Its parameters are frozen in place.

    Example:
        >>> from torch import nn
        >>> from da.networks import Frozen
        >>> layer = Frozen(nn.BatchNorm1d(3)).train()
        >>> layer.module.training, [p.requires_grad for p in layer.parameters()]
        (False, [False, False])
    """

    @checked
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.requires_grad_(False).eval()

    def __getattr__(self, name: str) -> Any:
        """What the module has beside its output: some networks ask their blocks for more."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "module" or name.startswith("__"):  # not set yet, or Python asks
                raise
            return getattr(self.module, name)

    def train(self, mode: bool = True) -> Frozen:
        """Sets evaluation mode, whatever `mode` is."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """The module's output."""
        return self.module(x)
