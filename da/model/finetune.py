"""Fine-tuning baselines: which part of a source network learns on the target, and which part stays.

from scratch          a new network, nothing kept
feature extraction    backbone and bottleneck kept as they are, a new head (`frozen`)
full fine-tuning      everything starts from the source network and learns, with a new head (`with_new_head`)
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from da.networks import Network


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


def with_new_head(network: Network) -> Network:
    """A copy of `network` with a freshly drawn head of the same size; its backbone counts as pretrained."""
    own = copy.deepcopy(network)
    if not isinstance(own.head, nn.Linear):
        raise TypeError(f"network must end in a linear head; got {type(own.head).__name__}")
    own.head.reset_parameters()
    own.pretrained = True
    return own


def frozen(network: Network) -> Network:
    """Feature extraction: a copy of `network` whose backbone and bottleneck are frozen and whose head is drawn anew and learns."""
    own = with_new_head(network)
    return Network(Frozen(own.backbone), Frozen(own.bottleneck), own.head, pretrained=True)
