"""What stands on top of a network's features while it learns: gradient reversal, a discriminator, the multilinear map, entropies.

    reverse_gradient(x, factor)    forward: x    backward: -factor * gradient

None of it is needed once the network is trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * upstream[0], None


def reverse_gradient(x: Tensor, factor: float = 1.0) -> Tensor:
    """`x` itself, whose gradient is multiplied by -factor on its way back: what is above learns a loss, what is below unlearns it.

    Ganin, Lempitsky: Unsupervised Domain Adaptation by Backpropagation. ICML 2015.
    """
    return _ReverseGradient.apply(x, factor)


@contextmanager
def fixed(*modules: nn.Module) -> Iterator[None]:
    """What is computed within gives the parameters of `modules` no gradient, but passes gradients on to their inputs.

    Only the forward pass has to happen within. Parameters that were frozen before stay frozen after.
    """
    learning = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def discriminator(
    width: int, *, hidden: Sequence[int] = (1024, 1024), dropout: float = 0.5
) -> nn.Module:
    """Rows (b, width) -> one number each (b,): a logit, > 0 for source, or a critic's value. Linear, ReLU, dropout; then Linear.

    Two layers of 1024 are DANN's (without dropout) and CDAN's; dropout 0.5 is that of CDAN's published code, whose weights start
    from Xavier's normal distribution, here from PyTorch's.

    Args:
        hidden: units of each hidden layer; () for a linear discriminator.
        dropout: probability of a hidden unit to be zeroed in training, in [0, 1).
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([width, *hidden]):
        layers += [
            nn.Linear(inputs, outputs),
            nn.ReLU(),
            *([nn.Dropout(dropout)] if dropout else []),
        ]
    return nn.Sequential(*layers, nn.Linear([width, *hidden][-1], 1), nn.Flatten(0))


def adversary_group(adversary: nn.Module, learning_rate: float) -> dict:
    """The optimiser group of a module beside the network, at the full rate."""
    return {"params": list(adversary.parameters()), "lr": learning_rate}


class MultilinearMap(nn.Module):
    """Features f (b, d) and probabilities g (b, k) -> what a discriminator sees of both: their outer product, or a sketch of it.

        d k <= limit    T(f, g) = f g^T, flattened to (b, d k)
        d k >  limit    T(f, g) = (f R_f) * (g R_g) / sqrt(output), (b, output); R_f (d, output), R_g (k, output) of N(0, 1), fixed

    In expectation over R_f and R_g both have the same inner products, <f, f'> <g, g'>. The matrices are buffers, drawn from
    torch's global generator.

    Long et al.: Conditional Adversarial Domain Adaptation. NeurIPS 2018, equations 5 to 7.
    """

    left: Tensor
    right: Tensor

    def __init__(
        self, features: int, classes: int, *, limit: int = 4096, output: int = 1024
    ) -> None:
        super().__init__()
        for name, value in {"features": features, "classes": classes, "output": output}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}")
        self.random = features * classes > limit
        self.width = output if self.random else features * classes
        if self.random:
            self.register_buffer("left", torch.randn(features, output))  # R_f
            self.register_buffer("right", torch.randn(classes, output))  # R_g

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """(b, features), (b, classes) -> (b, width)."""
        if self.random:
            return (features @ self.left) * (probabilities @ self.right) / math.sqrt(self.width)
        return (features.unsqueeze(2) * probabilities.unsqueeze(1)).flatten(
            1
        )  # (b, d, k) -> (b, d k)
