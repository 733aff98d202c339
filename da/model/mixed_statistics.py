"""Batch normalisation by statistics between those of the source and those of the test batch.

    mean = share mean_source + (1 - share) mean_batch,    and the same for the variance

A small or one-sided batch has poor statistics of its own, and the source's are those of another
domain. The mixture is better than both on many streams.

| who | share | the source's statistics |
|---|---|---|
| alpha-BN | 0.9 | stay |
| RoTTA's robust batch normalisation | 0.95 | become the mixture, in training |
"""

from __future__ import annotations

import copy
from typing import final

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.arrays.matrices import at_least_single
from da.model.batchnorm import batch_norms
from da.networks.network import Network
from da.networks.statistics import BatchNorm, use_statistics


def mixed_statistics(
    x: Tensor, mean: Tensor, variance: Tensor, *, source_share: float
) -> tuple[Tensor, Tensor]:
    """Mix the statistics of the source with those of a batch.

    Args:
        x: Values (b, c) or (b, c, ...), floats. Their gradient flows into the mixture.
        mean: The source's mean (c,).
        variance: The source's variance (c,).
        source_share: Weight of the source, in [0, 1]; the batch has the rest.

    Returns:
        The mixed mean (c,) and variance (c,). The batch's variance is the biased one, as the one
        that batch normalisation divides by.

    Example:
        >>> import torch
        >>> from da.model.mixed_statistics import mixed_statistics
        >>> x = torch.tensor([[4.0], [6.0]])  # mean 5, biased variance 1
        >>> mixed_statistics(x, torch.zeros(1), torch.full((1,), 3.0), source_share=0.5)
        (tensor([2.5000]), tensor([2.]))
    """
    axes = [0, *range(2, x.ndim)]
    of_batch, mean_of_batch = torch.var_mean(at_least_single(x), dim=axes, correction=0)  # (c,)
    return torch.lerp(mean_of_batch, mean, source_share), torch.lerp(
        of_batch, variance, source_share
    )


@final
class MixedBatchNorm(BatchNorm):
    """The layer that replaces a batch normalisation: x (b, c) or (b, c, ...) -> the same shape.

    If it moves, each batch in training makes the mixture the new running statistics, and evaluation
    normalises by these alone. Otherwise it mixes in both modes, and they stay.

    Args:
        norm: The batch normalisation. Its scale, shift and statistics are taken over, not copied.
        source_share: Weight of the running statistics, in [0, 1].
        moves: Whether running statistics follow. Default False.

    Raises:
        ValueError: `source_share` is not in [0, 1], or `norm` has no running statistics.
    """

    def __init__(self, norm: BatchNorm, *, source_share: float, moves: bool = False) -> None:
        if not 0 <= source_share <= 1:
            raise ValueError(f"source_share must be in [0, 1]; got {source_share}")
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError(
                "network must have batch normalisation with running statistics "
                f"(track_running_stats=True); got {norm}"
            )
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=norm.affine)
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self.track_running_stats = norm.track_running_stats
        self.training = norm.training
        self.source_share, self.moves = source_share, moves

    def forward(self, x: Tensor) -> Tensor:
        """The normalised batch."""
        if self.moves and not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        mean, variance = mixed_statistics(
            x, self.running_mean, self.running_var, source_share=self.source_share
        )
        if self.moves and self.track_running_stats:
            with torch.no_grad():
                self.running_mean.copy_(mean)
                self.running_var.copy_(variance)
        own = [1, -1] + [1] * (x.ndim - 2)  # (1, c, 1, ...)
        normalised = (x - mean.view(own)) / (variance.view(own) + self.eps).sqrt()
        if self.weight is not None:
            normalised = normalised * self.weight.view(own) + self.bias.view(own)
        return normalised.to(x.dtype)

    def extra_repr(self) -> str:
        """The text of a batch normalisation, and the share."""
        return f"{super().extra_repr()}, source_share={self.source_share}, moves={self.moves}"

    def _check_input_dim(self, input: Tensor) -> None:
        """Raise ValueError unless the input is (b, c, ...)."""
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"x must be (b, {self.num_features}, ...); got {tuple(input.shape)}")


@checked
@checked
def mix_statistics(network: Network, *, source_share: float = 0.9) -> Network:
    """Copy a network so that it normalises each test batch by mixed statistics (alpha-BN).

    Use it on a stream whose batches are small or hold few classes, where the batch's own statistics
    are poor. Nothing is learned, and batches do not depend on each other.

        mean = share mean_source + (1 - share) mean_batch,    and the same for the variance

    The names of parameters and buffers stay, so that each network loads the other's state dict.

    Args:
        network: A trained network with batch normalisation. It is not changed.
        source_share: Weight of the running statistics (alpha in the paper), in [0, 1]: 1 is the
            network as it is, 0 normalises by the batch alone. N / (N + 1) is the "prior strength
            N" of Schneider et al. 2020 for single images. Default 0.9.

    Returns:
        The copy, in the network's mode. It mixes in training and in evaluation, and its running
        statistics stay.

    Raises:
        ValueError: The network has no batch normalisation with running statistics, or
            `source_share` is not in [0, 1].

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.model import mix_statistics
        >>> from da.networks import Network
        >>> network = Network(nn.BatchNorm1d(1), nn.Identity(), nn.Linear(1, 2)).eval()
        >>> x = torch.tensor([[4.0], [6.0]])  # mean 5, variance 1; those of the source are 0 and 1
        >>> half = mix_statistics(network, source_share=0.5)
        >>> half(x).features.detach().round(decimals=3).flatten().tolist()
        [1.5, 3.5]

    Paper:
        You, Li, Zhao: Test-time Batch Statistics Calibration for Covariate Shift. arXiv 2110.04065,
        2021.
        Schneider, Rusak, Eck, Bringmann, Brendel, Bethge: Improving robustness against common
        corruptions by covariate shift adaptation. NeurIPS 2020 (the share from numbers of rows).

    Differences:
        The share is one number for all layers, and 0.9 is a choice of this package. The paper's
        second part, a loss of class correlations (Core), is left out.
    """
    own = copy.deepcopy(network)
    use_statistics(own, "target")
    with_mixed_statistics(own, source_share=source_share, moves=False)
    return own


def with_mixed_statistics(network: Network, *, source_share: float, moves: bool) -> None:
    """Replace the batch normalisations of a network, of two domains the target's, in place.

    Raises:
        ValueError: There is none, or one has no running statistics; or the share is not in [0, 1].
    """
    norms = {id(norm) for norm in batch_norms(network)}
    if not norms:
        raise ValueError(
            "network must have batch normalisation, because nothing else mixes statistics; it has "
            "none: choose another network or another method"
        )
    places = [
        (module, name, child)
        for module in network.modules()
        for name, child in module._modules.items()  # named_children leaves out repeated ones
        if id(child) in norms
    ]
    made: dict[int, nn.Module] = {}  # a layer in two places stays one layer
    for module, name, child in places:
        assert isinstance(child, BatchNorm)
        if id(child) not in made:
            made[id(child)] = MixedBatchNorm(child, source_share=source_share, moves=moves)
        setattr(module, name, made[id(child)])
