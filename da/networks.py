"""Networks: input -> Outputs(features, logits), alike in training and evaluation.

    x -> backbone -> pooled (b, width) -> bottleneck -> features (b, d) -> head -> logits (b, classes)

A discrepancy is measured on `features`. The backbone of a pretrained network learns at a tenth of the rate of the new layers
(`Network.parameter_groups`), because a random head's first gradients would otherwise undo what the backbone knows.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

BackboneName = Literal["squeezenet1_1", "mobilenet_v2", "resnet18", "resnet50", "vit_b_16"]
DomainName = Literal["source", "target"]

_BatchNorm = nn.modules.batchnorm._BatchNorm


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

    def __init__(self, norm: _BatchNorm) -> None:
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
            if isinstance(child, _BatchNorm) and not isinstance(module, DomainBatchNorm):
                setattr(module, name, DomainBatchNorm(child))


def use_statistics(network: nn.Module, domain: DomainName) -> None:
    """Says which domain's statistics the DomainBatchNorm layers of `network` use from now on; no such layer, no effect."""
    for module in network.modules():
        if isinstance(module, DomainBatchNorm):
            module.domain = domain


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Within, batch normalisation normalises by its running statistics and leaves them as they are; dropout stays on."""
    training = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
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
    tracking = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True


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


def backbone(name: BackboneName, *, weights: Path | None = None, pretrained: bool = True, frozen_blocks: int = 0) -> tuple[nn.Module, int]:
    """A torchvision backbone without its classifier, x (b, 3, h, w) -> (b, width), and its width.

    Args:
        name: squeezenet1_1 (512), mobilenet_v2 (1280), resnet18 (512), resnet50 (2048) or vit_b_16 (768, 224 x 224 only).
        weights: a file with a state dict of torchvision's network of that name; none: torchvision's IMAGENET1K_V1, from its cache
            under $TORCH_HOME or from the network.
        pretrained: False asks for random weights; they are never a fallback.
        frozen_blocks: that many of the network's first blocks (squeezenet1_1 has 13, mobilenet_v2 19, a ResNet 8: stem of 4 and
            4 stages) do not learn, as in DAN, which keeps AlexNet's first three convolutions.

    Raises:
        FileNotFoundError, ValueError: the weights are missing, cannot be had, or belong to another network; there are fewer blocks.
    """
    from da.vision import torchvision  # two seconds of import that digits and features do without

    builder: Callable[..., nn.Module] = getattr(torchvision.models, name)
    if not pretrained:
        network = builder(weights=None)
    elif weights is not None:
        network = builder(weights=None)
        _load_state(network, name, weights)
    else:
        network = _published(builder, name)
    blocks = [] if name == "vit_b_16" else list(getattr(network, "features", network).children())
    if not 0 <= frozen_blocks <= len(blocks):
        raise ValueError(f"frozen_blocks must be from 0 to {len(blocks)} for {name}; got {frozen_blocks}")
    body, width = _without_classifier(network, name)
    for block in blocks[:frozen_blocks]:
        _freeze(body, block)
    return body, width


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


def fingerprint(weights: Path) -> str:
    """First 12 hex digits of the SHA-256 of a weights file: what a run record says it started from."""
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:12]


def _load_state(network: nn.Module, name: str, weights: Path) -> None:
    if not weights.is_file():
        raise FileNotFoundError(f"weights: no file {weights}; give a state dict of torchvision's {name} (--weights FILE.pt)")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"weights: {weights} is not a state dict that torch.load(weights_only=True) reads: {error}") from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).strip().splitlines()
        detail = " ".join(line.strip() for line in first[1:2]) or first[0]
        raise ValueError(f"weights: {weights} does not hold the weights of {name}: {detail[:200]}") from error


def _published(builder: Callable[..., nn.Module], name: str) -> nn.Module:
    try:
        return builder(weights="IMAGENET1K_V1")  # the weights of the published tables; for some networks there are newer ones
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # no network, or a broken download
        raise FileNotFoundError(
            f"weights: torchvision's ImageNet weights of {name} are neither whole in its cache ({torch.hub.get_dir()}/checkpoints) nor to "
            f"be had from the network ({error}); pass a local state dict with --weights FILE.pt"
        ) from error


def _freeze(body: nn.Module, block: nn.Module) -> None:
    """Puts Frozen around `block`, wherever it stands in `body`."""
    for module in list(body.modules()):
        for name, child in list(module.named_children()):
            if child is block:
                setattr(module, name, Frozen(block))


def _without_classifier(network: nn.Module, name: str) -> tuple[nn.Module, int]:
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if name == "squeezenet1_1":
        return nn.Sequential(network.features, pool), 512  # type: ignore[arg-type]
    if name == "mobilenet_v2":
        return nn.Sequential(network.features, pool), 1280  # type: ignore[arg-type]
    if name == "vit_b_16":
        network.heads = nn.Identity()
        return network, 768
    width: int = network.fc.in_features  # type: ignore[assignment, union-attr]
    network.fc = nn.Identity()
    return network, width
