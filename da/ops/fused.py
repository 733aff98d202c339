"""One block of a kernel discrepancy on a GPU, by the Triton code of `da.ops.fused_kernels`.

    value = sum_ij u_i v_j K_ij        K_ij = sum_k exp(-||x_i - y_j||^2 / s_k)
    d value / d x_i = 2 sum_j W_ij (x_i - y_j)        W_ij = u_i v_j M_ij, M = dK/d||x - y||^2

    width <= 256   fused: neither K nor W is ever written; value and gradient in one kernel, two
                   kernels for the two gradients of an xy block
    beyond         W in row panels of at most 256 MiB, never less than 128 rows, then matrix
                   products by torch
    value alone    tiles of K, summed where they are made

Products follow `torch.get_float32_matmul_precision()`: "highest" float32, "high" tf32, "medium"
bfloat16. The lower two round the rows first, to 10 and 7 fraction bits, and compute the sums of the
rounded rows. All accumulation stays in float32, and W is rounded likewise. So coincident rows keep
the distance 0 up to float32, and the gradient is that of the value returned. There are no atomics:
results repeat bit for bit on one device. Triton is imported when it is first needed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from da.arrays.matrices import full_precision
from da.ops.fused_tiles import (
    ceil_divide,
    fused_tile,
    launch_options,
    padded,
    panel_height,
    panel_tile,
)

# Columns: 64 rows of float32 gradients of this width take 64 registers a thread, which is the most
# that leaves room for the rest.
FUSED_WIDTH = 256
# Squaring k times multiplies the relative error of exp by 2^k. With more scales each has an exp.
SQUARINGS = 6
CAPABILITIES = (8, 9, 12)  # Triton 3.6 cannot compile `weight_panel` for capability 10


def available(device: torch.device | str) -> bool:
    """Whether `fused_block` runs on a device.

    It needs Triton and an NVIDIA GPU of capability 8, 9 or 12. In Triton's interpreter
    (TRITON_INTERPRET=1 before the first use) it runs on any device; only then is Triton imported.
    """
    device = torch.device(device)
    if importlib.util.find_spec("triton") is None:
        return False
    if device.type == "cuda" and torch.version.hip is None:
        return torch.cuda.get_device_capability(device)[0] in CAPABILITIES
    return "TRITON_INTERPRET" in os.environ and _interpreted()


@torch.no_grad()
def fused_block(
    x: Tensor,
    y: Tensor,
    scales: Sequence[float],
    u: Tensor,
    v: Tensor,
    *,
    symmetric: bool,
    gradient: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Compute one block of a kernel discrepancy and its gradients on a GPU.

    Args:
        x: Rows (n, d) float32, centred and checked by the caller: finite, on a device that is
            `available`.
        y: Rows (m, d), likewise, on the same device.
        scales: The kernel's scales s_k > 0, squared lengths. One exponential serves all of them if
            they are consecutive powers of two times the smallest.
        u: Weights (n,) of the rows of x, constants.
        v: Weights (m,) of the rows of y, constants.
        symmetric: Whether y is x and v is u. Then a row has distance exactly 0 from itself, and the
            gradient in x is the total derivative.
        gradient: Whether gradients are wanted. The value alone costs half or less.

    Returns:
        The value, a float64 scalar; its gradient in x (n, d), or None; its gradient in y (m, d), or
        None, also if `symmetric`. Gradients are float32 in new memory.

    Raises:
        ImportError: Triton is not installed.
    """
    on_device = torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
    with full_precision(x), on_device:
        block = _Launcher(x, scales)
        rows = block.rows(x, u)
        columns = rows if symmetric else block.rows(y, v)
        if not gradient:
            return block.panel(rows, columns, symmetric=symmetric).sum(), None, None
        value, gradients = _gradients(block, rows, columns, symmetric=symmetric)
        sides = 2 if symmetric else 1  # each row is on both sides
        unpadded = [g[:, : x.shape[1]] * sides for g in gradients]
        return value, unpadded[0], None if symmetric else unpadded[1]


class _Rows(NamedTuple):
    """Rows rounded to the precision of the products, their squared norms, their weights."""

    points: Tensor  # (n, d)
    squares: Tensor  # (n,)
    weights: Tensor  # (n,)

    def part(self, start: int, stop: int) -> _Rows:
        """The rows start ... stop - 1."""
        return _Rows(*(t[start:stop] for t in self))


class _Launcher:
    """What the launches of one block have in common."""

    def __init__(self, x: Tensor, scales: Sequence[float]) -> None:
        precisions = {"highest": "ieee", "high": "tf32", "medium": "bf16"}
        self.precision = precisions[torch.get_float32_matmul_precision()]
        self.upcast = _interpreted()
        # Columns of zeros change nothing, and aligned rows load in one piece.
        self.width = ceil_divide(x.shape[1], 16) * 16
        ordered = sorted(scales, reverse=True)
        self.rates = torch.tensor([-1 / s for s in ordered], dtype=torch.float32, device=x.device)
        self.constants = {
            "WIDTH": self.width,
            "COUNT": len(ordered),
            "POWERS": are_powers_of_two(ordered),
            "PRECISION": self.precision,
            "UPCAST": self.upcast,
        }
        self.hopper = x.is_cuda and torch.cuda.get_device_capability(x.device)[0] == 9
        self.processors = (
            torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 2
        )

    def rows(self, x: Tensor, weights: Tensor) -> _Rows:
        """Pad and round the rows x (n, d)."""
        x = torch.nn.functional.pad(x, (0, self.width - x.shape[1]))
        points = rounded(x, self.precision).contiguous()
        return _Rows(points, points.float().square().sum(dim=1), weights.float().contiguous())

    def fused(self, x: _Rows, y: _Rows, *, symmetric: bool) -> tuple[Tensor, Tensor]:
        """Compute the value, and its gradient in `x` with `y` fixed."""
        from da.ops.fused_kernels import fused_rows

        n, m = len(x.points), len(y.points)
        tile = fused_tile(self.width, self.precision, hopper=self.hopper)
        row_tiles, column_tiles = ceil_divide(n, tile.rows), ceil_divide(m, tile.columns)
        # Columns are split into parts until there are four programs a processor. A part has two
        # tiles or more.
        tiles = max(2, ceil_divide(column_tiles, ceil_divide(4 * self.processors, row_tiles)))
        parts = ceil_divide(column_tiles, tiles)
        values = x.squares.new_empty(row_tiles, parts, dtype=torch.float64)
        gradients = x.squares.new_empty(parts, n, self.width)
        fused_rows[(row_tiles, parts)](
            x.points,
            y.points,
            x.squares,
            y.squares,
            x.weights,
            y.weights,
            self.rates,
            values,
            gradients,
            n,
            m,
            # The interpreter turns an int into an array, which NumPy 2.4 does not take as a count.
            np.int64(tiles) if self.upcast else tiles,
            **self.constants,
            SYMMETRIC=symmetric,
            **launch_options(tile),
            BLOCK_D=padded(self.width),
        )
        return values.sum(), gradients.sum(dim=0)

    def panel(
        self, x: _Rows, y: _Rows, *, symmetric: bool, weights: Tensor | None = None
    ) -> Tensor:
        """Compute the partial values (programs,), float64, and write W (n, m) into `weights`."""
        from da.ops.fused_kernels import weight_panel

        n, m = len(x.points), len(y.points)
        tile = panel_tile(self.precision, hopper=self.hopper)
        programs = ceil_divide(n, tile.rows) * ceil_divide(m, tile.columns)
        values = x.squares.new_empty(programs, dtype=torch.float64)
        weight_panel[(programs,)](
            x.points,
            y.points,
            x.squares,
            y.squares,
            x.weights,
            y.weights,
            self.rates,
            values,
            x.points if weights is None else weights,
            n,
            m,
            **self.constants,
            SYMMETRIC=symmetric,
            GRADIENT=weights is not None,
            **launch_options(tile),
            GROUP=8,
        )
        return values


def _gradients(
    block: _Launcher, x: _Rows, y: _Rows, *, symmetric: bool
) -> tuple[Tensor, list[Tensor]]:
    """The value, its gradient in x with y fixed and, unless `symmetric`, in y with x fixed."""
    if block.width > FUSED_WIDTH:
        return _by_panels(block, x, y, symmetric=symmetric)
    value, first = block.fused(x, y, symmetric=symmetric)
    return value, [first] if symmetric else [first, block.fused(y, x, symmetric=False)[1]]


def _by_panels(
    block: _Launcher, x: _Rows, y: _Rows, *, symmetric: bool
) -> tuple[Tensor, list[Tensor]]:
    """`_gradients` from W, panel by panel.

    A symmetric W is made from its diagonal rightwards only, because the rest is its transpose.
    """
    n, m = len(x.points), len(y.points)
    value = x.squares.new_zeros((), dtype=torch.float64)
    first = x.squares.new_zeros(n, block.width)
    second = first if symmetric else y.squares.new_zeros(m, block.width)
    height = panel_height(n, m, x.points.element_size(), symmetric=symmetric)
    for start in range(0, n, height):
        rows = x.part(start, start + height)
        columns = y.part(start, m) if symmetric else y
        weights = x.points.new_empty(len(rows.points), len(columns.points))  # (rows, columns)
        value += block.panel(rows, columns, symmetric=symmetric, weights=weights).sum()
        _add_pull(first[start : start + height], weights, rows.points, columns.points)
        # The square on the diagonal has both of each pair already.
        beyond = len(rows.points) if symmetric else 0
        others = columns.points[beyond:]
        _add_pull(second[m - len(others) :], weights[:, beyond:].T, others, rows.points)
    return value, [first] if symmetric else [first, second]


def _add_pull(total: Tensor, weights: Tensor, x: Tensor, y: Tensor) -> None:
    """total (n, d) += 2 (W 1 x - W y) with W (n, m); sums and products in float32."""
    if not len(x):
        return
    total.addcmul_(weights.sum(dim=1, dtype=torch.float32)[:, None], x.float(), value=2)
    total.sub_(_matmul(weights, y), alpha=2)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """a b in float32, for bfloat16 factors too: a plain product would round to bfloat16."""
    if a.dtype == torch.bfloat16 and a.is_cuda:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


def rounded(x: Tensor, precision: str) -> Tensor:
    """Round to the nearest number of a precision.

    Args:
        x: float32.
        precision: "ieee", "tf32" (10 fraction bits) or "bf16" (7 fraction bits).

    Returns:
        `x` itself for "ieee", float32 for "tf32", bfloat16 for "bf16".
    """
    if precision == "bf16":
        return x.bfloat16()
    if precision == "tf32":
        return ((x.contiguous().view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)
    return x


def are_powers_of_two(scales: Sequence[float]) -> bool:
    """Whether `scales`, largest first, are s, s/2, s/4, ..., and few enough for squaring."""
    halves = (math.isclose(scales[0], s * 2**k, rel_tol=1e-9) for k, s in enumerate(scales))
    return len(scales) <= SQUARINGS and all(halves)


def _interpreted() -> bool:
    """Whether the kernels run in Triton's interpreter; that is fixed when they are imported."""
    try:
        from da.ops.fused_kernels import INTERPRETED
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ImportError(
            "da.ops.fused needs the package triton, which is not installed: "
            "pip install triton (Linux)"
        ) from error
    return INTERPRETED
