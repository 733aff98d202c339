"""One pass over a whole target without gradients: what adaptation without source data looks at."""

from __future__ import annotations

import torch

from da.arrays.arguments import checked
from da.data.batches import Transform
from da.data.domain import Unlabelled
from da.networks.network import Network, Outputs
from da.networks.statistics import evaluating

ROWS = 256  # target rows in one forward pass


@torch.no_grad()
@checked
def target_outputs(
    network: Network,
    target: Unlabelled,
    transform: Transform,
    device: torch.device | str = "cpu",
) -> Outputs:
    """Run a network in evaluation mode on all rows of a target.

    Use it before a correction, or to take labels from predictions (`surest_rows`).

    Args:
        network: The network. Its mode is afterwards what it was.
        target: The m unlabelled rows.
        transform: Raw rows -> network input, without augmentation.
        device: Where the network is. Default "cpu".

    Returns:
        Features (m, d) and logits (m, K) in the order of the rows, without gradient.

    Example:
        >>> import torch
        >>> from da.data import Unlabelled, identity
        >>> from da.model import target_outputs
        >>> from da.networks import mlp
        >>> network, target = mlp(4, classes=3), Unlabelled(torch.zeros(300, 4))
        >>> target_outputs(network, target, identity).logits.shape
        torch.Size([300, 3])
    """
    generator = torch.Generator()  # a transform without augmentation draws nothing from it
    with evaluating(network):
        parts = [
            network(transform(target.rows(rows), generator).to(device))
            for rows in torch.arange(len(target)).split(ROWS)
        ]
    features, logits = (torch.cat(values) for values in zip(*parts, strict=True))
    return Outputs(features, logits)
