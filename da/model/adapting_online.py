"""Predict a stream of test batches and adapt to each: the base of the methods, and the stream.

A method is a `Method` with a network, a copy of it as it was given, and a `step` that leaves the
answer for its batch in `predicted`. So it is trained by `da.train.fit` like any other method, and
`online` takes the same steps one test batch after another.

    optimizer = torch.optim.Adam(method.parameter_groups(1e-3, 1.0))
    for logits in online(method, batches, optimizer): ...

`by_batch` is the baseline: each batch is normalised by its own statistics, and nothing is learned.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.data.batches import TargetBatch
from da.model.batchnorm import batch_norms
from da.model.windows import checked as checked_batches
from da.model.windows import windows
from da.networks.network import Network
from da.networks.samples import taken_by_network
from da.networks.statistics import (
    evaluating,
    frozen_statistics,
    kept_statistics,
    use_statistics,
)
from da.train.method import Method

# Normalisation that does not look at other rows.
BY_ROW = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


class OnlineMethod(Method[TargetBatch]):
    """The base of methods that answer each test batch and adapt to it.

    Only the scales and shifts of batch, layer, group and instance normalisation learn, unless
    `everything` does. In training batch normalisation takes each batch's own statistics. The
    running statistics follow them. They normalise a batch of a single row, which has no variance,
    and all samples at evaluation. Dropout is off.

    A subclass writes `step`, which sets `predicted`, and `loss`.

    Args:
        network: A network trained on the source; it is changed in place. A copy of it as it is now
            is kept.
        everything: Whether all parameters learn that are not frozen. Default False.

    Attributes:
        predicted: The logits (b, K) of the last step's batch, without gradient.
        restored: Whether the last step has restored the network, so that the optimiser's state is
            of no use any more.
        fills: Whether a batch smaller than the one before it is filled up with rows of that one,
            because batch normalisation looks at the batch.

    Raises:
        ValueError: Nothing would learn.
    """

    label_kind = "unread"
    fills: ClassVar[bool] = True
    predicted: Tensor
    restored: bool = False

    def __init__(self, network: Network, *, everything: bool = False) -> None:
        super().__init__(network)
        if not everything and not scales_and_shifts(network):
            raise ValueError(
                "network must have batch, layer, group or instance normalisation with scale and "
                "shift, because nothing else learns; it has none: choose another network or "
                "another method"
            )
        use_statistics(network, "target")
        self.everything = everything
        self.start = copy.deepcopy(network).requires_grad_(False)
        if not everything:
            network.requires_grad_(False)
            for parameter in scales_and_shifts(network):
                parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode of batch normalisation; all other modules stay in evaluation mode.

        If everything learns, the batch normalisation of frozen layers stays too.
        """
        if self.everything:
            self.network.train(mode)
        norms = [n for n in batch_norms(self.network) if n.training or not self.everything]
        super().train(False)
        for norm in norms:
            norm.train(mode)
        return self

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """What learns, without weight decay, which would pull scales to 0.

        Scales and shifts have one rate. If everything learns, it is as the network says.
        """
        if self.everything:
            groups = super().parameter_groups(learning_rate, backbone_factor)
            return [group | {"weight_decay": 0.0} for group in groups]
        own = scales_and_shifts(self.network)
        return [{"params": own, "lr": learning_rate, "weight_decay": 0.0}]

    def logits(self, x: Tensor) -> Tensor:
        """The logits (n, K) of a batch x (n, ...); running statistics normalise a single row."""
        alone = frozen_statistics(self.network) if len(x) == 1 else nullcontext()
        with alone:
            return self.network(x).logits

    def learning(self) -> dict[str, tuple[nn.Parameter, Tensor]]:
        """Name -> what learns, and its value in the network as it was given."""
        first = dict(self.start.named_parameters())
        return {
            name: (parameter, first[name])
            for name, parameter in self.network.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def restore(self) -> None:
        """Give what learns its first values again; running statistics stay."""
        for parameter, first in self.learning().values():
            parameter.copy_(first)

    def reset(self) -> None:
        """Restore the network as it was given, running statistics too, for the next domain.

        That domain needs a new optimiser as well.
        """
        self.network.load_state_dict(self.start.state_dict())


@torch.no_grad()
def batch_logits(network: Network, x: Tensor) -> Tensor:
    """The logits of a batch that is normalised by its own statistics; the network stays as it is.

    Dropout is off. Running statistics normalise a single row, which has no variance.

    Args:
        network: A trained network.
        x: Samples (b, ...).

    Returns:
        Logits (b, K), without gradient.
    """
    with evaluating(network):
        for norm in batch_norms(network) if len(x) > 1 else []:
            norm.train()
        with kept_statistics(network):
            return network(x).logits


@checked
def by_batch(network: Network, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Predict a stream, each batch normalised by its own statistics, and learn nothing.

    It is the baseline of every method that learns at test time, and what `guarded` falls back to.
    It needs some dozen rows of several classes in a batch. Networks without batch normalisation
    are used as they are.

    Args:
        network: A trained network. It is not changed.
        batches: Test samples (b, ...), b >= 1, on the network's device.

    Yields:
        The logits (b, K) of each batch.

    Raises:
        TypeError: A batch is not a tensor.
        ValueError: A batch is empty.

    Example:
        >>> import torch
        >>> from da.model import by_batch
        >>> from da.networks import lenet
        >>> batches = torch.rand(9, 1, 16, 16).split(4)  # nine images
        >>> [len(logits) for logits in by_batch(lenet(classes=10), batches)]
        [4, 4, 1]

    Paper:
        Nado, Padhy, Sculley, D'Amour et al.: Evaluating Prediction-Time Batch Normalization for
        Robustness under Covariate Shift. arXiv 2006.10963, 2020.

    Differences:
        A batch smaller than the one before it is filled up with rows of that one. A single row is
        normalised by the running statistics.
    """
    use_statistics(network, "target")
    for x, new in windows(batches):
        with taken_by_network("batches"):
            answer = batch_logits(network, x)
        yield answer[len(x) - new :]


@checked
def online(
    method: OnlineMethod, batches: Iterable[Tensor], optimizer: torch.optim.Optimizer
) -> Iterator[Tensor]:
    """Predict a stream of test batches and adapt to each one.

    Each batch is answered before the next one comes. TENT, EATA, SAR and DeYO answer a batch before
    they learn from it; CoTTA, RoTTA and NOTE say what they answer with.

    A batch that is smaller than the one before it, as the last one of a stream may be, is filled up
    with rows of that one, if the method normalises by the batch. So one or two rows are normalised
    as well as the others, and do not weigh more in a step.

    Args:
        method: The adapting network, on the batches' device. What it has learned stays between
            calls; `method.reset()` forgets it.
        batches: Test samples (b, ...), b >= 1. The first batch should hold some dozen rows if the
            network has batch normalisation.
        optimizer: An optimiser over `method.parameter_groups(...)`. Its state is reset too when
            the method recovers from a collapse.

    Yields:
        The logits (b, K) of each batch.

    Raises:
        TypeError: A batch is not a tensor.
        ValueError: A batch is empty.

    Example:
        >>> import torch
        >>> from da.model import Tent, online
        >>> from da.networks import lenet
        >>> method = Tent(lenet(classes=10))
        >>> optimizer = torch.optim.Adam(method.parameter_groups(1e-3, 1.0))
        >>> batches = torch.rand(9, 1, 16, 16).split(4)  # nine images
        >>> [logits.argmax(dim=1).shape for logits in online(method, batches, optimizer)]
        [torch.Size([4]), torch.Size([4]), torch.Size([1])]

    Paper:
        Wang, Shelhamer, Liu, Olshausen et al.: Tent: Fully Test-Time Adaptation by Entropy
        Minimization. ICLR 2021.

    Differences:
        Those of the method. A small batch is filled up.
    """
    start = copy.deepcopy(optimizer.state_dict())
    method.train()
    for x, new in filled(method, batches):
        with taken_by_network("batches"):
            answer_and_adapt(method, x, optimizer)
        if method.restored:
            optimizer.load_state_dict(copy.deepcopy(start))  # a copy: steps change the state
        yield method.predicted[len(x) - new :]


def filled(method: OnlineMethod, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, int]]:
    """The batches, filled up if the method asks for it, and how many rows of each are new."""
    return windows(batches) if method.fills else ((x, len(x)) for x in checked_batches(batches))


@torch.enable_grad()
def answer_and_adapt(method: OnlineMethod, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step of the method on a batch, move by move; the answer is in `method.predicted`."""
    rows = torch.arange(len(x), device=x.device)
    for terms in method.step(TargetBatch(x, rows), 0.0):
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()


def scales_and_shifts(network: Network) -> list[nn.Parameter]:
    """The scales and shifts of the normalisation layers, in order.

    Of layers that are split by domain it takes the target's.
    """
    by_batch = {id(norm) for norm in batch_norms(network)}
    norms = [m for m in network.modules() if id(m) in by_batch or isinstance(m, BY_ROW)]
    both = [value for norm in norms for value in (norm.weight, norm.bias)]
    return [value for value in both if isinstance(value, nn.Parameter)]
