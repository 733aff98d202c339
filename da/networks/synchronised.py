"""Batch normalisation over the rows of all processes that train one network.

PyTorch's own layer for this exists for GPUs alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import all_reduce, get_world_size, is_available, is_initialized

from da.networks.statistics import BatchNorm


class SynchronisedBatchNorm(BatchNorm):
    """Batch normalisation by the mean and variance over the rows of all processes.

    Each process has a shard of the batch. Means and variances are those of the whole batch, and so
    are the gradients. In evaluation, and with one process, it is the layer that it was made of.

    Args:
        norm: The batch normalisation that it takes the place of. It shares its parameters and
            running statistics.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.networks.synchronised import SynchronisedBatchNorm
        >>> norm = nn.BatchNorm1d(2)
        >>> x = torch.tensor([[0.0, 1.0], [2.0, 5.0]])
        >>> torch.equal(SynchronisedBatchNorm(norm)(x), norm(x))  # one process
        True

    Paper:
        Ioffe, Szegedy: Batch Normalization: Accelerating Deep Network Training by Reducing Internal
        Covariate Shift. ICML 2015.

    Differences:
        The batch is that of all processes.
    """

    def __init__(self, norm: BatchNorm) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        self.weight, self.bias = norm.weight, norm.bias
        self._buffers = norm._buffers
        self.training = norm.training

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"x must have a row for each sample; got {tuple(input.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """The batch (b, channels, ...), normalised."""
        by_batch = self.training or self.running_mean is None
        if not by_batch or not _several():
            return super().forward(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        wide = x.double() if x.dtype == torch.float64 else x.float()
        size = wide.new_full((1,), float(x.numel() // x.shape[1]))
        with torch.autocast(x.device.type, enabled=False):
            count = sum_over_processes(size)  # rows times positions
            mean = sum_over_processes(wide.sum(axes)) / count  # (channels,)
            centred = wide - _along_channels(mean, x)
            variance = sum_over_processes(centred.square().sum(axes)) / count  # (channels,)
            found = centred * _along_channels((variance + self.eps).rsqrt(), x)
            if self.weight is not None:
                found = found * _along_channels(self.weight, x) + _along_channels(self.bias, x)
        if self.training and self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        return found.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:  # the mean of all batches
            share = 1.0 / float(self.num_batches_tracked)  # type: ignore[arg-type]
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


def synchronise_statistics(module: nn.Module) -> None:
    """Let every batch normalisation of a module see the batches of all processes, in place.

    `fit` calls it if `TrainConfig.sync_batch_norm` is set. With one process nothing happens.

    Args:
        module: A network or a method.

    Example:
        >>> from da.networks import lenet
        >>> from da.networks.synchronised import synchronise_statistics
        >>> network = lenet(classes=10)
        >>> synchronise_statistics(network)
        >>> type(network.backbone[1]).__name__  # one process
        'BatchNorm2d'
    """
    if not _several():
        return
    made: dict[nn.Module, nn.Module] = {}  # a layer that stands in two places is one layer
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BatchNorm) and not isinstance(child, SynchronisedBatchNorm):
                setattr(parent, name, made.setdefault(child, SynchronisedBatchNorm(child)))


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, differentiable."""
    return _Sum.apply(x)


class _Sum(torch.autograd.Function):
    """Each process's gradient is the sum of what all found, as in `da.train.distributed`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        total = upstream[0].contiguous().clone()
        all_reduce(total)
        return total


def _several() -> bool:
    return is_available() and is_initialized() and get_world_size() > 1


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    """Values (channels,) in a shape that goes with x (b, channels, ...)."""
    return values.view([1, -1] + [1] * (x.dim() - 2))
