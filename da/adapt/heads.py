"""What a chosen row leaves behind: a small network from feature rows to logits or numbers.

Every candidate ends as one of these, so that a saved model is weights and a description, and needs
no pickled code.

    {"kind": "linear", "inputs": d, "outputs": k}
    {"kind": "network", "inputs": d, "outputs": k, "hidden": h, "normalised": false}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from da.networks.network import Network
from da.networks.small import feature_network

KINDS = ("linear", "network")


class Scaled(nn.Module):
    """A head below which feature rows are scaled as in training.

    Args:
        head: Scaled rows (b, d) -> logits (b, k).
        centre: Subtracted from each column, (d,).
        spread: Divides each column, (d,).
        rows: Whether each row is then scaled to the 2-norm sqrt(d).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.adapt.heads import Scaled
        >>> scaled = Scaled(nn.Identity(), torch.ones(2), 2 * torch.ones(2), rows=False)
        >>> scaled(torch.tensor([[3.0, 5.0]]))
        tensor([[1., 2.]])
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, head: nn.Module, centre: Tensor, spread: Tensor, *, rows: bool) -> None:
        super().__init__()
        self.head, self.rows = head, rows
        self.register_buffer("centre", centre.float())
        self.register_buffer("spread", spread.float())

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, k) of feature rows (b, d)."""
        x = (x - self.centre) / self.spread
        if self.rows:
            norm = x.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
            x = x * (x.shape[1] ** 0.5 / norm)
        return self.head(x)


class Logits(nn.Module):
    """A `Network` that returns its logits alone.

    Args:
        network: The network.

    Example:
        >>> import torch
        >>> from da.adapt.heads import Logits
        >>> from da.networks import mlp
        >>> Logits(mlp(4, 3))(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, k) of rows (b, d)."""
        return self.network(x).logits


def linear_head(weights: np.ndarray, bias: np.ndarray) -> nn.Linear:
    """Make a linear layer of given numbers.

    Args:
        weights: (k, d).
        bias: (k,).

    Returns:
        The layer, float32.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from da.adapt.heads import linear_head
        >>> linear_head(np.array([[2.0]]), np.array([1.0]))(torch.tensor([[3.0]])).item()
        7.0
    """
    layer = nn.Linear(weights.shape[1], weights.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights, np.float32)))
        layer.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias, np.float32)))
    return layer.requires_grad_(False)


def description_of(head: nn.Module) -> dict[str, Any]:
    """Say what a head is made of, so that `build_head` makes it again.

    Args:
        head: A linear layer, or `Logits` of a `feature_network`.

    Returns:
        What JSON can hold.

    Raises:
        TypeError: The head is another module.

    Example:
        >>> from torch import nn
        >>> from da.adapt.heads import description_of
        >>> description_of(nn.Linear(4, 2))
        {'kind': 'linear', 'inputs': 4, 'outputs': 2}
    """
    if isinstance(head, nn.Linear):
        return {"kind": "linear", "inputs": head.in_features, "outputs": head.out_features}
    if isinstance(head, Logits):
        first, last = head.network.bottleneck[0], head.network.head  # type: ignore[index]
        return {
            "kind": "network",
            "inputs": first.in_features,
            "outputs": last.out_features,
            "hidden": first.out_features,
            "normalised": isinstance(head.network.backbone, nn.BatchNorm1d),
        }
    raise TypeError(f"head must be a linear layer or a network; got {type(head).__name__}")


def build_head(description: Mapping[str, Any]) -> nn.Module:
    """Make a head from its description, with weights that are yet to be loaded.

    Args:
        description: From `description_of`.

    Returns:
        The head.

    Raises:
        ValueError: The kind is unknown.

    Example:
        >>> from da.adapt.heads import build_head
        >>> build_head({"kind": "linear", "inputs": 4, "outputs": 2})
        Linear(in_features=4, out_features=2, bias=True)
    """
    inputs, outputs = int(description["inputs"]), int(description["outputs"])
    if description["kind"] == "linear":
        return nn.Linear(inputs, outputs)
    if description["kind"] == "network":
        hidden, normalised = int(description["hidden"]), bool(description["normalised"])
        return Logits(feature_network(inputs, outputs, hidden=hidden, normalised=normalised))
    raise ValueError(
        f"kind of a head must be one of {', '.join(KINDS)}; got {description['kind']!r}"
    )


@torch.no_grad()
def answers(head: nn.Module, rows: np.ndarray) -> np.ndarray:
    """Ask a head for the logits (k, outputs) of rows (k, d), float32.

    Args:
        head: A head, in any mode; it answers in evaluation mode.
        rows: Rows (k, d).
    """
    head.eval()
    parts = [head(part) for part in torch.from_numpy(rows).float().split(4096)]
    return torch.cat(parts).numpy()
