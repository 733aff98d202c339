"""Layers of many members at once, where torch's own under vmap are slow or draw other numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def replace_layers(module: nn.Module, generators: Sequence[torch.Generator]) -> None:
    """Let the linear layers and dropouts of a module compute for many members, in place.

    Args:
        module: It is called under `torch.func.vmap` from then on.
        generators: Where the dropout of each member draws from.
    """
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.forward = partial(_linear, layer)  # type: ignore[method-assign]
        elif type(layer) is nn.Dropout:
            layer.forward = partial(_dropout, layer, generators)  # type: ignore[method-assign]


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    if x.ndim != 2 or layer.bias is None:
        return functional.linear(x, layer.weight, layer.bias)
    return _Linear.apply(x, layer.weight, layer.bias)


def _dropout(layer: nn.Dropout, generators: Sequence[torch.Generator], x: Tensor) -> Tensor:
    if not layer.training or layer.p == 0:
        return x
    return _Dropout.apply(x, layer.p, generators)


class _Linear(torch.autograd.Function):
    """x W^T + b. Its vmap is one product of all members, forward and backward."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        raise NotImplementedError("this layer is for many members at once")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, x: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, int]:
        """Rows (M, b, d), weights (M, h, d) and biases (M, h) -> (M, b, h)."""
        each = (
            t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip((x, weight, bias), in_dims, strict=True)
        )
        return _Products.apply(*each), 0


class _Products(torch.autograd.Function):
    """x W^T + b for each member.

    The gradient of W comes out in the layout of W. Autograd's own is a transposed copy, which takes
    as long as a product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (slope,) = ctx.saved_tensors, upstream
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            torch.bmm(slope, weight) if of_x else None,
            torch.bmm(slope.mT, x) if of_weight else None,
            slope.sum(dim=1) if of_bias else None,
        )


class _Dropout(torch.autograd.Function):
    """Dropout whose mask each member draws as torch would draw it for that member alone."""

    @staticmethod
    def forward(x: Tensor, p: float, generators: Sequence[torch.Generator]) -> Tensor:
        raise NotImplementedError("this layer is for many members at once")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, x: Tensor, p: float, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, int]:
        """x (M, ...) times masks of the same shape."""
        whole = x.expand(info.batch_size, *x.shape) if in_dims[0] is None else x
        whole = whole if in_dims[0] is None else whole.movedim(in_dims[0], 0)
        noise = torch.empty(whole.shape, dtype=whole.dtype, device=whole.device)
        for part, generator in zip(noise.unbind(), generators, strict=True):
            part.bernoulli_(1 - p, generator=generator)
        return whole * noise.div_(1 - p), 0
