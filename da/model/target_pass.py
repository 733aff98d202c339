"""One pass over a whole target without gradients: what adaptation without source data looks at."""

from __future__ import annotations

import torch

from da.data.batches import Transform
from da.data.domain import Unlabelled
from da.networks.network import Network, Outputs
from da.networks.statistics import evaluating

ROWS = 256  # target rows in one forward pass


@torch.no_grad()
def target_outputs(
    network: Network, target: Unlabelled, transform: Transform, device: torch.device | str
) -> Outputs:
    """Run a network in evaluation mode on all rows of a target.

    Args:
        network: The network. Its mode is afterwards what it was.
        target: The m unlabelled rows.
        transform: Raw rows -> network input, without augmentation.
        device: Where the network is.

    Returns:
        Features (m, d) and logits (m, K) in the order of the rows, without gradient.
    """
    generator = torch.Generator()  # a transform without augmentation draws nothing from it
    with evaluating(network):
        parts = [
            network(transform(target.rows(rows), generator).to(device))
            for rows in torch.arange(len(target)).split(ROWS)
        ]
    features, logits = (torch.cat(values) for values in zip(*parts, strict=True))
    return Outputs(features, logits)
