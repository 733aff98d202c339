"""The form that every network here has: input -> Outputs(features, logits).

    x -> backbone -> (b, width) -> bottleneck -> features (b, d) -> head -> logits (b, classes)

A discrepancy between two domains is measured on `features`. The backbone of a pretrained network
learns at a tenth of the rate of the new layers (`Network.parameter_groups`). Otherwise the first
gradients of a random head would destroy what the backbone knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from da.networks.tensor_names import rename


class Outputs(NamedTuple):
    """The features and the logits of one batch, as every `Network` returns them.

    Losses between domains read `features`; losses with labels read `logits`.

    Attributes:
        features: (b, d), the input of the head.
        logits: (b, classes), or (b, 1) for a regression.

    Example:
        >>> import torch
        >>> from da.networks import mlp
        >>> outputs = mlp(inputs=4, classes=3, features=2)(torch.zeros(5, 4))
        >>> outputs.features.shape, outputs.logits.shape
        (torch.Size([5, 2]), torch.Size([5, 3]))
    """

    features: Tensor  # (b, d)
    logits: Tensor  # (b, classes)


class Normalise(nn.Module):
    """Scales each row to the 2-norm `scale`: z = scale x / max(||x||, 1e-12), (b, d) -> (b, d)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """The scaled rows (b, d)."""
        return self.scale * functional.normalize(x, dim=1)


class Frozen(nn.Module):
    """A wrapper around a module that must not learn.

    The parameters of the module get no gradient. The module is always in evaluation mode, so that
    its batch statistics do not move either, even if `train()` is called on the whole network.

    Args:
        module: Any module. Its parameters are frozen in place.

    Example:
        >>> from torch import nn
        >>> from da.networks import Frozen
        >>> layer = Frozen(nn.BatchNorm1d(3)).train()
        >>> layer.module.training, [p.requires_grad for p in layer.parameters()]
        (False, [False, False])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Frozen:
        """Sets evaluation mode, whatever `mode` is."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """The module's output."""
        return self.module(x)


class Network(nn.Module):
    """A backbone, a bottleneck and a head, which return features and logits together.

    Every method of this library trains a `Network`. Build one from your own modules, or take
    `lenet`, `mlp` or `text_network`. `load_state_dict` takes the network.pt of a run. If that run
    had batch statistics of each domain and this network has not, it takes the target's.

        x -> backbone -> (b, width) -> bottleneck -> features (b, d) -> head -> logits (b, classes)

    Args:
        backbone: x (b, ...) -> (b, width).
        bottleneck: (b, width) -> (b, d); `nn.Identity()` for none.
        head: (b, d) -> (b, classes). Most methods ask for an `nn.Linear`.
        pretrained: True if the backbone starts from learned weights. It then learns more slowly;
            see `parameter_groups`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.networks import Network, bottleneck
        >>> backbone = nn.Sequential(nn.Linear(8, 6), nn.ReLU())
        >>> layers, width = bottleneck(6, features=4)
        >>> network = Network(backbone, layers, nn.Linear(width, 3), pretrained=True)
        >>> network(torch.zeros(2, 8)).logits.shape
        torch.Size([2, 3])
        >>> [group["lr"] for group in network.parameter_groups(learning_rate=1.0)]
        [0.1, 1.0]
    """

    _passes: list[tuple[Tensor, Outputs]] | None = None  # inputs and outputs, inside `remember`

    def __init__(
        self,
        backbone: nn.Module,
        bottleneck: nn.Module,
        head: nn.Module,
        *,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.bottleneck = bottleneck
        self.head = head
        self.pretrained = pretrained

    def __call__(self, x: Tensor) -> Outputs:
        """The outputs for `x`. Inside `remember`, a second call with the same tensor is free."""
        if self._passes is None:
            return super().__call__(x)
        for known, outputs in self._passes:
            if known is x:
                return outputs
        outputs = super().__call__(x)
        self._passes.append((x, outputs))
        return outputs

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *others: Any, **named: Any
    ) -> None:
        # A network.pt may hold statistics of each domain, or names from inside torch.compile.
        rename(state_dict, self.state_dict(), prefix)
        super()._load_from_state_dict(state_dict, prefix, *others, **named)

    def forward(self, x: Tensor) -> Outputs:
        """Features and logits of a batch x (b, ...)."""
        features = self.bottleneck(self.backbone(x))
        return Outputs(features, self.head(features))

    def parameter_groups(self, learning_rate: float, *, backbone_factor: float = 0.1) -> list[dict]:
        """The groups for an optimiser: a pretrained backbone learns more slowly than the rest.

        Args:
            learning_rate: Rate of bottleneck and head.
            backbone_factor: Rate of a pretrained backbone as a fraction of `learning_rate`. A
                backbone that is not pretrained learns at the full rate.

        Returns:
            Up to two groups: the backbone's parameters, then those of bottleneck and head.
            Parameters without a gradient are left out, and so is a group without parameters.
        """
        backbone_rate = learning_rate * (backbone_factor if self.pretrained else 1.0)
        new_layers = [*self.bottleneck.parameters(), *self.head.parameters()]
        groups = [
            {"params": _trainable(self.backbone.parameters()), "lr": backbone_rate},
            {"params": _trainable(new_layers), "lr": learning_rate},
        ]
        return [group for group in groups if group["params"]]


def unwrapped(network: Network) -> Network:
    """The network itself, out of the module that `torch.compile` has put around it."""
    return getattr(network, "_orig_mod", network)


@contextmanager
def remember(network: Network) -> Iterator[None]:
    """Inside the context, repeated calls with the same tensor return the cached outputs.

    So a penalty that needs the network's features costs no second pass. An equal tensor that is
    another object counts as a new input.
    """
    outer = network._passes
    network._passes = []
    try:
        yield
    finally:
        network._passes = outer


def bottleneck(
    width: int, features: int, *, dropout: float = 0.5, scale: float | None = None
) -> tuple[nn.Module, int]:
    """Make the layer between a backbone and the head, which gives features of a chosen width.

    A narrow layer keeps a discrepancy cheap and lets features move although the backbone learns
    slowly. The layers are, in order: rows scaled to the 2-norm `scale`, Linear and ReLU, dropout.
    The linear layer starts from N(0, 0.005^2) with bias 0.1, so that its units start small and
    active.

    Args:
        width: Width of the backbone's output.
        features: Width of the features. 0 leaves out Linear and ReLU.
        dropout: Probability that a feature is dropped in training, in [0, 1).
        scale: 2-norm to which rows are scaled first; None leaves them as they are.

    Returns:
        The module (b, width) -> (b, d), and d.

    Example:
        >>> from da.networks import bottleneck
        >>> layers, width = bottleneck(512, features=256)
        >>> width, [type(layer).__name__ for layer in layers]
        (256, ['Linear', 'ReLU', 'Dropout'])
        >>> bottleneck(512, features=0, dropout=0.0)[1]
        512

    Paper:
        Long, Cao, Wang, Jordan: Learning Transferable Features with Deep Adaptation Networks.
        ICML 2015.

    Differences:
        The initial weights are those of the authors' code; the paper does not give them. The
        scaling to a given norm is not in the paper.
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


def entropies(logits: Tensor) -> Tensor:
    """Shannon entropy in nats of each row of softmax(logits): (n, K) -> (n,), from 0 to log K."""
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def linear_head(network: Network) -> nn.Linear:
    """The network's head if it is linear; its `in_features` is the width of the features.

    Raises:
        TypeError: The head is another module.
    """
    if not isinstance(network.head, nn.Linear):
        raise TypeError(
            "network must end in a linear head, which says how wide features are; "
            f"got {type(network.head).__name__}"
        )
    return network.head


def _trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that get a gradient."""
    return [parameter for parameter in parameters if parameter.requires_grad]
