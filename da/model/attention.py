"""Channel attention for DELTA: how much the target's classes need each filter of a network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.devices import narrowed, widened
from da.model.finetune import fit_head
from da.model.maps import stage_layers
from da.networks.layers import block_names, single, submodule, watched
from da.networks.network import Network
from da.networks.samples import taken_by_network


@checked
def channel_attention(
    network: Network,
    x: Tensor,
    labels: Tensor,
    *,
    layers: Sequence[str] | None = None,
    exact: bool = True,
) -> list[Tensor]:
    """Measure how much the target's classes need each filter of the source network.

    Compute it once before fine-tuning with `Delta`, from a few dozen labelled target samples. A
    filter whose removal raises the loss gets more attention, and is held faster.

        a_j = softmax_j(z_j / 5),    z_j = (L_j - mean L) / standard deviation of L
        L_j = the loss with map j set to 0 - the loss

    The loss is the mean cross-entropy of x under the linear head that `fit_head` fits to the
    network's features of x. The network's own head is not used. Everything is computed in
    evaluation mode.

    Args:
        network: The source network. It is not changed.
        x: Labelled training samples (n, ...) of the target, all in memory at once.
        labels: Classes (n,), two or more.
        layers: Dotted names below `network.backbone`, as in `delta`. Default None: the last blocks
            of the stages, `da.model.maps.stage_layers`.
        exact: True (default) removes one filter after another, and computes what comes after its
            layer anew each time: sum_l c_l passes of that part. False takes the first-order
            estimate L_j = - <dL/dFM_j, FM_j> from one backward pass. The estimate is exact if the
            loss is linear in the map, which no layer of a network gives. Only the order and the
            relative size of the L_j matter here.

    Returns:
        One tensor (c,) for each layer, >= 0 and summing to 1. It belongs to these layers in this
        order.

    Raises:
        ValueError: There is no such layer, no stage to take by default, `x` and `labels` differ in
            length, or there is only one class.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.model import channel_attention
        >>> from da.networks import Network
        >>> filters = nn.Conv2d(2, 2, 1, bias=False)  # each filter passes on one channel
        >>> _ = nn.init.dirac_(filters.weight)
        >>> backbone = nn.Sequential(filters, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> network = Network(backbone, nn.Identity(), nn.Linear(2, 2))
        >>> x, y = torch.ones(6, 2, 4, 4), torch.arange(6) % 2
        >>> x[:, 1] += y[:, None, None]  # the second channel tells the classes apart
        >>> channel_attention(network, x, y, layers=["0"])[0].round(decimals=2)
        tensor([0.4000, 0.6000])

    Paper:
        Li, Xiong, Wang, Rao et al.: DELTA: Deep Learning Transfer using Feature Map with Attention
        for Convolutional Networks. ICLR 2019.

    Differences:
        The paper takes softmax(L_j) of each sample. Its authors' code standardises the mean over
        samples and divides by 5, as here. The scripts compute the attention from 20 samples. The
        head is a logistic regression.
    """
    probe, y = _probe(network, x, labels)
    names = stage_layers(probe, x) if layers is None else list(layers)
    increases = _by_removal(probe, x, y, names) if exact else _by_gradient(probe, x, y, names)
    return [narrowed(_scaled_softmax(increase), x) for increase in increases]


def _probe(network: Network, x: Tensor, labels: Tensor) -> tuple[Network, Tensor]:
    """A copy in evaluation mode with a head fitted to (x, labels), and the labels from 0."""
    if x.ndim < 2 or not bool(x.isfinite().all()):
        raise ValueError(f"x must be samples (n, ...), all finite; got {tuple(x.shape)}")
    if labels.shape != (len(x),) or labels.is_floating_point():
        raise ValueError(
            f"labels must be ({len(x)},), a whole number for each sample of x; "
            f"got {labels.dtype}, {tuple(labels.shape)}"
        )
    own = copy.deepcopy(network).eval()
    for module in own.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]  # maps are used again and again
    classes, y = labels.unique(return_inverse=True)
    with torch.no_grad(), taken_by_network("x"):
        features = own(x).features
    own.head = nn.Linear(
        features.shape[1], len(classes), device=features.device, dtype=features.dtype
    )
    fit_head(own, features, y)
    return own.requires_grad_(False), y


def _by_gradient(probe: Network, x: Tensor, y: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """The first-order estimate of each L_j, (c,) for each layer."""
    with watched(probe.backbone, layers) as runs:
        loss = functional.cross_entropy(probe(x.detach().requires_grad_()).logits, y)
    maps = single(runs, layers)
    slopes = torch.autograd.grad(loss, maps)
    return [
        -(slope * m.detach()).transpose(0, 1).flatten(1).sum(1)
        for slope, m in zip(slopes, maps, strict=True)
    ]


@torch.no_grad()
def _by_removal(probe: Network, x: Tensor, y: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Each L_j by setting its map to 0, (c,) for each layer."""
    noted = list(dict.fromkeys([*block_names(probe.backbone), *layers]))
    with watched(probe.backbone, noted) as runs:
        loss = functional.cross_entropy(probe(x).logits, y)
    increases = []
    for name, maps in zip(layers, single(runs, layers), strict=True):
        outputs = _finished_before(name, probe.backbone, runs)
        layer = submodule(probe.backbone, name)
        losses = []
        for j in range(maps.shape[1]):
            without = maps.clone()
            without[:, j] = 0
            with _answering(outputs | {layer: without}):
                losses.append(functional.cross_entropy(probe(x).logits, y))
        increases.append(torch.stack(losses) - loss)
    return increases


def _finished_before(
    name: str, backbone: nn.Module, runs: Mapping[str, list[Tensor]]
) -> dict[nn.Module, Tensor]:
    """The outputs of the modules that ran once and finished before the layer `name`.

    They do not depend on the layer's map, so that they need not be computed again.
    """
    order = list(runs)
    finished = order[: order.index(name)]
    once = [block for block in finished if len(runs[block]) == 1]
    return {submodule(backbone, block): runs[block][0] for block in once}


@contextmanager
def _answering(outputs: Mapping[nn.Module, Tensor]) -> Iterator[None]:
    """Inside the context, each of the modules gives its known output without computing it."""
    for module, output in outputs.items():
        module.forward = _always(output)  # hides the method of the module's class
    try:
        yield
    finally:
        for module in outputs:
            del module.forward


def _always(output: Tensor) -> Callable[..., Tensor]:
    """A function that gives `output`, whatever its arguments."""

    def forward(*inputs: Any) -> Tensor:
        return output

    return forward


def _scaled_softmax(increase: Tensor) -> Tensor:
    """softmax(z / 5) of the standardised increases; even weights if all are equal."""
    z = widened(increase)
    z = z - z.mean()
    spread = z.std(correction=0)
    return (z / (5 * spread if spread > 0 else 1)).softmax(dim=0)
