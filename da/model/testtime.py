"""TENT: while it is tested, a network makes its predictions surer by the scales and shifts of its batch normalisation alone.

    mean H(p_i) over the rows of the test batch, p_i = softmax(logits_i), normalised by the batch's own mean and variance

    optimizer = torch.optim.Adam(method.parameter_groups(1e-3, 1.0))  # the paper's, for small images
    for logits in online(method, batches, optimizer): ...

Left alone, this may end with one class for everything, which is sure too. Two guards against that:

    margin     a row counts only if H(p_i) < margin log K: the gradients of unsure rows point anywhere
    floor      where the running mean of what counts falls below floor log K, scales and shifts go back to where they began

Wang, Shelhamer, Liu, Olshausen, Darrell: Tent: Fully Test-Time Adaptation by Entropy Minimization. ICLR 2021.
Niu, Wu, Zhang, Chen, Zheng, Zhao, Tan: Efficient Test-Time Model Adaptation without Forgetting. ICML 2022: the margin.
Niu, Wu, Zhang, Wen, Chen, Zhao, Tan: Towards Stable Test-Time Adaptation in Dynamic Wild World. ICLR 2023: margin and floor.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import final

import torch
from torch import Tensor

from da.arrays import as_matrix, full_precision
from da.data.batches import TargetBatch
from da.model.batchnorm import batch_norms
from da.networks.network import Network, entropies
from da.networks.statistics import use_statistics
from da.train.distributed import gather_rows
from da.train.method import Method, Terms

FLOOR = 0.2 / math.log(1000)  # 0.2 nats of 1,000 classes, as in Niu et al. 2023
KEPT = 0.9  # share of the old running mean that a batch leaves


def reliable_entropies(logits: Tensor, *, margin: float | None) -> Tensor:
    """H(p_i) in nats of the rows of logits (n, K) that count: (k,), k <= n; all rows for margin None.

    margin: a row counts if H(p_i) < margin log K; >= 0, without unit. Raises ValueError on shape or values, TypeError for integers.
    """
    z = as_matrix(logits, "logits")
    with full_precision(z):
        found = entropies(z)  # (n,)
    return found if margin is None else found[found < margin * math.log(z.shape[1])]


@final
class Tent(Method[TargetBatch]):
    """Mean `reliable_entropies` of the target's rows, by the scales and shifts of batch normalisation; nothing else learns.

    In training each batch is normalised by its own statistics, which the running ones follow, for single samples later; dropout is off.
    `online` is the use at test time. In the training loop it is a row of a table, with several passes over the target.

    Args:
        network: trained on the source, with batch normalisation; changed in place. A copy of it as it is now is kept.
        margin: entropy below which a row counts, as a fraction of log K, > 0: 0.4 as in Niu et al. 2022; None: all rows, as in TENT.
        floor: running mean of the counted rows' entropies below which the network has collapsed, as a fraction of log K, >= 0;
            None: never, as in TENT. The running mean keeps 0.9 of itself, and begins with the first batch in which a row counts.

    Raises ValueError where there is no batch normalisation with scale and shift, or for a margin or floor out of its range.

    Different from Niu et al. 2023: the floor depends on the number of classes (theirs is 0.2 nats, for 1,000); the plain
    entropy without the search for flat minima. The optimiser's moments are forgotten too by `online`, but stay in the training loop.
    """

    average: Tensor  # () running mean in nats; -1 before the first batch

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
                "network must have batch normalisation with scale and shift, which alone learn; its layers have affine=False"
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
        """Batch normalisation alone is ever in training mode."""
        super().train(False)
        for norm in batch_norms(self.network):
            norm.train(mode)
        return self

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """Scales and shifts at one rate, without weight decay, which would pull the scales to 0."""
        return [
            {"params": _scales_and_shifts(self.network), "lr": learning_rate, "weight_decay": 0.0}
        ]

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        logits = gather_rows(self.network(batch.target_x).logits)
        yield self.terms(logits)
        self.recover(logits.detach())

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        return self.terms(gather_rows(self.network(batch.target_x).logits))

    def terms(self, logits: Tensor) -> Terms:
        """The loss of logits (n, K); 0 where no row counts."""
        counted = reliable_entropies(logits, margin=self.margin)
        return {"entropy": counted.sum() / max(len(counted), 1)}

    @torch.no_grad()
    def recover(self, logits: Tensor) -> bool:
        """Moves the running mean on by logits (n, K); True where it has fallen below the floor, and scales and shifts were restored."""
        counted = reliable_entropies(logits, margin=self.margin)
        if self.floor is None or len(counted) == 0:
            return False
        new = counted.mean()
        self.average.copy_(new if self.average < 0 else KEPT * self.average + (1 - KEPT) * new)
        if self.average >= self.floor * math.log(logits.shape[1]):
            return False
        for parameter, first in zip(
            _scales_and_shifts(self.network), _scales_and_shifts(self.start), strict=True
        ):
            parameter.copy_(first)
        self.average.fill_(-1.0)
        return True

    def reset(self) -> None:
        """Back to the network as it was given, running statistics included, for the next domain; which needs a new optimiser too."""
        self.network.load_state_dict(self.start.state_dict())
        self.average.fill_(-1.0)


def online(
    method: Tent, batches: Iterable[Tensor], optimizer: torch.optim.Optimizer
) -> Iterator[Tensor]:
    """For each batch (b, ...) of test samples, b >= 2, its logits (b, K); the network then takes one step on it before the next comes.

    method: on the batches' device; what it has learned stays between calls (`Tent.reset`).
    optimizer: over `method.parameter_groups`; its state, too, goes back to where it began when the method recovers from a collapse.
    """
    start = copy.deepcopy(optimizer.state_dict())
    method.train()
    for x in batches:
        logits = _predict_and_step(method, x, optimizer)
        if method.recover(logits):
            optimizer.load_state_dict(copy.deepcopy(start))  # else its steps would move `start`
        yield logits


@torch.enable_grad()
def _predict_and_step(method: Tent, x: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    logits = method.network(x).logits
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(method.terms(logits).values())).sum().backward()
    optimizer.step()
    return logits.detach()


def _scales_and_shifts(network: Network) -> list[torch.nn.Parameter]:
    return [p for norm in batch_norms(network) for p in (norm.weight, norm.bias) if p is not None]
