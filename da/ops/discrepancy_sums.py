"""The sums that a kernel discrepancy is made of: how rows are centred, and in which precision.

float32 distances of rows that lie far from the origin are coarse, compared with the kernel's
scales. So rows are centred first:

    rows                                        centred                  computed in
    all close together                          once, on their mean      their own precision
    each sample close together                  each sample on its own   their own precision
    far apart even within a sample              each sample on its own   float64

"Close" is relative to the narrowest scale; `COARSE` is the bound. A device without float64 leaves
what needs it to the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from da.arrays.devices import narrowed, widened
from da.arrays.matrices import full_precision
from da.arrays.stacking import stacking
from da.kernels.distances import centred
from da.ops.blocks import Pair, Sample, Sums, gram_sums, kernel_sums
from da.ops.mixture import KernelName, Mixture, of_distance

COARSE = 1e-4  # the largest error of a kernel that float32 distances may make
CPU_TILE = 512  # rows: one megabyte, a few of which fit into a core's cache
GPU_TILE = 4096  # rows: 64 MB, which fills a GPU


class Options(NamedTuple):
    """How a discrepancy is computed.

    Attributes:
        mixtures: One kernel a layer; the layers' kernels are multiplied.
        coefficients: a, b and c of the discrepancy.
        backend: "gram", "stream" or "triton".
        gradient: Whether gradients are wanted.
    """

    mixtures: tuple[Mixture, ...]
    coefficients: tuple[float, float, float]
    backend: str
    gradient: bool


def pool(x: Tensor, y: Tensor, kernel: KernelName) -> Tensor:
    """Put the rows of two samples together, less their mean if the kernel allows it.

    Args:
        x: Rows (n, d).
        y: Rows (m, d).
        kernel: Name of the kernel; only kernels of distances allow a shift.

    Returns:
        (n + m, d), without gradient.
    """
    x, y = x.detach(), y.detach()
    if not of_distance(kernel):
        return torch.cat([x, y])
    with full_precision(x):
        if stacking():  # members of many cannot be written in place
            return centred(torch.cat([x, y]))
        rows = x.new_empty(len(x) + len(y), x.shape[1])
        # The first row is subtracted first, as in `da.kernels.centred`: equal rows become exact 0.
        torch.sub(x, x[0], out=rows[: len(x)])
        torch.sub(y, x[0], out=rows[len(x) :])
        return rows.sub_(rows.mean(dim=0))


def discrepancy_sums(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    u: Tensor | None,
    v: Tensor | None,
    pooled: Sequence[Tensor],
    options: Options,
) -> tuple[Tensor, list[Tensor]]:
    """Compute a S(x, x) + b S(y, y) - 2 c S(x, y) and its gradients.

    Args:
        x: Layers (n, d_l).
        y: Layers (m, d_l).
        u: Weights (n, c) of the rows of x; None means that each is 1.
        v: Weights (m, c) of the rows of y; None means that each is 1.
        pooled: `pool(x, y)` of each layer.
        options: How to compute it.

    Returns:
        The value, a scalar in float64, and the gradients in x's layers, then in y's; [] if they are
        not wanted.
    """
    weights = None if u is None or v is None else torch.cat([u, v])
    everything = Sample.of(pooled, weights)
    if _coarseness(everything, options.mixtures) < COARSE / 10:
        return _together(everything, len(x[0]), x[0].dtype, options)
    return _apart(x, y, u, v, everything, options)


def _together(
    everything: Sample, n: int, dtype: torch.dtype, options: Options
) -> tuple[Tensor, list[Tensor]]:
    """Value and gradients, if all rows lie close together: they are centred once."""
    a, b, c = options.coefficients
    if options.backend == "gram":
        whole = everything.to(dtype)
        sums = gram_sums(whole, n, (a, b, -c), options.mixtures, gradient=options.gradient)
        gradients = sums.gradients[0] if options.gradient else []
        return sums.value, [*(g[:n] for g in gradients), *(g[n:] for g in gradients)]
    pairs = [Pair(0, 0, a), Pair(1, 1, b), Pair(0, 1, -2 * c)]
    sums = _block(_split(everything, n), pairs, options)
    return sums.value, [g for gradients in sums.gradients for g in gradients]


def _apart(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    u: Tensor | None,
    v: Tensor | None,
    everything: Sample,
    options: Options,
) -> tuple[Tensor, list[Tensor]]:
    """Value and gradients, if rows lie far apart: each block is centred on its own rows."""
    a, b, c = options.coefficients
    first = _block([_centred(x, u, options)], [Pair(0, 0, a)], options)
    second = _block([_centred(y, v, options)], [Pair(0, 0, b)], options)
    if _coarseness(everything, options.mixtures) > COARSE:
        everything = _pooled_in_double(x, y, everything.weights, options)
    cross = _block(_split(everything, len(x[0])), [Pair(0, 1, -2 * c)], options)
    value = first.value + second.value + cross.value
    own = [g for gradients in (*first.gradients, *second.gradients) for g in gradients]
    other = [g for gradients in cross.gradients for g in gradients]
    # A block in float64 may have been computed on the CPU.
    sums = [widened(g) + widened(h) for g, h in zip(own, other, strict=True)]
    return value, [narrowed(g, x[0]) for g in sums]


def _split(everything: Sample, n: int) -> list[Sample]:
    """The first n rows and the others."""
    return [everything.rows(0, n), everything.rows(n, len(everything))]


def _pooled_in_double(
    x: Sequence[Tensor], y: Sequence[Tensor], weights: Tensor | None, options: Options
) -> Sample:
    """All rows in float64, centred in float64 too: float32 would round rows that are far away."""
    layers = [
        pool(widened(s), widened(t), k.name) for s, t, k in zip(x, y, options.mixtures, strict=True)
    ]
    return Sample.of(layers, None if weights is None else widened(weights))


def _centred(layers: Sequence[Tensor], weights: Tensor | None, options: Options) -> Sample:
    """One sample, centred on its own rows; in float64 if float32 is too coarse even so."""

    def centre(layers: Sequence[Tensor]) -> list[Tensor]:
        return [
            centred(z) if of_distance(k.name) else z
            for z, k in zip(layers, options.mixtures, strict=True)
        ]

    sample = Sample.of(centre(layers), weights)
    if _coarseness(sample, options.mixtures) <= COARSE:
        return sample
    layers = centre([widened(z) for z in layers])
    return Sample.of(layers, None if weights is None else weights.to(layers[0]))


def _coarseness(sample: Sample, mixtures: Sequence[Mixture]) -> float:
    """How far float32 may move a kernel. Rows far from 0 make it large.

    It is the error of a squared distance, 4 eps max|z|^2, over the narrowest scale.
    """
    largest = 0.0
    for squares, mixture in zip(sample.squares, mixtures, strict=True):
        # The Laplacian's distances are made by differences, and the linear kernel has none.
        if squares.dtype == torch.float32 and mixture.name not in ("laplacian", "linear"):
            largest = max(largest, float(squares.max()) / min(mixture.scales))
    return 4 * torch.finfo(torch.float32).eps * largest


def _block(samples: Sequence[Sample], pairs: Sequence[Pair], options: Options) -> Sums:
    """`pairs` by the back-end, in the precision that the samples have."""
    rows = samples[0].layers[0]
    if options.backend == "triton" and rows.dtype == torch.float32:
        return _by_triton(samples, pairs, options)
    tile = GPU_TILE if rows.is_cuda else CPU_TILE
    size = max(len(s) for s in samples) if options.backend == "gram" else tile
    samples = [s.to(rows.dtype) for s in samples]
    return kernel_sums(samples, pairs, options.mixtures, gradient=options.gradient, size=size)


def _by_triton(samples: Sequence[Sample], pairs: Sequence[Pair], options: Options) -> Sums:
    """`pairs` by the fused device code: one layer, float32, one weight a row."""
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
            rows[i],
            rows[j],
            scales,
            weights[i],
            weights[j],
            symmetric=i == j,
            gradient=options.gradient,
        )
        total += factor * value
        for side, gradient in ((i, first), (j, second)):
            if gradient is not None:
                gradients[side].add_(gradient, alpha=factor)
    return Sums(total, [[g] for g in gradients])
