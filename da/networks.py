"""Networks: input -> Outputs(features, logits), alike in training and evaluation.

    x -> backbone -> pooled (b, width) -> bottleneck -> features (b, d) -> head -> logits (b, classes)

A discrepancy is measured on `features`. The backbone of a pretrained network learns at a tenth of the rate of the new layers
(`Network.parameter_groups`), because a random head's first gradients would otherwise undo what the backbone knows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

DomainName = Literal["source", "target"]

BatchNorm = nn.modules.batchnorm._BatchNorm  # of every dimension


class Outputs(NamedTuple):
    """What a Network says of a batch."""

    features: Tensor  # (b, d)
    logits: Tensor  # (b, classes)


class Normalise(nn.Module):
    """Rows scaled to the 2-norm `scale`: z = scale x / max(||x||, 1e-12), (b, d) -> (b, d)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * functional.normalize(x, dim=1)


class Frozen(nn.Module):
    """A module that no longer learns: no gradient for its parameters, and evaluation mode, so that batch statistics stay too."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Frozen:
        """Evaluation mode whatever is asked for."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """The module's output."""
        return self.module(x)


class Network(nn.Module):
    """A backbone, a bottleneck and a linear head.

    Args:
        backbone: x -> (b, width).
        bottleneck: (b, width) -> (b, d); `nn.Identity()` for none.
        head: (b, d) -> (b, classes).
        pretrained: whether the backbone starts from learned weights, and so learns more slowly.
    """

    def __init__(self, backbone: nn.Module, bottleneck: nn.Module, head: nn.Module, *, pretrained: bool = False) -> None:
        super().__init__()
        self.backbone, self.bottleneck, self.head, self.pretrained = backbone, bottleneck, head, pretrained

    def forward(self, x: Tensor) -> Outputs:
        features = self.bottleneck(self.backbone(x))
        return Outputs(features, self.head(features))

    def parameter_groups(self, learning_rate: float, *, backbone_factor: float = 0.1) -> list[dict]:
        """Optimiser groups: a pretrained backbone at `backbone_factor` times the rate, everything else at `learning_rate`."""
        factor = backbone_factor if self.pretrained else 1.0
        new = [*self.bottleneck.parameters(), *self.head.parameters()]
        groups = [(list(self.backbone.parameters()), factor), (new, 1.0)]
        return [{"params": trainable, "lr": learning_rate * f} for p, f in groups if (trainable := [q for q in p if q.requires_grad])]


class DomainBatchNorm(nn.Module):
    """Batch normalisation with one scale and shift, and statistics of its own for each of two domains.

    Which statistics are used and updated is what `use_statistics` said last (Li et al. 2016, AdaBN; Chang et al. 2019, DSBN,
    there with a scale and shift for each domain too).
    """

    def __init__(self, norm: BatchNorm) -> None:
        super().__init__()
        self.source, self.target = norm, copy.deepcopy(norm)
        self.target.weight, self.target.bias = norm.weight, norm.bias
        self.domain: DomainName = "source"

    def forward(self, x: Tensor) -> Tensor:
        return self.source(x) if self.domain == "source" else self.target(x)


def split_statistics(network: nn.Module) -> None:
    """Every batch normalisation of `network` becomes a DomainBatchNorm, in place."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BatchNorm) and not isinstance(module, DomainBatchNorm):
                setattr(module, name, DomainBatchNorm(child))


def use_statistics(network: nn.Module, domain: DomainName) -> None:
    """Says which domain's statistics the DomainBatchNorm layers of `network` use from now on; no such layer, no effect."""
    for module in network.modules():
        if isinstance(module, DomainBatchNorm):
            module.domain = domain


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Within, batch normalisation normalises by its running statistics and leaves them as they are; dropout stays on."""
    training = [m for m in network.modules() if isinstance(m, BatchNorm) and m.training]
    for module in training:
        module.eval()
    try:
        yield
    finally:
        for module in training:
            module.train()


@contextmanager
def kept_statistics(module: nn.Module) -> Iterator[None]:
    """Within, batch normalisation in training normalises by the batch and leaves its running statistics as they are."""
    tracking = [m for m in module.modules() if isinstance(m, BatchNorm) and m.training and m.track_running_stats]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Within, `network` starts in evaluation mode; afterwards every module is in the mode it was in: not all need be in one."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def remember(network: Network) -> Iterator[None]:
    """Within, `network(x)` asked again with the same tensor x gives the outputs of the first pass: a penalty costs no second one."""
    passes: list[tuple[Tensor, Outputs]] = []

    def once(x: Tensor) -> Outputs:
        for known, outputs in passes:
            if known is x:
                return outputs
        passes.append((x, type(network).forward(network, x)))
        return passes[-1][1]

    vars(network)["forward"] = once  # an attribute of the object hides the method of its class
    try:
        yield
    finally:
        del vars(network)["forward"]


def lenet(classes: int, *, channels: int = 1, width: int = 16, features: int = 128) -> Network:
    """A LeNet-like network for digits of 16 x 16 to 32 x 32 pixels, with batch normalisation; trained from scratch.

    Two 5 x 5 convolutions (`width` and twice `width` maps) with batch normalisation, ReLU and 2 x 2 pooling, then one hidden
    layer whose `features` outputs are the features.
    """
    backbone = nn.Sequential(
        nn.Conv2d(channels, width, 5, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 5, padding=2, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(),
    )  # fmt: skip
    bottleneck = nn.Sequential(nn.Linear(2 * width * 4 * 4, features, bias=False), nn.BatchNorm1d(features), nn.ReLU())
    return Network(backbone, bottleneck, nn.Linear(features, classes))


def mlp(inputs: int, classes: int, *, hidden: int = 256, features: int = 128) -> Network:
    """Two hidden layers for vectors (n, inputs): features from a backbone, bags of words, tables."""
    backbone = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU())
    return Network(backbone, nn.Sequential(nn.Linear(hidden, features), nn.ReLU()), nn.Linear(features, classes))


def bottleneck(width: int, features: int, *, dropout: float = 0.5, scale: float | None = None) -> tuple[nn.Module, int]:
    """Rows scaled to 2-norm `scale` if one is given, then Linear + ReLU to `features` dimensions (0: the input's), then dropout.

    Returns the module and its output width. The layer starts at N(0, 0.005^2) with bias 0.1, as in DAN's published code, so that
    its units are alive and small at first.
    """
    layers: list[nn.Module] = [] if scale is None else [Normalise(scale)]
    if features:
        linear = nn.Linear(width, features)
        nn.init.normal_(linear.weight, std=0.005)
        nn.init.constant_(linear.bias, 0.1)
        layers += [linear, nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers), features or width
