"""Block sizes of the fused device code: what fits into registers and shared memory."""

from __future__ import annotations

from typing import NamedTuple

PANEL_BYTES = 256 * 2**20
# Rows of a panel of a symmetric block: below, panels cost more launches than their triangle saves.
PANEL_ROWS = 1024


class Tile(NamedTuple):
    """Block sizes of a kernel.

    Attributes:
        rows: Rows of a tile.
        columns: Columns of a tile.
        step: Step along the width.
        warps: Warps of a program.
        stages: Stages of the pipeline.
    """

    rows: int
    columns: int
    step: int
    warps: int
    stages: int


def fused_tile(width: int, precision: str, *, hopper: bool) -> Tile:
    """Choose the block sizes of `fused_rows`, which spill no register.

    They fit the shared memory: 227 KB on a Hopper GPU, 99 KB on others.

    Args:
        width: Columns of the rows.
        precision: "ieee", "tf32" or "bf16".
        hopper: Whether the GPU has capability 9.
    """
    if precision == "ieee":
        return Tile(64, 32, min(padded(width), 32), 8, 1)
    return Tile(64, 64 if hopper else 32, min(padded(width), 64), 8, 2)


def panel_tile(precision: str, *, hopper: bool) -> Tile:
    """Choose the block sizes of `weight_panel`, within 99 KB of shared memory on every GPU.

    Args:
        precision: "ieee", "tf32" or "bf16".
        hopper: Whether the GPU has capability 9. On others 128 columns spill registers.
    """
    if precision == "ieee":
        return Tile(128, 64, 16, 8, 2)
    return Tile(128, 128 if hopper else 64, 32, 8, 3)


def panel_height(n: int, m: int, element_size: int, *, symmetric: bool) -> int:
    """Choose how many rows of W (n, m) are made at a time, in whole tiles.

    It is what PANEL_BYTES holds; for a symmetric block at most an eighth of the rows, but at least
    PANEL_ROWS.

    Args:
        n: Rows of W.
        m: Columns of W.
        element_size: Bytes of an entry.
        symmetric: Whether both samples are the same.
    """
    height = PANEL_BYTES // (m * element_size)
    if symmetric:
        height = min(height, max(PANEL_ROWS, ceil_divide(n, 8)))
    return max(128, height // 128 * 128)


def padded(width: int) -> int:
    """The power of two, at least 16, that holds `width` columns."""
    return max(16, 1 << (width - 1).bit_length())


def launch_options(tile: Tile) -> dict[str, int]:
    """The block sizes by the names that the kernels give them."""
    return {
        "BLOCK_M": tile.rows,
        "BLOCK_N": tile.columns,
        "BLOCK_K": tile.step,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


def ceil_divide(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)
