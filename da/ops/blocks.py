"""Weighted kernel sums over pairs of samples, and their gradient, in tiles.

    S(x, y) = sum_ij <u_i, v_j> prod_l k_l(x^l_i, y^l_j)

    dS/dx^l_i = sum_j W_ij dt/dx^l_i,    W = <u_i, v_j> M_l prod_{r != l} K_r

l runs over the layers; u_i and v_j are weights of one or more columns; M_l and t are in
`da.ops.mixture`. Nothing of the size of a block is kept: a tile is made, used for the value and for
the gradients of both sides, and overwritten. For a sample with itself only the tiles on and above
the diagonal are made. One tile for a whole block is the Gram matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from da.arrays.devices import capable, narrowed, widened
from da.kernels.distances import squared_norms
from da.ops.mixture import Mixture, Scratch, tile


@dataclass(frozen=True)
class Sample:
    """The rows of one sample as the kernels see them.

    Attributes:
        layers: Rows (n, d_l) of each layer, centred if the layer's kernel allows it.
        squares: Squared norms (n,) of the rows of each layer.
        weights: Weights (n, c); None means that each is 1.
    """

    layers: Sequence[Tensor]
    squares: Sequence[Tensor]
    weights: Tensor | None

    @classmethod
    def of(cls, layers: Sequence[Tensor], weights: Tensor | None) -> Sample:
        """Make a sample of layers and weights; the squared norms are computed."""
        return cls(layers, [squared_norms(z) for z in layers], weights)

    def __len__(self) -> int:
        return len(self.layers[0])

    def rows(self, start: int, stop: int) -> Sample:
        """The rows start ... stop - 1, without a copy."""
        return self._each(lambda values: values[start:stop])

    def to(self, dtype: torch.dtype) -> Sample:
        """The same sample with all numbers in `dtype`."""
        return self._each(lambda values: values.to(dtype))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Sample:
        return Sample(
            [change(z) for z in self.layers],
            [change(s) for s in self.squares],
            None if self.weights is None else change(self.weights),
        )


class Pair(NamedTuple):
    """One term factor * S(first, second) of a sum.

    Attributes:
        first: Number of a sample.
        second: Number of a sample. If it is `first`, the diagonal is exact.
        factor: The term's factor.
    """

    first: int
    second: int
    factor: float


class Sums(NamedTuple):
    """A sum and its gradients.

    Attributes:
        value: A scalar in float64, on the CPU if the device has none.
        gradients: For each sample the gradients (n, d_l) of its layers; [] if they were not wanted.
    """

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
    """Sum factor * S(first, second) over pairs of samples, in tiles.

    Args:
        samples: The samples, all of one dtype, in which the sums are computed.
        pairs: The terms.
        mixtures: One kernel a layer; the layers' kernels are multiplied.
        gradient: Whether gradients are wanted.
        size: Largest number of rows and columns of a tile.

    Returns:
        The value, and the gradients of each sample.
    """
    scratch = Scratch()
    states = [_State(sample, gradient) for sample in samples]
    value = widened(samples[0].layers[0].new_zeros(()))
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
    """Sum the kernels of two samples by one Gram matrix of all rows.

        a S(x, x) + b S(y, y) + c (S(x, y) + S(y, x))

    It computes more entries than `kernel_sums`, in fewer and larger steps. That is faster for a few
    hundred rows.

    Args:
        pooled: Both samples together: x the first n rows, y the others.
        n: Number of rows of x.
        factors: a, b and c.
        mixtures: One kernel a layer; the layers' kernels are multiplied.
        gradient: Whether gradients are wanted.

    Returns:
        The value, and the gradients of all rows of `pooled`.
    """
    state, everything = _State(pooled, gradient), slice(0, len(pooled))
    made = [
        tile(k, z, z, (s, s), same=True, gradient=gradient)
        for k, z, s in zip(mixtures, pooled.layers, pooled.squares, strict=True)
    ]
    kernel = _weigh(made, pooled, everything, pooled, everything, gradient)  # (N, N)
    a, b, c = factors
    x, y = slice(None, n), slice(n, None)
    value = widened(kernel.new_zeros(()))
    value += a * _accurate_sum(kernel[x, x])
    value += b * _accurate_sum(kernel[y, y])
    value += 2 * c * _accurate_sum(kernel[x, y])
    if not gradient:
        return Sums(value, [])
    for layer, (mixture, (_, w)) in enumerate(zip(mixtures, made, strict=True)):
        w[x, x] *= a
        w[y, y] *= b
        w[x, y] *= c
        w[y, x] *= c
        state.add(layer, everything, mixture, pooled.layers[layer], w, 2)
    return Sums(value, [state.finish(mixtures)])


class _State:
    """A sample and its gradient while it is added up.

    For kernels of distances the gradient is 2 (diag(W 1) x - W y). W y is added up in `moved` and
    W 1 in `pull`, both with the pairs' factors, so that x is touched once, at the end.
    """

    def __init__(self, sample: Sample, gradient: bool) -> None:
        self.sample, self.gradient = sample, gradient
        self.moved: list[Tensor] = []
        self.pull: list[Tensor] = []
        if gradient:
            contiguous = torch.contiguous_format
            self.moved = [torch.empty_like(z, memory_format=contiguous) for z in sample.layers]
            self.pull = [torch.zeros_like(s) for s in sample.squares]
        self.begun: set[tuple[int, int]] = set()  # (layer, first row) that hold a number already

    def add(
        self, layer: int, rows: slice, mixture: Mixture, other: Tensor, w: Tensor, factor: float
    ) -> None:
        """Add factor * unit * (gradient in these rows of sum_ij w_ij t(x_i, other_j)), w fixed."""
        factor *= mixture.unit
        moved = self.moved[layer][rows]
        beta = int((layer, rows.start) in self.begun)  # 0: overwrite what the memory holds
        self.begun.add((layer, rows.start))
        if mixture.name in ("linear", "polynomial"):  # t = <x, y>
            moved.addmm_(w, other, alpha=factor, beta=beta)
        elif mixture.name == "laplacian":  # t = ||x - y||_1
            with torch.enable_grad():
                x = capable(self.sample.layers[layer][rows]).detach().requires_grad_()
                distances = torch.cdist(x, capable(other), p=1)
            part = torch.autograd.grad(distances, x, grad_outputs=capable(w))[0] * factor
            part = narrowed(part, moved)
            moved.copy_(moved + part if beta else part)
        else:  # t = ||x - y||^2
            moved.addmm_(w, other, alpha=-2 * factor, beta=beta)
            self.pull[layer][rows].add_(w.sum(dim=1), alpha=2 * factor)

    def finish(self, mixtures: Sequence[Mixture]) -> list[Tensor]:
        """Add the part with x, and give the gradients of all layers."""
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
    """One tile of S, without the factor. Its part of the gradient is added to the states."""
    symmetric, x, y = first is second, first.sample, second.sample
    same, gradient = symmetric and rows.start == columns.start, first.gradient
    made = [
        tile(
            mixture,
            x.layers[i][rows],
            y.layers[i][columns],
            (x.squares[i][rows], y.squares[i][columns]),
            same=same,
            gradient=gradient,
            scratch=scratch,
            layer=i,
        )
        for i, mixture in enumerate(mixtures)
    ]
    value = _accurate_sum(_weigh(made, x, rows, y, columns, gradient))
    if gradient:
        # Off the diagonal the tile counts for its mirror image too; on it both sides are one.
        twice = 2 * factor if symmetric else factor
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
    """The tile of S (a, b) before it is summed; each slope M_l becomes W_l. In place."""
    kernels = [kernel for kernel, _ in made]
    slopes = [slope for _, slope in made] if gradient else []
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
    """The sum of a tile, a scalar in float64.

    Row sums of a few hundred terms are accurate enough in float32. A sum of thousands of them is
    not.
    """
    return widened(tile.sum(dim=1)).sum()


def _slices(n: int, size: int) -> list[slice]:
    """Slices of at most `size` rows, of equal length as far as they can be."""
    length = math.ceil(n / math.ceil(n / size))
    return [slice(start, min(start + length, n)) for start in range(0, n, length)]
