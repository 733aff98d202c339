"""Batch statistics: which domain they belong to, when they move, and the mode of a network.

Adaptation methods look at two domains with one network. These functions say which domain's
statistics batch normalisation uses, and keep a pass from changing them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from torch import Tensor, nn

from da.arrays.arguments import checked

DomainName = Literal["source", "target"]


BatchNorm = nn.modules.batchnorm._BatchNorm  # the common class of 1, 2 and 3 dimensions


class DomainBatchNorm(nn.Module):
    """Batch normalisation that keeps separate statistics for the source and for the target.

    Scale and shift are shared. `use_statistics` chooses whose statistics are used and updated; a
    new layer uses the source's. `split_statistics` puts this layer in a whole network.

    Args:
        norm: The batch normalisation to split. It becomes the source's layer; the target's layer
            starts from a copy of its statistics.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.networks import DomainBatchNorm, use_statistics
        >>> norm = DomainBatchNorm(nn.BatchNorm1d(1, momentum=1.0))
        >>> for domain, value in (("source", 2.0), ("target", 7.0)):
        ...     use_statistics(norm, domain)
        ...     _ = norm(torch.full((4, 1), value))
        >>> norm.source.running_mean.item(), norm.target.running_mean.item()
        (2.0, 7.0)

    Paper:
        Li, Wang, Shi, Liu et al.: Revisiting Batch Normalization For Practical Domain Adaptation.
        arXiv 1603.04779, 2016 (AdaBN). Chang, You, Seo, Kwak et al.: Domain-Specific Batch
        Normalization for Unsupervised Domain Adaptation. CVPR 2019 (DSBN).

    Differences:
        DSBN has a scale and shift for each domain too. Here both domains share them, as in AdaBN.
    """

    @checked
    def __init__(self, norm: BatchNorm) -> None:
        super().__init__()
        self.source, self.target = norm, copy.deepcopy(norm)
        self.target.weight, self.target.bias = norm.weight, norm.bias
        self.domain: DomainName = "source"

    def forward(self, x: Tensor) -> Tensor:
        """The batch, normalised by the statistics of the domain in use."""
        return self.source(x) if self.domain == "source" else self.target(x)


@checked
def split_statistics(network: nn.Module) -> None:
    """Give every batch normalisation of a network separate statistics for source and target.

    Each such layer becomes a `DomainBatchNorm`, in place. Layers that are split already stay as
    they are.

    Args:
        network: Any module that contains batch normalisation; without such layers nothing
            happens.

    Example:
        >>> from da.networks import DomainBatchNorm, lenet, split_statistics
        >>> network = lenet(classes=10)
        >>> split_statistics(network)
        >>> sum(isinstance(module, DomainBatchNorm) for module in network.modules())
        3
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BatchNorm) and not isinstance(module, DomainBatchNorm):
                setattr(module, name, DomainBatchNorm(child))


@checked
def use_statistics(network: nn.Module, domain: DomainName) -> None:
    """Choose which domain's statistics the split layers of a network use from now on.

    Call it before each pass if the network was split by `split_statistics`. Other networks are
    not changed.

    Args:
        network: Any module.
        domain: "source" or "target".

    Example:
        >>> from da.networks import lenet, split_statistics, use_statistics
        >>> network = lenet(classes=10)
        >>> split_statistics(network)
        >>> use_statistics(network, "target")
        >>> network.backbone[1].domain
        'target'
    """
    for module in network.modules():
        if isinstance(module, DomainBatchNorm):
            module.domain = domain


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Inside the context, batch normalisation uses its running statistics and keeps them.

    Dropout stays on.
    """
    training = [m for m in network.modules() if isinstance(m, BatchNorm) and m.training]
    for module in training:
        module.eval()
    try:
        yield
    finally:
        for module in training:
            module.train()


@contextmanager
def kept_statistics(module: nn.Module) -> Iterator[None]:
    """Inside the context, batch normalisation in training does not update running statistics.

    It still normalises by the batch.
    """
    tracking = [
        m
        for m in module.modules()
        if isinstance(m, BatchNorm) and m.training and m.track_running_stats
    ]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True


def unmoved_statistics(module: nn.Module, *, frozen: bool) -> AbstractContextManager[None]:
    """Inside the context, a module sees rows once more, and its running statistics stay.

    Args:
        module: The module.
        frozen: Normalise by the running statistics, as `frozen_statistics` does, and not by the
            batch, as `kept_statistics` does.
    """
    return frozen_statistics(module) if frozen else kept_statistics(module)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Inside the context, `network` is in evaluation mode; then every module's own mode returns."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
