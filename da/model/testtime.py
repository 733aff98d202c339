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

import math
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from da.arrays.matrices import as_matrix, full_precision
from da.data.batches import TargetBatch
from da.model.adapting_online import OnlineMethod
from da.networks.network import Network, entropies
from da.train.distributed import gather_rows
from da.train.method import Terms

FLOOR = 0.2 / math.log(1000)  # 0.2 nats of 1,000 classes, as in Niu et al. 2023
KEPT = 0.9  # weight of the old running mean when a batch comes


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
class Tent(OnlineMethod):
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
        `EATA` and `SAR` have all of it. `online` also resets the optimiser's moments when it
        restores scales and shifts; the training loop keeps them.
    """

    average: Tensor  # () running mean in nats; -1 before the first batch

    def __init__(
        self, network: Network, *, margin: float | None = 0.4, floor: float | None = FLOOR
    ) -> None:
        check_guards(margin, floor)
        super().__init__(network)
        self.margin, self.floor = margin, floor
        self.register_buffer(
            "average", torch.full((), -1.0, device=next(network.parameters()).device)
        )

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        """One move; after it the network recovers if it has collapsed."""
        own = self.logits(batch.target_x)
        self.predicted, logits = own.detach(), gather_rows(own)
        yield self.terms(logits)
        self.restored = self.recover(logits.detach())

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The term "entropy"."""
        return self.terms(gather_rows(self.logits(batch.target_x)))

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
        if not falls_below(self.average, counted, self.floor, classes=logits.shape[1]):
            return False
        self.restore()
        return True

    def reset(self) -> None:
        """Restore the network as it was given, running statistics too, for the next domain.

        That domain needs a new optimiser as well.
        """
        super().reset()
        self.average.fill_(-1.0)


def check_guards(margin: float | None, floor: float | None) -> None:
    """Raise a ValueError unless margin and floor are in their ranges, or None."""
    if margin is not None and not margin > 0:
        raise ValueError(f"margin must be > 0, or None for all rows; got {margin}")
    if floor is not None and not floor >= 0:
        raise ValueError(f"floor must be >= 0, or None for no recovery; got {floor}")


def falls_below(average: Tensor, counted: Tensor, floor: float | None, *, classes: int) -> bool:
    """Update a running mean of entropies, and say whether it is below the floor.

    Args:
        average: The running mean (), changed in place; -1 before the first batch in which a row
            counts, and again after it has fallen.
        counted: The entropies (k,) of the rows of a batch that count, in nats.
        floor: Fraction of log K; None: it never falls.
        classes: K.
    """
    if floor is None or len(counted) == 0:
        return False
    new = counted.mean()
    average.copy_(new if average < 0 else KEPT * average + (1 - KEPT) * new)
    if average >= floor * math.log(classes):
        return False
    average.fill_(-1.0)
    return True
