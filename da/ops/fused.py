"""One block of a kernel discrepancy on a GPU, by the Triton code of `da.ops.fused_kernels`, which is imported when first needed.

    value = sum_ij u_i v_j K_ij        K_ij = sum_k exp(-||x_i - y_j||^2 / s_k)        M = dK/d||x - y||^2
    d value / d x_i = 2 sum_j W_ij (x_i - y_j)        W_ij = u_i v_j M_ij

    width <= 256   fused: neither K nor W is ever written; value and gradient in one kernel (two for the two gradients of an xy block)
    beyond         W in row panels of at most 256 MiB (never less than 128 rows), then matrix products by torch
    value alone    tiles of K, summed where they are made

Products follow `torch.get_float32_matmul_precision()`: "highest" float32, "high" tf32, "medium" bfloat16. The lower two round the
rows first (to 10 and 7 fraction bits) and compute the sums of the rounded rows, all accumulation staying in float32; W is
rounded likewise. So coincident rows keep the distance 0 up to float32, and the gradient is that of the value returned.
Results repeat bit for bit on one device: no atomics.
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

from da.arrays import full_precision

FUSED_WIDTH = 256  # columns: 64 rows of float32 gradients of this width are 64 registers a thread, the most that leaves room for the rest
PANEL_BYTES = 256 * 2**20
PANEL_ROWS = (
    1024  # of a symmetric block: below this, panels cost more launches than their triangle saves
)
SQUARINGS = 6  # squaring k times multiplies the relative error of exp by 2^k; with more scales than this, one exp each
CAPABILITIES = (8, 9, 12)  # Triton 3.6 cannot compile `weight_panel` for capability 10


class Tile(NamedTuple):
    """Block sizes of a kernel: rows and columns of a tile, the step along the width, warps, pipeline stages."""

    rows: int
    columns: int
    step: int
    warps: int
    stages: int


def available(device: torch.device | str) -> bool:
    """Whether `fused_block` runs on `device`: Triton is installed, and the device is an NVIDIA GPU of capability 8, 9 or 12.

    Any device will do where Triton's interpreter is switched on (TRITON_INTERPRET=1 before the first use). Imports Triton only then.
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
    """The value, a float64 scalar, and its gradients in x (n, d) and y (m, d), float32, new memory; None where not wanted.

    Args:
        x, y: float32, centred and checked by the caller: finite, on one device for which `available`.
        scales: s_k > 0, squared lengths; one exponential serves all where they are consecutive powers of two times the smallest.
        u, v: weights (n,) and (m,), constants.
        symmetric: y is x and v is u. A row has distance exactly 0 from itself; the gradient in x is the total derivative, that in y None.
        gradient: whether gradients are wanted; the value alone costs half or less.

    Raises:
        ImportError: Triton is not installed.
    """
    with full_precision(x), torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext():
        block = _Launcher(x, scales)
        rows = block.rows(x, u)
        columns = rows if symmetric else block.rows(y, v)
        if not gradient:
            return block.panel(rows, columns, symmetric=symmetric).sum(), None, None
        value, gradients = _gradients(block, rows, columns, symmetric=symmetric)
        sides = 2 if symmetric else 1  # each row stands on both
        first, *rest = (g[:, : x.shape[1]] * sides for g in gradients)
        return value, first, rest[0] if rest else None


class _Rows(NamedTuple):
    """Rows rounded to the precision of the products, their squared norms, their weights."""

    points: Tensor  # (n, d)
    squares: Tensor  # (n,)
    weights: Tensor  # (n,)

    def part(self, start: int, stop: int) -> _Rows:
        return _Rows(*(t[start:stop] for t in self))


class _Launcher:
    """What the launches of one block share."""

    def __init__(self, x: Tensor, scales: Sequence[float]) -> None:
        self.precision = {"highest": "ieee", "high": "tf32", "medium": "bf16"}[
            torch.get_float32_matmul_precision()
        ]
        self.upcast = _interpreted()
        self.width = (
            _ceil(x.shape[1], 16) * 16
        )  # columns of zeros change nothing, and aligned rows load in one piece
        ordered = sorted(scales, reverse=True)
        self.rates = torch.tensor([-1 / s for s in ordered], dtype=torch.float32, device=x.device)
        self.constants = {
            "WIDTH": self.width, "COUNT": len(ordered), "POWERS": are_powers_of_two(ordered),
            "PRECISION": self.precision, "UPCAST": self.upcast,
        }  # fmt: skip
        self.hopper = x.is_cuda and torch.cuda.get_device_capability(x.device)[0] == 9
        self.processors = (
            torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 2
        )

    def rows(self, x: Tensor, weights: Tensor) -> _Rows:
        x = torch.nn.functional.pad(x, (0, self.width - x.shape[1]))
        points = rounded(x, self.precision).contiguous()
        return _Rows(points, points.float().square().sum(dim=1), weights.float().contiguous())

    def fused(self, x: _Rows, y: _Rows, *, symmetric: bool) -> tuple[Tensor, Tensor]:
        """The value, and its gradient in `x` with `y` fixed."""
        from da.ops.fused_kernels import fused_rows

        n, m = len(x.points), len(y.points)
        tile = fused_tile(self.width, self.precision, hopper=self.hopper)
        row_tiles, column_tiles = _ceil(n, tile.rows), _ceil(m, tile.columns)
        # Columns are split until there are four programs a processor, or every part is down to two tiles.
        tiles = max(2, _ceil(column_tiles, _ceil(4 * self.processors, row_tiles)))
        parts = _ceil(column_tiles, tiles)
        values = x.squares.new_empty(row_tiles, parts, dtype=torch.float64)
        gradients = x.squares.new_empty(parts, n, self.width)
        fused_rows[(row_tiles, parts)](
            x.points, y.points, x.squares, y.squares, x.weights, y.weights, self.rates, values, gradients, n, m,
            np.int64(tiles) if self.upcast else tiles,  # the interpreter turns an int into an array, which NumPy 2.4 does not count with
            **self.constants, SYMMETRIC=symmetric, **_blocks(tile), BLOCK_D=padded(self.width),
        )  # fmt: skip
        return values.sum(), gradients.sum(dim=0)

    def panel(
        self, x: _Rows, y: _Rows, *, symmetric: bool, weights: Tensor | None = None
    ) -> Tensor:
        """The partial values (programs,), float64; W (n, m) goes into `weights` if given."""
        from da.ops.fused_kernels import weight_panel

        n, m = len(x.points), len(y.points)
        tile = panel_tile(self.precision, hopper=self.hopper)
        values = x.squares.new_empty(
            _ceil(n, tile.rows) * _ceil(m, tile.columns), dtype=torch.float64
        )
        weight_panel[(len(values),)](
            x.points, y.points, x.squares, y.squares, x.weights, y.weights, self.rates, values,
            x.points if weights is None else weights, n, m,
            **self.constants, SYMMETRIC=symmetric, GRADIENT=weights is not None, **_blocks(tile), GROUP=8,
        )  # fmt: skip
        return values


def _gradients(
    block: _Launcher, x: _Rows, y: _Rows, *, symmetric: bool
) -> tuple[Tensor, list[Tensor]]:
    """The value, and its gradients in x with y fixed and, unless `symmetric`, in y with x fixed."""
    if block.width > FUSED_WIDTH:
        return _by_panels(block, x, y, symmetric=symmetric)
    value, first = block.fused(x, y, symmetric=symmetric)
    return value, [first] if symmetric else [first, block.fused(y, x, symmetric=False)[1]]


def _by_panels(
    block: _Launcher, x: _Rows, y: _Rows, *, symmetric: bool
) -> tuple[Tensor, list[Tensor]]:
    """`_gradients` from W, panel by panel. A symmetric W is made from its diagonal rightwards only: the rest is its transpose."""
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
        beyond = (
            len(rows.points) if symmetric else 0
        )  # the square on the diagonal has both of each pair already
        _add_pull(
            second[m - len(columns.points) + beyond :],
            weights[:, beyond:].T,
            columns.points[beyond:],
            rows.points,
        )
    return value, [first] if symmetric else [first, second]


def _add_pull(total: Tensor, weights: Tensor, x: Tensor, y: Tensor) -> None:
    """total (n, d) += 2 (W 1 x - W y), W (n, m); sums and products in float32."""
    if not len(x):
        return
    total.addcmul_(weights.sum(dim=1, dtype=torch.float32)[:, None], x.float(), value=2)
    total.sub_(_matmul(weights, y), alpha=2)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """a b in float32; of bfloat16 factors too, which a plain product would round back to bfloat16."""
    if a.dtype == torch.bfloat16 and a.is_cuda:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


def rounded(x: Tensor, precision: str) -> Tensor:
    """`x`, float32, to the nearest of `precision`: "ieee" as it is, "tf32" (10 fraction bits) kept in float32, "bf16" as bfloat16."""
    if precision == "bf16":
        return x.bfloat16()
    if precision == "tf32":
        return ((x.contiguous().view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)
    return x


def are_powers_of_two(scales: Sequence[float]) -> bool:
    """Whether `scales`, largest first, are s, s/2, s/4, ..., few enough that squaring loses nothing that matters."""
    halves = (math.isclose(scales[0], s * 2**k, rel_tol=1e-9) for k, s in enumerate(scales))
    return len(scales) <= SQUARINGS and all(halves)


def padded(width: int) -> int:
    """The power of two, at least 16, that holds `width` columns."""
    return max(16, 1 << (width - 1).bit_length())


def fused_tile(width: int, precision: str, *, hopper: bool) -> Tile:
    """Block sizes of `fused_rows` that spill no register and fit the shared memory: 227 KB with `hopper`, else 99 KB."""
    if precision == "ieee":
        return Tile(64, 32, min(padded(width), 32), 8, 1)
    return Tile(64, 64 if hopper else 32, min(padded(width), 64), 8, 2)


def panel_tile(precision: str, *, hopper: bool) -> Tile:
    """Block sizes of `weight_panel`, within 99 KB of shared memory everywhere; without `hopper` 128 columns spill."""
    return (
        Tile(128, 64, 16, 8, 2)
        if precision == "ieee"
        else Tile(128, 128 if hopper else 64, 32, 8, 3)
    )


def panel_height(n: int, m: int, element_size: int, *, symmetric: bool) -> int:
    """Rows of W (n, m) at a time: what PANEL_BYTES holds, of a symmetric block an eighth, in whole tiles."""
    height = PANEL_BYTES // (m * element_size)
    if symmetric:
        height = min(height, max(PANEL_ROWS, _ceil(n, 8)))
    return max(128, height // 128 * 128)


def _blocks(tile: Tile) -> dict[str, int]:
    return {
        "BLOCK_M": tile.rows, "BLOCK_N": tile.columns, "BLOCK_K": tile.step, "num_warps": tile.warps, "num_stages": tile.stages,
    }  # fmt: skip


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _interpreted() -> bool:
    """Whether the kernels run in Triton's interpreter, which is settled when they are imported."""
    try:
        from da.ops.fused_kernels import INTERPRETED
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ImportError(
            "da.ops.fused needs the package triton, which is not installed: pip install triton (Linux)"
        ) from error
    return INTERPRETED
