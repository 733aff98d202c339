"""Stochastic normalisation: batch normalisation that cannot lean on one kind of statistics while it is fine-tuned.

    y = weight * z + bias,    z_c = (x_c - moving mean_c) / sqrt(moving variance_c + eps)    with probability p, by channel c
                              z_c = (x_c - batch mean_c) / sqrt(batch variance_c + eps)      otherwise

A pretrained network's moving statistics are knowledge of the source that batch normalisation does not use in training; few target samples
make the batch's statistics easy to overfit. At evaluation it is batch normalisation.

Kou, You, Long, Wang: Stochastic Normalization. NeurIPS 2020.
"""

from __future__ import annotations

import copy
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.networks.network import Network
from da.networks.statistics import BatchNorm


@final
class StochasticNorm(BatchNorm):
    """What takes the place of a batch normalisation: x (b, c) or (b, c, ...) -> the same shape.

    Args:
        norm: the batch normalisation; its scale, shift and statistics are taken over, not copied.
        probability: p in [0, 1], of a channel to be normalised by the moving statistics as they were before this batch. One draw for each
            channel and batch, from torch's global generator. 0 is batch normalisation. The paper's p is 1 - p; its value, 1 / 2, the same.

    Moving statistics are updated by every batch, whichever are drawn, and carry no gradient; the batch's do.

    Raises:
        ValueError: probability is not in [0, 1]; `norm` has no moving statistics.
    """

    def __init__(self, norm: BatchNorm, *, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be in [0, 1]; got {probability}")
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError(
                f"norm must have moving statistics (track_running_stats=True); got {norm}"
            )
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=norm.affine)
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self.track_running_stats, self.training, self.probability = (
            norm.track_running_stats,
            norm.training,
            probability,
        )

    def forward(self, x: Tensor) -> Tensor:
        """The normalised batch; in evaluation mode by the moving statistics."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        # copies, because the batch is about to change them in place, and the backward pass needs what the forward pass saw
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        by_batch = super().forward(x)
        by_moving = functional.batch_norm(
            x, mean, variance, self.weight, self.bias, training=False, eps=self.eps
        )
        moving = torch.rand(self.num_features, device=x.device) < self.probability  # (c,)
        return torch.where(moving.view(1, -1, *[1] * (x.ndim - 2)), by_moving, by_batch)

    def extra_repr(self) -> str:
        """As of a batch normalisation, and the probability."""
        return f"{super().extra_repr()}, probability={self.probability}"

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"x must be (b, {self.num_features}, ...); got {tuple(input.shape)}")


def stochastic_normalisation(network: Network, *, probability: float = 0.5) -> Network:
    """A copy of `network` in which every BatchNorm1d, 2d and 3d is a `StochasticNorm`, with the same parameters and statistics.

    Such a network is fine-tuned by cross-entropy like any other. The names of parameters and buffers stay, so that each loads the other's
    state dict. What is frozen stays frozen, and then, being in evaluation mode, normalises by moving statistics alone.

    Args:
        probability: of `StochasticNorm`, in [0, 1].

    Raises:
        ValueError: the network has no batch normalisation (this would be plain fine-tuning), or one without moving statistics;
            probability is not in [0, 1].
    """
    own = copy.deepcopy(network)
    found = [
        (module, name, child)
        for module in own.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    ]
    if not found:
        raise ValueError(
            "network has no batch normalisation, so stochastic normalisation would be plain fine-tuning"
        )
    for module, name, child in found:
        setattr(module, name, StochasticNorm(child, probability=probability))
    return own
