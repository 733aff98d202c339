"""DELTA: keep what the source network's filters say of the target's images, most where the target needs it.

Li, Xiong, Wang, Rao, Liu, Chen, Huan: DELTA: Deep Learning Transfer using Feature Map with Attention for Convolutional Networks.
ICLR 2019.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import LabelledBatch
from da.model.finetune import fit_head
from da.model.maps import block_names, feature_maps, single, stage_layers, submodule, watched
from da.networks.network import Network
from da.networks.statistics import frozen_statistics
from da.train.method import Terms
from da.train.regularize import BatchNormTreatment, Regularize


def behavioural_distance(
    maps: Sequence[Tensor], source_maps: Sequence[Tensor], attention: Sequence[Tensor] | None = None
) -> Tensor:
    """sum_l 1/b sum_i sum_j c_l a_lj mean_p (FM_lj(x_i)_p - FM*_lj(x_i)_p)^2 over layers l, samples i, channels j, positions p.

    Args:
        maps: one (b, c_l, ...) a layer, of the network that is trained; 0 or more axes of positions.
        source_maps: the same of the source network; they get no gradient.
        attention: one (c_l,) a layer, summing to 1; None: 1 / c_l each, so that c_l a_lj = 1.

    Returns:
        A scalar in the maps' squared units. The paper's equation has neither c_l nor the mean over positions; its authors' code has both,
        and a sum over the samples where the paper's objective, like this, has their mean.

    Raises:
        ValueError: the numbers of layers, the maps' shapes or the attention's do not agree.
    """
    weights: Sequence[Tensor | None] = [None] * len(maps) if attention is None else attention
    if not len(maps) == len(source_maps) == len(weights) or not maps:
        raise ValueError(
            f"maps, source_maps and attention must have one entry a layer, 1 or more; got {len(maps)}, {len(source_maps)}, {len(weights)}"
        )
    return torch.stack(
        [_layer_distance(*layer) for layer in zip(maps, source_maps, weights, strict=True)]
    ).sum()


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
    """alpha / 2 * `behavioural_distance` of the feature maps of x + beta / 2 ||w_T||^2, w_T the head's parameters.

    It takes a second pass of the backbone, which leaves running statistics as they are; `Delta` does without. The network's maps are by
    whatever batch normalisation it is set to, the source network's by its running statistics. It replaces weight decay: leave that at 0.

    Args:
        network: the network that is trained.
        source_network: what it started from; its parameters get no gradient.
        x: (b, ...).
        layers: dotted names of modules below `backbone` whose outputs are kept; None: `stage_layers`.
        attention: one (c,) a layer, from `channel_attention`; None: all channels alike.
        alpha: strength of the distance, beta: of the pull of the new head to zero; 0.01 each in the paper. Its authors' code sums over a
            batch of 64 instead of taking the mean, so that its 0.01 is alpha = 0.64 here; the halves are that code's, too.

    Returns:
        A scalar.

    Raises:
        ValueError: there is no such layer, no stage to take by default, or the shapes do not agree.
    """
    names = stage_layers(source_network, x) if layers is None else list(layers)
    maps = feature_maps(network, x, names)
    return _penalty(network, maps, _source_maps(source_network, x, names), attention, alpha, beta)


@final
class Delta(Regularize):
    """Cross-entropy + strength * `delta`, whose maps are taken from the pass that the cross-entropy needs anyway.

    Args:
        network: maps x (b, ...) to Outputs.
        layers, attention, alpha, beta: of `delta`.
        options: of `Regularize`: source_network, strength, decay (here False by default), batch_norm.
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
        self.attention = (
            None
            if attention is None
            else nn.ParameterList(nn.Parameter(a, requires_grad=False) for a in attention)
        )

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        assert self.source_network is not None
        if self.layers is None:
            self.layers = stage_layers(self.source_network, batch.x)
        with watched(self.network.backbone, self.layers) as runs:
            terms = super().loss(batch, progress)
        maps, source_maps = (
            single(runs, self.layers),
            _source_maps(self.source_network, batch.x, self.layers),
        )
        attention = None if self.attention is None else list(self.attention)
        value = _penalty(self.network, maps, source_maps, attention, self.alpha, self.beta)
        return terms | {"penalty": self.strength * value}


def channel_attention(
    network: Network,
    x: Tensor,
    labels: Tensor,
    *,
    layers: Sequence[str] | None = None,
    exact: bool = True,
) -> list[Tensor]:
    """How much the target's classes need each filter of the source network: one (c,) a layer, >= 0 and summing to 1.

        a_j = softmax_j(z_j / 5),    z_j = (L_j - mean L) / standard deviation of L,    L_j = the loss with map j set to 0 - the loss

    The loss is the mean cross-entropy of x under the linear head that `fit_head` fits to the network's features of x: the network's own
    head is not used, nothing of the network is changed, and all is computed in evaluation mode. The paper takes softmax(L_j) of each
    sample; standardising the mean over samples and dividing by 5 is what its authors' code does.

    Args:
        network: the source network.
        x: (n, ...) labelled training samples of the target, all in memory at once; a few dozen will do.
        labels: (n,) with two or more classes.
        layers: as in `delta`; the attention belongs to these layers in this order.
        exact: True removes one filter after another, and for each computes anew what comes after its layer: sum_l c_l passes of that part.
            False takes the first-order estimate L_j = - <dL/dFM_j, FM_j> from one backward pass in all. It is the removal's effect where
            the loss is linear in the map, exactly so at no layer of a network; here only the order and relative size of the L_j count.

    Raises:
        ValueError: as `delta`; x and labels differ in length; one class alone.
    """
    probe, y = _probe(network, x, labels)
    names = stage_layers(probe, x) if layers is None else list(layers)
    increases = (_by_removal if exact else _by_gradient)(probe, x, y, names)
    return [_scaled_softmax(increase).to(x.dtype) for increase in increases]


def _layer_distance(maps: Tensor, source: Tensor, attention: Tensor | None) -> Tensor:
    if maps.shape != source.shape or maps.ndim < 2:
        raise ValueError(
            f"maps and source_maps must be (b, c, ...) of equal shapes; got {tuple(maps.shape)} and {tuple(source.shape)}"
        )
    b, c = maps.shape[:2]
    if attention is not None and attention.shape != (c,):
        raise ValueError(
            f"attention must be ({c},) for a layer of {c} channels; got {tuple(attention.shape)}"
        )
    wide = torch.promote_types(
        maps.dtype, torch.float32
    )  # under autocast maps are of half precision
    squares = (
        (maps.to(wide) - source.detach().to(wide)).square().reshape(b, c, -1).mean(dim=(0, 2))
    )  # (c,)
    return squares.sum() if attention is None else c * (attention.to(squares) * squares).sum()


def _penalty(
    network: Network,
    maps: list[Tensor],
    source_maps: list[Tensor],
    attention: Sequence[Tensor] | None,
    alpha: float,
    beta: float,
) -> Tensor:
    new = torch.stack([p.square().sum() for p in network.head.parameters()]).sum()
    return alpha / 2 * behavioural_distance(maps, source_maps, attention) + beta / 2 * new


def _source_maps(source_network: Network, x: Tensor, layers: Sequence[str]) -> list[Tensor]:
    with torch.no_grad(), frozen_statistics(source_network):
        return feature_maps(source_network, x, layers)


def _probe(network: Network, x: Tensor, labels: Tensor) -> tuple[Network, Tensor]:
    """A copy of the network in evaluation mode with a head fitted to (x, labels), and the labels as that head counts them."""
    if labels.shape != (len(x),):
        raise ValueError(
            f"labels must be ({len(x)},), one a sample of x; got {tuple(labels.shape)}"
        )
    own = copy.deepcopy(network).eval()
    for module in own.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]  # maps are used again and again
    classes, y = labels.unique(return_inverse=True)
    with torch.no_grad():
        features = own(x).features
    own.head = nn.Linear(
        features.shape[1], len(classes), device=features.device, dtype=features.dtype
    )
    fit_head(own, features, y)
    return own.requires_grad_(False), y


def _by_gradient(probe: Network, x: Tensor, y: Tensor, layers: Sequence[str]) -> list[Tensor]:
    with watched(probe.backbone, layers) as runs:
        loss = functional.cross_entropy(probe(x.detach().requires_grad_()).logits, y)
    maps = single(runs, layers)
    slopes = torch.autograd.grad(loss, maps)
    return [
        -(slope * m.detach()).transpose(0, 1).flatten(1).sum(1)
        for slope, m in zip(slopes, maps, strict=True)
    ]  # (c,) each


@torch.no_grad()
def _by_removal(probe: Network, x: Tensor, y: Tensor, layers: Sequence[str]) -> list[Tensor]:
    noted = list(dict.fromkeys([*block_names(probe.backbone), *layers]))
    with watched(probe.backbone, noted) as runs:
        loss = functional.cross_entropy(probe(x).logits, y)
    increases = []
    for name, maps in zip(layers, single(runs, layers), strict=True):
        finished = list(runs)[
            : list(runs).index(name)
        ]  # none of these sees the layer's map: they repeat what they said
        known = {
            submodule(probe.backbone, block): runs[block][0]
            for block in finished
            if len(runs[block]) == 1
        }
        losses = []
        for j in range(maps.shape[1]):
            without = maps.clone()
            without[:, j] = 0
            with _saying(known | {submodule(probe.backbone, name): without}):
                losses.append(functional.cross_entropy(probe(x).logits, y))
        increases.append(torch.stack(losses) - loss)
    return increases


@contextmanager
def _saying(outputs: dict[nn.Module, Tensor]) -> Iterator[None]:
    """Within, each of the modules gives its output without computing it."""
    for module, output in outputs.items():
        vars(module)["forward"] = lambda *_, output=output: output
    try:
        yield
    finally:
        for module in outputs:
            del vars(module)["forward"]


def _scaled_softmax(increase: Tensor) -> Tensor:
    z = increase.double() - increase.double().mean()
    spread = z.std(correction=0)
    return (z / (5 * spread if spread > 0 else 1)).softmax(dim=0)
