"""Batch statistics: whose they are, when they move, and the mode a network is in."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import Tensor, nn

DomainName = Literal["source", "target"]


BatchNorm = nn.modules.batchnorm._BatchNorm  # of every dimension


class DomainBatchNorm(nn.Module):
    """Batch normalisation with one scale and shift, and statistics of its own for each of two domains.

    Which statistics are used and updated is what `use_statistics` said last (Li et al. 2016, AdaBN; Chang et al. 2019, DSBN,
    there with a scale and shift for each domain too).
    """

    def __init__(self, norm: BatchNorm) -> None:
        super().__init__()
        self.source, self.target = norm, copy.deepcopy(norm)
        self.target.weight, self.target.bias = norm.weight, norm.bias
        self.domain: DomainName = "source"

    def forward(self, x: Tensor) -> Tensor:
        return self.source(x) if self.domain == "source" else self.target(x)


def split_statistics(network: nn.Module) -> None:
    """Every batch normalisation of `network` becomes a DomainBatchNorm, in place."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BatchNorm) and not isinstance(module, DomainBatchNorm):
                setattr(module, name, DomainBatchNorm(child))


def use_statistics(network: nn.Module, domain: DomainName) -> None:
    """Says which domain's statistics the DomainBatchNorm layers of `network` use from now on; no such layer, no effect."""
    for module in network.modules():
        if isinstance(module, DomainBatchNorm):
            module.domain = domain


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Within, batch normalisation normalises by its running statistics and leaves them as they are; dropout stays on."""
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
    """Within, batch normalisation in training normalises by the batch and leaves its running statistics as they are."""
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


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Within, `network` starts in evaluation mode; afterwards every module is in the mode it was in: not all need be in one."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
