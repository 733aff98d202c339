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
from da.kernels.distances import centred
from da.kernels.functions import gaussian, linear, polynomial, rational_quadratic
from da.ops.blocks import Pair, Sample, Sums, gram_sums, kernel_sums
from da.ops.mixture import KernelName, Mixture, of_distance

Backend = Literal["auto", "gram", "stream", "triton"]
COARSE = 1e-4  # the largest error of a kernel that float32 distances may make
SMALL = 256  # rows in all: below, one Gram matrix is faster than its tiles on a CPU
GPU_SMALL = 4096  # rows in all: up to here a GPU waits for the launches of a step, of which one Gram matrix has the fewest
CPU_TILE, GPU_TILE = (
    512,
    4096,
)  # rows: one megabyte, of which a core's cache holds some; 64 MB, which fills a GPU

_SPECIFICATION: dict[str, Callable[..., Tensor]] = {
    "gaussian": gaussian, "rational_quadratic": rational_quadratic, "polynomial": polynomial,
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
    u: Tensor | None,
    v: Tensor | None,
    *,
    coefficients: tuple[float, float, float] = (1.0, 1.0, 1.0),
    backend: Backend = "auto",
    pooled: Sequence[Tensor] | None = None,
) -> Tensor:
    """D as above: a float64 scalar, twice differentiable in all layers.

    Args:
        x, y: layers (n, d_l) and (m, d_l), checked, all float32 or all float64, on one device.
        mixtures: one kernel a layer; the layers' kernels are multiplied.
        u, v: weights (n, c) and (m, c), constants; both None: each weight is 1.
        coefficients: a, b and c.
        backend: "auto" takes gram for few rows, else stream; triton on a CUDA device where products may be rounded to tf32 or bfloat16
            (in float32 the tiles' products by the vendor's library are faster: measured on an H200, at 1,024 to 16,384 rows a sample).
        pooled: `pool(x, y)` of each layer, if the caller has them already.

    Raises:
        ValueError: an unknown back-end, or "triton" for what it cannot do; the message says what that is.
    """
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (*x, *y))
    options = _Options(
        tuple(mixtures),
        coefficients,
        choose_backend(backend, x[0], len(x[0]) + len(y[0]), mixtures, u),
        wanted,
    )
    with full_precision(x[0]):
        pooled = pooled or [pool(a, b, k.name) for a, b, k in zip(x, y, mixtures, strict=True)]
        return _Discrepancy.apply(options, pooled, u, v, *x, *y)


def pool(x: Tensor, y: Tensor, kernel: KernelName) -> Tensor:
    """The rows of x (n, d) and y (m, d) together, (n + m, d), without gradient, less their mean where the kernel allows it."""
    x, y = x.detach(), y.detach()
    if not of_distance(kernel):
        return torch.cat([x, y])
    with full_precision(x):
        rows = x.new_empty(len(x) + len(y), x.shape[1])
        for part, z in (
            (x, rows[: len(x)]),
            (y, rows[len(x) :]),
        ):  # the first row goes first, as in `da.kernels.centred`
            torch.sub(part, x[0], out=z)
        return rows.sub_(rows.mean(dim=0))


def choose_backend(
    backend: Backend, x: Tensor, rows: int, mixtures: Sequence[Mixture], u: Tensor | None
) -> str:
    """The back-end that runs: what was asked for, which must be able to, or what "auto" means here."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}; got {backend!r}")
    if backend in ("gram", "stream"):
        return backend
    if backend == "auto" and (
        not x.is_cuda or rows <= GPU_SMALL or torch.get_float32_matmul_precision() == "highest"
    ):
        return "gram" if rows <= (GPU_SMALL if x.is_cuda else SMALL) else "stream"
    obstacle = _obstacle_to_triton(x, mixtures, u)
    if backend == "triton" and obstacle:
        raise ValueError(f"backend 'triton' cannot compute this: {obstacle}; use 'auto'")
    return "stream" if obstacle else "triton"


def _obstacle_to_triton(x: Tensor, mixtures: Sequence[Mixture], u: Tensor | None) -> str:
    if len(mixtures) > 1 or mixtures[0].name != "gaussian" or (u is not None and u.shape[1] > 1):
        return "it has one layer, Gaussian kernels and one weight a row"
    if x.dtype != torch.float32:
        return f"it computes in float32; got {x.dtype}"
    from da.ops.fused import (
        available,
    )  # Triton is a package for GPUs, looked for only when it is wanted

    return (
        ""
        if available(x.device)
        else f"it needs the package triton and a CUDA device of capability 8, 9 or 12; got {x.device}"
    )


class _Discrepancy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        options: _Options,
        pooled: Sequence[Tensor],
        u: Tensor | None,
        v: Tensor | None,
        *layers: Tensor,
    ) -> Tensor:
        value, gradients = _sums(options, pooled, layers, u, v)
        if options.gradient:
            ctx.save_for_backward(u, v, *layers, *gradients)
            ctx.options = options
        return value

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        u, v, *saved = ctx.saved_tensors
        layers, gradients = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        if torch.is_grad_enabled():  # create_graph=True: somebody will differentiate the gradient
            with full_precision(layers[0]):
                value = _by_specification(layers, ctx.options, u, v)
            wanted = [z for z in layers if z.requires_grad]
            found = iter(torch.autograd.grad(value, wanted, upstream[0], create_graph=True))
            return (
                None,
                None,
                None,
                None,
                *(next(found) if z.requires_grad else None for z in layers),
            )
        return None, None, None, None, *(g * upstream[0].to(g.dtype) for g in gradients)


def _sums(
    options: _Options,
    pooled: Sequence[Tensor],
    layers: Sequence[Tensor],
    u: Tensor | None,
    v: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:
    """D and its gradients in x's layers, then y's.

    Where all rows lie close together, as seen from the kernels' scales, they are centred once. Where they do not, each block is centred
    on its own rows, and computed in float64 where even that leaves float32 too coarse.
    """
    x, y = layers[: len(layers) // 2], layers[len(layers) // 2 :]
    (a, b, c), n, everything = (
        options.coefficients,
        len(x[0]),
        Sample.of(pooled, None if u is None or v is None else torch.cat([u, v])),
    )
    samples = [everything.rows(0, n), everything.rows(n, len(everything))]
    together = _coarseness([everything], options.mixtures) < COARSE / 10
    if together and options.backend == "gram":
        sums = gram_sums(
            everything.to(x[0].dtype), n, (a, b, -c), options.mixtures, gradient=options.gradient
        )
        gradients = sums.gradients[0] if options.gradient else []
        return sums.value, [*(g[:n] for g in gradients), *(g[n:] for g in gradients)]
    if together:
        sums = _block(samples, [Pair(0, 0, a), Pair(1, 1, b), Pair(0, 1, -2 * c)], options)
        return sums.value, [g for gradients in sums.gradients for g in gradients]
    first = _block([_apart(x, u, options)], [Pair(0, 0, a)], options)
    second = _block([_apart(y, v, options)], [Pair(0, 0, b)], options)
    if (
        _coarseness([everything], options.mixtures) > COARSE
    ):  # centred in float64 too: float32 would round far rows
        doubles = [
            pool(s.double(), t.double(), k.name)
            for s, t, k in zip(x, y, options.mixtures, strict=True)
        ]
        everything = Sample.of(
            doubles, None if everything.weights is None else everything.weights.double()
        )
        samples = [everything.rows(0, n), everything.rows(n, len(everything))]
    cross = _block(samples, [Pair(0, 1, -2 * c)], options)
    dtype, pairs = (
        x[0].dtype,
        zip((*first.gradients, *second.gradients), cross.gradients, strict=True),
    )
    return first.value + second.value + cross.value, [
        (g + h).to(dtype) for gs, hs in pairs for g, h in zip(gs, hs, strict=True)
    ]


def _apart(layers: Sequence[Tensor], weights: Tensor | None, options: _Options) -> Sample:
    """One sample, centred on its own rows; in float64 where float32 is too coarse even so."""

    def centre(layers: Sequence[Tensor]) -> list[Tensor]:
        return [
            centred(z) if of_distance(k.name) else z
            for z, k in zip(layers, options.mixtures, strict=True)
        ]

    sample = Sample.of(centre(layers), weights)
    return (
        sample
        if _coarseness([sample], options.mixtures) <= COARSE
        else Sample.of(centre([z.double() for z in layers]), weights)
    )


def _block(samples: Sequence[Sample], pairs: Sequence[Pair], options: _Options) -> Sums:
    """`pairs` by the back-end, in the precision that the samples have."""
    rows = samples[0].layers[0]
    if options.backend == "triton" and rows.dtype == torch.float32:
        return _by_triton(samples, pairs, options)
    tile = GPU_TILE if rows.is_cuda else CPU_TILE
    size = max(len(s) for s in samples) if options.backend == "gram" else tile
    samples = [s.to(rows.dtype) for s in samples]
    return kernel_sums(samples, pairs, options.mixtures, gradient=options.gradient, size=size)


def _by_triton(samples: Sequence[Sample], pairs: Sequence[Pair], options: _Options) -> Sums:
    from da.ops.fused import fused_block

    rows, scales = [s.layers[0] for s in samples], options.mixtures[0].scales
    weights = [
        z.new_ones(len(z)) if s.weights is None else s.weights[:, 0]
        for z, s in zip(rows, samples, strict=True)
    ]
    total = rows[0].new_zeros((), dtype=torch.float64)
    gradients = [torch.zeros_like(z) for z in rows] if options.gradient else []
    for i, j, factor in pairs:
        value, first, second = fused_block(
            rows[i], rows[j], scales, weights[i], weights[j], symmetric=i == j, gradient=options.gradient
        )  # fmt: skip
        total += factor * value
        for side, gradient in ((i, first), (j, second)):
            if gradient is not None:
                gradients[side].add_(gradient, alpha=factor)
    return Sums(total, [[g] for g in gradients])


def _coarseness(samples: Sequence[Sample], mixtures: Sequence[Mixture]) -> float:
    """How far float32 may move a kernel: a squared distance's error, 4 eps max|z|^2, over the narrowest scale. Far rows make it large."""
    largest = 0.0
    for sample in samples:
        for squares, mixture in zip(sample.squares, mixtures, strict=True):
            # The Laplacian's distances are made by differences, and the linear kernel has none.
            if squares.dtype == torch.float32 and mixture.name not in ("laplacian", "linear"):
                largest = max(largest, float(squares.max()) / min(mixture.scales))
    return 4 * torch.finfo(torch.float32).eps * largest


def _by_specification(
    layers: Sequence[Tensor], options: _Options, u: Tensor | None, v: Tensor | None
) -> Tensor:
    """D by the kernels of `da.kernels` and autograd, O((n + m)^2) memory."""
    x, y = layers[: len(layers) // 2], layers[len(layers) // 2 :]
    first = x[0].new_ones(len(x[0]), 1) if u is None else u.to(x[0].dtype)
    second = y[0].new_ones(len(y[0]), 1) if v is None else v.to(y[0].dtype)

    def block(x: Sequence[Tensor], y: Sequence[Tensor], u: Tensor, v: Tensor) -> Tensor:
        product = u @ v.T
        for a, b, mixture in zip(x, y, options.mixtures, strict=True):
            product = product * _gram(a, b, mixture)
        return product.sum(dtype=torch.float64)

    a, b, c = options.coefficients
    return (
        a * block(x, x, first, first)
        + b * block(y, y, second, second)
        - 2 * c * block(x, y, first, second)
    )


def _gram(x: Tensor, y: Tensor, mixture: Mixture) -> Tensor:
    if mixture.name == "linear":
        return linear(x, y)
    if (
        mixture.name == "laplacian"
    ):  # `da.kernels` has it by torch.cdist, whose gradient torch cannot differentiate
        distances = (x[:, None] - y).abs().sum(dim=2)
        return torch.stack([torch.exp(-distances / s) for s in mixture.scales]).sum(dim=0)
    kernel = _SPECIFICATION[mixture.name]
    return torch.stack([kernel(x, y, bandwidth=s) for s in mixture.scales]).sum(dim=0)
