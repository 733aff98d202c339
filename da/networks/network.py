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

from da.arrays.arguments import checked
from da.networks.parts import Normalise
from da.networks.tensor_names import rename
from da.networks.wrapping import new_linear, take_apart


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


class Network(nn.Module):
    """A backbone, a bottleneck and a head, which return features and logits together.

    Every method of this library trains a `Network`. Build one from your own modules, take a whole
    module apart with `Network.wrap`, or take `lenet`, `mlp` or `text_network`. `load_state_dict`
    takes the network.pt of a run. If that run had batch statistics of each domain and this network
    has not, it takes the target's.

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

    @checked
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

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        *,
        features: str | None = None,
        classes: int | None = None,
        pretrained: bool = False,
    ) -> Network:
        """Make a network of any module: one layer becomes the head, all before it the backbone.

        The module is taken apart, not copied. What it does after the head, such as a softmax, is
        left out. `module.fc = network.head` puts a head called "fc" back.

        Args:
            module: x (b, ...) -> anything.
            features: Name of the layer that becomes the head; its input (b, d) are the features.
                Default None: the last `nn.Linear`.
            classes: Outputs of a new linear head. Default None: the layer itself is the head.
            pretrained: As for the class. Default False.

        Returns:
            The network. Its bottleneck is empty.

        Raises:
            TypeError: `module` is a network already, or no module.
            ValueError: There is no such layer, or `classes` is given for a layer without a width.

        Example:
            >>> import torch
            >>> from torch import nn
            >>> from da.networks import Network
            >>> own = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3), nn.Softmax(dim=1))
            >>> network = Network.wrap(own, classes=5)
            >>> [each.shape[1] for each in network(torch.zeros(2, 8))]
            [6, 5]
        """
        if not isinstance(module, nn.Module) or isinstance(module, Network):
            raise TypeError(
                f"module must be an nn.Module that is no Network yet; got {type(module).__name__}"
            )
        backbone, head, name = take_apart(module, features)
        head = head if classes is None else new_linear(head, classes, name)
        return cls(backbone, nn.Identity(), head, pretrained=pretrained)

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


def checked_network(network: Network) -> Network:
    """The network itself, if it is one.

    Raises:
        TypeError: It is another module, which does not say what its features are.
    """
    if hasattr(network, "parameter_groups"):
        return network
    raise TypeError(
        "network must be a da.networks.Network, which returns features and logits; got "
        f"{type(network).__name__}: pass Network.wrap(module), or Network.wrap(module, "
        'features="layer") with the name of the layer whose input are the features'
    )


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


@checked
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
        TypeError: The head is another module, or `network` is no `Network`.
    """
    head = checked_network(network).head
    if not isinstance(head, nn.Linear):
        raise TypeError(
            "network must end in a linear head, which says how wide features are; "
            f"got {type(head).__name__}"
        )
    return head


def _trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that get a gradient."""
    return [parameter for parameter in parameters if parameter.requires_grad]
