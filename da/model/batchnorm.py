"""AdaBN: give a trained network the target's batch statistics, and change nothing else.

Here the source data are not needed. While the source is being learned, the same is done by
`Align(network, None, batch_statistics="domain")`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain, islice

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.arrays.matrices import at_least_single
from da.model.windows import checked as checked_batches
from da.model.windows import windows
from da.networks.network import Network
from da.networks.samples import taken_by_network
from da.networks.statistics import BatchNorm, DomainBatchNorm, evaluating, use_statistics


def batch_norms(network: nn.Module) -> list[BatchNorm]:
    """The batch normalisations of a network, in order.

    Of a `DomainBatchNorm` only the target's is in the list.
    """
    split = [module for module in network.modules() if isinstance(module, DomainBatchNorm)]
    source = {id(module.source) for module in split}
    return [
        module
        for module in network.modules()
        if isinstance(module, BatchNorm) and id(module) not in source
    ]


@torch.no_grad()
@checked
def adapt_statistics(network: Network, batches: Iterable[Tensor]) -> Network:
    """Replace the running statistics of a trained network by those of the target (AdaBN).

    This is the cheapest adaptation: one pass over unlabelled target samples, no training, no
    source data. It helps if the domains differ in brightness, contrast or other shifts of scale.

    Each layer gets the mean and the unbiased variance of all values that it sees in this pass.
    Every row counts alike, whatever the sizes of the batches. In this pass each layer normalises
    by its own batch, as in training. A batch that is smaller than the one before it is filled up
    with rows of that one. They help to normalise it and do not count again. A first batch of one
    row is joined to the second. Dropout is off.

    Args:
        network: A trained network. It is not changed.
        batches: Target samples (b, ...), b >= 1, two rows or more in all, on the network's device.

    Returns:
        A copy of the network with the target's statistics, in the network's mode (training or
        evaluation).

    Raises:
        ValueError: The network has no batch normalisation with running statistics, there are fewer
            than two rows, or a batch is empty.
        TypeError: A batch is not a tensor.

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
        The mean and the variance of all rows are put together from those of the batches, as in the
        paper. The variance is the unbiased one, as torch keeps it. A small batch is filled up.
    """
    own = copy.deepcopy(network)
    tracking = _tracking(own)
    use_statistics(own, "target")
    moments = [_Moments() for _ in tracking]
    share = 1.0  # of the rows of a pass that are new
    with evaluating(own), ExitStack() as hooks:
        for norm, seen in zip(tracking, moments, strict=True):
            norm.reset_running_stats()
            norm.train()

            def note(module: nn.Module, inputs: tuple[Tensor], seen: _Moments = seen) -> None:
                seen.add(inputs[0][-max(1, round(share * len(inputs[0]))) :])

            hooks.callback(norm.register_forward_pre_hook(note).remove)
        for x, new in windows(_two_rows_first(batches)):
            share = new / len(x)
            with taken_by_network("batches"):
                own(x)
    for norm, seen in zip(tracking, moments, strict=True):
        seen.write(norm)
    return own


def _tracking(network: Network) -> list[BatchNorm]:
    """The batch normalisations that have running statistics, one or more."""
    norms = batch_norms(network)
    if not norms:
        raise ValueError(
            "network must have batch normalisation, because nothing else adapts; it has none: "
            "choose another network or another method"
        )
    tracking = [norm for norm in norms if norm.running_mean is not None]
    if not tracking:
        raise ValueError(
            "network must have batch normalisation with running statistics; its layers have "
            "track_running_stats=False"
        )
    return tracking


def _two_rows_first(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The batches; a first one of a single row, which has no variance, is joined to the second."""
    rest = checked_batches(batches)
    first = list(islice(rest, 1))
    if first and len(first[0]) == 1:
        first = [torch.cat([*first, *islice(rest, 1)])]
    if not first or len(first[0]) == 1:
        raise ValueError(
            "batches must hold two target samples or more, because one has no variance; "
            f"got {len(first)}"
        )
    return chain(first, rest)


class _Moments:
    """Number, mean and sum of squared deviations of the values of each channel."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0  # (c,)
        self.squares: Tensor | float = 0.0  # (c,)

    def add(self, x: Tensor) -> None:
        """Take in values x (b, c, ...)."""
        axes = [0, *range(2, x.ndim)]
        variance, mean = torch.var_mean(at_least_single(x), dim=axes, correction=0)  # (c,)
        count = x.numel() // x.shape[1]
        total = self.count + count
        difference = mean - self.mean
        self.mean = self.mean + difference * count / total
        self.squares = (
            self.squares + count * variance + difference.square() * self.count * count / total
        )
        self.count = total

    def write(self, norm: BatchNorm) -> None:
        """Make them the running statistics of a layer that has seen values."""
        if self.count > 1:
            norm.running_mean.copy_(self.mean)  # type: ignore[union-attr, arg-type]
            norm.running_var.copy_(self.squares / (self.count - 1))  # type: ignore
