"""Weighted kernel sums over pairs of samples, and their gradient, in tiles.

    S(x, y) = sum_ij <u_i, v_j> prod_l k_l(x^l_i, y^l_j)               l over the layers, u_i and v_j weights of one or more columns

    dS/dx^l_i = sum_j W_ij dt/dx^l_i,    W = <u_i, v_j> M_l prod_{r != l} K_r            (M_l, t: see `da.ops.mixture`)

Nothing of the size of a block is kept: a tile is made, used for the value and for both sides' gradients, and overwritten.
Of a sample with itself only the tiles on and above the diagonal are made. One tile for a whole block is the Gram matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from da.kernels.distances import squared_norms
from da.ops.mixture import Mixture, Scratch, tile


@dataclass(frozen=True)
class Sample:
    """Rows as the kernels see them: layers (n, d_l), centred where the kernel allows it, and weights (n, c); None: each 1."""

    layers: Sequence[Tensor]
    squares: Sequence[Tensor]  # |x^l|^2, (n,) each
    weights: Tensor | None

    @classmethod
    def of(cls, layers: Sequence[Tensor], weights: Tensor | None) -> Sample:
        return cls(layers, [squared_norms(z) for z in layers], weights)

    def __len__(self) -> int:
        return len(self.layers[0])

    def rows(self, start: int, stop: int) -> Sample:
        layers, squares = (
            [z[start:stop] for z in tensors] for tensors in (self.layers, self.squares)
        )
        return Sample(layers, squares, None if self.weights is None else self.weights[start:stop])

    def to(self, dtype: torch.dtype) -> Sample:
        """The same with all numbers in `dtype`."""
        layers, squares = (
            [z.to(dtype) for z in tensors] for tensors in (self.layers, self.squares)
        )
        return Sample(layers, squares, None if self.weights is None else self.weights.to(dtype))


class Pair(NamedTuple):
    """factor * S(sample `first`, sample `second`); a sample with itself has an exact diagonal."""

    first: int
    second: int
    factor: float


class Sums(NamedTuple):
    """The value, a float64 scalar, and for each sample the gradients of its layers, (n, d_l) each; empty where none were asked for."""

    value: Tensor
    gradients: list[list[Tensor]]


def kernel_sums(
    samples: Sequence[Sample],
    pairs: Sequence[Pair],
    mixtures: Sequence[Mixture],
    *,
    gradient: bool,
    size: int,
) -> Sums:
    """sum over `pairs` of factor * S(first, second), in tiles of at most `size` x `size` rows, in the dtype of the layers."""
    scratch, states = Scratch(), [_State(sample, gradient) for sample in samples]
    value = samples[0].layers[0].new_zeros((), dtype=torch.float64)
    for first, second, factor in pairs:
        part = torch.zeros_like(value)
        for rows in _slices(len(samples[first]), size):
            for columns in _slices(len(samples[second]), size):
                if first != second or columns.start >= rows.start:
                    part += _add_tile(
                        states[first], rows, states[second], columns, mixtures, factor, scratch
                    )
        value += factor * part
    return Sums(value, [state.finish(mixtures) for state in states] if gradient else [])


def gram_sums(
    pooled: Sample,
    n: int,
    factors: tuple[float, float, float],
    mixtures: Sequence[Mixture],
    *,
    gradient: bool,
) -> Sums:
    """a S(x, x) + b S(y, y) + c (S(x, y) + S(y, x)) for x the first n rows of `pooled`, y the others, by one Gram matrix of all rows.

    More entries than `kernel_sums` computes, in fewer and larger steps: faster for a few hundred rows. The gradient is of all rows.
    """
    state, everything = _State(pooled, gradient), slice(0, len(pooled))
    made = [
        tile(k, z, z, (s, s), same=True, gradient=gradient)
        for k, z, s in zip(mixtures, pooled.layers, pooled.squares, strict=True)
    ]
    kernel = _weigh(made, pooled, everything, pooled, everything, gradient)  # (N, N)
    first, second = slice(None, n), slice(n, None)
    value = torch.zeros((), dtype=torch.float64, device=kernel.device)
    for rows, columns, factor in (
        (first, first, factors[0]),
        (second, second, factors[1]),
        (first, second, 2 * factors[2]),
    ):
        value += factor * _accurate_sum(kernel[rows, columns])
    for layer, (mixture, (_, w)) in enumerate(zip(mixtures, made, strict=True) if gradient else ()):
        w[first, first] *= factors[0]
        w[second, second] *= factors[1]
        w[first, second] *= factors[2]
        w[second, first] *= factors[2]
        state.add(layer, everything, mixture, pooled.layers[layer], w, 2)
    return Sums(value, [state.finish(mixtures)] if gradient else [])


class _State:
    """A sample and what has been added up of its gradient.

    For kernels of distances the gradient is 2 (diag(W 1) x - W y): W y is added up in `moved`, W 1 in `pull`, both with the
    pairs' factors, so that x is touched once, at the end.
    """

    def __init__(self, sample: Sample, gradient: bool) -> None:
        self.sample, self.gradient = sample, gradient
        self.moved = (
            [torch.empty_like(z, memory_format=torch.contiguous_format) for z in sample.layers]
            if gradient
            else []
        )
        self.pull = [torch.zeros_like(s) for s in sample.squares] if gradient else []
        self.begun: set[tuple[int, int]] = (
            set()
        )  # (layer, first row) of what holds a number already

    def add(
        self, layer: int, rows: slice, mixture: Mixture, other: Tensor, w: Tensor, factor: float
    ) -> None:
        """Adds factor * (gradient in these rows of sum_ij w_ij t(x_i, other_j)), w (rows, others) fixed, in the mixture's unit."""
        factor *= mixture.unit
        moved, beta = self.moved[layer][rows], int((layer, rows.start) in self.begun)
        self.begun.add((layer, rows.start))
        if mixture.name in ("linear", "polynomial"):  # t = <x, y>
            moved.addmm_(w, other, alpha=factor, beta=beta)
        elif mixture.name == "laplacian":  # t = ||x - y||_1
            with torch.enable_grad():
                x = self.sample.layers[layer][rows].detach().requires_grad_()
                distances = torch.cdist(x, other, p=1)
            part = torch.autograd.grad(distances, x, grad_outputs=w)[0] * factor
            moved.copy_(moved + part if beta else part)
        else:  # t = ||x - y||^2
            moved.addmm_(w, other, alpha=-2 * factor, beta=beta)
            self.pull[layer][rows].add_(w.sum(dim=1), alpha=2 * factor)

    def finish(self, mixtures: Sequence[Mixture]) -> list[Tensor]:
        for z, moved, pull, mixture in zip(
            self.sample.layers, self.moved, self.pull, mixtures, strict=True
        ):
            if mixture.name in ("gaussian", "rational_quadratic"):
                moved.addcmul_(z, pull[:, None])
        return self.moved


def _add_tile(
    first: _State,
    rows: slice,
    second: _State,
    columns: slice,
    mixtures: Sequence[Mixture],
    factor: float,
    scratch: Scratch,
) -> Tensor:
    """The tile's part of S, without the factor; its part of the gradient is added to the samples' states."""
    symmetric, x, y = first is second, first.sample, second.sample
    same, gradient = symmetric and rows.start == columns.start, first.gradient
    made = [
        tile(
            mixture, x.layers[i][rows], y.layers[i][columns], (x.squares[i][rows], y.squares[i][columns]), same=same, gradient=gradient,
            scratch=scratch, layer=i,
        )
        for i, mixture in enumerate(mixtures)
    ]  # fmt: skip
    value = _accurate_sum(_weigh(made, x, rows, y, columns, gradient))
    if gradient:
        twice = (
            2 * factor if symmetric else factor
        )  # off the diagonal the tile stands for its mirror image; on it both sides are one
        for layer, (mixture, (_, w)) in enumerate(zip(mixtures, made, strict=True)):
            first.add(layer, rows, mixture, y.layers[layer][columns], w, twice)
            if not same:
                second.add(layer, columns, mixture, x.layers[layer][rows], w.T, twice)
    return value if not symmetric or same else 2 * value


def _weigh(
    made: list[tuple[Tensor, Tensor]],
    x: Sample,
    rows: slice,
    y: Sample,
    columns: slice,
    gradient: bool,
) -> Tensor:
    """The tile of S, (a, b), before it is summed; each slope M_l becomes W_l. In place."""
    kernels, slopes = (
        [kernel for kernel, _ in made],
        [slope for _, slope in made] if gradient else [],
    )
    for layer, slope in enumerate(slopes):
        for other, kernel in enumerate(kernels):
            if other != layer:
                slope.mul_(kernel)
    for kernel in kernels[1:]:
        kernels[0].mul_(kernel)
    if x.weights is not None and y.weights is not None:
        weights = x.weights[rows] @ y.weights[columns].T  # (a, b)
        for part in (kernels[0], *slopes):
            part.mul_(weights)
    return kernels[0]


def _accurate_sum(tile: Tensor) -> Tensor:
    """The sum in float64. Row sums in float32, of a few hundred terms, lose nothing that matters; the sum of thousands of them would."""
    return tile.sum(dim=1).sum(dtype=torch.float64)


def _slices(n: int, size: int) -> list[slice]:
    """Slices of at most `size` rows, of equal length as far as they can be."""
    length = math.ceil(n / math.ceil(n / size))
    return [slice(start, min(start + length, n)) for start in range(0, n, length)]
