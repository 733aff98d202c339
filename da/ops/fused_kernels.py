"""The Triton code of `da.ops.fused`.

With d_ij = ||x_i - y_j||^2, K = sum_k exp(-d / s_k) and M = dK/dd:

    fused_rows     value = sum_ij u_i v_j K_ij and 2 sum_j u_i v_j M_ij (x_i - y_j); nothing of size
                   n m is written; width <= 256
    weight_panel   the same value and W_ij = u_i v_j M_ij, written out for matrix products that
                   follow, or the value alone; any width

All tensors are contiguous. PRECISION names the products: "ieee" float32, "tf32", or "bf16", in
which x and y arrive as bfloat16. The launcher rounds x and y to that precision beforehand and takes
|x|^2 and |y|^2 from the rounded rows. So every product is exact, a point's distance to itself
vanishes, and the result is the kernel sum of the rounded rows. W is rounded before it is multiplied
and summed: rounding M_ij scales a difference x_i - y_j and leaves no residue if the two cancel.

UPCAST: the interpreter multiplies bfloat16 bit patterns as integers, so there the rounded operands
are widened to float32 first. SYMMETRIC: y is x and v is u. A pair below the diagonal counts 0 in
the value, one above it 2; the diagonal distance is exactly 0. Sums over one tile are float32, and
over tiles float64 for the value. Each program writes its own partial result: no atomics.
"""

from __future__ import annotations

import triton
import triton.language as tl

# How the functions below were made, whatever the environment variable says later.
INTERPRETED: bool = triton.knobs.runtime.interpret


@triton.jit
def _rounded(weights, PRECISION: tl.constexpr):
    if PRECISION == "bf16":
        result = weights.to(tl.bfloat16)
    elif PRECISION == "tf32":
        # To the nearest of 10 fraction bits. The tensor core would cut the rest off, a bias to 0.
        result = ((weights.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(
            tl.float32, bitcast=True
        )
    else:
        result = weights
    return result


@triton.jit
def _product(a, b, total, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """total + a b, the sum in float32."""
    if PRECISION == "bf16":
        if UPCAST:
            result = tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="ieee")
        else:
            result = tl.dot(a, b, total)
    else:
        result = tl.dot(a, b, total, input_precision=PRECISION)
    return result


@triton.jit
def _kernel_and_slope(distances, rates, COUNT: tl.constexpr, POWERS: tl.constexpr):
    """K = sum_k exp(r_k d) and M = sum_k r_k exp(r_k d) for rates r_k = -1 / s_k.

    POWERS: r_k = 2^k r_0, so one exp serves all.
    """
    first = tl.load(rates)
    power = tl.exp(distances * first)
    kernel = power
    if POWERS:
        slope = power
        for k in tl.static_range(1, COUNT):
            power = power * power
            kernel = kernel + power
            slope = slope + power * (1 << k)
        slope = slope * first
    else:
        slope = power * first
        # Not unrolled: the compiler would interleave all exponentials and run out of registers.
        for k in range(1, COUNT):
            rate = tl.load(rates + k)
            power = tl.exp(distances * rate)
            kernel = kernel + power
            slope = slope + power * rate
    return kernel, slope


@triton.jit
def _times_seen(rows, columns):
    """How often a pair counts in a symmetric value.

    (i, j) counts for (j, i) as well, and a row with itself counts once.
    """
    on_diagonal = tl.where(columns[None, :] == rows[:, None], 1.0, 0.0)
    return tl.where(columns[None, :] > rows[:, None], 2.0, on_diagonal)


@triton.jit(do_not_specialize=["n", "m", "tiles_per_part"])
def fused_rows(
    x: tl.tensor,
    y: tl.tensor,
    x_squares: tl.tensor,
    y_squares: tl.tensor,
    u: tl.tensor,
    v: tl.tensor,
    rates: tl.tensor,
    values: tl.tensor,
    gradients: tl.tensor,
    n: tl.tensor,
    m: tl.tensor,
    tiles_per_part: tl.tensor,
    WIDTH: tl.constexpr,
    COUNT: tl.constexpr,
    POWERS: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """BLOCK_M rows against one part of the columns: a partial value and a partial gradient.

    The grid is (row tiles, parts). `values` is (row tiles, parts) float64, and `gradients` is
    (parts, n, WIDTH) float32. The parts take tiles of BLOCK_N columns in turn, tiles_per_part each.
    BLOCK_D >= WIDTH is the padded width; the distances take it BLOCK_K at a time.
    """
    tile = tl.program_id(0)
    part = tl.program_id(1)
    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    wide = tl.arange(0, BLOCK_D)
    x_offsets = rows.to(tl.int64)[:, None] * WIDTH
    x_norms = tl.load(x_squares + rows, mask=rows < n, other=0.0)
    if BLOCK_K == BLOCK_D:
        x_tile = tl.load(
            x + x_offsets + wide[None, :],
            mask=(rows < n)[:, None] & (wide < WIDTH)[None, :],
            other=0.0,
        )
    value = tl.full((BLOCK_M,), 0.0, tl.float64)
    slope_sum = tl.full((BLOCK_M,), 0.0, tl.float32)
    weighted = tl.full((BLOCK_M, BLOCK_D), 0.0, tl.float32)  # sum_j v_j M_ij y_j

    for index in range(0, tiles_per_part):
        columns = (index * tl.num_programs(1) + part) * BLOCK_N + tl.arange(0, BLOCK_N)
        y_offsets = columns.to(tl.int64)[:, None] * WIDTH
        inner = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
        if BLOCK_K == BLOCK_D:
            y_tile = tl.load(
                y + y_offsets + wide[None, :],
                mask=(columns < m)[:, None] & (wide < WIDTH)[None, :],
                other=0.0,
            )
            inner = _product(x_tile, tl.trans(y_tile), inner, PRECISION, UPCAST)
        else:
            for k in range(0, WIDTH, BLOCK_K):
                narrow = k + tl.arange(0, BLOCK_K)
                x_part = tl.load(
                    x + x_offsets + narrow[None, :],
                    mask=(rows < n)[:, None] & (narrow < WIDTH)[None, :],
                    other=0.0,
                )
                y_part = tl.load(
                    y + y_offsets + narrow[None, :],
                    mask=(columns < m)[:, None] & (narrow < WIDTH)[None, :],
                    other=0.0,
                )
                inner = _product(x_part, tl.trans(y_part), inner, PRECISION, UPCAST)
        y_norms = tl.load(y_squares + columns, mask=columns < m, other=0.0)
        weights = tl.load(v + columns, mask=columns < m, other=0.0)  # 0 beyond the last column
        distances = tl.maximum(x_norms[:, None] + y_norms[None, :] - 2.0 * inner, 0.0)
        if SYMMETRIC:
            distances = tl.where(rows[:, None] == columns[None, :], 0.0, distances)
        kernel, slope = _kernel_and_slope(distances, rates, COUNT, POWERS)
        kernel = kernel * weights[None, :]
        if SYMMETRIC:
            kernel = kernel * _times_seen(rows, columns)
        value += tl.sum(kernel, axis=1).to(tl.float64)
        # A row does not pull itself. The two products below may be one fused operation, and then
        # they would not cancel.
        if SYMMETRIC:
            slope = tl.where(rows[:, None] == columns[None, :], 0.0, slope)
        slope = _rounded(slope * weights[None, :], PRECISION)
        slope_sum += tl.sum(slope.to(tl.float32), axis=1)
        if BLOCK_K != BLOCK_D:
            y_tile = tl.load(
                y + y_offsets + wide[None, :],
                mask=(columns < m)[:, None] & (wide < WIDTH)[None, :],
                other=0.0,
            )
        weighted = _product(slope, y_tile, weighted, PRECISION, UPCAST)

    row_weights = tl.load(u + rows, mask=rows < n, other=0.0)
    tl.store(
        values + tile * tl.num_programs(1) + part,
        tl.sum(value * row_weights.to(tl.float64), axis=0),
    )
    inside = (rows < n)[:, None] & (wide < WIDTH)[None, :]
    x_rows = tl.load(x + x_offsets + wide[None, :], mask=inside, other=0.0).to(tl.float32)
    result = (2.0 * row_weights)[:, None] * (slope_sum[:, None] * x_rows - weighted)
    tl.store(
        gradients + (part.to(tl.int64) * n + rows)[:, None] * WIDTH + wide[None, :],
        result,
        mask=inside,
    )


# Specialised on m, the stride of the panel: aligned rows are stored in one piece.
@triton.jit(do_not_specialize=["n"])
def weight_panel(
    x: tl.tensor,
    y: tl.tensor,
    x_squares: tl.tensor,
    y_squares: tl.tensor,
    u: tl.tensor,
    v: tl.tensor,
    rates: tl.tensor,
    values: tl.tensor,
    panel: tl.tensor,
    n: tl.tensor,
    m: tl.tensor,
    WIDTH: tl.constexpr,
    COUNT: tl.constexpr,
    POWERS: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    GRADIENT: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """One tile of W (n, m), in the type of `panel`, and a float64 partial value per program.

    Without GRADIENT `panel` is unused. The grid is (tiles,). Tiles go down GROUP rows of tiles
    before the next column of tiles, so that what they share stays in the cache. SYMMETRIC: row i of
    x and row i of y are one point; y may have more rows.
    """
    program = tl.program_id(0)
    row_tiles = tl.cdiv(n, BLOCK_M)
    in_group = GROUP * tl.cdiv(m, BLOCK_N)
    first = program // in_group * GROUP
    height = tl.minimum(row_tiles - first, GROUP)
    row_start = (first + program % in_group % height) * BLOCK_M
    column_start = program % in_group // height * BLOCK_N
    rows = row_start + tl.arange(0, BLOCK_M)
    columns = column_start + tl.arange(0, BLOCK_N)

    if SYMMETRIC and not GRADIENT:
        if column_start + BLOCK_N <= row_start:  # a tile below the diagonal counts 0
            tl.store(values + program, tl.full((), 0.0, tl.float64))
            return
    inner = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    x_offsets = rows.to(tl.int64)[:, None] * WIDTH
    y_offsets = columns.to(tl.int64)[:, None] * WIDTH
    for k in range(0, WIDTH, BLOCK_K):
        wide = k + tl.arange(0, BLOCK_K)
        x_part = tl.load(
            x + x_offsets + wide[None, :],
            mask=(rows < n)[:, None] & (wide < WIDTH)[None, :],
            other=0.0,
        )
        y_part = tl.load(
            y + y_offsets + wide[None, :],
            mask=(columns < m)[:, None] & (wide < WIDTH)[None, :],
            other=0.0,
        )
        inner = _product(x_part, tl.trans(y_part), inner, PRECISION, UPCAST)

    x_norms = tl.load(x_squares + rows, mask=rows < n, other=0.0)
    y_norms = tl.load(y_squares + columns, mask=columns < m, other=0.0)
    row_weights = tl.load(u + rows, mask=rows < n, other=0.0)
    weights = tl.load(v + columns, mask=columns < m, other=0.0)
    distances = tl.maximum(x_norms[:, None] + y_norms[None, :] - 2.0 * inner, 0.0)
    if SYMMETRIC:
        distances = tl.where(rows[:, None] == columns[None, :], 0.0, distances)
    kernel, slope = _kernel_and_slope(distances, rates, COUNT, POWERS)
    kernel = kernel * weights[None, :]
    if SYMMETRIC:
        kernel = kernel * _times_seen(rows, columns)
    value = tl.sum(kernel, axis=1).to(tl.float64) * row_weights.to(tl.float64)
    tl.store(values + program, tl.sum(value, axis=0))
    if GRADIENT:
        if SYMMETRIC:  # a row does not pull itself
            slope = tl.where(rows[:, None] == columns[None, :], 0.0, slope)
        slope = _rounded(slope * weights[None, :] * row_weights[:, None], PRECISION)
        inside = (rows < n)[:, None] & (columns < m)[None, :]
        tl.store(panel + rows.to(tl.int64)[:, None] * m + columns[None, :], slope, mask=inside)
