"""Is there anything to adapt to? A look at the target through a network's batch normalisation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.model.batchnorm import adapt_statistics, batch_norms
from da.networks.network import Network


@torch.no_grad()
@checked
def statistics_shift(network: Network, batches: Iterable[Tensor]) -> float:
    """Measure how far the target's batch statistics are from those that a network has stored.

    Adaptation without source data pulls on a network even if the target is like the source, and
    can then only lose. The stored statistics are the one thing that a network knows of its source's
    data, so a small value says: leave the network as it is.

        mean over layers, mean over channels of J(N(m_s, v_s), N(m_t, v_t))
        J = [(v_t + (m_s - m_t)^2) / v_s + (v_s + (m_s - m_t)^2) / v_t] / 2 - 1

    J is the symmetrised Kullback-Leibler divergence. The target's statistics are those of
    `adapt_statistics`: in each layer after the layers before it have been adapted.

    Args:
        network: A trained network with batch normalisation. It is not changed.
        batches: Target samples (b, ...), two rows or more in all, on the network's device.

    Returns:
        The shift in nats, >= 0. It is not exactly 0 for the source's own samples, because stored
        statistics are averages over the last batches of the training.

    Raises:
        ValueError: The network has no batch normalisation with running statistics, there are fewer
            than two rows, or a batch is empty.
        TypeError: A batch is not a tensor.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.model import statistics_shift
        >>> from da.networks import Network
        >>> network = Network(nn.BatchNorm1d(1), nn.Identity(), nn.Linear(1, 2)).eval()
        >>> target = torch.tensor([[1.0], [2.0], [3.0]])  # mean 2, variance 1; stored are 0 and 1
        >>> round(statistics_shift(network, [target]), 3)  # [(1 + 4) / 1 + (1 + 4) / 1] / 2 - 1
        4.0
    """
    adapted = adapt_statistics(network, batches)
    shifts = []
    for before, after in zip(batch_norms(network), batch_norms(adapted), strict=True):
        if before.running_mean is None or before.running_var is None:
            continue
        assert after.running_mean is not None and after.running_var is not None  # it is a copy
        source, target = before.running_var.double(), after.running_var.double()
        source, target = source + before.eps, target + before.eps
        gap = (before.running_mean.double() - after.running_mean.double()).square()  # (c,)
        divergence = ((target + gap) / source + (source + gap) / target) / 2 - 1  # (c,)
        shifts.append(divergence.mean())
    return torch.stack(shifts).mean().item()
