"""The kernel discrepancy of many members at once, in closed form, for `torch.func.vmap`.

    D = sum_ij c_ij prod_l k_l(z^l_i, z^l_j),    z the rows of both samples
    dD / dz^l_i = 4 sum_j w_ij (z^l_i - z^l_j),  w = c dk_l / dd prod of the other layers' kernels

One product gives all distances of a member, and one its gradient. Kernels are Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from da.arrays.devices import narrowed, widened
from da.kernels.distances import centred
from da.ops.mixture import Mixture


def discrepancy_of_many(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    mixtures: Sequence[Mixture],
    u: Tensor | None,
    v: Tensor | None,
    coefficients: tuple[float, float, float],
) -> Tensor:
    """Compute a S(x, x) + b S(y, y) - 2 c S(x, y) inside `torch.func.vmap`.

    Args:
        x: Layers (n, d_l).
        y: Layers (m, d_l).
        mixtures: One Gaussian kernel a layer.
        u: Weights (n, c) of the rows of x; None means that each is 1.
        v: Weights (m, c) of the rows of y.
        coefficients: a, b and c.

    Returns:
        A scalar in float64, once differentiable in all layers.
    """
    n, m = len(x[0]), len(y[0])
    a, b, c = coefficients
    signs = x[0].new_full((n + m, n + m), -c)
    signs[:n, :n], signs[n:, n:] = a, b
    if u is not None and v is not None:
        w = torch.cat([u, v]).to(x[0].dtype)
        signs = signs * (w @ w.T)
    scales = [torch.stack([torch.as_tensor(s).to(x[0]) for s in k.scales]) for k in mixtures]
    rows = [centred(torch.cat(pair)) for pair in zip(x, y, strict=True)]
    return _OfMember.apply(signs, *scales, *rows)


class _OfMember(torch.autograd.Function):
    """The discrepancy of one member; computed for all members by its vmap."""

    @staticmethod
    def forward(*values: Tensor) -> Tensor:
        raise NotImplementedError("this discrepancy is for many members at once")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *values: Tensor) -> tuple[Tensor, int]:
        """signs (M, N, N), then scales (M, k_l) and rows (M, N, d_l) of each layer -> (M,)."""
        every = (
            t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip(values, in_dims, strict=True)
        )
        return _OfMany.apply(*every), 0


class _OfMany(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signs: Tensor, *others: Tensor) -> Tensor:
        layers = len(others) // 2
        scales, rows = others[:layers], others[layers:]
        pairs = [_kernel(z, s) for z, s in zip(rows, scales, strict=True)]
        kernels = [kernel for kernel, _ in pairs]
        gradients = []
        for number, (z, (_, slope)) in enumerate(zip(rows, pairs, strict=True)):
            rest = [k for other, k in enumerate(kernels) if other != number]
            w = math.prod(rest, start=signs * slope)  # (M, N, N), symmetric
            gradients.append(torch.baddbmm(w.sum(2, keepdim=True) * z, w, z, alpha=-1).mul_(4))
        ctx.save_for_backward(*gradients)
        return widened(math.prod(kernels, start=signs)).sum(dim=(1, 2))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        factor = narrowed(upstream[0], gradients[0])[:, None, None]
        constants = [None] * (1 + len(gradients))  # signs and scales
        return *constants, *(factor * g for g in gradients)


def _kernel(z: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """K = sum_k exp(-d / s_k) and dK / dd of rows (M, N, d) and scales (M, k): both (M, N, N)."""
    squares = z.square().sum(dim=2)
    distances = torch.baddbmm(squares[:, :, None] + squares[:, None], z, z.mT, alpha=-2).clamp_(
        min=0
    )
    distances.diagonal(dim1=1, dim2=2).zero_()
    kernel, slope = torch.zeros_like(distances), torch.zeros_like(distances)
    for s in scales.unbind(dim=1):
        rate = (-1 / s)[:, None, None]
        part = (distances * rate).exp_()
        kernel += part
        slope.addcmul_(part, rate)
    return kernel, slope
