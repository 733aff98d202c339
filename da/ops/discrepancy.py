"""The kernel discrepancy of two weighted samples and its gradient, by one of three back-ends.

    D = a S(x, x) + b S(y, y) - 2 c S(x, y)
    S(x, y) = sum_ij <u_i, v_j> prod_l k_l(x^l_i, y^l_j)

    gram     each block at once: closed-form gradient, memory O(n m) while it runs
    stream   each block in tiles: value and gradient in one pass, memory O((n + m) d)
    triton   CUDA only: as stream, fused on the device; one Gaussian layer in float32, one column
             of weights

All of them compute the gradient with the value and keep only the gradient. A second derivative goes
through `specification.py`, with autograd. Autocast is off inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import narrowed
from da.arrays.matrices import full_precision
from da.arrays.stacking import stacking
from da.ops.discrepancy_sums import Options, discrepancy_sums, pool
from da.ops.many import discrepancy_of_many
from da.ops.mixture import Mixture
from da.ops.specification import discrepancy_by_specification

Backend = Literal["auto", "gram", "stream", "triton"]
SMALL = 256  # rows in all: below, one Gram matrix is faster than its tiles on a CPU
# Rows in all: below, a GPU waits for the launches of a step, and one Gram matrix has the fewest.
GPU_SMALL = 4096


@checked
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
    """Compute the weighted kernel sums behind an MMD and their gradient, fast, in little memory.

    `da.feature.mmd2` and its relatives are this with checked input. Call it directly for a
    discrepancy of your own with other weights or coefficients.

        a S(x, x) + b S(y, y) - 2 c S(x, y)
        S(x, y) = sum_ij <u_i, v_j> prod_l k_l(x^l_i, y^l_j)        l runs over the layers

    Args:
        x: Layers (n, d_l) of the first sample, finite, all float32 or all float64, on one device.
        y: Layers (m, d_l) of the second sample, likewise.
        mixtures: One kernel a layer; the layers' kernels are multiplied.
        u: Weights (n, c) of the rows of x, constants. None, together with `v`: each weight is 1.
        v: Weights (m, c) of the rows of y, constants.
        coefficients: a, b and c. Default 1 each.
        backend: "gram", "stream", "triton" or "auto" (default). "auto" takes gram for few rows and
            stream for more. It takes triton on a CUDA device if products may be rounded to tf32 or
            bfloat16. In float32 the tiles' products by the vendor's library are faster (measured on
            an H200, at 1,024 to 16,384 rows a sample).
        pooled: `da.ops.discrepancy_sums.pool(x, y, kernel)` of each layer, if the caller has them
            already. Default None.

    Returns:
        D, a scalar in float64, on the CPU if the device has none; twice differentiable in all
        layers.

    Raises:
        ValueError: There is no such back-end, or "triton" cannot compute this; the message says
            why.

    Example:
        >>> import torch
        >>> from da.ops import Mixture, kernel_discrepancy
        >>> x, y = torch.tensor([[0.0]]), torch.tensor([[1.0]])
        >>> value = kernel_discrepancy([x], [y], [Mixture("gaussian", (1.0,))], None, None)
        >>> round(value.item(), 4)  # 1 + 1 - 2 exp(-1)
        1.2642
    """
    if stacking():
        gaussian = all(mixture.name == "gaussian" for mixture in mixtures)
        compute_many = discrepancy_of_many if gaussian else discrepancy_by_specification
        with full_precision(x[0]):
            return compute_many(x, y, mixtures, u, v, coefficients)
    compute = _kernel_discrepancy
    if torch.compiler.is_compiling():
        # It stays out of the graph. As a decorator, `disable` would import the compiler at once,
        # which takes as long as PyTorch itself.
        compute = torch.compiler.disable(_kernel_discrepancy)
    return compute(x, y, mixtures, u, v, coefficients, backend, pooled)


def _kernel_discrepancy(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    mixtures: Sequence[Mixture],
    u: Tensor | None,
    v: Tensor | None,
    coefficients: tuple[float, float, float],
    backend: Backend,
    pooled: Sequence[Tensor] | None,
) -> Tensor:
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (*x, *y))
    chosen = choose_backend(backend, x[0], len(x[0]) + len(y[0]), mixtures, u)
    options = Options(tuple(mixtures), coefficients, chosen, wanted)
    with full_precision(x[0]):
        pooled = pooled or [pool(a, b, k.name) for a, b, k in zip(x, y, mixtures, strict=True)]
        try:
            return _Discrepancy.apply(options, pooled, u, v, *x, *y)
        except torch.OutOfMemoryError as error:
            if chosen != "gram":
                raise
            rows, columns = len(x[0]), len(y[0])
            raise torch.OutOfMemoryError(
                f"{error} Backend 'gram' holds all distances of {rows:,} and {columns:,} rows; "
                "backend 'stream' needs tiles of them alone"
            ) from error


def choose_backend(
    backend: Backend, x: Tensor, rows: int, mixtures: Sequence[Mixture], u: Tensor | None
) -> str:
    """Decide which back-end runs: the one asked for if it can, or what "auto" means here.

    Args:
        backend: What was asked for.
        x: Rows of the first layer, for device and dtype.
        rows: Number of rows in both samples.
        mixtures: The kernels.
        u: Weights (n, c), or None.

    Returns:
        "gram", "stream" or "triton".

    Raises:
        ValueError: There is no such back-end, or "triton" was asked for and cannot compute this.
    """
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
    """Why the fused device code cannot compute this; "" if it can."""
    if len(mixtures) > 1 or mixtures[0].name != "gaussian" or (u is not None and u.shape[1] > 1):
        return "it has one layer, Gaussian kernels and one weight a row"
    if x.dtype != torch.float32:
        return f"it computes in float32; got {x.dtype}"
    from da.ops.fused import available  # Triton is for GPUs and looked for only if it is wanted

    if available(x.device):
        return ""
    needs = "the package triton and a CUDA device of capability 8, 9 or 12"
    return f"it needs {needs}; got {x.device}"


class _Discrepancy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        options: Options,
        pooled: Sequence[Tensor],
        u: Tensor | None,
        v: Tensor | None,
        *layers: Tensor,
    ) -> Tensor:
        x, y = _halves(layers)
        value, gradients = discrepancy_sums(x, y, u, v, pooled, options)
        if options.gradient:
            ctx.save_for_backward(u, v, *layers, *gradients)
            ctx.options = options
        return value

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        u, v, *saved = ctx.saved_tensors
        layers, gradients = _halves(saved)
        not_layers = (None, None, None, None)  # options, pooled, u and v have no gradient
        if not torch.is_grad_enabled():
            return *not_layers, *(g * narrowed(upstream[0], g) for g in gradients)
        # create_graph=True: somebody will differentiate the gradient.
        x, y = _halves(layers)
        options: Options = ctx.options
        with full_precision(layers[0]):
            value = discrepancy_by_specification(x, y, options.mixtures, u, v, options.coefficients)
        wanted = [z for z in layers if z.requires_grad]
        found = iter(torch.autograd.grad(value, wanted, upstream[0], create_graph=True))
        return *not_layers, *(next(found) if z.requires_grad else None for z in layers)


def _halves(tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The first half of a sequence, and the second."""
    middle = len(tensors) // 2
    return tensors[:middle], tensors[middle:]
