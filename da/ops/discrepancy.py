"""The kernel discrepancy of two weighted samples and its gradient, by one of three back-ends.

    D = a S(x, x) + b S(y, y) - 2 c S(x, y),        S(x, y) = sum_ij <u_i, v_j> prod_l k_l(x^l_i, y^l_j)

    gram     each block at once: closed-form gradient, memory O(n m) while it runs
    stream   each block in tiles: value and gradient in one pass, memory O((n + m) d)
    triton   CUDA only: as stream, fused on the device; one Gaussian layer in float32, one column of weights

All compute the gradient with the value and keep only the gradient. A second derivative goes through the formula as `da.kernels`
has it, with autograd. Autocast is off inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from da.arrays import full_precision
from da.kernels import gaussian, laplacian, linear, polynomial, rational_quadratic
from da.ops.blocks import Block, block_sum, centred_block, float32_fails
from da.ops.mixture import Mixture

Backend = Literal["auto", "gram", "stream", "triton"]
CPU_TILE, GPU_TILE = 512, 4096  # rows: one megabyte of float32, which a core's cache holds; 64 MB, which fills a GPU

_SPECIFICATION: dict[str, Callable[..., Tensor]] = {
    "gaussian": gaussian, "laplacian": laplacian, "rational_quadratic": rational_quadratic, "polynomial": polynomial,
}  # fmt: skip


class _Options(NamedTuple):
    mixtures: tuple[Mixture, ...]
    coefficients: tuple[float, float, float]
    backend: str
    gradient: bool


@torch.compiler.disable
def kernel_discrepancy(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    mixtures: Sequence[Mixture],
    u: Tensor,
    v: Tensor,
    *,
    coefficients: tuple[float, float, float] = (1.0, 1.0, 1.0),
    backend: Backend = "auto",
) -> Tensor:
    """D as above: a float64 scalar, twice differentiable in all layers.

    Args:
        x, y: layers (n, d_l) and (m, d_l), checked, all float32 or all float64, on one device.
        mixtures: one kernel a layer; the layers' kernels are multiplied.
        u, v: weights (n, c) and (m, c), constants.
        coefficients: a, b and c.
        backend: "auto" takes triton where it can, else stream.

    Raises:
        ValueError: an unknown back-end, or "triton" for what it cannot do; the message says what that is.
    """
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (*x, *y))
    options = _Options(tuple(mixtures), coefficients, choose_backend(backend, x[0], mixtures, u), wanted)
    with full_precision(x[0]):
        return _Discrepancy.apply(options, u.detach(), v.detach(), *x, *y)


def choose_backend(backend: Backend, x: Tensor, mixtures: Sequence[Mixture], u: Tensor) -> str:
    """The back-end that runs: what was asked for, which must be able to, or what "auto" means here."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}; got {backend!r}")
    if backend in ("gram", "stream"):
        return backend
    if backend == "auto" and not x.is_cuda:
        return "stream"
    obstacle = _obstacle_to_triton(x, mixtures, u)
    if backend == "triton" and obstacle:
        raise ValueError(f"backend 'triton' cannot compute this: {obstacle}; use 'auto'")
    return "stream" if obstacle else "triton"


def _obstacle_to_triton(x: Tensor, mixtures: Sequence[Mixture], u: Tensor) -> str:
    if len(mixtures) > 1 or mixtures[0].name != "gaussian" or u.shape[1] > 1:
        return "it has one layer, Gaussian kernels and one weight a row"
    if x.dtype != torch.float32:
        return f"it computes in float32; got {x.dtype}"
    from da.ops.fused import available  # Triton is a package for GPUs, looked for only when it is wanted

    return "" if available(x.device) else f"it needs the package triton and a CUDA device of capability 8 or higher; got {x.device}"


class _Discrepancy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, options: _Options, u: Tensor, v: Tensor, *layers: Tensor) -> Tensor:
        x, y = layers[: len(layers) // 2], layers[len(layers) // 2 :]
        (a, b, c), gradient = options.coefficients, options.gradient
        value, gradients_x = _scaled(_block(x, x, options, u, u, symmetric=True), a)
        other, gradients_y = _scaled(_block(y, y, options, v, v, symmetric=True), b)
        cross = _block(x, y, options, u, v, symmetric=False)
        if gradient:
            for total, part in zip((*gradients_x, *gradients_y), (*cross.x, *cross.y), strict=True):
                total.sub_(part, alpha=2 * c)
            ctx.save_for_backward(u, v, *layers, *gradients_x, *gradients_y)
            ctx.options = options
        return value + other - 2 * c * cross.value

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        u, v, *saved = ctx.saved_tensors
        layers, gradients = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        if torch.is_grad_enabled():  # create_graph=True: somebody will differentiate the gradient
            with full_precision(layers[0]):
                value = _by_specification(layers, ctx.options, u, v)
            return None, None, None, *torch.autograd.grad(value, layers, upstream[0], create_graph=True)
        return None, None, None, *(g * upstream[0].to(g.dtype) for g in gradients)


def _scaled(block: Block, factor: float) -> tuple[Tensor, list[Tensor]]:
    return block.value * factor, [g.mul_(factor) for g in block.x]


def _block(x: Sequence[Tensor], y: Sequence[Tensor], options: _Options, u: Tensor, v: Tensor, *, symmetric: bool) -> Block:
    if options.backend == "triton":
        a, b = centred_block(x, y, options.mixtures, symmetric)
        if not float32_fails(a, b, options.mixtures):
            from da.ops.fused import fused_block

            value, first, second = fused_block(
                a[0], b[0], options.mixtures[0].scales, u[:, 0], v[:, 0], symmetric=symmetric, gradient=options.gradient
            )
            return Block(value, [] if first is None else [first], [] if second is None else [second])
    tile = GPU_TILE if x[0].is_cuda else CPU_TILE
    size = max(len(u), len(v)) if options.backend == "gram" else tile
    return block_sum(x, y, options.mixtures, u, v, symmetric=symmetric, gradient=options.gradient, size=size)


def _by_specification(layers: Sequence[Tensor], options: _Options, u: Tensor, v: Tensor) -> Tensor:
    """D by the kernels of `da.kernels` and autograd, O((n + m)^2) memory."""
    x, y = layers[: len(layers) // 2], layers[len(layers) // 2 :]

    def block(x: Sequence[Tensor], y: Sequence[Tensor], u: Tensor, v: Tensor) -> Tensor:
        product = u @ v.T
        for a, b, mixture in zip(x, y, options.mixtures, strict=True):
            product = product * _gram(a, b, mixture)
        return product.sum(dtype=torch.float64)

    (a, b, c), u, v = options.coefficients, u.to(layers[0].dtype), v.to(layers[0].dtype)
    return a * block(x, x, u, u) + b * block(y, y, v, v) - 2 * c * block(x, y, u, v)


def _gram(x: Tensor, y: Tensor, mixture: Mixture) -> Tensor:
    if mixture.name == "linear":
        return linear(x, y)
    kernel = _SPECIFICATION[mixture.name]
    return torch.stack([kernel(x, y, bandwidth=s) for s in mixture.scales]).sum(dim=0)
