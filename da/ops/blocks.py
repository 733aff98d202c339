"""One block of a kernel discrepancy, the pairs of two sets of rows, and its gradient, in tiles.

    S = sum_ij <u_i, v_j> prod_l k_l(x^l_i, y^l_j)                     l over the layers, u_i and v_j weights of one or more columns

    dS/dx^l_i = sum_j W_ij dt/dx^l_i,    W = <u_i, v_j> M_l prod_{r != l} K_r            (M_l, t: see `da.ops.mixture`)

Nothing of the size of the block is kept: a tile is made, used for the value and for both sides' gradients, and overwritten.
Of a symmetric block only the tiles on and above the diagonal are made. One tile for the whole block is the Gram matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from da.kernels import centred
from da.ops.mixture import Mixture, add_gradient, tile

UNRELIABLE = 1e-4


class Block(NamedTuple):
    """S, a float64 scalar, and its gradients, lists over layers; a symmetric block's are all in `x`. Empty where none were asked for."""

    value: Tensor
    x: list[Tensor]  # each (n, d_l)
    y: list[Tensor]  # each (m, d_l)


def block_sum(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    mixtures: Sequence[Mixture],
    u: Tensor,
    v: Tensor,
    *,
    symmetric: bool,
    gradient: bool,
    size: int,
) -> Block:
    """S for layers x (n, d_l) and y (m, d_l), weights u (n, c) and v (m, c), in tiles of `size` x `size` rows.

    symmetric: y is x and v is u; diagonal entries are exact, and the gradient is the whole one. Computed in float64 where
    float32 would not do.
    """
    dtype = x[0].dtype
    x, y = centred_block(x, y, mixtures, symmetric)
    if float32_fails(x, y, mixtures):
        x = [a.double() for a in x]
        y = x if symmetric else [b.double() for b in y]
    block = _tiled(x, y, mixtures, u.to(x[0].dtype), v.to(x[0].dtype), symmetric, gradient, size)
    return Block(block.value, [g.to(dtype) for g in block.x], [g.to(dtype) for g in block.y])


def centred_block(
    x: Sequence[Tensor], y: Sequence[Tensor], mixtures: Sequence[Mixture], symmetric: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Each layer less the mean of the block's rows, where the kernel is of distances: so |x|^2 + |y|^2 - 2 <x, y> cancels little."""
    if symmetric:
        z = [centred(a) if k.of_distance else a for a, k in zip(x, mixtures, strict=True)]
        return z, z
    pairs = [_centred_pair(a, b) if k.of_distance else (a, b) for a, b, k in zip(x, y, mixtures, strict=True)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _centred_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = x - x[0], y - x[0]
    mean = (x.sum(dim=0) + y.sum(dim=0)) / (len(x) + len(y))
    return x.sub_(mean), y.sub_(mean)


def float32_fails(x: Sequence[Tensor], y: Sequence[Tensor], mixtures: Sequence[Mixture]) -> bool:
    """Whether float32's error in a squared distance, 4 eps max|z|^2, could move a kernel by more than 1e-4: far rows, a narrow kernel."""
    for a, b, mixture in zip(x, y, mixtures, strict=True):
        if a.dtype == torch.float64 or mixture.name in ("laplacian", "linear"):  # distances by differences; a mean of products
            continue
        largest = max(float(squared_norms(z).max()) for z in ((a,) if b is a else (a, b)))
        if 4 * torch.finfo(torch.float32).eps * largest > UNRELIABLE * min(mixture.scales):
            return True
    return False


def squared_norms(x: Tensor) -> Tensor:
    """|x_i|^2, (n,)."""
    return torch.linalg.vecdot(x, x)


def _tiled(
    x: list[Tensor], y: list[Tensor], mixtures: Sequence[Mixture], u: Tensor, v: Tensor, symmetric: bool, gradient: bool, size: int
) -> Block:
    squares_x = [squared_norms(a) for a in x]
    squares_y = squares_x if symmetric else [squared_norms(b) for b in y]
    gradient_x = [torch.zeros_like(a, memory_format=torch.contiguous_format) for a in x] if gradient else []
    gradient_y = gradient_x if symmetric else [torch.zeros_like(b, memory_format=torch.contiguous_format) for b in y] if gradient else []
    total = u.new_zeros((), dtype=torch.float64)
    for rows in _slices(len(u), size):
        for columns in _slices(len(v), size):
            if symmetric and columns.start < rows.start:
                continue
            same = symmetric and columns.start == rows.start
            pairs = [(a[rows], b[columns]) for a, b in zip(x, y, strict=True)]
            norms = [(a[rows], b[columns]) for a, b in zip(squares_x, squares_y, strict=True)]
            made = [tile(k, *p, s, same=same, gradient=gradient) for k, p, s in zip(mixtures, pairs, norms, strict=True)]
            weights = u[rows] @ v[columns].T  # (a, b)
            if symmetric and not same:  # stands for its mirror image too
                weights.mul_(2)
            total += _weigh(made, weights, gradient)
            for layer, (mixture, (a, b), (_, w)) in enumerate(zip(mixtures, pairs, made, strict=True)):
                if gradient:
                    add_gradient(mixture, a, b, w.mul_(2) if same else w, gradient_x[layer][rows])
                    if not same:
                        add_gradient(mixture, b, a, w.T, gradient_y[layer][columns])
    return Block(total, gradient_x, [] if symmetric else gradient_y)


def _weigh(made: list[tuple[Tensor, Tensor]], weights: Tensor, gradient: bool) -> Tensor:
    """The tile's part of S; each slope M_l becomes W_l, in place."""
    kernels = [kernel for kernel, _ in made]
    if gradient:
        for layer, (_, slope) in enumerate(made):
            slope.mul_(weights)
            for other, kernel in enumerate(kernels):
                if other != layer:
                    slope.mul_(kernel)
    for kernel in kernels[1:]:
        kernels[0].mul_(kernel)
    # Row sums in float32, of a few hundred terms, lose nothing that matters; the sum of thousands of them would.
    return kernels[0].mul_(weights).sum(dim=1).sum(dtype=torch.float64)


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, math.ceil(n / math.ceil(n / size)))] if n > size else [slice(0, n)]
