"""DELTA: keep the feature maps of the source network, most of all those that the target needs.

`delta` is the penalty as a function, and `Delta` the method that needs no second pass.
`da.model.attention.channel_attention` weighs the filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.data.batches import LabelledBatch
from da.model.maps import feature_maps, stage_layers
from da.networks.layers import single, watched
from da.networks.network import Network
from da.networks.statistics import frozen_statistics
from da.train.method import Terms
from da.train.regularize import BatchNormTreatment, Regularize


def behavioural_distance(
    maps: Sequence[Tensor], source_maps: Sequence[Tensor], attention: Sequence[Tensor] | None = None
) -> Tensor:
    """Measure how far a network's feature maps have moved from those of its source network.

        sum_l 1/b sum_i sum_j c_l a_lj mean_p (FM_lj(x_i)_p - FM*_lj(x_i)_p)^2

    The sums go over layers l, samples i and channels j; the mean goes over positions p.

    Args:
        maps: For each layer the maps (b, c_l, ...) of the network that is trained, with 0 or more
            axes of positions.
        source_maps: The same for the source network. They get no gradient.
        attention: For each layer the weights a_l (c_l,), which sum to 1. Default None: 1 / c_l for
            each channel, so that c_l a_lj = 1.

    Returns:
        A scalar >= 0 in squared units of the maps.

    Raises:
        ValueError: The numbers of layers, or the shapes of maps and attention, do not agree.

    Differences:
        The paper's equation has neither c_l nor the mean over positions; its authors' code has
        both. That code sums over the samples. The paper's objective takes their mean, as here.
    """
    weights: Sequence[Tensor | None] = [None] * len(maps) if attention is None else attention
    if not len(maps) == len(source_maps) == len(weights) or not maps:
        raise ValueError(
            "maps, source_maps and attention must have one entry a layer, 1 or more; "
            f"got {len(maps)}, {len(source_maps)}, {len(weights)}"
        )
    layers = zip(maps, source_maps, weights, strict=True)
    return torch.stack([_layer_distance(*layer) for layer in layers]).sum()


@checked
def delta(
    network: Network,
    source_network: Network,
    x: Tensor,
    *,
    layers: Sequence[str] | None = None,
    attention: Sequence[Tensor] | None = None,
    alpha: float = 0.01,
    beta: float = 0.01,
) -> Tensor:
    """Keep a network's feature maps near those of its source network (DELTA).

    Use it to fine-tune a convolutional network on few labels. It holds what the filters respond to
    and leaves the weights free, unlike L2-SP. It replaces weight decay: leave that at 0. This
    penalty needs a second pass of the backbone, which leaves running statistics as they are; the
    class `Delta` does without.

        alpha / 2 * behavioural distance of the feature maps + beta / 2 ||w_T||^2

    w_T are the parameters of the head. For the distance see
    `da.model.delta_penalty.behavioural_distance`. The network's maps depend on the mode of its
    batch normalisation. The source network normalises by its running statistics.

    Args:
        network: The network that is trained.
        source_network: What training started from. Its parameters get no gradient.
        x: The batch (b, ...).
        layers: Dotted names of modules below `network.backbone` whose outputs are kept. Default
            None: the last blocks of the stages, `da.model.maps.stage_layers`. For the authors'
            layers pass `stage_convolutions(network, x)`.
        attention: One tensor (c,) for each layer, from `channel_attention`. Default None: all
            channels count the same.
        alpha: Strength of the distance. Default 0.01, as in the paper.
        beta: Strength of the pull of the head to zero. Default 0.01, as in the paper.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: There is no such layer, no stage to take by default, or shapes do not agree.

    Example:
        >>> import copy
        >>> import torch
        >>> from torch import nn
        >>> from da.model import delta
        >>> from da.networks import Network
        >>> network = Network(nn.Sequential(nn.Linear(1, 1)), nn.Identity(), nn.Linear(1, 1))
        >>> start = copy.deepcopy(network)
        >>> with torch.no_grad():
        ...     network.backbone[0].bias += 3  # moves every map by 3
        >>> x = torch.zeros(4, 1)
        >>> round(delta(network, start, x, layers=["0"], alpha=0.2, beta=0.0).item(), 3)
        0.9

    Paper:
        Li, Xiong, Wang, Rao et al.: DELTA: Deep Learning Transfer using Feature Map with Attention
        for Convolutional Networks. ICLR 2019.

    Differences:
        The default layers are the blocks that end the stages, after sum and ReLU. The authors' code
        takes the raw outputs of the last convolutions of the stages: `stage_convolutions`. The
        distance has a factor c_l and takes the mean over positions, as in the authors' code and not
        as in the paper's equation. It takes the mean over samples, as in the paper. The
        authors' code sums over a batch of 64, so that its alpha of 0.01 is 0.64 here. The factors
        1 / 2 are those of that code.
    """
    names = stage_layers(source_network, x) if layers is None else list(layers)
    maps = feature_maps(network, x, names)
    return _penalty(network, maps, _source_maps(source_network, x, names), attention, alpha, beta)


@final
class Delta(Regularize):
    """Fine-tune with the penalty `delta`, at the cost of one pass of the network.

    It is `Regularize` with `delta`, but takes the feature maps from the pass that the
    cross-entropy needs anyway.

        cross_entropy(logits, labels) + strength * delta(network, source_network, x)

    Args:
        network: The network that is trained; maps x (b, ...) to `Outputs`.
        layers: Dotted names below `network.backbone`, as in `delta`. Default None: the last blocks
            of the stages. For the authors' layers pass `stage_convolutions(network, x)`.
        attention: One tensor (c,) for each layer, from `channel_attention`. Default None: all
            channels count the same.
        alpha: Strength of the distance between maps. Default 0.01.
        beta: Strength of the pull of the head to zero. Default 0.01.
        source_network: What training started from; see `da.train.Regularize`. Default None: a copy
            of `network` as it is now.
        strength: Factor of the penalty; see `da.train.Regularize`. Default 1.
        decay: Whether the optimiser's weight decay applies. Default False, because the penalty
            replaces it.
        batch_norm: "train" (default) or "keep"; see `da.train.Regularize`.

    Raises:
        ValueError: At the first batch, if there is no such layer, no stage to take by default, or
            shapes do not agree.

    Example:
        >>> import torch
        >>> from da.data import LabelledBatch
        >>> from da.model import Delta
        >>> from da.networks import lenet
        >>> method = Delta(lenet(classes=3, width=2), alpha=0.64, beta=0.0, batch_norm="keep")
        >>> rows = torch.arange(3)
        >>> terms = method.loss(LabelledBatch(torch.rand(3, 1, 16, 16), rows, rows), progress=0.0)
        >>> sorted(terms), terms["penalty"].item()  # the network has not moved yet
        (['penalty', 'task'], 0.0)

    Paper:
        Li, Xiong, Wang, Rao et al.: DELTA: Deep Learning Transfer using Feature Map with Attention
        for Convolutional Networks. ICLR 2019.

    Differences:
        See `delta` for the layers and the distance, and `channel_attention` for the attention.
    """

    def __init__(
        self,
        network: Network,
        *,
        layers: Sequence[str] | None = None,
        attention: Sequence[Tensor] | None = None,
        alpha: float = 0.01,
        beta: float = 0.01,
        source_network: Network | None = None,
        strength: float = 1.0,
        decay: bool = False,
        batch_norm: BatchNormTreatment = "train",
    ) -> None:
        start = network if source_network is None else source_network
        super().__init__(
            network,
            None,
            source_network=start,
            strength=strength,
            decay=decay,
            batch_norm=batch_norm,
        )
        self.layers, self.alpha, self.beta = layers, alpha, beta
        self.attention: nn.ParameterList | None = None
        if attention is not None:
            self.attention = nn.ParameterList(
                nn.Parameter(weights, requires_grad=False) for weights in attention
            )

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        """The cross-entropy "task" and the "penalty", from one pass of the network."""
        assert self.source_network is not None
        if self.layers is None:
            self.layers = stage_layers(self.source_network, batch.x)
        with watched(self.network.backbone, self.layers) as runs:
            terms = super().loss(batch, progress)
        maps = single(runs, self.layers)
        source_maps = _source_maps(self.source_network, batch.x, self.layers)
        attention = None if self.attention is None else list(self.attention)
        value = _penalty(self.network, maps, source_maps, attention, self.alpha, self.beta)
        return terms | {"penalty": self.strength * value}


def _layer_distance(maps: Tensor, source: Tensor, attention: Tensor | None) -> Tensor:
    """The distance between the maps (b, c, ...) of one layer."""
    if maps.shape != source.shape or maps.ndim < 2:
        raise ValueError(
            "maps and source_maps must be (b, c, ...) of equal shapes; "
            f"got {tuple(maps.shape)} and {tuple(source.shape)}"
        )
    b, c = maps.shape[:2]
    if attention is not None and attention.shape != (c,):
        raise ValueError(
            f"attention must be ({c},) for a layer of {c} channels; got {tuple(attention.shape)}"
        )
    wide = torch.promote_types(maps.dtype, torch.float32)  # autocast gives maps in half precision
    difference = maps.to(wide) - source.detach().to(wide)
    squares = difference.square().reshape(b, c, -1).mean(dim=(0, 2))  # (c,)
    return squares.sum() if attention is None else c * (attention.to(squares) * squares).sum()


def _penalty(
    network: Network,
    maps: list[Tensor],
    source_maps: list[Tensor],
    attention: Sequence[Tensor] | None,
    alpha: float,
    beta: float,
) -> Tensor:
    """alpha / 2 * distance + beta / 2 ||head||^2."""
    new = torch.stack([p.square().sum() for p in network.head.parameters()]).sum()
    return alpha / 2 * behavioural_distance(maps, source_maps, attention) + beta / 2 * new


def _source_maps(source_network: Network, x: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """The source network's maps, without gradient."""
    with torch.no_grad(), frozen_statistics(source_network):
        return feature_maps(source_network, x, layers)
