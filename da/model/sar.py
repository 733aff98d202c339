"""SAR: learn at test time from sure rows, in directions that stay sure around the weights.

    min over theta of  mean_i H(p_i(theta + e)),    e = radius g / ||g||,  g the gradient at theta

Both means are over rows whose entropy is below margin log K: those that were sure at theta, and of
them those that are sure at theta + e. The step starts from theta. The network recovers if the
running mean of the second entropies says that it has collapsed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from da.arrays.matrices import at_least_single
from da.data.batches import TargetBatch
from da.model.adapting_online import OnlineMethod
from da.model.testtime import FLOOR, check_guards, falls_below
from da.networks.network import Network, entropies
from da.networks.perturbed import ascent, perturbed
from da.networks.statistics import kept_statistics
from da.train.distributed import gather_rows
from da.train.loss_weights import check_factor
from da.train.method import Terms


@final
class SAR(OnlineMethod):
    """Adapt at test time by sharpness-aware entropy minimisation, with recovery from collapse.

    Use it on difficult streams: small batches, mixed domains, classes that come one after another.
    It is made for layer and group normalisation, where these do less harm than to batch
    normalisation. A step costs two passes.

        mean H(p_i(theta + e)),    e = radius g / ||g||

    Scales and shifts learn; see `da.model.OnlineMethod`. If no row of a batch counts, nothing
    moves.

    Args:
        network: A network trained on the source; it is changed in place.
        margin: A row counts if its entropy is below this fraction of log K, > 0. Default 0.4, as
            in the paper. None: all rows count.
        floor: Scales and shifts are restored if the running mean of the entropies at theta + e is
            below this fraction of log K, >= 0. Default 0.2 / log 1000, the paper's 0.2 nats for
            1,000 classes. None: never.
        radius: Length of e in units of the weights, >= 0. Default 0.05, as in the paper.

    Raises:
        ValueError: Nothing would learn, or an option is out of range.

    Example:
        >>> import torch
        >>> from da.model import SAR, online
        >>> from da.networks import lenet
        >>> method = SAR(lenet(classes=10), margin=None)
        >>> optimizer = torch.optim.SGD(method.parameter_groups(0.001, 1.0), momentum=0.9)
        >>> [len(z) for z in online(method, torch.rand(8, 1, 16, 16).split(4), optimizer)]
        [4, 4]

    Paper:
        Niu, Wu, Zhang, Wen et al.: Towards Stable Test-Time Adaptation in Dynamic Wild World. ICLR
        2023.

    Differences:
        The last blocks of a network learn too; the paper leaves them out. The floor depends on the
        number of classes. The running mean begins again after a recovery; in the authors' code it
        stays below the floor. The pass at theta + e does not move running statistics. Several
        processes each look for e by their own rows.
    """

    average: Tensor  # () running mean in nats; -1 before the first batch

    def __init__(
        self,
        network: Network,
        *,
        margin: float | None = 0.4,
        floor: float | None = FLOOR,
        radius: float = 0.05,
    ) -> None:
        check_guards(margin, floor)
        check_factor("radius", radius)
        super().__init__(network)
        self.margin, self.floor, self.radius = margin, floor, radius
        self.register_buffer(
            "average", torch.full((), -1.0, device=next(network.parameters()).device)
        )

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        """One move, if a row counts; after it the network recovers if it has collapsed."""
        self.restored = False
        own = self.logits(batch.target_x)
        self.predicted = own.detach()
        second = self._second(batch.target_x, gather_rows(own))
        if len(second):
            yield {"entropy": second.mean()}
            self.restored = self.recover(second.detach(), classes=own.shape[1])

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The term "entropy", at theta + e; 0 if no row counts."""
        second = self._second(batch.target_x, gather_rows(self.logits(batch.target_x)))
        return {"entropy": second.sum() / max(len(second), 1)}

    def _second(self, x: Tensor, logits: Tensor) -> Tensor:
        """The entropies (k,) at theta + e of the rows of x that count, from the logits at theta."""
        first = entropies(at_least_single(logits))  # (n,)
        counted = self._sure(first, logits.shape[1])
        if not counted.any():
            return first[counted]
        names = list(learning := self.learning())
        own = [learning[name][0] for name in names]
        gradients = torch.autograd.grad(first[counted].mean(), own)
        moves = dict(zip(names, ascent(gradients, radius=self.radius), strict=True))
        with perturbed(self.network, moves), kept_statistics(self.network):
            again = gather_rows(self.logits(x))
        second = entropies(at_least_single(again))[counted]
        return second[self._sure(second.detach(), logits.shape[1])]

    def _sure(self, found: Tensor, classes: int) -> Tensor:
        """Which entropies (n,) are below the margin."""
        limit = math.inf if self.margin is None else self.margin * math.log(classes)
        return found < limit

    def recover(self, second: Tensor, *, classes: int) -> bool:
        """Update the running mean by entropies (k,); restore scales and shifts if it is too low.

        Returns:
            Whether they were restored.
        """
        if not falls_below(self.average, second, self.floor, classes=classes):
            return False
        self.restore()
        return True

    def reset(self) -> None:
        """Restore the network as it was given, running statistics too, for the next domain."""
        super().reset()
        self.average.fill_(-1.0)
