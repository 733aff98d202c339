"""Stochastic normalisation: batch normalisation that uses two kinds of statistics by chance.

    y = weight * z + bias, and for each channel c
    z_c = (x_c - moving mean_c) / sqrt(moving variance_c + eps)    with probability p
    z_c = (x_c - batch mean_c) / sqrt(batch variance_c + eps)      otherwise

The moving statistics of a pretrained network hold knowledge of the source, which batch
normalisation does not use in training. The batch's statistics are easy to overfit with few target
samples. At evaluation the layer is plain batch normalisation.
"""

from __future__ import annotations

import copy
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays.arguments import checked
from da.networks.network import Network
from da.networks.statistics import BatchNorm


@final
class StochasticNorm(BatchNorm):
    """The layer that replaces a batch normalisation: x (b, c) or (b, c, ...) -> the same shape.

    Moving statistics are updated by every batch, whichever statistics are drawn. They carry no
    gradient; the batch's statistics do.

    Args:
        norm: The batch normalisation. Its scale, shift and statistics are taken over, not copied.
        probability: p in [0, 1], that a channel is normalised by the moving statistics from before
            this batch. There is one draw for each channel and batch, from torch's global
            generator. 0 is batch normalisation. Default 1 / 2.

    Raises:
        ValueError: `probability` is not in [0, 1], or `norm` has no moving statistics.
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
        self.track_running_stats = norm.track_running_stats
        self.training = norm.training
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """The normalised batch; in evaluation mode by the moving statistics."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        # The batch is about to change the moving statistics in place, and the backward pass needs
        # those of the forward pass.
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        by_batch = super().forward(x)
        by_moving = functional.batch_norm(
            x, mean, variance, self.weight, self.bias, training=False, eps=self.eps
        )
        moving = torch.rand(self.num_features, device=x.device) < self.probability  # (c,)
        positions = [1] * (x.ndim - 2)
        return torch.where(moving.view(1, -1, *positions), by_moving, by_batch)

    def extra_repr(self) -> str:
        """The text of a batch normalisation, and the probability."""
        return f"{super().extra_repr()}, probability={self.probability}"

    def _check_input_dim(self, input: Tensor) -> None:
        """Raise ValueError unless the input is (b, c, ...)."""
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"x must be (b, {self.num_features}, ...); got {tuple(input.shape)}")


@checked
def stochastic_normalisation(network: Network, *, probability: float = 0.5) -> Network:
    """Copy a network so that fine-tuning also uses its pretrained batch statistics.

    Use it to fine-tune a pretrained network on few samples. Every BatchNorm1d, 2d and 3d becomes a
    layer that normalises each channel by the moving statistics with probability p, and by the
    batch's statistics otherwise; see `da.model.stochnorm`. The copy is then fine-tuned by
    cross-entropy like any other network.

    The names of parameters and buffers stay, so that each network loads the other's state dict.
    Frozen layers stay frozen. They are in evaluation mode, and so they normalise by moving
    statistics alone.

    Args:
        network: A pretrained network. It is not changed.
        probability: p in [0, 1], that a channel is normalised by the moving statistics. 0 is plain
            batch normalisation. Default 0.5.

    Returns:
        The copy, with the same parameters and statistics.

    Raises:
        ValueError: The network has no batch normalisation, which would make this plain
            fine-tuning; a layer has no moving statistics; or `probability` is not in [0, 1].

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.model import stochastic_normalisation
        >>> from da.networks import Network
        >>> network = Network(nn.BatchNorm1d(1), nn.Identity(), nn.Linear(1, 2))
        >>> own = stochastic_normalisation(network, probability=1.0).train()
        >>> x = torch.tensor([[4.0], [6.0]])  # the moving statistics are 0 and 1, so x stays
        >>> own(x).features.detach().round(decimals=3).flatten().tolist()
        [4.0, 6.0]

    Paper:
        Kou, You, Long, Wang: Stochastic Normalization. NeurIPS 2020.

    Differences:
        The paper's p is 1 - p here. Its value, 1 / 2, is the same.
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
            "network has no batch normalisation, so stochastic normalisation would be plain "
            "fine-tuning; choose another network or Regularize(network, None)"
        )
    for module, name, child in found:
        setattr(module, name, StochasticNorm(child, probability=probability))
    return own
