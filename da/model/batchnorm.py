"""AdaBN: give a trained network the target's batch statistics, and change nothing else.

Here the source data are not needed. While the source is being learned, the same is done by
`Align(network, None, batch_statistics="domain")`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from da.networks.network import Network
from da.networks.statistics import BatchNorm, DomainBatchNorm, evaluating, use_statistics


def batch_norms(network: nn.Module) -> list[BatchNorm]:
    """The batch normalisations of a network, in order.

    Of a `DomainBatchNorm` only the target's is in the list.

    Raises:
        ValueError: The network has no batch normalisation.
    """
    split = [module for module in network.modules() if isinstance(module, DomainBatchNorm)]
    source = {id(module.source) for module in split}
    found = [
        module
        for module in network.modules()
        if isinstance(module, BatchNorm) and id(module) not in source
    ]
    if not found:
        raise ValueError(
            "network must have batch normalisation, because nothing else adapts; it has none: "
            "choose another network or another method"
        )
    return found


@torch.no_grad()
def adapt_statistics(network: Network, batches: Iterable[Tensor]) -> Network:
    """Replace the running statistics of a trained network by those of the target (AdaBN).

    This is the cheapest adaptation: one pass over unlabelled target samples, no training, no
    source data. It helps if the domains differ in brightness, contrast or other shifts of scale.

    Each mean and each variance is the plain average over the batches. With batches of equal size
    the mean is that of all rows, and the variance is the mean of the unbiased variances of the
    batches. In this pass each layer normalises by its own batch, as in training. Dropout is off.

    Args:
        network: A trained network. It is not changed.
        batches: Target samples (b, ...), at least one batch, on the network's device.

    Returns:
        A copy of the network with the target's statistics, in the network's mode (training or
        evaluation).

    Raises:
        ValueError: The network has no batch normalisation with running statistics, or there is no
            batch.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.model import adapt_statistics
        >>> from da.networks import Network
        >>> network = Network(nn.BatchNorm1d(1), nn.Identity(), nn.Linear(1, 2)).eval()
        >>> target = torch.tensor([[4.0], [6.0]])
        >>> norm = adapt_statistics(network, [target]).backbone
        >>> norm.running_mean.item(), norm.running_var.item()  # they were 0 and 1
        (5.0, 2.0)

    Paper:
        Li, Wang, Shi, Liu et al.: Revisiting Batch Normalization For Practical Domain Adaptation.
        arXiv 1603.04779, 2016; Pattern Recognition, 2018.

    Differences:
        The statistics are plain averages over the batches, so that the order of the batches does
        not matter. The paper takes an exponential average.
    """
    own = copy.deepcopy(network)
    tracking = [norm for norm in batch_norms(own) if norm.running_mean is not None]
    if not tracking:
        raise ValueError(
            "network must have batch normalisation with running statistics; its layers have "
            "track_running_stats=False"
        )
    momenta = [norm.momentum for norm in tracking]
    use_statistics(own, "target")
    with evaluating(own):
        for norm in tracking:
            norm.reset_running_stats()
            norm.train().momentum = None  # None makes torch take the plain average
        for x in batches:
            own(x)
    if tracking[0].num_batches_tracked == 0:
        raise ValueError("batches must hold at least one batch of target samples; got none")
    for norm, momentum in zip(tracking, momenta, strict=True):
        norm.momentum = momentum
    return own
