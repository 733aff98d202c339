"""Rows that correct the answers of a network which learns nothing: LAME and T3A."""

from __future__ import annotations

from functools import partial
from typing import Literal

from da.model.corrections import lame, t3a
from da.networks.network import Network, linear_head
from da.train.evaluation import Correction

CorrectedRow = Literal["lame", "t3a"]


def correction(row: CorrectedRow, network: Network) -> Correction:
    """What corrects the logits of a row; neither function changes the network.

    Args:
        row: "lame" or "t3a".
        network: The network whose answers are corrected; T3A reads the weights of its head.

    Returns:
        (features, logits) -> logits.

    Example:
        >>> import torch
        >>> from da.networks import mlp
        >>> from da.recipes.corrected import correction
        >>> corrected = correction("t3a", mlp(4, 3, hidden=8, features=2))
        >>> corrected(torch.randn(5, 2), torch.randn(5, 3)).shape
        torch.Size([5, 3])
    """
    if row == "lame":
        return lame
    head = linear_head(network)
    return partial(t3a, weight=head.weight.detach(), bias=head.bias.detach())
