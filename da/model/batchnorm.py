"""AdaBN: a trained network takes over the target's batch statistics, and nothing else changes.

Li, Wang, Shi, Liu, Hou: Revisiting Batch Normalization For Practical Domain Adaptation. 2016, arXiv:1603.04779; Pattern Recognition 2018.

Here the source is not needed. `Align(network, None, batch_statistics="domain")` is the same while the source is learned.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from da.networks.network import Network
from da.networks.statistics import BatchNorm, DomainBatchNorm, evaluating, use_statistics


def batch_norms(network: nn.Module) -> list[BatchNorm]:
    """The batch normalisations of `network`, in order; of a `DomainBatchNorm` the target's.

    Raises ValueError where there is none: what is asked for has nothing to work on.
    """
    source = {
        id(module.source) for module in network.modules() if isinstance(module, DomainBatchNorm)
    }
    found = [
        module
        for module in network.modules()
        if isinstance(module, BatchNorm) and id(module) not in source
    ]
    if not found:
        raise ValueError("network must have batch normalisation, which is what adapts; it has none")
    return found


@torch.no_grad()
def adapt_statistics(network: Network, batches: Iterable[Tensor]) -> Network:
    """A copy of `network` whose batch normalisations have the running mean and variance of `batches` in place of the source's.

    Both are averages over the batches, each counting alike: of equal batches the mean is that of all rows, the variance the mean
    of the batches' unbiased variances. The layers above see what they see in training: rows normalised by their own batch. Dropout is off.

    Args:
        network: left as it is; its copy is in the mode it is in.
        batches: target samples (b, ...), at least one batch, on the network's device.

    Raises:
        ValueError: no batch normalisation keeps running statistics, or there is no batch.

    Different from the paper: an average in place of its exponential one, so that the order of the batches does not matter.
    """
    own = copy.deepcopy(network)
    tracking = [norm for norm in batch_norms(own) if norm.running_mean is not None]
    if not tracking:
        raise ValueError(
            "network must have batch normalisation with running statistics; its layers have track_running_stats=False"
        )
    momenta = [norm.momentum for norm in tracking]
    use_statistics(own, "target")
    with evaluating(own):
        for norm in tracking:
            norm.reset_running_stats()
            norm.train().momentum = None  # torch's word for the cumulative average
        for x in batches:
            own(x)
    if tracking[0].num_batches_tracked == 0:
        raise ValueError("batches must hold at least one batch of target samples; got none")
    for norm, momentum in zip(tracking, momenta, strict=True):
        norm.momentum = momentum
    return own
