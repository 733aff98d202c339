"""What the partial-set methods share that weigh source classes: a running mean of predictions.

A class counts by how much of the target is predicted to be of it, `class_weights`. The mean over
the target runs along with the training, so no second pass over the data is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays.matrices import at_least_single
from da.feature.adversarial import Reversed
from da.feature.partial_weights import class_weights
from da.networks.network import Network, Outputs, linear_head
from da.train.distributed import gather_rows
from da.train.method import BatchStatistics, Ramp, sigmoid_ramp


def weights_first(progress: float) -> float:
    """Return 0 for the first tenth of the training, then `sigmoid_ramp` over the rest.

    Before a network has learned the source its predictions on the target mean nothing, nor do
    weights made from them. An adversary that works by then draws the target to the largest classes
    of the source, whether the target has them or not, and the weights follow.
    """
    return sigmoid_ramp(max(0.0, (progress - 0.1) / 0.9))


class ClassWeighted(Reversed):
    """The base of `PADA` and `BA3US`: the cross-entropy of a source row counts by its class.

    The buffer `target_share` (k,) is the running mean of the target's predictions. It moves before
    it is used, and only in training. It starts even.

    Args:
        network: Maps x (b, ...) to Outputs; its head must be linear.
        discriminator: As in `Reversed`.
        decay: Share of the running mean that stays in a training step, in [0, 1).
        ramp: As in `Reversed`.
        trade_off: As in `Reversed`.
        batch_statistics: As in `Reversed`.
        label_smoothing: As in `Reversed`.

    Raises:
        TypeError: The network's head is not linear.
        ValueError: `batch_statistics` is none of the three, or decay is not in [0, 1).
    """

    target_share: Tensor

    label_kind = "classes"

    def __init__(
        self,
        network: Network,
        discriminator: nn.Module,
        *,
        decay: float,
        ramp: Ramp,
        trade_off: float,
        batch_statistics: BatchStatistics,
        label_smoothing: float,
    ) -> None:
        head = linear_head(network)
        super().__init__(
            network,
            discriminator,
            ramp=ramp,
            trade_off=trade_off,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1); got {decay}")
        self.decay = decay
        even = torch.full_like(head.weight[:, 0], 1 / head.out_features, requires_grad=False)
        self.register_buffer("target_share", even)

    @property
    def weights(self) -> Tensor:
        """The class weights gamma (k,), from all batches so far."""
        return class_weights(self.target_share[None])

    def row_weights(self, target: Outputs, labels: Tensor) -> Tensor:
        """Let the running mean move, in training, and weigh the source's rows (n,) by class."""
        if self.training:
            share = at_least_single(target.logits.detach()).softmax(1).mean(0)  # (k,)
            self.target_share.lerp_(share.to(self.target_share.dtype), 1 - self.decay)
        return self.weights[labels]

    def task(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the logits, each row weighted by its class's weight.

        The weights' sum is that of the global batch, so that several processes agree with one.
        """
        losses = functional.cross_entropy(
            outputs.logits, labels, reduction="none", label_smoothing=self.label_smoothing
        )  # (n,)
        weights = self.weights[labels]  # (n,)
        mean = gather_rows(weights).mean().clamp(min=torch.finfo(weights.dtype).tiny)
        return (weights * losses).mean() / mean
