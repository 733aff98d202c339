"""The kernel discrepancy as `da.kernels` defines it, by autograd.

It needs O((n + m)^2) memory. It is used if somebody differentiates the gradient once more, and for
many members at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from da.arrays.devices import widened
from da.kernels.distances import gram_distances
from da.kernels.functions import linear, polynomial, rational_quadratic
from da.ops.mixture import Mixture

_KERNELS: dict[str, Callable[..., Tensor]] = {
    "rational_quadratic": rational_quadratic,
    "polynomial": polynomial,
}


def discrepancy_by_specification(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    mixtures: Sequence[Mixture],
    u: Tensor | None,
    v: Tensor | None,
    coefficients: tuple[float, float, float],
) -> Tensor:
    """Compute a S(x, x) + b S(y, y) - 2 c S(x, y), which autograd can differentiate repeatedly.

    Args:
        x: Layers (n, d_l).
        y: Layers (m, d_l).
        mixtures: One kernel a layer; the layers' kernels are multiplied.
        u: Weights (n, c) of the rows of x; None means that each is 1.
        v: Weights (m, c) of the rows of y; None means that each is 1.
        coefficients: a, b and c.

    Returns:
        A scalar in float64, on the CPU if the device has none.
    """
    first = x[0].new_ones(len(x[0]), 1) if u is None else u.to(x[0].dtype)
    second = y[0].new_ones(len(y[0]), 1) if v is None else v.to(y[0].dtype)

    def block(x: Sequence[Tensor], y: Sequence[Tensor], u: Tensor, v: Tensor) -> Tensor:
        product = u @ v.T
        for a, b, mixture in zip(x, y, mixtures, strict=True):
            product = product * _gram(a, b, mixture)
        return widened(product).sum()

    a, b, c = coefficients
    return (
        a * block(x, x, first, first)
        + b * block(y, y, second, second)
        - 2 * c * block(x, y, first, second)
    )


def _gram(x: Tensor, y: Tensor, mixture: Mixture) -> Tensor:
    """The kernel of all pairs, (n, m)."""
    if mixture.name == "linear":
        return linear(x, y)
    if mixture.name == "gaussian":
        distances = gram_distances(x, y)  # once for all scales
        return torch.stack([torch.exp(-distances / s) for s in mixture.scales]).sum(dim=0)
    if mixture.name == "laplacian":
        # `da.kernels` has it by torch.cdist, whose gradient torch cannot differentiate.
        distances = (x[:, None] - y).abs().sum(dim=2)
        return torch.stack([torch.exp(-distances / s) for s in mixture.scales]).sum(dim=0)
    kernel = _KERNELS[mixture.name]
    return torch.stack([kernel(x, y, bandwidth=s) for s in mixture.scales]).sum(dim=0)
