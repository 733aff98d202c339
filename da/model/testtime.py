"""TENT: while it is tested, a network makes its predictions surer.

    mean H(p_i) over the rows of the test batch, p_i = softmax(logits_i)

Only the scales and shifts of its normalisation layers learn. Batch normalisation takes each batch's
own mean and variance. Layer, group and instance normalisation look at one row at a time anyway.

    optimizer = torch.optim.Adam(method.parameter_groups(1e-3, 1.0))  # the paper's, small images
    for logits in online(method, batches, optimizer): ...

Without guards the network may end with one class for everything, because that is sure too. There
are two guards:

| guard | what it does |
|---|---|
| margin | a row counts only if H(p_i) < margin log K, because gradients of unsure rows mislead |
| floor | if the running mean of what counts is below floor log K, scales and shifts are restored |
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import final

import torch
from torch import Tensor, nn

from da.arrays.matrices import as_matrix, full_precision
from da.data.batches import TargetBatch
from da.model.batchnorm import batch_norms
from da.model.windows import windows
from da.networks.network import Network, entropies
from da.networks.statistics import frozen_statistics, use_statistics
from da.train.distributed import gather_rows
from da.train.method import Method, Terms

FLOOR = 0.2 / math.log(1000)  # 0.2 nats of 1,000 classes, as in Niu et al. 2023
KEPT = 0.9  # weight of the old running mean when a batch comes
# Normalisation that does not look at other rows.
BY_ROW = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def reliable_entropies(logits: Tensor, *, margin: float | None) -> Tensor:
    """The entropies of the rows that count, those below the margin.

    Args:
        logits: (n, K), floats.
        margin: A row counts if H(p_i) < margin log K; without unit. None: all rows count.

    Returns:
        H(p_i) (k,) in nats, k <= n.

    Raises:
        ValueError: The logits are not a matrix, or a value is not finite.
        TypeError: The logits are not floats.
    """
    z = as_matrix(logits, "logits")
    with full_precision(z):
        found = entropies(z)  # (n,)
    return found if margin is None else found[found < margin * math.log(z.shape[1])]


@final
class Tent(Method[TargetBatch]):
    """Adapt a network at test time, by the entropy of its own predictions (TENT).

    Use it if target samples come one batch after another and each has to be predicted at once:
    `online` does that. In the training loop it is a row of a table, with several passes over the
    target.

        mean H(p_i) over the rows that count, p_i = softmax(logits_i)

    Only the scales and shifts of batch, layer, group and instance normalisation learn. In training
    batch normalisation takes each batch's own statistics. The running statistics follow them. They
    normalise a batch of a single row, which has no variance, and all samples at evaluation. Dropout
    is off.

    Args:
        network: A network trained on the source, with normalisation layers; it is changed in place.
            A copy of it as it is now is kept.
        margin: A row counts if its entropy is below this fraction of log K, > 0. Default 0.4, as
            in Niu et al. 2022. None: all rows count, as in TENT.
        floor: The network has collapsed if the running mean of the counted entropies is below this
            fraction of log K, >= 0. Scales and shifts are then restored. The running mean keeps
            0.9 of itself at each batch, and begins with the first batch in which a row counts.
            Default 0.2 / log 1000, about 0.029. None: never, as in TENT.

    Raises:
        ValueError: No normalisation layer has scale and shift, or `margin` or `floor` is out of
            range.

    Example:
        >>> import torch
        >>> from da.model import Tent
        >>> from da.networks import lenet
        >>> method = Tent(lenet(classes=10))
        >>> (group,) = method.parameter_groups(learning_rate=1e-3, backbone_factor=1.0)
        >>> len(group["params"])  # scale and shift of three layers
        6
        >>> method.terms(torch.zeros(4, 10))["entropy"].item()  # all rows are too unsure to count
        0.0

    Paper:
        Wang, Shelhamer, Liu, Olshausen et al.: Tent: Fully Test-Time Adaptation by Entropy
        Minimization. ICLR 2021. Niu, Wu, Zhang, Chen et al.: Efficient Test-Time Model Adaptation
        without Forgetting. ICML 2022 (EATA, the margin). Niu, Wu, Zhang, Wen et al.: Towards Stable
        Test-Time Adaptation in Dynamic Wild World. ICLR 2023 (SAR, margin and recovery).

    Differences:
        The guards are on unless margin and floor are None. TENT learns the scales and shifts of
        batch normalisation alone; layer and group normalisation are from SAR, which leaves out the
        last blocks of a network. TENT's code has no running statistics: it normalises by the batch
        at evaluation too, and its dropout is on. Its networks see the target once; a row of a
        table has several passes. From EATA: no weights of samples, no filter for repeated samples
        and no pull to the start. From SAR: the floor depends on the number of classes (theirs is
        0.2 nats, for 1,000 classes); the entropy is minimised without the search for flat minima.
        `online` also resets the optimiser's moments when it restores scales and shifts; the
        training loop keeps them.
    """

    average: Tensor  # () running mean in nats; -1 before the first batch

    label_kind = "unread"

    def __init__(
        self, network: Network, *, margin: float | None = 0.4, floor: float | None = FLOOR
    ) -> None:
        super().__init__(network)
        if margin is not None and not margin > 0:
            raise ValueError(f"margin must be > 0, or None for all rows; got {margin}")
        if floor is not None and not floor >= 0:
            raise ValueError(f"floor must be >= 0, or None for no recovery; got {floor}")
        if not _scales_and_shifts(network):
            raise ValueError(
                "network must have batch, layer, group or instance normalisation with scale and "
                "shift, because nothing else learns; it has none: choose another network or "
                "another method"
            )
        self.margin, self.floor = margin, floor
        use_statistics(network, "target")
        self.start = copy.deepcopy(network).requires_grad_(False)
        network.requires_grad_(False)
        for parameter in _scales_and_shifts(network):
            parameter.requires_grad_(True)
        self.register_buffer(
            "average", torch.full((), -1.0, device=next(network.parameters()).device)
        )

    def train(self, mode: bool = True) -> Tent:
        """Sets the mode of batch normalisation; all other modules stay in evaluation mode."""
        super().train(False)
        for norm in batch_norms(self.network):
            norm.train(mode)
        return self

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """Scales and shifts at one rate, without weight decay, which would pull the scales to 0."""
        own = _scales_and_shifts(self.network)
        return [{"params": own, "lr": learning_rate, "weight_decay": 0.0}]

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        """One move; after it the network recovers if it has collapsed."""
        logits = gather_rows(self.logits(batch.target_x))
        yield self.terms(logits)
        self.recover(logits.detach())

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The term "entropy"."""
        return self.terms(gather_rows(self.logits(batch.target_x)))

    def logits(self, x: Tensor) -> Tensor:
        """The logits (n, K) of a batch x (n, ...); running statistics normalise a single row."""
        alone = frozen_statistics(self.network) if len(x) == 1 else nullcontext()
        with alone:
            return self.network(x).logits

    def terms(self, logits: Tensor) -> Terms:
        """The term "entropy" of logits (n, K); 0 if no row counts."""
        counted = reliable_entropies(logits, margin=self.margin)
        return {"entropy": counted.sum() / max(len(counted), 1)}

    @torch.no_grad()
    def recover(self, logits: Tensor) -> bool:
        """Update the running mean, and restore scales and shifts if it is below the floor.

        Args:
            logits: (n, K) of a batch.

        Returns:
            Whether scales and shifts were restored.
        """
        counted = reliable_entropies(logits, margin=self.margin)
        if self.floor is None or len(counted) == 0:
            return False
        new = counted.mean()
        self.average.copy_(new if self.average < 0 else KEPT * self.average + (1 - KEPT) * new)
        if self.average >= self.floor * math.log(logits.shape[1]):
            return False
        own, start = _scales_and_shifts(self.network), _scales_and_shifts(self.start)
        for parameter, first in zip(own, start, strict=True):
            parameter.copy_(first)
        self.average.fill_(-1.0)
        return True

    def reset(self) -> None:
        """Restore the network as it was given, running statistics too, for the next domain.

        That domain needs a new optimiser as well.
        """
        self.network.load_state_dict(self.start.state_dict())
        self.average.fill_(-1.0)


def online(
    method: Tent, batches: Iterable[Tensor], optimizer: torch.optim.Optimizer
) -> Iterator[Tensor]:
    """Predict a stream of test batches and adapt to each one after its prediction.

    For each batch it gives the logits, and then takes one step before the next batch comes. A batch
    that is smaller than the one before it, as the last one of a stream may be, is filled up with
    rows of that one. So one or two rows are normalised as well as the others, and do not weigh more
    in a step.

    Args:
        method: The adapting network, on the batches' device. What it has learned stays between
            calls; `method.reset()` forgets it.
        batches: Test samples (b, ...), b >= 1. The first batch should hold some dozen rows if the
            network has batch normalisation.
        optimizer: An optimiser over `method.parameter_groups(...)`. Its state is reset too when
            the method recovers from a collapse.

    Yields:
        The logits (b, K) of each batch, from before the step.

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
        Those of `Tent`. A small batch is filled up.
    """
    start = copy.deepcopy(optimizer.state_dict())
    method.train()
    for x, new in windows(batches):
        logits = _predict_and_step(method, x, optimizer)
        if method.recover(logits):
            optimizer.load_state_dict(copy.deepcopy(start))  # a copy: steps change the state
        yield logits[len(logits) - new :]


@torch.enable_grad()
def _predict_and_step(method: Tent, x: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """The logits of a batch, without gradient; the optimiser takes one step on their loss."""
    logits = method.logits(x)
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(method.terms(logits).values())).sum().backward()
    optimizer.step()
    return logits.detach()


def _scales_and_shifts(network: Network) -> list[nn.Parameter]:
    """The scales and shifts of the normalisation layers, in order.

    Of layers that are split by domain it takes the target's.
    """
    by_batch = {id(norm) for norm in batch_norms(network)}
    norms = [m for m in network.modules() if id(m) in by_batch or isinstance(m, BY_ROW)]
    both = [value for norm in norms for value in (norm.weight, norm.bias)]
    return [value for value in both if isinstance(value, nn.Parameter)]
