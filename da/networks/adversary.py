"""Parts that an adversary needs beside a network: gradient reversal, a discriminator, joint inputs.

    reverse_gradient(x, factor)    forward: x    backward: -factor * gradient

The methods in `da.feature` use them during training. A trained network does not need them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked


class _ReverseGradient(torch.autograd.Function):
    """The identity, whose backward pass multiplies the gradient by -factor."""

    @staticmethod
    def forward(x: Tensor, factor: float | Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float | Tensor], output: Tensor) -> None:
        ctx.factor = inputs[1]  # a constant

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * upstream[0], None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, int | None],
        x: Tensor,
        factor: float | Tensor,
    ) -> tuple[Tensor, int | None]:
        """Many members at once, each with its own factor; see `da.train.stacked`."""
        if isinstance(factor, Tensor) and in_dims[1] is not None:
            x = (
                x.expand(info.batch_size, *x.shape)
                if in_dims[0] is None
                else x.movedim(in_dims[0], 0)
            )
            factor = factor.reshape(-1, *(1,) * (x.ndim - 1))
            return _ReverseGradient.apply(x, factor), 0
        return _ReverseGradient.apply(x, factor), in_dims[0]


@checked
def reverse_gradient(x: Tensor, factor: float = 1.0) -> Tensor:
    """Pass `x` on unchanged and flip the sign of its gradient.

    Layers above it learn to lower a loss, and layers below it learn to raise the same loss. So a
    discriminator and the features that shall confuse it train in one backward pass.

        forward: x    backward: -factor * gradient

    Args:
        x: Any tensor.
        factor: Size of the reversed gradient. Default 1.

    Returns:
        A tensor with the values of `x`.

    Example:
        >>> import torch
        >>> from da.networks import reverse_gradient
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> (3 * reverse_gradient(x, factor=0.5)).sum().backward()
        >>> x.grad
        tensor([-1.5000, -1.5000])

    Paper:
        Ganin, Lempitsky: Unsupervised Domain Adaptation by Backpropagation. ICML 2015.

    Differences:
        None known.
    """
    return _ReverseGradient.apply(x, factor)


@contextmanager
def fixed(*modules: nn.Module) -> Iterator[None]:
    """Inside the context, the parameters of `modules` get no gradient, but their inputs do.

    Only the forward pass has to happen inside. Parameters that were frozen before stay frozen
    afterwards.
    """
    owners = {part: dict(part._parameters) for module in modules for part in module.modules()}
    for part, own in owners.items():
        # Others of the same values stand in for them: `requires_grad` cannot be set while many
        # members are trained at once.
        part._parameters.update({name: p if p is None else p.detach() for name, p in own.items()})  # type: ignore[misc]
    try:
        yield
    finally:
        for part, own in owners.items():
            part._parameters.update(own)


@checked
def discriminator(
    width: int, *, hidden: Sequence[int] = (1024, 1024), dropout: float = 0.5
) -> nn.Module:
    """Make a small network that tells two domains apart, or that serves as a critic.

    It gives one number for each row: a logit that is > 0 for the source, or the value of a critic.
    Each hidden layer is Linear, ReLU and dropout; the last layer is Linear.

    Args:
        width: Width of the rows.
        hidden: Units of each hidden layer. () makes a linear discriminator.
        dropout: Probability that a hidden unit is set to zero in training, in [0, 1). Default 0.5.

    Returns:
        A module (b, width) -> (b,).

    Example:
        >>> import torch
        >>> from da.networks import discriminator
        >>> linear = discriminator(width=3, hidden=())
        >>> linear(torch.zeros(5, 3)).shape, sum(p.numel() for p in linear.parameters())
        (torch.Size([5]), 4)

    Paper:
        Ganin, Ustinova, Ajakan, Germain et al.: Domain-Adversarial Training of Neural Networks.
        JMLR 17, 2016. Long, Cao, Wang, Jordan: Conditional Adversarial Domain Adaptation.
        NeurIPS 2018. Both use two hidden layers of 1024 units.

    Differences:
        DANN has no dropout; dropout of 0.5 is that of CDAN's published code. The weights of that
        code start from Xavier's normal distribution. Here they start from PyTorch's default.
    """
    layers: list[nn.Module] = []
    widths = [width, *hidden]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))


def adversary_group(adversary: nn.Module, learning_rate: float) -> dict:
    """The optimiser group of a module beside the network, at the full rate."""
    return {"params": list(adversary.parameters()), "lr": learning_rate}


class MultilinearMap(nn.Module):
    """Combine features and predicted probabilities into one input for a discriminator.

    A discriminator that sees both can align the domains class by class. The map is the outer
    product of the two if that is small enough, and a random sketch of it otherwise.

        d k <= limit    T(f, g) = f g^T, flattened to (b, d k)
        d k >  limit    T(f, g) = (f R_f) * (g R_g) / sqrt(output), (b, output)

    The entries of R_f (d, output) and R_g (k, output) are drawn once from N(0, 1), by torch's
    global generator, and kept as buffers. In expectation over R_f and R_g both forms have the same
    inner products, <f, f'> <g, g'>.

    Args:
        features: d, width of the features.
        classes: k, number of classes.
        limit: Largest width of the outer product. Default 4096.
        output: Width of the sketch. Default 1024.

    Raises:
        ValueError: `features`, `classes` or `output` is less than 1.

    Example:
        >>> import torch
        >>> from da.networks import MultilinearMap
        >>> features, probabilities = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.5]])
        >>> MultilinearMap(features=2, classes=2)(features, probabilities)
        tensor([[0.5000, 0.5000, 1.0000, 1.0000]])
        >>> MultilinearMap(features=256, classes=31).width
        1024

    Paper:
        Long, Cao, Wang, Jordan: Conditional Adversarial Domain Adaptation. NeurIPS 2018,
        equations 5 to 7.

    Differences:
        None known.
    """

    left: Tensor
    right: Tensor

    @checked
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
        products = features.unsqueeze(2) * probabilities.unsqueeze(1)  # (b, d, k)
        return products.flatten(1)  # (b, d k)
